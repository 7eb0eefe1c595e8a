//! Splitting and merging: the buddy system itself, whatever its blocks are made of.
//!
//! Owns the rule that free space is always merged as far as it goes: two free buddies never stand side by side. Everything else
//! follows from it: an aligned block is free exactly if one free block covers it, and when all is free again, the blocks are those
//! of the beginning. Does not own the blocks: those are in a [`FreeBlocks`].

use super::Span;

/// `2^order` units that begin at a multiple of their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// First unit.
    pub start: u64,
    /// log2 of the number of units.
    pub order: u32,
}

impl Block {
    /// How many units it has.
    pub const fn units(self) -> u64 {
        1 << self.order
    }
    /// The block of `order` that holds this one.
    const fn grown_to(self, order: u32) -> Self {
        Self { start: self.start >> order << order, order }
    }
    /// The other half of the block one order up.
    const fn buddy(self) -> Self {
        Self { start: self.start ^ self.units(), order: self.order }
    }
}

/// Which blocks are free. Implementations only remember; they neither split nor merge.
pub trait FreeBlocks {
    /// Order of the largest blocks there are.
    const MAX_ORDER: u32;
    /// Whether exactly this block is free.
    fn has(&self, block: Block) -> bool;
    /// Adds a block that is not there.
    fn add(&mut self, block: Block);
    /// Takes out a block that is there.
    fn remove(&mut self, block: Block);
    /// Of the smallest blocks that have at least `order`, the lowest.
    fn smallest(&self, order: u32) -> Option<Block>;
}

/// Free blocks that split and merge.
pub struct Buddy<F> {
    free: F,
}

impl<F: FreeBlocks> Buddy<F> {
    /// A buddy system over a store.
    pub fn new(free: F) -> Self {
        Self { free }
    }

    /// The free blocks, as they are.
    pub fn free(&self) -> &F {
        &self.free
    }

    /// Gives a block back, merging it with its buddy as often as that is free too. No part of it may be free.
    #[inline]
    pub fn put(&mut self, mut block: Block) {
        while block.order < F::MAX_ORDER && self.free.has(block.buddy()) {
            self.free.remove(block.buddy());
            block = block.grown_to(block.order + 1);
        }
        self.free.add(block);
    }

    /// Takes a block of `order`: all or the lowest part of the smallest one that is large enough.
    #[inline]
    pub fn take(&mut self, order: u32) -> Option<Block> {
        let found = self.free.smallest(order)?;
        self.free.remove(found);
        let want = Block { start: found.start, order };
        self.put_halves(found, want);
        Some(want)
    }

    /// Takes exactly this block, if all of it is free.
    pub fn take_at(&mut self, block: Block) -> bool {
        let Some(whole) = self.cover(block) else { return false };
        self.free.remove(whole);
        self.put_halves(whole, block);
        true
    }

    /// Whether every unit of the block is free.
    pub fn is_free(&self, block: Block) -> bool {
        self.cover(block).is_some()
    }

    /// Gives a range back, in as few blocks as it has.
    pub fn put_span(&mut self, span: Span) {
        Blocks::of::<F>(span).for_each(|block| self.put(block));
    }

    /// Takes exactly this range, or nothing.
    pub fn take_span(&mut self, span: Span) -> bool {
        let free = Blocks::of::<F>(span).all(|block| self.is_free(block));
        if free {
            for block in Blocks::of::<F>(span) {
                let taken = self.take_at(block);
                debug_assert!(taken, "blocks of one range are apart");
            }
        }
        free
    }

    /// Takes `len` units from a multiple of `2^align` on: a chain of blocks, cut off one that is large enough.
    pub fn take_len(&mut self, len: u64, align: u32) -> Option<Span> {
        let order = len.checked_next_power_of_two()?.trailing_zeros().max(align);
        let block = if order <= F::MAX_ORDER { self.take(order)? } else { return None };
        if let Some(rest) = Span::between(block.start + len, block.start + block.units()) {
            self.put_span(rest);
        }
        Span::new(block.start, len)
    }

    /// The free block that covers this one.
    fn cover(&self, block: Block) -> Option<Block> {
        (block.order..=F::MAX_ORDER).map(|order| block.grown_to(order)).find(|larger| self.free.has(*larger))
    }

    /// Of `whole`, which is taken out, puts back all but `kept`, half by half. No half has a free buddy, so nothing merges.
    #[inline]
    fn put_halves(&mut self, whole: Block, kept: Block) {
        for order in (kept.order..whole.order).rev() {
            self.free.add(kept.grown_to(order).buddy());
        }
    }
}

/// The blocks that a range consists of, in order: the chain of an area of that range.
#[derive(Clone, Debug)]
pub struct Blocks {
    at: u64,
    end: u64,
    max_order: u32,
}

impl Blocks {
    /// The fewest blocks that make up `span`, none larger than the store `F` can hold.
    pub fn of<F: FreeBlocks>(span: Span) -> Self {
        Self { at: span.start(), end: span.end(), max_order: F::MAX_ORDER }
    }
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let order = self.at.trailing_zeros().min((self.end - self.at).checked_ilog2()?).min(self.max_order);
        let block = Block { start: self.at, order };
        self.at += block.units();
        Some(block)
    }
}
