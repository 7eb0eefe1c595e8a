//! What is decided when an executor is made.
//!
//! Every limit is here and none can be changed later: the queues are allocated once
//! with these sizes, which is why waking never has to.

use core::fmt;

use crate::meter::Measure;
use crate::time::{Clock, Duration};

/// What an executor is made with.
#[derive(Clone, Copy)]
pub struct Config {
    /// Where time comes from.
    pub clock: &'static dyn Clock,
    /// How many kernel tasks there can be at once. Costs 16 bytes each.
    pub max_kernel_tasks: usize,
    /// How many user tasks there can be at once. Costs 48 bytes each.
    pub max_user_tasks: usize,
    /// Whose polls are measured. Kernel tasks by default, since a user task's poll
    /// contains its time in user mode.
    pub measure: Measure,
    /// A measured poll that takes longer is counted and reported as slow.
    pub poll_budget: Duration,
    /// How long a ready user task waits behind tasks of higher rank before it gets one
    /// poll out of turn.
    pub patience: Duration,
    /// How long a user task may give way again and again before it goes behind those that were pre-empted: as long as a
    /// time slice.
    pub turn: Duration,
}

impl Config {
    /// The usual figures: 64 kernel tasks, 1024 user tasks, kernel tasks measured, 1 ms
    /// a poll, 50 ms of patience, 10 ms a turn.
    pub const fn new(clock: &'static dyn Clock) -> Self {
        Self {
            clock,
            max_kernel_tasks: 64,
            max_user_tasks: 1024,
            measure: Measure::KernelTasks,
            poll_budget: Duration::from_millis(1),
            patience: Duration::from_millis(50),
            turn: Duration::from_millis(10),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("max_kernel_tasks", &self.max_kernel_tasks)
            .field("max_user_tasks", &self.max_user_tasks)
            .field("measure", &self.measure)
            .field("poll_budget", &self.poll_budget)
            .field("patience", &self.patience)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}
