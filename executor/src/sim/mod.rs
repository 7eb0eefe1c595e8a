//! The deterministic twin: the same tasks, lanes and timers, with chance and time in
//! the test's hands.
//!
//! Owns the order in which ready tasks are polled, the virtual clock, the event log and
//! the cancellations. Does not own a second executor: tasks are spawned on an ordinary
//! [`Executor`], whose lanes this module empties in `tick`'s place. Code under test
//! cannot tell the difference.
//!
//! ```text
//!   step:  fire due timers ─▶ collect the lanes ─┬─ some ready ─▶ pick one (seed) ─▶ poll, drop or cancel ─▶ clock + poll_cost
//!                                                 └─ none ready ─┬─ somebody sleeps ─▶ clock := deadline
//!                                                                └─ nobody ─▶ done, or deadlock with names
//! ```
//!
//! Determinism: one thread, virtual time, own random numbers ([`Rng`]), containers with
//! a fixed order. Same seed, same code, same [`Journal::hash`]. What breaks it is code
//! under test that looks at addresses, host time or hash maps with random state.
//!
//! Each known task's waker is kept until the task ends. So a task nobody can wake stays
//! where it is and shows up in the deadlock report, where the kernel's executor would
//! have dropped it without a word.

mod cancel;
mod journal;
mod rng;
mod settings;
mod stuck;

pub use cancel::{Moment, cancel_at_every_await};
pub use journal::{Entry, Event, Journal};
pub use rng::{Rng, Seed};
pub use settings::{Order, Settings, Spurious, VirtualClock};
pub use stuck::{Stuck, Unfinished};

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::future::Future;
use core::task::Waker;

use futures_util::FutureExt;

use crate::config::Config;
use crate::executor::Executor;
use crate::run_queue::Lane;
use crate::task::{Class, Runnable, Task, TaskId, TaskName};
use crate::time::Clock;
use cancel::Plan;

/// A simulation.
#[derive(Debug)]
pub struct Sim {
    settings: Settings,
    executor: Executor,
    clock: &'static VirtualClock,
    rng: Rng,
    journal: Journal,
    /// Everything that is ready, in the order of its wake-ups within each lane.
    ready: Vec<(Lane, Runnable)>,
    /// Everything that has not ended.
    tasks: BTreeMap<TaskId, Known>,
    endless: Vec<TaskName>,
    plans: Vec<Plan>,
    steps: u64,
    cancelled: u64,
}

/// What the simulator knows of a task that has not ended.
#[derive(Debug)]
struct Known {
    name: TaskName,
    polls: u64,
    /// Keeps the task from being dropped unseen, and reaches its future when it waits
    /// (see `serve` and `Drop`).
    waker: Waker,
}

enum Step {
    Polled,
    Jumped,
    Quiet,
}

impl Sim {
    /// A simulation at time zero, without tasks.
    pub fn new(settings: Settings) -> Self {
        let clock: &'static VirtualClock = Box::leak(Box::default());
        let config =
            Config { max_kernel_tasks: settings.max_tasks, max_user_tasks: settings.max_tasks, ..Config::new(clock) };
        Self {
            settings,
            executor: Executor::new(config),
            clock,
            rng: Rng::new(settings.seed),
            journal: Journal::new(clock, settings.keep_events),
            ready: Vec::new(),
            tasks: BTreeMap::new(),
            endless: Vec::new(),
            plans: Vec::new(),
            steps: 0,
            cancelled: 0,
        }
    }

    /// The executor to spawn on, and to sleep with.
    pub fn executor(&self) -> Executor {
        self.executor
    }

    /// Makes a task; short for `executor().spawn`.
    pub fn spawn<F>(&self, class: Class, name: impl Into<TaskName>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.executor.spawn(class, name, future)
    }

