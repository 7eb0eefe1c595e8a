//! The operation table: fills and cleans under way.
//!
//! Owns a fixed number of operations and where their pages' waiters wait. An operation belongs to nobody: whoever began it, it is
//! driven to its end by its completion and the pager, and those who need its pages only wait. Dropping a waiter drops a wait.

use crate::addr::Pfn;
use crate::file_store::FileError;
use crate::object::{ObjectId, ObjectPage};
use crate::page::Tag;
use crate::platform::{CLUSTER, IoFrames, Slot};
use alloc::boxed::Box;
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
    /// Blocks for pages of a file that are about to be written to.
    Prepare,
    /// Pages of the compressed tier to slots. Its pages are the tier's to know: it is one such operation at a time.
    WriteBack,
}

/// Where an operation moves its pages from or to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Slots from this one on; page `i` has the slot `i` further on.
    Slots(Slot),
    /// Pages of a file from this one on, and how many.
    File(ObjectId, ObjectPage, u32),
}

impl Target {
    /// The slot of page `i`.
    pub fn slot(self, i: usize) -> Option<Slot> {
        let Self::Slots(first) = self else { return None };
        Some(Slot::new(first.as_u32() + i as u32))
    }

    /// Whether it is about a page of `object` at or behind `page`.
    pub fn reaches(self, object: ObjectId, page: ObjectPage) -> bool {
        matches!(self, Self::File(of, first, count) if of == object && first.after(u64::from(count)) > page)
    }

    /// Whether it is about a page of `object` from `page` on, before `end`.
    pub fn overlaps(self, object: ObjectId, page: ObjectPage, end: ObjectPage) -> bool {
        self.reaches(object, page) && matches!(self, Self::File(_, first, _) if first < end)
    }

    /// Whether it is about `page` of `object`.
    pub fn is_about(self, object: ObjectId, page: ObjectPage) -> bool {
        self.reaches(object, page) && matches!(self, Self::File(_, first, _) if first <= page)
    }
}

/// An operation that somebody waits for, told from later ones of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awaited {
    op: OpId,
    serial: u64,
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
    /// From where, or to where.
    pub target: Target,
    /// Which operation this is of all there ever were.
    pub serial: u64,
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
    /// Prepares under way.
    pub prepares: usize,
    /// Pages of the tier being written: at most one request.
    pub write_backs: usize,
}

impl OpCounts {
    /// Whether anything is under way.
    pub fn any(self) -> bool {
        self.total() > 0
    }

    /// All that is under way.
    pub fn total(self) -> usize {
        self.fills + self.cleans + self.discards + self.prepares + self.write_backs
    }
}

/// The table.
pub struct OpTable {
    ops: Vec<Option<Box<Op>>>,
    free: Vec<u16>,
    /// Places that no operation stands in. An operation is half a kilobyte: it is written where it stays, and never moved. One place
    /// more than there are names, for the operation that has ended and is being looked at.
    #[expect(clippy::vec_box, reason = "the places themselves go in and out")]
    idle: Vec<Box<Op>>,
    /// Places for the frames of requests: one for each operation, for the one that has ended, and for the next cluster.
    frames: Vec<IoFrames>,
    counts: OpCounts,
    /// Operations that only cleans may take, so that a storm of faults cannot keep memory from being freed.
    reserve: usize,
    /// Operations ever begun.
    serial: u64,
    /// The last error that each name ended in.
    errors: Vec<Option<(u64, FileError)>>,
}

impl OpTable {
    /// A table of `size` operations.
    pub fn new(size: usize) -> Self {
        let empty = || Op {
            kind: OpKind::Discard,
            target: Target::Slots(Slot::new(0)),
            serial: 0,
            pages: ArrayVec::new(),
            retried: false,
        };
        Self {
            ops: core::iter::repeat_with(|| None).take(size).collect(),
            free: (0..size as u16).rev().collect(),
            idle: core::iter::repeat_with(|| Box::new(empty())).take(size + 1).collect(),
            frames: core::iter::repeat_with(IoFrames::with_room).take(size + 2).collect(),
            counts: OpCounts::default(),
            reserve: size / 4,
            serial: 0,
            errors: alloc::vec![None; size],
        }
    }

