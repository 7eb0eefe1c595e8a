//! Page tables of an address space: `mm`'s [`PageTable`] over x86's four levels.
//!
//! Owns the user half of a root: entries, the tables below it, and how many entries each table has (kept in spare bits of the entry
//! that points to it), so that a table is given up with its last entry. Does not own which page is where; that is `mm`'s.
//! A non-present entry is zero: nothing is encoded in it, nothing can be speculated on (features H10).
#![expect(unsafe_code, reason = "edits the page tables that user code runs on")]

use core::cell::Cell;
use core::ops::ControlFlow;

use arrayvec::ArrayVec;
use mm::addr::{Pfn, VirtAddr, Vpn};
use mm::frame::{Frame, FrameKind};
use mm::platform::{Caches, Mapping, NoTableFrame, PageTable, RetiredTables, Rights, Stale};
use mm::space::{SpaceId, SpaceLayout};
use x86_64::PhysAddr;

use crate::arch::paging::{ENTRIES, Entry, EntryFlags, Level, SpaceRoot, TableRef};
use crate::arch::{direct_map, kernel_space, tlb};
use crate::frames;

/// One past the last user address: the lower half less its last page (Linux's `TASK_SIZE_MAX`).
pub const USER_LIMIT: u64 = 0x0000_7fff_ffff_f000;

const TABLE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITABLE).union(EntryFlags::USER);

/// A place in the tables of the levels above the leaves: a table and which of its entries an address goes through.
type Step = (TableRef, usize);
/// From the root down to the last-level table, the steps of [`Level::ABOVE_LEAVES`].
type Path = ArrayVec<Step, 3>;

/// A last-level table that is there, and how it is reached.
#[derive(Clone, Copy)]
struct Leaf {
    /// The entry that points to it.
    above: Step,
    table: TableRef,
}

/// The last-level table found last: most walks go there again.
///
/// What it names is a table of this space that is in use: only a walk from the root puts it there, and whoever takes
/// tables out, which is [`UserTables::prune`] alone, has it forget. So an entry may be stored through it as through any
/// table of a walk.
struct Recent {
    /// What it covers: the address without the bits of [`Level::Two`] and below.
    region: Cell<u64>,
    leaf: Cell<Leaf>,
}

impl Recent {
    /// No region: addresses have fewer bits.
    const NONE: u64 = u64::MAX;

    #[inline(always)]
    fn find(&self, address: u64) -> Option<Leaf> {
        (self.region.get() == address >> Level::Two as u32).then(|| self.leaf.get())
    }

    fn remember(&self, address: u64, leaf: Leaf) {
        self.region.set(address >> Level::Two as u32);
        self.leaf.set(leaf);
    }

    fn forget(&self) {
        self.region.set(Self::NONE);
    }
}

/// The page tables of one address space. The kernel half is the kernel's and is never touched here.
pub struct UserTables {
    root: SpaceRoot,
    frame: Frame,
    tables: usize,
    recent: Recent,
}

impl UserTables {
    /// Empty tables in a frame of their own.
    pub fn new(frame: Frame) -> Self {
        let page = PhysAddr::new(frame.pfn().phys());
        // SAFETY: a frame that is ours alone until `into_root` gives it up, after every CPU has left it.
        let root = unsafe { SpaceRoot::new(page) };
        let leaf = Leaf { above: (root.table(), 0), table: root.table() };
        let recent = Recent { region: Cell::new(Recent::NONE), leaf: Cell::new(leaf) };
        Self { root, frame, tables: 0, recent }
    }

    /// What to load to run user code in this space.
    pub fn root(&self) -> SpaceRoot {
        self.root
    }

    /// The last-level table that covers an address, if it is there.
    #[inline(always)]
    fn leaf(&self, address: u64) -> Option<Leaf> {
        self.recent.find(address).or_else(|| self.find_leaf(address))
    }

    #[inline(never)]
    fn find_leaf(&self, address: u64) -> Option<Leaf> {
        let above @ (table, index) = self.path(address)?.pop()?;
        let leaf = Leaf { above, table: below(table.load(index)) };
        self.recent.remember(address, leaf);
        Some(leaf)
    }

    /// As [`Self::find_leaf`], adding the tables that are missing.
    #[inline(never)]
    fn build_leaf(&mut self, address: u64, frames: &mut dyn FnMut() -> Option<Frame>) -> Result<Leaf, NoTableFrame> {
        let above @ (table, index) = self.build_path(address, frames)?.pop().ok_or(NoTableFrame)?;
        let leaf = Leaf { above, table: below(table.load(index)) };
        self.recent.remember(address, leaf);
        Ok(leaf)
    }

    /// The way down to the last-level table that covers an address, if it is there.
    fn path(&self, address: u64) -> Option<Path> {
        let mut path = Path::new();
        let mut table = self.root.table();
        for level in Level::ABOVE_LEAVES {
            let index = level.index(address);
            path.push((table, index));
            let entry = table.load(index);
            if !entry.is_present() {
                return None;
            }
            table = below(entry);
        }
        Some(path)
    }

