//! The kernel heap: a slab allocator over the frame allocator.
//!
//! Small requests come from slabs: one 4 KiB frame each, cut into objects of one size class, with a header at the *end* of
//! the frame, so that objects start at its beginning and are as aligned as their size is. Large ones are whole blocks of frames.
//! An empty slab goes back to the frame allocator, but for one per class, which absorbs the back and forth at a boundary.
//! `Layout` tells the two kinds apart on the way back, so nothing is stored per object.
//!
//! Owns: the slabs. Does not own: frames. Lock order: the heap's lock, then the frame allocator's.
#![expect(unsafe_code, reason = "GlobalAlloc; objects and headers inside raw frames")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use mm::addr::Pfn;
use mm::frame::{FrameKind, Order};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::direct_map;
use crate::frames;
use crate::sync::Mutex;

const PAGE: usize = 4096;
const HEADER_OFFSET: usize = PAGE - size_of::<Slab>();

/// Object sizes: powers of two and the steps between; the largest ones divide a frame less the header.
const CLASSES: [u16; 15] = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 672, 1008, 1344, 2016];
const LARGEST: usize = 2016;
const GRAIN: usize = 8;

/// The smallest class for each size, in grains of 8 bytes.
static CLASS_OF: [u8; LARGEST / GRAIN + 1] = {
    let mut table = [0; LARGEST / GRAIN + 1];
    let mut class = 0;
    let mut grains = 0;
    while grains < table.len() {
        if grains * GRAIN > CLASSES[class] as usize {
            class += 1;
        }
        table[grains] = class as u8;
        grains += 1;
    }
    table
};

/// What the heap holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapStats {
    /// Bytes asked for and not given back.
    pub bytes_in_use: usize,
    /// Frames that are slabs.
    pub slab_frames: usize,
    /// Of these, slabs without an object.
    pub empty_slabs: usize,
    /// Frames in large blocks.
    pub large_frames: usize,
}

/// Totals at this moment.
pub fn stats() -> HeapStats {
    HEAP.state.lock().stats
}

/// A free object: the next one of its slab.
struct FreeObject {
    next: Option<NonNull<FreeObject>>,
}

/// The header at the end of a slab's frame.
#[repr(C, align(16))]
struct Slab {
    /// Objects that were freed.
    free: Option<NonNull<FreeObject>>,
    /// The class's slabs that have room, doubly linked.
    next: Option<NonNull<Slab>>,
    previous: Option<NonNull<Slab>>,
    class: u8,
    /// Objects given out.
    used: u16,
    /// Objects that were ever given out: those behind have never been touched, and are on no list.
    fresh: u16,
}

const _: () = {
    assert!(size_of::<Slab>() == 32);
    assert!(capacity(CLASSES.len() - 1) == 2);
    assert!(CLASSES[CLASSES.len() - 1] as usize == LARGEST);
};

/// Objects in a slab.
const fn capacity(class: usize) -> usize {
    HEADER_OFFSET / CLASSES[class] as usize
}

/// The slabs of one size.
#[derive(Clone, Copy)]
struct Class {
    /// Slabs with room: partial ones first, the empty one last.
    with_room: Option<NonNull<Slab>>,
    /// How many of them are empty: 0 or 1.
    empty: usize,
}

struct State {
    classes: [Class; CLASSES.len()],
    stats: HeapStats,
}

// SAFETY: the pointers lead to frames that only the heap uses, under its lock.
unsafe impl Send for State {}

struct Heap {
    state: Mutex<State>,
}

#[global_allocator]
static HEAP: Heap = Heap {
    state: Mutex::new(State {
        classes: [Class { with_room: None, empty: 0 }; CLASSES.len()],
        stats: HeapStats { bytes_in_use: 0, slab_frames: 0, empty_slabs: 0, large_frames: 0 },
    }),
};

/// Where a request is served from.
enum Source {
    Class(usize),
    Frames(Order),
}

