//! Scenarios on the simulator and on the machine.

pub mod counting;
pub mod features;
pub mod harness;
pub mod mm;
pub mod programs;
pub mod replacement;
pub mod source;
