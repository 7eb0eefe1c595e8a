//! Clock hardware: what counts, what interrupts, and what day it is.
//!
//! Owns register layouts ([`hpet`], [`lapic`], [`rtc`]) and the arithmetic that turns them into time ([`tsc`],
//! [`rtc`]). Does not own a notion of "now" or deadlines: the kernel composes its clock from these, and the executor's
//! timer queue says when to interrupt.
//!
//! Nothing here spins to calibrate (design D2): the HPET knows its own period, and the TSC's rate is learnt from it
//! while the machine works.

pub mod hpet;
pub mod lapic;
pub mod rtc;
pub mod tsc;
