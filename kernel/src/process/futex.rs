//! Futexes: who waits on which word, and waking them in order.
//!
//! Owns the queues of waiting threads: one per address space for words of its own, and one for words of objects, where
//! threads of several spaces meet whatever address they have mapped the word at. Does not read the word (the caller looks at
//! user memory, under the queue's lock) and does not keep time. In a space the key is the address alone: private and shared
//! waits on private memory must meet (facts §3.5: glibc joins a thread with a non-private wait on a private word).
//!
//! ```text
//!            begin_wait                    wake / requeue may change the key
//!   Idle ───────────────► Queued ──────────────────────────► Woken ──► Idle
//!                            │  drop of the wait (timeout, signal, kill)  ▲
//!                            └────────────────────────────────────────────┘
//! ```
//! A thread waits on one futex at a time, so its place in both queues is made with the thread and waiting allocates
//! nothing. A queue is one list scanned from its front: with the threads a program of this machine's size has,
//! a hash of lists would cost more than it saves.
//!
//! Semantics: futex(2).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Poll, Waker};

use mm::object::ObjectId;

use super::space::AddressSpace;
use crate::sync::Mutex;
use crate::syscall::errno::Errno;

/// A thread's place in the queue; make one per thread with [`FutexQueue::register`].
pub struct Waiter(Mutex<State>);

enum State {
    Idle,
    Queued(Option<Waker>),
    Woken,
}

/// A word that threads wait on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// In memory of one address space, at this address.
    Own(u64),
    /// In an object that any number of spaces map, at this offset.
    Shared(ObjectId, u64),
}

/// Waits, oldest first.
pub struct FutexQueue {
    entries: Mutex<Vec<Entry>>,
    /// Threads that may wait, and so places that there must be.
    registered: AtomicUsize,
}

struct Entry {
    word: Word,
    bitset: u32,
    waiter: Arc<Waiter>,
}

/// Matches every wait and every wake.
pub const ANY_BITSET: u32 = u32::MAX;

/// The waits on words of objects, whoever waits.
static SHARED: FutexQueue = FutexQueue::new();

impl AddressSpace {
    /// Where threads of this space wait on a word.
    pub fn futexes_of(&self, word: Word) -> &FutexQueue {
        match word {
            Word::Own(_) => &self.futexes,
            Word::Shared(..) => &SHARED,
        }
    }
}

impl FutexQueue {
    /// No waits.
    pub const fn new() -> Self {
        Self { entries: Mutex::new(Vec::new()), registered: AtomicUsize::new(0) }
    }

    /// Room for one more thread to wait, here and on what is shared, made when the thread is.
    pub fn register(&self) -> Arc<Waiter> {
        self.make_room();
        SHARED.make_room();
        Arc::new(Waiter(Mutex::new(State::Idle)))
    }

    fn make_room(&self) {
        let threads = self.registered.fetch_add(1, Ordering::Relaxed) + 1;
        let mut queue = self.entries.lock();
        let missing = threads.saturating_sub(queue.len());
        queue.reserve(missing);
    }

    /// As [`Self::register`], for a thread that has its place in another queue: it comes over.
    pub fn register_known(&self) {
        drop(self.register());
    }

    /// A thread that was registered is gone.
    pub fn unregister(&self) {
        for queue in [self, &SHARED] {
            queue.registered.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Queues `waiter` if `still_expected` says so while nobody can wake: the compare and the block of futex(2)
    /// are one step. The returned wait is over when woken, and leaves the queue when dropped.
    pub fn begin_wait<'a>(
        &'a self,
        waiter: &'a Arc<Waiter>,
        word: Word,
        bitset: u32,
        still_expected: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<Wait<'a>, Errno> {
        let mut queue = self.entries.lock();
        still_expected()?;
        *waiter.0.lock() = State::Queued(None);
        queue.push(Entry { word, bitset, waiter: Arc::clone(waiter) });
        Ok(Wait { queue: self, waiter })
    }

    /// Wakes at most `limit` waits on `word` whose bitset meets `bitset`; says how many.
    pub fn wake(&self, word: Word, bitset: u32, limit: u64) -> u64 {
        let mut woken = 0;
        self.entries.lock().retain(|entry| {
            let chosen = woken < limit && entry.word == word && entry.bitset & bitset != 0;
            if chosen {
                woken += 1;
                entry.waiter.wake();
            }
            !chosen
        });
        woken
    }

    /// Wakes at most `wake` waits on `from` and moves at most `moves` more to `to`; says how many of each, if
    /// `still_expected` (FUTEX_CMP_REQUEUE) lets it. Those that would have to go to another queue are woken instead: a wait may end
    /// for no reason (futex(2)).
    pub fn requeue(
        &self,
        from: Word,
        to: Word,
        (wake, moves): (u64, u64),
        still_expected: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(u64, u64), Errno> {
        let mut queue = self.entries.lock();
        still_expected()?;
        let (mut woken, mut moved) = (0, 0);
        let stays = matches!(from, Word::Own(_)) == matches!(to, Word::Own(_));
        queue.retain_mut(|entry| {
            if entry.word != from {
                return true;
            }
            if woken < wake {
                woken += 1;
                entry.waiter.wake();
                return false;
            }
            if moved < moves {
                moved += 1;
                entry.word = to;
                if !stays {
                    entry.waiter.wake();
                    return false;
                }
            }
            true
        });
        Ok((woken, moved))
    }
}

impl Waiter {
    fn wake(&self) {
        let before = core::mem::replace(&mut *self.0.lock(), State::Woken);
        if let State::Queued(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// A queued wait.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait<'a> {
    queue: &'a FutexQueue,
    waiter: &'a Arc<Waiter>,
}

impl Wait<'_> {
    /// Ready once woken.
    pub async fn woken(&self) {
        poll_fn(|cx| match &mut *self.waiter.0.lock() {
            State::Woken => Poll::Ready(()),
            State::Queued(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Idle => unreachable!("a wait exists, so its waiter is queued or woken"),
        })
        .await;
    }

    /// Whether a wake has reached this wait: a timeout that comes together with one must not swallow it.
    pub fn is_woken(&self) -> bool {
        matches!(&*self.waiter.0.lock(), State::Woken)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut queue = self.queue.entries.lock();
        queue.retain(|entry| !Arc::ptr_eq(&entry.waiter, self.waiter));
        *self.waiter.0.lock() = State::Idle;
    }
}
