//! One QEMU from its start to its end: what it said and did.
//!
//! Owns: the threads that read the machine's lines and feed it, the one loop that acts on what they
//! report, the time limit, and that QEMU ends. Does not own what it means (`verdict`).
//!
//! Threads do nothing but move bytes and report [`Event`]s over one bounded channel; all state is in
//! [`Session`], on the main thread.
//!
//! ```text
//! Running ──1──▶ Asked ──3──▶ gone        1 guest_ended: counters asked for, then `quit`
//!    │                ▲                   2 stop: time limit, signal, closed stdout, silence after the end
//!    └──────2─────────┘                   3 QEMU ends, or is killed when it does not within GRACE
//! ```

mod lines;
mod series;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::console::Screen;
use crate::live::Live;
use crate::os::Signal;
use crate::qemu::process::Qemu;
use crate::qemu::qmp::{self, Message, Request};
use crate::telemetry::{Exit, Line, Pages, Panic, Record, Snapshot};

pub use lines::{Event, Lines};
pub use series::Series;

/// How long QEMU may take to end once asked, and the guest once it has said its last: long, because on a busy host both
/// take seconds, and what is killed too early counts as a machine that failed.
const GRACE: Duration = Duration::from_secs(10);
/// The loop looks at its deadlines at least this often.
const TICK: Duration = Duration::from_millis(100);
/// Warnings that are kept for the report; more are only counted.
const WARNINGS_KEPT: usize = 100;

/// Why ebb ended the run, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The time limit.
    Timeout,
    /// From outside.
    Signal(Signal),
    /// Nobody reads the program's output any more.
    StdoutClosed,
    /// The guest had said its last but did not end.
    Stuck,
}

/// All that is known about a run.
#[derive(Debug, Default)]
pub struct Observed {
    /// The boot record, and how long after QEMU's start it came.
    pub boot: Option<(Map<String, Value>, Duration)>,
    /// Counters over time.
    pub series: Series,
    /// The latest counters.
    pub last: Option<Snapshot>,
    /// The highest page counts seen.
    pub peak: Pages,
    /// How the program ended.
    pub exit: Option<Exit>,
    /// How the kernel ended.
    pub panic: Option<Panic>,
    /// Why the kernel would not begin.
    pub refused: Option<String>,
    /// Who held memory when it ran out.
    pub out_of_memory: Vec<Map<String, Value>>,
    /// Warnings and errors of the kernel: the first of them, and how many there were.
    pub warnings: Vec<String>,
    /// See `warnings`.
    pub warning_count: u64,
    /// Why ebb ended it.
    pub stop: Option<Stop>,
    /// Why the guest ended, in QEMU's words.
    pub guest_ended: Option<String>,
    /// QEMU's counters of the swap disk.
    pub qemu_disk: Option<Value>,
    /// QEMU's end.
    pub status: Option<ExitStatus>,
    /// What QEMU printed.
    pub qemu_messages: String,
    /// From QEMU's start to its end.
    pub wall: Duration,
}

/// A run in progress.
pub struct Session {
    qemu: Qemu,
    lines: Lines,
    events: Receiver<Event>,
    screen: Arc<Screen>,
    live: Live,
    log: File,
    /// Removed as soon as QEMU has it open, so that not even a killed ebb leaves it behind.
    disposable: Vec<PathBuf>,
    /// When the run is over at the latest.
    deadline: Instant,
    /// When QEMU is killed, once it has been asked to end or should have ended by itself.
    kill_at: Option<Instant>,
    observed: Observed,
}

impl Session {
    /// Takes over a QEMU that has just been started.
    ///
    /// # Errors
    /// When its sockets cannot be shared between threads.
    pub fn new(qemu: Qemu, screen: Arc<Screen>, live: Live, log: File, limit: Duration) -> io::Result<Self> {
        let (lines, events) = Lines::start(&qemu, &screen)?;
        let deadline = qemu.started + limit;
        let observed = Observed::default();
        Ok(Self { qemu, lines, events, screen, live, log, disposable: Vec::new(), deadline, kill_at: None, observed })
    }

    /// Has files removed once QEMU has opened them.
    pub fn dispose_of(mut self, files: Vec<PathBuf>) -> Self {
        self.disposable = files;
        self
    }

    /// For whoever else has something to report, such as signals.
    pub fn reporter(&self) -> std::sync::mpsc::SyncSender<Event> {
        self.lines.reporter()
    }

    /// Runs until QEMU has ended and everything it said has been read.
    ///
    /// # Errors
    /// When QEMU cannot be waited for, or the log cannot be written.
    pub fn run(mut self, messages: &Path) -> io::Result<Observed> {
        let mut open = lines::SOURCES;
        while open > 0 {
            match self.events.recv_timeout(TICK) {
                Ok(Event::Closed) => open -= 1,
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.check_deadlines()? {
                break;
            }
        }
        self.finish(messages)
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Telemetry(line) => self.telemetry(Line::parse(&line))?,
            Event::Control(line) => self.control(Message::parse(&line)),
            Event::StdoutClosed => self.stop(Stop::StdoutClosed),
            Event::Signal(signal) => self.stop(Stop::Signal(signal)),
            Event::Closed => {}
        }
        Ok(())
    }

