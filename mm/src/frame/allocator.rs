//! The buddy allocator of frames.
//!
//! Owns which frames are free, in a [`Buddy`] over one bit per block, with a shelf of single frames in front, and counts by kind.
//! Knows nothing of watermarks' consequences: it only says when free frames fall below `low`, so that reclaim can be woken.

use super::failures::Failures;
use super::roles::{Role, Roles};
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
    /// Single frames that are free, in no other place, and full of zeroes.
    zeroed: ArrayVec<u32, ZEROED>,
    roles: Roles,
    total: usize,
    used: [usize; FrameKind::COUNT],
    misuses: [u32; FreeError::COUNT],
    /// The allocations that a test has asked to fail.
    failures: Option<Failures>,
}

/// Why frames cannot be freed. Each is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(u8)]
pub enum FreeError {
    /// They are free.
    #[error("freed twice")]
    DoubleFree,
    /// There is no RAM there.
    #[error("freed, but no RAM")]
    NotRam,
    /// They were never anybody's: the kernel's image, firmware.
    #[error("freed, but reserved")]
    Reserved,
    /// They are part of another block, or serve as something else.
    #[error("freed as what they are not")]
    OtherUse,
    /// A page table refers to them.
    #[error("freed while mapped")]
    Mapped,
    /// A device reads or writes them.
    #[error("freed while a device works on them")]
    UnderIo,
}

impl FreeError {
    /// Number of errors.
    pub const COUNT: usize = 6;
}

/// What is in a frame that was just allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// What its last user left.
    Leftovers,
    /// Zeroes, by [`FrameAllocator::free_zeroed`].
    Zeroes,
}

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameOwner {
    /// Not RAM.
    NotRam,
    /// Never given out.
    Reserved,
    /// Nobody's.
    Free,
    /// In use.
    Used(FrameKind),
}

/// Most frames on the shelf.
const SHELF: usize = 128;
/// Most frames that are kept full of zeroes.
const ZEROED: usize = 64;
/// Frames taken to or from the shelf at a time: 2 to this power.
const SHELF_ORDER: u32 = 5;

