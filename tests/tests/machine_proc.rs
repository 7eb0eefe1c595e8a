//! On the machine: what `/proc` says about memory has Linux' form and adds up.

use tests::harness::Run;

/// P8 (a line for each area), P19 (every frame in one queue), X1 (every frame has an owner) and M1 (`pagemap`), too.
#[test]
fn x16_what_proc_says_about_memory_adds_up_before_under_and_after_pressure() {
    let run = Run::line("proc-sums mib=40").options("--ram 24M").finish().expect_ok().expect_line("OK proc-sums");
    assert!(run.count("vmstat/pswpout") > 0, "there was pressure\n{run}");
    assert!(run.value("OK proc-sums", "swapped") > 0, "pagemap showed it\n{run}");
}
