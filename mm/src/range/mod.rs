//! Ranges of anything numbered: virtual space, frames, devices' addresses. One buddy system for all of them.
//!
//! - [`Buddy`] splits and merges blocks (Knowlton's buddy system, CACM 8(10), 1965) over a store of free blocks, [`FreeBlocks`].
//! - [`DenseBlocks`] is the store for many units of which most change hands: a bit per block. The frame allocator's.
//! - [`SparseBlocks`] is the store for a vast range with few areas: a tree of the free blocks. [`RangeMap`]'s.
//! - [`RangeMap`] gives out *areas*: of any length, anywhere or at a fixed place, with an argument that [`RangeMap::lookup`] finds.
//!
//! Owns which numbers are free. Does not own, and does not know, what they number. Neighbours: `frame` builds on it; the kernel keeps
//! its own virtual space in a [`RangeMap`]. Swap slots have a map of their own (docs/decisions/range-buddy.md).

mod bits;
mod buddy;
mod dense;
mod map;
mod sparse;

pub use bits::BitTree;
pub use buddy::{Block, Blocks, Buddy, FreeBlocks};
pub use dense::DenseBlocks;
pub use map::{Area, Found, RangeError, RangeMap};
pub use sparse::SparseBlocks;

use core::fmt;

/// The units `start..start + len`. What a unit is, whoever has the range knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    start: u64,
    len: u64,
}

impl Span {
    /// The range of `len` units from `start`, unless it is empty or its end is no number.
    pub const fn new(start: u64, len: u64) -> Option<Self> {
        match (len, start.checked_add(len)) {
            (0, _) | (_, None) => None,
            (_, Some(_)) => Some(Self { start, len }),
        }
    }
    /// The range between two numbers, unless it is empty.
    pub const fn between(start: u64, end: u64) -> Option<Self> {
        if start < end { Some(Self { start, len: end - start }) } else { None }
    }
    /// First unit.
    pub const fn start(self) -> u64 {
        self.start
    }
    /// First unit behind it.
    pub const fn end(self) -> u64 {
        self.start + self.len
    }
    /// Number of units, never 0.
    #[expect(clippy::len_without_is_empty, reason = "a span is never empty")]
    pub const fn len(self) -> u64 {
        self.len
    }
    /// Whether `unit` lies in it.
    pub const fn contains(self, unit: u64) -> bool {
        self.start <= unit && unit < self.end()
    }
    /// Whether all of `other` lies in it.
    pub const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end())
    }
}
