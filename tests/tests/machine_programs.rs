//! On the machine: programs start, compute, talk and end as they would on Linux.
//!
//! The catalogue says what must come out and holds on Linux too (`programs_on_linux`); here are the ways in and out of the
//! machine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::harness::{Run, reduced_or_full};
use tests::programs::{CASES, Case, Flavour, Program};

fn build(program: Program) -> String {
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    path.into_os_string().into_string().expect("a path in UTF-8")
}

/// Runs a case; the machine must agree with the catalogue, and the books must balance.
fn complaint(case: &Case) -> Option<String> {
    let words = std::iter::once(build(case.program)).chain(case.arguments.iter().map(|word| (*word).to_owned()));
    let finished = Run::new(words).stdin(case.stdin).options("--ram 24M").finish();
    let complaint = case.expected.complaint(&finished.outcome());
    let complaint = complaint.or_else(|| {
        let sound = finished.report["identities"] == "ok";
        (!sound).then(|| format!("identities {}", finished.report["identities"]))
    })?;
    Some(format!("{} {}: {complaint}\n{finished}", case.program, case.arguments.join(" ")))
}

#[test]
fn every_program_ends_as_the_catalogue_says() {
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = complaint(case);
                    complaints.lock().expect("no complaint panics").extend(found);
                }
            });
        }
    });
    let complaints = complaints.into_inner().expect("no complaint panics");
    assert!(complaints.is_empty(), "{} of {} cases:\n{}", complaints.len(), CASES.len(), complaints.join("\n\n"));
}

#[test]
fn vector_registers_survive_threads_of_two_processes_at_once() {
    let runs = reduced_or_full(20, 200);
    let line = format!("avx2-pair threads=4 runs={runs}");
    let run = Run::line(&line).option("--append", format!("beside=avx2-pair threads=4 runs={}", runs * 1000));
    let run = run.options("--ram 24M").finish().expect_ok();
    assert!(!run.text().contains("no AVX2"), "this machine's processor has AVX2\n{run}");
    assert!(!run.text().contains("FAIL"), "the process beside it\n{run}");
}

#[test]
fn input_of_any_bytes_and_length_reaches_the_program_and_comes_back() {
    // Every byte, line ends and control characters included, in an order that repeats late.
    let input: Vec<u8> = (0..reduced_or_full(100_000_u32, 1_000_000)).map(|n| (n * 7 + n / 256) as u8).collect();
    let run = Run::line("stdin-cat").stdin(&input).finish().expect_ok();
    assert!(
        run.stdout.starts_with(&input),
        "the input came back changed: {} of {} bytes",
        run.stdout.len(),
        input.len()
    );
}

#[test]
fn a_program_reads_its_input_while_it_runs() {
    let mut run = Run::line("stdin-cat").begin();
    for word in ["first", "second", "third"] {
        run.send(format!("{word}\n").as_bytes());
        run.wait_for(word);
    }
    run.close_stdin();
    run.finish().expect_ok().expect_line("OK stdin-cat bytes=19");
}

#[test]
fn arguments_and_environment_arrive_as_they_were_given() {
    let words = ["args-env", "", "two words", "a\"quote", "back\\slash", "--", "--ram", "ümläut"];
    let run = Run::new(words).option("--append", "env=FIRST=1").option("--append", "env=SECOND=two words=2").finish();
    let run = run.expect_ok();
    let text = run.text();
    for (index, word) in words.iter().enumerate() {
        assert!(text.lines().any(|line| line == format!("argv[{index}]={word}")), "argument {index}\n{run}");
    }
    for line in ["env FIRST=1", "env SECOND=two words=2", "cwd /"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{run}");
    }
}

#[test]
fn system_calls_that_do_not_exist_are_refused_counted_and_named() {
    let program = build(Program::C("enosys", Flavour::Glibc));
    let run = Run::new([program]).finish().expect_ok().expect_line("OK enosys");
    let calls = run.report["syscalls_unknown"].as_array().expect("a list");
    for (number, name, count) in [(246, "kexec_load", 3), (1000, "", 2)] {
        let call = calls.iter().find(|call| call["number"] == number);
        let call = call.unwrap_or_else(|| panic!("call {number} is not in {calls:?}\n{run}"));
        assert_eq!(call["count"], count, "{call}");
        assert!(name.is_empty() || call["name"] == name, "{call}");
    }
    assert!(run.stderr.contains("kexec_load"), "ebb names it at the end\n{run}");
}

#[test]
fn nothing_but_the_program_s_bytes_comes_out_on_stdout() {
    for log in ["log=warn", "log=trace"] {
        let run = Run::line("hello").option("--append", log).finish().expect_ok();
        assert_eq!(run.text(), "hello, 2893 digits on the heap\nOK hello\n", "{run}");
    }
}

/// Both programs hold on Linux, too: `programs_on_linux`.
#[test]
fn p9_p16_x12_m5_m6_m9_the_calls_about_mappings_are_linux_s() {
    Run::line("mmap-contract").finish().expect_ok().expect_line("OK mmap-contract");
    let program = build(Program::C("map-interface", Flavour::Glibc));
    let run = Run::new([program]).option("--ram", "24M").finish().expect_ok().expect_line("OK map-interface");
    // 1 GiB on a machine of 24 MiB.
    assert_eq!((run.value("RESERVED", "kib"), run.value("RESERVED", "committed")), (1 << 20, 0), "{run}");
}
