//! On the machine: what happens while a page is on its way (G1, G2), and what the kernel says a page is (M1).

use tests::harness::{Finished, Run, reduced_or_full};

/// So slow a disk that a processor does a lot meanwhile, even one of a busy host: two reads a second, where a quiet host
/// needs 0.1 s for what is asked. Writes are as fast as ever.
const SLOW_READS: &str = "throttling.iops-read=2";
/// What somebody else must get done during one swap read.
const CALLS_AND_FAULTS: u64 = 10_000;

#[test]
fn m1_pages_are_counted_in_the_right_state_at_every_step() {
    let (options, arguments) =
        reduced_or_full(("--ram 24M", "states mib=16 pressure=32"), ("--ram 64M", "states mib=64 pressure=96"));
    let run = Run::line(arguments).options(options).finish().expect_ok().expect_line("OK states");
    assert!(run.value("OK states", "paged_out_most") > 0, "{run}");
}

#[test]
fn g2_during_one_swap_read_another_thread_makes_ten_thousand_calls_and_faults() {
    let majors = reduced_or_full(4, 50);
    let run = Run::line(&format!(
        "latency-pair mib=40 majors={majors} want_calls={CALLS_AND_FAULTS} want_faults={CALLS_AND_FAULTS}"
    ));
    run.options("--ram 24M").swap_drive(SLOW_READS).finish().expect_ok().expect_line("OK latency-pair");
}

/// Every thread that waited for a page ran when it came: no other that could as well wait got a turn in between, neither
/// between the disk's interrupt and the pager nor between that and the thread's return to user mode.
fn expect_prompt(run: &Finished, majors: u64) {
    let count = |name: &str| run.count(&format!("vmstat/{name}"));
    let (completions, resumed) = (count("ebb_completions"), count("ebb_resumed"));
    assert!(completions > 0 && resumed >= majors, "{completions} completions, {resumed} threads resumed\n{run}");
    let late = (count("ebb_completions_late"), count("ebb_resumed_late"));
    assert_eq!(late, (0, 0), "late of {completions} completions and {resumed} threads\n{run}");
}

#[test]
fn g1_a_paging_thread_runs_at_its_completion_and_not_at_the_next_tick() {
    let majors = reduced_or_full(200, 2000);
    let run = Run::line(&format!("latency-pair mib=40 beside=2 majors={majors}")).options("--ram 24M").finish();
    let run = run.expect_ok();
    assert!(run.value("OK latency-pair", "other_turns") > 0, "the spinner got its turns too\n{run}");
    expect_prompt(&run, majors);
}

#[test]
fn g2_during_one_swap_read_another_process_makes_ten_thousand_calls_and_faults() {
    let majors = reduced_or_full(4, 50);
    // It makes one call for each fault, and only its faults can be seen from outside.
    let run = Run::line(&format!("latency-pair mib=40 beside=3 majors={majors} want_faults={CALLS_AND_FAULTS}"));
    let run = run.option("--append", "beside=latency-pair alone=1").options("--ram 24M").swap_drive(SLOW_READS);
    run.finish().expect_ok().expect_line("OK latency-pair");
}

#[test]
fn g1_a_paging_process_runs_at_its_completion_beside_a_process_that_spins() {
    // It reads the machine's counters for each, and that is long work, for which it gives way.
    let majors = reduced_or_full(200, 2000);
    let run = Run::line(&format!("latency-pair mib=40 beside=3 majors={majors}"));
    let run = run.option("--append", "beside=latency-pair alone=2").options("--ram 24M").finish().expect_ok();
    expect_prompt(&run, majors);
}

#[test]
fn a_program_ends_at_once_though_its_threads_wait_for_the_disk() {
    const SIGSEGV: i32 = 11;
    for how in [0, 1] {
        let run = Run::line(&format!("exit-while-waiting mib=40 threads=4 how={how}")).options("--ram 24M");
        let run = run.swap_drive("throttling.iops-read=10").finish();
        let run = if how == 0 { run.expect_exit(7) } else { run.expect_signal(SIGSEGV) };
        run.value("ENDING", "done");
        assert!(
            run.count("frames/orphaned_io") > 0,
            "frames that the disk still writes to, in the books at the end\n{run}"
        );
    }
}
