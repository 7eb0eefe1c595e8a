//! The kernel heap: `mm`'s slabs over the frame allocator, as Rust's `GlobalAlloc`.
//!
//! Owns: the one heap, and the way from its addresses to pointers: they are physical, in the direct map, or, for blocks of several frames
//! when no such block is free, virtual already ([`scattered`]). Does not own: which object is where (`mm::heap`), frames. Lock order:
//! the heap's lock, then the scattered blocks', then the frame allocator's.
#![expect(unsafe_code, reason = "GlobalAlloc; slab headers inside raw frames")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use arrayvec::ArrayVec;
use mm::frame::{FrameKind, Order};
use mm::heap::{
    CLASSES, ClassStats, Heap as _, HeapStats, Request, SLAB_HEADER, SlabHeader, SlabHeap, SlabId, SlabMemory,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::{direct_map, scattered};
use crate::frames;
use crate::sync::Mutex;

/// Totals at this moment.
pub fn stats() -> HeapStats {
    HEAP.slabs.lock().stats()
}

/// Every size of small objects at this moment.
pub fn class_stats() -> [ClassStats; CLASSES.len()] {
    HEAP.slabs.lock().class_stats()
}

/// Gives empty slabs back to the frame allocator; returns how many.
pub fn shrink() -> usize {
    HEAP.slabs.lock().shrink()
}

/// Keeps so many frames for when there is none, from now on: for somebody whose allocations must not fail.
pub fn set_reserve(frames: usize) {
    let mut slabs = HEAP.slabs.lock();
    let memory = slabs.memory_mut();
    memory.wanted = frames.min(MOST_RESERVED).max(memory.wanted);
}

/// Puts into the reserve what it lacks, as long as there are frames above the watermark `min`. Says whether it is full.
pub fn fill_reserve() -> bool {
    let mut slabs = HEAP.slabs.lock();
    let memory = slabs.memory_mut();
    while memory.reserve.len() < memory.wanted {
        let allocator = frames::get();
        if allocator.free_frames() <= crate::try_mm().map_or(0, |mm| mm.watermarks().min) {
            return false;
        }
        let Some(frame) = allocator.alloc(FrameKind::Heap, Order::PAGE) else { return false };
        memory.reserve.push(allocator.leak(frame).phys());
    }
    true
}

/// Frames that are kept for when there is none, until somebody asks for more: an allocation that fails stops the kernel.
const RESERVE: usize = 4;
/// And at most so many.
const MOST_RESERVED: usize = 64;

/// Frames by physical address, with headers where the slabs have them.
struct HeapFrames {
    reserve: ArrayVec<u64, MOST_RESERVED>,
    wanted: usize,
}

impl HeapFrames {
    fn header_pointer(slab: SlabId) -> *mut SlabHeader {
        direct_map::pointer(PhysAddr::new(slab.address() + SLAB_HEADER as u64)).cast()
    }

    fn release(at: PhysAddr, order: Order) {
        let released = frames::get().release(frames::pfn(at), FrameKind::Heap, order);
        released.unwrap_or_else(|error| panic!("a block of the heap at {at:#x}: {error}"));
    }

    fn release_frame(frame: PhysAddr) {
        Self::release(frame, Order::PAGE);
    }
}

impl SlabMemory for HeapFrames {
    fn take(&mut self, order: Order) -> Option<u64> {
        let allocator = frames::get();
        let alloc = |order| Some(allocator.leak(allocator.alloc(FrameKind::Heap, order)?).phys());
        let mut single = || alloc(Order::PAGE).map(PhysAddr::new);
        match alloc(order) {
            Some(at) => {
                if self.reserve.len() < RESERVE {
                    self.reserve.extend(alloc(Order::PAGE));
                }
                Some(at)
            }
            None if order == Order::PAGE => self.reserve.pop(),
            None => scattered::map(order.frames(), &mut single, &mut Self::release_frame, &mut frames::kernel_table)
                .map(VirtAddr::as_u64),
        }
    }

    fn give(&mut self, at: u64, order: Order) {
        if order == Order::PAGE && self.reserve.len() < self.wanted {
            self.reserve.push(at);
            return;
        }
        match scattered_at(at) {
            Some(block) => scattered::unmap(block, order.frames(), &mut Self::release_frame),
            None => Self::release(PhysAddr::new(at), order),
        }
    }

    fn make_header(&mut self, slab: SlabId, header: SlabHeader) {
        // SAFETY: the slabs' code asks this for frames it has just taken, which are the heap's alone; the header fits at the
        // end, aligned, and no object reaches that far.
        unsafe { Self::header_pointer(slab).write(header) }
    }

    fn header(&mut self, slab: SlabId) -> &mut SlabHeader {
        // SAFETY: the slabs' code asks this for slabs it has made, or, when something is freed with a layout of a small
        // object, for the frame that this object lies in, which by GlobalAlloc's contract is such a slab. The borrow of
        // `self`, of which there is one, keeps references to headers apart.
        unsafe { &mut *Self::header_pointer(slab) }
    }
}

struct Heap {
    slabs: Mutex<SlabHeap<HeapFrames>>,
}

#[global_allocator]
static HEAP: Heap =
    Heap { slabs: Mutex::new(SlabHeap::new(HeapFrames { reserve: ArrayVec::new_const(), wanted: RESERVE })) };

fn request(layout: Layout) -> Request {
    Request { size: layout.size(), align: layout.align() }
}

/// The block behind one of the heap's addresses, if it is a scattered one. No physical address looks like that.
fn scattered_at(at: u64) -> Option<VirtAddr> {
    VirtAddr::try_new(at).ok().filter(|at| scattered::contains(*at))
}

fn address(object: *mut u8) -> u64 {
    let at = VirtAddr::from_ptr(object);
    direct_map::physical(at).map_or(at.as_u64(), PhysAddr::as_u64)
}

fn pointer(at: u64) -> *mut u8 {
    match scattered_at(at) {
        Some(block) => block.as_mut_ptr(),
        None => direct_map::pointer(PhysAddr::new(at)),
    }
}

// SAFETY: what `SlabHeap` gives out is at least as large and aligned as asked, is given out once until it is freed, and lies
// in frames that stay the heap's meanwhile; the direct map is linear, and as aligned as a frame, and a scattered block is mapped
// page behind page, as aligned as it is long.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(at) = self.slabs.lock().alloc(request(layout)) else { return ptr::null_mut() };
        NonNull::new(pointer(at)).expect("neither is at 0").as_ptr()
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let freed = self.slabs.lock().free(address(object), request(layout));
        freed.unwrap_or_else(|misuse| panic!("{object:?}, {layout:?}: {misuse}"));
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: by GlobalAlloc's contract the new size is valid with the old alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if self.slabs.lock().resize(address(object), request(layout), request(new)) {
            return object;
        }
        // SAFETY: `alloc` gives a new object of at least the new size; the old one is the caller's and ends here.
        unsafe {
            let copy = self.alloc(new);
            if !copy.is_null() {
                ptr::copy_nonoverlapping(object, copy, layout.size().min(new_size));
                self.dealloc(object, layout);
            }
            copy
        }
    }
}
