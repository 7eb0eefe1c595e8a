//! Sizes as people write them: `64M`, `1G`, `65536`.
//!
//! Owns: the syntax, its refusals, and how a size is printed. Does not own which sizes make sense.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

/// Why a word is not a size. Each reads after the word itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// No digits where a number has to begin.
    #[error("is not a size: write bytes, or a number with K, M or G, such as 64M")]
    NotANumber,
    /// A fraction, or digits in groups.
    #[error("has a point or a comma: write a whole number, in a smaller unit if need be, such as 1536M for 1.5G")]
    Separator,
    /// Digits, then something else than one known letter.
    #[error("has an unknown unit: only K, M and G (powers of 1024) are known, as in 64M")]
    UnknownUnit,
    /// Past 2^64.
    #[error("is too large for a size")]
    TooLarge,
}

impl FromStr for Bytes {
    type Err = SizeError;

    fn from_str(word: &str) -> Result<Self, SizeError> {
        let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (digits, unit) = word.split_at(end);
        if digits.is_empty() {
            return Err(SizeError::NotANumber);
        }
        let shift = match unit {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            _ if unit.starts_with(['.', ',']) => return Err(SizeError::Separator),
            _ => return Err(SizeError::UnknownUnit),
        };
        // Digits alone can fail only by being too many.
        let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
        number.checked_mul(1 << shift).map(Bytes).ok_or(SizeError::TooLarge)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = match self.0 {
            0..0x400 => return write!(f, "{} bytes", self.0),
            0x400..0x10_0000 => ("KiB", 10),
            0x10_0000..0x4000_0000 => ("MiB", 20),
            _ => ("GiB", 30),
        };
        if self.0.trailing_zeros() >= shift {
            write!(f, "{} {unit}", self.0 >> shift)
        } else {
            write!(f, "{:.1} {unit}", self.0 as f64 / (1u64 << shift) as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (word, bytes) in
            [("0", 0), ("4096", 4096), ("64M", 64 << 20), ("1k", 1024), ("2G", 2 << 30), ("007K", 7168)]
        {
            assert_eq!(word.parse(), Ok(Bytes(bytes)), "{word}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_reason() {
        for word in ["", "M", "-1", " 1", "none", "./64M"] {
            assert_eq!(word.parse::<Bytes>(), Err(SizeError::NotANumber), "{word}");
        }
        for word in ["1T", "1MB", "64MiB", "1 M"] {
            assert_eq!(word.parse::<Bytes>(), Err(SizeError::UnknownUnit), "{word}");
        }
        for word in ["1.5G", "1,5G", "65,536", "64."] {
            assert_eq!(word.parse::<Bytes>(), Err(SizeError::Separator), "{word}");
        }
        for word in ["18446744073709551616", "99999999999999G"] {
            assert_eq!(word.parse::<Bytes>(), Err(SizeError::TooLarge), "{word}");
        }
    }

    #[test]
    fn sizes_print_in_the_largest_unit_that_fits() {
        for (bytes, text) in
            [(12, "12 bytes"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (6 << 10, "6 KiB"), (1500, "1.5 KiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
