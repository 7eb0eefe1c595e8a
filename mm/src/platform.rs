//! The seam: what the memory manager asks of the machine it runs on.
//!
//! Implemented by the kernel over the direct map, x86 page tables and virtio-blk, and by [`crate::sim`] on the host. The
//! manager itself is safe Rust, so an implementation must refuse whatever would break memory safety if it were wrong: kernel
//! addresses in [`PageTable::map`], and frames that were never given to the manager.

use crate::addr::{PAGE_SIZE, Pfn, Vpn, WORDS_PER_PAGE};
use crate::file_store::FileStore;
use crate::frame::{Frame, IoFrame};
use crate::ops::OpId;
use crate::page::Tag;
use crate::swap::Audit;
use crate::tier::COMPRESSED_ROOM;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use core::ops::{ControlFlow, Deref};
use core::task::{Context, Poll};
use mutex_traits::{ConstInit, RawMutex, ScopedRawMutex};

/// One machine: a lock, its memory, its page tables and its swap device.
pub trait Platform: Sized + Send + Sync + 'static {
    /// Must mask whatever could call into the manager while it is held.
    type Lock: ScopedRawMutex + RawMutex + ConstInit + Send + Sync + 'static;
    /// Contents of frames.
    type Memory: PhysMemory;
    /// Page tables of one address space.
    type Table: PageTable;
    /// Where paged-out pages go.
    type Store: BackingStore;
    /// Where files are.
    type Files: FileStore;
    /// What makes pages smaller, for the compressed tier.
    type Compressor: Compressor;

    /// Gives back frames that are kept only for speed, and returns how many. Reclaim asks before it evicts anything.
    fn shrink_caches() -> usize {
        0
    }
}

/// Contents of frames, by number. The manager calls these only for frames it was given.
pub trait PhysMemory: Send + Sync + 'static {
    /// Fills the frame with zeroes.
    fn zero(&self, frame: Pfn);
    /// Fills the frame with copies of a 32-bit word.
    fn fill(&self, frame: Pfn, word: u32);
    /// Copies one frame to another.
    fn copy(&self, from: Pfn, to: Pfn);
    /// Reads bytes `offset..offset + out.len()`, which lie within the frame.
    fn read(&self, frame: Pfn, offset: usize, out: &mut [u8]);
    /// Writes bytes `offset..offset + data.len()`, which lie within the frame.
    fn write(&self, frame: Pfn, offset: usize, data: &[u8]);
    /// Shows the frame's words, for checks over the whole page. The page may be mapped, but no user code runs meanwhile.
    fn with_words<R>(&self, frame: Pfn, look: impl FnOnce(&[u64; WORDS_PER_PAGE]) -> R) -> R;
    /// The tag of the frame's contents: the audit's own hash, or one of the machine's that is better and cheaper, for as long as it
    /// runs the same one.
    fn tag(&self, frame: Pfn, audit: &Audit) -> Tag {
        self.with_words(frame, |words| audit.tag(words))
    }
}

/// What was to be decompressed is not what had been compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt;

/// What has been spent so far, in ticks of whatever clock the machine has: they are only compared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spent {
    /// On compressing pages.
    pub compressing: u64,
    /// On decompressing them.
    pub decompressing: u64,
    /// By threads on major faults.
    pub waiting: u64,
}

/// Makes pages smaller. Never waits and never allocates: both would be done when memory is short.
pub trait Compressor: Send + 'static {
    /// Writes the page in fewer bytes, if it can, and says in how many.
    fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; COMPRESSED_ROOM]) -> Option<usize>;
    /// Makes the page again from these bytes.
    fn decompress(&mut self, bytes: &[u8], page: &mut [u8; PAGE_SIZE]) -> Result<(), Corrupt>;
    /// What that took, and what it may save.
    fn spent(&self) -> Spent;
}

/// What a mapping lets the program do. Reading is always allowed: x86 has no page that can be written or run but not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Any access at all; without it the range is only reserved (`PROT_NONE`).
    pub access: Permission,
    /// Stores.
    pub write: Permission,
    /// Instruction fetches.
    pub execute: Permission,
}

/// A yes or no that says what it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// Allowed.
    Allowed,
    /// Refused.
    Denied,
}

impl From<bool> for Permission {
    fn from(yes: bool) -> Self {
        if yes { Self::Allowed } else { Self::Denied }
    }
}

impl Permission {
    /// Whether it is allowed.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

impl Rights {
    /// Reserved only: `PROT_NONE`.
    pub const NONE: Self = Self { access: Permission::Denied, write: Permission::Denied, execute: Permission::Denied };
    /// `PROT_READ`.
    pub const READ: Self = Self { access: Permission::Allowed, ..Self::NONE };
    /// `PROT_READ | PROT_WRITE`.
    pub const READ_WRITE: Self = Self { write: Permission::Allowed, ..Self::READ };
    /// `PROT_READ | PROT_EXEC`.
    pub const READ_EXECUTE: Self = Self { execute: Permission::Allowed, ..Self::READ };

