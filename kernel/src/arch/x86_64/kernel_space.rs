//! The kernel's half of every address space.
//!
//! Owns: the root that boot ends on, the direct map, the image's mapping (W^X, guard pages), device mappings.
//! The top-level slots are filled at boot and never change, so user roots copy them once and need no
//! synchronising. Layout:
//! ```text
//! 0xffff_8000_0000_0000  direct map of RAM, 512 GiB, 2 MiB pages where they fit (`direct_map`)
//! 0xffff_c000_0000_0000  device registers and firmware tables, mapped on demand, never unmapped
//! 0xffff_ffff_8000_0000  the image, 4 KiB pages
//! ```
//! Neighbours: `boot` gives the memory map and the pages; `paging` is the format.
#![expect(unsafe_code, reason = "builds and loads page tables")]

use core::ptr::NonNull;

use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

use super::image::{self, Segment};
use super::paging::{Entry, EntryFlags, Level, SpaceRoot, TableRef};
use super::{cpu, direct_map, stack};
use crate::boot::memory::PAGE;
use crate::boot::{BootInfo, EarlyMemory, PhysRange};
use crate::sync::{Mutex, Once};

const DEVICE_BASE: u64 = 0xffff_c000_0000_0000;
const DEVICE_END: u64 = DEVICE_BASE + (1 << 39);

const TABLE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITABLE);
const CONSTANTS: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::GLOBAL).union(EntryFlags::NO_EXECUTE);
const CODE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::GLOBAL);
const VARIABLES: EntryFlags = CONSTANTS.union(EntryFlags::WRITABLE);

static ROOT: Once<SpaceRoot> = Once::new();
static DEVICES: Mutex<DeviceWindow> = Mutex::new(DeviceWindow { next: DEVICE_BASE });

/// There is no memory for a page table of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for the kernel's page tables")]
pub struct OutOfTables;

/// Where page-table pages come from: early memory at first, the frame allocator later.
pub type TableSource<'a> = dyn FnMut() -> Option<PhysAddr> + 'a;

/// How device memory is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Not at all: registers.
    Uncached,
    /// As RAM: firmware tables.
    WriteBack,
}

/// Memory outside RAM, mapped for the life of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Its first byte.
    pub start: NonNull<u8>,
    /// Its length in bytes.
    pub len: u64,
}

// SAFETY: the mapping is the same on every CPU and is never undone; what accesses mean is the device driver's business.
unsafe impl Send for Mapped {}

/// Builds the kernel's page tables and runs on them. Leaves the image's guard pages and everything below the upper half unmapped.
pub fn init(boot: &BootInfo, early: &mut EarlyMemory) -> Result<(), OutOfTables> {
    let root = early.take_zeroed_page().ok_or(OutOfTables)?;
    let mut source = || early.take_zeroed_page();
    // SAFETY: a zeroed page of our own, never given back.
    let mut tables = Tables { root: unsafe { TableRef::at(root) }, source: &mut source };
    tables.map_ram(boot)?;
    tables.map_image(boot.image.start)?;
    // The slot of the device window: its table must exist before the first user root copies the slot.
    tables.table_for(DEVICE_BASE, Level::Three)?;
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

/// Maps memory outside RAM. Mappings are few and stay for ever, so addresses are only ever handed out.
pub fn map_device(range: PhysRange, caching: Caching, source: &mut TableSource<'_>) -> Result<Mapped, OutOfTables> {
    let first = range.start.align_down(PAGE);
    let pages = PhysRange::new(first, range.end.align_up(PAGE));
    let mut window = DEVICES.lock();
    let base = window.next;
    if pages.len() > DEVICE_END - base {
        return Err(OutOfTables);
    }
    let uncached = EntryFlags::NO_CACHE.union(EntryFlags::WRITE_THROUGH);
    let flags = match caching {
        Caching::Uncached => VARIABLES.union(uncached),
        Caching::WriteBack => CONSTANTS,
    };
    let mut tables = Tables { root: root().table(), source };
    for offset in (0..pages.len()).step_by(PAGE as usize) {
        tables.map_page(base + offset, first + offset, flags)?;
    }
    window.next = base + pages.len();
    let start = core::ptr::with_exposed_provenance_mut((base + (range.start - first)) as usize);
    Ok(Mapped { start: NonNull::new(start).expect("the device window is not at 0"), len: range.len() })
}

struct DeviceWindow {
    next: u64,
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
        // SAFETY: the callers map RAM into the direct map, the image at its address, and devices into fresh
        // addresses of the device window; the entry was empty, so there is nothing to flush.
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
