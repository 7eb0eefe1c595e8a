//! Page tables of the simulated machine: four levels of 512 entries, a TLB in front.
//!
//! Owns the entries with their A and D bits, and how many each table has: a table takes a frame with its first entry and gives it up
//! with its last, as the kernel's do. Does not own the frames it refers to.

use super::memory::Ram;
use super::tlb::{Entry, Tlb};
use super::{Shared, SimLock};
use crate::addr::{Pfn, VirtAddr, Vpn};
use crate::frame::{Frame, FrameAllocator, FrameKind};
use crate::platform::{Access, Caches, Mapping, NoTableFrame, PageTable, RetiredTables, Rights, Stale};
use alloc::{collections::BTreeMap, sync::Arc};
use core::ops::ControlFlow;
use mutex_traits::ConstInit;

/// log2 of the pages that a table of level 1, 2, 3 covers.
const COVERS: [u32; 3] = [9, 18, 27];
/// One past the last address that may be mapped, as on x86.
const LIMIT: VirtAddr = VirtAddr::new(0x7fff_ffff_f000);

/// The translation hardware that all tables of a machine share.
pub(super) struct Mmu {
    tlb: Shared<Tlb>,
    next_table: core::sync::atomic::AtomicU32,
    ram: Arc<Ram>,
    frames: &'static FrameAllocator<SimLock>,
}

impl Mmu {
    pub fn new(ram: Arc<Ram>, frames: &'static FrameAllocator<SimLock>, entries: usize, seed: u64) -> Arc<Self> {
        let tlb = Shared::new_with_raw_mutex(Tlb::new(entries, seed), SimLock::INIT);
        Arc::new(Self { tlb, next_table: 1.into(), ram, frames })
    }
}

/// A last-level entry.
#[derive(Clone, Copy, Debug)]
struct Pte {
    frame: Pfn,
    rights: Rights,
    accessed: bool,
    dirty: bool,
}

impl Pte {
    fn mapping(self) -> Mapping {
        Mapping { frame: self.frame, accessed: self.accessed, dirty: self.dirty }
    }
}

/// The access cannot go on: the CPU raises a page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault;

/// The page tables of one address space.
pub struct SimTable {
    number: u32,
    root: Frame,
    mmu: Arc<Mmu>,
    ptes: BTreeMap<Vpn, Pte>,
    /// Tables by level and by the part of the address space they cover: the frame, and how many entries it has.
    tables: [BTreeMap<u64, (Frame, u16)>; 3],
}

impl SimTable {
    /// Empty tables, or `None` if there is no frame for the root.
    pub(super) fn new(mmu: &Arc<Mmu>) -> Option<Self> {
        let root = mmu.frames.alloc_page(FrameKind::PageTable)?;
        let number = mmu.next_table.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        Some(Self { number, root, mmu: mmu.clone(), ptes: BTreeMap::new(), tables: Default::default() })
    }

    /// What the CPU does for a load, store or fetch: the TLB, then the tables, setting A and D; or a page fault.
    ///
    /// # Panics
    /// If the TLB answers with a translation that is no longer the tables': somebody has not flushed it.
    pub fn access(&mut self, page: Vpn, access: Access) -> Result<Pfn, PageFault> {
        let Self { number, mmu, ptes, .. } = self;
        mmu.tlb.with_lock(|tlb| {
            let Some(entry) = tlb.find(*number, page) else {
                let pte = ptes.get_mut(&page).filter(|pte| pte.rights.allow(access)).ok_or(PageFault)?;
                pte.accessed = true;
                pte.dirty |= access == Access::Write;
                let Pte { frame, rights, dirty, .. } = *pte;
                tlb.insert(Entry { table: *number, page, frame, life: mmu.ram.life(frame), rights, dirty });
                return Ok(frame);
            };
            let pte = ptes.get_mut(&page);
            assert_fresh(entry, pte.as_deref(), &mmu.ram);
            let frame = entry.frame;
            if !entry.rights.allow(access) {
                // A fault drops the translation (SDM vol. 3A §4.10.4.1).
                tlb.forget(|e| (e.table, e.page) == (*number, page));
                return Err(PageFault);
            }
            if access == Access::Write && !core::mem::replace(&mut entry.dirty, true) {
                pte.ok_or(PageFault)?.dirty = true;
            }
            Ok(frame)
        })
    }

    /// Every mapping, for checks.
    pub(super) fn mappings(&self) -> impl Iterator<Item = (Vpn, Mapping)> {
        self.ptes.iter().map(|(page, pte)| (*page, pte.mapping()))
    }

    /// The last-level tables: the frame, and the first page that each covers. For checks.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (Pfn, Vpn)> {
        self.tables[0].iter().map(|(part, (frame, _))| (frame.pfn(), Vpn::new(part << COVERS[0])))
    }

    /// One entry fewer in the tables above `page`; those left without any are given up.
    fn retire(&mut self, page: Vpn, entries: u16) -> RetiredTables {
        let mut retired = RetiredTables::new();
        let mut fewer = entries;
        for (level, covers) in self.tables.iter_mut().zip(COVERS) {
            let part = page.as_u64() >> covers;
            let Some((_, count)) = level.get_mut(&part) else { unreachable!("a mapping without tables") };
            *count -= fewer;
            if *count > 0 {
                break;
            }
            retired.extend(level.remove(&part).map(|(frame, _)| frame));
            fewer = 1;
        }
        retired
    }
}

