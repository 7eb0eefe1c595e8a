//! One run in a directory of its own: `ebb`, a fake QEMU, a minimal program, a dummy kernel.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A run to be started.
pub struct Bench {
    pub directory: TempDir,
    pub command: Command,
}

/// A run that has ended.
pub struct Done {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// `report.json`, null if there is none.
    pub report: Value,
}

impl Bench {
    /// A run in which the machine plays `script`.
    pub fn new(script: &str) -> Self {
        Self::with(script, &[])
    }

    /// The same with options of ebb's before the program.
    pub fn with(script: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("prog"), program()).unwrap();
        std::fs::write(directory.path().join("kernel"), "not really").unwrap();
        let mut bench = Self { command: Command::new(env!("CARGO_BIN_EXE_ebb")), directory };
        bench.command.current_dir(bench.directory.path()).env("EBB_QEMU", env!("CARGO_BIN_EXE_fake-qemu"));
        bench.command.env("EBB_FAKE", script).env("EBB_WORKLOADS", bench.directory.path());
        bench.command.args(["run", "--kernel", "kernel", "--out", "out"]).args(options);
        bench
    }

    /// Names the program and its arguments.
    pub fn program(mut self, argv: &[&str]) -> Self {
        self.command.arg("--").args(argv);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it, with stdout and stderr kept.
    pub fn start(&mut self) -> Child {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().unwrap()
    }

    /// Runs `./prog`, without input, to the end.
    pub fn run(self) -> Done {
        self.program(&["./prog"]).run_as_it_is()
    }

    pub fn run_as_it_is(mut self) -> Done {
        self.command.stdin(Stdio::null());
        let child = self.start();
        self.finish(child.wait_with_output().unwrap())
    }

    pub fn finish(&self, output: Output) -> Done {
        let report = std::fs::read_to_string(self.path("out/report.json")).unwrap_or_default();
        let left: Vec<_> = names(&self.path("out")).into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        Done {
            status: output.status.code().expect("ebb ends by exiting"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
            report: serde_json::from_str(&report).unwrap_or_default(),
        }
    }

    /// The process id that the fake QEMU wrote down by `pid FILE`.
    pub fn qemu_pid(&self, name: &str) -> u32 {
        let path = self.path(name);
        let text = poll(|| std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty()));
        text.parse().unwrap()
    }
}

impl Done {
    /// Asserts status and outcome, on the outside and in the report.
    pub fn is(&self, outcome: &str, status: i32) -> &Self {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert_eq!(self.report["outcome"], outcome, "{}", self.stderr);
        assert_eq!(self.report["exit_status"], status);
        self
    }

    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in: {}", self.stderr);
        self
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits for something another process does, for as long as a loaded machine may need.
pub fn poll<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process is gone (or dead and only waiting for its parent to notice).
pub fn wait_gone(pid: u32) {
    poll(|| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        matches!(state, None | Some(Some('Z' | 'X'))).then_some(())
    });
}

pub fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The smallest file that passes for a static x86_64 program: one executable segment.
pub fn program() -> Vec<u8> {
    let mut file = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01\x00");
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(24, &0x40_0100u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    put(68, &5u32.to_le_bytes());
    put(80, &0x40_0000u64.to_le_bytes());
    put(96, &4096u64.to_le_bytes());
    put(104, &4096u64.to_le_bytes());
    file
}
