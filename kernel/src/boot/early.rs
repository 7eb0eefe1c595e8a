//! Memory before there is a frame allocator: a pointer that moves through one range of RAM.
//!
//! Owns: the range it was given, the largest usable one that the boot page tables reach. What was taken from it
//! stays taken ([`RegionKind::Kernel`]); the rest goes to the frame allocator by [`EarlyMemory::finish`].
//! Neighbours: `arch::kernel_space` takes page tables, `main` takes the frame table.
#![expect(unsafe_code, reason = "hands out physical memory that nobody else knows of as slices")]

use core::mem::MaybeUninit;

use x86_64::PhysAddr;

use super::memory::{MemoryMap, PAGE, PhysRange, RegionKind};
use crate::arch::direct_map;

/// The early allocator.
pub struct EarlyMemory {
    taken: PhysRange,
    end: PhysAddr,
}

impl EarlyMemory {
    /// Starts in the largest usable range inside `window`; `None` if there is no RAM there at all.
    pub fn new(map: &MemoryMap, window: PhysRange) -> Option<Self> {
        let range = map
            .of_kind(RegionKind::Usable)
            .map(|range| range.intersection(window))
            .max_by_key(|range| range.len())
            .filter(|range| !range.is_empty())?;
        Some(Self { taken: PhysRange::new(range.start, range.start), end: range.end })
    }

    /// From now on the direct map covers all RAM: the range may extend beyond the boot window.
    pub fn lift_window(&mut self, map: &MemoryMap) {
        let whole = map.of_kind(RegionKind::Usable).find(|range| range.end >= self.end && range.start <= self.end);
        self.end = whole.map_or(self.end, |range| range.end);
    }

    /// Takes whole pages for at least `bytes` bytes, not zeroed.
    pub fn take(&mut self, bytes: u64) -> Option<PhysRange> {
        let len = bytes.checked_next_multiple_of(PAGE)?;
        if self.end - self.taken.end < len {
            return None;
        }
        let range = PhysRange::from_len(self.taken.end.as_u64(), len);
        self.taken.end = range.end;
        Some(range)
    }

    /// Takes one zeroed page.
    pub fn take_zeroed_page(&mut self) -> Option<PhysAddr> {
        let page = self.take(PAGE)?.start;
        // SAFETY: the page is RAM inside the direct map (boot window, later all RAM) and was free until this call.
        unsafe { direct_map::pointer(page).cast::<[u64; 512]>().write_bytes(0, 1) };
        Some(page)
    }

    /// Takes a slice for the life of the kernel, in whole pages of its own.
    pub fn take_slice<T>(&mut self, len: usize) -> Option<&'static mut [MaybeUninit<T>]> {
        const { assert!(align_of::<T>() <= PAGE as usize) };
        let bytes = len.checked_mul(size_of::<T>())?;
        let start = self.take(bytes as u64)?.start;
        let first = direct_map::pointer(start).cast::<MaybeUninit<T>>();
        // SAFETY: `take` gave us these pages and never will again; they are RAM in the direct map, page-aligned
        // (enough for `T`, checked above), and `MaybeUninit` asks for no contents.
        Some(unsafe { core::slice::from_raw_parts_mut(first, len) })
    }

    /// Ends the early allocator: what it gave away is the kernel's in the map, the rest is usable as before.
    pub fn finish(self, map: &mut MemoryMap) {
        map.carve(self.taken, RegionKind::Kernel);
    }
}
