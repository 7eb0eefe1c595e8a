//! What a test decides before a simulation begins, and the clock it runs on.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Seed;
use crate::time::{Clock, Duration, Instant};

/// The order in which ready tasks are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any ready task, as the seed has it: finds what depends on an order that nobody
    /// promised.
    Shuffled,
    /// As [`tick`](crate::Executor::tick) would, without its patience.
    AsInKernel,
}

/// Whether tasks are polled without having been woken. A future must stand that:
/// combinators do it all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spurious {
    /// Only who was woken is polled.
    Never,
    /// Before one step in so many, some task is woken for nothing.
    OneIn(u64),
}

/// What a simulation is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The source of all chance.
    pub seed: Seed,
    /// Who is polled next.
    pub order: Order,
    /// Polls without a cause.
    pub spurious: Spurious,
    /// How far the clock goes with each poll. Not zero, or a task that spins would keep
    /// the others asleep for ever.
    pub poll_cost: Duration,
    /// After how many steps a run is given up.
    pub max_steps: u64,
    /// How many tasks of each class there can be at once.
    pub max_tasks: usize,
    /// How many of the last events the journal keeps; its hash covers all.
    pub keep_events: usize,
}

impl Settings {
    /// Shuffled, nothing spurious, 1 us a poll, a million steps, 64 tasks, 4096 events.
    pub const fn new(seed: Seed) -> Self {
        Self {
            seed,
            order: Order::Shuffled,
            spurious: Spurious::Never,
            poll_cost: Duration::from_micros(1),
            max_steps: 1_000_000,
            max_tasks: 64,
            keep_events: 4096,
        }
    }
}

/// A clock that only the simulation moves.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicU64);

impl VirtualClock {
    pub(crate) fn advance_to(&self, now: Instant) {
        self.0.fetch_max(now.as_nanos(), Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Relaxed))
    }
}
