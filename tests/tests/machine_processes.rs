//! On the machine: processes begin, talk, end and are waited for as on Linux, and leave nothing behind.
//!
//! The programs are held against Linux first (`programs_on_linux`), and without pressure against the machine
//! (`machine_programs`); here they get less RAM than they use, slow disks, and a look at the books.

use tests::harness::{Finished, Run, reduced_or_full};
use tests::programs::{Case, Flavour, PROCESS_CASES, Program};

/// A C program with its arguments, on a machine with these options.
fn start(program: Program, arguments: &str, options: &str) -> Run {
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = arguments.split_ascii_whitespace().map(str::to_owned);
    Run::new([path.to_str().expect("a path in UTF-8").to_owned()].into_iter().chain(words)).options(options)
}

fn forks(arguments: &str, options: &str) -> Finished {
    start(Program::C("forks", Flavour::Glibc), arguments, options).finish().expect_ok().expect_line("OK forks")
}

fn run(case: &Case, options: &str) -> Finished {
    let run = start(case.program, &case.arguments.join(" "), options).option("--append", "module=keep").finish();
    if let Some(complaint) = case.expected.complaint(&run.outcome()) {
        panic!("{} {}: {complaint}\n{run}", case.program, case.arguments.join(" "));
    }
    run.expect_sound()
}

#[test]
fn every_program_that_makes_processes_ends_as_the_catalogue_says() {
    for case in PROCESS_CASES {
        run(case, "--ram 24M");
    }
}

#[test]
fn processes_come_and_go_while_everything_is_evicted_at_every_chance() {
    run(&PROCESS_CASES[0], "--ram 24M --append mm.torture");
}

#[test]
fn h11_signals_meet_faults_wherever_they_wait() {
    for (name, flavour) in [("signals", Flavour::Glibc), ("signals", Flavour::Musl)] {
        let signals = start(Program::C(name, flavour), "", "--ram 24M --append mm.torture").finish();
        signals.expect_ok().expect_line("OK signals");
    }
}

/// Also shows that a pipe, a fork's copy and a handler's frame wait for their pages.
#[test]
fn h11_children_that_are_killed_while_they_fault_are_gone() {
    let rounds = reduced_or_full(15, 200);
    forks(&format!("races {rounds}"), "--ram 16M --append mm.torture");
}

#[test]
fn p_parent_and_child_write_more_than_the_ram_and_keep_what_is_theirs() {
    let (mib, options) = reduced_or_full((32, "--ram 24M"), (96, "--ram 64M"));
    let run = forks(&format!("cow {mib}"), options);
    assert!(run.count("vmstat/pswpin") > 0 && run.count("vmstat/pswpout") > 0, "nothing was swapped\n{run}");
}

#[test]
fn x11_a_chain_of_200_forks_costs_its_live_copies_only() {
    // 1 MiB in 201 processes; each writes one page of its own and has a few of stack, heap and tables.
    let run = forks("chain 200 1", "--ram 32M --swap 64M").expect_line("DEEPEST link=200");
    assert_eq!(run.count("vmstat/oom_kill"), 0, "{run}");
}

#[test]
fn u1_a_killed_process_is_reaped_before_the_page_it_waits_for_has_come() {
    let run =
        start(Program::C("forks", Flavour::Glibc), "stuck 3 23", "--ram 24M").swap_drive("throttling.iops-read=4");
    let run = run.finish().expect_ok().expect_line("OK forks stuck");
    // The frame that the disk is to fill is still the disk's when the parent has its answer.
    let text = run.text();
    let orphaned: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("REAPED orphaned=")?.parse().ok()).collect();
    assert_eq!(orphaned.len(), 3, "{run}");
    assert!(
        orphaned.iter().any(|frames| *frames > 0),
        "nobody was killed while a page was on its way: {orphaned:?}\n{run}"
    );
}

/// What a line of the program's books says.
fn books(run: &Finished, when: &str) -> [u64; 4] {
    let line = format!("BOOKS {when}");
    ["free", "anon", "tables", "swapfree"].map(|name| run.value(&line, name))
}

#[test]
fn n12_e4_after_a_fork_bomb_and_its_like_every_frame_slot_and_page_table_is_back() {
    let rounds = reduced_or_full(1, 10);
    let run = forks(&format!("leaks {rounds}"), "--ram 24M");
    let ([free, anon, tables, swap], after) = (books(&run, "before"), books(&run, "after"));
    assert_eq!([tables, swap], [after[2], after[3]], "page tables and swap slots\n{run}");
    // A few pages of the program's own, and slabs of the kernel's, come and go.
    assert!(
        after[1] <= anon + 64 && after[0] + 256 >= free,
        "KiB free {free}, then {}; pages {anon}, then {}\n{run}",
        after[0],
        after[1]
    );
}

#[test]
fn n9_an_idle_process_gives_its_memory_up_to_a_busy_one_and_gets_it_back() {
    let (host, mib, options) = reduced_or_full((16, 20, "--ram 28M"), (32, 32, "--ram 40M"));
    let run = forks(&format!("guest {host} {mib}"), options);
    let (before, after) = (run.value("RSS", "before"), run.value("RSS", "after"));
    assert!(after + after / 4 < before, "resident KiB of the idle one: {before}, then {after}\n{run}");
}
