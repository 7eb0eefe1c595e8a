//! The kernel's half of every address space.
//!
//! Owns: the root that boot ends on, the direct map, the image's mapping (W^X, guard pages), the tables behind `areas`.
//! The top-level entries are filled at boot and never change, so user roots copy them once and need no synchronising: what is
//! mapped later goes into tables that all roots share. Where everything is: `layout`.
//! Neighbours: `boot` gives the memory map and the pages; `paging` is the format; `areas` gives out addresses.
#![expect(unsafe_code, reason = "builds and loads page tables")]

use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

use super::areas::{Mapping, Writes};
use super::image::{self, Segment};
use super::layout::{AREAS, AREAS_LEN, TOP_LEVEL_SPAN};
use super::paging::{ENTRIES, Entry, EntryFlags, KERNEL_HALF, Level, SpaceRoot, TableRef};
use super::{cpu, direct_map, stack, tlb};
use crate::boot::memory::PAGE;
use crate::boot::{BootInfo, EarlyMemory, PhysRange};
use crate::sync::Once;

const TABLE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITABLE);
const CONSTANTS: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::GLOBAL).union(EntryFlags::NO_EXECUTE);
const CODE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::GLOBAL);
const VARIABLES: EntryFlags = CONSTANTS.union(EntryFlags::WRITABLE);

static ROOT: Once<SpaceRoot> = Once::new();

/// There is no memory for a page table of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for the kernel's page tables")]
pub struct OutOfTables;

/// Where page-table pages come from: early memory at first, the frame allocator later.
pub type TableSource<'a> = dyn FnMut() -> Option<PhysAddr> + 'a;

/// Builds the kernel's page tables and runs on them. Leaves the image's guard pages and everything below the upper half unmapped.
pub fn init(boot: &BootInfo, early: &mut EarlyMemory) -> Result<(), OutOfTables> {
    let root = early.take_zeroed_page().ok_or(OutOfTables)?;
    let mut source = || early.take_zeroed_page();
    // SAFETY: a zeroed page of our own, never given back.
    let mut tables = Tables { root: unsafe { TableRef::at(root) }, source: &mut source };
    tables.map_ram(boot)?;
    tables.map_image(boot.image.start)?;
    // The tables of the areas' entries must exist before the first user root copies the entries.
    for entry in (AREAS..AREAS + AREAS_LEN).step_by(TOP_LEVEL_SPAN as usize) {
        tables.table_for(entry, Level::Three)?;
    }
    ROOT.call_once(|| SpaceRoot(root));
    load(SpaceRoot(root));
    Ok(())
}

/// The kernel's own root: for code that runs in no address space.
pub fn root() -> SpaceRoot {
    *ROOT.get().expect("kernel page tables are built at boot")
}

/// Runs on a root: a load of CR3 forgets all translations of user pages, so callers skip it when nothing changes.
pub(super) fn load(root: SpaceRoot) {
    cpu::this().root.set(root);
    let frame = PhysFrame::containing_address(root.0);
    // SAFETY: the root maps the image, the stacks and the direct map as the running code expects.
    unsafe { Cr3::write(frame, Cr3::read().1) };
}

/// Whether user code runs in this space now, so that the TLB may know its translations.
pub fn is_loaded(space: SpaceRoot) -> bool {
    cpu::this().root.get() == space
}

/// Leaves an address space that is about to end: its root must not stay in CR3.
pub fn leave(ended: SpaceRoot) {
    if cpu::this().root.get() == ended {
        load(root());
    }
}

/// Maps a physical range at `base`, in the areas. On failure some of it is mapped.
pub(super) fn map_pages(base: u64, mapping: Mapping, source: &mut TableSource<'_>) -> Result<(), OutOfTables> {
    let Mapping { physical, caching, writes } = mapping;
    let rights = if writes == Writes::Allowed { VARIABLES } else { CONSTANTS };
    let mut tables = Tables { root: root().table(), source };
    for offset in (0..physical.len()).step_by(PAGE as usize) {
        tables.map_page(base + offset, physical.start + offset, rights | caching.flags())?;
    }
    Ok(())
}

/// Maps a frame of RAM as data at a free address of the areas.
pub(super) fn map_frame(address: u64, frame: PhysAddr, source: &mut TableSource<'_>) -> Result<(), OutOfTables> {
    Tables { root: root().table(), source }.map_page(address, frame, VARIABLES)
}

/// Ends what [`map_frame`] began, and says which frame was there.
pub(super) fn unmap_frame(address: u64) -> Option<PhysAddr> {
    let (table, index) = leaf(root(), address)?;
    let entry = table.load(index);
    unmap_pages(address, 1);
    entry.is_present().then(|| entry.address())
}

/// Empties the entries of `pages` pages at `base`, in the areas, and forgets their translations. The tables stay.
pub(super) fn unmap_pages(base: u64, pages: u64) {
    for address in (base..base + pages * PAGE).step_by(PAGE as usize) {
        if let Some((table, index)) = leaf(root(), address) {
            // SAFETY: in the areas or the window behind them, whose user has given it up (`areas`, `scattered`);
            // nothing is mapped by an empty entry.
            unsafe { table.store(index, Entry::EMPTY) };
            tlb::flush_page(VirtAddr::new(address));
        }
    }
}

/// The entry that maps an address of the upper half in 4 KiB, or would, seen from a root.
fn leaf(root: SpaceRoot, address: u64) -> Option<(TableRef, usize)> {
    let mut table = root.table();
    for level in Level::ABOVE_LEAVES {
        let entry = table.load(level.index(address));
        if !entry.is_present() || entry.has(EntryFlags::HUGE) {
            return None;
        }
        // SAFETY: a present entry of the kernel's half that is no leaf; its tables are never freed.
        table = unsafe { TableRef::at(entry.address()) };
    }
    Some((table, Level::One.index(address)))
}

