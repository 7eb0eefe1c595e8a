//! On the machine: from very little RAM to a lot, and what happens when neither RAM nor swap is left.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use tests::harness::{Finished, Run, reduced_or_full, status};
use tests::programs::{Flavour, Program};

#[test]
fn m14_machines_of_many_sizes_boot_and_run() {
    for ram in ["24M", "64M", "1G", "8G"] {
        Run::line("hello").options(&format!("--ram {ram}")).finish().expect_ok().expect_line("OK hello");
        let run = Run::line("pressure random mib=32 ops=4096").options(&format!("--ram {ram}")).finish().expect_ok();
        let swapped = run.count("vmstat/pswpout") > 0;
        assert_eq!(swapped, ram == "24M", "{ram}: swapping where memory is short, and nowhere else\n{run}");
    }
}

#[test]
fn processors_that_lack_what_new_ones_have_will_do() {
    // No XSAVE, no AVX, no SMEP or SMAP, no x2APIC; qemu64 has no 1 GiB pages and no RDTSCP either.
    for cpu in ["qemu64", "Nehalem"] {
        let on = |line: &str| Run::line(line).options("--ram 24M").qemu_arguments(&format!("-cpu {cpu}"));
        on("pressure random mib=32 ops=2048").finish().expect_ok();
        on("avx2-pair runs=5").finish().expect_ok().expect_line("no AVX2 here");
    }
}

/// The program is killed with an explanation, and the kernel and its books are as good as before.
fn expect_out_of_memory(run: Run) -> Finished {
    let run = run.finish().expect("out_of_memory", 137).expect_sound();
    let records = run.report["out_of_memory"].as_array().expect("a list");
    assert!(!records.is_empty(), "a record of who held what\n{run}");
    assert!(run.stderr.contains("memory"), "ebb explains it\n{run}");
    run
}

#[test]
fn without_swap_a_program_that_needs_more_than_ram_is_killed_with_an_explanation() {
    let run = expect_out_of_memory(Run::line("exhaust").options("--ram 24M --swap none"));
    assert_eq!((run.count("swap_bytes"), run.count("vmstat/pswpout")), (0, 0), "{run}");
    expect_out_of_memory(Run::line("pressure seq-write mib=48").options("--ram 24M --swap none"));
}

#[test]
fn f9_with_too_little_swap_a_program_is_killed_with_an_explanation() {
    let (options, pressure) = reduced_or_full(
        ("--ram 24M --swap 16M", "pressure seq-write mib=96 fill=100"),
        ("--ram 64M --swap 64M", "pressure seq-write mib=192 fill=100"),
    );
    for line in ["exhaust", pressure] {
        let run = expect_out_of_memory(Run::line(line).options(options));
        assert!(run.count("vmstat/pswpout") > 0, "swap was used before memory ran out\n{run}");
    }
}

#[test]
fn a_swap_disk_that_is_not_to_be_used_is_not_used() {
    expect_out_of_memory(Run::line("exhaust").options("--ram 24M --append swap=off"));
}

#[test]
fn without_swap_a_program_that_fits_ends_well() {
    Run::line("pressure random mib=8 ops=8192").options("--ram 24M --swap none").finish().expect_ok();
}

#[test]
fn f9_swap_that_is_just_large_enough_is_enough() {
    // 40 MiB of pages that do not compress: what does not fit into RAM fits into swap, with little to spare.
    let line = "pressure random mib=40 ops=8192 fill=100";
    Run::line(line).options("--ram 24M --swap 32M").finish().expect_ok();
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let run = Run::line("spin").limit_s(3).finish().expect("timeout", status::TIMEOUT);
    assert!(run.stderr.contains("--timeout"), "{run}");
}

/// All shapes of exhaustion in one machine, small because reclaim looks at every page before it gives up.
static EXHAUSTION: LazyLock<Finished> = LazyLock::new(|| {
    let program = Program::C("oom", Flavour::Glibc);
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    Run::new([&path]).options("--ram 9M --swap 8M --append module=keep").finish().expect_ok().expect_line("OK oom")
});

/// The shapes, in their order, and who was to end.
fn shapes(run: &Finished) -> Vec<(String, u64)> {
    let text = run.text();
    let words = text.lines().filter_map(|line| line.strip_prefix("SHAPE ")?.split_once(" victim "));
    words.map(|(shape, pid)| (shape.to_owned(), pid.parse().expect("a number"))).collect()
}

#[test]
fn e3_whatever_exhausts_memory_one_process_ends_and_it_is_the_right_one() {
    let run = &*EXHAUSTION;
    let names: Vec<_> = shapes(run).into_iter().map(|(name, _)| name).collect();
    let expected = "plain mlock populate shared cow many willing spared touch read group";
    assert_eq!(names.join(" "), expected, "{run}");
    assert_eq!(run.count("vmstat/oom_kill"), names.len() as u64, "one each\n{run}");
    // The program has looked at the books after each; at the end nothing at all is left.
    assert_eq!(run.report["identities"], "ok", "{run}");
}

#[test]
fn u9_every_end_is_explained_by_a_record_that_programs_can_read() {
    let run = &*EXHAUSTION;
    let fields = |line: &str| -> BTreeMap<String, String> {
        line.split(' ').filter_map(|field| field.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let lines: Vec<_> = run.log.lines().filter_map(|line| line.split_once(" OOM ")).map(|(_, l)| fields(l)).collect();
    let records = run.report["out_of_memory"].as_array().expect("a list");
    let shapes = shapes(run);
    assert_eq!((lines.len(), records.len()), (shapes.len(), shapes.len()), "{run}");
    for (((shape, pid), line), record) in shapes.iter().zip(&lines).zip(records) {
        let verdict = &record["verdict"];
        let number = |name: &str| -> i64 {
            let told: i64 = line[name].parse().unwrap_or_else(|_| panic!("{shape}: {name} of {line:?}"));
            assert_eq!(verdict[name].as_i64(), Some(told), "{shape}: the report says the same");
            told
        };
        assert_eq!(number("victim"), *pid as i64, "{shape}: {line:?}");
        assert_eq!(record["killed"]["pid"].as_u64(), Some(*pid), "{shape}");
        assert_eq!(line["why"], if shape == "group" { "group:/oom" } else { "machine" }, "{shape}");
        assert!(line["name"].starts_with("oom") && line["grounds"] == "worst", "{shape}: {line:?}");
        assert_eq!(number("adj"), if shape == "willing" { 1000 } else { 0 }, "{shape}");
        let is_first = ["touch", "read"].contains(&&**shape);
        assert_eq!(number("asker") == 2, is_first, "{shape}: the first program asks, and stays: {line:?}");
        let has = number("rss_pages") + number("swap_pages");
        assert!(has > 200 && number("pt_pages") > 0 && number("stalled_us") > 0, "{shape}: {line:?}");
        // What nobody else has is free for certain: all but what a family or a file shares with it.
        let frees = number("frees") + number("frees_slots");
        assert!(frees > 0 && (shape == "shared" || frees > has / 2), "{shape}: {line:?}");
        let tried: BTreeMap<_, _> = line["tried"].split(',').filter_map(|part| part.split_once(':')).collect();
        let tried = |name: &str| -> u64 { tried[name].parse().expect("a number") };
        assert!(tried("scanned") > 200 && tried("waits") > 0, "{shape}: everything was looked at: {line:?}");
    }
}
