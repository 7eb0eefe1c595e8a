//! A whole simulated machine, and what its user threads do: load and store, through the TLB and the page tables, and fault.
//!
//! Owns nothing but the parts. A thread is a task of the test's; [`SimMachine::load`] and [`SimMachine::store`] are its instructions.

use super::compressor::{SimCompressor, SimPrices};
use super::files::{FilesConfig, SimFiles};
use super::memory::{Ram, SimMemory};
use super::store::{DiskConfig, SimStore};
use super::table::{Mmu, SimTable};
use super::{SimLock, inspect};
use crate::addr::{PAGE_SIZE, PageRange, Pfn, VirtAddr, Vpn};
use crate::contract::{self, TableFrames, Walked};
use crate::fault::{FaultError, Holds};
use crate::frame::{Frame, FrameAllocator, FrameDesc, FrameKind, FrameWatcher};
use crate::platform::{Access, PageTable, Platform};
use crate::space::{SpaceId, SpaceLayout};
use crate::{Config, Mm};
use alloc::{boxed::Box, sync::Arc, vec, vec::Vec};

/// The simulated machine as the manager sees it.
pub struct SimPlatform;

impl Platform for SimPlatform {
    type Lock = SimLock;
    type Memory = SimMemory;
    type Table = SimTable;
    type Store = SimStore;
    type Files = SimFiles;
    type Compressor = SimCompressor;
}

/// What a machine is made with.
#[derive(Clone, Copy, Debug)]
pub struct SimConfig {
    /// Frames of RAM.
    pub frames: usize,
    /// The swap device, if there is one.
    pub disk: Option<DiskConfig>,
    /// The store of files, if there is one.
    pub files: Option<FilesConfig>,
    /// The manager's.
    pub mm: Config,
    /// Translations the CPU remembers.
    pub tlb: usize,
    /// The machine's own chance.
    pub seed: u64,
}

impl SimConfig {
    /// So many frames, a good disk of so many slots.
    pub fn new(frames: usize, slots: u32) -> Self {
        Self { frames, disk: Some(DiskConfig::good(slots)), files: None, mm: Config::default(), tlb: 32, seed: 0 }
    }
}

/// Why a thread's instruction did not complete: what its program would be told.
pub type Trap = FaultError;

/// A machine with its manager.
pub struct SimMachine {
    mm: Mm<SimPlatform>,
    ram: Arc<Ram>,
    frames: &'static FrameAllocator<SimLock>,
    mmu: Arc<Mmu>,
    disk: Option<SimStore>,
    files: Option<SimFiles>,
    prices: Arc<SimPrices>,
}

impl SimMachine {
    /// Switches a machine on. Its allocator and descriptors stay behind when it goes: 40 bytes a frame.
    pub fn new(config: SimConfig) -> Arc<Self> {
        let words = FrameAllocator::<SimLock>::storage_words(config.frames);
        let storage = Box::leak(vec![0; words].into_boxed_slice());
        let frames: &'static FrameAllocator<SimLock> = Box::leak(Box::new(FrameAllocator::new(storage, config.frames)));
        let ram = Ram::new(config.frames);
        let watcher: Arc<dyn FrameWatcher> = ram.clone();
        frames.watch(Arc::downgrade(&watcher));
        frames.add_range(Pfn::new(0), Pfn::new(config.frames as u32));
        let descs = Box::leak(vec![FrameDesc::EMPTY; config.frames].into_boxed_slice());
        let disk = config.disk.map(|d| SimStore::new(d, &ram, config.seed ^ 0xd15c));
        let mmu = Mmu::new(ram.clone(), frames, config.tlb, config.seed ^ 0x71b);
        let files = config.files.map(|f| SimFiles::new(f, &ram, config.seed ^ 0xf11e));
        let mm = Mm::new(config.mm, SimMemory(ram.clone()), frames, descs, disk.clone());
        let compressor = SimCompressor::new(disk.clone(), config.seed);
        let prices = compressor.prices();
        mm.add_tier(compressor).expect("a frame to write compressed pages from");
        let mm = if let Some(files) = &files { mm.with_files(files.clone()) } else { mm };
        Arc::new(Self { mm, ram, frames, mmu, disk, files, prices })
    }

    /// The manager.
    pub fn mm(&self) -> &Mm<SimPlatform> {
        &self.mm
    }

