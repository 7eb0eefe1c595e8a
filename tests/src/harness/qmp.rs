//! A control connection to QEMU, beside the one that `ebb` has (QEMU `docs/interop/qmp-spec.rst`).

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long an answer may take; QEMU answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a processor may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a program.
    Program,
    /// In the kernel, which has nothing to do.
    Idle,
}

impl Place {
    /// By QEMU's `info registers`: the privilege level, and whether it halts.
    fn is_in(self, registers: &str) -> bool {
        let has = |word| registers.split_ascii_whitespace().any(|found| found == word);
        match self {
            Self::Program => has("CPL=3"),
            Self::Idle => has("CPL=0") && has("HLT=1"),
        }
    }
}

/// What the swap disk's image is called in QEMU, in runs that say so with [`name_swap`].
const SWAP_NODE: &str = "swap-image";

/// For [`Run::swap_drive`](super::Run::swap_drive): a name by which [`Monitor::break_swap`] finds the image.
pub fn name_swap() -> String {
    format!("node-name={SWAP_NODE}")
}

const SECTOR: u64 = 512;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// The next read; those after it do not.
    OneRead,
    /// Reads.
    Reads,
    /// Writes, for want of room on the host.
    Writes,
}

/// A fault of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub fails: Fails,
    /// Where, in bytes; `None` is everywhere.
    pub at: Option<u64>,
}

impl Fault {
    /// As QEMU's QMP reference has it: `BlkdebugInjectErrorOptions`.
    fn rule(&self) -> Value {
        let (iotype, errno) = self.operation();
        let mut rule = json!({ "event": "none", "iotype": iotype, "errno": errno, "once": self.is_once() });
        if let Some(at) = self.at {
            rule["sector"] = (at / SECTOR).into();
        }
        rule
    }

    /// The same as a section of a file (QEMU `docs/devel/testing/blkdebug.rst`).
    pub(super) fn section(&self) -> String {
        let ((iotype, errno), once) = (self.operation(), if self.is_once() { "on" } else { "off" });
        let sector = self.at.map(|at| format!("sector = \"{}\"\n", at / SECTOR)).unwrap_or_default();
        format!(
            "[inject-error]\nevent = \"none\"\niotype = \"{iotype}\"\nerrno = \"{errno}\"\n\
             once = \"{once}\"\n{sector}\n"
        )
    }

    fn operation(&self) -> (&'static str, i32) {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        if self.fails == Fails::Writes { ("write", ENOSPC) } else { ("read", EIO) }
    }

    fn is_once(&self) -> bool {
        self.fails == Fails::OneRead
    }
}

/// A connection that is ready for commands.
#[derive(Debug)]
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to the socket of a QEMU that is running.
    pub fn connect(socket: &Path) -> Self {
        Self::on(UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display())))
    }

    /// Takes a connection that is there already.
    pub fn on(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut monitor = Self(BufReader::new(stream));
        assert!(monitor.read().get("QMP").is_some(), "QEMU greets");
        monitor.execute("qmp_capabilities");
        monitor
    }

    /// Waits for an event that has not been read yet, but not for longer than that; says whether it came.
    pub fn wait_for(&mut self, event: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.0.get_ref().set_read_timeout(Some(left)).expect("a timeout");
            let mut line = String::new();
            let read = self.0.read_line(&mut line);
            self.0.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
            match read {
                Ok(_) if Self::parse(&line)["event"] == event => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
                Err(error) => panic!("QEMU: {error}"),
            }
        }
    }

    /// Runs a command without arguments and returns its answer.
    pub fn execute(&mut self, command: &str) -> Value {
        self.run(command, json!({}))
    }

    /// Has the swap disk fail from here on. The machine must be stopped, and its disk's node be called [`SWAP_NODE`].
    ///
    /// QEMU's `blkdebug` filter goes between the device and its image. A raw node is on top of it, so that discards get
    /// through.
    pub fn break_swap(&mut self, faults: &[Fault]) {
        let rules: Vec<_> = faults.iter().map(Fault::rule).collect();
        let filter = json!({ "driver": "blkdebug", "image": SWAP_NODE, "discard": "unmap", "inject-error": rules });
        self.run("blockdev-add", json!({ "driver": "raw", "node-name": "broken", "discard": "unmap", "file": filter }));
        let device = json!({ "path": "/machine/peripheral/swap-disk", "property": "drive", "value": "broken" });
        self.run("qom-set", device);
    }

    /// Makes the swap disk smaller or larger under the machine.
    pub fn resize_swap(&mut self, bytes: u64) {
        self.run("block_resize", json!({ "device": "swap", "size": bytes }));
    }

    /// From here on so few bytes a second are read from the swap disk; 0 is any number.
    pub fn limit_swap_reads(&mut self, bytes_per_second: u64) {
        let mut limits = json!({ "bps": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0 });
        limits["device"] = "swap".into();
        limits["bps_rd"] = bytes_per_second.into();
        self.run("block_set_io_throttle", limits);
    }

    /// Stops the machine while its processor is at `place`, and not before.
    pub fn stop_at(&mut self, place: Place) {
        loop {
            self.execute("stop");
            let registers = self.run("human-monitor-command", json!({ "command-line": "info registers" }));
            if registers.as_str().is_some_and(|text| place.is_in(text)) {
                return;
            }
            self.execute("cont");
        }
    }

    fn run(&mut self, command: &str, arguments: Value) -> Value {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        writeln!(self.0.get_mut(), "{line}").expect("QEMU listens");
        loop {
            let mut message = self.read();
            assert!(message.get("error").is_none(), "{command}: {message}");
            if let Some(answer) = message.get_mut("return") {
                return answer.take();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("QEMU answers");
        Self::parse(&line)
    }

    fn parse(line: &str) -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }
}
