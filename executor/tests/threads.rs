//! Wakes that come from other threads, as interrupts and other CPUs send them: none is
//! lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::Poll;
use std::thread;

use executor::{Class, Clock, Config, Executor, Instant};
use futures_util::task::AtomicWaker;

struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// Completions that a device has reported and a task has not yet taken.
#[derive(Default)]
struct Line {
    reported: AtomicU64,
    waiter: AtomicWaker,
}

impl Line {
    /// The top half: mark, wake.
    fn interrupt(&self) {
        self.reported.fetch_add(1, SeqCst);
        self.waiter.wake();
    }

    /// Waits for more than `seen` reports: registers first, looks second.
    async fn more_than(&self, seen: u64) -> u64 {
        std::future::poll_fn(|cx| {
            self.waiter.register(cx.waker());
            match self.reported.load(SeqCst) {
                reported if reported > seen => Poll::Ready(reported),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

#[test]
fn no_wake_from_another_thread_is_lost() {
    const REPORTS: u64 = 50_000;
    let executor = Executor::new(Config::new(&Still));
    let served = Arc::new(AtomicU64::new(0));
    let lines: Vec<Arc<Line>> = (0..3).map(|_| Arc::default()).collect();
    for line in &lines {
        let (line, served) = (line.clone(), served.clone());
        let handler = async move {
            let mut seen = 0;
            while seen < REPORTS {
                seen = line.more_than(seen).await;
            }
            served.fetch_add(seen, Relaxed);
        };
        executor.spawn(Class::Kernel, "handler", handler).detach();
    }
    thread::scope(|scope| {
        for line in &lines {
            scope.spawn(|| (0..REPORTS).for_each(|_| line.interrupt()));
        }
        // A lost wake-up shows as a loop that never ends, which the test runner's time
        // limit reports.
        while executor.stats().alive() > 0 {
            if executor.tick(64).idle {
                thread::yield_now();
            }
        }
    });
    assert_eq!(served.load(Relaxed), 3 * REPORTS);
    let stats = executor.stats();
    assert_eq!((stats.spawned, stats.completed, stats.dropped), (3, 3, 0));
}
