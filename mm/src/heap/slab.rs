//! Slabs: frames cut into objects of one size, with a header at the end that says which of them are free.
//!
//! Owns the slabs and the lists they are on. An object has no header and is never touched by the heap: what is free is a bit in the
//! slab, so a double free, an address inside an object and a wrong size are found when they happen.
//!
//! ```text
//!   a frame:  object 0 │ object 1 │ … │ object n-1 │ unused │ header (48 bytes)
//!   a slab:   full ◀──▶ partial ◀──▶ empty ──▶ given back, when more than [`KEPT_EMPTY`] are empty, or by [`SlabHeap::shrink`]
//! ```
//! Objects come from partial slabs before empty ones, so that empty ones stay so. What goes back, goes back down to half of
//! `KEPT_EMPTY`, so that a program that goes to and fro over the limit does not take and give a frame each time.

use super::{Heap, Request};
use crate::addr::PAGE_SIZE;
use crate::frame::Order;

/// Object sizes: powers of two and the steps between; the largest ones divide a frame less the header.
pub const CLASSES: [u16; 15] = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 672, 1008, 1344, 2016];
/// Larger requests are blocks of frames.
pub const LARGEST: usize = 2016;
/// Where in its frame a slab's header is.
pub const SLAB_HEADER: usize = PAGE_SIZE - size_of::<SlabHeader>();
/// Most empty slabs that are kept, of all sizes together.
pub const KEPT_EMPTY: usize = 8;

const GRAIN: usize = 8;
const BITMAP_WORDS: usize = (PAGE_SIZE / CLASSES[0] as usize).div_ceil(64);

/// The smallest class for each size, in grains of 8 bytes.
static CLASS_OF: [u8; LARGEST / GRAIN + 1] = {
    let mut table = [0; LARGEST / GRAIN + 1];
    let (mut class, mut grains) = (0, 0);
    while grains < table.len() {
        if grains * GRAIN > CLASSES[class] as usize {
            class += 1;
        }
        table[grains] = class as u8;
        grains += 1;
    }
    table
};

/// The header at the end of a slab.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct SlabHeader {
    /// Bit set: the object is free.
    free: [u64; BITMAP_WORDS],
    /// Neighbours in the list it is on, if it is on one.
    next: Option<SlabId>,
    previous: Option<SlabId>,
    class: u8,
    used: u16,
}

const _: () = {
    assert!(size_of::<SlabHeader>() == 8 * BITMAP_WORDS + 16);
    assert!(CLASSES[CLASSES.len() - 1] as usize == LARGEST && LARGEST * 2 <= SLAB_HEADER);
    assert!(capacity(0) <= 64 * BITMAP_WORDS);
};

/// A slab, by the number of its frame, which is never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlabId(core::num::NonZeroU32);

impl SlabId {
    fn holding(address: u64) -> Option<Self> {
        u32::try_from(address / PAGE_SIZE as u64).ok().and_then(core::num::NonZeroU32::new).map(Self)
    }
    /// The slab's first byte.
    pub fn address(self) -> u64 {
        u64::from(self.0.get()) * PAGE_SIZE as u64
    }
}

/// Frames for a heap. Addresses are physical ones in the kernel, and mere numbers on the host.
pub trait SlabMemory {
    /// The first address of a block of frames.
    fn take(&mut self, order: Order) -> Option<u64>;
    /// Takes a block back.
    fn give(&mut self, at: u64, order: Order);
    /// Puts a header at the end of a frame that `take` gave.
    fn make_header(&mut self, slab: SlabId, header: SlabHeader);
    /// The header of a slab that has one.
    fn header(&mut self, slab: SlabId) -> &mut SlabHeader;
}

/// What is wrong with a free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misuse {
    /// It is free already.
    #[error("freed twice")]
    DoubleFree,
    /// It is not where an object of that size begins.
    #[error("freed, but no object of that size begins there")]
    NotAnObject,
    /// Nothing of that heap's is there.
    #[error("freed, but not the heap's")]
    NotOurs,
}

/// What a heap holds at a moment.
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

/// What a class holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Bytes in an object.
    pub object: usize,
    /// Objects in a slab.
    pub per_slab: usize,
    /// Slabs.
    pub slabs: usize,
    /// Of these, empty ones.
    pub empty: usize,
    /// Objects given out.
    pub objects: usize,
}

/// The slabs of one size.
#[derive(Clone, Copy)]
struct Class {
    /// First slab with some objects given out and some free.
    partial: Option<SlabId>,
    /// First slab without an object given out.
    empty: Option<SlabId>,
    slabs: usize,
    empties: usize,
    objects: usize,
}

/// Where a request is served from.
enum Source {
    Class(usize),
    Frames(Order),
}

/// Objects in a slab.
const fn capacity(class: usize) -> usize {
    SLAB_HEADER / CLASSES[class] as usize
}

