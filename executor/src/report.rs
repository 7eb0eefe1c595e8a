//! What the executor says about itself: one tick, the totals, and a refusal.
//!
//! Owns no state. Reports are plain values: the executor decides nothing about logging,
//! and tests compare whole ticks with what they expect (counts, not times).

use core::fmt;

use crate::meter::PollTime;
use crate::run_queue::Ready;
use crate::task::Class;

/// All places for tasks of this class are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTasks {
    /// The class that is full.
    pub class: Class,
    /// How many it holds.
    pub limit: usize,
}

impl fmt::Display for TooManyTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {} tasks of class {:?} already", self.limit, self.class)
    }
}

impl core::error::Error for TooManyTasks {}

/// What one call of [`tick`](crate::Executor::tick) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "slow polls want to be logged"]
pub struct Tick {
    /// Polls made.
    pub polled: usize,
    /// Tasks that returned their output.
    pub completed: usize,
    /// Tasks that were dropped before they were done.
    pub dropped: usize,
    /// Polls that ended with the task ready again at once (it yielded, or something
    /// woke it meanwhile).
    pub requeued: usize,
    /// Measured polls over [`poll_budget`](crate::Config::poll_budget).
    pub slow: usize,
    /// The longest measured poll.
    pub longest: Option<PollTime>,
    /// Nothing was ready when `tick` returned. After anything that may have woken
    /// somebody (an interrupt window, `Timers::fire`), ask [`Executor::is_idle`]
    /// instead.
    ///
    /// [`Executor::is_idle`]: crate::Executor::is_idle
    pub idle: bool,
}

/// Totals since the executor was made, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Polls made.
    pub polls: u64,
    /// Polls over their budget.
    pub slow_polls: u64,
    /// The longest measured poll.
    pub longest: Option<PollTime>,
    /// Tasks spawned.
    pub spawned: u64,
    /// Tasks that returned their output.
    pub completed: u64,
    /// Tasks that were dropped before they were done.
    pub dropped: u64,
    /// The lengths of the ready queues.
    pub ready: Ready,
}

impl Stats {
    /// Tasks that are neither completed nor dropped.
    pub fn alive(&self) -> u64 {
        self.spawned - self.completed - self.dropped
    }
}
