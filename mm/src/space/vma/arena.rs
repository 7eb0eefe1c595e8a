//! Where the nodes of an area tree stand: a dense row of them, in blocks of a frame.
//!
//! Owns the blocks. Does not own the links between nodes; when a node is taken out, the last one gets its place, and the tree is told to
//! mend the link to it. Dense, because a program may make 65 530 areas and unmap them again: what it had needed comes back, a block at a
//! time, whichever areas remain. In blocks, because one long row would be copied whenever it grows and needs many frames side by side.
//! Growth can fail ([`Arena::make_room`]) where it is asked for in advance, as it is by all who can be refused.

use super::tree::Node;
use alloc::vec::Vec;

/// Nodes in a block: with 128 bytes each they are a frame.
const BLOCK: usize = 32;
const _: () = assert!(size_of::<Node>() * BLOCK <= 4096, "a block fits a frame");

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// No node.
    pub const NONE: Self = Self(u32::MAX);

    /// Whether this is no node.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// All nodes of one tree.
#[derive(Default)]
pub(super) struct Arena {
    /// All full but the last that has nodes; one empty one may follow.
    blocks: Vec<Vec<Node>>,
    len: usize,
    /// Nodes looked at, for tests that hold the tree to its promises.
    #[cfg(any(test, feature = "sim"))]
    looks: core::cell::Cell<u64>,
}

impl Arena {
    /// Nodes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nodes for which there is room.
    pub fn room(&self) -> usize {
        self.blocks.len() * BLOCK - self.len
    }

    /// Makes room for so many nodes more. `false` if there is no memory for it.
    #[must_use]
    pub fn make_room(&mut self, more: usize) -> bool {
        while self.room() < more {
            let mut block = Vec::new();
            if self.blocks.try_reserve(1).is_err() || block.try_reserve_exact(BLOCK).is_err() {
                return false;
            }
            self.blocks.push(block);
        }
        true
    }

    /// Adds a node. Without room it is taken from where nobody can refuse it.
    pub fn push(&mut self, node: Node) -> NodeId {
        if self.room() == 0 {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[self.len / BLOCK].push(node);
        self.len += 1;
        NodeId(self.len as u32 - 1)
    }

    /// Takes a node out. The last one gets its place, if it is another: its name until now.
    pub fn swap_remove(&mut self, id: NodeId) -> Option<NodeId> {
        self.len -= 1;
        let last = NodeId(self.len as u32);
        let moved = self.blocks[self.len / BLOCK].pop();
        if let (true, Some(moved)) = (last != id, moved) {
            *self.get_mut(id) = moved;
        }
        // One empty block stays until another half is empty, so that a mapping that comes and goes takes no block each time.
        let needed = (self.len + BLOCK / 2).div_ceil(BLOCK);
        self.blocks.truncate(needed.max(1));
        (last != id).then_some(last)
    }

    /// The node of that name.
    #[inline]
    pub fn get(&self, id: NodeId) -> &Node {
        #[cfg(any(test, feature = "sim"))]
        self.looks.set(self.looks.get() + 1);
        &self.blocks[id.0 as usize / BLOCK][id.0 as usize % BLOCK]
    }

    /// As [`Self::get`], to change it.
    pub fn get_mut(&mut self, id: NodeId) -> &mut Node {
        #[cfg(any(test, feature = "sim"))]
        self.looks.set(self.looks.get() + 1);
        &mut self.blocks[id.0 as usize / BLOCK][id.0 as usize % BLOCK]
    }

    /// Nodes looked at so far.
    #[cfg(any(test, feature = "sim"))]
    pub fn looks(&self) -> u64 {
        self.looks.get()
    }
}
