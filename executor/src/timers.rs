//! The timer queue, and the futures that wait in it.
//!
//! Owns who sleeps until when. Does not own the clock, which is a parameter, nor the
//! hardware timer: whoever drives the executor asks for [`Timers::next_deadline`],
//! programs the hardware, and calls [`Timers::fire`] afterwards.
//!
//! ```text
//!   Fresh ──poll, deadline ahead (1)──▶ Waiting ──fire (2), poll──▶ Fired
//!     │                                    │
//!     └──poll, deadline passed (3)──▶ Fired└──drop (4)──▶ gone from the queue
//! ```
//! 1 `Sleep::register`; the only place that allocates. 2 `Timers::fire` takes the entry
//! out and wakes. 3 no entry is ever made. 4 `Sleep::drop` takes the entry out: a
//! dropped sleep wakes nobody and holds no waker.
//!
//! The queue is an ordered map behind a spin lock: O(log n), no `unsafe`, and a sleep
//! costs memory only while it waits. An intrusive wheel would save the allocation and
//! cost pinned, linked nodes; sleeps are not on the fault path. Tasks and the
//! executor's loop take the lock; interrupt handlers must not. It is never held while a
//! waker is woken or dropped, since either may run somebody else's code that sleeps.

use alloc::collections::BTreeMap;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::try_join;
use spin::Mutex;

use crate::time::{Clock, Duration, Instant};

/// A sleep's place in the queue: by deadline, among equals by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    deadline: Instant,
    number: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Key, Waker>,
    next_number: u64,
}

impl Queue {
    fn earliest(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.deadline)
    }
}

/// The timer queue of one executor.
pub struct Timers<'a> {
    clock: &'a dyn Clock,
    queue: Mutex<Queue>,
    /// The first deadline, `Instant::MAX` if there is none. Lets `fire` and
    /// `next_deadline`, called once per tick, look without the lock.
    earliest: AtomicU64,
}

impl<'a> Timers<'a> {
    /// An empty queue.
    pub const fn new(clock: &'a dyn Clock) -> Self {
        let queue = Queue { waiting: BTreeMap::new(), next_number: 0 };
        Self { clock, queue: Mutex::new(queue), earliest: AtomicU64::new(Instant::MAX.as_nanos()) }
    }

    /// Waits for `span`, counted from now (and not from the first poll).
    pub fn sleep(&self, span: Duration) -> Sleep<'_> {
        self.sleep_until(self.clock.now() + span)
    }

    /// Waits until `deadline`. [`Instant::MAX`] never comes.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep<'_> {
        Sleep { timers: self, deadline, state: State::Fresh }
    }

    /// The future's output if it is there within `span` from now. If both are ready in
    /// the same poll, the output wins. The future is dropped together with the returned
    /// one, not at the deadline.
    pub fn timeout<F: Future>(&self, span: Duration, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
        // `try_join` ends at the first error, polls its first argument first, and holds
        // both futures in place. So each side reports its end as an error. (`select`
        // wants `Unpin`; an `async fn` would hold the future twice.)
        let done = future.map(|output| Err::<Never, _>(Ok(output)));
        let late = self.sleep(span).map(|()| Err::<Never, _>(Err(Elapsed)));
        try_join(done, late).map(|ended| match ended {
            Err(result) => result,
            Ok((never, _)) => match never {},
        })
    }

    /// When the next sleep ends, if anybody sleeps.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.earliest.load(Relaxed) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Wakes every sleep whose deadline is not after `now`, in the order of the
    /// deadlines, and says how many.
    ///
    /// Only sleeps that are in the queue now: a woken task registers its next sleep
    /// when it is polled, not here, so the loop ends.
    #[inline]
    pub fn fire(&self, now: Instant) -> usize {
        if self.earliest.load(Relaxed) > now.as_nanos() {
            return 0;
        }
        let mut fired = 0;
        // The lock is taken anew for each, so that it is free while the waker runs.
        while let Some(waker) = self.take_due(now) {
            waker.wake();
            fired += 1;
        }
        fired
    }

    /// How many sleeps are waiting.
    pub fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Takes the first sleep out if it is due.
    fn take_due(&self, now: Instant) -> Option<Waker> {
        self.change(|queue| {
            let first = queue.waiting.first_entry()?;
            if first.key().deadline > now { None } else { Some(first.remove()) }
        })
    }

    /// The one way to change the queue: keeps `earliest` true.
    fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = change(&mut queue);
        self.earliest.store(queue.earliest().unwrap_or(Instant::MAX).as_nanos(), Relaxed);
        result
    }
}

/// The deadline came before the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl core::error::Error for Elapsed {}

/// No value: `timeout`'s two sides only ever fail.
enum Never {}

/// Waits until a deadline; dropping it takes it out of the queue.
///
/// Once it waits, only [`Timers::fire`] ends it. A poll in between does not read the
/// clock, so that what happens depends on when `fire` was called and with what, and on
/// nothing else.
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep<'a> {
    timers: &'a Timers<'a>,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Fresh,
    Waiting(Key),
    Fired,
}

impl Sleep<'_> {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Puts the sleep into the queue.
    fn register(&mut self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let deadline = self.deadline;
        let key = self.timers.change(|queue| {
            let key = Key { deadline, number: queue.next_number };
            queue.next_number += 1;
            queue.waiting.insert(key, waker);
            key
        });
        self.state = State::Waiting(key);
    }

    /// Whether the sleep is still in the queue; if so, `cx` is who will be woken.
    fn refresh(&self, key: Key, cx: &Context<'_>) -> bool {
        let mut queue = self.timers.queue.lock();
        let Some(registered) = queue.waiting.get_mut(&key) else {
            return false;
        };
        if registered.will_wake(cx.waker()) {
            return true;
        }
        let waker = cx.waker().clone();
        // The future moved to another task, or a combinator made a new waker. Cloning
        // only counts, but dropping may run foreign code and so comes after the lock;
        // hence not `clone_from`.
        let replaced = core::mem::replace(registered, waker);
        drop(queue);
        drop(replaced);
        true
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.state {
            State::Fresh if self.timers.clock.now() < self.deadline => {
                self.register(cx);
                Poll::Pending
            }
            State::Waiting(key) if self.refresh(key, cx) => Poll::Pending,
            State::Fresh | State::Waiting(_) | State::Fired => {
                self.state = State::Fired;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let State::Waiting(key) = self.state {
            let waker = self.timers.change(|queue| queue.waiting.remove(&key));
            drop(waker);
        }
    }
}

impl fmt::Debug for Sleep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).field("state", &self.state).finish_non_exhaustive()
    }
}

impl fmt::Debug for Timers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("next_deadline", &self.next_deadline()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
