//! What the machine was busy with: idle time, time stalled for want of memory, load averages.
//!
//! Owns the sums behind `/proc/uptime`, `stat`, `loadavg` and `pressure/memory`, moved on at every change: the CPU goes
//! to sleep or wakes up, a thread begins or ends to wait for memory. Does not own the decay (`averages`) or the texts
//! (`fs/proc`).
//!
//! Memory stalls are those of psi.rst: "some" while at least one thread waits for a page or a frame, "full" while one
//! does and the CPU has nothing else to do. The kernel's own work for such a thread (pager, reclaim) counts as "some".

mod averages;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sync::Mutex;
use crate::{executor, time};

use averages::LoadAverages;
pub use averages::{Fixed, StallAverages};

/// Whether the CPU has anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processor {
    Busy,
    Asleep,
}

struct Load {
    /// Up to when everything below is counted.
    now: u64,
    processor: Processor,
    asleep_ns: u64,
    /// Threads that wait for memory.
    stalled: u64,
    /// When the first of them began to, and the last one ended: of those that wait, or waited last.
    stall: (u64, u64),
    some: StallAverages,
    full: StallAverages,
    load: LoadAverages,
}

static LOAD: Mutex<Load> = Mutex::new(Load {
    now: 0,
    processor: Processor::Busy,
    asleep_ns: 0,
    stalled: 0,
    stall: (0, 0),
    some: StallAverages::new(),
    full: StallAverages::new(),
    load: LoadAverages::new(),
});

/// When the next sample is due, so that the loop asks one number.
static NEXT_SAMPLE: AtomicU64 = AtomicU64::new(0);
/// User time of all threads there ever were, by sampling at the timer's ticks.
static USER_NS: AtomicU64 = AtomicU64::new(0);

impl Load {
    /// Counts the time up to now as what it was.
    #[inline(always)]
    fn advance(&mut self) {
        let now = time::now_ns();
        let span = now.saturating_sub(self.now);
        self.now = now;
        if self.processor == Processor::Asleep {
            self.asleep_ns += span;
        }
        if self.stalled > 0 {
            self.some.add(span);
            if self.processor == Processor::Asleep {
                self.full.add(span);
            }
        }
        if now >= NEXT_SAMPLE.load(Relaxed) {
            self.sample(now);
        }
    }

    /// Takes the samples that are due: every other second, while all else happens four times a major fault.
    #[cold]
    #[inline(never)]
    fn sample(&mut self, now: u64) {
        self.some.sample(now);
        self.full.sample(now);
        let ready = executor().stats().ready;
        self.load.sample(now, self.stalled + (ready.woken + ready.gave_way + ready.preempted) as u64);
        NEXT_SAMPLE.store(self.some.due(), Relaxed);
    }
}

/// A moment between two polls: takes the samples that are due.
pub fn tick(now_ns: u64) {
    if now_ns >= NEXT_SAMPLE.load(Relaxed) {
        LOAD.lock().advance();
    }
}

/// The CPU goes to sleep. Says by when it must be woken for a sample, because something is stalled.
pub fn sleep_begins() -> Option<u64> {
    let mut load = LOAD.lock();
    load.advance();
    load.processor = Processor::Asleep;
    (load.stalled > 0).then(|| load.some.due())
}

/// It is awake again.
pub fn sleep_ends() {
    let mut load = LOAD.lock();
    load.advance();
    load.processor = Processor::Busy;
}

/// A thread waits for memory for as long as this lives.
#[derive(Debug)]
pub struct Stall(());

impl Stall {
    /// It begins to.
    pub fn begin() -> Self {
        let mut load = LOAD.lock();
        load.advance();
        if load.stalled == 0 {
            load.stall.0 = load.now;
        }
        load.stalled += 1;
        Self(())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let mut load = LOAD.lock();
        load.advance();
        load.stalled -= 1;
        load.stall.1 = load.now;
    }
}

/// How long some thread has waited for memory by now without a moment in which none did; or had, when the last one stopped.
pub fn stalled_ns() -> u64 {
    let mut load = LOAD.lock();
    load.advance();
    let (began, ended) = load.stall;
    if load.stalled > 0 { load.now - began } else { ended - began }
}

/// A thread was in user mode at a tick.
pub fn count_user(ns: u64) {
    USER_NS.fetch_add(ns, Relaxed);
}

/// Everything above, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct LoadNow {
    /// Since boot, in nanoseconds.
    pub uptime_ns: u64,
    /// Of these, with the CPU asleep.
    pub asleep_ns: u64,
    /// Of these, in user mode.
    pub user_ns: u64,
    /// Threads that wait for memory.
    pub stalled: u64,
    /// Time in which some thread waited for memory.
    pub some: StallAverages,
    /// Time in which nobody could do anything else.
    pub full: StallAverages,
    /// Load over 1, 5 and 15 minutes.
    pub averages: [Fixed; 3],
}

/// How it stands now.
pub fn now() -> LoadNow {
    let mut load = LOAD.lock();
    load.advance();
    LoadNow {
        uptime_ns: load.now,
        asleep_ns: load.asleep_ns,
        user_ns: USER_NS.load(Relaxed),
        stalled: load.stalled,
        some: load.some,
        full: load.full,
        averages: load.load.shown(),
    }
}
