//! Alarms: `ITIMER_REAL`, which alarm(2) and setitimer(2) set.
//!
//! Owns when each process is to get its SIGALRM, and the one task that sends it: a task for each armed timer would let a
//! program make as many as it likes. The task looks at all processes for the next deadline; there are few, and alarms are rare.

use executor::Instant;
use maitake_sync::WaitCell;

use super::process::Process;
use super::signal::{SigInfo, Signal, code};
use super::table;
use crate::time;

/// Least time between two alarms of a timer: the task goes before every program.
const SHORTEST_NS: u64 = 100_000;

/// A process's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealTimer {
    /// When it goes off next.
    deadline: Option<Instant>,
    /// How often after that; 0: not.
    every_ns: u64,
}

/// What a timer is told and says: nanoseconds until it goes off (0: never), and between times after that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "said above")]
pub struct TimerValue {
    pub in_ns: u64,
    pub every_ns: u64,
}

impl RealTimer {
    /// What is left.
    pub fn value(&self) -> TimerValue {
        let left = |deadline: Instant| deadline.as_nanos().saturating_sub(time::now_ns()).max(1);
        TimerValue { in_ns: self.deadline.map_or(0, left), every_ns: self.every_ns }
    }

    fn set(&mut self, value: TimerValue) {
        let deadline = time::now_ns().saturating_add(value.in_ns);
        self.deadline = (value.in_ns != 0).then(|| Instant::from_nanos(deadline));
        self.every_ns = value.every_ns;
    }

    /// Whether it goes off now; if so, it is set for the next time.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) else { return false };
        // What was missed is not made up for: a second SIGALRM would be lost beside the first anyway.
        let next = deadline.as_nanos().saturating_add(self.every_ns).max(now.as_nanos() + SHORTEST_NS);
        self.deadline = (self.every_ns != 0).then(|| Instant::from_nanos(next));
        true
    }
}

/// Some timer was set to an earlier time than the task may know.
static CHANGED: WaitCell = WaitCell::new();

impl Process {
    /// Sets the timer; says what it was.
    pub fn set_real_timer(&self, value: TimerValue) -> TimerValue {
        let mut timer = self.real_timer.lock();
        let before = timer.value();
        timer.set(value);
        drop(timer);
        CHANGED.wake();
        before
    }
}

/// Sends alarms for ever.
pub async fn run_alarms() {
    loop {
        let now = time::now();
        let mut next: Option<Instant> = None;
        for process in table::all() {
            let mut timer = process.real_timer.lock();
            let is_due = timer.is_due(now);
            next = [next, timer.deadline].into_iter().flatten().min();
            drop(timer);
            if is_due {
                process.send(SigInfo::sent(Signal::ALRM, code::SI_KERNEL, super::process::Tid::KERNEL));
            }
        }
        // The cell is never closed, and remembers a wake-up that comes before the wait.
        match next {
            None => drop(CHANGED.wait().await),
            Some(deadline) => {
                let span = deadline.since(time::now());
                let _either = crate::executor().timers().timeout(span, CHANGED.wait()).await;
            }
        }
    }
}
