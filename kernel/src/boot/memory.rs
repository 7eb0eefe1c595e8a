//! The memory map: which RAM there is and what may be done with it.
//!
//! Owns: a sorted, non-overlapping list of page-aligned RAM regions, in a fixed array because it exists
//! before any allocator. Memory that is not RAM never enters it.
//! Neighbours: `pvh` and `limine` fill it, `early` and `main` carve from it, the frame allocator is built from it.

use core::fmt;

use arrayvec::ArrayVec;
use x86_64::PhysAddr;

/// Bytes in a page, and the grain of everything here.
pub const PAGE: u64 = 4096;

/// RAM above is left alone: the direct map does not reach it.
pub const REACH: u64 = 1 << 39;

/// More regions than any firmware we know of reports; a map that does not fit loses its smallest regions.
const CAPACITY: usize = 128;

/// A half-open range of physical memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// First byte after the range.
    pub end: PhysAddr,
}

impl PhysRange {
    /// The range of `len` bytes from `start`; cut off at the end of the physical address space.
    pub fn from_len(start: u64, len: u64) -> Self {
        // The last page is left out, so that rounding up to pages stays inside the address space.
        let end = start.saturating_add(len).min((1 << 52) - PAGE);
        Self { start: PhysAddr::new_truncate(start.min(end)), end: PhysAddr::new_truncate(end) }
    }

    /// The range between two addresses.
    pub fn new(start: PhysAddr, end: PhysAddr) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes two ranges share; empty if none.
    pub fn intersection(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The whole pages inside the range.
    fn shrunk_to_pages(self) -> Self {
        Self::new(self.start.align_up(PAGE), self.end.align_down(PAGE))
    }

    /// The pages the range touches.
    fn grown_to_pages(self) -> Self {
        Self::new(self.start.align_down(PAGE), self.end.align_up(PAGE))
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#012x}..{:#012x}", self.start.as_u64(), self.end.as_u64())
    }
}

/// What a region of RAM is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free from the start.
    Usable,
    /// Holds what the loader told us; free once that has been read.
    BootOnly,
    /// A boot module; free once its contents have been used.
    Module,
    /// The kernel image and memory it took for good before the frame allocator existed.
    Kernel,
    /// ACPI tables: readable, never ours.
    Firmware,
}

/// One region of the map.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Where.
    pub range: PhysRange,
    /// What for.
    pub kind: RegionKind,
}

/// The map.
pub struct MemoryMap {
    regions: ArrayVec<Region, CAPACITY>,
}

impl MemoryMap {
    /// A map without RAM.
    pub const fn new() -> Self {
        Self { regions: ArrayVec::new_const() }
    }

    /// Adds what the loader reports as RAM. Partial pages at the ends are dropped; overlaps keep the earlier report.
    pub fn add(&mut self, range: PhysRange, kind: RegionKind) {
        let mut rest = range.intersection(PhysRange::from_len(0, REACH)).shrunk_to_pages();
        for index in 0..self.regions.len() {
            let taken = rest.intersection(self.regions[index].range);
            if !taken.is_empty() {
                self.insert(PhysRange::new(rest.start, taken.start), kind);
                rest = PhysRange::new(taken.end, rest.end);
            }
        }
        self.insert(rest, kind);
        self.regions.sort_unstable_by_key(|region| region.range.start);
    }

    fn insert(&mut self, range: PhysRange, kind: RegionKind) {
        if range.is_empty() {
            return;
        }
        if self.regions.is_full() {
            let smallest = (0..CAPACITY).min_by_key(|&index| self.regions[index].range.len());
            let smallest = smallest.expect("CAPACITY is not zero");
            if self.regions[smallest].range.len() >= range.len() {
                return;
            }
            self.regions.remove(smallest);
        }
        self.regions.push(Region { range, kind });
    }

    /// Gives the pages that `range` touches, as far as they are RAM and still `Usable` or `BootOnly`, another kind.
    pub fn carve(&mut self, range: PhysRange, kind: RegionKind) {
        let range = range.grown_to_pages();
        let old = core::mem::replace(self, Self::new());
        for Region { range: region, kind: was } in old.regions {
            let cut = region.intersection(range);
            if cut.is_empty() || !matches!(was, RegionKind::Usable | RegionKind::BootOnly) {
                self.insert(region, was);
                continue;
            }
            self.insert(PhysRange::new(region.start, cut.start), was);
            self.insert(cut, kind);
            self.insert(PhysRange::new(cut.end, region.end), was);
        }
        self.regions.sort_unstable_by_key(|region| region.range.start);
    }

    /// Turns the regions of one kind into usable ones: they have been given to the frame allocator.
    pub fn retire(&mut self, kind: RegionKind) {
        for region in &mut self.regions {
            if region.kind == kind {
                region.kind = RegionKind::Usable;
            }
        }
    }

    /// All regions, by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The ranges of one kind, by address.
    pub fn of_kind(&self, kind: RegionKind) -> impl Iterator<Item = PhysRange> + '_ {
        self.regions.iter().filter(move |region| region.kind == kind).map(|region| region.range)
    }

    /// Maximal runs of RAM of any kind, by address: what the direct map covers.
    pub fn runs(&self) -> impl Iterator<Item = PhysRange> + '_ {
        let mut regions = self.regions.iter().peekable();
        core::iter::from_fn(move || {
            let mut run = regions.next()?.range;
            while let Some(next) = regions.next_if(|next| next.range.start == run.end) {
                run.end = next.range.end;
            }
            Some(run)
        })
    }

    /// Bytes of RAM of all kinds.
    pub fn total(&self) -> u64 {
        self.regions.iter().map(|region| region.range.len()).sum()
    }

    /// The end of the highest RAM region.
    pub fn top(&self) -> PhysAddr {
        self.regions.last().map_or(PhysAddr::zero(), |region| region.range.end)
    }
}
