//! On the machine: memory that processes share through descriptors is one memory, in RAM and in swap, and they meet on its words.

use tests::harness::{Finished, Run, reduced_or_full};
use tests::programs::{Flavour, Program};

fn run(flavour: Flavour, mode: &str, options: &str) -> Finished {
    let program = Program::C("shared-memory", flavour).build().unwrap_or_else(|error| panic!("{error}"));
    let path = program.to_str().expect("a path in UTF-8").to_owned();
    let words = mode.split_ascii_whitespace().map(str::to_owned);
    let run = Run::new([path].into_iter().chain(words)).options(options).finish();
    run.expect_ok().expect_line("OK shared-memory").expect_sound()
}

#[test]
fn p12_one_memory_is_in_several_windows_and_outlives_each() {
    run(Flavour::Glibc, "memfd", "--ram 24M");
    run(Flavour::Musl, "memfd", "--ram 24M --append mm.torture");
}

#[test]
fn m12_four_processes_that_share_32_mib_have_them_in_swap_once() {
    const MIB: u64 = 32;
    let run = run(Flavour::Glibc, &format!("sharers 4 {MIB}"), "--ram 16M --swap 256M");
    let used = run.value("SHARERS", "swapkib");
    // What of it is in RAM may have its slot still; the rest is the programs' own.
    assert!(((MIB - 16) << 10..=(MIB + 2) << 10).contains(&used), "KiB in swap: {used}\n{run}");
    // Each reads all of it and says so by the sum; those that run at the same time read it from the disk once.
    assert!(run.count("vmstat/pswpin") > (MIB - 16) * 256, "they read what was away\n{run}");
}

#[test]
fn threads_of_processes_that_share_memory_meet_on_its_words() {
    let rounds = reduced_or_full(300, 20_000);
    run(Flavour::Glibc, &format!("futexes {rounds}"), "--ram 24M");
    run(Flavour::Musl, &format!("futexes {rounds}"), "--ram 24M --append mm.torture");
}
