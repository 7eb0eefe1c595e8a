//! How long polls take, and which ones took too long.
//!
//! Owns the measurement of one poll at a time and the record of the longest. Does not
//! own the clock or decide what is done about a slow poll: `executor` reports it in its
//! `Tick`, and the kernel writes the log line.
//!
//! The kernel is cooperative and runs with interrupts off, so the longest stretch of
//! kernel code without a break *is* its worst interrupt latency. A poll of a user
//! thread contains user code, which is interruptible; what counts is each stretch of
//! kernel code between two visits to user mode:
//!
//! ```text
//!   poll begins        user_ran(left, back)          poll ends
//!   │◀── stretch 1 ──▶left ── user mode ── back◀── stretch 2 ──▶│      took = max(stretch 1, stretch 2)
//! ```

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::Mutex;

use crate::task::TaskName;
use crate::time::{Duration, Instant};

/// Whose polls are measured. Each measured poll costs one clock read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nobody's.
    Nothing,
    /// Kernel tasks' only: right where user tasks do not report the time they spend in
    /// user mode.
    KernelTasks,
    /// Everybody's. User tasks must call
    /// [`Executor::user_ran`](crate::Executor::user_ran).
    AllTasks,
}

/// A poll and how long it held the CPU in kernel mode without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollTime {
    /// The task that was polled.
    pub name: TaskName,
    /// Its longest uninterrupted stretch.
    pub took: Duration,
}

impl fmt::Display for PollTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} took {}", self.name, self.took)
    }
}

/// The stopwatch of the poll that is going on, and the longest poll so far.
///
/// The stopwatch is written only by the CPU that polls, hence plain relaxed stores.
/// With several CPUs it belongs into their per-CPU state.
#[derive(Debug)]
pub(crate) struct Meter {
    /// When the present stretch began.
    began: AtomicU64,
    /// The longest finished stretch of this poll.
    stretch: AtomicU64,
    /// `longest.took`, readable without the lock.
    record: AtomicU64,
    longest: Mutex<Option<PollTime>>,
}

impl Meter {
    pub(crate) const fn new() -> Self {
        Self {
            began: AtomicU64::new(0),
            stretch: AtomicU64::new(0),
            record: AtomicU64::new(0),
            longest: Mutex::new(None),
        }
    }

    /// A poll begins.
    #[inline]
    pub(crate) fn begin(&self, now: Instant) {
        self.began.store(now.as_nanos(), Relaxed);
        self.stretch.store(0, Relaxed);
    }

    /// The poll went to user mode at `left` and came back at `back`.
    #[inline]
    pub(crate) fn break_at(&self, left: Instant, back: Instant) {
        self.close(left);
        self.began.store(back.as_nanos(), Relaxed);
    }

    /// The poll ends: its longest stretch.
    #[inline]
    pub(crate) fn end(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.close(now))
    }

    /// Ends the present stretch; the longest one of this poll so far.
    #[inline]
    fn close(&self, now: Instant) -> u64 {
        let stretch = now.as_nanos().saturating_sub(self.began.load(Relaxed));
        let longest = stretch.max(self.stretch.load(Relaxed));
        self.stretch.store(longest, Relaxed);
        longest
    }

    /// Enters a poll into the record if it is the longest yet.
    pub(crate) fn enter(&self, poll: PollTime) {
        if poll.took.as_nanos() <= self.record.load(Relaxed) {
            return;
        }
        let mut longest = self.longest.lock();
        if longest.is_none_or(|old| poll.took > old.took) {
            self.record.store(poll.took.as_nanos(), Relaxed);
            *longest = Some(poll);
        }
    }

    /// The longest poll since the executor was made.
    pub(crate) fn longest(&self) -> Option<PollTime> {
        *self.longest.lock()
    }
}
