//! On the machine: from very little RAM to a lot, and what happens when neither RAM nor swap is left.

use tests::harness::{Finished, Run, reduced_or_full, status};

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
fn with_too_little_swap_a_program_is_killed_with_an_explanation() {
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
fn swap_that_is_just_large_enough_is_enough() {
    // 40 MiB of pages that do not compress: what does not fit into RAM fits into swap, with little to spare.
    let line = "pressure random mib=40 ops=8192 fill=100";
    Run::line(line).options("--ram 24M --swap 32M").finish().expect_ok();
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let run = Run::line("spin").limit_s(3).finish().expect("timeout", status::TIMEOUT);
    assert!(run.stderr.contains("--timeout"), "{run}");
}
