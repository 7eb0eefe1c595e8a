//! A bit per block: the store for frames, where nothing may be allocated and most blocks change hands all the time.
//!
//! Owns one [`BitTree`] per order, over words that the caller provides.

use super::{BitTree, Block, FreeBlocks};

/// Free blocks of the orders `0..ORDERS` among the units `0..units`.
pub struct DenseBlocks<const ORDERS: usize> {
    /// `of_order[o]` has a bit per aligned block of order `o`.
    of_order: [BitTree; ORDERS],
}

/// Blocks of an order: what is left over at the end makes no block.
fn blocks(units: usize, order: usize) -> usize {
    (units >> order).max(1)
}

impl<const ORDERS: usize> DenseBlocks<ORDERS> {
    /// Words of storage needed for `units` units: about two bits for each.
    pub fn storage_words(units: usize) -> usize {
        (0..ORDERS).map(|order| BitTree::words_for(blocks(units, order))).sum()
    }

    /// A store for `units` units, none of them free; `storage` has [`Self::storage_words`] words.
    pub fn new(storage: &'static mut [u64], units: usize) -> Self {
        let mut rest = storage;
        let of_order = core::array::from_fn(|order| {
            let len = blocks(units, order);
            let (own, tail) = core::mem::take(&mut rest).split_at_mut(BitTree::words_for(len));
            rest = tail;
            BitTree::new(own, len)
        });
        Self { of_order }
    }

    /// How many blocks of each order are free.
    pub fn counts(&self) -> [usize; ORDERS] {
        core::array::from_fn(|order| self.of_order[order].count())
    }

    #[inline]
    fn bit(block: Block) -> usize {
        (block.start >> block.order) as usize
    }
}

impl<const ORDERS: usize> FreeBlocks for DenseBlocks<ORDERS> {
    const MAX_ORDER: u32 = ORDERS as u32 - 1;

    #[inline]
    fn has(&self, block: Block) -> bool {
        self.of_order[block.order as usize].get(Self::bit(block))
    }
    #[inline]
    fn add(&mut self, block: Block) {
        self.of_order[block.order as usize].set(Self::bit(block));
    }
    #[inline]
    fn remove(&mut self, block: Block) {
        self.of_order[block.order as usize].clear(Self::bit(block));
    }
    #[inline]
    fn smallest(&self, order: u32) -> Option<Block> {
        let found = |order: u32| Some((order, self.of_order[order as usize].first()?));
        let (order, bit) = (order..=Self::MAX_ORDER).find_map(found)?;
        Some(Block { start: (bit as u64) << order, order })
    }
}
