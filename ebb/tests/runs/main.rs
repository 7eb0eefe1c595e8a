//! Whole runs of `ebb` against a test double of QEMU: every way a run can end, and what the user keeps.

mod bad_input;
mod bench;
mod endings;
mod streams;
