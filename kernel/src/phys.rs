//! Contents of frames, through the direct map: `mm`'s [`PhysMemory`].
//!
//! Owns the check that a frame is RAM that the frame allocator was given, which is what lets `mm` be free of unsafe code:
//! whatever number it comes up with, it cannot reach the kernel's image, a device, or memory that is not there.
#![expect(unsafe_code, reason = "reads and writes frames through the direct map")]

use core::ptr;

use mm::addr::{PAGE_SIZE, Pfn, WORDS_PER_PAGE};
use mm::page::Tag;
use mm::platform::PhysMemory;
use mm::swap::Audit;
use x86_64::PhysAddr;

use crate::arch::{direct_map, whole_page};
use crate::boot::PhysRange;

/// RAM that `mm` may touch: the spans of the memory map that were ever given to the frame allocator.
#[derive(Clone, Copy)]
pub struct Memory {
    spans: &'static [PhysRange],
}

impl Memory {
    /// Memory within these spans, which are RAM in the direct map for ever and hold no Rust object outside the heap and `mm`'s pages.
    pub const fn new(spans: &'static [PhysRange]) -> Self {
        Self { spans }
    }

    /// Copies the beginning of a frame out.
    pub fn copy_from(&self, frame: Pfn, out: &mut [u8]) {
        self.read(frame, 0, out);
    }

    /// Copies into the beginning of a frame.
    pub fn copy_to(&self, frame: Pfn, data: &[u8]) {
        self.write(frame, 0, data);
    }

    /// Changes a frame's bytes in place.
    pub fn change(&self, frame: Pfn, change: impl FnOnce(&mut [u8; PAGE_SIZE])) {
        // SAFETY: a whole page of RAM (see `page`). The reference lives only as long as `change`, during which neither user code nor
        // another task runs on this CPU; callers have frames that no device works on and no program has mapped.
        change(unsafe { &mut *self.page(frame).cast() });
    }

    fn page(&self, frame: Pfn) -> *mut u8 {
        let address = PhysAddr::new(frame.phys());
        // The last span first: most RAM is in it.
        let ours = self.spans.iter().rev().any(|s| s.start <= address && address < s.end);
        assert!(ours, "{frame:?} is not a frame of ours");
        direct_map::pointer(address)
    }

    fn words(&self, frame: Pfn) -> *mut u64 {
        self.page(frame).cast()
    }
}

impl PhysMemory for Memory {
    #[inline]
    fn zero(&self, frame: Pfn) {
        // SAFETY: a whole page of RAM (see `page`), aligned; no user code runs meanwhile and no reference to it exists.
        unsafe { whole_page::fill(self.words(frame), 0) };
    }

    fn fill(&self, frame: Pfn, word: u32) {
        // SAFETY: as for `zero`.
        unsafe { whole_page::fill(self.words(frame), u64::from(word) << 32 | u64::from(word)) };
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        // SAFETY: two whole pages of RAM (see `page`), aligned, or one twice; no user code runs meanwhile and no
        // reference to them exists.
        unsafe { whole_page::copy(self.words(from), self.words(to)) };
    }

    fn read(&self, frame: Pfn, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= PAGE_SIZE);
        // SAFETY: within one page of RAM, and `out` is kernel memory outside it.
        unsafe { ptr::copy_nonoverlapping(self.page(frame).add(offset), out.as_mut_ptr(), out.len()) };
    }

    fn write(&self, frame: Pfn, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= PAGE_SIZE);
        // SAFETY: as for `read`, the other way.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.page(frame).add(offset), data.len()) };
    }

    fn with_words<R>(&self, frame: Pfn, look: impl FnOnce(&[u64; WORDS_PER_PAGE]) -> R) -> R {
        // SAFETY: a whole page of RAM, aligned. The reference lives only as long as `look`, during which neither user code
        // nor another task runs on this CPU; `mm` asks only for pages that no device is writing.
        look(unsafe { &*self.words(frame).cast() })
    }

    fn tag(&self, frame: Pfn, audit: &Audit) -> Tag {
        // SAFETY: as for `with_words`.
        let lanes = unsafe { whole_page::hash(self.words(frame), audit.key()) };
        let Some([a, b, c, d]) = lanes else { return self.with_words(frame, |words| audit.tag(words)) };
        let folded = a ^ b ^ c ^ d;
        Tag::new((folded ^ folded >> 32) as u32)
    }
}
