//! Polling, waking and yielding neither allocate nor free: counted, not believed.
//!
//! A file of its own, because the counter is the process's allocator.

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use executor::{Class, Clock, Config, Executor, Instant, Measure, yield_now};
use futures_util::task::AtomicWaker;
use tests::counting::{Counting, calls};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