/// The entry that maps an address of the upper half in 4 KiB, if its tables are there, as another address space sees it.
pub fn entry(space: SpaceRoot, address: VirtAddr) -> Option<Entry> {
    leaf(space, address.as_u64()).map(|(table, index)| table.load(index))
}

/// Does something while running on another root: what it sees of the kernel's half must be the same.
pub fn running_on<T>(space: SpaceRoot, look: impl FnOnce() -> T) -> T {
    let before = cpu::this().root.get();
    load(space);
    let seen = look();
    load(before);
    seen
}

/// Tells of every page that is mapped in the kernel's half, large ones too: its address, its length in bytes, and its entry.
pub fn each_mapping(tell: &mut dyn FnMut(u64, u64, Entry)) {
    /// Bits 48 and up of an address repeat bit 47.
    const UPPER_HALF: u64 = 0xffff_0000_0000_0000;
    fn walk(table: TableRef, levels: &[Level], base: u64, tell: &mut dyn FnMut(u64, u64, Entry)) {
        let (level, below) = levels.split_first().expect("leaves have no tables");
        let first = if *level == Level::Four { KERNEL_HALF } else { 0 };
        for index in first..ENTRIES {
            let (entry, address) = (table.load(index), base + index as u64 * level.span());
            if entry.is_present() && (*level == Level::One || entry.has(EntryFlags::HUGE)) {
                tell(address, level.span(), entry);
            } else if entry.is_present() {
                // SAFETY: a present entry of the kernel's half that is no leaf; its tables are never freed.
                walk(unsafe { TableRef::at(entry.address()) }, below, address, tell);
            }
        }
    }
    walk(root().table(), &[Level::Four, Level::Three, Level::Two, Level::One], UPPER_HALF, tell);
}

/// The tree under construction.
struct Tables<'a> {
    root: TableRef,
    source: &'a mut TableSource<'a>,
}

impl Tables<'_> {
    /// The direct map: every run of RAM, writable and never executable, but for the image's code and constants.
    fn map_ram(&mut self, boot: &BootInfo) -> Result<(), OutOfTables> {
        let constants = image::segments()[2].1.start - image::start();
        let read_only = PhysRange::new(boot.image.start, boot.image.start + constants);
        for run in boot.memory.runs() {
            let mut at = run.start;
            while at < run.end {
                let block = PhysRange::from_len(at.as_u64(), Level::Two.span());
                let alias = direct_map::BASE + at.as_u64();
                let huge = at.is_aligned(Level::Two.span())
                    && block.end <= run.end
                    && block.intersection(read_only).is_empty();
                let flags = if at >= read_only.start && at < read_only.end { CONSTANTS } else { VARIABLES };
                if huge {
                    self.map(alias, Entry::new(at, flags | EntryFlags::HUGE), Level::Two)?;
                    at = block.end;
                } else {
                    self.map_page(alias, at, flags)?;
                    at += PAGE;
                }
            }
        }
        Ok(())
    }

    fn map_image(&mut self, loaded_at: PhysAddr) -> Result<(), OutOfTables> {
        let guards = stack::guards();
        // Given back to the frame allocator later, so it must not stay writable under a second address.
        let boot_only = image::boot_only(PhysRange::from_len(loaded_at.as_u64(), image::len()));
        for (segment, range) in image::segments() {
            let flags = match segment {
                Segment::Constants => CONSTANTS,
                Segment::Code => CODE,
                Segment::Variables => VARIABLES,
            };
            let mut page = range.start;
            while page < range.end {
                let at = loaded_at + (page - image::start());
                if !guards.contains(&page) && !(boot_only.start..boot_only.end).contains(&at) {
                    self.map_page(page.as_u64(), at, flags)?;
                }
                page = VirtAddr::new_truncate(page.as_u64() + PAGE);
            }
        }
        Ok(())
    }

    fn map_page(&mut self, address: u64, page: PhysAddr, flags: EntryFlags) -> Result<(), OutOfTables> {
        self.map(address, Entry::new(page, flags), Level::One)
    }

    fn map(&mut self, address: u64, entry: Entry, leaf: Level) -> Result<(), OutOfTables> {
        let table = self.table_for(address, leaf)?;
        let index = leaf.index(address);
        debug_assert!(!table.load(index).is_present(), "{address:#x} is mapped twice");
        // SAFETY: the callers map RAM into the direct map, the image at its address, devices into areas that they were
        // given, and frames that are the heap's alone into the window of `scattered`; the entry was empty, so there is
        // nothing to flush.
        unsafe { table.store(index, entry) };
        Ok(())
    }

    /// The table of level `leaf` that `address` goes through, made if it is not there.
    fn table_for(&mut self, address: u64, leaf: Level) -> Result<TableRef, OutOfTables> {
        let mut table = self.root;
        for level in Level::ABOVE_LEAVES {
            if level == leaf {
                break;
            }
            let index = level.index(address);
            let mut entry = table.load(index);
            if !entry.is_present() {
                entry = Entry::new((self.source)().ok_or(OutOfTables)?, TABLE);
                // SAFETY: a zeroed page of our own as a table; the entry was empty.
                unsafe { table.store(index, entry) };
            }
            // SAFETY: kernel tables are never freed, and no leaf is on the way (huge pages and small ones never share a block).
            table = unsafe { TableRef::at(entry.address()) };
        }
        Ok(table)
    }
}
