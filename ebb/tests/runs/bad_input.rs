//! What is refused before anything boots, and that nothing of the user's is changed.

use std::os::unix::fs::PermissionsExt as _;

use super::bench::{Bench, Done, names, program, send, wait_gone};

/// Runs with the script `die 9`, so that a QEMU that was started would show.
fn refused(options: &[&str], argv: &[&str], sentence: &str) -> Done {
    let done = Bench::with("die 9", options).program(argv).run_as_it_is();
    check(&done, sentence);
    done
}

fn check(done: &Done, sentence: &str) {
    done.is("bad_input", 120).says(sentence);
    assert_eq!(done.stderr.lines().count(), 1, "one sentence: {}", done.stderr);
    assert!(done.report["message"].as_str().unwrap().contains(sentence));
}

fn refused_program(contents: &[u8], sentence: &str) {
    let bench = Bench::new("die 9");
    std::fs::write(bench.path("given"), contents).unwrap();
    check(&bench.program(&["./given"]).run_as_it_is(), sentence);
}

fn altered(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = program();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn what_is_no_program_for_us_is_refused_by_reason() {
    refused(&[], &["./nothing"], "./nothing does not exist");
    refused(&[], &["./out"], "./out is a directory");
    refused(&[], &["unheard-of"], "no workload called unheard-of");
    refused_program(b"", "is empty");
    refused_program(b"#!/bin/sh\n", "is a script");
    refused_program(b"hello", "is not an executable");
    refused_program(&program()[..200], "is truncated");
    refused_program(&altered(4, &[1]), "is a 32-bit program");
    refused_program(&altered(18, &183u16.to_le_bytes()), "ARM aarch64");
    refused_program(&altered(16, &1u16.to_le_bytes()), "is an object file");
    refused_program(&altered(68, &4u32.to_le_bytes()), "no executable segment");
    refused(&[], &["/bin/sh"], "is dynamically linked");
}

#[test]
fn sizes_must_be_sizes_and_enough() {
    refused(&["--ram", "much"], &["./prog"], "--ram much is not a size");
    refused(&["--ram", "1M"], &["./prog"], "too small to boot");
    refused(&["--swap", "12Q"], &["./prog"], "unknown unit");
    refused(&["--swap", "1K"], &["./prog"], "too small");
    refused(&["--swap", "missing.img"], &["./prog"], "does not exist");
    refused(&["--disk", "data"], &["./prog"], "does not exist: give a directory");
    refused(&[], &["disk:/prog"], "add --disk");
    refused(&["--append", "--"], &["./prog"], "is not an option");
    refused(&[], &["./prog", &"x".repeat(4000)], "shorten them");
    refused(&["--kernel", "./nothing"], &["./prog"], "is not a file");
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let bench = Bench::new("boot; exit exited 0; end 33");
    std::fs::set_permissions(bench.path("prog"), std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, and then the program runs.
    let as_root = std::fs::File::open(bench.path("prog")).is_ok();
    let done = bench.run();
    if as_root {
        done.is("exited", 0);
    } else {
        check(&done, "cannot be read");
    }
}

#[test]
fn usage_errors_have_a_status_of_ours() {
    for options in [&["--colour", "red"][..], &["--timeout", "0"], &["--accel", "magic"]] {
        let done = Bench::with("die 9", options).run();
        assert_eq!(done.status, 120, "{}", done.stderr);
        assert!(done.report.is_null());
    }
}

#[test]
fn the_report_of_an_earlier_run_is_not_taken_for_that_of_a_usage_error() {
    let mut bench = Bench::new("boot; exit exited 0; end 33").program(&["./prog"]);
    let child = bench.start();
    bench.finish(child.wait_with_output().unwrap()).is("exited", 0);
    let out = bench.path("out");
    let misused = Bench::with("die 9", &["--colour", "red", "--out", out.to_str().unwrap()]).run();
    assert_eq!(misused.status, 120, "{}", misused.stderr);
    let report = std::fs::read_to_string(out.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["outcome"], &report["exit_status"]), (&"bad_input".into(), &120.into()));
    assert!(report["message"].as_str().unwrap().contains("--colour"), "{report}");
}

#[test]
fn a_second_run_into_the_same_directory_is_refused() {
    let mut bench = Bench::new("pid running; boot; hang").program(&["./prog"]);
    let child = bench.start();
    let qemu = bench.qemu_pid("running");
    let out = bench.path("out");
    let second = Bench::with("die 9", &["--out", out.to_str().unwrap()]).run();
    assert_eq!(second.status, 120, "{}", second.stderr);
    second.says("another run is writing");
    assert_eq!(second.stderr.lines().count(), 1, "one sentence: {}", second.stderr);
    send("INT", child.id());
    bench.finish(child.wait_with_output().unwrap()).is("interrupted", 130);
    wait_gone(qemu);
}

#[test]
fn a_foreign_swap_image_is_refused_and_left_as_it_is() {
    let bench = Bench::with("die 9", &["--swap", "disk.img"]);
    std::fs::write(bench.path("disk.img"), vec![7; 65536]).unwrap();
    let path = bench.path("disk.img");
    let mut bench = bench.program(&["./prog"]);
    let child = bench.start();
    let done = bench.finish(child.wait_with_output().unwrap());
    check(&done, "no swap signature");
    assert_eq!(std::fs::read(path).unwrap(), vec![7; 65536]);
}

#[test]
fn a_valid_swap_image_is_used_and_kept() {
    let mut bench = Bench::with("boot; exit exited 0; end 33", &["--swap", "mine.img"]).program(&["./prog"]);
    let (image, arguments) = (bench.path("mine.img"), bench.path("arguments"));
    disk_image::builder::create_swap_image(&image, disk_image::Pages(64)).unwrap();
    bench.command.env("EBB_FAKE_ARGUMENTS", &arguments);
    let child = bench.start();
    let done = bench.finish(child.wait_with_output().unwrap());
    assert_eq!(done.is("exited", 0).report["swap_bytes"], 64 * 4096);
    assert_eq!(std::fs::metadata(image).unwrap().len(), 64 * 4096);
    let arguments = std::fs::read_to_string(arguments).unwrap();
    assert!(arguments.contains("cache=writeback") && arguments.contains("mine.img"), "{arguments}");
}

#[test]
fn an_output_directory_is_shared_with_what_is_in_it() {
    let bench = Bench::new("boot; exit exited 0; end 33");
    std::fs::create_dir(bench.path("out")).unwrap();
    std::fs::write(bench.path("out/notes.txt"), "mine").unwrap();
    let mut bench = bench.program(&["./prog"]);
    for _ in 0..2 {
        let child = bench.start();
        bench.finish(child.wait_with_output().unwrap()).is("exited", 0);
    }
    let mut left = names(&bench.path("out"));
    left.sort();
    assert_eq!(left, ["kernel.log", "notes.txt", "report.json"]);
    assert_eq!(std::fs::read(bench.path("out/notes.txt")).unwrap(), b"mine");
}

#[test]
fn somebody_else_s_report_is_not_overwritten() {
    let bench = Bench::new("die 9");
    std::fs::create_dir(bench.path("out")).unwrap();
    let report = bench.path("out/report.json");
    std::fs::write(&report, "{\"mine\": true}").unwrap();
    let mut bench = bench.program(&["./prog"]);
    let child = bench.start();
    let done = bench.finish(child.wait_with_output().unwrap());
    assert_eq!(done.status, 120);
    done.says("was not written by ebb");
    assert_eq!(std::fs::read(report).unwrap(), b"{\"mine\": true}");
}

#[test]
fn an_output_path_that_is_a_file_is_refused() {
    let bench = Bench::new("die 9");
    std::fs::write(bench.path("out"), "a file").unwrap();
    let done = bench.run();
    assert_eq!(done.status, 120);
    done.says("is a file, not a directory");
}

#[test]
fn a_qemu_that_is_missing_or_too_old_is_named() {
    let missing = Bench::new("").env("EBB_QEMU", "/nowhere/qemu").run();
    missing.is("qemu_failed", 121).says("./setup.sh");
    let old = Bench::new("").env("EBB_FAKE_VERSION", "6.2.0").run();
    old.is("qemu_failed", 121).says("6.2.0 is too old");
}

#[test]
fn kvm_where_there_is_none_is_refused() {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    if !has {
        refused(&["--accel", "kvm"], &["./prog"], "KVM does not work here");
    }
    // What auto takes where there is KVM is for QEMU to show; here it must at least run.
    Bench::with("boot; exit exited 0; end 33", &["--accel", "auto"]).run().is("exited", 0);
}
