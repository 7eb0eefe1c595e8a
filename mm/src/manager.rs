//! The memory manager: one core behind one lock, and where tasks wait for it.
//!
//! Owns everything: spaces, frame descriptors, operations, swap, policy and counters. The lock is taken by closure, so it cannot be
//! held across an await. Lock order: manager → store → kernel heap → frame allocator. What the parts do is in the modules that
//! extend [`Mm`]: [`crate::fault`], [`crate::pager`], [`crate::reclaim`] and [`crate::space`].

use crate::addr::{Pfn, WORDS_PER_PAGE};
use crate::anon::AnonTable;
use crate::file_store::FileRequest;
use crate::frame::{Contents, Frame, FrameAllocator, FrameDesc, FrameKind, FrameTable, FreeError, Order, Residence};
use crate::group::{GroupId, Groups};
use crate::home::Home;
use crate::object::Objects;
use crate::object::sync::Broom;
use crate::ops::{OpId, OpTable};
use crate::page::{PageCopy, Record};
use crate::platform::{BackingStore, CLUSTER, PhysMemory, Platform, StoreRequest};
use crate::reclaim::{CleanBatch, Ghosts, Optimum, Policy, Progress, Replacement, Rewriting, Stranded, Watermarks};
use crate::rmap::MapPool;
use crate::shortage::{FrameQueues, FrameWaiters, Shortage};
use crate::space::{CHUNK, Overcommit, QUEUES, SpaceId, SpaceLayout, Spaces, UserPagers};
use crate::stats::{Counters, PageClass, PageCounts, Snapshot, VisiblePages};
use crate::swap::Swap;
use crate::swapin::{Outcome, Probation};
use crate::tier::{Compression, Tier};
use alloc::{boxed::Box, collections::VecDeque};
use arrayvec::ArrayVec;
use maitake_sync::{Semaphore, WaitQueue, blocking::Mutex};
use mutex_traits::ConstInit;

/// What a manager is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Evict all that can be evicted (`mm.torture`).
    pub torture: bool,
    /// Torture at one fault in so many. 1 is every opportunity: then each instruction that touches memory faults its pages anew.
    pub torture_every: u64,
    /// Key of the audit hash.
    pub audit_key: u64,
    /// Watermarks; derived from the size of RAM if not given.
    pub watermarks: Option<Watermarks>,
    /// Size of the operation table.
    pub operations: usize,
    /// Most pages of files that may wait to be written; derived from the size of RAM if not given.
    pub dirty_pages: Option<usize>,
    /// Most pages that are read ahead of one that is wanted; 0 turns it off.
    pub read_ahead: usize,
    /// Mappings of frames beyond the first of each; derived from the size of RAM if not given.
    pub mappings: Option<usize>,
    /// Most areas of an address space: what they take cannot be paged out.
    pub areas: usize,
    /// Whether more memory may be promised than there is.
    pub overcommit: Overcommit,
    /// Whether victims are compressed, by a manager that has a compressor.
    pub compression: Compression,
    /// Most frames of compressed pages; derived from the size of RAM if not given.
    pub tier_frames: Option<usize>,
    /// A bug that a test plants to see it found.
    #[cfg(feature = "sim")]
    pub plant: Option<crate::sim::Planted>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            torture: false,
            torture_every: 1,
            audit_key: 0x9e37_79b9_7f4a_7c15,
            watermarks: None,
            operations: 96,
            dirty_pages: None,
            read_ahead: crate::swap::readahead::WIDEST.into(),
            mappings: None,
            areas: crate::space::MAX_AREAS,
            overcommit: Overcommit::default(),
            compression: Compression::Off,
            tier_frames: None,
            #[cfg(feature = "sim")]
            plant: None,
        }
    }
}

/// No memory, or too many of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

/// Where there was no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scarce {
    /// In the machine.
    Machine,
    /// In the group.
    Group,
}

