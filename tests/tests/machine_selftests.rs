//! On the machine: what the kernel finds when it is told to look at itself (`selftest=NAME`).
//!
//! A check that fails is a panic, so a run that ends well has passed; what is asserted here is that the check ran and what it saw.

use tests::harness::{Finished, Run};
use tests::source;

/// Runs a program after the named checks.
fn checked(names: &[&str]) -> Finished {
    let run = Run::line("hello").options("--ram 24M");
    let run = names.iter().fold(run, |run, name| run.option("--append", format!("selftest={name}")));
    let run = run.finish().expect_ok();
    for name in names {
        assert!(run.log.contains(&format!("selftest {name}: ok")), "{name} has not run\n{run}");
    }
    run
}

#[track_caller]
fn expect_logged(run: &Finished, text: &str) {
    assert!(run.log.contains(text), "the log does not say {text:?}\n{}", run.log);
}

#[test]
fn a6_a8_n7_the_page_attribute_table_is_one_constant_and_segments_are_flat() {
    let run = checked(&["pat", "segments"]);
    expect_logged(&run, "IA32_PAT is 0x0005040600010406");
    for line in ["Uncached is index 3", "WriteCombining is index 2", "WriteBack is index 0", "4 flat ones"] {
        expect_logged(&run, line);
    }
}

#[test]
fn p22_device_registers_are_uncached_and_leave_an_empty_entry() {
    let run = checked(&["mmio"]);
    let devices = run.log.lines().filter(|line| line.contains("selftest mmio") && line.ends_with(": Uncached"));
    // The interrupt controllers, the clock and the disk.
    assert!(devices.count() >= 4, "{}", run.log);
    expect_logged(&run, "its entry is 0 again");
}

#[test]
fn x6_the_page_tables_of_the_machine_keep_the_contract() {
    let run = checked(&["page-tables"]);
    let walks = run.log.lines().filter(|line| line.contains("selftest page-tables: seed"));
    assert_eq!(walks.count(), 5, "{}", run.log);
}

#[test]
fn p18_the_live_tables_map_what_the_documented_layout_allows() {
    let run = checked(&["layout"]);
    let page = std::fs::read_to_string(source::root().join("docs/layout.md")).expect("docs/layout.md");
    let documented: Vec<_> = page.lines().filter(|line| line.starts_with("| `0x")).collect();
    let live: Vec<_> = run.log.lines().filter_map(|line| line.find("| `0x").map(|at| &line[at..])).collect();
    assert!(!live.is_empty() && live == documented, "{live:#?}\n{documented:#?}");
}

#[test]
fn a9_n5_what_is_mapped_late_is_seen_from_address_spaces_made_early() {
    expect_logged(
        &checked(&["upper-half"]),
        "100 address spaces see two pages mapped later at VirtAddr(0xffffc07ffffff000)",
    );
}

#[test]
fn n2_n3_all_frames_can_be_had_and_none_lies_where_it_must_not() {
    let run = checked(&["memmap"]);
    expect_logged(&run, "all lie there");
    assert_eq!(run.count("vmstat/oom_kill"), 0, "that all frames were taken for a moment harms nobody\n{run}");
}

#[test]
fn x1_every_frame_has_an_owner_and_the_owners_add_up() {
    let run = checked(&["pages"]);
    expect_logged(&run, "each of 32768 bits is in the tag");
    let maps: Vec<_> = run.log.lines().filter(|line| line.contains("selftest pages: 0x")).collect();
    for owner in ["x", "K", ".", "U", "P", "H", "D", "Z"] {
        let lines = maps.iter().filter_map(|line| line.rsplit(' ').next());
        assert!(lines.clone().any(|line| line.contains(owner)), "no frame is {owner}\n{}", run.log);
    }
}

#[test]
fn checks_that_do_not_exist_are_refused() {
    let run = Run::line("hello").option("--append", "selftest=everything").finish();
    let run = run.expect("bad_input", tests::harness::status::REFUSED);
    assert!(run.stderr.contains("selftest=everything"), "{run}");
}

#[test]
fn the_heap_has_large_blocks_when_free_frames_are_single() {
    expect_logged(&checked(&["scattered"]), "three blocks of 100000 bytes");
}
