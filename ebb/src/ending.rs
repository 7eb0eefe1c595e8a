//! How a run can end: the outcome in the report, the exit status, and the sentence.
//!
//! Owns: the table of outcomes and ebb's own exit statuses (120–125, chosen so that no shell and few
//! programs use them). Does not own how the outcome of a run is found out (`verdict`).

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// The status a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Status(pub u8);

/// Nothing was booted, because something given to ebb was wrong.
pub const BAD_INPUT: Status = Status(120);
/// QEMU failed, or the machine ended without a word.
pub const QEMU_FAILED: Status = Status(121);
/// The kernel panicked.
pub const PANIC: Status = Status(122);
/// The kernel refused what it was given.
pub const REFUSED: Status = Status(123);
/// Longer than `--timeout`.
pub const TIMEOUT: Status = Status(124);
/// ebb itself failed.
pub const INTERNAL: Status = Status(125);
/// As if by SIGKILL, which is how Linux' out-of-memory killer ends a program.
pub const OUT_OF_MEMORY: Status = Status(137);

impl Status {
    /// The status shells give a program that a signal ended.
    pub fn of_signal(number: u8) -> Self {
        Self(128u8.saturating_add(number))
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The word in the report that says how a run ended, whatever the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The program ended by itself.
    Exited,
    /// A signal ended the program.
    Signalled,
    /// The program was killed, because neither a frame nor a swap slot could be had.
    OutOfMemory,
    /// The kernel panicked.
    Panic,
    /// The run took longer than allowed.
    Timeout,
    /// QEMU failed, or the machine ended without a record.
    QemuFailed,
    /// Something given to ebb was wrong, found by ebb or by the kernel.
    BadInput,
    /// Ended from outside: Ctrl-C, SIGTERM, SIGHUP, or nobody reads stdout any more.
    Interrupted,
    /// ebb itself failed.
    InternalError,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// For the report.
    pub outcome: Outcome,
    /// For whoever started ebb.
    pub status: Status,
    /// For people; empty when the outcome says it all.
    pub message: String,
}

impl Ending {
    /// Something given to ebb is wrong: one sentence that says what it is and what to do.
    pub fn bad_input(message: impl fmt::Display) -> Self {
        Self { outcome: Outcome::BadInput, status: BAD_INPUT, message: message.to_string() }
    }

    /// QEMU could not do its part.
    pub fn qemu_failed(message: impl fmt::Display) -> Self {
        Self { outcome: Outcome::QemuFailed, status: QEMU_FAILED, message: message.to_string() }
    }

    /// The host did not let ebb do its part.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self { outcome: Outcome::InternalError, status: INTERNAL, message: message.to_string() }
    }
}