/// The memory manager of one machine.
pub struct Mm<P: Platform> {
    pub(crate) memory: P::Memory,
    pub(crate) frames: &'static FrameAllocator<P::Lock>,
    pub(crate) store: Option<P::Store>,
    pub(crate) files: Option<P::Files>,
    pub(crate) core: Mutex<Core<P>, P::Lock>,
    pub(crate) watermarks: Watermarks,
    pub(crate) config: Config,
    /// Most pages of files that may differ from what their store has.
    pub(crate) dirty_limit: usize,
    /// A permit for each page that may be pinned.
    pub(crate) pins: Semaphore<P::Lock>,
    /// Where those who need an operation's pages wait, by operation.
    pub(crate) op_waits: Box<[WaitQueue<P::Lock>]>,
    /// Where those wait who need room in the operation table.
    pub(crate) op_room: WaitQueue<P::Lock>,
    pub(crate) frame_queues: FrameQueues<P::Lock>,
    /// Where the one waits who ends programs; woken as [`FrameAllocator::pressure`] is.
    pub(crate) verdicts: WaitQueue<P::Lock>,
    /// Where those wait who want to change areas that are being copied, and who want to copy areas that are being changed.
    pub(crate) turns: WaitQueue<P::Lock>,
    /// Where reclaim waits for the store when it can do no more; woken as [`FrameAllocator::pressure`] is.
    pub(crate) store_progress: WaitQueue<P::Lock>,
    /// Who wants a page that is being taken out of its object waits here.
    pub(crate) vacancies_over: WaitQueue<P::Lock>,
    /// Where faults wait for user pagers, by page.
    pub(crate) user_waits: [WaitQueue<P::Lock>; QUEUES],
}

/// What the lock guards.
pub(crate) struct Core<P: Platform> {
    pub spaces: Spaces<P::Table>,
    pub table: FrameTable,
    /// Anonymous pages that several spaces have.
    pub anons: AnonTable,
    pub objects: Objects,
    /// Mappings of frames beyond the first of each.
    pub mappings: MapPool,
    pub ops: OpTable,
    pub swap: Option<Swap>,
    /// Pages of the root group in the order of eviction; those of other groups are with them.
    pub policy: Replacement,
    pub stranded: Stranded,
    /// Pages that left a short while ago.
    pub ghosts: Ghosts,
    /// What the best policy would have read.
    pub optimum: Optimum,
    pub groups: Groups,
    /// Programs that supply pages of others, or their own.
    pub user_pagers: UserPagers,
    /// Pages that were read ahead and are neither used nor gone yet.
    pub probation: Probation,
    /// Victims that wait for their cluster to fill up.
    pub batch: CleanBatch,
    /// Requests the store had no room for yet, in order.
    pub pending: VecDeque<StoreRequest>,
    /// As `pending`, for files.
    pub pending_files: VecDeque<FileRequest>,
    /// Where the search for dirty pages of files goes on.
    pub broom: Broom,
    pub counters: Counters,
    pub pages: PageCounts,
    pub peak: VisiblePages,
    pub orphaned_io: u64,
    pub held: u64,
    /// Of the holds, those that are pins.
    pub pinned: u64,
    pub faults_waiting: u64,
    /// Reclaim is to evict all it can.
    pub torture_due: bool,
    /// The shared frame of zeroes.
    pub zero: Pfn,
    /// Free frames that page tables leave to others.
    pub table_reserve: usize,
    pub progress: Progress,
    /// How swap is kept in runs.
    pub rewriting: Rewriting,
    /// How much may be promised.
    pub overcommit: Overcommit,
    /// Frames of RAM.
    pub total_frames: u64,
    /// Something has been locked, some time.
    pub locking: bool,
    /// Who waits, and who is told, when there is no frame.
    pub shortage: Shortage,
    /// Who waits for frames.
    pub waiters: FrameWaiters,
    /// Reclaim waits for holds to end.
    pub awaiting_release: bool,
    /// Pages that are away in RAM.
    pub tier: Option<Box<Tier<P::Compressor>>>,
}