/// Told of every frame given out and taken back: how the simulator knows which frames nobody may touch.
#[cfg(feature = "sim")]
pub trait FrameWatcher: Send + Sync {
    /// `count` frames from `frame` on are somebody's now.
    fn allocated(&self, frame: Pfn, count: usize);
    /// They are nobody's.
    fn freed(&self, frame: Pfn, count: usize);
    /// A single one is nobody's, and to stay full of zeroes.
    fn freed_zeroed(&self, frame: Pfn);
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
        FrameBlocks::storage_words(frames) + Roles::storage_words(frames)
    }

    /// An allocator for frames `0..frames`, none of them free yet; `storage` has [`Self::storage_words`] words.
    pub fn new(storage: &'static mut [u64], frames: usize) -> Self {
        let (blocks, roles) = storage.split_at_mut(FrameBlocks::storage_words(frames));
        let pool = Pool {
            free: Buddy::new(FrameBlocks::new(blocks, frames)),
            shelf: ArrayVec::new(),
            zeroed: ArrayVec::new(),
            roles: Roles::new(roles),
            total: 0,
            used: [0; FrameKind::COUNT],
            misuses: [0; FreeError::COUNT],
            failures: None,
        };
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
            pool.roles.set_general(start.index()..end.index());
            pool.total += added;
            self.count_free(pool, FrameKind::User, added);
        });
    }

    /// Notes that the frames `start..end` are RAM that is not given out, or not yet.
    pub fn reserve_range(&self, start: Pfn, end: Pfn) {
        self.pool.with_lock(|pool| pool.roles.set_reserved(start.index()..end.index()));
    }

    /// A block of `order`, or `None` if there is none. Never waits.
    pub fn alloc(&self, kind: FrameKind, order: Order) -> Option<Frame> {
        let found = self.pool.with_lock(|pool| {
            let frame = pool.alloc(kind, order)?;
            let frames = order.frames() as u32;
            Some((frame, self.free.fetch_sub(frames, Ordering::Relaxed) - frames))
        });
        let Some((frame, left)) = found else { return self.none_found() };
        self.signal_below_low(left);
        #[cfg(feature = "sim")]
        self.watcher().inspect(|watcher| watcher.allocated(frame.pfn, order.frames()));
        Some(frame)
    }

    #[inline]
    fn signal_below_low(&self, left: u32) {
        if left < self.low.load(Ordering::Relaxed) {
            self.pressure.wake_all();
        }
    }

    /// One frame for who wants zeroes: one that is full of them already, if there is any.
    #[inline(always)]
    pub fn alloc_for_zeroes(&self, kind: FrameKind) -> Option<(Frame, Contents)> {
        let found = self.pool.with_lock(|pool| {
            let (frame, contents) = pool.alloc_for_zeroes(kind)?;
            Some((frame, contents, self.free.fetch_sub(1, Ordering::Relaxed) - 1))
        });
        let Some((frame, contents, left)) = found else { return self.none_found() };
        self.signal_below_low(left);
        #[cfg(feature = "sim")]
        self.watcher().inspect(|watcher| watcher.allocated(frame.pfn, 1));
        Some((frame, contents))
    }

    /// A frame to be zeroed and given back by [`Self::free_zeroed`], if there are fewer of those than are kept.
    pub(crate) fn alloc_to_zero(&self) -> Option<Frame> {
        let wanted = self.pool.with_lock(|pool| !pool.zeroed.is_full() && pool.failures.is_none());
        if wanted { self.alloc_page(FrameKind::Zero) } else { None }
    }

    /// Takes back a single frame that is full of zeroes, and keeps it so while there is room for such frames.
    pub(crate) fn free_zeroed(&self, frame: Frame) {
        #[cfg(feature = "sim")]
        self.watcher().inspect(|watcher| watcher.freed_zeroed(frame.pfn));
        self.pool.with_lock(|pool| {
            pool.free_zeroed(frame);
            self.count_free(pool, FrameKind::Zero, 1);
        });
    }

    /// One frame, or `None`.
    pub fn alloc_page(&self, kind: FrameKind) -> Option<Frame> {
        self.alloc(kind, Order::PAGE)
    }

    /// Up to `count` single frames under one lock, as many as there are and as `frames` has room for.
    pub fn alloc_pages<const N: usize>(&self, kind: FrameKind, frames: &mut ArrayVec<Frame, N>, count: usize) {
        let before = frames.len();
        let left = self.pool.with_lock(|pool| {
            let wanted = count.min(frames.remaining_capacity());
            frames.extend(core::iter::from_fn(|| pool.alloc(kind, Order::PAGE)).take(wanted));
            let taken = (frames.len() - before) as u32;
            let left = self.free.fetch_sub(taken, Ordering::Relaxed) - taken;
            if (taken as usize) < wanted {
                self.begin_drought(pool);
            }
            left
        });
        self.signal_below_low(left);
        #[cfg(feature = "sim")]
        for frame in &frames[before..] {
            self.watcher().inspect(|watcher| watcher.allocated(frame.pfn, 1));
        }
    }

    /// Takes a block back.
    ///
    /// # Panics
    /// If any part of it is free already: somebody forged a token, and memory is corrupt from here on.
    pub fn free(&self, frame: Frame) {
        let (kind, frames) = (frame.kind, frame.order.frames());
        #[cfg(feature = "sim")]
        self.watcher().inspect(|watcher| watcher.freed(frame.pfn, frames));
        self.pool.with_lock(|pool| {
            pool.free_block(frame);
            self.count_free(pool, kind, frames);
        });
    }

    /// Takes back many programs' pages at once.
    ///
    /// # Panics
    /// As [`Self::free`].
    #[inline]
    pub fn free_pages<const N: usize>(&self, frames: &mut ArrayVec<Frame, N>) {
        #[cfg(feature = "sim")]
        for frame in frames.iter() {
            self.watcher().inspect(|watcher| watcher.freed(frame.pfn, 1));
        }
        let freed = frames.len();
        self.pool.with_lock(|pool| {
            pool.free_pages(frames);
            self.count_free(pool, FrameKind::User, freed);
        });
    }

    /// Makes a single frame serve as something else. That takes no frame from anybody, so it cannot fail.
    pub(crate) fn convert(&self, frame: Frame, kind: FrameKind) -> Frame {
        self.pool.with_lock(|pool| {
            let at = frame.pfn.index();
            debug_assert!(frame.order == Order::PAGE && frame.kind != kind && kind != FrameKind::User);
            pool.used[frame.kind as usize] -= 1;
            pool.used[kind as usize] += 1;
            pool.roles.set_block(at..at + 1, kind);
        });
        Frame { kind, ..frame }
    }

    /// Takes back a block that is known by address only, once it has been checked that it is one: the kernel heap's and devices'
    /// blocks carry no token. Its token must have been given up by [`Self::leak`].
    ///
    /// What cannot be free is left alone. Whether a page of a program is mapped, only the manager knows: [`crate::Mm::release`].
    pub fn release(&self, first: Pfn, kind: FrameKind, order: Order) -> Result<(), FreeError> {
        self.pool
            .with_lock(|pool| pool.check(first, kind, order).inspect_err(|error| pool.misuses[*error as usize] += 1))?;
        self.free(Frame { pfn: first, kind, order });
        Ok(())
    }

    /// How often frames were not freed for each reason.
    pub fn misuses(&self) -> [u32; FreeError::COUNT] {
        self.pool.with_lock(|pool| pool.misuses)
    }

    /// Counts a refusal of somebody else's.
    pub(crate) fn count_misuse(&self, error: FreeError) {
        self.pool.with_lock(|pool| pool.misuses[error as usize] += 1);
    }

    /// Counts frames as free; in a drought they are withheld.
    #[inline(always)]
    fn count_free(&self, pool: &mut Pool, kind: FrameKind, frames: usize) {
        let free = match &mut pool.failures {
            None => frames,
            Some(failures) => failures.not_withheld(kind, frames),
        };
        self.free.fetch_add(free as u32, Ordering::Relaxed);
    }

    /// What an allocation without a frame comes to. Apart, so that those with one do not pay for it.
    #[cold]
    fn none_found<T>(&self) -> Option<T> {
        self.pool.with_lock(|pool| self.begin_drought(pool));
        None
    }

    /// There was no frame: if that was the first of those that fail for good, all others are withheld from here on.
    #[cold]
    fn begin_drought(&self, pool: &mut Pool) {
        let left = pool.failures.as_mut().and_then(|failures| failures.begin_drought(self.free_frames()));
        if let Some(left) = left {
            self.free.store(left as u32, Ordering::Relaxed);
            self.pressure.wake_all();
        }
    }

    /// Makes allocations fail: the `first`-th from now on, then the `first + 1`-th from there, up to the `last`-th.
    pub fn fail(&self, first: u32, last: u32) {
        self.relent();
        self.pool.with_lock(|pool| pool.failures = Failures::rarer(first, last));
    }

    /// Makes the `nth` allocation from now on fail, and all after it, as if nothing were free but `spared` frames that only the kernel's
    /// heap takes; what is freed stays away, too. Until [`Self::relent`].
    pub(crate) fn fail_for_good(&self, nth: u32, spared: usize) {
        self.relent();
        self.pool.with_lock(|pool| pool.failures = Some(Failures::for_good(nth, spared)));
    }

    /// No allocation is made to fail any more, and what was withheld is free.
    pub(crate) fn relent(&self) {
        self.pool.with_lock(|pool| {
            let withheld = pool.failures.take().map_or(0, |failures| failures.withheld());
            self.free.fetch_add(withheld as u32, Ordering::Relaxed);
        });
    }

    /// How many allocations have failed because a test wanted it so; the last one of [`Self::fail`] ends the counting.
    pub fn failed(&self) -> u32 {
        self.pool.with_lock(|pool| pool.failures.as_ref().map_or(0, Failures::failed))
    }

    /// Whose a frame is.
    pub fn owner(&self, frame: Pfn) -> FrameOwner {
        self.pool.with_lock(|pool| pool.owner(frame.index()))
    }

    /// Makes a token for a block that is known by address only, without looking: page tables that go back by the dozen are found in
    /// the tables above them. A wrong call shows as a double free.
    ///
    /// The block must have come from [`Self::alloc`] with the same kind and order, and its token must have been given up by
    /// [`Self::leak`].
    pub fn adopt(&self, pfn: Pfn, kind: FrameKind, order: Order) -> Frame {
        Frame { pfn, kind, order }
    }

    /// Gives up a token for a bare frame number; see [`Self::release`].
    pub fn leak(&self, frame: Frame) -> Pfn {
        frame.pfn
    }

    /// Free frames at this moment, without what a test withholds.
    pub fn free_frames(&self) -> usize {
        self.free.load(Ordering::Relaxed) as usize
    }

    /// Whether a frame is free; what is no frame at all is not.
    pub fn is_free(&self, frame: Pfn) -> bool {
        self.pool.with_lock(|pool| pool.is_free(frame.index()))
    }

    /// Totals at this moment.
    pub fn counts(&self) -> FrameCounts {
        self.pool.with_lock(|pool| {
            let withheld = pool.failures.as_ref().map_or(0, Failures::withheld);
            FrameCounts { total: pool.total, free: self.free_frames() + withheld, used: pool.used }
        })
    }

    /// Free blocks of each order: what `/proc/buddyinfo` shows.
    pub fn free_blocks(&self) -> [usize; MAX_ORDER + 1] {
        self.pool.with_lock(|pool| {
            pool.clear_shelves();
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

    /// Where reclaim waits for free frames to fall below the low watermark. Woken as a whole only: a wait for it is made before looking,
    /// and ends with every such signal since.
    pub(crate) fn pressure(&self) -> &WaitQueue<L> {
        &self.pressure
    }
}

impl Pool {
    #[inline]
    fn alloc(&mut self, kind: FrameKind, order: Order) -> Option<Frame> {
        if self.failures.is_some() {
            return self.alloc_unless_failing(kind, order);
        }
        self.alloc_now(kind, order)
    }

    #[inline(always)]
    fn alloc_now(&mut self, kind: FrameKind, order: Order) -> Option<Frame> {
        let at = if order == Order::PAGE { self.take_one()? } else { self.take_block(order.log2())? };
        self.used[kind as usize] += order.frames();
        if kind != FrameKind::User || order != Order::PAGE {
            self.roles.set_block(at..at + order.frames(), kind);
        }
        Some(Frame { pfn: Pfn::new(at as u32), kind, order })
    }

    #[cold]
    fn alloc_unless_failing(&mut self, kind: FrameKind, order: Order) -> Option<Frame> {
        if self.failures.as_mut().is_some_and(|failures| failures.fails(kind, order.frames())) {
            return None;
        }
        let frame = self.alloc_now(kind, order)?;
        if let Some(failures) = &mut self.failures {
            failures.took(order.frames());
        }
        Some(frame)
    }

    fn owner(&self, frame: usize) -> FrameOwner {
        match self.roles.of(frame) {
            Role::NotRam => FrameOwner::NotRam,
            Role::Reserved => FrameOwner::Reserved,
            Role::General if self.is_free(frame) => FrameOwner::Free,
            Role::General => FrameOwner::Used(FrameKind::User),
            Role::Block(kind) => FrameOwner::Used(kind),
            Role::InsideBlock => {
                let first = (0..frame).rev().map(|frame| self.roles.of(frame)).find(|role| *role != Role::InsideBlock);
                FrameOwner::Used(if let Some(Role::Block(kind)) = first { kind } else { FrameKind::User })
            }
        }
    }

    fn check(&self, first: Pfn, kind: FrameKind, order: Order) -> Result<(), FreeError> {
        let frames = first.index()..first.index() + order.frames();
        for frame in frames.clone() {
            match self.roles.of(frame) {
                Role::NotRam => return Err(FreeError::NotRam),
                Role::Reserved => return Err(FreeError::Reserved),
                Role::General if self.is_free(frame) => return Err(FreeError::DoubleFree),
                Role::General | Role::Block(_) | Role::InsideBlock => {}
            }
        }
        if self.roles.is_block(frames, kind) { Ok(()) } else { Err(FreeError::OtherUse) }
    }

    #[inline(always)]
    fn take_one(&mut self) -> Option<usize> {
        match self.shelf.pop() {
            Some(frame) => Some(frame as usize),
            None => self.refill_and_take(),
        }
    }

    /// The shelf is empty: takes a frame off a block and puts the rest of that on the shelf.
    #[inline(never)]
    fn refill_and_take(&mut self) -> Option<usize> {
        let Some(at) = self.take_block(SHELF_ORDER) else {
            return self.take_block(0).or_else(|| self.zeroed.pop().map(|frame| frame as usize));
        };
        // Highest first, so that they are taken in order of address.
        self.shelf.extend((at as u32 + 1..(at + (1 << SHELF_ORDER)) as u32).rev());
        Some(at)
    }

    #[inline(never)]
    fn take_block(&mut self, want: u32) -> Option<usize> {
        let block = match self.free.take(want) {
            Some(block) => block,
            // The frames may be there, one by one on the shelf.
            None if want > 0 && !(self.shelf.is_empty() && self.zeroed.is_empty()) => {
                self.clear_shelves();
                self.free.take(want)?
            }
            None => return None,
        };
        Some(block.start as usize)
    }

    #[inline(always)]
    fn alloc_for_zeroes(&mut self, kind: FrameKind) -> Option<(Frame, Contents)> {
        if self.zeroed.is_empty() || self.failures.is_some() {
            return Some((self.alloc(kind, Order::PAGE)?, Contents::Leftovers));
        }
        let at = self.zeroed.pop()?;
        self.used[kind as usize] += 1;
        if kind != FrameKind::User {
            self.roles.set_block(at as usize..at as usize + 1, kind);
        }
        Some((Frame { pfn: Pfn::new(at), kind, order: Order::PAGE }, Contents::Zeroes))
    }

    fn free_zeroed(&mut self, frame: Frame) {
        let at = frame.pfn.as_u32();
        self.free_block(frame);
        // Where a single frame has just been put.
        let last = self.shelf.pop();
        debug_assert_eq!(last, Some(at));
        if self.zeroed.try_push(at).is_err() {
            self.shelf.push(at);
        }
    }

    #[inline]
    fn free_pages<const N: usize>(&mut self, frames: &mut ArrayVec<Frame, N>) {
        let used = &mut self.used[FrameKind::User as usize];
        assert!(*used >= frames.len(), "more frames are freed than programs have");
        *used -= frames.len();
        for frame in frames.drain(..) {
            debug_assert_eq!((frame.kind, frame.order), (FrameKind::User, Order::PAGE));
            debug_assert!(!self.is_free(frame.pfn.index()), "double free of {:?}", frame.pfn);
            self.shelve(frame.pfn);
        }
    }

    /// Puts a single frame on the shelf.
    #[inline(always)]
    fn shelve(&mut self, frame: Pfn) {
        if self.shelf.is_full() {
            self.clear_shelf(1 << SHELF_ORDER);
        }
        self.shelf.push(frame.as_u32());
    }

    fn free_block(&mut self, frame: Frame) {
        let (at, order) = (frame.pfn.index(), frame.order.log2());
        debug_assert!(!self.is_free(at), "double free of frame {at:#x} ({:?}, order {order})", frame.kind);
        let used = &mut self.used[frame.kind as usize];
        assert!(*used >= frame.order.frames(), "free of frame {at:#x}, which is no {:?} frame", frame.kind);
        *used -= frame.order.frames();
        if frame.kind != FrameKind::User || order > 0 {
            self.roles.set_general(at..at + frame.order.frames());
        }
        if order > 0 {
            return self.free.put(Block { start: at as u64, order });
        }
        self.shelve(frame.pfn);
    }

    fn is_free(&self, at: usize) -> bool {
        let is_on = |shelf: &[u32]| shelf.contains(&(at as u32));
        is_on(&self.shelf) || is_on(&self.zeroed) || self.free.is_free(Block { start: at as u64, order: 0 })
    }

    /// Puts all single frames back into `free`.
    fn clear_shelves(&mut self) {
        self.clear_shelf(SHELF);
        for frame in self.zeroed.take() {
            self.free.put(Block { start: frame.into(), order: 0 });
        }
    }

    /// Puts the `count` frames that have been on the shelf longest back into `free`, whole blocks of them at once.
    #[inline(never)]
    fn clear_shelf(&mut self, count: usize) {
        let count = count.min(self.shelf.len());
        let frames = &mut self.shelf[..count];
        // Often they are in order: pages of a program are freed by address, as they were allocated.
        if !frames.is_sorted() {
            frames.sort_unstable();
        }
        let mut rest = &frames[..];
        while let Some(&first) = rest.first() {
            // In a sorted list without repetitions as many frames are in a row as the last of them is away from the first.
            let is_run = |order: u32| rest[(1 << order) - 1] == first + (1 << order) - 1;
            let mut order = first.trailing_zeros().min(rest.len().ilog2()).min(FrameBlocks::MAX_ORDER);
            while !is_run(order) {
                order -= 1;
            }
            self.free.put(Block { start: first.into(), order });
            rest = &rest[1 << order..];
        }
        self.shelf.drain(..count);
    }
}

#[cfg(test)]
mod misuse;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zeroed;