/// Depends on the request alone, so that freeing finds what allocating chose. `None`: larger than any block.
fn source(request: Request) -> Option<Source> {
    let Request { size, align } = request;
    if size <= LARGEST && align <= PAGE_SIZE {
        let fitting = CLASS_OF[size.div_ceil(GRAIN)] as usize;
        // Objects lie at multiples of their size from the start of a frame.
        let aligned = |&class: &usize| usize::from(CLASSES[class]).is_multiple_of(align);
        if let Some(class) = (fitting..CLASSES.len()).find(aligned) {
            return Some(Source::Class(class));
        }
    }
    Order::holding(size.max(align).div_ceil(PAGE_SIZE)).map(Source::Frames)
}

impl SlabHeader {
    const fn new(class: usize) -> Self {
        let (mut free, mut word, mut left) = ([0; BITMAP_WORDS], 0, capacity(class));
        while left > 0 {
            free[word] = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            left = left.saturating_sub(64);
            word += 1;
        }
        Self { free, next: None, previous: None, class: class as u8, used: 0 }
    }

    /// Takes the lowest free object; there is one.
    fn take(&mut self) -> usize {
        let word = self.free.iter().position(|word| *word != 0).expect("a slab with room");
        let bit = self.free[word].trailing_zeros() as usize;
        self.free[word] &= self.free[word] - 1;
        self.used += 1;
        word * 64 + bit
    }

    fn put(&mut self, object: usize) -> Result<(), Misuse> {
        let (word, bit) = (object / 64, 1 << (object % 64));
        if self.free[word] & bit != 0 {
            return Err(Misuse::DoubleFree);
        }
        self.free[word] |= bit;
        self.used -= 1;
        Ok(())
    }

    fn is_full(&self) -> bool {
        usize::from(self.used) == capacity(self.class.into())
    }
}

/// Small objects in slabs, large ones in blocks of frames.
pub struct SlabHeap<M> {
    memory: M,
    classes: [Class; CLASSES.len()],
    stats: HeapStats,
    steps: u64,
}

/// Which list of a class.
#[derive(Clone, Copy)]
enum List {
    Partial,
    Empty,
}

impl<M: SlabMemory> SlabHeap<M> {
    /// An empty heap over `memory`.
    pub const fn new(memory: M) -> Self {
        let class = Class { partial: None, empty: None, slabs: 0, empties: 0, objects: 0 };
        let stats = HeapStats { bytes_in_use: 0, slab_frames: 0, empty_slabs: 0, large_frames: 0 };
        Self { memory, classes: [class; CLASSES.len()], stats, steps: 0 }
    }

    /// Totals at this moment.
    pub fn stats(&self) -> HeapStats {
        self.stats
    }

