//! On the machine: what the kernel's allocators say of themselves to a program that looks.

use tests::harness::disk::DataDisk;
use tests::harness::{Run, reduced_or_full, seed};
use tests::programs::{Flavour, Program};

#[test]
fn p2_threads_are_counted_while_they_live_and_not_after() {
    let run = Run::line("slab-churn").options("--ram 24M").finish().expect_ok().expect_line("OK slab-churn");
    // One thread asks; what the kernel counts is what there is.
    assert_eq!(run.value("OK slab-churn", "threads"), 1, "{run}");
}

#[test]
fn m13_frames_are_zeroed_while_the_cpu_is_idle() {
    let run = Run::line("states mib=8 pressure=24 pause_ms=5").options("--ram 24M").finish().expect_ok();
    assert!(run.count("vmstat/pgzero_pre") > 0, "the program rested, and found no frame zeroed after\n{run}");
}

#[test]
fn e1_failing_frame_allocations_end_no_program_and_no_kernel() {
    // With `n` failures in a row the last comes after n(n+1)/2 allocations.
    let (last, ops) = reduced_or_full((60, 4000), (300, 100_000));
    let program = format!("pressure random mib=32 ops={ops} seed={}", seed());
    let run = Run::line(&program).options("--ram 24M").option("--append", format!("fail_frame=1..{last}"));
    let run = run.finish().expect_ok().expect_line("OK random");
    assert!(run.log.contains(&format!("fail_frame: {last} frame allocations failed")), "{}", run.log);
    let churn = Run::line("slab-churn").options("--ram 24M").option("--append", "fail_frame=1..20");
    churn.finish().expect_ok().expect_line("OK slab-churn");
}

/// Allocations that a child of `droughts` makes at least, in everything it does.
const ALLOCATIONS: u64 = 300;

#[test]
fn e1_whichever_frame_allocation_fails_for_good_calls_are_refused_or_programs_end_and_nothing_is_lost() {
    let program = Program::C("droughts", Flavour::Glibc).build().unwrap_or_else(|error| panic!("{error}"));
    let count = reduced_or_full(40, ALLOCATIONS);
    let first = 1 + seed() % (ALLOCATIONS - count + 1);
    for memory in ["pageable", "locked"] {
        let disk = DataDisk::empty();
        let run = Run::new([program.to_str().expect("a path in UTF-8"), &count.to_string(), memory])
            .option("--disk", disk.image())
            .options("--ram 16M --swap 64M")
            .option("--append", format!("fail_frame=children:{first}..{}", first + count - 1));
        let run = run.finish();
        disk.expect_clean();
        let run = run.expect_ok().expect_line("OK droughts").expect_sound();
        assert!(run.log.contains(&format!("fail_frame: for good in {count} children")), "{memory}: {}", run.log);
    }
}

/// Parent and child have 8 MiB of 24 together: without the failing nothing leaves, so what has left did so while every
/// allocation failed, from the 600th of the child's on, and until that was ended for want of memory.
#[test]
fn e2_u7_pages_leave_while_every_frame_allocation_of_the_machine_fails() {
    let program = Program::C("droughts", Flavour::Glibc).build().unwrap_or_else(|error| panic!("{error}"));
    let run = Run::new([program.to_str().expect("a path in UTF-8"), "1", "leave"]).options("--ram 24M --swap 64M");
    let run = run.option("--append", "fail_frame=children:600..600").finish();
    let run = run.expect_ok().expect_line("OK droughts").expect_sound();
    assert!(run.log.contains("fail_frame: for good in 1 children"), "{}", run.log);
    assert_eq!(run.value("LEFT", "before"), 0, "memory was short before\n{run}");
    // The parent's 1024, and of the child's what it had written by then.
    assert!(run.value("LEFT", "pages") >= 1400, "{run}");
    // All of it has reached the disk.
    assert_eq!(run.count("disk/swap/write_bytes"), run.count("disk/qemu/swap/wr_bytes"), "{run}");
    assert_eq!(run.count("disk/swap/write_bytes"), run.count("vmstat/pswpout") * 4096, "{run}");
}

#[test]
fn m14_the_machine_has_as_much_ram_as_it_is_given() {
    for (ram, mib) in [("24M", 24), ("64M", 64), ("1G", 1024), ("8G", 8192)] {
        let run = Run::line("hello").options(&format!("--ram {ram}")).finish().expect_ok();
        // What the firmware keeps is less than a MiB; 1 % goes for descriptors, and the kernel is what it is.
        let total = run.count("ram_bytes") >> 20;
        assert_eq!(total, mib, "{run}");
        let frames = run.count("frames/total") / 256;
        assert!(frames < mib && frames + 4 + mib / 64 >= mib, "{frames} MiB in frames of {mib}\n{run}");
    }
}
