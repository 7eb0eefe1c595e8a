//! An allocator that counts, for tests of what is said to allocate nothing, or so much.
//!
//! Owns the counts, of each thread by itself, so that the test harness's other threads do not count. A test that wants
//! it makes it its process's allocator (`#[global_allocator]`), and is therefore a file of its own.
#![expect(unsafe_code, reason = "a counting allocator implements GlobalAlloc")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting touches `const`-initialised
// thread-locals without destructors, so it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        LIVE.set(LIVE.get() + layout.size() as i64);
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        LIVE.set(LIVE.get() - layout.size() as i64);
        // SAFETY: the block came from `System.alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Allocator calls made by `work`.
pub fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

/// Bytes that `make` allocates and what it returns still has.
pub fn bytes<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    let made = make();
    (made, (LIVE.get() - before) as usize)
}
