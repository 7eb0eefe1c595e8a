//! Bad input: one sentence, a documented status, nothing overwritten, no machine left behind.

use std::fs;
use std::path::Path;

use tests::harness::{Finished, Run, bare, status};
use tests::programs::Program;

/// Where the ELF header's `e_machine` is (System V ABI, "ELF Header"), and what stands there for 64-bit ARM.
const E_MACHINE: usize = 18;
const EM_AARCH64: u8 = 183;

fn hello() -> Vec<u8> {
    let path = Program::Workload("hello").build().unwrap_or_else(|error| panic!("{error}"));
    fs::read(path).expect("hello")
}

/// Fails the test unless `ebb` refused with one sentence that says `reason`, and booted `machines`.
#[track_caller]
fn expect_sentence(run: &Finished, reason: &str, machines: usize) {
    assert_eq!(run.booted, machines, "machines\n{run}");
    assert!(run.stdout.is_empty(), "nothing on stdout\n{run}");
    let said: Vec<_> = run.stderr.lines().collect();
    if machines == 0 {
        assert!(said.len() == 1 && said[0].starts_with("ebb: "), "one sentence\n{run}");
    }
    assert!(run.stderr.contains(reason), "it says {reason:?}\n{run}");
}

/// A program file that is refused before anything boots, and is as it was afterwards.
#[track_caller]
fn refused_program(directory: &Path, name: &str, contents: &[u8], reason: &str) {
    let path = directory.join(name);
    fs::write(&path, contents).expect("a file");
    let run = Run::new([&path]).finish().expect("bad_input", status::BAD_INPUT);
    expect_sentence(&run, reason, 0);
    assert!(run.stderr.contains(name), "it names the file\n{run}");
    assert_eq!(fs::read(&path).expect("the file"), contents, "the file is as it was");
}

#[test]
fn programs_that_are_not_for_this_machine_are_refused_with_the_reason() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    let hello = hello();
    let mut arm = hello.clone();
    arm[E_MACHINE] = EM_AARCH64;
    for (name, contents, reason) in [
        ("script", &b"#!/bin/sh\necho hello\n"[..], "script"),
        ("text", b"hello, not a program\n", "ELF"),
        ("empty", b"", "empty"),
        ("arm", &arm, "ARM"),
        ("truncated-in-its-header", &hello[..40], "truncated"),
        ("truncated", &hello[..hello.len() / 2], "truncated"),
    ] {
        refused_program(directory, name, contents, reason);
    }
    let dynamic = fs::read("/bin/ls").expect("every system has a dynamic executable");
    refused_program(directory, "dynamic", &dynamic, "dynamic");
}

#[test]
fn what_is_not_there_or_not_sensible_is_refused_with_the_reason() {
    let scratch = tempfile::tempdir().expect("a directory");
    let foreign = scratch.path().join("foreign.img");
    fs::write(&foreign, vec![7; 1 << 20]).expect("an image");
    let missing = scratch.path().join("missing");
    let refused = |run: Run, reason: &str| {
        let run = run.finish().expect("bad_input", status::BAD_INPUT);
        expect_sentence(&run, reason, 0);
    };
    refused(Run::new([&missing]), "missing");
    refused(Run::line("no-such-workload"), "no-such-workload");
    refused(Run::line("hello").options("--ram 1M"), "too small");
    refused(Run::line("hello").options("--ram lots"), "lots");
    refused(Run::line("hello").option("--swap", &foreign), "no swap signature");
    refused(Run::line("hello").option("--swap", &missing), "does not exist");
    refused(Run::line("hello").option("--disk", &missing), "does not exist");
    refused(Run::line("hello").option("--append", "--"), "--");
    assert_eq!(fs::read(&foreign).expect("the image"), vec![7; 1 << 20], "the foreign image is as it was");
    assert!(!missing.exists(), "nothing was made");
}

#[test]
fn an_output_directory_that_cannot_be_used_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().expect("a directory");
    let theirs = scratch.path().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    fs::write(theirs.join("report.json"), "{\"mine\": 1}").expect("a file");
    let file = scratch.path().join("file");
    fs::write(&file, "mine").expect("a file");
    // Not even root can make a directory in /proc.
    for (out, reason) in [(&theirs, "overwritten"), (&file, "directory"), (&"/proc/ebb-out".into(), "/proc/ebb-out")] {
        let run = Run::line("hello").out(out).finish();
        assert_eq!(run.status(), status::BAD_INPUT, "{run}");
        expect_sentence(&run, reason, 0);
    }
    assert_eq!(fs::read_to_string(theirs.join("report.json")).expect("their file"), "{\"mine\": 1}");
    assert_eq!(fs::read_to_string(&file).expect("their file"), "mine");
}

#[test]
fn unknown_kernel_options_are_named_and_refused_by_the_kernel() {
    for option in ["mm.torchure", "log=loud"] {
        let run = Run::line("hello").option("--append", option).finish().expect("bad_input", status::REFUSED);
        expect_sentence(&run, option, 1);
    }
}

#[test]
fn a_machine_without_a_program_says_so_and_powers_off() {
    for (line, reason) in [("", "no program"), ("init=/bin/sh", "init=/bin/sh")] {
        let output = bare::run("24M", None, line, None);
        assert_eq!(output.status, 0, "{output:?}");
        assert!(output.console.lines().count() == 1 && output.console.contains(reason), "{output:?}");
    }
}

#[test]
fn ctrl_c_and_a_request_to_end_leave_no_machine_behind() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut run = Run::line("spin").begin();
        run.wait_for("spinning");
        assert_eq!(run.qemu_pids().len(), 1, "one machine runs");
        run.signal(signal);
        // `finish` itself fails if a QEMU is left.
        let run = run.finish().expect("interrupted", status);
        assert!(run.number("boot_ms") > 0.0, "what was seen up to there is reported\n{run}");
    }
}
