//! Tasks, run queues and time for a cooperative kernel.
//!
//! The kernel has no threads of its own: a user thread, the pager and the console are
//! *tasks*, futures that this crate polls one after another on one stack. The crate
//! knows no hardware and no other crate of the workspace, so the same code runs in the
//! kernel and in host tests, where the `sim` feature adds a seeded order and a clock of
//! its own.
//!
//! ```text
//!             spawn                         wake (tasks, interrupts)
//!               │                             │
//!               ▼                             ▼
//!   task.rs   Task ◀── output ──┐    run_queue.rs  schedule ─▶ Kernel │ Woken │ GaveWay │ Preempted
//!                               │                                       │
//!                               │    executor.rs   tick ◀── pop ────────┘
//!                               │                   │  patience.rs: nobody starves
//!                               └──── poll ◀────────┘  meter.rs: nobody takes too long
//!                                      │
//!   timers.rs   sleep, timeout ◀───────┘      fire(now), next_deadline ◀── the loop around tick
//! ```
//!
//! The loop around `tick` belongs to the kernel, because only it can take interrupts
//! and halt:
//! ```text
//!   loop {
//!       tick(64);                                      // at most 64 polls with interrupts off
//!       sti; nop; cli;                                 // interrupts are taken here; they wake tasks
//!       timers().fire(now);                            // and so does this
//!       if is_idle() { arm(timers().next_deadline()); sti; hlt; cli }
//!   }
//! ```
//! [`Tick::idle`] is from before the window and would be stale at the `hlt`.
//!
//! # The life of a task
//!
//! The state is one word inside `async-task`; this crate adds which lane "ready" means.
//! ```text
//!                ┌──────────────────── wake (3) ─────────────────┐
//!                ▼                                                │
//! spawn (1) ─▶ ready ── tick (2) ──▶ running ── Pending ──▶ waiting
//!              │   ▲                 │     │                      │
//!              │   └─ Pending, woken ┘     │ Ready (5)            │ Task cancelled or dropped,
//!              │      meanwhile (4)        ▼                      │ or last waker gone (6)
//!              │                       completed                  ▼
//!              └─ Task cancelled or dropped (6) ────▶ ready to be dropped ── tick (7) ──▶ dropped
//! ```
//! 1. [`Executor::spawn`]: into the kernel lane or the woken lane.
//! 2. [`Executor::tick`] pops the task and polls its future.
//! 3. Any `Waker`: the task is pushed into its lane. A second wake before the poll
//!    changes nothing; a wake of a completed task does nothing. No allocation, so an
//!    interrupt handler may wake; it should do so by reference, as dropping the last
//!    waker of a completed task frees the task.
//! 4. A wake during the poll is remembered and acted upon when the poll returns. A user
//!    task then has given way, or is pre-empted: this is how [`yield_now()`] and
//!    [`Executor::end_turn`] differ from waiting (`turn.rs`).
//! 5. The future is dropped and the output kept for the [`Task`] handle.
//! 6. A dropped or cancelled [`Task`], or a detached task nobody holds a waker of,
//!    becomes ready once more,
//! 7. and `tick` drops its future instead of polling it. Futures are thus dropped by
//!    the executor, never by an interrupt handler or inside somebody else's poll.
//!
//! # What this crate does not do
//!
//! No unsafe code, no lock-free structure of its own, no work stealing, no priorities
//! beyond [`Lane`], no task-local storage. One CPU calls `tick`; wakes may come from
//! anywhere.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod executor;
mod meter;
mod patience;
mod report;
mod run_queue;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod task;
#[cfg(test)]
mod testing;
mod time;
mod timers;
mod turn;
mod yield_now;

pub use config::Config;
pub use executor::Executor;
pub use meter::{Measure, PollTime};
pub use report::{Stats, Tick, TooManyTasks};
pub use run_queue::{Lane, Ready};
pub use task::{Class, Task, TaskId, TaskInfo, TaskName};
pub use time::{Clock, Duration, Instant};
pub use timers::{Elapsed, Sleep, Timers};
pub use turn::EndTurn;
pub use yield_now::{YieldNow, yield_now};