impl<P: Platform> Mm<P> {
    /// A manager over the frames of `frames`, one descriptor each, and a swap device if there is one.
    ///
    /// # Panics
    /// If there is no frame for the zero page.
    pub fn new(
        config: Config,
        memory: P::Memory,
        frames: &'static FrameAllocator<P::Lock>,
        descs: &'static mut [FrameDesc],
        store: Option<P::Store>,
    ) -> Self {
        let zero = frames.leak(frames.alloc_page(FrameKind::Zero).expect("a frame for the zero page"));
        memory.zero(zero);
        let total = frames.counts().total;
        let watermarks = config.watermarks.unwrap_or_else(|| Watermarks::for_frames(total));
        frames.set_low(watermarks.low);
        let swap = store.as_ref().map(|s| Swap::new(s.slots(), s.discards(), config.audit_key));
        let queue = || WaitQueue::new_with_raw_mutex(P::Lock::INIT);
        let mut ops = OpTable::new(config.operations);
        let batch = CleanBatch::new(ops.frames());
        let core = Core {
            spaces: Spaces::new(config.areas),
            mappings: MapPool::new(config.mappings.unwrap_or_else(|| MapPool::size_for(descs.len()))),
            table: FrameTable::new(descs),
            anons: AnonTable::new(),
            objects: Objects::default(),
            ops,
            swap,
            policy: Replacement::default(),
            stranded: Stranded::default(),
            // A policy that has no use for what it would remember costs no memory for it.
            ghosts: Ghosts::for_frames(if <Replacement as Policy>::WINDOW == 0 { 0 } else { total }),
            optimum: Optimum::for_frames(total),
            groups: Groups::new(),
            user_pagers: UserPagers::default(),
            probation: Probation::new(frames.counts().total),
            batch,
            pending: VecDeque::with_capacity(config.operations),
            pending_files: VecDeque::with_capacity(config.operations),
            broom: Broom::default(),
            counters: Counters::default(),
            pages: PageCounts::default(),
            peak: VisiblePages::default(),
            orphaned_io: 0,
            held: 0,
            pinned: 0,
            faults_waiting: 0,
            torture_due: false,
            table_reserve: watermarks.tables(),
            zero,
            progress: Progress::default(),
            rewriting: Rewriting::default(),
            overcommit: config.overcommit,
            total_frames: frames.counts().total as u64,
            locking: false,
            shortage: Shortage::default(),
            waiters: FrameWaiters::new(watermarks.min),
            awaiting_release: false,
            tier: None,
        };
        Self {
            memory,
            frames,
            store,
            files: None,
            dirty_limit: config.dirty_pages.unwrap_or((total / 8).max(4)),
            pins: Semaphore::new_with_raw_mutex(total.div_ceil(8), P::Lock::INIT),
            core: Mutex::new_with_raw_mutex(core, P::Lock::INIT),
            watermarks,
            config,
            op_waits: (0..config.operations).map(|_| queue()).collect(),
            op_room: queue(),
            frame_queues: FrameQueues::new(),
            verdicts: queue(),
            turns: queue(),
            store_progress: queue(),
            vacancies_over: queue(),
            user_waits: core::array::from_fn(|_| queue()),
        }
    }

    /// The same manager with a store of files.
    pub fn with_files(self, files: P::Files) -> Self {
        Self { files: Some(files), ..self }
    }

    /// The store of files, if there is one.
    pub fn files(&self) -> Option<&P::Files> {
        self.files.as_ref()
    }

    /// Most pages that may be pinned at a time.
    pub(crate) fn pin_limit(&self) -> usize {
        self.frames.counts().total.div_ceil(8)
    }

