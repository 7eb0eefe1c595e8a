//! On the machine: what `/proc` says about memory has Linux' form and adds up.

use tests::harness::Run;

#[test]
fn x16_what_proc_says_about_memory_adds_up_before_under_and_after_pressure() {
    let run = Run::line("proc-sums mib=40").options("--ram 24M").finish().expect_ok().expect_line("OK proc-sums");
    assert!(run.count("vmstat/pswpout") > 0, "there was pressure\n{run}");
}
