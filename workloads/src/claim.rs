//! Claims: what a small program checks, and the machine-readable line it ends with.
//!
//! A broken claim is printed when it is found and does not stop the program, so that one run shows all of them. The last
//! line is `OK NAME claims=N` with status 0 or `FAIL NAME broken=B claims=N` with status 1.

use std::fmt::{Debug, Display};
use std::process::ExitCode;

/// The claims of one program.
#[derive(Debug)]
pub struct Claims {
    program: &'static str,
    made: u32,
    broken: u32,
}

impl Claims {
    /// No claim yet.
    pub fn new(program: &'static str) -> Self {
        Self { program, made: 0, broken: 0 }
    }

    /// Claims that something holds.
    pub fn holds(&mut self, what: impl Display, holds: bool) {
        self.made += 1;
        if !holds {
            self.broken += 1;
            println!("BROKEN {what}");
        }
    }

    /// Claims that two values are equal.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: impl Display, found: T, expected: T) {
        let equal = found == expected;
        self.holds(format_args!("{what}: found {found:?}, expected {expected:?}"), equal);
    }

    /// Whether every claim so far holds.
    pub fn all_hold(&self) -> bool {
        self.broken == 0
    }

    /// Prints the last line; `details` are further `key=value` words for it.
    pub fn finish(self, details: impl Display) -> ExitCode {
        let Self { program, made, broken } = self;
        let details = details.to_string();
        let space = if details.is_empty() { "" } else { " " };
        if broken == 0 {
            println!("OK {program} claims={made}{space}{details}");
            ExitCode::SUCCESS
        } else {
            println!("FAIL {program} broken={broken} claims={made}{space}{details}");
            ExitCode::FAILURE
        }
    }
}