    /// The frame allocator.
    pub fn frames(&self) -> &'static FrameAllocator<P::Lock> {
        self.frames
    }

    /// Contents of frames.
    pub fn memory(&self) -> &P::Memory {
        &self.memory
    }

    /// The swap device, if there is one.
    pub fn store(&self) -> Option<&P::Store> {
        self.store.as_ref()
    }

    /// The watermarks in force.
    pub fn watermarks(&self) -> Watermarks {
        self.watermarks
    }

    /// Adds an address space with these page tables, which must map nothing.
    pub fn create_space(&self, table: P::Table, layout: SpaceLayout) -> Result<SpaceId, NoMemory> {
        self.core.with_lock(|core| core.spaces.insert(table, layout)).ok_or(NoMemory)
    }

    /// Takes back frames by address, for who has no token for them: refused unless they are exactly one block of that kind which no
    /// page table refers to, no device works on and no page is in.
    pub fn release(&self, first: Pfn, kind: FrameKind, order: Order) -> Result<(), FreeError> {
        let in_use = self.core.with_lock(|core| {
            let frames = first.index()..(first.index() + order.frames()).min(core.table.len());
            frames.map(|frame| core.table.get(Pfn::new(frame as u32))).find_map(|desc| match desc.residence() {
                Residence::None => None,
                Residence::Filling | Residence::Cleaning | Residence::Evicting | Residence::Orphaned => {
                    Some(FreeError::UnderIo)
                }
                Residence::Clean | Residence::Dirty if desc.mapped() => Some(FreeError::Mapped),
                Residence::Clean | Residence::Dirty | Residence::Table => Some(FreeError::OtherUse),
            })
        });
        if let Some(error) = in_use {
            self.frames.count_misuse(error);
            return Err(error);
        }
        self.frames.release(first, kind, order)
    }

    /// Whether a frame holds a program's page, as far as the manager knows of that frame.
    pub fn is_page_frame(&self, frame: Pfn) -> bool {
        let is_page =
            |table: &FrameTable| frame.index() < table.len() && table.get(frame).residence() != Residence::None;
        self.core.with_lock(|core| is_page(&core.table))
    }

    /// Lets `look` at the page tables of a space, to load them or count them.
    pub fn with_table<R>(&self, space: SpaceId, look: impl FnOnce(&mut P::Table) -> R) -> Option<R> {
        self.core.with_lock(|core| core.spaces.get_mut(space).map(|s| look(&mut s.table)))
    }

    /// Shows the areas of a space, in order.
    pub fn vmas(&self, space: SpaceId, show: &mut dyn FnMut(&crate::space::Vma)) {
        self.core.with_lock(|core| {
            if let Some(s) = core.spaces.get_mut(space) {
                s.vmas.iter().for_each(show);
            }
        });
    }

    /// The pages of one space: mapped, and by state.
    pub fn space_pages(&self, space: SpaceId) -> Option<(u64, PageCounts)> {
        self.core.with_lock(|core| core.spaces.get_mut(space).map(|s| (s.vmas.pages(), s.pages)))
    }

    /// Everything counted at this moment. A page that was written since its D bit was last looked at still counts as clean: see
    /// [`Self::take_in_dirty_bits`]. With debug assertions, checks the identities.
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.core.with_lock(|core| {
            let frames = self.frames.counts();
            core.snapshot(frames)
        });
        if cfg!(debug_assertions) {
            snapshot.check();
        }
        snapshot
    }

    /// Takes in the D bits that the page tables hold, so that the next snapshot tells clean from dirty to the page, but for what
    /// is written meanwhile.
    pub async fn take_in_dirty_bits(&self) {
        let mut next = 0;
        while let Some(start) = self.core.with_lock(|core| core.take_in_dirty_bits(next)) {
            next = start;
            crate::yield_now().await;
        }
    }

    /// Frees a frame that is nobody's page any more, and lets those who wait for one know.
    pub(crate) fn free_user(&self, core: &mut Core<P>, frame: Frame) {
        core.counters.pgfree += 1;
        core.shortage.relieve();
        self.uncharge(core, frame.pfn());
        self.frames.free(frame);
    }

    /// As [`Self::free_user`], for many at once.
    pub(crate) fn free_users(&self, core: &mut Core<P>, frames: &mut ArrayVec<Frame, CHUNK>) {
        core.counters.pgfree += frames.len() as u64;
        core.shortage.relieve();
        frames.iter().for_each(|frame| self.uncharge(core, frame.pfn()));
        self.frames.free_pages(frames);
    }

    /// A frame for a page, charged to `group`, unless that would go below the reserve or above the group's limit.
    pub(crate) fn alloc_user(&self, core: &mut Core<P>, group: GroupId) -> Result<Frame, Scarce> {
        self.may_alloc(core, group)?;
        let frame = self.frames.alloc_page(FrameKind::User).ok_or(Scarce::Machine)?;
        Ok(Self::charged(core, frame, group))
    }

    /// As [`Self::alloc_user`], for a page that begins as zeroes: a frame zeroed in advance, if there is one.
    #[inline(never)]
    pub(crate) fn alloc_zeroed(&self, core: &mut Core<P>, group: GroupId) -> Result<Frame, Scarce> {
        self.may_alloc(core, group)?;
        let (frame, contents) = self.frames.alloc_for_zeroes(FrameKind::User).ok_or(Scarce::Machine)?;
        match contents {
            Contents::Leftovers => {
                self.memory.zero(frame.pfn());
                core.counters.pgzeroed += 1;
            }
            Contents::Zeroes => {
                core.counters.pgzero_pre += 1;
                let is_zero = |words: &[u64; WORDS_PER_PAGE]| words.iter().all(|word| *word == 0);
                debug_assert!(self.memory.with_words(frame.pfn(), is_zero), "{frame:?}: written since it was zeroed");
            }
        }
        Ok(Self::charged(core, frame, group))
    }

    #[inline(always)]
    fn may_alloc(&self, core: &mut Core<P>, group: GroupId) -> Result<(), Scarce> {
        if !self.has_frame(core) {
            return Err(Scarce::Machine);
        }
        if group.is_root() || core.may_charge(group) { Ok(()) } else { Err(Scarce::Group) }
    }

    #[inline(always)]
    fn charged(core: &mut Core<P>, frame: Frame, group: GroupId) -> Frame {
        core.counters.pgalloc += 1;
        if !group.is_root() {
            core.charge(&frame, group);
        }
        frame
    }

    /// Zeroes one free frame in advance, if frames are plenty and not enough of them are zeroed. For who has nothing else to do.
    pub fn zero_in_advance(&self) -> bool {
        if self.frames.free_frames() <= self.watermarks.high {
            return false;
        }
        let Some(frame) = self.frames.alloc_to_zero() else { return false };
        self.memory.zero(frame.pfn());
        self.frames.free_zeroed(frame);
        true
    }

    /// Gives a request to the store, or queues it until the store has room.
    pub(crate) fn submit(&self, core: &mut Core<P>, request: StoreRequest) {
        let Some(store) = &self.store else { unreachable!("a request without a store") };
        let refused = if core.pending.is_empty() { store.try_submit(request).err() } else { Some(request) };
        if let Some(request) = refused {
            core.pending.push_back(request);
        }
    }

    /// Offers queued requests to the store again.
    pub(crate) fn submit_pending(&self, core: &mut Core<P>) {
        let Some(store) = &self.store else { return };
        while let Some(request) = core.pending.pop_front() {
            if let Err(request) = store.try_submit(request) {
                core.pending.push_front(request);
                return;
            }
        }
    }
}

