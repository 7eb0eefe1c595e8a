//! The buddy allocator of frames.
//!
//! Owns which frames are free, as one [`BitTree`] of free blocks per order (Knowlton's buddy system, CACM 8(10), 1965), and counts by kind.
//! Knows nothing of watermarks' consequences: it only says when free frames fall below `low`, so that reclaim can be woken.

use super::{BitTree, Frame, FrameKind};
use crate::addr::Pfn;
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
    const fn index(self) -> usize {
        self.0 as usize
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

struct Buddy {
    /// `free[o]` has a bit per aligned block of order `o`.
    free: [BitTree; MAX_ORDER + 1],
    counts: FrameCounts,
}

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
    buddy: Mutex<Buddy, L>,
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
        (0..=MAX_ORDER).map(|o| BitTree::words_for(blocks(frames, o))).sum()
    }

    /// An allocator for frames `0..frames`, none of them free yet; `storage` has [`Self::storage_words`] words.
    pub fn new(storage: &'static mut [u64], frames: usize) -> Self {
        let mut rest = storage;
        let free = core::array::from_fn(|order| {
            let len = blocks(frames, order);
            let (own, tail) = core::mem::take(&mut rest).split_at_mut(BitTree::words_for(len));
            rest = tail;
            BitTree::new(own, len)
        });
        Self {
            buddy: Mutex::new_with_raw_mutex(Buddy { free, counts: FrameCounts::default() }, L::INIT),
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
        let added = self.buddy.with_lock(|buddy| {
            let (mut at, end) = (start.index(), end.index());
            let added = end.saturating_sub(at);
            while at < end {
                let order = (at.trailing_zeros() as usize).min((end - at).ilog2() as usize).min(MAX_ORDER);
                buddy.insert(at, order);
                at += 1 << order;
            }
            buddy.counts.total += added;
            buddy.counts.free += added;
            added
        });
        self.free.fetch_add(added as u32, Ordering::Relaxed);
    }

    /// A block of `order`, lowest address first, or `None` if there is none. Never waits.
    pub fn alloc(&self, kind: FrameKind, order: Order) -> Option<Frame> {
        let frame = self.buddy.with_lock(|buddy| buddy.alloc(kind, order))?;
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
        self.buddy.with_lock(|buddy| buddy.free_block(frame));
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

    /// Totals at this moment.
    pub fn counts(&self) -> FrameCounts {
        self.buddy.with_lock(|buddy| buddy.counts)
    }

    /// Free blocks of each order: what `/proc/buddyinfo` shows.
    pub fn free_blocks(&self) -> [usize; MAX_ORDER + 1] {
        self.buddy.with_lock(|buddy| {
            core::array::from_fn(|o| (0..buddy.free[o].capacity()).filter(|&i| buddy.free[o].get(i)).count())
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

fn blocks(frames: usize, order: usize) -> usize {
    (frames >> order).max(1)
}

impl Buddy {
    /// Puts a free block in, merging it with its buddy as often as that is free too.
    fn insert(&mut self, mut at: usize, mut order: usize) {
        while order < MAX_ORDER {
            let buddy = (at >> order) ^ 1;
            if !self.free[order].get(buddy) || (at >> (order + 1)) >= self.free[order + 1].capacity() {
                break;
            }
            self.free[order].clear(buddy);
            at &= !(1 << order);
            order += 1;
        }
        self.free[order].set(at >> order);
    }

    fn alloc(&mut self, kind: FrameKind, order: Order) -> Option<Frame> {
        let want = order.index();
        let (found, block) = (want..=MAX_ORDER).find_map(|o| self.free[o].first().map(|b| (o, b)))?;
        self.free[found].clear(block);
        let at = block << found;
        for o in (want..found).rev() {
            self.free[o].set((at >> o) + 1);
        }
        self.counts.free -= order.frames();
        self.counts.used[kind as usize] += order.frames();
        Some(Frame { pfn: Pfn::new(at as u32), kind, order })
    }

    fn free_block(&mut self, frame: Frame) {
        let (at, order) = (frame.pfn.index(), frame.order.index());
        let double = (0..=MAX_ORDER).any(|o| self.free[o].get(at >> o));
        assert!(!double, "double free of frame {:#x} ({:?}, order {order})", at, frame.kind);
        let used = &mut self.counts.used[frame.kind as usize];
        assert!(*used >= frame.order.frames(), "free of frame {at:#x}, which is no {:?} frame", frame.kind);
        *used -= frame.order.frames();
        self.counts.free += frame.order.frames();
        self.insert(at, order);
    }
}

#[cfg(test)]
mod tests;
