//! What happened in a simulation, in order, and the hash of it.
//!
//! Owns the event log. Written by `Sim` and, through [`Journal::note`], by the code
//! under test; read by assertions. Two runs with one seed must agree in every event:
//! comparing the hash says whether they do, comparing the printed tail says where they
//! part.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use spin::Mutex;

use super::{VirtualClock, rng::mix};
use crate::task::{TaskId, TaskName};
use crate::time::{Clock, Instant};

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The simulator saw the task for the first time.
    Appeared(TaskName, TaskId),
    /// The task is about to be polled, for the how many-th time.
    Polled(TaskName, TaskId, u64),
    /// The task returned its output.
    Completed(TaskName, TaskId),
    /// The task's handle was dropped or cancelled, and now its future is dropped.
    Dropped(TaskName, TaskId),
    /// The simulator dropped the task's future, as it was told to.
    Cancelled(TaskName, TaskId),
    /// The simulator woke the task for no reason.
    Spurious(TaskName, TaskId),
    /// Nothing was ready: the clock went ahead to the next deadline.
    Jumped,
    /// The code under test said something.
    Note(&'static str, u64),
}

/// An event and when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// The log of a simulation; clones write to the same one.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Arc<Mutex<Log>>,
    clock: &'static VirtualClock,
}

/// The hash covers everything, the tail only the end: a run of a million events is
/// compared by eight bytes and read, if it must be, by its last page.
#[derive(Debug)]
struct Log {
    hash: u64,
    count: u64,
    tail: VecDeque<Entry>,
    keep: usize,
}

impl Journal {
    pub(crate) fn new(clock: &'static VirtualClock, keep: usize) -> Self {
        let log = Log { hash: 0, count: 0, tail: VecDeque::new(), keep };
        Self { log: Arc::new(Mutex::new(log)), clock }
    }

    /// Writes a remark of the code under test: a word and a number.
    pub fn note(&self, what: &'static str, number: u64) {
        self.write(Event::Note(what, number));
    }

    /// Adds an event at the present time. The lock is there because notes come from
    /// inside polls; nobody contends.
    pub(crate) fn write(&self, event: Event) {
        let entry = Entry { at: self.clock.now(), event };
        let mut log = self.log.lock();
        log.count += 1;
        log.hash = absorb(log.hash, &entry);
        if log.tail.len() == log.keep {
            log.tail.pop_front();
        }
        if log.keep > 0 {
            log.tail.push_back(entry);
        }
    }

    /// The hash of every event so far, with its time and order.
    pub fn hash(&self) -> u64 {
        self.log.lock().hash
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.log.lock().count
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> Vec<Entry> {
        self.log.lock().tail.iter().copied().collect()
    }

    /// The last events as text, one a line.
    pub fn print(&self) -> String {
        use fmt::Write;
        let mut text = String::new();
        for entry in self.tail() {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{entry}");
        }
        text
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at)?;
        match self.event {
            Event::Appeared(name, _) => write!(f, "{name}: appears"),
            Event::Polled(name, _, nth) => write!(f, "{name}: poll {nth}"),
            Event::Completed(name, _) => write!(f, "{name}: completed"),
            Event::Dropped(name, _) => write!(f, "{name}: dropped"),
            Event::Cancelled(name, _) => write!(f, "{name}: cancelled by plan"),
            Event::Spurious(name, _) => write!(f, "{name}: woken for nothing"),
            Event::Jumped => f.write_str("clock jumps"),
            Event::Note(what, number) => write!(f, "{what} {number}"),
        }
    }
}

/// Adds an entry to the hash, word by word. Order matters, as each word is mixed with
/// all before it.
fn absorb(hash: u64, entry: &Entry) -> u64 {
    let (kind, text, number) = match entry.event {
        Event::Appeared(name, id) => (1, name.kind(), id.as_u64()),
        Event::Polled(name, id, nth) => (2, name.kind(), id.as_u64() << 32 ^ nth),
        Event::Completed(name, id) => (3, name.kind(), id.as_u64()),
        Event::Dropped(name, id) => (4, name.kind(), id.as_u64()),
        Event::Cancelled(name, id) => (5, name.kind(), id.as_u64()),
        Event::Spurious(name, id) => (6, name.kind(), id.as_u64()),
        Event::Jumped => (7, "", 0),
        Event::Note(what, number) => (8, what, number),
    };
    let words = [entry.at.as_nanos(), kind, number].into_iter();
    // Text by its bytes: addresses of literals differ between builds.
    words.chain(text.bytes().map(u64::from)).fold(hash, |hash, word| mix(hash.rotate_left(5) ^ mix(word ^ 1)))
}
