//! Files on the data disk: what a program writes is what it reads, what is on the disk afterwards, and a disk that is clean.
//!
//! After every run the image passes `e2fsck -fn`, and its contents are read by `debugfs`, which is not ours.

use std::fs;
use std::path::Path;

use tests::harness::disk::DataDisk;
use tests::harness::{Run, reduced_or_full, seed};
use tests::programs::Program;
use workloads::tree;

/// A run with a data disk; what is on it may be a program's name.
fn run(disk: &DataDisk, line: &str) -> Run {
    Run::line(line).option("--disk", disk.image())
}

/// What the program itself said it left, and what is there.
fn compare(left: &Path) {
    let list = fs::read_to_string(left.join("model.list")).expect("the program's list");
    let expected: Vec<&str> = list.lines().collect();
    assert_eq!(tree::lines(&left.join("model")).expect("what was left"), expected);
}

#[test]
fn a_program_on_the_data_disk_runs_and_leaves_the_disk_clean() {
    let hello = Program::Workload("hello").build().expect("a workload");
    let disk = DataDisk::new(|root| {
        fs::create_dir(root.join("bin")).expect("a directory");
        fs::copy(&hello, root.join("bin/hello")).expect("a program");
    });
    let finished = run(&disk, "disk:/bin/hello").finish().expect_ok();
    assert!(finished.text().contains("OK hello"), "{finished}");
    disk.expect_clean();
}

#[test]
fn a_directory_becomes_a_disk_and_is_left_as_it_is() {
    let hello = Program::Workload("hello").build().expect("a workload");
    let scratch = tempfile::tempdir().expect("a directory");
    fs::copy(&hello, scratch.path().join("hello")).expect("a program");
    let before = tree::lines(scratch.path()).expect("the directory");
    let finished = Run::line("disk:/hello").option("--disk", scratch.path()).finish().expect_ok();
    assert!(finished.text().contains("OK hello"), "{finished}");
    assert_eq!(tree::lines(scratch.path()).expect("the directory"), before);
}

#[test]
fn random_operations_on_files_agree_with_a_model_and_survive_a_reboot() {
    for _ in 0..reduced_or_full(1, 5) {
        let disk = DataDisk::empty();
        let line = format!("file-model ops={} seed={}", reduced_or_full(2_000, 100_000), seed());
        let finished = run(&disk, &line).finish();
        disk.expect_clean();
        assert!(finished.expect_ok().text().contains("OK file-model"));
        compare(&disk.read_back());
        assert!(run(&disk, "file-model verify=1").finish().expect_ok().text().contains("OK file-model"));
        disk.expect_clean();
    }
}

#[test]
fn files_work_with_little_memory() {
    let disk = DataDisk::empty();
    let line = format!("file-model ops={} seed={}", reduced_or_full(1_000, 20_000), seed());
    let finished = run(&disk, &line).options("--ram 16M").finish();
    disk.expect_clean();
    assert!(finished.expect_ok().text().contains("OK file-model"));
    compare(&disk.read_back());
}
