//! The programs of the catalogue end on Linux as the catalogue says. So a difference on Ebb is Ebb's.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::programs::{CASES, Outcome, PROCESS_CASES, Program};

/// Runs an executable in `directory` with an empty environment and without core dumps.
fn run(executable: &Path, arguments: &[&str], stdin: &[u8], directory: &Path) -> Outcome {
    let mut child = Command::new("/bin/sh")
        .args(["-c", r#"ulimit -c 0; exec "$0" "$@" 2>&1"#])
        .arg(executable)
        .args(arguments)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut input = child.stdin.take().expect("piped");
    // A program that does not read its input may be gone already.
    let _ = input.write_all(stdin);
    drop(input);
    let mut output = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut output).expect("its output");
    let status = child.wait().expect("its status");
    Outcome {
        status: status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("ended"),
        text: String::from_utf8_lossy(&output).into_owned(),
    }
}

#[test]
fn every_program_ends_as_the_catalogue_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut complaints = Vec::new();
    for case in CASES.iter().chain(PROCESS_CASES) {
        let executable = case.program.build().unwrap_or_else(|error| panic!("{}: {error}", case.program));
        let outcome = run(&executable, case.arguments, case.stdin, directory.path());
        if let Some(complaint) = case.expected.complaint(&outcome) {
            complaints.push(format!("{} {}: {complaint}", case.program, case.arguments.join(" ")));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} of {} cases:\n{}",
        complaints.len(),
        CASES.len() + PROCESS_CASES.len(),
        complaints.join("\n\n")
    );
}

#[test]
fn a_data_file_is_scanned_written_and_found_wrong_when_a_bit_flips() {
    let directory = tempfile::tempdir().expect("a directory");
    let pressure = Program::Workload("pressure").build().unwrap_or_else(|error| panic!("{error}"));
    let run = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split_ascii_whitespace().collect();
        run(&pressure, &arguments, b"", directory.path())
    };
    for arguments in [
        "mkfile mib=2 file=data",
        "file-scan mib=2 file=data order=1",
        "file-scan mib=2 file=data shared=1 lat=1",
        "file-write mib=2 file=data order=1 ops=3000",
    ] {
        let outcome = run(arguments);
        assert_eq!(outcome.status, 0, "{arguments}:\n{}", outcome.text);
    }
    let again = run("file-write mib=2 file=data");
    assert_eq!(again.status, 1, "the file is not fresh any more:\n{}", again.text);

    let path = directory.path().join("data");
    let mut bytes = fs::read(&path).expect("the file");
    bytes[77 * 4096 + 1000] ^= 4;
    fs::write(&path, bytes).expect("the file");
    let flipped = run("file-scan mib=2 file=data");
    assert_eq!(flipped.status, 1);
    assert!(flipped.text.contains("FAIL file-scan filler page=77 word=125"), "{}", flipped.text);
}

#[test]
fn the_model_of_files_is_right_about_linux() {
    for seed in [1, 2, 3] {
        let directory = tempfile::tempdir().expect("a directory");
        let model = Program::Workload("file-model").build().unwrap_or_else(|error| panic!("{error}"));
        let outcome = run(&model, &["ops=3000", &format!("seed={seed}")], b"", directory.path());
        assert_eq!(outcome.status, 0, "{}", outcome.text);
        let again = run(&model, &["verify=1"], b"", directory.path());
        assert_eq!(again.status, 0, "{}", again.text);
    }
}
