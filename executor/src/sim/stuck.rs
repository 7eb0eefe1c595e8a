//! Why a simulation could not go on, with the names of those who hang.
//!
//! Owns the report only; `Sim` finds out. A lost wake-up on the machine is a machine
//! that stands still, with nothing to look at. Here it is a value that names who waits
//! and since which poll.

use alloc::vec::Vec;
use core::fmt;

use crate::task::TaskName;
use crate::time::Instant;

/// A task that had not ended when the simulation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The task.
    pub name: TaskName,
    /// How often it was polled.
    pub polls: u64,
}

/// The simulation could not be brought to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing is ready, nobody sleeps, and these wait for a wake-up that can never
    /// come.
    Deadlock {
        /// When it stood still.
        at: Instant,
        /// Who waits.
        waiting: Vec<Unfinished>,
    },
    /// The step limit is reached: something goes round in circles, or the limit is too
    /// low.
    StepLimit {
        /// The limit.
        steps: u64,
        /// Who was ready, busiest first.
        ready: Vec<Unfinished>,
        /// Who was waiting.
        waiting: Vec<Unfinished>,
    },
    /// The task whose output was wanted was cancelled.
    Cancelled(TaskName),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { at, waiting } => {
                write!(f, "deadlock at {at}: nothing is ready, waiting: {}", Names(waiting))
            }
            Self::StepLimit { steps, ready, waiting } => {
                write!(f, "no end after {steps} steps, ready: {}; waiting: {}", Names(ready), Names(waiting))
            }
            Self::Cancelled(name) => write!(f, "{name} was cancelled"),
        }
    }
}

impl core::error::Error for Stuck {}

struct Names<'a>(&'a [Unfinished]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody");
        }
        for (index, task) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} (poll {})", task.name, task.polls)?;
        }
        Ok(())
    }
}
