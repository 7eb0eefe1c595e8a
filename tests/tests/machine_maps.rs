//! On the machine: address spaces that are divided, and programs that do their worst to them.

use tests::harness::{Finished, Run};
use tests::programs::{Flavour, Program};

fn run(program: &'static str, arguments: &str, options: &str) -> Finished {
    let program = Program::C(program, Flavour::Glibc);
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = arguments.split_ascii_whitespace().map(str::to_owned);
    let line = [path.to_str().expect("a path in UTF-8").to_owned()].into_iter().chain(words);
    Run::new(line).options(options).finish().expect_ok()
}

#[test]
fn p6_submaps_limit_allocations() {
    run("native-memory", "submap", "--ram 24M").expect_line("OK native-memory submap");
}

#[test]
fn m10_only_whole_blocks_are_freed_and_only_ones_own() {
    run("native-memory", "vmfree", "--ram 24M").expect_line("OK native-memory vmfree");
}

/// What a line of a program's books says, in KiB.
fn books(run: &Finished, when: &str) -> [u64; 5] {
    let line = format!("BOOKS {when}");
    ["free", "anon", "tables", "swapfree", "locked"].map(|name| run.value(&line, name))
}

/// Frames, slots and page tables are as they were before the second of two bombs.
fn bomb(arguments: &str, options: &str) -> Finished {
    let name = arguments.split(' ').next().expect("a mode");
    let run = run("bombs", arguments, options).expect_line(&format!("OK bombs {name}"));
    let ([free, anon, tables, swap, locked], after) = (books(&run, "before"), books(&run, "after"));
    assert_eq!([tables, locked], [after[2], after[4]], "page tables, locked pages\n{run}");
    // A few pages of the program's own, here or in swap, and slabs of the kernel's, come and go.
    assert!(after[1] <= anon + 512 && after[0] + 512 >= free, "KiB free {free}, then {}\n{run}", after[0]);
    assert!(after[3] + 512 >= swap, "KiB of swap free {swap}, then {}\n{run}", after[3]);
    run
}

#[test]
fn n12_e6_a_program_with_too_many_areas_is_refused_one_more_and_lives() {
    bomb("vma", "--ram 32M");
}

#[test]
fn n12_e5_a_page_table_for_each_page_is_paid_for_and_comes_back() {
    bomb("tables 8", "--ram 24M");
}

#[test]
fn n12_e7_locking_is_refused_before_the_machine_is_stuck() {
    // Half of RAM is less than the limit of a process, 8 MiB.
    bomb("locks", "--ram 14M");
}

#[test]
fn m12_four_who_share_32_mib_in_16_mib_of_ram_swap_it_once() {
    bomb("sharers 4 32", "--ram 16M");
}
