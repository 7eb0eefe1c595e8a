//! The 4-level page-table format: entries, tables through the direct map, roots.
//!
//! Owns: bits and indices (SDM vol. 3A, 5.5), and that every access to an entry is one atomic instruction, so that
//! no accessed or dirty bit that the CPU sets meanwhile is lost.
//! Does not own: policy. `kernel_space` builds the kernel's half, `address_space` (mm's `PageTable`) the user half.
#![expect(unsafe_code, reason = "reads and writes page tables through the direct map")]

use core::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;
use x86_64::PhysAddr;

use super::{direct_map, kernel_space};

/// Entries in a table, at every level.
pub const ENTRIES: usize = 512;
/// The first top-level entry of the kernel half.
pub const KERNEL_HALF: usize = ENTRIES / 2;

bitflags! {
    /// The bits of an entry beside its address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryFlags: u64 {
        /// The rest of the entry means something.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// Ring 3 may use it.
        const USER = 1 << 2;
        /// Caching: the low bit of the PAT index (`pat`).
        const WRITE_THROUGH = 1 << 3;
        /// Caching: the middle bit of the PAT index.
        const NO_CACHE = 1 << 4;
        /// The CPU has used the entry.
        const ACCESSED = 1 << 5;
        /// The CPU has written through the entry (leaf entries only).
        const DIRTY = 1 << 6;
        /// Caching: the high bit of the PAT index, in entries of the lowest level; above, the same bit is `HUGE`.
        const ATTRIBUTE = 1 << 7;
        /// A leaf above the lowest level.
        const HUGE = 1 << 7;
        /// Survives a load of CR3.
        const GLOBAL = 1 << 8;
        /// Instruction fetches are not allowed.
        const NO_EXECUTE = 1 << 63;
    }
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bits 52..=61 are ours in every entry (62 would be a protection key's, but only in leaves and only with CR4.PKE).
const COUNT_SHIFT: u32 = 52;
const COUNT: u64 = 0x3ff << COUNT_SHIFT;

/// One entry of a table, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// Not present, nothing to leak and nothing to speculate on.
    pub const EMPTY: Self = Self(0);

    /// An entry for a page or table at `address`.
    pub fn new(address: PhysAddr, flags: EntryFlags) -> Self {
        debug_assert_eq!(address.as_u64() & !ADDRESS, 0, "not a page address: {address:?}");
        Self(address.as_u64() | flags.bits())
    }

    /// The page or table it points to.
    pub fn address(self) -> PhysAddr {
        PhysAddr::new_truncate(self.0 & ADDRESS)
    }

    /// Its flags.
    pub fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_truncate(self.0)
    }

    /// Whether all of `flags` are set.
    pub fn has(self, flags: EntryFlags) -> bool {
        self.flags().contains(flags)
    }

    /// Whether the CPU would use it.
    pub fn is_present(self) -> bool {
        self.has(EntryFlags::PRESENT)
    }

    /// The number kept in the entry's spare bits: how many entries of the table below are present.
    pub fn count(self) -> u16 {
        ((self.0 & COUNT) >> COUNT_SHIFT) as u16
    }

    /// The same entry with another number in its spare bits.
    #[must_use]
    pub fn with_count(self, count: u16) -> Self {
        debug_assert!(usize::from(count) <= ENTRIES);
        Self(self.0 & !COUNT | u64::from(count) << COUNT_SHIFT)
    }
}

/// The levels of the tree; the discriminant is the number of address bits below the level's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Maps 4 KiB pages.
    One = 12,
    /// Maps 2 MiB pages or level-1 tables.
    Two = 21,
    /// Maps level-2 tables.
    Three = 30,
    /// The root.
    Four = 39,
}

impl Level {
    /// The tables between the root and the leaves, top down.
    pub const ABOVE_LEAVES: [Self; 3] = [Self::Four, Self::Three, Self::Two];

    /// Which entry of a table of this level an address goes through.
    pub fn index(self, address: u64) -> usize {
        (address >> self as u32) as usize % ENTRIES
    }

    /// Bytes that one entry of this level covers.
    pub const fn span(self) -> u64 {
        1 << self as u32
    }
}

/// A table, reached through the direct map. Like a pointer: copying it says nothing about who owns the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRef(PhysAddr);

impl TableRef {
    /// The table in a page.
    ///
    /// # Safety
    /// The page is RAM in the direct map, holds a page table (or zeroes), and stays one as long as the value or a
    /// copy of it is used.
    pub unsafe fn at(page: PhysAddr) -> Self {
        Self(page)
    }

    /// The physical address of the page it is in.
    pub fn address(self) -> PhysAddr {
        self.0
    }

    fn entry(self, index: usize) -> &'static AtomicU64 {
        assert!(index < ENTRIES);
        // SAFETY: by the contract of `at` the page is mapped, and nobody accesses it but atomically: the CPU and this.
        unsafe { &*direct_map::pointer(self.0).cast::<AtomicU64>().add(index) }
    }

    /// Reads an entry.
    pub fn load(self, index: usize) -> Entry {
        Entry(self.entry(index).load(Ordering::Relaxed))
    }

    /// Replaces an entry.
    ///
    /// # Safety
    /// The new entry maps nothing that must not be mapped there, and the old one is flushed before what it mapped is reused.
    pub unsafe fn store(self, index: usize, entry: Entry) {
        self.entry(index).store(entry.0, Ordering::Release);
    }

    /// Replaces an entry and returns the old one with the accessed and dirty bits it had in that very moment.
    ///
    /// # Safety
    /// As for [`TableRef::store`].
    pub unsafe fn swap(self, index: usize, entry: Entry) -> Entry {
        Entry(self.entry(index).swap(entry.0, Ordering::AcqRel))
    }

    /// Clears flags and returns the entry as it was.
    ///
    /// # Safety
    /// As for [`TableRef::store`], for the entry without the flags.
    pub unsafe fn clear(self, index: usize, flags: EntryFlags) -> Entry {
        Entry(self.entry(index).fetch_and(!flags.bits(), Ordering::AcqRel))
    }

    /// Sets flags and returns the entry as it was.
    ///
    /// # Safety
    /// As for [`TableRef::store`], for the entry with the flags.
    pub unsafe fn set(self, index: usize, flags: EntryFlags) -> Entry {
        Entry(self.entry(index).fetch_or(flags.bits(), Ordering::AcqRel))
    }
}

/// A top-level table fit to be loaded: its kernel half is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceRoot(pub(super) PhysAddr);

impl SpaceRoot {
    /// Not a root: page tables are never at address 0.
    pub(super) const NONE: Self = Self(PhysAddr::zero());

    /// Makes a root with an empty user half. The kernel half is copied once: its top-level slots never change after boot.
    ///
    /// # Safety
    /// The page is RAM in the direct map and nobody else's until the root is given up (see [`kernel_space::leave`]).
    pub unsafe fn new(page: PhysAddr) -> Self {
        // SAFETY: the caller gives us the page; the kernel's root lives for ever.
        let (root, kernel) = unsafe { (TableRef::at(page), TableRef::at(kernel_space::root().0)) };
        for index in 0..ENTRIES {
            let entry = if index < KERNEL_HALF { Entry::EMPTY } else { kernel.load(index) };
            // SAFETY: nothing is mapped through this table yet.
            unsafe { root.store(index, entry) };
        }
        Self(page)
    }

    /// The root's table.
    pub fn table(self) -> TableRef {
        TableRef(self.0)
    }
}
