//! Dropping a task's future at a chosen await, and at each of them in turn.
//!
//! Owns the plan of cancellations; `Sim` carries it out. A future that holds a slot, a
//! frame or a descriptor must leave legal state behind wherever it is dropped, and the
//! only way to know is to drop it everywhere.

use super::{Settings, Sim};
use crate::task::TaskName;

/// When a task's future is dropped. Polls count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In place of its n-th poll: what it waited for has happened, and it will never
    /// know.
    BeforePoll(u64),
    /// Right after its n-th poll left it waiting: what it waits for is under way.
    AfterPoll(u64),
}

/// Who is to be cancelled when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) victim: TaskName,
    pub(crate) moment: Moment,
}

/// Runs `scenario` again and again, each time with `victim` dropped one moment later
/// than the time before, until the victim ends by itself first. Returns how many times
/// it was dropped.
///
/// The scenario spawns, runs and judges; it has to expect that the victim does not come
/// to its end ([`Stuck::Cancelled`](super::Stuck) if it is the task whose output is
/// wanted).
pub fn cancel_at_every_await(
    settings: Settings,
    victim: impl Into<TaskName>,
    mut scenario: impl FnMut(&mut Sim),
) -> u64 {
    let victim = victim.into();
    let mut cancelled = 0;
    for poll in 1.. {
        for moment in [Moment::BeforePoll(poll), Moment::AfterPoll(poll)] {
            let mut sim = Sim::new(settings);
            sim.cancel(victim, moment);
            scenario(&mut sim);
            match (moment, sim.cancelled()) {
                // It was not polled that often: every await has had its turn.
                (Moment::BeforePoll(_), 0) => return cancelled,
                (_, times) => cancelled += times,
            }
        }
    }
    unreachable!("a victim polled 2^64 times")
}
