//! Turns: how long a user task may go on before it is the others', and who was made to wait for whom.
//!
//! Owns what a task that is ready again at once keeps or loses by it, and the count of turns by which it is told
//! whether a woken task had to wait for a pre-empted one. Does not own the lanes (`run_queue`) or the end of a time
//! slice in user mode: that is the kernel's timer, and a thread that it ends calls [`Executor::end_turn`].
//!
//! ```text
//!              ┌── yield_now, less than `Config::turn` since the first of them ──┐
//!              ▼                                                                  │
//!   wait ─▶ Woken ─▶ running ─────────────────────────────────────────────▶ GaveWay
//!                       │  end_turn, or yield_now for longer than that
//!                       └─────────────────────────────────────────────────▶ Preempted
//! ```
//!
//! A system call that gives way after so many pages has done nobody any harm: kernel tasks and threads whose I/O is
//! done go before it, and then it goes on, before those that compute. Without a lane of its own it would pay a whole
//! time slice for each of its chunks.

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use core::task::{Context, Poll};

use crate::executor::{Executor, Shared};
use crate::run_queue::Lane;
use crate::time::{Duration, Instant};

/// What each user task knows of its turn. Eight bytes, because it is part of every thread.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The count of pre-empted turns when the task was last woken.
    woken_at: AtomicU32,
    /// When it first gave way in this turn, in microseconds modulo 2^32; 0 if it has not.
    gave_way_at: AtomicU32,
}

/// What the executor knows of all turns.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Polls from the pre-empted lane, in their order: what is out of turn is nobody's fault. Wraps.
    preempted: AtomicU32,
    /// `woken_at` of the task that is being polled.
    current_woken_at: AtomicU32,
    /// The task that is being polled gives up its turn.
    ending: AtomicBool,
}

impl Turns {
    /// A task of this lane gets its turn, in its order.
    #[inline]
    pub(crate) fn count(&self, lane: Lane) {
        if lane == Lane::Preempted {
            self.preempted.store(self.preempted.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// A task is about to be polled.
    #[inline]
    pub(crate) fn begin(&self, turn: &Turn) {
        self.current_woken_at.store(turn.woken_at.load(Relaxed), Relaxed);
        self.ending.store(false, Relaxed);
    }

    /// Something woke a user task that was waiting.
    #[inline]
    pub(crate) fn woken(&self, turn: &Turn) -> Lane {
        turn.woken_at.store(self.preempted.load(Relaxed), Relaxed);
        turn.gave_way_at.store(0, Relaxed);
        Lane::Woken
    }

    /// The user task that was just polled is ready again.
    pub(crate) fn ready_again(&self, turn: &Turn, limit: Duration, now: impl FnOnce() -> Instant) -> Lane {
        if !self.ending.load(Relaxed) {
            let now = (now().as_nanos() / 1000) as u32;
            let since = turn.gave_way_at.load(Relaxed);
            if since == 0 {
                turn.gave_way_at.store(now.max(1), Relaxed);
                return Lane::GaveWay;
            }
            // Signed, because the first microsecond is noted as the second: 0 says that there is none.
            if i64::from(now.wrapping_sub(since).cast_signed()) < limit.as_micros().cast_signed() {
                return Lane::GaveWay;
            }
        }
        turn.gave_way_at.store(0, Relaxed);
        Lane::Preempted
    }

    fn overtaken(&self) -> u32 {
        self.preempted.load(Relaxed).wrapping_sub(self.current_woken_at.load(Relaxed))
    }
}

impl Executor {
    /// Lets every other ready task go first, because the caller's turn is over: a time slice has ended, or an interrupt
    /// in user mode has made somebody ready who goes before.
    pub fn end_turn(&self) -> EndTurn {
        EndTurn { shared: Some(self.shared) }
    }

    /// How many turns pre-empted tasks have had since the user task that is being polled was last woken. Not zero for
    /// the first poll after a wake-up means that a thread whose I/O was done waited for one that computes.
    pub fn overtaken(&self) -> u32 {
        self.shared.turns.overtaken()
    }

    /// Polls that pre-empted tasks have had in their order, modulo 2^32.
    pub fn preempted_turns(&self) -> u32 {
        self.shared.turns.preempted.load(Relaxed)
    }
}

/// The future of [`Executor::end_turn`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct EndTurn {
    /// None once it has been polled.
    shared: Option<&'static Shared>,
}

impl Future for EndTurn {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = self.shared.take() else { return Poll::Ready(()) };
        shared.turns.ending.store(true, Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
