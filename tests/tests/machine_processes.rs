//! On the machine: processes begin, talk, end and are waited for as on Linux, and leave nothing behind.

use tests::harness::{Finished, Run};
use tests::programs::{Case, PROCESS_CASES};

fn run(case: &Case, options: &str) -> Finished {
    let path = case.program.build().unwrap_or_else(|error| panic!("{}: {error}", case.program));
    let path = path.into_os_string().into_string().expect("a path in UTF-8");
    let words = std::iter::once(path).chain(case.arguments.iter().map(|word| (*word).to_owned()));
    let run = Run::new(words).option("--append", "module=keep").options(options).finish();
    if let Some(complaint) = case.expected.complaint(&run.outcome()) {
        panic!("{} {}: {complaint}\n{run}", case.program, case.arguments.join(" "));
    }
    run.expect_sound()
}

#[test]
fn every_program_that_makes_processes_ends_as_the_catalogue_says() {
    for case in PROCESS_CASES {
        run(case, "--ram 24M");
    }
}

#[test]
fn processes_come_and_go_while_everything_is_evicted_at_every_chance() {
    run(&PROCESS_CASES[0], "--ram 24M --append mm.torture");
}
