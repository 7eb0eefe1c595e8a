//! On the machine: what the kernel's allocators say of themselves to a program that looks.

use tests::harness::Run;

#[test]
fn p2_threads_are_counted_while_they_live_and_not_after() {
    let run = Run::line("slab-churn").options("--ram 24M").finish().expect_ok().expect_line("OK slab-churn");
    // One thread asks; what the kernel counts is what there is.
    assert_eq!(run.value("OK slab-churn", "threads"), 1, "{run}");
}
