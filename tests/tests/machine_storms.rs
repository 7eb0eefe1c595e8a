//! On the machine: programs that mean no good, and many threads at once while everything is paged out.
//!
//! The same programs run on Linux (`programs_on_linux`) and, without pressure, on the machine (`machine_programs`).

use tests::harness::{Run, reduced_or_full, seed};
use tests::programs::{Flavour, Program};

/// A C program with its arguments, on a machine with these options.
fn run(name: &'static str, flavour: Flavour, arguments: &str, options: &str) -> Run {
    let program = Program::C(name, flavour);
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = arguments.split_ascii_whitespace().map(str::to_owned);
    Run::new([path.to_str().expect("a path in UTF-8").to_owned()].into_iter().chain(words)).options(options)
}

/// Less RAM than the threads of a storm go through.
const TIGHT: &str = "--ram 24M --swap 128M";

#[test]
fn many_threads_keep_what_is_theirs_while_everything_is_paged_out() {
    let pages = reduced_or_full(7000, 12_000);
    let amounts = reduced_or_full([600, 20, 100, 100, 10], [10_000, 300, 2000, 2000, 300]);
    for (kind, amount) in ["areas 4", "births 8", "signals 4", "futexes 3", "fpu 6"].into_iter().zip(amounts) {
        let storm = run("storm", Flavour::Glibc, &format!("{kind} {amount} {pages}"), TIGHT).finish();
        let storm = storm.expect_ok().expect_line("OK storm");
        assert!(storm.count("vmstat/pswpout") > 0, "nothing was paged out\n{storm}");
    }
}

#[test]
fn a_process_ends_at_once_whatever_its_threads_are_doing() {
    for ms in reduced_or_full(&[100, 400][..], &[50, 100, 200, 300, 400, 600, 800]) {
        let storm = run("storm", Flavour::Musl, &format!("quit 6 {ms} 7000"), TIGHT);
        storm.finish().expect_ok().expect_line("OK storm quit");
    }
}

#[test]
fn no_system_call_harms_the_machine() {
    let calls = reduced_or_full(20_000, 300_000);
    let arguments = format!("{calls} 4 {}", seed());
    run("random-calls", Flavour::Glibc, &arguments, TIGHT).finish().expect_ok().expect_line("OK random-calls");
}

#[test]
fn what_a_program_makes_the_kernel_keep_has_limits() {
    for ram in ["12M", "24M"] {
        let limits = run("limits", Flavour::Glibc, "", &format!("--ram {ram} --swap none"));
        limits.finish().expect_ok().expect_line("OK limits");
    }
}
