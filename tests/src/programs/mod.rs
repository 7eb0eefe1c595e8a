//! The programs that a kernel has to run, with what must come out: one table for Linux and for Ebb.
//!
//! `catalogue` is the table, `build` makes the executables on demand,
//! `debian` those of others, `judge` compares an outcome with what was expected.
//! Running is not done here: on Linux `tests/programs_on_linux.rs` does it, on the machine the QEMU scenarios.

mod build;
mod catalogue;
mod debian;
mod judge;

pub use build::{BuildError, Flavour, Program};
pub use catalogue::{CASES, Case, PROCESS_CASES};
pub use debian::Package;
pub use judge::{Expected, Outcome};
