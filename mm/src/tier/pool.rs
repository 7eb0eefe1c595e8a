//! Memory for compressed pages: a stack of equal chunks for each size, over frames that need not lie together.
//!
//! Owns the frames and which bytes of them are in use. Does not own which page a chunk is of ([`super::entries`]), nor where frames
//! come from: a push says beforehand whether it needs one, a removal says when one is left over.
//!
//! A chunk begins with the number of its entry, then come the bytes. Sizes are multiples of 64. The chunks of a size lie without a gap
//! behind one another, across the ends of frames; the place of one that is removed is taken by the last. So nothing is lost but what a
//! size is rounded up, and part of one frame for each size: there is no fragmentation to fight.
//!
//! ```text
//!   size 704:  [ id bytes | id bytes | … | id by ][ tes | id bytes | … | free ]      remove: ◄── the last moves here
//!                first frame              next         last frame  ▲ end
//! ```

use super::entries::EntryId;
use crate::addr::{PAGE_SIZE, Pfn};
use crate::platform::PhysMemory;
use alloc::vec::Vec;

/// Chunk sizes are multiples of this.
const GRAIN: usize = 64;
/// Bytes of an entry's number at the beginning of a chunk.
const HEADER: usize = size_of::<u32>();
/// Largest chunk: what saves less than a quarter of its page is not worth compressing.
pub const LARGEST: usize = PAGE_SIZE * 3 / 4;
/// Most bytes that a page may come to.
pub const MOST_BYTES: usize = LARGEST - HEADER;
const SIZES: usize = LARGEST / GRAIN;
/// No frame.
const NIL: u32 = u32::MAX;

/// Where a chunk begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Place of the frame in the pool.
    frame: u32,
    offset: u16,
}

impl Chunk {
    /// No chunk.
    pub const NONE: Self = Self { frame: NIL, offset: 0 };
}

/// A frame of the pool, and its neighbours in the stack it belongs to.
#[derive(Clone, Copy)]
struct PoolFrame {
    pfn: Pfn,
    before: u32,
    after: u32,
}

/// The stack of chunks of one size.
#[derive(Clone, Copy)]
struct Stack {
    /// The last frame; [`NIL`] for an empty stack.
    last: u32,
    /// Bytes of it in use, at least one.
    end: usize,
}

/// What came of a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Whose chunk has moved, and where it is now.
    pub moved: Option<(EntryId, Chunk)>,
    /// A frame in which nothing is left.
    pub frame: Option<Pfn>,
}

/// See the module's head.
pub struct Pool {
    frames: Vec<PoolFrame>,
    /// The first place without a frame.
    vacant: u32,
    used: usize,
    stacks: [Stack; SIZES],
}

/// The size of the chunk for so many bytes, and its stack.
fn size_of_chunk(bytes: usize) -> (usize, usize) {
    let size = (HEADER + bytes).next_multiple_of(GRAIN);
    (size, size / GRAIN - 1)
}

impl Pool {
    /// A pool of at most so many frames; it has none yet.
    pub fn new(limit: usize) -> Option<Self> {
        let mut frames = Vec::new();
        frames.try_reserve_exact(limit).ok()?;
        let vacant =
            |i| PoolFrame { pfn: Pfn::new(0), before: NIL, after: if i + 1 < limit { i as u32 + 1 } else { NIL } };
        frames.extend((0..limit).map(vacant));
        let vacant = if limit > 0 { 0 } else { NIL };
        Some(Self { frames, vacant, used: 0, stacks: [Stack { last: NIL, end: 0 }; SIZES] })
    }

    /// Frames it has.
    pub fn frames(&self) -> usize {
        self.used
    }

    /// Frames it may have.
    pub fn limit(&self) -> usize {
        self.frames.len()
    }

    /// Whether a push of so many bytes needs a frame.
    pub fn needs_frame(&self, bytes: usize) -> bool {
        let (size, stack) = size_of_chunk(bytes);
        let Stack { last, end } = self.stacks[stack];
        last == NIL || end + size > PAGE_SIZE
    }

    /// Whether a push would succeed that needs a frame.
    pub fn takes_frame(&self) -> bool {
        self.vacant != NIL
    }

