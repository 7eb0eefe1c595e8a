//! The loop that everything runs in.
//!
//! Owns: the executor, when interrupts are taken, when the CPU sleeps. Does not own: which task is next (`executor`), when the
//! next interrupt must come at the latest (`time`).
//!
//! ```text
//!    ┌─▶ fire timers ─▶ poll up to 64 tasks ─▶ take interrupts ─▶ something ready? ─yes─▶ arm the time slice ─┐
//!    │                                                                 └─no─▶ arm the next deadline, sleep    │
//!    └────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Between the look for ready tasks and `hlt` interrupts are off, so a wake-up cannot be lost.

use executor::{Config, Executor, Instant};

use crate::arch::cpu;
use crate::load;
use crate::machine;
use crate::sync::Once;
use crate::time::{self, TIME_SLICE};

/// Polls between two chances for interrupts (design D3).
const POLLS: usize = 64;

static EXECUTOR: Once<Executor> = Once::new();

/// The executor.
pub fn executor() -> Executor {
    *EXECUTOR.call_once(|| Executor::new(Config::new(&time::CLOCK)))
}

/// Runs tasks for ever.
pub fn run() -> ! {
    let executor = executor();
    loop {
        begin_slice();
        let tick = executor.tick(POLLS);
        if tick.slow > 0
            && let Some(longest) = tick.longest
        {
            // Not a warning: on a busy host it is the host that stopped us, and warnings go between the program's output.
            log::info!("{} polled for {}", longest.name, longest.took);
        }
        cpu::interrupt_window();
        // Interrupts are taken between two pieces of idle work, and what they wake comes first.
        if executor.is_idle() && !machine::idle_work() {
            sleep_until(deadline(&executor));
        }
    }
}

/// Fires the timers that are due and gives user code its next time slice.
///
/// The loop does it before each round; a user thread does it when the slice's interrupt has taken it out of ring 3, because
/// the round goes on, and the timer, which interrupts once, would let the next thread run for ever.
pub fn begin_slice() {
    let (executor, now) = (executor(), time::now());
    load::tick(now.as_nanos());
    executor.timers().fire(now);
    time::arm(deadline(&executor).min(now + TIME_SLICE));
}

fn deadline(executor: &Executor) -> Instant {
    executor.timers().next_deadline().unwrap_or(Instant::MAX)
}

fn sleep_until(deadline: Instant) {
    let sample = load::sleep_begins().map_or(Instant::MAX, Instant::from_nanos);
    let deadline = deadline.min(sample);
    if deadline != Instant::MAX {
        time::arm(deadline);
    }
    cpu::wait_for_interrupt();
    load::sleep_ends();
}