    fn telemetry(&mut self, line: Line) -> io::Result<()> {
        let record = match line {
            Line::Record(record) => record,
            Line::Malformed(text) => {
                self.warn(format!("malformed telemetry, {text}"));
                return Ok(());
            }
            Line::Log(text) => return self.log_line(text),
        };
        let seen = &mut self.observed;
        match record {
            Record::Boot(fields) => {
                seen.boot.get_or_insert((fields, self.qemu.started.elapsed()));
                // Only now: before, the kernel's serial driver would reset the line and lose the bytes.
                self.lines.feed_stdin(&self.screen);
            }
            Record::Snapshot(snapshot) => {
                seen.series.push(&snapshot);
                seen.peak = seen.peak.max(snapshot.pages);
                self.live.update(&snapshot, &self.screen);
                seen.last = Some(*snapshot);
            }
            Record::Oom(fields) => seen.out_of_memory.push(fields),
            Record::Exit(exit) => {
                seen.series.push(&exit.last);
                seen.peak = seen.peak.max(exit.last.pages);
                seen.last = Some(exit.last.clone());
                seen.exit = Some(*exit);
                self.expect_end();
            }
            Record::Panic(panic) => {
                seen.panic.get_or_insert(panic);
                self.expect_end();
            }
            Record::Refused { message } => {
                seen.refused.get_or_insert(message);
                self.expect_end();
            }
            Record::Unknown => {}
        }
        Ok(())
    }

    fn log_line(&mut self, text: String) -> io::Result<()> {
        writeln!(self.log, "{text}")?;
        if is_warning(&text) {
            self.warn(text);
        }
        Ok(())
    }

    fn warn(&mut self, text: String) {
        self.observed.warning_count += 1;
        if self.observed.warnings.len() < WARNINGS_KEPT {
            self.screen.message(&format!("kernel: {text}"));
            self.observed.warnings.push(text);
        }
    }

    fn control(&mut self, message: Message) {
        match message {
            Message::Greeting => self.ask(Request::Capabilities),
            Message::Answer(Request::Capabilities, _) => {
                // QEMU answers from its main loop, which begins after it has opened every disk.
                for file in self.disposable.drain(..) {
                    let _ = std::fs::remove_file(file);
                }
            }
            Message::Answer(Request::BlockStats, answer) => {
                self.observed.qemu_disk = qmp::disk_counters(&answer, "swap");
            }
            Message::GuestEnded(reason) => {
                self.observed.guest_ended = Some(reason);
                self.ask_to_end();
            }
            Message::Answer(Request::Quit, _) | Message::Other => {}
        }
    }

    /// Ends the run for a reason of ebb's; the first reason counts.
    fn stop(&mut self, why: Stop) {
        if self.observed.stop.is_some() || self.observed.guest_ended.is_some() {
            return;
        }
        self.observed.stop = Some(why);
        self.ask_to_end();
    }

    fn ask_to_end(&mut self) {
        self.ask(Request::BlockStats);
        self.ask(Request::Quit);
        self.kill_at = Some(Instant::now() + GRACE);
    }

    fn ask(&mut self, request: Request) {
        // A QEMU that no longer listens is ending anyway, and is killed if it does not.
        let _ = (&self.qemu.control).write_all(request.line().as_bytes());
    }

    /// The guest has said its last word, and should now end.
    fn expect_end(&mut self) {
        self.kill_at.get_or_insert(Instant::now() + GRACE);
    }

    /// Acts on what time has come for; true when there is nothing more to wait for.
    fn check_deadlines(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| now >= at) {
            self.observed.stop.get_or_insert(Stop::Stuck);
            self.observed.status = Some(self.qemu.kill()?);
            // What QEMU had sent is still read, unless somebody downstream keeps us from passing it on.
            return Ok(self.kill_at.is_some_and(|at| now >= at + GRACE));
        }
        if now >= self.deadline {
            self.stop(Stop::Timeout);
        }
        Ok(false)
    }

    fn finish(mut self, messages: &Path) -> io::Result<Observed> {
        self.screen.clear();
        let status = match self.observed.status {
            Some(status) => status,
            None => self.wait_for_end()?,
        };
        self.observed.status = Some(status);
        self.observed.wall = self.lines.ended_at().unwrap_or_else(Instant::now) - self.qemu.started;
        self.observed.qemu_messages = std::fs::read_to_string(messages).unwrap_or_default().trim().to_owned();
        self.log.flush()?;
        Ok(self.observed)
    }

    /// QEMU has closed its sockets, so it is about to end.
    fn wait_for_end(&mut self) -> io::Result<ExitStatus> {
        let end = Instant::now() + GRACE;
        loop {
            match self.qemu.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() >= end => return self.qemu.kill(),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

/// Whether a log line is a warning or worse: its level is among its first words.
fn is_warning(line: &str) -> bool {
    let level = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
        word.eq_ignore_ascii_case("warn") || word.eq_ignore_ascii_case("error")
    };
    line.split_whitespace().take(4).any(level)
}

#[cfg(test)]
mod tests {
    use super::is_warning;

    #[test]
    fn levels_are_recognised_where_levels_stand() {
        for line in ["[    0.123] WARN swap: full", "ERROR: no disk", "0.1 <warn> x", "[ 1.0 WARN] x"] {
            assert!(is_warning(line), "{line}");
        }
        for line in ["", "[0.1] INFO mm: 3 frames", "[0.1] DEBUG disk: reads writes seeks error", "forewarn"] {
            assert!(!is_warning(line), "{line}");
        }
    }
}
