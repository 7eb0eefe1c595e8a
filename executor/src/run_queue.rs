//! The four ready queues and the one function that fills them.
//!
//! Owns the order in which ready tasks run. Does not own the tasks' states or the
//! polling. `schedule` is called by `async-task` on every wake-up, `Lanes::pop` by
//! `executor` and by `sim`.
//!
//! ```text
//!   Class::Kernel ──wake──────────────────▶ Kernel     ─┐ first
//!   Class::User   ──wake, spawn───────────▶ Woken       ├─▶ pop
//!   Class::User   ──woken while running──┬▶ GaveWay     │
//!                            turn is over└▶ Preempted  ─┘ last
//! ```
//!
//! Within a lane tasks run in the order of their wake-ups. Each lane can hold every
//! task of its class, and a task is in at most one lane at a time (it has one
//! `Runnable`), so a push cannot fail: waking neither allocates nor waits. An interrupt
//! handler may therefore wake, provided it cannot interrupt a push or a pop half-way on
//! its own CPU (`ArrayQueue` would spin for ever on the unfinished slot). The kernel
//! takes interrupts only in user mode, in `sti; hlt` and between two calls of `tick`.

use async_task::ScheduleInfo;
use crossbeam_queue::ArrayQueue;

use crate::task::{Class, Runnable};

/// The ready queues, in the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Ready kernel tasks, also those that yielded.
    Kernel,
    /// User tasks that something woke: their I/O is done, or they are new.
    Woken,
    /// User tasks that could go on and let others go first (`yield_now`); their turn is not over.
    GaveWay,
    /// User tasks that could go on, but whose turn is over (`Executor::end_turn`, or giving way for too long).
    Preempted,
}

impl Lane {
    /// Every lane, first served first.
    pub(crate) const ALL: [Self; 4] = [Self::Kernel, Self::Woken, Self::GaveWay, Self::Preempted];
}

/// How many tasks are ready, by lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// In [`Lane::Kernel`].
    pub kernel: usize,
    /// In [`Lane::Woken`].
    pub woken: usize,
    /// In [`Lane::GaveWay`].
    pub gave_way: usize,
    /// In [`Lane::Preempted`].
    pub preempted: usize,
}

/// The queues.
#[derive(Debug)]
pub(crate) struct Lanes {
    kernel: ArrayQueue<Runnable>,
    woken: ArrayQueue<Runnable>,
    gave_way: ArrayQueue<Runnable>,
    preempted: ArrayQueue<Runnable>,
}

impl Lanes {
    /// Queues for at most so many tasks of each class.
    pub(crate) fn new(kernel_tasks: usize, user_tasks: usize) -> Self {
        Self {
            kernel: ArrayQueue::new(kernel_tasks),
            woken: ArrayQueue::new(user_tasks),
            gave_way: ArrayQueue::new(user_tasks),
            preempted: ArrayQueue::new(user_tasks),
        }
    }

    /// The next task in order, and the lane it came from.
    #[inline]
    pub(crate) fn pop(&self) -> Option<(Lane, Runnable)> {
        Lane::ALL.into_iter().find_map(|lane| self.pop_from(lane).map(|runnable| (lane, runnable)))
    }

    /// The first task of one lane.
    ///
    /// The emptiness test is two plain loads; `ArrayQueue::pop` on an empty queue ends
    /// in a full fence, and most polls find the kernel lane empty.
    #[inline]
    pub(crate) fn pop_from(&self, lane: Lane) -> Option<Runnable> {
        let queue = self.queue(lane);
        if queue.is_empty() { None } else { queue.pop() }
    }

    /// Whether a lane holds nothing.
    #[inline]
    pub(crate) fn is_empty(&self, lane: Lane) -> bool {
        self.queue(lane).is_empty()
    }

    /// Whether nothing is ready.
    #[inline]
    pub(crate) fn all_empty(&self) -> bool {
        Lane::ALL.into_iter().all(|lane| self.is_empty(lane))
    }

    /// The lengths.
    pub(crate) fn ready(&self) -> Ready {
        Ready {
            kernel: self.kernel.len(),
            woken: self.woken.len(),
            gave_way: self.gave_way.len(),
            preempted: self.preempted.len(),
        }
    }

    #[inline]
    fn queue(&self, lane: Lane) -> &ArrayQueue<Runnable> {
        match lane {
            Lane::Kernel => &self.kernel,
            Lane::Woken => &self.woken,
            Lane::GaveWay => &self.gave_way,
            Lane::Preempted => &self.preempted,
        }
    }
}

/// Puts a task that has just become ready into its lane. This is the schedule function
/// of every task.
///
/// `woken_while_running` is how a task that could have gone on is told from one that
/// waited: `yield_now` wakes its own task during the poll. (I/O that completes during
/// the very poll that started it looks the same; then those that were woken before go
/// first, and no wake-up is lost.)
#[inline]
pub(crate) fn schedule(runnable: Runnable, info: ScheduleInfo) {
    let task = runnable.metadata();
    let shared = task.shared;
    let lane = match (task.class, info.woken_while_running) {
        (Class::Kernel, _) => Lane::Kernel,
        (Class::User, false) => shared.turns.woken(&task.turn),
        (Class::User, true) => shared.ready_again(&task.turn),
    };
    if let Err(runnable) = shared.lanes.queue(lane).push(runnable) {
        let name = runnable.metadata().name;
        // Dropping it here would free memory, perhaps in an interrupt handler, on the
        // way to a panic.
        core::mem::forget(runnable);
        panic!("{lane:?} lane is full at the wake-up of {name}: more tasks than were counted in");
    }
}