/// Depends on the layout alone, so that freeing finds what allocating chose. `None`: larger than any block.
fn source(layout: Layout) -> Option<Source> {
    let (size, align) = (layout.size(), layout.align());
    if size <= LARGEST && align <= PAGE {
        let fitting = CLASS_OF[size.div_ceil(GRAIN)] as usize;
        // Objects lie at multiples of their size from the start of a frame.
        let aligned = |&class: &usize| usize::from(CLASSES[class]).is_multiple_of(align);
        if let Some(class) = (fitting..CLASSES.len()).find(aligned) {
            return Some(Source::Class(class));
        }
    }
    Order::holding(size.max(align).div_ceil(PAGE)).map(Source::Frames)
}

// SAFETY: objects of a class are at least as large and aligned as the layout asks (`source`), are given out once until
// freed (`Slab::take`, the frame allocator), and lie in frames that stay the heap's meanwhile.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut state = self.state.lock();
        let object = match source(layout) {
            Some(Source::Class(class)) => state.take(class),
            Some(Source::Frames(order)) => state.take_frames(order),
            None => None,
        };
        let Some(object) = object else { return ptr::null_mut() };
        state.stats.bytes_in_use += layout.size();
        object.as_ptr()
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let mut state = self.state.lock();
        state.stats.bytes_in_use -= layout.size();
        let object = NonNull::new(object).expect("the caller allocated it");
        match source(layout).expect("allocated with this layout") {
            // SAFETY: by GlobalAlloc's contract the object came from `alloc` with this layout, so from this class.
            Source::Class(class) => unsafe { state.put(class, object) },
            Source::Frames(order) => state.put_frames(object, order),
        }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: by GlobalAlloc's contract the new size is valid with the old alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let fits = match (source(layout), source(new)) {
            (Some(Source::Class(old)), Some(Source::Class(new))) => old == new,
            (Some(Source::Frames(old)), Some(Source::Frames(new))) => old == new,
            _ => false,
        };
        if fits {
            let mut state = self.state.lock();
            state.stats.bytes_in_use += new_size;
            state.stats.bytes_in_use -= layout.size();
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

impl State {
    fn take(&mut self, class: usize) -> Option<NonNull<u8>> {
        let mut slab = match self.classes[class].with_room {
            Some(slab) => slab,
            None => self.add_slab(class)?,
        };
        // SAFETY: slabs in the list are headers in frames of the heap's, and the lock is held.
        let header = unsafe { slab.as_mut() };
        if header.used == 0 {
            self.classes[class].empty -= 1;
            self.stats.empty_slabs -= 1;
        }
        // SAFETY: a slab with room, says the list.
        let object = unsafe { Slab::take(slab, class) };
        // SAFETY: as above.
        if usize::from(unsafe { slab.as_ref() }.used) == capacity(class) {
            self.unlink(slab);
        }
        Some(object)
    }

    /// # Safety
    /// The object came from `take` with the same class and is not in use any more.
    unsafe fn put(&mut self, class: usize, object: NonNull<u8>) {
        let mut slab = Slab::of(object);
        // SAFETY: objects of a class lie in slabs; the lock is held.
        let header = unsafe { slab.as_mut() };
        assert_eq!(usize::from(header.class), class, "freed with another size than allocated");
        let was_full = usize::from(header.used) == capacity(class);
        // SAFETY: by the caller's word the object is free now.
        unsafe { header.put(object) };
        let now_empty = header.used == 0;
        if was_full {
            self.link(slab);
        }
        if now_empty {
            if self.classes[class].empty > 0 {
                self.remove_slab(slab);
            } else {
                self.classes[class].empty += 1;
                self.stats.empty_slabs += 1;
            }
        }
    }

    /// Makes a slab of a new frame. Only the header is written.
    fn add_slab(&mut self, class: usize) -> Option<NonNull<Slab>> {
        let frame = block(Order::PAGE)?;
        // SAFETY: the frame is ours alone now; the header fits at its end, aligned.
        let slab = unsafe {
            let slab = frame.byte_add(HEADER_OFFSET).cast::<Slab>();
            slab.write(Slab { free: None, next: None, previous: None, class: class as u8, used: 0, fresh: 0 });
            slab
        };
        self.link(slab);
        self.classes[class].empty += 1;
        self.stats.slab_frames += 1;
        self.stats.empty_slabs += 1;
        Some(slab)
    }

    fn remove_slab(&mut self, slab: NonNull<Slab>) {
        self.unlink(slab);
        self.stats.slab_frames -= 1;
        give_back(slab.cast(), Order::PAGE);
    }

    fn link(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: headers of slabs that exist; the lock is held; the references do not overlap in time.
        unsafe {
            let class = usize::from(slab.as_ref().class);
            let first = self.classes[class].with_room.replace(slab);
            slab.as_mut().next = first;
            slab.as_mut().previous = None;
            if let Some(mut first) = first {
                first.as_mut().previous = Some(slab);
            }
        }
    }

    fn unlink(&mut self, slab: NonNull<Slab>) {
        // SAFETY: as for `link`.
        unsafe {
            let Slab { next, previous, class, .. } = *slab.as_ref();
            match previous {
                Some(mut previous) => previous.as_mut().next = next,
                None => self.classes[usize::from(class)].with_room = next,
            }
            if let Some(mut next) = next {
                next.as_mut().previous = previous;
            }
        }
    }

    fn take_frames(&mut self, order: Order) -> Option<NonNull<u8>> {
        let first = block(order)?;
        self.stats.large_frames += order.frames();
        Some(first)
    }

    fn put_frames(&mut self, first: NonNull<u8>, order: Order) {
        self.stats.large_frames -= order.frames();
        give_back(first, order);
    }
}

impl Slab {
    /// The header of the slab that an object is in: slabs are whole frames in the direct map.
    fn of(object: NonNull<u8>) -> NonNull<Self> {
        let header = object.addr().get() / PAGE * PAGE + HEADER_OFFSET;
        let header = ptr::with_exposed_provenance_mut(header);
        NonNull::new(header).expect("the direct map is not at 0")
    }

    /// # Safety
    /// The slab has room, and the lock is held.
    unsafe fn take(mut slab: NonNull<Self>, class: usize) -> NonNull<u8> {
        // SAFETY: a slab's header is valid as long as the slab is.
        let header = unsafe { slab.as_mut() };
        header.used += 1;
        if let Some(object) = header.free {
            // SAFETY: objects on the list are free and hold a `FreeObject`.
            header.free = unsafe { object.as_ref().next };
            return object.cast();
        }
        let offset = usize::from(header.fresh) * usize::from(CLASSES[class]);
        header.fresh += 1;
        // SAFETY: `fresh` was less than the capacity, because `used` was: the object lies before the header.
        unsafe { slab.cast::<u8>().byte_sub(HEADER_OFFSET).byte_add(offset) }
    }

    /// # Safety
    /// The object is one of this slab's and not in use.
    unsafe fn put(&mut self, object: NonNull<u8>) {
        let object = object.cast::<FreeObject>();
        // SAFETY: the smallest class holds a pointer, aligned; the object is free.
        unsafe { object.write(FreeObject { next: self.free }) };
        self.free = Some(object);
        self.used = self.used.checked_sub(1).expect("freed twice");
    }
}

/// A block of frames, through the direct map.
fn block(order: Order) -> Option<NonNull<u8>> {
    let allocator = frames::get();
    let first = allocator.leak(allocator.alloc(FrameKind::Heap, order)?);
    NonNull::new(direct_map::pointer(PhysAddr::new(first.phys())))
}

/// Gives back the block that `inside` lies in.
fn give_back(inside: NonNull<u8>, order: Order) {
    let address = direct_map::physical(VirtAddr::from_ptr(inside.as_ptr())).expect("the heap is in the direct map");
    let first = Pfn::new((address.as_u64() / PAGE as u64) as u32);
    let allocator = frames::get();
    allocator.free(allocator.adopt(first, FrameKind::Heap, order));
}