impl<P: Platform> Core<P> {
    /// Changes the state of a framed page, in its descriptor and in the counts.
    pub fn set_residence(&mut self, frame: Pfn, to: Residence) {
        let desc = self.table.get_mut(frame);
        let (from, home) = (desc.residence(), desc.home());
        desc.set_residence(to);
        self.reclass(home, class_of(from), class_of(to));
    }

    /// Counts one page as `to` instead of `from`.
    pub fn reclass(&mut self, home: Home, from: PageClass, to: PageClass) {
        self.pages.shift(from, to);
        match home {
            Home::Private(space, _) => {
                if let Some(s) = self.spaces.get_mut(space) {
                    s.shift(from, to);
                }
            }
            Home::Anon(_) => {}
            Home::Object(object, _) => self.objects.shift(object, from, to),
        }
    }

    /// One page goes from one state to another and has this record from now on.
    pub fn turn(&mut self, home: Home, from: PageClass, to: PageClass, record: Record) {
        self.pages.shift(from, to);
        match home {
            Home::Private(space, page) => {
                if let Some(s) = self.spaces.get_mut(space) {
                    s.shift(from, to);
                    s.index.set(page, record);
                }
            }
            Home::Anon(anon) => self.anons.set_record(anon, record),
            Home::Object(object, _) => {
                self.objects.shift(object, from, to);
                self.set_record(home, record);
            }
        }
    }

    /// Sets the record of a page that has one; counts are the caller's.
    pub fn set_record(&mut self, home: Home, record: Record) {
        match home {
            Home::Private(space, page) => {
                if let Some(s) = self.spaces.get_mut(space) {
                    s.index.set(page, record);
                }
            }
            Home::Anon(anon) => self.anons.set_record(anon, record),
            Home::Object(object, page) => {
                if let Some(object) = self.objects.get_mut(object) {
                    object.index.set(page.key(), record);
                }
            }
        }
    }