    /// Whether an access of this kind is allowed.
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Read => self.access,
            Access::Write => self.write,
            Access::Execute => self.execute,
        }
        .is_allowed()
    }

    /// The same rights without stores: how the shared frame of zeroes is mapped.
    pub fn without_write(self) -> Self {
        Self { write: Permission::Denied, ..self }
    }
}

/// What a faulting instruction tried to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store, or a read-modify-write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// What a page-table entry said when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The frame it refers to.
    pub frame: Pfn,
    /// The A bit: used since it was last cleared (SDM vol. 3A §4.8).
    pub accessed: bool,
    /// The D bit: written since it was mapped.
    pub dirty: bool,
}

/// A value that is not usable until the translation caches have forgotten `page`.
///
/// Removing or tightening a mapping yields one; [`PageTable::flush`] opens it. This is why a frame that a stale TLB entry could
/// still reach cannot be freed: its token is inside.
#[must_use = "the TLB may still hold the old translation; flush it"]
#[derive(Debug)]
pub struct Stale<T> {
    page: Vpn,
    caches: Caches,
    value: T,
}

/// What the translation caches of the CPUs may know of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caches {
    /// What its entry said before.
    MayHoldIt,
    /// Nothing.
    HoldNothing,
}

impl<T> Stale<T> {
    /// `value` is usable once `page` is flushed. For implementers of [`PageTable`].
    pub fn new(page: Vpn, value: T) -> Self {
        Self { page, caches: Caches::MayHoldIt, value }
    }
    /// What the caches may know: whether there is anything to flush.
    #[inline(always)]
    pub fn caches(&self) -> Caches {
        self.caches
    }
    /// The page whose translation is stale.
    pub fn page(&self) -> Vpn {
        self.page
    }
    /// Opens the value. For implementers of [`PageTable::flush`] only, after the flush.
    pub fn into_flushed(self) -> T {
        self.value
    }
}

impl<T: Before> Stale<T> {
    /// The same, not to be flushed if no cache can hold the translation. A CPU sets A before it caches one (SDM vol. 3A §4.10.2.3), and
    /// who clears A flushes: so none holds an entry whose A bit is clear. Where nearly all pages have been used, asking costs more.
    #[inline(always)]
    pub fn unless_unused(self) -> Self {
        let caches = if self.value.was_used() { Caches::MayHoldIt } else { Caches::HoldNothing };
        Self { caches, ..self }
    }
}

/// What is known of an entry that was changed.
pub trait Before {
    /// Whether a CPU has used it since its A bit was last clear.
    fn was_used(&self) -> bool;
}

impl Before for Mapping {
    #[inline(always)]
    fn was_used(&self) -> bool {
        self.accessed
    }
}

impl Before for (Mapping, RetiredTables) {
    /// The way to a table may be cached although the entry is not (paging-structure caches, SDM vol. 3A §4.10.3).
    #[inline(always)]
    fn was_used(&self) -> bool {
        self.0.accessed || !self.1.is_empty()
    }
}

/// Page-table frames that an unmap left without a single entry; at most one per level below the root.
pub type RetiredTables = ArrayVec<Frame, 3>;

/// No frame for a page table could be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoTableFrame;

/// The page tables of one address space: a cache that the manager may empty and rebuild at any time.
///
/// A table with no present entry is given up at once. A non-present entry is all zeroes.
pub trait PageTable: Send + 'static {
    /// Makes `page`, which is not mapped, refer to `frame`; missing tables come from `frames`. The entry starts with A and D clear.
    /// Returns the last-level table's frame.
    fn map(
        &mut self,
        page: Vpn,
        frame: Pfn,
        rights: Rights,
        frames: &mut dyn FnMut() -> Option<Frame>,
    ) -> Result<Pfn, NoTableFrame>;
    /// Removes the mapping of `page`, if there is one, with the tables that became empty.
    fn unmap(&mut self, page: Vpn) -> Option<Stale<(Mapping, RetiredTables)>>;
    /// Changes what the mapping of `page` allows.
    fn protect(&mut self, page: Vpn, rights: Rights) -> Option<Stale<Mapping>>;
    /// Reads the entry of `page`, and clears A.
    fn harvest(&mut self, page: Vpn) -> Option<Stale<Mapping>>;
    /// Reads the entry of `page`.
    fn lookup(&self, page: Vpn) -> Option<Mapping>;
    /// What the entry of `page` lets a program do: for checks.
    fn rights(&self, page: Vpn) -> Option<Rights>;
    /// Shows every mapping of the last-level table that covers `page`, in order, until `each` breaks off.
    fn each_mapping(&self, page: Vpn, each: &mut dyn FnMut(Vpn, Mapping) -> ControlFlow<()>);
    /// Removes every mapping of the last-level table that covers `page` and gives up that table and those above it that it leaves
    /// empty. `each` is told of every mapping removed. `None` if there is no such table.
    fn drop_table(&mut self, page: Vpn, each: &mut dyn FnMut(Vpn, Mapping)) -> Option<Stale<RetiredTables>>;
    /// Makes every CPU forget the translation of the stale page, if [`Stale::caches`] says that one may know it.
    fn flush<T>(&mut self, stale: Stale<T>) -> T;
    /// Makes every CPU forget the translations of all pages that share a last-level table with the stale page.
    fn flush_region<T>(&mut self, stale: Stale<T>) -> T;
    /// Frames the tables use, the root not counted.
    fn tables(&self) -> usize;
    /// Gives up the root, once nothing is mapped and no CPU uses it.
    fn into_root(self) -> Frame;
}

