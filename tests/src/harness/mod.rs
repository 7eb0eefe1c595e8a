//! Boots the machine through `ebb run` and judges how that ended: what scenarios in QEMU share.
//!
//! Owns: building what runs ([`Artifacts`]), how many machines run at once ([`slots`]), one run from its command line to
//! its report ([`Run`], [`Running`], [`Finished`]), a second control connection to QEMU ([`qmp`]), a machine that is
//! stopped with its pages on the swap disk ([`stopped`]) and a machine without `ebb` ([`bare`]). Does not own any
//! claim: those are in `tests/machine_*.rs`. Neighbour: `src/bin/qemu-with.rs`, which stands between `ebb` and QEMU and
//! changes QEMU's command line as a scenario asks.
//!
//! Nothing here waits for time to pass: a scenario waits for a line of output, an answer or an end. The only clocks are
//! limits that no healthy run comes near.

mod artifacts;
pub mod bare;
pub mod disk;
mod finished;
pub mod power_cut;
pub mod qmp;
mod run;
mod slots;
pub mod stopped;

use std::hash::{BuildHasher, RandomState};

pub use artifacts::Artifacts;
pub use finished::Finished;
pub use qmp::{Fails, Fault, Place};
pub use run::{Run, Running};

/// Statuses of `ebb` itself (its `--help` documents them).
pub mod status {
    /// Nothing was booted.
    pub const BAD_INPUT: i32 = 120;
    /// QEMU did not start, or the machine ended without a record.
    pub const QEMU_FAILED: i32 = 121;
    /// The kernel panicked.
    pub const PANIC: i32 = 122;
    /// The kernel refused what it was given.
    pub const REFUSED: i32 = 123;
    /// Longer than `--timeout`.
    pub const TIMEOUT: i32 = 124;
}

/// Whether the full counts are asked for (`just soak`).
pub fn soak() -> bool {
    std::env::var_os("EBB_SOAK").is_some_and(|value| !value.is_empty() && value != "0")
}

/// One of two sizes: the first every day, the second in a soak.
pub fn reduced_or_full<T>(reduced: T, full: T) -> T {
    if soak() { full } else { reduced }
}

/// A fresh seed, or the one in `EBB_SEED`. It is part of the command line, which every failure prints.
pub fn seed() -> u64 {
    match std::env::var("EBB_SEED") {
        Ok(text) => text.parse().expect("EBB_SEED is a number"),
        // Keyed from the system's randomness (std::hash::RandomState); shortened, so that people can type it.
        Err(_) => RandomState::new().hash_one(0) % 1_000_000,
    }
}
