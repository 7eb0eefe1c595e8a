//! The machine's frames: hand-over from the boot allocator to mm's buddy, and back to it later what only booting needed.
//!
//! Owns: the one [`FrameAllocator`] and its storage. Does not own: what frames are used for (mm), page contents (`phys`).
//! Neighbours: `heap` grows from it; `boot::memory` says which RAM is whose.
#![expect(unsafe_code, reason = "turns early memory into the allocator's storage, and frames into zeroed table pages")]

use mm::addr::Pfn;
use mm::frame::{FrameAllocator, FrameKind};
use x86_64::PhysAddr;

use crate::arch::direct_map;
use crate::boot::EarlyMemory;
use crate::boot::memory::{MemoryMap, PAGE, PhysRange, RegionKind};
use crate::sync::{IrqLock, Once};

/// mm's frame allocator with the kernel's lock.
pub type Frames = FrameAllocator<IrqLock>;

static FRAMES: Once<Frames> = Once::new();

/// RAM is too small for the kernel's own book-keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RAM is too small for the frame allocator")]
pub struct TooLittleMemory;

/// How many frames there are from address 0 to the end of RAM: the length of every table indexed by frame number.
pub fn span(map: &MemoryMap) -> usize {
    (map.top().as_u64() / PAGE) as usize
}

/// Ends early memory: what it has not given away becomes the allocator's.
pub fn init(map: &mut MemoryMap, mut early: EarlyMemory) -> Result<&'static Frames, TooLittleMemory> {
    let frames = span(map);
    let storage = early.take_slice::<u64>(Frames::storage_words(frames)).ok_or(TooLittleMemory)?;
    storage.fill(core::mem::MaybeUninit::new(0));
    // SAFETY: every element has just been written.
    let storage = unsafe { storage.assume_init_mut() };
    early.finish(map);
    let allocator = FRAMES.call_once(|| FrameAllocator::new(storage, frames));
    for region in map.regions() {
        allocator.reserve_range(pfn(region.range.start), pfn(region.range.end));
    }
    add(allocator, map, RegionKind::Usable);
    Ok(allocator)
}

/// The allocator.
pub fn get() -> &'static Frames {
    FRAMES.get().expect("frames are set up at boot")
}

/// Gives back RAM that has served its purpose; it must not be looked at any more.
pub fn reclaim(map: &mut MemoryMap, kind: RegionKind) {
    assert!(matches!(kind, RegionKind::BootOnly | RegionKind::Module), "{kind:?} memory is never free");
    add(get(), map, kind);
    map.retire(kind);
}

fn add(allocator: &Frames, map: &MemoryMap, kind: RegionKind) {
    for PhysRange { start, end } in map.of_kind(kind) {
        allocator.add_range(pfn(start), pfn(end));
    }
}

/// The number of the frame that an address lies in.
pub fn pfn(address: PhysAddr) -> Pfn {
    Pfn::new((address.as_u64() / PAGE) as u32)
}

/// A zeroed frame for a page table of the kernel's half: those are never freed.
pub fn kernel_table() -> Option<PhysAddr> {
    let allocator = get();
    let frame = allocator.alloc_page(FrameKind::PageTable)?;
    let page = PhysAddr::new(allocator.leak(frame).phys());
    // SAFETY: a frame that is ours alone, in the direct map.
    unsafe { direct_map::pointer(page).cast::<[u64; 512]>().write_bytes(0, 1) };
    Some(page)
}
