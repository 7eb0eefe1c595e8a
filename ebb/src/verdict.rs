//! What a run's observations mean.
//!
//! Owns: the order in which pieces of evidence count, so that every run has exactly one outcome. Does
//! not own gathering them (`session`) or telling about them (`report`, `summary`).
//!
//! A clean end is proved twice: by the exit record and by the machine's debug-exit status. Neither
//! alone is believed, because a triple fault ends QEMU with status 0 and a kernel can die after its
//! program's last word.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::ending::{self, Ending, Outcome, Status};
use crate::session::{Observed, Stop};
use crate::telemetry::{Exit, ExitKind};

/// isa-debug-exit turns a written code into `code << 1 | 1` (QEMU `hw/misc/debugexit.c`).
const fn debug_exit(code: i32) -> i32 {
    code << 1 | 1
}

const CLEAN: i32 = debug_exit(0x10);
const PANICKED: i32 = debug_exit(0x11);
const REFUSED: i32 = debug_exit(0x12);
/// What shells give a program that wrote to a closed pipe.
const SIGPIPE: u8 = 13;

/// Decides how the run ended.
pub fn verdict(seen: &Observed, limit: Duration) -> Ending {
    if let Some(ending) = interrupted(seen.stop) {
        return ending;
    }
    if let Some(panic) = &seen.panic {
        return panicked(&panic.message);
    }
    if let Some(message) = &seen.refused {
        return refused(message);
    }
    if seen.stop == Some(Stop::Timeout) {
        let where_to = if seen.boot.is_some() { "" } else { " and before the program began" };
        let message = format!("not finished after {} s{where_to}: ended (--timeout sets the limit)", limit.as_secs());
        return Ending { outcome: Outcome::Timeout, status: ending::TIMEOUT, message };
    }
    match (&seen.exit, seen.status.and_then(|status| status.code())) {
        (Some(exit), Some(CLEAN)) => ended(exit),
        (Some(exit), _) => Ending::qemu_failed(format!(
            "the program ended ({}), but then the machine did not: {}",
            ended(exit).message,
            how_it_ended(seen)
        )),
        (None, Some(PANICKED)) => panicked("it could not say why"),
        (None, Some(REFUSED)) => refused("it could not say why"),
        (None, _) => {
            let missed = if seen.boot.is_some() { "the program did not end" } else { "the program was not reached" };
            Ending::qemu_failed(format!("{missed}: {}", how_it_ended(seen)))
        }
    }
}

fn interrupted(stop: Option<Stop>) -> Option<Ending> {
    let (status, message) = match stop? {
        Stop::Signal(signal) => (signal.status(), format!("ended from outside by {signal:?}")),
        Stop::StdoutClosed => {
            (Status::of_signal(SIGPIPE), "ended because nobody reads the program's output".to_owned())
        }
        Stop::Timeout | Stop::Stuck => return None,
    };
    Some(Ending { outcome: Outcome::Interrupted, status, message })
}

fn panicked(message: &str) -> Ending {
    Ending { outcome: Outcome::Panic, status: ending::PANIC, message: format!("the kernel panicked: {message}") }
}

fn refused(message: &str) -> Ending {
    Ending { outcome: Outcome::BadInput, status: ending::REFUSED, message: format!("the kernel refused: {message}") }
}

fn ended(exit: &Exit) -> Ending {
    // Linux keeps the low byte of exit(2)'s argument; so do we should the kernel not have.
    let status = Status((exit.status & 0xff) as u8);
    match exit.outcome {
        ExitKind::Exited => {
            Ending { outcome: Outcome::Exited, status, message: format!("exited with status {status}") }
        }
        ExitKind::Signalled => {
            let status = exit.signal.map_or(status, Status::of_signal);
            let name = exit.signal.map_or_else(|| "a signal".to_owned(), signal_name);
            Ending { outcome: Outcome::Signalled, status, message: format!("ended by {name}") }
        }
        ExitKind::OutOfMemory => Ending {
            outcome: Outcome::OutOfMemory,
            status: ending::OUT_OF_MEMORY,
            message: "killed: it needed more memory than RAM and swap together".to_owned(),
        },
    }
}

fn signal_name(number: u8) -> String {
    let name = match number {
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    format!("{name} (signal {number})")
}

/// The machine's end in words, when it was not a clean one.
fn how_it_ended(seen: &Observed) -> String {
    if seen.stop == Some(Stop::Stuck) {
        return "it said it would end, and did not".to_owned();
    }
    match (seen.guest_ended.as_deref(), seen.status.and_then(|status| status.code())) {
        (Some("guest-reset"), _) | (None, Some(0)) => "the machine reset itself, as a triple fault does".to_owned(),
        (_, Some(CLEAN)) => "the kernel ended cleanly but sent no exit record".to_owned(),
        (Some(reason), _) => format!("the machine stopped ({reason})"),
        (None, _) => qemu_s_words(seen.status, &seen.qemu_messages),
    }
}

fn qemu_s_words(status: Option<ExitStatus>, messages: &str) -> String {
    let how = match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("QEMU ended with status {code}"),
        Some((_, Some(signal))) => format!("QEMU was ended by {}", signal_name(signal.unsigned_abs().min(255) as u8)),
        _ => "QEMU ended".to_owned(),
    };
    if messages.is_empty() { how } else { format!("{how} and said: {messages}") }
}

#[cfg(test)]
mod tests;
