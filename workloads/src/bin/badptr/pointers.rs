//! The bad pointers, and the pages that some of them point to.

use std::io;
use std::ptr;
use std::slice;

use workloads::mapping::PAGE_SIZE;

/// A way for a pointer to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// 0.
    Null,
    /// 1: in page 0 and not aligned.
    One,
    /// A page that is not mapped.
    Hole,
    /// A page mapped with `PROT_NONE`.
    Inaccessible,
    /// A page that may only be read; not bad for calls that only read.
    ReadOnly,
    /// Begins in a good page and ends in a hole.
    Crossing,
    /// The first address that is not canonical.
    NonCanonical,
    /// Far in the kernel's half.
    KernelHalf,
    /// So near the top that adding the size wraps around.
    Wrapping,
}

impl Bad {
    /// Every way.
    pub const ALL: [Self; 9] = [
        Self::Null,
        Self::One,
        Self::Hole,
        Self::Inaccessible,
        Self::ReadOnly,
        Self::Crossing,
        Self::NonCanonical,
        Self::KernelHalf,
        Self::Wrapping,
    ];
}

/// What fills the pages: a call that writes it out by mistake prints empty lines, and as a path it has no end.
const FILLER: u8 = b'\n';
const PAGES: usize = 6;
const GOOD: usize = 0;
const READ_ONLY: usize = 2;
const INACCESSIBLE: usize = 3;
const CROSSING: usize = 4;
const HOLE: usize = 5;
/// The largest structure that crosses, from the page's end down.
const CROSSING_ROOM: usize = 512;

/// Six pages: good, good, read-only, inaccessible, good, hole.
pub struct Arena(*mut u8);

impl Arena {
    /// Maps the pages.
    pub fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping, written through the pointer that mmap gave, then partly protected and unmapped; no
        // reference into it exists.
        unsafe {
            let base = libc::mmap(ptr::null_mut(), PAGES * PAGE_SIZE, protection, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let base: *mut u8 = base.cast();
            base.write_bytes(FILLER, PAGES * PAGE_SIZE);
            let page = |number: usize| base.add(number * PAGE_SIZE).cast();
            let done = libc::mprotect(page(READ_ONLY), PAGE_SIZE, libc::PROT_READ)
                | libc::mprotect(page(INACCESSIBLE), PAGE_SIZE, libc::PROT_NONE)
                | libc::munmap(page(HOLE), PAGE_SIZE);
            if done == 0 { Ok(Self(base)) } else { Err(io::Error::last_os_error()) }
        }
    }

    fn page(&self, number: usize) -> u64 {
        (self.0.addr() + number * PAGE_SIZE) as u64
    }

    /// An address that is bad in this way for a structure of `size` bytes.
    pub fn address(&self, bad: Bad, size: usize) -> u64 {
        match bad {
            Bad::Null => 0,
            Bad::One => 1,
            Bad::Hole => self.page(HOLE),
            Bad::Inaccessible => self.page(INACCESSIBLE),
            Bad::ReadOnly => self.page(READ_ONLY),
            Bad::Crossing => self.page(HOLE) - (size / 2) as u64,
            Bad::NonCanonical => 1 << 47,
            Bad::KernelHalf => 0xffff_8000_0000_1000,
            Bad::Wrapping => u64::MAX - 7,
        }
    }

    /// Makes the good part of a crossing filler again: a call may have written there before it met the hole.
    pub fn refill(&self) {
        let end = (CROSSING + 1) * PAGE_SIZE;
        // SAFETY: the end of a page that is mapped writable, and no reference into it exists.
        unsafe { self.0.add(end - CROSSING_ROOM).write_bytes(FILLER, CROSSING_ROOM) };
    }

    /// Memory that may be read and written.
    pub fn scratch(&self) -> u64 {
        self.page(GOOD)
    }

    /// An `iovec` in good memory that points to `address`.
    pub fn vector_to(&self, address: u64, size: usize) -> u64 {
        // SAFETY: the second page is good and aligned, and nothing else uses it.
        unsafe {
            let vector: *mut u64 = self.0.add(PAGE_SIZE).cast();
            vector.write(address);
            vector.add(1).write(size as u64);
        }
        self.page(GOOD + 1)
    }

    /// Whether nobody wrote to the read-only page.
    pub fn read_only_is_intact(&self) -> bool {
        self.is_filler(READ_ONLY, PAGE_SIZE)
    }

    /// Whether nobody wrote before the structures that cross.
    pub fn crossing_is_intact(&self) -> bool {
        self.is_filler(CROSSING, PAGE_SIZE - CROSSING_ROOM)
    }

    fn is_filler(&self, page: usize, length: usize) -> bool {
        // SAFETY: both pages asked about are mapped readable and nothing writes to them meanwhile.
        let bytes = unsafe { slice::from_raw_parts(self.0.add(page * PAGE_SIZE), length) };
        bytes.iter().all(|&byte| byte == FILLER)
    }
}