    /// The frame that an operation fills for the page at `home`.
    pub fn frame_under(&mut self, op: OpId, home: Home) -> Option<Pfn> {
        let Self { ops, table, .. } = self;
        ops.get_mut(op)?.pages.iter().map(|page| page.frame).find(|frame| table.get(*frame).home() == home)
    }

    /// Step 5: a clean page was written; its copy is no longer one.
    pub fn became_dirty(&mut self, frame: Pfn) {
        debug_assert_eq!(self.table.get(frame).residence(), Residence::Clean);
        self.judge_ahead(frame, Outcome::Hit);
        self.set_residence(frame, Residence::Dirty);
        self.drop_copy(frame);
    }

    /// Gives up the copy of a resident page.
    pub fn drop_copy(&mut self, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        let copy = desc.copy();
        desc.set_copy(None);
        self.release_copy(copy);
    }

    /// Counts many pages of a space as gone that were all in one state.
    pub fn count_gone(&mut self, space: SpaceId, from: PageClass, pages: u64) {
        self.pages.remove(from, pages);
        if let Some(s) = self.spaces.get_mut(space) {
            s.pages.remove(from, pages);
        }
    }

    /// Frees the slot of a copy that nothing refers to any more.
    pub fn release_copy(&mut self, copy: Option<PageCopy>) {
        if let (Some(slot), Some(swap)) = (copy.and_then(PageCopy::slot), &mut self.swap) {
            swap.release(slot);
        }
    }

    /// As [`Self::release_copy`], when the page is gone with it: the device may forget the slot, too.
    pub fn release_copy_for_good(&mut self, copy: Option<PageCopy>) {
        if let (Some(slot), Some(swap)) = (copy.and_then(PageCopy::slot), &mut self.swap) {
            swap.release_for_good(slot);
        }
    }

    /// Ends all holds on a frame whose page goes.
    #[inline(always)]
    pub fn void_holds(&mut self, frame: Pfn) {
        self.held -= u64::from(self.table.get_mut(frame).void_holds());
    }

    fn snapshot(&mut self, frames: crate::frame::FrameCounts) -> Snapshot {
        let mapped = self.spaces.iter_mut().map(|(_, s)| s.vmas.pages()).sum();
        let visible = VisiblePages::of(mapped, &self.pages, self.anons.counts().pages + self.objects.pages());
        self.peak = self.peak.max(visible);
        Snapshot {
            counters: self.counters,
            pages: self.pages,
            visible,
            peak: self.peak,
            frames,
            anons: self.anons.counts(),
            mappings: self.mappings.counts(),
            orphaned_io: self.orphaned_io,
            judged: self.optimum.judged(),
            held: self.held,
            pinned: self.pinned,
            dirty_files: self.objects.dirty(),
            on_probation: self.probation.pending(),
            slots: self.swap.as_ref().map(|s| s.slots.counts()),
            tier: self.tier.as_ref().map(|tier| tier.counts()),
            open_slots: self.swap.as_ref().map_or(0, Swap::open_slots),
            ops: self.ops.counts(),
            batched: self.batch.len() as u64,
            faults_waiting: self.faults_waiting,
        }
    }
}

/// How a framed page is counted.
pub(crate) fn class_of(residence: Residence) -> PageClass {
    match residence {
        Residence::None | Residence::Orphaned | Residence::Table => PageClass::Absent,
        Residence::Filling => PageClass::Filling,
        Residence::Clean => PageClass::Clean,
        Residence::Dirty => PageClass::Dirty,
        Residence::Cleaning => PageClass::Cleaning,
        Residence::Evicting => PageClass::Evicting,
    }
}

/// How an away page is counted.
pub(crate) fn class_of_copy(copy: PageCopy) -> PageClass {
    match copy {
        PageCopy::Slot(..) | PageCopy::Tier(..) => PageClass::AwaySlot,
        PageCopy::Fill(_) => PageClass::AwayFill,
        PageCopy::File => PageClass::Absent,
    }
}

const _: () = assert!(CLUSTER <= u16::MAX as usize);
