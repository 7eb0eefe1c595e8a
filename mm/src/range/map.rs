//! Areas of a range: any length, anywhere or at a fixed place, each with an argument of its owner's.
//!
//! Owns which areas there are, and the free space between them. Phobos calls this the universal buddy allocator; as there, an area
//! whose length is no power of two is a chain of busy blocks. The chain is not stored: [`Blocks`] makes it again from the area's range.
//!
//! ```text
//!            ┌── alloc, alloc_fixed ──▶ allocated, with an argument ── free ──┐
//!     free ──┤                                                                ├──▶ free
//!            └── reserve ─────────────▶ reserved, nobody's ──────── unreserve ┘
//! ```
//! Freeing merges, but may need a node of a tree: who must free without memory keeps areas elsewhere.

use alloc::collections::BTreeMap;

use super::{Blocks, Buddy, Span, SparseBlocks};

/// Why a range was not given or taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RangeError {
    /// No gap is long enough.
    #[error("no gap is long enough")]
    NoRoom,
    /// The range is not wholly inside the map's bounds.
    #[error("outside the bounds of the map")]
    OutOfBounds,
    /// Part of the range is allocated or reserved.
    #[error("part of the range is taken")]
    Taken,
    /// No area begins there.
    #[error("no area begins there")]
    NoSuchArea,
}

/// What is at a place of a [`RangeMap`] that is not free.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Area<A> {
    /// Given out, with its owner's argument.
    Allocated(A),
    /// Kept from everybody.
    Reserved,
}

/// What [`RangeMap::lookup`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a, A> {
    /// All of the area.
    pub span: Span,
    /// What it is.
    pub area: &'a Area<A>,
}

/// A bounded range, and its areas.
pub struct RangeMap<A> {
    bounds: Span,
    buddy: Buddy<SparseBlocks>,
    /// By first unit.
    areas: BTreeMap<u64, (u64, Area<A>)>,
    free: u64,
}

impl<A> RangeMap<A> {
    /// A map of `bounds`, all free.
    pub fn new(bounds: Span) -> Self {
        let mut buddy = Buddy::new(SparseBlocks::new());
        buddy.put_span(bounds);
        Self { bounds, buddy, areas: BTreeMap::new(), free: bounds.len() }
    }

    /// Between which numbers everything happens.
    pub fn bounds(&self) -> Span {
        self.bounds
    }

    /// Units that are neither allocated nor reserved.
    pub fn free_units(&self) -> u64 {
        self.free
    }

    /// Takes `len` units that begin at a multiple of `2^align`. Fails only if there is no such gap.
    pub fn alloc(&mut self, len: u64, align: u32, arg: A) -> Result<Span, RangeError> {
        let found = self.buddy.take_len(len, align).or_else(|| self.take_across_blocks(len, align));
        let span = found.ok_or(RangeError::NoRoom)?;
        self.insert(span, Area::Allocated(arg));
        Ok(span)
    }

    /// Takes exactly this range.
    pub fn alloc_fixed(&mut self, span: Span, arg: A) -> Result<(), RangeError> {
        self.take_fixed(span)?;
        self.insert(span, Area::Allocated(arg));
        Ok(())
    }

    /// Ends the allocated area that begins at `start`, and returns what it was.
    pub fn free(&mut self, start: u64) -> Result<(Span, A), RangeError> {
        match self.areas.remove(&start) {
            Some((len, Area::Allocated(arg))) => Ok((self.put(Span { start, len }), arg)),
            Some(reserved) => {
                self.areas.insert(start, reserved);
                Err(RangeError::NoSuchArea)
            }
            None => Err(RangeError::NoSuchArea),
        }
    }

    /// Keeps a free range from everybody, until [`Self::unreserve`].
    pub fn reserve(&mut self, span: Span) -> Result<(), RangeError> {
        self.take_fixed(span)?;
        self.insert(span, Area::Reserved);
        Ok(())
    }

    /// Ends the reservation that begins at `start`, and returns its range.
    pub fn unreserve(&mut self, start: u64) -> Result<Span, RangeError> {
        match self.areas.get(&start) {
            Some(&(len, Area::Reserved)) => {
                self.areas.remove(&start);
                Ok(self.put(Span { start, len }))
            }
            _ => Err(RangeError::NoSuchArea),
        }
    }

    /// The area that `unit` lies in, if it is not free.
    pub fn lookup(&self, unit: u64) -> Option<Found<'_, A>> {
        let (&start, (len, area)) = self.areas.range(..=unit).next_back()?;
        let span = Span { start, len: *len };
        span.contains(unit).then_some(Found { span, area })
    }

    /// All areas, by address.
    pub fn areas(&self) -> impl Iterator<Item = Found<'_, A>> {
        self.areas.iter().map(|(&start, (len, area))| Found { span: Span { start, len: *len }, area })
    }

    /// Whether a range is free.
    pub fn is_free(&self, span: Span) -> bool {
        Blocks::of::<SparseBlocks>(span).all(|block| self.buddy.is_free(block))
    }

    /// The free blocks, small ones first.
    pub fn free_blocks(&self) -> impl Iterator<Item = super::Block> + '_ {
        self.buddy.free().iter()
    }

    fn insert(&mut self, span: Span, area: Area<A>) {
        self.free -= span.len();
        self.areas.insert(span.start(), (span.len(), area));
    }

    fn put(&mut self, span: Span) -> Span {
        self.free += span.len();
        self.buddy.put_span(span);
        span
    }

    fn take_fixed(&mut self, span: Span) -> Result<(), RangeError> {
        if !self.bounds.covers(span) {
            return Err(RangeError::OutOfBounds);
        }
        if self.buddy.take_span(span) { Ok(()) } else { Err(RangeError::Taken) }
    }

    /// No single block is large enough, but free blocks that are no buddies may lie side by side: looks through the gaps
    /// between areas, in as many steps as there are areas.
    fn take_across_blocks(&mut self, len: u64, align: u32) -> Option<Span> {
        if len == 0 || len > self.free {
            return None;
        }
        let ends = self.areas.iter().map(|(&start, (len, _))| (start, start + len));
        let ends = ends.chain(core::iter::once((self.bounds.end(), self.bounds.end())));
        let mut gap = self.bounds.start();
        for (start, end) in ends {
            let first = gap.checked_next_multiple_of(1u64.checked_shl(align)?);
            let span = first.and_then(|first| Span::new(first, len)).filter(|span| span.end() <= start);
            if let Some(span) = span {
                let taken = self.buddy.take_span(span);
                debug_assert!(taken, "what no area covers is free");
                return taken.then_some(span);
            }
            gap = end;
        }
        None
    }
}

#[cfg(test)]
mod tests;
