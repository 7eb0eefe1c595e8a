//! Whether a thread runs when its page is there, and not at the next tick (row G1): counted, not timed.
//!
//! Owns two counts of delays that must not happen. A completed read reaches its thread in two steps, and in neither may
//! a thread that could as well wait go first:
//! ```text
//!   the disk's interrupt ──1──▶ the pager takes the completion, wakes the thread ──2──▶ the thread enters user mode
//! ```
//! 1. Late if user code ran in between: the thread that was interrupted went on, or a pre-empted one got its turn.
//! 2. Late if a pre-empted thread got a turn in between ([`executor::Executor::overtaken`]).
//!
//! Threads that were woken before are no delay in this sense: their pages are there as well. Nor is a poll that the
//! executor makes out of turn so that nobody starves. Neighbours: `thread.rs` and the disk's interrupt report here, the
//! counts are shown by `/proc/vmstat` and the report.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

static RESUMED: AtomicU64 = AtomicU64::new(0);
static RESUMED_LATE: AtomicU64 = AtomicU64::new(0);
static ANNOUNCED: AtomicU64 = AtomicU64::new(0);
static TAKEN_LATE: AtomicU64 = AtomicU64::new(0);

/// Threads that went on in user mode after an interrupt. Wraps.
static WENT_ON: AtomicU32 = AtomicU32::new(0);
/// The disk has announced completions that the pager has not looked at.
static PENDING: AtomicBool = AtomicBool::new(false);
/// [`turns`] when it announced the first of them.
static PENDING_SINCE: AtomicU32 = AtomicU32::new(0);

/// How often user code got a chance that it had not been given because something was ready for it. Wraps.
fn turns() -> u32 {
    WENT_ON.load(Relaxed).wrapping_add(crate::executor().preempted_turns())
}

/// The disk's interrupt has come. In an interrupt handler: marks only.
pub fn completion_announced() {
    if !PENDING.load(Relaxed) {
        PENDING_SINCE.store(turns(), Relaxed);
        PENDING.store(true, Relaxed);
    }
}

/// The pager looks for completions.
pub fn completions_taken() {
    if PENDING.load(Relaxed) {
        PENDING.store(false, Relaxed);
        ANNOUNCED.fetch_add(1, Relaxed);
        TAKEN_LATE.fetch_add(u64::from(turns() != PENDING_SINCE.load(Relaxed)), Relaxed);
    }
}

/// A thread that was interrupted in user mode goes on there at once.
pub fn count_went_on() {
    WENT_ON.store(WENT_ON.load(Relaxed).wrapping_add(1), Relaxed);
}

/// A thread that waited for the store is about to enter user mode; since it was woken, so many turns went to others.
pub fn count_resumed(overtaken: u32) {
    RESUMED.fetch_add(1, Relaxed);
    RESUMED_LATE.fetch_add(u64::from(overtaken != 0), Relaxed);
}

/// The counts with their names.
pub fn counters() -> [(&'static str, u64); 4] {
    [
        ("ebb_completions", ANNOUNCED.load(Relaxed)),
        ("ebb_completions_late", TAKEN_LATE.load(Relaxed)),
        ("ebb_resumed", RESUMED.load(Relaxed)),
        ("ebb_resumed_late", RESUMED_LATE.load(Relaxed)),
    ]
}
