//! What came out of a run, and the demands that every scenario makes of it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use serde_json::Value;

use crate::programs::Outcome;

/// Lines of each text that a failure shows.
const SHOWN: usize = 30;

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    described: String,
    status: ExitStatus,
    /// What the program printed.
    pub stdout: Vec<u8>,
    /// What `ebb` said.
    pub stderr: String,
    /// `report.json`, null if there is none.
    pub report: Value,
    /// What the kernel logged.
    pub log: String,
    /// How many machines were started.
    pub booted: usize,
}

impl Finished {
    pub(super) fn new(
        described: String,
        status: ExitStatus,
        stdout: Vec<u8>,
        stderr: &Path,
        out: &Path,
        booted: usize,
    ) -> Self {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let report = serde_json::from_str(&text(&out.join("report.json"))).unwrap_or_default();
        let (stderr, log) = (text(stderr), text(&out.join("kernel.log")));
        Self { described, status, stdout, stderr, report, log, booted }
    }

    /// What the program printed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The status `ebb` ended with, or 128 and the signal that ended it.
    pub fn status(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).expect("it has ended")
    }

    /// For the judge of the catalogue.
    pub fn outcome(&self) -> Outcome {
        Outcome { status: self.status(), text: self.text() }
    }

    /// Fails the test unless the run ended so, by `ebb`'s status and by the report's outcome.
    #[track_caller]
    pub fn expect(self, outcome: &str, status: i32) -> Self {
        let found = (self.report["outcome"].as_str(), self.status());
        assert!(found == (Some(outcome), status), "{found:?} instead of {:?}\n{self}", (outcome, status));
        assert_eq!(self.report["exit_status"], status, "the report's status\n{self}");
        self
    }

    /// Fails the test unless the program ended by itself with this status and the kernel's books balance.
    #[track_caller]
    pub fn expect_exit(self, status: i32) -> Self {
        self.expect("exited", status).expect_sound()
    }

    /// Fails the test unless the program ended with status 0.
    #[track_caller]
    pub fn expect_ok(self) -> Self {
        self.expect_exit(0)
    }

    /// Fails the test unless a signal ended the program and the kernel's books balance.
    #[track_caller]
    pub fn expect_signal(self, signal: i32) -> Self {
        let finished = self.expect("signalled", 128 + signal).expect_sound();
        assert_eq!(finished.report["signal"], signal, "the report's signal\n{finished}");
        finished
    }

    /// Fails the test unless the kernel says that all its identities hold at the end.
    #[track_caller]
    pub fn expect_sound(self) -> Self {
        assert_eq!(self.report["identities"], "ok", "identities\n{self}");
        self
    }

    /// Fails the test unless some line of the program begins so.
    #[track_caller]
    pub fn expect_line(self, beginning: &str) -> Self {
        assert!(
            self.text().lines().any(|line| line.starts_with(beginning)),
            "no line begins with {beginning:?}\n{self}"
        );
        self
    }

    /// A number of the report, such as `vmstat/pswpin`.
    #[track_caller]
    pub fn number(&self, path: &str) -> f64 {
        let value = self.report.pointer(&format!("/{path}")).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("the report has no number {path}\n{self}"))
    }

    /// A count of the report.
    #[track_caller]
    pub fn count(&self, path: &str) -> u64 {
        let value = self.report.pointer(&format!("/{path}")).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("the report has no count {path}\n{self}"))
    }

    /// The value of `key=` in the first of the program's lines that begins so.
    #[track_caller]
    pub fn value(&self, beginning: &str, key: &str) -> u64 {
        let text = self.text();
        let line = text.lines().find(|line| line.starts_with(beginning));
        let words =
            line.unwrap_or_else(|| panic!("no line begins with {beginning:?}\n{self}")).split_ascii_whitespace();
        let value =
            words.filter_map(|word| word.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value);
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key}= after {beginning:?}\n{self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{}\n{}, {} machine(s) started", self.described, self.status, self.booted)?;
        for (name, text) in [("program", &*self.text()), ("ebb", &self.stderr), ("kernel.log", &self.log)] {
            let lines: Vec<_> = text.lines().collect();
            writeln!(out, "--- {name}")?;
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                writeln!(out, "{line}")?;
            }
        }
        write!(out, "--- report: outcome {}, message {}", self.report["outcome"], self.report["message"])
    }
}