    /// Every class at this moment.
    pub fn class_stats(&self) -> [ClassStats; CLASSES.len()] {
        core::array::from_fn(|class| {
            let Class { slabs, empties, objects, .. } = self.classes[class];
            ClassStats { object: CLASSES[class].into(), per_slab: capacity(class), slabs, empty: empties, objects }
        })
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// As [`Self::memory`], to tell it something.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// As [`Heap::alloc`], for an object of which there will be few: takes frames of its own rather than start a slab for it.
    pub fn alloc_single(&mut self, request: Request) -> Option<u64> {
        let at = self.take_frames(Self::single(request)?)?;
        self.stats.bytes_in_use += request.size;
        Some(at)
    }

    /// Takes back what [`Self::alloc_single`] gave.
    pub fn free_single(&mut self, at: u64, request: Request) -> Result<(), Misuse> {
        let order = Self::single(request).ok_or(Misuse::NotOurs)?;
        self.stats.bytes_in_use -= request.size;
        self.put_frames(at, order);
        Ok(())
    }

    fn single(request: Request) -> Option<Order> {
        Order::holding(request.size.max(request.align).div_ceil(PAGE_SIZE))
    }

    /// Gives back every empty slab, and returns how many there were. For reclaim.
    pub fn shrink(&mut self) -> usize {
        self.give_back_empty(0)
    }

    fn take(&mut self, class: usize) -> Option<u64> {
        let Class { partial, empty, .. } = self.classes[class];
        let slab = match (partial, empty) {
            (Some(slab), _) => slab,
            (None, Some(slab)) => {
                self.unlink(slab, List::Empty);
                self.link(slab, List::Partial);
                slab
            }
            (None, None) => self.add_slab(class)?,
        };
        let header = self.header(slab);
        let object = header.take();
        if header.is_full() {
            self.unlink(slab, List::Partial);
        }
        self.classes[class].objects += 1;
        Some(slab.address() + (object * usize::from(CLASSES[class])) as u64)
    }

    fn put(&mut self, class: usize, at: u64) -> Result<(), Misuse> {
        let slab = SlabId::holding(at).ok_or(Misuse::NotOurs)?;
        let offset = (at - slab.address()) as usize;
        let (object, rest) = (offset / usize::from(CLASSES[class]), offset % usize::from(CLASSES[class]));
        let header = self.header(slab);
        if usize::from(header.class) != class || rest != 0 || object >= capacity(class) {
            return Err(Misuse::NotAnObject);
        }
        let was_full = header.is_full();
        header.put(object)?;
        let now_empty = header.used == 0;
        self.classes[class].objects -= 1;
        match (was_full, now_empty) {
            (true, true) => self.link(slab, List::Empty),
            (true, false) => self.link(slab, List::Partial),
            (false, true) => {
                self.unlink(slab, List::Partial);
                self.link(slab, List::Empty);
            }
            (false, false) => {}
        }
        if self.stats.empty_slabs > KEPT_EMPTY {
            self.give_back_empty(KEPT_EMPTY / 2);
        }
        Ok(())
    }

    /// Makes a slab of a new frame. Only the header is written.
    fn add_slab(&mut self, class: usize) -> Option<SlabId> {
        let slab = SlabId::holding(self.memory.take(Order::PAGE)?).expect("frame 0 is nobody's");
        self.memory.make_header(slab, SlabHeader::new(class));
        self.stats.slab_frames += 1;
        self.classes[class].slabs += 1;
        self.link(slab, List::Partial);
        Some(slab)
    }

    /// Gives back empty slabs until `kept` are left, those of large objects first: they hold the fewest.
    fn give_back_empty(&mut self, kept: usize) -> usize {
        let before = self.stats.empty_slabs;
        for class in (0..CLASSES.len()).rev() {
            while self.stats.empty_slabs > kept
                && let Some(slab) = self.classes[class].empty
            {
                self.unlink(slab, List::Empty);
                self.stats.slab_frames -= 1;
                self.classes[class].slabs -= 1;
                self.memory.give(slab.address(), Order::PAGE);
            }
        }
        before - self.stats.empty_slabs
    }

    fn header(&mut self, slab: SlabId) -> &mut SlabHeader {
        self.steps += 1;
        self.memory.header(slab)
    }

    fn head(&mut self, class: usize, list: List) -> &mut Option<SlabId> {
        match list {
            List::Partial => &mut self.classes[class].partial,
            List::Empty => &mut self.classes[class].empty,
        }
    }

    fn link(&mut self, slab: SlabId, list: List) {
        let class = usize::from(self.header(slab).class);
        let next = self.head(class, list).replace(slab);
        let header = self.header(slab);
        (header.next, header.previous) = (next, None);
        if let Some(next) = next {
            self.header(next).previous = Some(slab);
        }
        if let List::Empty = list {
            self.classes[class].empties += 1;
            self.stats.empty_slabs += 1;
        }
    }

    fn unlink(&mut self, slab: SlabId, list: List) {
        let SlabHeader { next, previous, class, .. } = *self.header(slab);
        let class = usize::from(class);
        match previous {
            Some(previous) => self.header(previous).next = next,
            None => *self.head(class, list) = next,
        }
        if let Some(next) = next {
            self.header(next).previous = previous;
        }
        if let List::Empty = list {
            self.classes[class].empties -= 1;
            self.stats.empty_slabs -= 1;
        }
    }

    fn take_frames(&mut self, order: Order) -> Option<u64> {
        self.steps += 1;
        let first = self.memory.take(order)?;
        self.stats.large_frames += order.frames();
        Some(first)
    }

    fn put_frames(&mut self, first: u64, order: Order) {
        self.steps += 1;
        self.stats.large_frames -= order.frames();
        self.memory.give(first, order);
    }
}

impl<M: SlabMemory> Heap for SlabHeap<M> {
    fn alloc(&mut self, request: Request) -> Option<u64> {
        let at = match source(request)? {
            Source::Class(class) => self.take(class)?,
            Source::Frames(order) => self.take_frames(order)?,
        };
        self.stats.bytes_in_use += request.size;
        Some(at)
    }

    fn free(&mut self, at: u64, request: Request) -> Result<(), Misuse> {
        match source(request).ok_or(Misuse::NotOurs)? {
            Source::Class(class) => self.put(class, at)?,
            Source::Frames(order) => self.put_frames(at, order),
        }
        self.stats.bytes_in_use -= request.size;
        Ok(())
    }

    fn resize(&mut self, _: u64, old: Request, new: Request) -> bool {
        let stays = match (source(old), source(new)) {
            (Some(Source::Class(old)), Some(Source::Class(new))) => old == new,
            (Some(Source::Frames(old)), Some(Source::Frames(new))) => old == new,
            _ => false,
        };
        if stays {
            self.stats.bytes_in_use += new.size;
            self.stats.bytes_in_use -= old.size;
        }
        stays
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn footprint(&self) -> u64 {
        ((self.stats.slab_frames + self.stats.large_frames) * PAGE_SIZE) as u64
    }
}
