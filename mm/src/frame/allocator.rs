//! The buddy allocator of frames.
//!
//! Owns which frames are free, in a [`Buddy`] over one bit per block, with a shelf of single frames in front, and counts by kind.
//! Knows nothing of watermarks' consequences: it only says when free frames fall below `low`, so that reclaim can be woken.

use super::{Frame, FrameKind};
use crate::addr::Pfn;
use crate::range::{Block, Buddy, DenseBlocks, FreeBlocks, Span};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU32, Ordering};
use maitake_sync::{WaitQueue, blocking::Mutex};
use mutex_traits::{ConstInit, ScopedRawMutex};

/// Largest block: 2^10 frames, 4 MiB.
pub const MAX_ORDER: usize = 10;

/// log2 of the number of frames in a block, at most [`MAX_ORDER`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const PAGE: Order = Order(0);

    /// The order `order`, if such blocks exist.
    pub const fn new(order: usize) -> Option<Self> {
        if order <= MAX_ORDER { Some(Self(order as u8)) } else { None }
    }
    /// Smallest order that holds `frames` frames.
    pub const fn holding(frames: usize) -> Option<Self> {
        Self::new(frames.next_power_of_two().trailing_zeros() as usize)
    }
    /// Frames in a block of this order.
    pub const fn frames(self) -> usize {
        1 << self.0
    }
    const fn log2(self) -> u32 {
        self.0 as u32
    }
}

/// How many frames there are, and what they serve as: `total = free + sum(used)`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct FrameCounts {
    /// Frames ever given to the allocator.
    pub total: usize,
    /// Free frames.
    pub free: usize,
    /// Frames in use, by [`FrameKind`].
    pub used: [usize; FrameKind::COUNT],
}

type FrameBlocks = DenseBlocks<{ MAX_ORDER + 1 }>;

struct Pool {
    free: Buddy<FrameBlocks>,
    /// Single frames that are free but not in `free`: taken from it and put back in bulk, because most requests are for one frame.
    shelf: ArrayVec<u32, SHELF>,
    counts: FrameCounts,
}

/// Most frames on the shelf.
const SHELF: usize = 128;
/// Frames taken to or from the shelf at a time: 2 to this power.
const SHELF_ORDER: u32 = 5;

/// Told of every frame given out and taken back: how the simulator knows which frames nobody may touch.
#[cfg(feature = "sim")]
pub trait FrameWatcher: Send + Sync {
    /// `count` frames from `frame` on are somebody's now.
    fn allocated(&self, frame: Pfn, count: usize);
    /// They are nobody's.
    fn freed(&self, frame: Pfn, count: usize);
}

/// Gives out and takes back frames. All methods may be called from anywhere but an interrupt's top half.
pub struct FrameAllocator<L: ScopedRawMutex> {
    pool: Mutex<Pool, L>,
    /// Free frames, readable without the lock: the fault path looks before every allocation.
    free: AtomicU32,
    /// Below this many free frames, `pressure` is signalled.
    low: AtomicU32,
    pressure: WaitQueue<L>,
    #[cfg(feature = "sim")]
    watcher: Mutex<Option<alloc::sync::Weak<dyn FrameWatcher>>, L>,
}

impl<L: ScopedRawMutex + ConstInit> FrameAllocator<L> {
    /// Words of storage needed for frames `0..frames`.
    pub fn storage_words(frames: usize) -> usize {
        FrameBlocks::storage_words(frames)
    }

    /// An allocator for frames `0..frames`, none of them free yet; `storage` has [`Self::storage_words`] words.
    pub fn new(storage: &'static mut [u64], frames: usize) -> Self {
        let free = Buddy::new(FrameBlocks::new(storage, frames));
        let pool = Pool { free, shelf: ArrayVec::new(), counts: FrameCounts::default() };
        Self {
            pool: Mutex::new_with_raw_mutex(pool, L::INIT),
            free: AtomicU32::new(0),
            low: AtomicU32::new(0),
            pressure: WaitQueue::new_with_raw_mutex(L::INIT),
            #[cfg(feature = "sim")]
            watcher: Mutex::new_with_raw_mutex(None, L::INIT),
        }
    }

    /// From now on `watcher` is told of every frame given out and taken back.
    #[cfg(feature = "sim")]
    pub fn watch(&self, watcher: alloc::sync::Weak<dyn FrameWatcher>) {
        self.watcher.with_lock(|place| *place = Some(watcher));
    }

    #[cfg(feature = "sim")]
    fn watcher(&self) -> Option<alloc::sync::Arc<dyn FrameWatcher>> {
        self.watcher.with_lock(|watcher| watcher.as_ref()?.upgrade())
    }

    /// Gives the allocator the frames `start..end`, which must be RAM that nobody uses. For boot, and for boot memory given back later.
    pub fn add_range(&self, start: Pfn, end: Pfn) {
        let Some(span) = Span::between(start.index() as u64, end.index() as u64) else { return };
        let added = span.len() as usize;
        self.pool.with_lock(|pool| {
            pool.free.put_span(span);
            pool.counts.total += added;
            pool.counts.free += added;
        });
        self.free.fetch_add(added as u32, Ordering::Relaxed);
    }

    /// A block of `order`, or `None` if there is none. Never waits.
    pub fn alloc(&self, kind: FrameKind, order: Order) -> Option<Frame> {
        let frame = self.pool.with_lock(|pool| pool.alloc(kind, order))?;
        let left = self.free.fetch_sub(order.frames() as u32, Ordering::Relaxed) - order.frames() as u32;
        if left < self.low.load(Ordering::Relaxed) {
            self.pressure.wake_all();
        }
        #[cfg(feature = "sim")]
        self.watcher().inspect(|watcher| watcher.allocated(frame.pfn, order.frames()));
        Some(frame)
    }

