//! The main workload: patterns of memory use larger than memory, with every byte checked.
//!
//! `options` reads the command line, `kinds` does the work, `phase` measures and reports it. Output goes to stdout, one
//! `RESULT` line per phase, and `OK KIND` or `FAIL KIND …` at the end; exit status 0 means that all data was right.

mod kinds;
mod options;
mod phase;

pub use kinds::{Failure, run};
pub use options::{HELP, Kind, Options, UsageError};
