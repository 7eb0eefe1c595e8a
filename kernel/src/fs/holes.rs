//! Holes: fallocate(2) with `FALLOC_FL_PUNCH_HOLE` and `FALLOC_FL_ZERO_RANGE`; and the blocks of a file that is buried, taken away in steps.
//!
//! Owns what becomes of a range's pages and blocks, and in which order. Does not own how pages are taken out of an object
//! (`mm::object::vacate`) nor how the library removes blocks. Neighbours: `file.rs` (the gate, the extents), `ext4.rs`.
//!
//! ```text
//!   edges within a page ─► zeroes, written as any write
//!   whole pages, step by step: mm: closed, emptied ─► fiber: blocks go, extents forgotten ─► mm: open
//! ```
//! Every step is whole: who is killed between two of them leaves a shorter hole. What was stored in the range and not yet written is
//! lost with it, also if the disk then fails to take the blocks away.

use alloc::sync::Arc;
use core::ops::Range;

use mm::object::{ObjectId, ObjectPage};
use mm::space::SpaceId;
use rsext4::{FileExtentState, FileExtentTarget, RangeOperation, ZeroRangeOptions};

use super::attributes::{Attributes, FileType};
use super::blocks::{BLOCK, Blocks};
use super::disk::DataVolume;
use super::ext4::{Ino, Volume, errno as library_errno};
use super::extents::{FilePage, Run};
use super::file::{FileData, errno};
use crate::mm;
use crate::syscall::errno::Errno;

/// Blocks taken away in one step, at most: others want the fiber, too, and a step should be shorter than a time slice.
const STEP: u64 = 64;

/// What becomes of the blocks of a range that reads as zeroes from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// They are given back: a hole.
    GivenBack,
    /// The range has blocks, without contents.
    Reserved,
}

/// What is left of blocks that go step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// More than should go in one step.
    More,
    /// What the burial itself sees to.
    Few,
}

impl DataVolume {
    /// Takes most of the blocks of a file without names away, and lets others have the fiber in between. After a power cut what is left
    /// goes, because the inode is on the list of orphans.
    pub(super) async fn thin(&self, ino: Ino) -> Result<(), Errno> {
        while self.call(move |volume| volume.take_from_end(ino)).await? == Left::More {
            // As if preempted: a thread whose slice ended while the fiber worked comes first.
            crate::executor().end_turn().await;
        }
        Ok(())
    }
}

impl FileData {
    /// Makes a range read as zeroes, as far as the file goes; its end does not move.
    pub async fn empty(
        self: &Arc<Self>,
        volume: &'static DataVolume,
        space: SpaceId,
        (offset, len): (u64, u64),
        blocks: Emptied,
    ) -> Result<(), Errno> {
        let _gate = self.gate.lock().await;
        let size = self.size();
        self.note_change();
        // The library takes no blocks away behind the end that the disk knows of.
        self.settle(volume, size).await?;
        self.note_change();
        if blocks == Emptied::Reserved {
            let ino = self.ino();
            volume.call(move |volume| volume.allocate(ino, offset, len, true)).await?;
        }
        let Parts { pages, edges } = Parts::of(offset..offset + len, size);
        for edge in edges {
            let has_block = matches!(self.run(FilePage(edge.start / BLOCK as u64), 1), Run::Blocks { .. });
            if has_block || blocks == Emptied::Reserved {
                write_zeroes(self.object(), space, edge).await?;
            }
        }
        let mut at = pages.start;
        while at < pages.end {
            let run = self.run(FilePage(at), pages.end - at);
            let pages = if matches!(run, Run::Blocks { .. }) { run.pages().min(STEP) } else { run.pages() };
            self.empty_pages(volume, FilePage(at), pages, blocks).await?;
            at += pages;
            crate::executor().end_turn().await;
        }
        Ok(())
    }

    async fn empty_pages(
        self: &Arc<Self>,
        volume: &'static DataVolume,
        page: FilePage,
        pages: u64,
        blocks: Emptied,
    ) -> Result<(), Errno> {
        let first = ObjectPage::new(page.0);
        let vacant = mm().vacate(self.object(), first..first.after(pages)).await.map_err(errno)?;
        let file = Arc::clone(self);
        let work = move |volume: &mut Volume<'_, _>| {
            let done = volume.empty(file.ino(), page, pages, blocks);
            // What is there now, however far it got.
            let left = volume.extents(file.ino(), page, pages).unwrap_or_default();
            file.replace_extents(page, pages, left);
            // Also if the caller does not live to see it: not before the blocks are gone.
            drop(vacant);
            done
        };
        volume.call(work).await
    }
}

/// Writes zeroes to an object, a little at a time.
pub(super) async fn write_zeroes(object: ObjectId, space: SpaceId, range: Range<u64>) -> Result<(), Errno> {
    const ZEROES: [u8; 512] = [0; 512];
    let mut at = range.start;
    while at < range.end {
        let part = (range.end - at).min(ZEROES.len() as u64);
        at += mm().object_write_bytes(object, at, space, &ZEROES[..part as usize]).await.map_err(errno)?;
    }
    Ok(())
}

