//! Page-out needs no memory: evict, write and free run while every allocation fails (U7).
//!
//! A file of its own, because the allocator is the process's.
#![expect(unsafe_code, reason = "a failing allocator implements GlobalAlloc")]

use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::Holds;
use mm::reclaim::Watermarks;
use mm::sim::{SimConfig, SimMachine};
use mm::stats::Counters;
use mm::tier::Compression;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::pin::pin;
use std::task::Poll;
use tests::mm::{PAGE, poll_once, polled, ready, space_with, word};

struct Failing;

thread_local! {
    static FAILS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: calls go to `System` unchanged or return null, which the contract allows; the thread-local is `const`-initialised and
// has no destructor.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if FAILS.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System.alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

#[test]
fn e2_pages_leave_while_every_allocation_fails() {
    pages_leave(Config::default());
}

/// Neither the kernel's heap nor the frame allocator has anything to give: the tier's frames are those of its victims.
#[test]
fn e2_pages_leave_through_the_compressed_tier_while_every_allocation_fails() {
    let counters = pages_leave(Config { compression: Compression::On, tier_frames: Some(40), ..Config::default() });
    assert!(counters.tier_out > 50 && counters.tier_written > 0, "{counters:?}");
}

fn pages_leave(config: Config) -> Counters {
    let watermarks = Watermarks { min: 8, low: 16, high: 200 };
    let mm = Config { watermarks: Some(watermarks), ..config };
    let machine = SimMachine::new(SimConfig { mm, ..SimConfig::new(256, 1024) });
    let (space, area) = space_with(&machine, 300);
    let mut holds = Holds::default();
    let mut written = 0;
    while machine.mm().frames().free_frames() > watermarks.min {
        ready(machine.store(space, word(area, written, 3), written + 1, &mut holds)).unwrap();
        written += 1;
    }
    machine.mm().release_holds(&mut holds);
    let (mut reclaim, mut pager) = (pin!(machine.mm().run_reclaim()), pin!(machine.mm().run_pager()));

    FAILS.set(true);
    for _ in 0..1000 {
        let Poll::Pending = poll_once(reclaim.as_mut());
        machine.disk().step();
        let Poll::Pending = poll_once(pager.as_mut());
    }
    FAILS.set(false);

    machine.disk().step_until_idle();
    machine.check();
    let now = machine.mm().snapshot();
    assert!(now.frames.free >= watermarks.high, "{now:?}");
    assert!(now.counters.pswpout + now.counters.tier_out >= 150, "{now:?}");
    for page in 0..written {
        let mut load = pin!(machine.load(space, word(area, page, 3), &mut holds));
        let value = loop {
            if let Poll::Ready(value) = poll_once(load.as_mut()) {
                break value;
            }
            machine.disk().step();
            let Poll::Pending = poll_once(pager.as_mut());
            let Poll::Pending = poll_once(reclaim.as_mut());
        };
        assert_eq!(value, Ok(page + 1));
    }
    machine.mm().release_holds(&mut holds);
    now.counters
}

#[test]
fn x5_unmapping_and_teardown_need_no_memory() {
    let machine = SimMachine::new(SimConfig::new(256, 64));
    let before = machine.mm().snapshot().frames.free;
    let (space, area) = space_with(&machine, 100);
    let (other, _) = space_with(&machine, 1);
    let (mm, mut holds) = (machine.mm(), Holds::default());
    for page in 0..100 {
        ready(machine.store(space, word(area, page, 3), page + 1, &mut holds)).unwrap();
    }
    mm.release_holds(&mut holds);
    let at = |page: u64| VirtAddr::new(area.as_u64() + page * PAGE);

    FAILS.set(true);
    // The head, the tail, a hole, and what lies across the hole.
    let unmapped = [(0, 10), (90, 10), (40, 20), (30, 40)].map(|(page, pages)| {
        let done = ready(mm.unmap(space, at(page), pages * PAGE));
        (done, mm.space_pages(space).map(|(mapped, _)| mapped))
    });
    polled(mm.destroy_space(other), || ());
    polled(mm.destroy_space(space), || ());
    FAILS.set(false);

    assert_eq!(unmapped, [90, 80, 60, 40].map(|left| (Ok(()), Some(left))));
    assert_eq!(mm.space_pages(space), None);
    machine.check();
    assert_eq!(mm.snapshot().frames.free, before, "{:?}", mm.snapshot());
}
