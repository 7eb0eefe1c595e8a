//! What keeps strict priority from starving anybody.
//!
//! Owns, for each lane but the first, the time since when it has been waiting. Asked once per tick, not once per poll.
//!
//! Kernel tasks go first and woken tasks go before pre-empted ones, always. Two programs that wake each other through a
//! pipe would then keep a third, which only computes, from the CPU for ever. So a lane that has had a ready task for
//! longer than `Config::patience` without one poll gets one poll out of turn. With the lane's wait bounded by
//! `patience` plus one tick, and lanes first-in first-out, every ready task is polled after a bounded time.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::run_queue::{Lane, Lanes};
use crate::time::{Duration, Instant};

/// Since when the lower lanes have been waiting.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    woken: AtomicU64,
    preempted: AtomicU64,
}

impl Patience {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            woken: AtomicU64::new(now.as_nanos()),
            preempted: AtomicU64::new(now.as_nanos()),
        }
    }

    /// A lane that has waited too long, if there is one. The more patient of two goes first.
    pub(crate) fn overdue(&self, lanes: &Lanes, now: Instant) -> Option<Lane> {
        let mut longest = (self.limit, None);
        for lane in [Lane::Woken, Lane::Preempted] {
            if lanes.is_empty(lane) {
                self.served(lane, now);
                continue;
            }
            let since = self
                .since(lane)
                .map_or(now, |since| Instant::from_nanos(since.load(Relaxed)));
            if now.since(since) > longest.0 {
                longest = (now.since(since), Some(lane));
            }
        }
        longest.1
    }

    /// The lane had a poll.
    #[inline]
    pub(crate) fn served(&self, lane: Lane, now: Instant) {
        if let Some(since) = self.since(lane) {
            since.store(now.as_nanos(), Relaxed);
        }
    }

    /// The kernel lane is served first and never waits.
    #[inline]
    fn since(&self, lane: Lane) -> Option<&AtomicU64> {
        match lane {
            Lane::Kernel => None,
            Lane::Woken => Some(&self.woken),
            Lane::Preempted => Some(&self.preempted),
        }
    }
}