    /// Puts the bytes of an entry away. `frame` is there if, and only if, it is needed.
    ///
    /// # Panics
    /// If it is not so, or the pool has all the frames that it may have.
    pub fn push(&mut self, memory: &impl PhysMemory, id: EntryId, bytes: &[u8], frame: Option<Pfn>) -> Chunk {
        assert_eq!(frame.is_some(), self.needs_frame(bytes.len()), "a frame for a push that needs one");
        let (size, index) = size_of_chunk(bytes.len());
        let Stack { last, end } = self.stacks[index];
        let mut stack = Stack { last, end: end + size };
        let mut chunk = Chunk { frame: last, offset: end as u16 };
        if let Some(pfn) = frame {
            stack.last = self.add_frame(pfn, last);
            // The chunk begins in what is left of the frame before, or with this one.
            if last == NIL || end == PAGE_SIZE {
                (stack.end, chunk) = (size, Chunk { frame: stack.last, offset: 0 });
            } else {
                stack.end = end + size - PAGE_SIZE;
            }
        }
        self.stacks[index] = stack;
        self.write(memory, chunk, 0, &id.as_u32().to_le_bytes());
        self.write(memory, chunk, HEADER, bytes);
        chunk
    }

    /// Shows the bytes of a chunk.
    pub fn read(&self, memory: &impl PhysMemory, chunk: Chunk, bytes: &mut [u8]) {
        self.read_at(memory, chunk, HEADER, bytes);
    }

    /// Gives up the chunk with so many bytes. `scratch` has room for a chunk.
    pub fn remove(&mut self, memory: &impl PhysMemory, chunk: Chunk, bytes: usize, scratch: &mut [u8]) -> Removed {
        let (size, index) = size_of_chunk(bytes);
        let Stack { last, end } = self.stacks[index];
        let before = self.frames[last as usize].before;
        let top = match end.checked_sub(size) {
            Some(offset) => Chunk { frame: last, offset: offset as u16 },
            None => Chunk { frame: before, offset: (PAGE_SIZE + end - size) as u16 },
        };
        let moved = (top != chunk).then(|| {
            let scratch = &mut scratch[..size];
            self.read_at(memory, top, 0, scratch);
            self.write(memory, chunk, 0, scratch);
            let number = scratch.first_chunk().map_or(0, |number| u32::from_le_bytes(*number));
            (EntryId::new(number), chunk)
        });
        let frame = (end <= size).then(|| self.take_frame(last));
        self.stacks[index] = match frame {
            None => Stack { last, end: end - size },
            Some(_) if before == NIL => Stack { last: NIL, end: 0 },
            Some(_) => Stack { last: before, end: PAGE_SIZE + end - size },
        };
        Removed { moved, frame }
    }

    fn add_frame(&mut self, pfn: Pfn, before: u32) -> u32 {
        let place = self.vacant;
        assert!(place != NIL, "the pool has all the frames that it may have");
        self.vacant = self.frames[place as usize].after;
        self.frames[place as usize] = PoolFrame { pfn, before, after: NIL };
        if before != NIL {
            self.frames[before as usize].after = place;
        }
        self.used += 1;
        place
    }

    /// Gives up the last frame of a stack.
    fn take_frame(&mut self, place: u32) -> Pfn {
        let PoolFrame { pfn, before, .. } = self.frames[place as usize];
        if before != NIL {
            self.frames[before as usize].after = NIL;
        }
        self.frames[place as usize] = PoolFrame { pfn: Pfn::new(0), before: NIL, after: self.vacant };
        self.vacant = place;
        self.used -= 1;
        pfn
    }

    /// The bytes from `from` on of a chunk, as a piece in its frame and how many more are in the next.
    fn place(&self, chunk: Chunk, from: usize, count: usize) -> ((Pfn, usize), usize, Pfn) {
        let (mut place, mut offset) = (chunk.frame, usize::from(chunk.offset) + from);
        if offset >= PAGE_SIZE {
            (place, offset) = (self.frames[place as usize].after, offset - PAGE_SIZE);
        }
        let PoolFrame { pfn, after, .. } = self.frames[place as usize];
        let next = self.frames.get(after as usize).map_or(pfn, |next| next.pfn);
        ((pfn, offset), count.min(PAGE_SIZE - offset), next)
    }

    fn write(&self, memory: &impl PhysMemory, chunk: Chunk, from: usize, bytes: &[u8]) {
        let ((frame, offset), first, next) = self.place(chunk, from, bytes.len());
        memory.write(frame, offset, &bytes[..first]);
        if first < bytes.len() {
            memory.write(next, 0, &bytes[first..]);
        }
    }

    fn read_at(&self, memory: &impl PhysMemory, chunk: Chunk, from: usize, bytes: &mut [u8]) {
        let ((frame, offset), first, next) = self.place(chunk, from, bytes.len());
        memory.read(frame, offset, &mut bytes[..first]);
        if first < bytes.len() {
            memory.read(next, 0, &mut bytes[first..]);
        }
    }
}
