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
    /// A system call failed.
    System(&'static str, io::Error),
}

impl Failure {
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
            Self::System(call, error) => write!(out, "{call}: {error}"),
        }
    }
}

impl From<Corrupt> for Failure {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}
