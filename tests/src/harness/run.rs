//! One `ebb run`, from its options to the running process.
//!
//! Owns: the command line and environment of `ebb`, what the wrapper of QEMU is told, and talking to the program over its
//! standard streams. Does not own the judgement of what came out ([`Finished`]).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::artifacts::Artifacts;
use super::finished::Finished;
use super::qmp::{Fault, Monitor};
use super::slots::Slot;

/// Seconds after which `ebb` ends a run; a healthy one takes a small part of it, even on a busy host.
const LIMIT_S: u64 = 240;

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Run {
    artifacts: &'static Artifacts,
    options: Vec<OsString>,
    program: Vec<OsString>,
    stdin: Option<Vec<u8>>,
    limit_s: u64,
    out: Option<PathBuf>,
    qemu_arguments: Vec<OsString>,
    swap_drive: String,
    swap_faults: Option<String>,
    data_log: Option<PathBuf>,
}

impl Run {
    /// A program with its arguments; none is the default workload. A bare name is one of the workloads.
    pub fn new<T: AsRef<OsStr>>(program: impl IntoIterator<Item = T>) -> Self {
        Self::with(Artifacts::checked(), program)
    }

    /// The same with a kernel of choice.
    pub fn with<T: AsRef<OsStr>>(artifacts: &'static Artifacts, program: impl IntoIterator<Item = T>) -> Self {
        Self {
            artifacts,
            options: Vec::new(),
            program: program.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            stdin: None,
            limit_s: LIMIT_S,
            out: None,
            qemu_arguments: Vec::new(),
            swap_drive: String::new(),
            swap_faults: None,
            data_log: None,
        }
    }

    /// The words of one line, for programs whose arguments hold no spaces.
    pub fn line(line: &str) -> Self {
        Self::new(line.split_ascii_whitespace())
    }

    /// Options of `ebb run`, the words of one line.
    pub fn options(mut self, line: &str) -> Self {
        self.options.extend(line.split_ascii_whitespace().map(OsString::from));
        self
    }

    /// One option of `ebb run` with a value that may hold anything.
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.options.extend([name.into(), value.as_ref().to_owned()]);
        self
    }

    /// What the program finds on its standard input, then its end; without this there is only the end.
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Some(bytes.to_vec());
        self
    }

    /// Ends the run after so many seconds.
    pub fn limit_s(mut self, seconds: u64) -> Self {
        self.limit_s = seconds;
        self
    }

    /// Where the report goes, instead of a directory of the run's own.
    pub fn out(mut self, directory: &Path) -> Self {
        self.out = Some(directory.to_owned());
        self
    }

    /// More words for QEMU's command line.
    pub fn qemu_arguments(mut self, line: &str) -> Self {
        self.qemu_arguments.extend(line.split_ascii_whitespace().map(OsString::from));
        self
    }

    /// More for the `-drive` option of the swap disk, such as `throttling.iops-read=2`.
    pub fn swap_drive(mut self, options: &str) -> Self {
        self.swap_drive = options.to_owned();
        self
    }

    /// Has the swap disk fail from the start, by QEMU's `blkdebug`.
    pub fn break_swap(mut self, faults: &[Fault]) -> Self {
        self.swap_faults = Some(faults.iter().map(Fault::section).collect());
        self
    }

    /// Logs all writes to the data disk into a file.
    pub fn data_log(mut self, log: &Path) -> Self {
        File::create(log).expect("an empty log");
        self.data_log = Some(log.to_owned());
        self
    }

    /// Runs to the end.
    pub fn finish(self) -> Finished {
        let mut running = self.begin();
        running.close_stdin();
        running.finish()
    }

    /// Starts and leaves standard input open, to be written to while the program runs.
    pub fn begin(self) -> Running {
        let slot = Slot::take();
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut command = self.command(scratch.path());
        command.stderr(File::create(scratch.path().join("stderr")).expect("a file for messages"));
        let described = format!("ebb {}", words(command.get_args()));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{described}: {error}"));
        let mut stdin = child.stdin.take();
        if let Some(bytes) = self.stdin {
            let mut pipe = stdin.take().expect("a pipe");
            // A thread, because the program may answer before it has read everything; it ends with the pipe's other side.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let out = self.out.unwrap_or_else(|| scratch.path().join("out"));
        Running { child, stdin, stdout, seen: Vec::new(), scratch, out, described, _slot: slot }
    }

    fn command(&self, scratch: &Path) -> Command {
        let artifacts = self.artifacts;
        let mut command = Command::new(&artifacts.ebb);
        command.args(["run", "--accel", "tcg"]).arg("--timeout").arg(self.limit_s.to_string());
        command.arg("--kernel").arg(&artifacts.kernel);
        command.arg("--out").arg(self.out.clone().unwrap_or_else(|| scratch.join("out")));
        command.args(&self.options);
        if !self.program.is_empty() {
            command.arg("--").args(&self.program);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env("EBB_WORKLOADS", &artifacts.workloads).env("EBB_QEMU", &artifacts.wrapper);
        command.env("QEMU_WITH_PIDS", scratch.join("pids"));
        command.env("QEMU_WITH_SWAP_DRIVE", &self.swap_drive);
        let faults = scratch.join("faults");
        if let Some(sections) = &self.swap_faults {
            fs::write(&faults, sections).expect("a file for faults");
        }
        let faults = if self.swap_faults.is_some() { &faults } else { Path::new("") };
        command.env("QEMU_WITH_SWAP_FAULTS", faults);
        command.env("QEMU_WITH_DATA_LOG", self.data_log.as_deref().unwrap_or(Path::new("")));
        let mut arguments = self.qemu_arguments.clone();
        arguments.extend(["-qmp".into(), format!("unix:{},server=on,wait=off", scratch.join("qmp").display()).into()]);
        command.env("QEMU_WITH_ARGUMENTS", arguments.join(OsStr::new("\n")));
        command
    }
}

fn words<'a>(arguments: impl Iterator<Item = &'a OsStr>) -> String {
    arguments.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A run under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    seen: Vec<u8>,
    scratch: TempDir,
    out: PathBuf,
    described: String,
    _slot: Slot,
}