    /// One frame, or `None`.
    pub fn alloc_page(&self, kind: FrameKind) -> Option<Frame> {
        self.alloc(kind, Order::PAGE)
    }

    /// Takes a block back.
    ///
    /// # Panics
    /// If any part of it is free already: somebody forged a token, and memory is corrupt from here on.
    pub fn free(&self, frame: Frame) {
        let frames = frame.order.frames() as u32;
        #[cfg(feature = "sim")]
        self.watcher().inspect(|watcher| watcher.freed(frame.pfn, frame.order.frames()));
        self.pool.with_lock(|pool| pool.free_block(frame));
        self.free.fetch_add(frames, Ordering::Relaxed);
    }

    /// Makes a token for a block that is known by address only: the kernel heap's large blocks carry no token of their own.
    ///
    /// The block must have come from [`Self::alloc`] with the same kind and order, and its token must have been given up by
    /// [`Self::leak`]; a wrong call shows as a double free.
    pub fn adopt(&self, pfn: Pfn, kind: FrameKind, order: Order) -> Frame {
        Frame { pfn, kind, order }
    }

    /// Gives up a token for a bare frame number; see [`Self::adopt`].
    pub fn leak(&self, frame: Frame) -> Pfn {
        frame.pfn
    }

    /// Free frames at this moment.
    pub fn free_frames(&self) -> usize {
        self.free.load(Ordering::Relaxed) as usize
    }

    /// Whether a frame is free; what is no frame at all is not.
    pub fn is_free(&self, frame: Pfn) -> bool {
        self.pool.with_lock(|pool| pool.is_free(frame.index()))
    }

    /// Totals at this moment.
    pub fn counts(&self) -> FrameCounts {
        self.pool.with_lock(|pool| pool.counts)
    }

    /// Free blocks of each order: what `/proc/buddyinfo` shows.
    pub fn free_blocks(&self) -> [usize; MAX_ORDER + 1] {
        self.pool.with_lock(|pool| {
            pool.clear_shelf(SHELF);
            pool.free.free().counts()
        })
    }

    /// Sets the level below which [`Self::pressure`] is signalled.
    pub(crate) fn set_low(&self, frames: usize) {
        self.low.store(frames as u32, Ordering::Relaxed);
    }

    /// Whether fewer than the low watermark are free.
    pub(crate) fn below_low(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.low.load(Ordering::Relaxed)
    }

    /// Where reclaim waits for free frames to fall below the low watermark.
    pub(crate) fn pressure(&self) -> &WaitQueue<L> {
        &self.pressure
    }
}

impl Pool {
    fn alloc(&mut self, kind: FrameKind, order: Order) -> Option<Frame> {
        let at = if order == Order::PAGE { self.take_one()? } else { self.take_block(order.log2())? };
        self.counts.free -= order.frames();
        self.counts.used[kind as usize] += order.frames();
        Some(Frame { pfn: Pfn::new(at as u32), kind, order })
    }

    #[inline]
    fn take_one(&mut self) -> Option<usize> {
        if let Some(frame) = self.shelf.pop() {
            return Some(frame as usize);
        }
        let Some(at) = self.take_block(SHELF_ORDER) else { return self.take_block(0) };
        // Highest first, so that they are taken in order of address.
        self.shelf.extend((at as u32 + 1..(at + (1 << SHELF_ORDER)) as u32).rev());
        Some(at)
    }

    fn take_block(&mut self, want: u32) -> Option<usize> {
        let block = match self.free.take(want) {
            Some(block) => block,
            // The frames may be there, one by one on the shelf.
            None if want > 0 && !self.shelf.is_empty() => {
                self.clear_shelf(SHELF);
                self.free.take(want)?
            }
            None => return None,
        };
        Some(block.start as usize)
    }

    fn free_block(&mut self, frame: Frame) {
        let (at, order) = (frame.pfn.index(), frame.order.log2());
        debug_assert!(!self.is_free(at), "double free of frame {at:#x} ({:?}, order {order})", frame.kind);
        let used = &mut self.counts.used[frame.kind as usize];
        assert!(*used >= frame.order.frames(), "free of frame {at:#x}, which is no {:?} frame", frame.kind);
        *used -= frame.order.frames();
        self.counts.free += frame.order.frames();
        if order > 0 {
            return self.free.put(Block { start: at as u64, order });
        }
        if self.shelf.is_full() {
            self.clear_shelf(1 << SHELF_ORDER);
        }
        self.shelf.push(at as u32);
    }

    fn is_free(&self, at: usize) -> bool {
        self.shelf.contains(&(at as u32)) || self.free.is_free(Block { start: at as u64, order: 0 })
    }

    /// Puts the `count` frames that have been on the shelf longest back into `free`, whole blocks of them at once.
    fn clear_shelf(&mut self, count: usize) {
        let mut frames: ArrayVec<u32, SHELF> = self.shelf.drain(..count.min(self.shelf.len())).collect();
        frames.sort_unstable();
        let mut rest = &frames[..];
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(have, want)| **have == *want).count();
            let order = first.trailing_zeros().min(run.ilog2()).min(FrameBlocks::MAX_ORDER);
            self.free.put(Block { start: first.into(), order });
            rest = &rest[1 << order..];
        }
    }
}

#[cfg(test)]
mod tests;