    /// Who gives frames out.
    pub fn frames(&self) -> &'static FrameAllocator<SimLock> {
        self.frames
    }

    /// What is in the frames.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The swap device.
    ///
    /// # Panics
    /// If the machine was made without one.
    pub fn disk(&self) -> &SimStore {
        self.disk.as_ref().expect("the machine has a disk")
    }

    /// What reads and compressing cost.
    pub fn prices(&self) -> &SimPrices {
        &self.prices
    }

    /// The store of files.
    ///
    /// # Panics
    /// If the machine was made without one.
    pub fn files(&self) -> &SimFiles {
        self.files.as_ref().expect("the machine has files")
    }

    /// An address space with x86's user half as its bounds; `None` if there is no frame for its root.
    pub fn create_space(&self) -> Option<SpaceId> {
        let bounds = PageRange { start: Vpn::new(16), end: VirtAddr::new(0x7fff_ffff_f000).page() };
        let layout = SpaceLayout { bounds, mmap_top: VirtAddr::new(0x7fff_ff00_0000).page() };
        self.mm.create_space(SimTable::new(&self.mmu)?, layout).ok()
    }

    /// Holds a page table of this machine against the contract of page tables.
    pub fn walk_table(&self, steps: u64, seed: u64) -> Walked {
        struct Tables(&'static FrameAllocator<SimLock>);
        impl TableFrames for Tables {
            fn take(&mut self) -> Option<Frame> {
                self.0.alloc_page(FrameKind::PageTable)
            }
            fn give(&mut self, frame: Frame) {
                self.0.free(frame);
            }
        }
        let targets: Vec<Frame> = (0..8).filter_map(|_| self.frames.alloc_page(FrameKind::User)).collect();
        let names: Vec<Pfn> = targets.iter().map(Frame::pfn).collect();
        let mut table = SimTable::new(&self.mmu).expect("a frame for the root");
        let walked = contract::walk(&mut table, &mut Tables(self.frames), &names, steps, seed);
        targets.into_iter().chain([table.into_root()]).for_each(|frame| self.frames.free(frame));
        walked
    }

    /// One attempt of an access: on success `work` gets the frame's words, before anything else can happen.
    /// `None` is a page fault.
    pub fn try_access<R>(
        &self,
        space: SpaceId,
        addr: VirtAddr,
        access: Access,
        work: impl FnOnce(&mut u64) -> R,
    ) -> Option<R> {
        assert_eq!(addr.as_u64() % 8, 0, "words are aligned");
        let frame = self.mm.with_table(space, |table| table.access(addr.page(), access))?.ok()?;
        Some(self.ram.with(frame, |words| work(&mut words[addr.page_offset() / 8])))
    }

    /// Executes one instruction that accesses the word at `addr`, faulting as often as it takes.
    /// `anchor` is the address of the instruction.
    pub async fn access<R>(
        &self,
        space: SpaceId,
        addr: VirtAddr,
        access: Access,
        thread: &mut Holds,
        mut work: impl FnMut(&mut u64) -> R,
    ) -> Result<R, Trap> {
        loop {
            if let Some(done) = self.try_access(space, addr, access, &mut work) {
                return Ok(done);
            }
            self.mm.fault(space, addr, access, addr.as_u64(), thread).await?;
        }
    }

    /// Loads the word at `addr`.
    pub async fn load(&self, space: SpaceId, addr: VirtAddr, thread: &mut Holds) -> Result<u64, Trap> {
        self.access(space, addr, Access::Read, thread, |word| *word).await
    }

    /// Stores a word at `addr`.
    pub async fn store(&self, space: SpaceId, addr: VirtAddr, word: u64, thread: &mut Holds) -> Result<(), Trap> {
        self.access(space, addr, Access::Write, thread, |to| *to = word).await
    }

    /// One instruction that stores words to several pages at once, such as a `movs` across page boundaries: it completes only when
    /// none of them is missing.
    pub async fn store_all(
        &self,
        space: SpaceId,
        stores: &[(VirtAddr, u64)],
        anchor: u64,
        thread: &mut Holds,
    ) -> Result<(), Trap> {
        'again: loop {
            for &(addr, _) in stores {
                if self.try_access(space, addr, Access::Write, |_| ()).is_none() {
                    self.mm.fault(space, addr, Access::Write, anchor, thread).await?;
                    continue 'again;
                }
            }
            for &(addr, word) in stores {
                let stored = self.try_access(space, addr, Access::Write, |to| *to = word);
                stored.expect("nothing has happened since the look");
            }
            return Ok(());
        }
    }

    /// Checks the identities, and the whole state of the manager against itself.
    ///
    /// # Panics
    /// With what does not agree.
    pub fn check(&self) {
        self.mm.snapshot().check();
        inspect::verify(&self.mm);
    }

    /// The frame that serves a page, if it is resident.
    pub fn frame_of(&self, space: SpaceId, addr: VirtAddr) -> Option<Pfn> {
        inspect::frame_of(&self.mm, space, addr.page())
    }

    /// The slot that holds a page's contents, whether it is resident or not.
    pub fn slot_of(&self, space: SpaceId, addr: VirtAddr) -> Option<crate::platform::Slot> {
        inspect::slot_of(&self.mm, space, addr.page())
    }

    /// Evicts the pages of a range that can be evicted, whatever the policy says, and sends them off.
    pub fn evict(&self, space: SpaceId, range: PageRange) {
        inspect::evict(&self.mm, space, range);
    }
}

/// Words in a page, in bytes: offsets for tests.
pub const WORD: u64 = 8;
/// Bytes in a page.
pub const PAGE: u64 = PAGE_SIZE as u64;