impl Running {
    /// Waits for a line of the program's that begins so, and returns it.
    pub fn wait_for(&mut self, beginning: &str) -> String {
        loop {
            let start = self.seen.len();
            let length = self.stdout.read_until(b'\n', &mut self.seen).expect("the program's output");
            let line = String::from_utf8_lossy(&self.seen[start..]).into_owned();
            assert!(length > 0, "no line begins with {beginning:?}\n{}", self.post_mortem());
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    /// Sends bytes to the program's standard input.
    pub fn send(&mut self, bytes: &[u8]) {
        let pipe = self.stdin.as_mut().expect("standard input is open");
        pipe.write_all(bytes).and_then(|()| pipe.flush()).expect("the program's input");
    }

    /// Ends the program's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends `ebb` a signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        // The shell's own kill, because there is no safe way to call kill(2).
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("/bin/sh").args(["-c", &command]).status().expect("a shell");
        assert!(status.success(), "{command}");
    }

    /// A control connection of our own to QEMU, which must have been seen to run.
    pub fn monitor(&self) -> Monitor {
        Monitor::connect(&self.scratch.path().join("qmp"))
    }

    /// Process numbers of the QEMUs that were started.
    pub fn qemu_pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.scratch.path().join("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().expect("a process number")).collect()
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        self.stdout.read_to_end(&mut self.seen).expect("the program's output");
        let status = self.child.wait().expect("ebb's status");
        let pids = self.qemu_pids();
        let left: Vec<_> = pids.iter().filter(|pid| is_qemu(**pid)).collect();
        assert!(left.is_empty(), "{}: QEMU is still running: {left:?}", self.described);
        Finished::new(self.described, status, self.seen, &self.scratch.path().join("stderr"), &self.out, pids.len())
    }

    /// What is known after something went wrong; ends the run.
    fn post_mortem(&mut self) -> String {
        self.stdin = None;
        let status = self.child.wait();
        let stderr = fs::read_to_string(self.scratch.path().join("stderr")).unwrap_or_default();
        format!("{}\nended: {status:?}\n{}\n{stderr}", self.described, String::from_utf8_lossy(&self.seen))
    }
}

/// Whether a process is there and is a QEMU: numbers are used again.
fn is_qemu(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu"))
}
