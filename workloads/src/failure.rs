//! Why a workload ended badly: what its last line says after `FAIL KIND`.
//!
//! Owns the words only. What a page should hold is `content`'s to know, and each workload finds its own faults.

use std::fmt;
use std::io;

use crate::content::Corrupt;

/// Why a run ended badly.
#[derive(Debug)]
pub enum Failure {
    /// A word came back wrong.
    Corrupt(Corrupt),
    /// A page that was never written is not zero.
    NotZero(u64),
    /// Every page is right on its own, but writes got lost or happened twice.
    Versions {
        /// The sum of all pages' versions.
        found: u64,
        /// How many touches wrote.
        writes: u64,
    },
    /// Something that the program left in memory is not what it left there.
    Wrong {
        /// What it is.
        what: &'static str,
        /// Where it is, in units of its own: a page, a word, an element.
        at: u64,
        /// What was left there.
        expected: u64,
        /// What was read.
        found: u64,
    },
    /// Another process of the workload ended badly, with this wait status.
    Child(i32),
    /// A system call failed.
    System(&'static str, io::Error),
}

impl Failure {
    /// That two values are equal, or what is wrong.
    #[inline]
    pub fn unless_equal(what: &'static str, at: u64, expected: u64, found: u64) -> Result<(), Self> {
        if found == expected { Ok(()) } else { Err(Self::Wrong { what, at, expected, found }) }
    }

    /// What a failed system call is, for `map_err`.
    pub fn of(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System(call, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(corrupt) => corrupt.fmt(out),
            Self::NotZero(page) => write!(out, "not-zero page={page}"),
            Self::Versions { found, writes } => {
                write!(out, "versions found={found} writes={writes}")
            }
            Self::Wrong { what, at, expected, found } => {
                write!(out, "{what} at={at} expected={expected:#x} found={found:#x}")
            }
            Self::Child(status) => write!(out, "child status={status:#x}"),
            Self::System(call, error) => write!(out, "{call}: {error}"),
        }
    }
}

impl From<Corrupt> for Failure {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}
