//! A tree of free blocks: the store for a range of any size, as long as its areas are few.
//!
//! Owns the tree. Its size goes with the number of free blocks, not of units, so 2^63 units cost as much as 8.

use alloc::collections::BTreeSet;

use super::{Block, FreeBlocks};

/// Free blocks, ordered by size and then by address.
#[derive(Default)]
pub struct SparseBlocks {
    blocks: BTreeSet<(u32, u64)>,
}

impl SparseBlocks {
    /// A store without a free block.
    pub const fn new() -> Self {
        Self { blocks: BTreeSet::new() }
    }

    /// The free blocks, small ones first.
    pub fn iter(&self) -> impl Iterator<Item = Block> + '_ {
        self.blocks.iter().map(|&(order, start)| Block { start, order })
    }
}

impl FreeBlocks for SparseBlocks {
    const MAX_ORDER: u32 = 62;

    fn has(&self, block: Block) -> bool {
        self.blocks.contains(&(block.order, block.start))
    }
    fn add(&mut self, block: Block) {
        self.blocks.insert((block.order, block.start));
    }
    fn remove(&mut self, block: Block) {
        self.blocks.remove(&(block.order, block.start));
    }
    fn smallest(&self, order: u32) -> Option<Block> {
        self.blocks.range((order, 0)..).next().map(|&(order, start)| Block { start, order })
    }
}
