//! The main workload: patterns of memory use larger than memory, with every byte checked.
//!
//! `options` reads the command line, `kinds` does the work. Output goes to stdout, one `RESULT` line per phase, and
//! `OK KIND` or `FAIL KIND …` at the end; exit status 0 means that all data was right.

mod kinds;
mod options;

pub use options::{HELP, Kind, Options};
