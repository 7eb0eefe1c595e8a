//! On the machine: what `/proc` says about memory has Linux' form and adds up.

use tests::harness::Run;

/// A line for each area (P8), every frame in one queue (P19); every frame has an owner (X1) and `pagemap` is right (M1), too.
#[test]
fn x16_p8_p19_what_proc_says_about_memory_adds_up_before_under_and_after_pressure() {
    let run = Run::line("proc-sums mib=40").options("--ram 24M").finish().expect_ok().expect_line("OK proc-sums");
    assert!(run.count("vmstat/pswpout") > 0, "there was pressure\n{run}");
    assert!(run.value("OK proc-sums", "swapped") > 0, "pagemap showed it\n{run}");
}