    /// As [`Self::path`], adding the tables that are missing.
    fn build_path(&mut self, address: u64, frames: &mut dyn FnMut() -> Option<Frame>) -> Result<Path, NoTableFrame> {
        let mut path = Path::new();
        let mut table = self.root.table();
        for level in Level::ABOVE_LEAVES {
            let index = level.index(address);
            path.push((table, index));
            let mut entry = table.load(index);
            if !entry.is_present() {
                let Some(frame) = frames() else {
                    let retired = self.prune(path);
                    if !retired.is_empty() {
                        // The CPU may know the way to a table that was added just now, although nothing was mapped through it.
                        let retired = self.flush_region(Stale::new(VirtAddr::new(address).page(), retired));
                        retired.into_iter().for_each(|t| frames::get().free(t));
                    }
                    return Err(NoTableFrame);
                };
                entry = self.new_table(frame);
                // SAFETY: an empty table maps nothing.
                unsafe { table.store(index, entry) };
                if let Some(&(above, at)) = path.get(path.len().wrapping_sub(2)) {
                    adjust(above, at, 1);
                }
            }
            table = below(entry);
        }
        Ok(path)
    }

    fn new_table(&mut self, frame: Frame) -> Entry {
        debug_assert_eq!(frame.kind(), FrameKind::PageTable);
        let page = PhysAddr::new(frames::get().leak(frame).phys());
        // SAFETY: a frame that is ours alone, in the direct map.
        unsafe { direct_map::pointer(page).cast::<u64>().write_bytes(0, ENTRIES) };
        self.tables += 1;
        Entry::new(page, TABLE)
    }

    /// Gives up the tables on the way to an address that have no entries.
    #[inline(never)]
    fn prune_at(&mut self, address: u64) -> RetiredTables {
        self.path(address).map_or_else(RetiredTables::new, |path| self.prune(path))
    }

    /// Gives up the tables along `path` that have no entries, from the bottom up.
    fn prune(&mut self, mut path: Path) -> RetiredTables {
        let mut retired = RetiredTables::new();
        while let Some((table, index)) = path.pop() {
            let entry = table.load(index);
            if !entry.is_present() {
                continue;
            }
            if entry.count() > 0 {
                break;
            }
            // SAFETY: the table below has no present entry; it is freed only after the flush that `Stale` stands for.
            unsafe { table.store(index, Entry::EMPTY) };
            let pfn = Pfn::new((entry.address().as_u64() >> 12) as u32);
            retired.push(frames::get().adopt(pfn, FrameKind::PageTable, mm::frame::Order::PAGE));
            self.tables -= 1;
            self.recent.forget();
            if let Some(&(above, at)) = path.last() {
                adjust(above, at, -1);
            }
        }
        retired
    }
}

/// The table an entry points to.
fn below(entry: Entry) -> TableRef {
    // SAFETY: entries above the leaves of a user half are made by `build_path` only, and point to tables in the direct map.
    unsafe { TableRef::at(entry.address()) }
}

/// Changes the number of entries that the entry `index` of `table` says the table below has; returns it.
#[inline(always)]
fn adjust(table: TableRef, index: usize, by: i16) -> u16 {
    let entry = table.load(index);
    let count = entry.count().wrapping_add_signed(by);
    let entry = entry.with_count(count);
    // SAFETY: the entry points where it did; only spare bits change. The CPU may set A meanwhile: losing that loses nothing,
    // because A means nothing above the leaves here.
    unsafe { table.store(index, entry) };
    count
}

fn mapping(entry: Entry) -> Mapping {
    Mapping {
        frame: Pfn::new((entry.address().as_u64() >> 12) as u32),
        accessed: entry.has(EntryFlags::ACCESSED),
        dirty: entry.has(EntryFlags::DIRTY),
    }
}

fn flags(rights: Rights) -> EntryFlags {
    let mut flags = EntryFlags::PRESENT | EntryFlags::USER;
    flags.set(EntryFlags::WRITABLE, rights.write.is_allowed());
    flags.set(EntryFlags::NO_EXECUTE, !rights.execute.is_allowed());
    flags
}

/// What [`flags`] made of rights.
fn rights(entry: Entry) -> Rights {
    Rights {
        access: entry.has(EntryFlags::USER).into(),
        write: entry.has(EntryFlags::WRITABLE).into(),
        execute: (!entry.has(EntryFlags::NO_EXECUTE)).into(),
    }
}

impl PageTable for UserTables {
    #[inline(always)]
    fn map(
        &mut self,
        page: Vpn,
        frame: Pfn,
        rights: Rights,
        frames: &mut dyn FnMut() -> Option<Frame>,
    ) -> Result<Pfn, NoTableFrame> {
        let address = page.addr().as_u64();
        assert!(address < USER_LIMIT, "mm maps user addresses only");
        let leaf = self.recent.find(address);
        let Leaf { above: (above, at), table } = leaf.map_or_else(|| self.build_leaf(address, frames), Ok)?;
        let index = Level::One.index(address);
        debug_assert!(!table.load(index).is_present(), "{page:?} is mapped");
        // SAFETY: the frame is one of `mm`'s, which maps it here for this space's program; the table is in use, found by a
        // walk now or remembered (`Recent`); the old entry was empty.
        unsafe { table.store(index, Entry::new(PhysAddr::new(frame.phys()), flags(rights))) };
        adjust(above, at, 1);
        Ok(frames::pfn(table.address()))
    }