/// Most frames in one request to the store.
pub const CLUSTER: usize = 64;

/// Frames under I/O: the device owns them until the request comes back.
///
/// They stand in a place of their own, so that a request is moved for a few words, however many frames it has. The manager has all the
/// places it will ever need from the beginning (`OpTable::frames`); whoever else needs one collects into a new one.
#[derive(Default, Debug)]
pub struct IoFrames(Option<Box<ArrayVec<IoFrame, CLUSTER>>>);

impl IoFrames {
    /// None, and no place for any.
    pub const fn none() -> Self {
        Self(None)
    }
    /// A place for a cluster of them.
    pub fn with_room() -> Self {
        Self(Some(Box::new(ArrayVec::new())))
    }
    /// One more.
    ///
    /// # Panics
    /// If there is no place for it.
    #[inline]
    pub fn push(&mut self, frame: IoFrame) {
        let Some(frames) = &mut self.0 else { panic!("{frame:?} has no place in a request") };
        frames.push(frame);
    }
    /// Takes all of them out, in order; the place stays.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = IoFrame> + '_ {
        let mut frames = self.0.as_mut().map(|frames| frames.drain(..));
        core::iter::from_fn(move || frames.as_mut()?.next())
    }
    /// Whether there is a place for a cluster.
    pub(crate) fn is_place(&self) -> bool {
        self.0.is_some()
    }
}

impl Deref for IoFrames {
    type Target = [IoFrame];
    #[inline]
    fn deref(&self) -> &[IoFrame] {
        self.0.as_ref().map_or(&[], |frames| frames)
    }
}

impl FromIterator<IoFrame> for IoFrames {
    fn from_iter<I: IntoIterator<Item = IoFrame>>(frames: I) -> Self {
        Self(Some(Box::new(ArrayVec::from_iter(frames))))
    }
}

impl<'a> IntoIterator for &'a IoFrames {
    type Item = &'a IoFrame;
    type IntoIter = core::slice::Iter<'a, IoFrame>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What a request asks of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// Slots to frames.
    Read,
    /// Frames to slots.
    Write,
    /// The slots' contents are of no use any more.
    Discard,
}

/// Number of a 4 KiB slot of the swap device. Slot 0 is the header's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u32);

impl Slot {
    /// Slots are kept in 29 bits of a page's record: 2 TiB of swap.
    pub const LIMIT: u32 = 1 << 29;
    /// Slot `raw`.
    pub const fn new(raw: u32) -> Self {
        debug_assert!(raw < Self::LIMIT);
        Self(raw)
    }
    /// The raw number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// One request: `count` contiguous slots from `slot` on. For reads and writes there are `count` frames.
#[derive(Debug)]
pub struct StoreRequest {
    /// The manager's name for the request; comes back with it.
    pub op: OpId,
    /// What to do.
    pub kind: StoreKind,
    /// First slot.
    pub slot: Slot,
    /// Number of slots.
    pub count: u32,
    /// The frames, one a slot, owned by the request.
    pub frames: IoFrames,
}

/// The store could not do it; the contents of the slots or frames are unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreError;

/// A request that is over, with everything it owned.
#[derive(Debug)]
pub struct StoreCompletion {
    /// The request as it was submitted.
    pub request: StoreRequest,
    /// How it went.
    pub result: Result<(), StoreError>,
}

/// Whether a device wants to know which slots are of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discards {
    /// It makes use of it.
    Wanted,
    /// Telling it would do nothing.
    Ignored,
}

/// The swap device, in units of slots. Never waits and never allocates: both would be done when memory is short.
pub trait BackingStore: Send + Sync + 'static {
    /// Slots there are, the header's included.
    fn slots(&self) -> u32;
    /// Whether [`StoreKind::Discard`] does anything.
    fn discards(&self) -> Discards;
    /// Starts a request, or gives it back if the device has no room for it now.
    fn try_submit(&self, request: StoreRequest) -> Result<(), StoreRequest>;
    /// The next request that is over. Only the pager calls this.
    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<StoreCompletion>;
}
