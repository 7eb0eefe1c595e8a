//! Locks on ranges of one file: who holds what, and what is in whose way.
//!
//! Owns the arithmetic of fcntl(2): a range that is locked anew changes its mode, what is unlocked in the middle leaves two ranges,
//! neighbours of one owner in one mode become one. Does not own waiting, nor whom a lock belongs to (`locks.rs`). Pure: a host test
//! (`tests/tests/kernel_range_locks.rs`) holds it against a model that knows each byte's owners.

use alloc::vec::Vec;

/// Bytes from the first up to, not including, the second; to `u64::MAX` is to whatever end the file will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
}

impl Range {
    /// Every byte there may ever be.
    pub const ALL: Self = Self { start: 0, end: u64::MAX };

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What a lock keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From having it alone: a read lock.
    Shared,
    /// From having it at all: a write lock.
    Exclusive,
}

/// A range that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<O> {
    /// Who.
    pub owner: O,
    /// How.
    pub mode: Mode,
    /// Which bytes.
    pub range: Range,
}

/// Why a lock is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<O> {
    /// This one is in the way.
    Conflict(Held<O>),
    /// The file has as many as one file may have, or memory is short.
    Full,
}

/// The locks of one file. No two ranges of one owner overlap or, in the same mode, touch.
#[derive(Debug)]
pub struct RangeLocks<O>(Vec<Held<O>>);

impl<O> Default for RangeLocks<O> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<O: Copy + PartialEq> RangeLocks<O> {
    /// Most ranges that are held of one file.
    pub const MOST: usize = 1024;

    /// What keeps `owner` from a lock: of several, the one that begins first.
    pub fn conflict(&self, owner: O, mode: Mode, range: Range) -> Option<Held<O>> {
        let in_the_way = |held: &&Held<O>| {
            held.owner != owner
                && held.range.overlaps(range)
                && (mode == Mode::Exclusive || held.mode == Mode::Exclusive)
        };
        self.0.iter().filter(in_the_way).min_by_key(|held| held.range.start).copied()
    }

    /// Gives `owner` the range in this mode, whatever it held of it before; or changes nothing.
    pub fn lock(&mut self, owner: O, mode: Mode, range: Range) -> Result<(), Refused<O>> {
        if let Some(held) = self.conflict(owner, mode, range) {
            return Err(Refused::Conflict(held));
        }
        self.make_room()?;
        self.cut(owner, range);
        let mut whole = range;
        self.0.retain(|held| {
            let touches = held.range.start <= whole.end && whole.start <= held.range.end;
            let joins = held.owner == owner && held.mode == mode && touches;
            if joins {
                whole = Range { start: whole.start.min(held.range.start), end: whole.end.max(held.range.end) };
            }
            !joins
        });
        self.0.push(Held { owner, mode, range: whole });
        Ok(())
    }

    /// Takes the range from `owner`. Needs room only in the middle of a range: then two are left of it.
    pub fn unlock(&mut self, owner: O, range: Range) -> Result<(), Refused<O>> {
        let is_split =
            |held: &Held<O>| held.owner == owner && held.range.start < range.start && range.end < held.range.end;
        if self.0.iter().any(is_split) {
            self.make_room()?;
        }
        self.cut(owner, range);
        Ok(())
    }

    /// Takes everything from `owner`; whether it held anything. Needs no memory.
    pub fn release(&mut self, owner: O) -> bool {
        let before = self.0.len();
        self.0.retain(|held| held.owner != owner);
        self.0.len() != before
    }

    /// For what [`Self::cut`] and a new range add at most.
    fn make_room(&mut self) -> Result<(), Refused<O>> {
        const MORE: usize = 2;
        if self.0.len() + MORE > Self::MOST || self.0.try_reserve(MORE).is_err() {
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Takes the range from `owner`, and leaves what it held on both sides of it. Only one range can lie across both ends.
    fn cut(&mut self, owner: O, range: Range) {
        let mut behind = None;
        self.0.retain_mut(|held| {
            if held.owner != owner || !held.range.overlaps(range) {
                return true;
            }
            if held.range.end > range.end {
                behind = Some(Held { range: Range { start: range.end, end: held.range.end }, ..*held });
            }
            held.range.end = range.start;
            held.range.start < held.range.end
        });
        self.0.extend(behind);
    }
}
