//! Scenarios on the simulator and on the machine.

pub mod programs;
