//! Finds the tests that show rows, and runs them, two at a time.
//!
//! Owns: asking cargo for the test executables, asking these for their tests, and running each test in a process of its
//! own, so that one that aborts or hangs costs its own row only. Does not own what a name means (`tests::features`).

use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use cargo_metadata::Message;
use tests::features::rows_of_test;
use tests::source;

/// As many as the harness lets machines run.
const WORKERS: usize = 2;
/// `timeout(1)` ends a test that does not end; no healthy one comes near.
const LIMIT_S: &str = "1800";
/// Lines of a failed test that are shown.
const SHOWN: usize = 40;

/// One test that shows rows.
#[derive(Clone, Debug)]
pub struct Check {
    /// Their ids.
    pub rows: Vec<&'static str>,
    executable: Arc<Executable>,
    test: String,
}

#[derive(Debug)]
struct Executable {
    /// `mm`, or `tests::mm_space`.
    name: String,
    path: PathBuf,
    /// Where cargo would run it.
    directory: PathBuf,
}

impl fmt::Display for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.executable.name, self.test)
    }
}

/// How a test ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It passed.
    Ok,
    /// It did not, and said this in the end.
    Failed(String),
}

impl Verdict {
    /// Whether it passed.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// Builds all tests and finds those that show rows, in the order of the executables.
pub fn find() -> Result<Vec<Check>, String> {
    let mut checks = Vec::new();
    for executable in executables()? {
        let executable = Arc::new(executable);
        for test in tests_of(&executable)? {
            let rows: Vec<_> = rows_of_test(&test).map(|row| row.id).collect();
            if !rows.is_empty() {
                checks.push(Check { rows, executable: Arc::clone(&executable), test });
            }
        }
    }
    Ok(checks)
}

fn executables() -> Result<Vec<Executable>, String> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--no-run", "--profile", "checked", "--message-format", "json-render-diagnostics"]);
    command.current_dir(source::root()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build".to_owned());
    }
    let messages = Message::parse_stream(output.stdout.as_slice());
    let artifacts = messages.filter_map(|message| match message {
        Ok(Message::CompilerArtifact(artifact)) if artifact.profile.test => Some(artifact),
        _ => None,
    });
    let found = artifacts.filter_map(|artifact| {
        let path = artifact.executable?.into_std_path_buf();
        let directory = artifact.manifest_path.parent()?.as_std_path().to_owned();
        let package = directory.file_name()?.to_str()?.to_owned();
        let target = artifact.target.name.as_str();
        let is_library = target.replace('_', "-") == package;
        let name = if is_library { package } else { format!("{package}::{target}") };
        Some(Executable { name, path, directory })
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Executable {
    /// As cargo runs it, but with a limit.
    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", LIMIT_S]).arg(&self.path).current_dir(&self.directory);
        command.env("CARGO_MANIFEST_DIR", &self.directory).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command
    }
}

fn tests_of(executable: &Executable) -> Result<Vec<String>, String> {
    let output = executable.command().args(["--list", "--format", "terse"]).output();
    let output = output.map_err(|error| format!("{}: {error}", executable.path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Runs the needed ones of `checks`, in order; verdicts come as they fall.
pub fn start(checks: &[Check], needed: &[usize]) -> impl Iterator<Item = (usize, Verdict)> + use<> {
    let queue: VecDeque<_> = needed.iter().map(|index| (*index, checks[*index].clone())).collect();
    let queue = Arc::new(Mutex::new(queue));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..WORKERS {
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        std::thread::spawn(move || {
            let next = || queue.lock().expect("nobody panics with the queue").pop_front();
            while let Some((index, check)) = next() {
                if sender.send((index, run(&check))).is_err() {
                    break;
                }
            }
        });
    }
    receiver.into_iter()
}

fn run(check: &Check) -> Verdict {
    let mut command = check.executable.command();
    let output = match command.args(["--exact", &check.test]).output() {
        Ok(output) => output,
        Err(error) => return Verdict::Failed(error.to_string()),
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // A name that is not there any more runs nothing and is a success for the harness.
    if output.status.success() && text.contains("1 passed") {
        return Verdict::Ok;
    }
    let lines: Vec<_> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    Verdict::Failed(format!("{shown}\n{}", output.status))
}