    #[inline(always)]
    fn unmap(&mut self, page: Vpn) -> Option<Stale<(Mapping, RetiredTables)>> {
        let address = page.addr().as_u64();
        let Leaf { above: (above, at), table } = self.leaf(address)?;
        // SAFETY: nothing is mapped by an empty entry; what was is usable only after the flush that `Stale` stands for.
        let old = unsafe { table.swap(Level::One.index(address), Entry::EMPTY) };
        if !old.is_present() {
            return None;
        }
        let left = adjust(above, at, -1);
        let retired = if left == 0 { self.prune_at(address) } else { RetiredTables::new() };
        Some(Stale::new(page, (mapping(old), retired)))
    }

    fn protect(&mut self, page: Vpn, rights: Rights) -> Option<Stale<Mapping>> {
        let address = page.addr().as_u64();
        let (table, index) = (self.leaf(address)?.table, Level::One.index(address));
        let old = table.load(index);
        if !old.is_present() {
            return None;
        }
        // SAFETY: the same frame with other rights; A and D are taken over from the entry that was swapped out.
        let was = unsafe { table.swap(index, Entry::new(old.address(), flags(rights))) };
        // SAFETY: sets A and D bits only.
        unsafe { table.set(index, was.flags() & (EntryFlags::ACCESSED | EntryFlags::DIRTY)) };
        Some(Stale::new(page, mapping(was)))
    }

    fn harvest(&mut self, page: Vpn) -> Option<Stale<Mapping>> {
        let address = page.addr().as_u64();
        let (table, index) = (self.leaf(address)?.table, Level::One.index(address));
        if !table.load(index).is_present() {
            return None;
        }
        // SAFETY: clears A only.
        let old = unsafe { table.clear(index, EntryFlags::ACCESSED) };
        Some(Stale::new(page, mapping(old)))
    }

    fn lookup(&self, page: Vpn) -> Option<Mapping> {
        let address = page.addr().as_u64();
        let entry = self.leaf(address)?.table.load(Level::One.index(address));
        entry.is_present().then(|| mapping(entry))
    }

    fn rights(&self, page: Vpn) -> Option<Rights> {
        let address = page.addr().as_u64();
        let entry = self.leaf(address)?.table.load(Level::One.index(address));
        entry.is_present().then(|| rights(entry))
    }

    fn each_mapping(&self, page: Vpn, each: &mut dyn FnMut(Vpn, Mapping) -> ControlFlow<()>) {
        let Some(Leaf { table, .. }) = self.leaf(page.addr().as_u64()) else { return };
        let first = Vpn::new(page.as_u64() & !(ENTRIES as u64 - 1));
        for index in 0..ENTRIES {
            let entry = table.load(index);
            if entry.is_present() && each(first.offset(index as u64), mapping(entry)).is_break() {
                return;
            }
        }
    }

    fn drop_table(&mut self, page: Vpn, each: &mut dyn FnMut(Vpn, Mapping)) -> Option<Stale<RetiredTables>> {
        let address = page.addr().as_u64();
        let path = self.path(address)?;
        let &(above, at) = path.last()?;
        let table = below(above.load(at));
        let first = Vpn::new(page.as_u64() & !(ENTRIES as u64 - 1));
        for index in 0..ENTRIES {
            // SAFETY: as in `unmap`.
            let old = unsafe { table.swap(index, Entry::EMPTY) };
            if old.is_present() {
                each(first.offset(index as u64), mapping(old));
                adjust(above, at, -1);
            }
        }
        Some(Stale::new(page, self.prune(path)))
    }

    #[inline(always)]
    fn flush<T>(&mut self, stale: Stale<T>) -> T {
        if stale.caches() == Caches::MayHoldIt && kernel_space::is_loaded(self.root) {
            tlb::flush_page(x86_64::VirtAddr::new(stale.page().addr().as_u64()));
        }
        stale.into_flushed()
    }

    fn flush_region<T>(&mut self, stale: Stale<T>) -> T {
        if kernel_space::is_loaded(self.root) {
            tlb::flush_user();
        }
        stale.into_flushed()
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn into_root(self) -> Frame {
        kernel_space::leave(self.root);
        self.frame
    }
}

/// There is no memory for another address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for an address space")]
pub struct NoSpace;

/// A new, empty address space, and what to load to run in it.
pub fn create(layout: SpaceLayout) -> Result<(SpaceId, SpaceRoot), NoSpace> {
    let frame = frames::get().alloc_page(FrameKind::PageTable).ok_or(NoSpace)?;
    let tables = UserTables::new(frame);
    let root = tables.root();
    let space = crate::machine::mm().create_space(tables, layout).map_err(|_| NoSpace)?;
    Ok((space, root))
}