    /// The virtual clock.
    pub fn clock(&self) -> &'static VirtualClock {
        self.clock
    }

    /// The event log.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// A stream of random numbers for the test's own use.
    pub fn split_rng(&mut self) -> Rng {
        self.rng.split()
    }

    /// Polls made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Planned cancellations that have been carried out.
    pub fn cancelled(&self) -> u64 {
        self.cancelled
    }

    /// Tasks of this name are not waited for and are no deadlock when they wait: pager,
    /// reclaim, simulated devices.
    pub fn endless(&mut self, name: impl Into<TaskName>) {
        self.endless.push(name.into());
    }

    /// Plans to drop the future of every task of this name at that moment.
    pub fn cancel(&mut self, victim: impl Into<TaskName>, moment: Moment) {
        self.plans.push(Plan { victim: victim.into(), moment });
    }

    /// Runs until every task that is not endless has ended. Endless ones may then stand
    /// anywhere; call [`Self::settle`] to let them finish what they have begun.
    pub fn run(&mut self) -> Result<(), Stuck> {
        self.run_while(|sim| sim.tasks.values().any(|task| !sim.endless.contains(&task.name)))
    }

    /// Runs a future as a user task, and everything else beside it, until that one has
    /// its output.
    pub fn block_on<F>(&mut self, name: impl Into<TaskName>, future: F) -> Result<F::Output, Stuck>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let name = name.into();
        let task = self.spawn(Class::User, name, future);
        self.run_while(|_| !task.is_finished())?;
        task.fallible().now_or_never().flatten().ok_or(Stuck::Cancelled(name))
    }

    /// Runs until nothing is ready and nobody sleeps.
    pub fn settle(&mut self) -> Result<(), Stuck> {
        match self.run_while(|_| true) {
            Err(Stuck::Deadlock { .. }) => Ok(()),
            other => other,
        }
    }

    /// Who has not ended, in the order they were spawned.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        self.tasks.values().map(Known::unfinished).collect()
    }

    fn run_while(&mut self, mut goes_on: impl FnMut(&Self) -> bool) -> Result<(), Stuck> {
        let end = self.steps + self.settings.max_steps;
        self.collect();
        while goes_on(self) {
            if self.steps >= end {
                return Err(self.step_limit());
            }
            if let Step::Quiet = self.step() {
                let waiting = self.without_endless();
                return Err(Stuck::Deadlock { at: self.clock.now(), waiting });
            }
            self.collect();
        }
        Ok(())
    }

    /// One poll, or one jump of the clock. Due timers fire first, as in the loop around
    /// `tick`; time moves by `poll_cost` with every poll, so a sleeper's turn comes
    /// even beside a task that never waits.
    fn step(&mut self) -> Step {
        self.executor.timers().fire(self.clock.now());
        self.collect();
        if self.ready.is_empty() {
            let Some(deadline) = self.executor.timers().next_deadline() else {
                return Step::Quiet;
            };
            self.clock.advance_to(deadline);
            self.journal.write(Event::Jumped);
            return Step::Jumped;
        }
        self.wake_for_nothing();
        let runnable = self.pick();
        self.steps += 1;
        self.serve(runnable);
        self.clock.advance_to(self.clock.now() + self.settings.poll_cost);
        Step::Polled
    }

    /// Empties the lanes into `ready` and gets to know new tasks.
    ///
    /// The lanes are emptied top down and each in order, so that what `ready` holds,
    /// and with it the meaning of a random index into it, depends only on what happened
    /// before.
    fn collect(&mut self) {
        while let Some((lane, runnable)) = self.executor.shared.lanes.pop() {
            let (name, id) = (runnable.metadata().name, runnable.metadata().id);
            self.tasks.entry(id).or_insert_with(|| {
                self.journal.write(Event::Appeared(name, id));
                Known { name, polls: 0, waker: runnable.waker() }
            });
            self.ready.push((lane, runnable));
        }
    }

    /// Takes the next task out of `ready`, keeping the order of the others:
    /// `AsInKernel` needs it, and the lists are short.
    fn pick(&mut self) -> Runnable {
        let index = match self.settings.order {
            Order::Shuffled => self.rng.below(self.ready.len() as u64) as usize,
            Order::AsInKernel => {
                let first = |index: &usize| (self.ready[*index].0, *index);
                (0..self.ready.len()).min_by_key(first).expect("pick is called with tasks ready")
            }
        };
        self.ready.remove(index).1
    }

    /// Polls a task, unless it is to be cancelled instead, and notes how that ended.
    fn serve(&mut self, runnable: Runnable) {
        let (name, id) = (runnable.metadata().name, runnable.metadata().id);
        let known = self.tasks.get_mut(&id).expect("a ready task has been collected");
        known.polls += 1;
        let poll = known.polls;
        if self.planned(name, Moment::BeforePoll(poll)) {
            return self.drop_future(runnable);
        }
        self.journal.write(Event::Polled(name, id, poll));
        let before = self.executor.stats();
        runnable.run();
        let after = self.executor.stats();
        // Only this task was polled, and futures are dropped nowhere else: any change
        // of the counts is its own.
        let end = if after.completed > before.completed {
            Some(Event::Completed(name, id))
        } else if after.dropped > before.dropped {
            Some(Event::Dropped(name, id))
        } else {
            None
        };
        if let Some(end) = end {
            self.tasks.remove(&id);
            self.journal.write(end);
        } else if self.planned(name, Moment::AfterPoll(poll)) {
            // A waiting future can only be reached through its `Runnable`, and that
            // only through a wake-up.
            self.tasks[&id].waker.wake_by_ref();
            self.collect();
            let index = self.ready.iter().position(|(_, ready)| ready.metadata().id == id);
            let (_, runnable) = self.ready.remove(index.expect("a woken task is ready"));
            self.drop_future(runnable);
        }
    }

    fn planned(&self, victim: TaskName, moment: Moment) -> bool {
        self.plans.contains(&Plan { victim, moment })
    }

    /// Drops the task's future where it stands. Dropping a `Runnable` does that and
    /// closes the task, whoever holds its handle: they see it as cancelled.
    fn drop_future(&mut self, runnable: Runnable) {
        let (name, id) = (runnable.metadata().name, runnable.metadata().id);
        self.cancelled += 1;
        self.journal.write(Event::Cancelled(name, id));
        self.tasks.remove(&id);
        drop(runnable);
    }

    /// Wakes some task, now and then. Only called when something is ready anyway, or a
    /// lost wake-up would be made good here and never be found.
    fn wake_for_nothing(&mut self) {
        let Spurious::OneIn(steps) = self.settings.spurious else {
            return;
        };
        if self.rng.below(steps) != 0 {
            return;
        }
        let index = self.rng.below(self.tasks.len() as u64) as usize;
        if let Some((id, task)) = self.tasks.iter().nth(index) {
            self.journal.write(Event::Spurious(task.name, *id));
            task.waker.wake_by_ref();
        }
        self.collect();
    }

    /// Who is to blame for a deadlock. Endless tasks wait by trade.
    fn without_endless(&self) -> Vec<Unfinished> {
        let waits = |task: &Unfinished| !self.endless.contains(&task.name);
        self.unfinished().into_iter().filter(waits).collect()
    }

    /// The report of a run that did not end. Those who are ready go round in circles,
    /// the busiest most likely; those who wait are what it keeps from ending, or its
    /// cause.
    fn step_limit(&self) -> Stuck {
        let is_ready = |id: &TaskId| self.ready.iter().any(|(_, ready)| ready.metadata().id == *id);
        let named = |ready: bool| {
            let chosen = self.tasks.iter().filter(move |(id, _)| is_ready(id) == ready);
            chosen.map(|(_, task)| task.unfinished()).collect::<Vec<_>>()
        };
        let (mut ready, waiting) = (named(true), named(false));
        ready.sort_by_key(|task| core::cmp::Reverse(task.polls));
        Stuck::StepLimit { steps: self.settings.max_steps, ready, waiting }
    }
}

impl Known {
    fn unfinished(&self) -> Unfinished {
        Unfinished { name: self.name, polls: self.polls }
    }
}

impl Drop for Sim {
    /// Ends every task that is left, so that thousands of simulations in one test
    /// binary do not add up. Dropping one future may wake or spawn others; those are
    /// dropped in their turn.
    fn drop(&mut self) {
        for task in core::mem::take(&mut self.tasks).into_values() {
            task.waker.wake();
        }
        self.ready.clear();
        while let Some((_, runnable)) = self.executor.shared.lanes.pop() {
            drop(runnable);
        }
    }
}

#[cfg(test)]
mod tests;