    /// Operations of a kind that may still begin.
    pub fn room(&self, kind: OpKind) -> usize {
        let reserve = if matches!(kind, OpKind::Fill | OpKind::Prepare) { self.reserve } else { 0 };
        self.free.len().saturating_sub(reserve)
    }

    /// Whether an operation of a kind could begin now.
    pub fn has_room(&self, kind: OpKind) -> bool {
        self.room(kind) > 0
    }

    /// Begins an operation, or `None` if the table is full for its kind.
    pub fn begin(&mut self, kind: OpKind, target: Target, pages: &[OpPage]) -> Option<OpId> {
        if !self.has_room(kind) {
            return None;
        }
        let index = self.free.pop()?;
        let Some(mut op) = self.idle.pop() else { unreachable!("a place for each name") };
        *self.count(kind) += 1;
        self.serial += 1;
        (op.kind, op.target, op.serial, op.retried) = (kind, target, self.serial, false);
        op.pages.clear();
        op.pages.extend(pages.iter().copied());
        self.ops[usize::from(index)] = Some(op);
        Some(OpId(index))
    }

    /// A place for the frames of the request that an operation is about to make.
    pub fn frames(&mut self) -> IoFrames {
        let Some(frames) = self.frames.pop() else { unreachable!("a place for each operation") };
        debug_assert!(frames.is_empty(), "{frames:?} were left behind");
        frames
    }

    /// Takes back what an operation that has ended stood in, and the place of its frames.
    pub fn put_back(&mut self, op: Box<Op>, frames: IoFrames) {
        self.idle.push(op);
        self.put_back_frames(frames);
    }

    /// Takes back a place for frames.
    pub fn put_back_frames(&mut self, frames: IoFrames) {
        debug_assert!(frames.is_empty(), "{frames:?} are left behind");
        if frames.is_place() {
            self.frames.push(frames);
        }
    }

    /// The operation, which must be under way.
    pub fn get_mut(&mut self, id: OpId) -> Option<&mut Op> {
        self.ops.get_mut(id.index())?.as_deref_mut()
    }

    /// Ends an operation: the table forgets it and hands over what it knew, to be [put back](Self::put_back).
    pub fn end(&mut self, id: OpId) -> Option<Box<Op>> {
        let op = self.ops.get_mut(id.index())?.take()?;
        *self.count(op.kind) -= 1;
        self.free.push(id.0);
        Some(op)
    }

    /// Ends an operation on a file, and remembers the error for those who wait.
    pub fn end_in(&mut self, id: OpId, result: Result<(), FileError>) -> Option<Box<Op>> {
        let op = self.end(id)?;
        if let Err(error) = result {
            self.errors[id.index()] = Some((op.serial, error));
        }
        Some(op)
    }

    /// What to ask [`Self::error`] for later on.
    pub fn awaited(&self, id: OpId) -> Option<Awaited> {
        Some(Awaited { op: id, serial: self.ops.get(id.index())?.as_ref()?.serial })
    }

    /// The error that an operation ended in, if it did.
    pub fn error(&self, awaited: Awaited) -> Option<FileError> {
        self.errors[awaited.op.index()].filter(|(serial, _)| *serial == awaited.serial).map(|(_, error)| error)
    }

    /// Operations begun so far: each one under way now has a serial number of at most this.
    pub fn begun(&self) -> u64 {
        self.serial
    }

    /// The first operation under way of which this is true.
    pub fn find(&self, wanted: impl Fn(&Op) -> bool) -> Option<OpId> {
        self.ops.iter().position(|op| op.as_deref().is_some_and(&wanted)).map(|i| OpId(i as u16))
    }

    /// Everything under way.
    #[cfg(feature = "sim")]
    pub fn iter(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.ops.iter().enumerate().filter_map(|(i, op)| Some((OpId(i as u16), op.as_deref()?)))
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
            OpKind::Prepare => &mut self.counts.prepares,
            OpKind::WriteBack => &mut self.counts.write_backs,
        }
    }
}