/// A translation is stale when the tables say something else, or its frame has been freed since.
fn assert_fresh(entry: &Entry, pte: Option<&Pte>, ram: &Ram) {
    let (page, frame) = (entry.page, entry.frame);
    let now = pte.map(|pte| pte.frame);
    let reused = ram.life(frame) != entry.life;
    assert!(
        now == Some(frame) && !reused,
        "stale TLB entry: page {:?} goes to frame {frame:?} (freed since: {reused}), but the tables say {now:?}",
        page.addr()
    );
    let tightened = pte.is_some_and(|pte| {
        [Access::Read, Access::Write, Access::Execute].iter().any(|&a| entry.rights.allow(a) && !pte.rights.allow(a))
    });
    assert!(!tightened, "stale TLB entry: page {:?} is used with rights it has lost", page.addr());
}

impl PageTable for SimTable {
    fn map(
        &mut self,
        page: Vpn,
        frame: Pfn,
        rights: Rights,
        frames: &mut dyn FnMut() -> Option<Frame>,
    ) -> Result<Pfn, NoTableFrame> {
        assert!(page.addr() < LIMIT && page.as_u64() > 0, "mm maps user addresses only");
        assert!(!self.ptes.contains_key(&page), "{page:?} is mapped already");
        self.mmu.ram.with(frame, |_| ());
        // From the top down, as a walk builds them; what was built for nothing goes back at once.
        let mut built = RetiredTables::new();
        for (level, covers) in self.tables.iter().zip(COVERS).rev() {
            if !level.contains_key(&(page.as_u64() >> covers)) {
                let Some(table) = frames() else {
                    built.into_iter().for_each(|t| self.mmu.frames.free(t));
                    return Err(NoTableFrame);
                };
                assert_eq!(table.kind(), FrameKind::PageTable);
                built.push(table);
            }
        }
        let mut new_below = true;
        for (level, covers) in self.tables.iter_mut().zip(COVERS) {
            let entry = level.entry(page.as_u64() >> covers);
            let fresh = matches!(entry, alloc::collections::btree_map::Entry::Vacant(_));
            let (_, count) = entry.or_insert_with(|| {
                let Some(frame) = built.pop() else { unreachable!("counted above") };
                (frame, 0)
            });
            *count += u16::from(new_below);
            new_below = fresh;
        }
        self.ptes.insert(page, Pte { frame, rights, accessed: false, dirty: false });
        let (leaf, _) = &self.tables[0][&(page.as_u64() >> COVERS[0])];
        Ok(leaf.pfn())
    }

    fn unmap(&mut self, page: Vpn) -> Option<Stale<(Mapping, RetiredTables)>> {
        let pte = self.ptes.remove(&page)?;
        let retired = self.retire(page, 1);
        Some(Stale::new(page, (pte.mapping(), retired)))
    }

    fn protect(&mut self, page: Vpn, rights: Rights) -> Option<Stale<Mapping>> {
        let pte = self.ptes.get_mut(&page)?;
        pte.rights = rights;
        Some(Stale::new(page, pte.mapping()))
    }

    fn harvest(&mut self, page: Vpn) -> Option<Stale<Mapping>> {
        let pte = self.ptes.get_mut(&page)?;
        let was = pte.mapping();
        pte.accessed = false;
        Some(Stale::new(page, was))
    }

    fn lookup(&self, page: Vpn) -> Option<Mapping> {
        self.ptes.get(&page).map(|pte| pte.mapping())
    }

    fn rights(&self, page: Vpn) -> Option<Rights> {
        self.ptes.get(&page).map(|pte| pte.rights)
    }

    fn each_mapping(&self, page: Vpn, each: &mut dyn FnMut(Vpn, Mapping) -> ControlFlow<()>) {
        let part = page.as_u64() >> COVERS[0];
        let range = Vpn::new(part << COVERS[0])..Vpn::new((part + 1) << COVERS[0]);
        let _ = self.ptes.range(range).try_for_each(|(page, pte)| each(*page, pte.mapping()));
    }

    fn drop_table(&mut self, page: Vpn, each: &mut dyn FnMut(Vpn, Mapping)) -> Option<Stale<RetiredTables>> {
        let part = page.as_u64() >> COVERS[0];
        let (_, entries) = self.tables[0].get(&part)?;
        let entries = *entries;
        let range = Vpn::new(part << COVERS[0])..Vpn::new((part + 1) << COVERS[0]);
        while let Some((&page, &pte)) = self.ptes.range(range.clone()).next() {
            self.ptes.remove(&page);
            each(page, pte.mapping());
        }
        Some(Stale::new(page, self.retire(page, entries)))
    }

    fn flush<T>(&mut self, stale: Stale<T>) -> T {
        // As the kernel: a translation that is there all the same is found by who uses it next ([`assert_fresh`]).
        if stale.caches() == Caches::MayHoldIt {
            self.mmu.tlb.with_lock(|tlb| tlb.forget(|e| (e.table, e.page) == (self.number, stale.page())));
        }
        stale.into_flushed()
    }

    fn flush_region<T>(&mut self, stale: Stale<T>) -> T {
        let part = |page: Vpn| page.as_u64() >> COVERS[0];
        let region = part(stale.page());
        self.mmu.tlb.with_lock(|tlb| tlb.forget(|e| e.table == self.number && part(e.page) == region));
        stale.into_flushed()
    }

    fn tables(&self) -> usize {
        self.tables.iter().map(BTreeMap::len).sum()
    }

    fn into_root(self) -> Frame {
        assert!(self.ptes.is_empty() && self.tables() == 0, "a space goes with pages mapped");
        let stale = self.mmu.tlb.with_lock(|tlb| tlb.holds_any(self.number));
        assert!(!stale, "stale TLB entry: a space goes, and the TLB still knows pages of it");
        self.root
    }
}
