//! Polling, waking and yielding neither allocate nor free: counted, not believed.
//!
//! A file of its own, because the counter is the process's allocator.
#![expect(unsafe_code, reason = "a counting allocator implements GlobalAlloc")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use executor::{Class, Clock, Config, Executor, Instant, Measure, yield_now};
use futures_util::task::AtomicWaker;

struct Counting;

thread_local! {
    // Per thread, so that the test harness's other threads do not count.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting
// touches a `const`-initialised thread-local without a destructor, so it neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count();
        // SAFETY: the block came from `System.alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocator calls made by `work`.
fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// Ready when somebody woke it since the last time.
async fn woken(door: &AtomicWaker) {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if !std::mem::take(&mut first) {
            return Poll::Ready(());
        }
        door.register(cx.waker());
        Poll::Pending
    })
    .await;
}

#[test]
fn a_turn_costs_no_allocation_and_a_task_costs_one() {
    let executor = Executor::new(Config { measure: Measure::AllTasks, ..Config::new(&Still) });
    let door = Arc::new(AtomicWaker::new());

    let spawning = calls(|| {
        let spinner = async {
            for _ in 0..1_000 {
                yield_now().await;
            }
        };
        executor.spawn(Class::User, "spinner", spinner).detach();
    });
    assert_eq!(spawning, 1, "one allocation holds future, metadata and state");

    let behind_the_door = door.clone();
    let sleeper = async move {
        for _ in 0..1_000 {
            woken(&behind_the_door).await;
        }
    };
    executor.spawn(Class::Kernel, "sleeper", sleeper).detach();

    let turns = calls(|| {
        for _ in 0..900 {
            door.wake();
            assert_eq!(executor.tick(2).polled, 2);
        }
    });
    assert_eq!(turns, 0);

    // Both tasks end: one free each.
    let ending = calls(|| {
        for _ in 0..101 {
            door.wake();
            let _ = executor.tick(64);
        }
    });
    assert_eq!(executor.stats().alive(), 0);
    assert_eq!(ending, 2);
}

#[test]
fn a_sleep_allocates_at_registration_only() {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let executor = Executor::new(Config::new(&Still));
    let waker = Waker::from(Arc::new(Nobody));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut sleep = std::pin::pin!(executor.timers().sleep(executor::Duration::from_millis(1)));
    assert!(calls(|| assert!(sleep.as_mut().poll(&mut cx).is_pending())) > 0);
    let polling = calls(|| {
        for _ in 0..100 {
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
            assert_eq!(executor.timers().fire(Instant::ZERO), 0);
        }
    });
    assert_eq!(polling, 0);
}