/// A range that is to be emptied: pages as a whole, and at most one stretch within a page before them and one behind.
pub(super) struct Parts {
    pub pages: Range<u64>,
    pub edges: [Range<u64>; 2],
}

impl Parts {
    /// Of bytes of a file of this size: nothing is behind its end, so the page that it ends in may go whole.
    pub fn of(bytes: Range<u64>, size: u64) -> Self {
        const PAGE: u64 = BLOCK as u64;
        let (first, inside) = (bytes.start.div_ceil(PAGE), bytes.end / PAGE);
        let last = if bytes.end >= size { inside.max(size.div_ceil(PAGE)) } else { inside };
        let pages = first..last.max(first);
        let end = bytes.end.min(size);
        let before = bytes.start..end.min(pages.start * PAGE);
        let behind = (pages.end * PAGE).max(bytes.start)..end;
        Self { pages, edges: [before, behind] }
    }
}

impl<B: Blocks> Volume<'_, B> {
    /// Takes the blocks of a range's pages away, or what they hold. In memory there must be none of the pages.
    fn empty(&mut self, ino: Ino, page: FilePage, pages: u64, blocks: Emptied) -> Result<(), Errno> {
        let in_bytes = |pages: u64| pages.checked_mul(BLOCK as u64).ok_or(Errno::EFBIG);
        let operation = match blocks {
            Emptied::GivenBack => {
                self.split_before(ino, page, pages)?;
                RangeOperation::PunchHole
            }
            Emptied::Reserved => RangeOperation::Zero(ZeroRangeOptions::KEEP_SIZE),
        };
        let number = ino.raw()?;
        self.changing()
            .operate_inode_range(number, in_bytes(page.0)?, in_bytes(pages)?, operation)
            .map_err(library_errno)
    }

    /// Takes away at most [`STEP`] of the blocks at a file's end: a part of what a burial would otherwise do in one go. In memory there
    /// must be none of the pages.
    fn take_from_end(&mut self, ino: Ino) -> Result<Left, Errno> {
        const ONE: u64 = BLOCK as u64;
        let Attributes { kind, size, .. } = self.inspect(ino)?.attributes;
        // Of other kinds the library shows no extents, and they are small.
        if kind != FileType::Regular || size == 0 {
            return Ok(Left::Few);
        }
        let number = ino.raw()?;
        let map = self.library().inode_extents(number, 0, size, FileExtentTarget::Data, usize::MAX);
        let extents = map.map_err(library_errno)?.extents;
        // One that goes on behind the end, where blocks were reserved, is shown whole; only its middle could be removed (see `split_before`).
        let is_beyond = |extent: &rsext4::FileExtent| extent.logical_start + extent.length > size.next_multiple_of(ONE);
        if extents.last().is_some_and(is_beyond) {
            return Ok(Left::Few);
        }
        let (mut left, mut from) = (STEP, 0);
        for extent in extents.iter().rev() {
            let blocks = extent.length.div_ceil(ONE);
            if blocks >= left {
                from = extent.logical_start + (blocks - left) * ONE;
                break;
            }
            left -= blocks;
        }
        if from == 0 {
            return Ok(Left::Few);
        }
        let operation = RangeOperation::PunchHole;
        self.changing().operate_inode_range(number, from, size - from, operation).map_err(library_errno)?;
        Ok(Left::More)
    }

    /// Sees to it that no extent begins before a range and ends behind it.
    ///
    /// Removing the middle of an extent leaves two, and the library does not make room for the second in a node that is full: it finds
    /// the file damaged, and refuses (rsext4 0.9.2, `ExtentTree::remove_extent`). Where the first page of the range is another kind of
    /// extent than its neighbours, the tree has grown for that by the way that can, and what is left to remove begins where an extent does.
    fn split_before(&mut self, ino: Ino, page: FilePage, pages: u64) -> Result<(), Errno> {
        const ONE: u64 = BLOCK as u64;
        let Some(before) = page.0.checked_sub(1) else { return Ok(()) };
        let (number, start, at) = (ino.raw()?, before * ONE, page.0 * ONE);
        let len = (pages + 2).saturating_mul(ONE);
        let map = self.library().inode_extents(number, start, len, FileExtentTarget::Data, 1).map_err(library_errno)?;
        let around = map.extents.first().filter(|extent| extent.logical_start <= start);
        // What is behind the file's end is not shown.
        let Some(around) = around.filter(|extent| extent.logical_start + extent.length > at) else { return Ok(()) };
        match around.state {
            FileExtentState::Initialized => {
                let unwritten = RangeOperation::Zero(ZeroRangeOptions::KEEP_SIZE);
                self.changing().operate_inode_range(number, at, ONE, unwritten).map_err(library_errno)
            }
            FileExtentState::Unwritten => self.write_zeroes(ino, page, 1),
            FileExtentState::Inline => Ok(()),
        }
    }
}
