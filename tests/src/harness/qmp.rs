//! A control connection to QEMU, beside the one that `ebb` has (QEMU `docs/interop/qmp-spec.rst`).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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

/// A connection that is ready for commands.
#[derive(Debug)]
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to the socket of a QEMU that is running.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut monitor = Self(BufReader::new(stream));
        assert!(monitor.read().get("QMP").is_some(), "QEMU greets");
        monitor.execute("qmp_capabilities");
        monitor
    }

    /// Runs a command without arguments and returns its answer.
    pub fn execute(&mut self, command: &str) -> Value {
        self.run(command, json!({}))
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
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }
}
