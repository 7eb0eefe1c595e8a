//! What keeps strict priority from starving anybody.
//!
//! Owns, for each lane but the first, since when it has been waiting. Asked once per
//! tick, not once per poll.
//!
//! Kernel tasks go first and woken tasks go before pre-empted ones, always. Two
//! programs that wake each other through a pipe would then keep a third, which only
//! computes, from the CPU for ever. So a lane that has had a ready task for longer than
//! `Config::patience` without one poll gets one poll out of turn. With the lane's wait
//! bounded by `patience` plus one tick, and lanes first-in first-out, every ready task
//! is polled after a bounded time.
//!
//! Nobody can have waited long if the last tick left nothing behind. That is the usual
//! case on the way of a page fault (poll, go idle, be woken by the disk), and there
//! neither the clock is read nor anything written.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::run_queue::{Lane, Lanes};
use crate::time::{Duration, Instant};

/// A lane in which nobody waits.
const NOT_WAITING: u64 = u64::MAX;

/// Since when the lower lanes have been waiting, as of the end of the last tick.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    since: [AtomicU64; LOWER.len()],
}

/// Every lane but the first.
const LOWER: [Lane; 3] = [Lane::Woken, Lane::GaveWay, Lane::Preempted];

/// The lanes that had a poll in this tick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served(u8);

impl Served {
    #[inline]
    pub(crate) fn add(&mut self, lane: Lane) {
        self.0 |= 1 << lane as u8;
    }

    fn contains(self, lane: Lane) -> bool {
        self.0 & (1 << lane as u8) != 0
    }
}

impl Patience {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, since: [const { AtomicU64::new(NOT_WAITING) }; LOWER.len()] }
    }

    /// The lane that has waited longest, if that is too long.
    #[inline]
    pub(crate) fn overdue(&self, now: impl FnOnce() -> Instant) -> Option<Lane> {
        let lanes = self.since.iter().map(|since| since.load(Relaxed)).zip(LOWER);
        let (since, lane) = lanes.min_by_key(|(since, _)| *since)?;
        let waits = since != NOT_WAITING;
        (waits && now().since(Instant::from_nanos(since)) > self.limit).then_some(lane)
    }

    /// A tick ends: whoever is left behind in a lane that had no poll goes on waiting,
    /// or begins to.
    #[inline]
    pub(crate) fn end_of_tick(&self, lanes: &Lanes, served: Served, idle: bool, now: impl FnOnce() -> Instant) {
        if idle {
            self.since.iter().for_each(|since| since.store(NOT_WAITING, Relaxed));
            return;
        }
        let now = now().as_nanos();
        for (lane, since) in LOWER.into_iter().zip(&self.since) {
            if lanes.is_empty(lane) {
                since.store(NOT_WAITING, Relaxed);
            } else if served.contains(lane) || since.load(Relaxed) == NOT_WAITING {
                since.store(now, Relaxed);
            }
        }
    }
}
