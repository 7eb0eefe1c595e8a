//! The operation table: fills and cleans under way.
//!
//! Owns a fixed number of operations and where their pages' waiters wait. An operation belongs to nobody: whoever began it, it is
//! driven to its end by its completion and the pager, and those who need its pages only wait. Dropping a waiter drops a wait.

use crate::addr::Pfn;
use crate::page::Tag;
use crate::platform::{CLUSTER, Slot};
use alloc::vec::Vec;
use arrayvec::ArrayVec;

/// Name of an operation in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpId(u16);

impl OpId {
    /// Operation `raw`.
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// Slot to frame, for pages somebody wants.
    Fill,
    /// Frames to slots, so that frames can be freed.
    Clean,
    /// Slots whose contents are of no use any more.
    Discard,
}

/// One page of an operation.
#[derive(Clone, Copy, Debug)]
pub struct OpPage {
    /// The frame; its descriptor names the page.
    pub frame: Pfn,
    /// What the slot holds, or will hold.
    pub tag: Tag,
}

/// An operation under way.
#[derive(Debug)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// First slot; page `i` has slot `slot + i`.
    pub slot: Slot,
    /// Its pages.
    pub pages: ArrayVec<OpPage, CLUSTER>,
    /// Whether it was tried before.
    pub retried: bool,
}

/// Counts of the table.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct OpCounts {
    /// Fills under way.
    pub fills: usize,
    /// Cleans under way.
    pub cleans: usize,
    /// Discards under way.
    pub discards: usize,
}

impl OpCounts {
    /// Whether anything is under way.
    pub fn any(self) -> bool {
        self.fills + self.cleans + self.discards > 0
    }
}

/// The table.
pub struct OpTable {
    ops: Vec<Option<Op>>,
    free: Vec<u16>,
    counts: OpCounts,
    /// Operations that only cleans may take, so that a storm of faults cannot keep memory from being freed.
    reserve: usize,
}

impl OpTable {
    /// A table of `size` operations.
    pub fn new(size: usize) -> Self {
        let mut ops = Vec::with_capacity(size);
        ops.resize_with(size, || None);
        Self { ops, free: (0..size as u16).rev().collect(), counts: OpCounts::default(), reserve: size / 4 }
    }

    /// Operations that may still begin.
    fn available(&self, kind: OpKind) -> bool {
        self.free.len() > if kind == OpKind::Fill { self.reserve } else { 0 }
    }

    /// Begins an operation, or `None` if the table is full for its kind.
    pub fn begin(&mut self, kind: OpKind, slot: Slot, pages: ArrayVec<OpPage, CLUSTER>) -> Option<OpId> {
        if !self.available(kind) {
            return None;
        }
        let index = self.free.pop()?;
        *self.count(kind) += 1;
        self.ops[usize::from(index)] = Some(Op { kind, slot, pages, retried: false });
        Some(OpId(index))
    }

    /// The operation, which must be under way.
    pub fn get_mut(&mut self, id: OpId) -> Option<&mut Op> {
        self.ops.get_mut(id.index())?.as_mut()
    }

    /// Ends an operation: the table forgets it and hands back what it knew.
    pub fn end(&mut self, id: OpId) -> Option<Op> {
        let op = self.ops.get_mut(id.index())?.take()?;
        *self.count(op.kind) -= 1;
        self.free.push(id.0);
        Some(op)
    }

    /// Everything under way.
    #[cfg(feature = "sim")]
    pub fn iter(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.ops.iter().enumerate().filter_map(|(i, op)| Some((OpId(i as u16), op.as_ref()?)))
    }

    /// Counts at this moment.
    pub fn counts(&self) -> OpCounts {
        self.counts
    }

    /// Operations the table has room for in all.
    pub fn size(&self) -> usize {
        self.ops.len()
    }

    fn count(&mut self, kind: OpKind) -> &mut usize {
        match kind {
            OpKind::Fill => &mut self.counts.fills,
            OpKind::Clean => &mut self.counts.cleans,
            OpKind::Discard => &mut self.counts.discards,
        }
    }
}
