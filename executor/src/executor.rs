//! Spawning and polling: the executor itself.
//!
//! Owns the limits on the number of tasks, the loop that polls and the report of what
//! it did. Does not own the queues (`run_queue`), the tasks' states (`async-task`),
//! time (`timers`), or what happens when nothing is ready: `tick` returns, and its
//! caller takes interrupts, fires timers, and halts.

use alloc::boxed::Box;
use core::future::Future;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use async_task::{Builder, WithInfo};
use futures_util::FutureExt;

use crate::config::Config;
use crate::meter::{Measure, Meter, PollTime};
use crate::patience::{Patience, Served};
use crate::report::{Stats, Tick, TooManyTasks};
use crate::run_queue::{Lane, Lanes, schedule};
use crate::task::{Class, Runnable, Task, TaskId, TaskInfo, TaskName};
use crate::time::{Clock, Instant};
use crate::timers::Timers;
use crate::turn::{Turn, Turns};

/// A handle to an executor; copies are the same executor.
///
/// The executor itself is allocated once and never freed. Every wake-up needs the way
/// from the task to its queues, and a `&'static` is the only way that costs nothing: an
/// `Arc` in each task would be cloned and dropped at every wake-up, because the last
/// task may go while its wake-up is still under way. A kernel has one executor for
/// ever; a host test leaves its queues behind (4 KiB a simulation).
#[derive(Clone, Copy, Debug)]
pub struct Executor {
    pub(crate) shared: &'static Shared,
}

/// What tasks, timers and all copies of the handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    config: Config,
    timers: Timers<'static>,
    meter: Meter,
    patience: Patience,
    pub(crate) turns: Turns,
    counts: Counts,
}

/// Everything counted. `Relaxed` throughout: each is a number on its own, nothing is
/// read through it, and the tasks themselves are handed over by the queues, which order
/// what has to be ordered.
#[derive(Debug, Default)]
struct Counts {
    /// Tasks whose memory exists, by class. A dead task leaves when nobody can wake it
    /// any more.
    kernel_tasks: AtomicUsize,
    user_tasks: AtomicUsize,
    /// `spawned` = `completed` + `dropped` + alive, at any time: every future ends in
    /// one of the two ways.
    spawned: AtomicU64,
    completed: AtomicU64,
    dropped: AtomicU64,
    polls: AtomicU64,
    slow_polls: AtomicU64,
}

impl Counts {
    fn tasks(&self, class: Class) -> &AtomicUsize {
        match class {
            Class::Kernel => &self.kernel_tasks,
            Class::User => &self.user_tasks,
        }
    }
}

impl Executor {
    /// Makes an executor.
    pub fn new(config: Config) -> Self {
        let shared = Shared {
            lanes: Lanes::new(config.max_kernel_tasks, config.max_user_tasks),
            config,
            timers: Timers::new(config.clock),
            meter: Meter::new(),
            patience: Patience::new(config.patience),
            turns: Turns::default(),
            counts: Counts::default(),
        };
        Self { shared: Box::leak(Box::new(shared)) }
    }

    /// Makes a task and puts it into its lane.
    ///
    /// # Panics
    /// When there are too many tasks; for a number that a user can raise, use
    /// [`Self::try_spawn`].
    pub fn spawn<F>(&self, class: Class, name: impl Into<TaskName>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let name = name.into();
        match self.try_spawn(class, name, future) {
            Ok(task) => task,
            Err(full) => panic!("cannot spawn {name}: {full}"),
        }
    }

    /// Makes a task and puts it into its lane, unless there are too many.
    pub fn try_spawn<F>(
        &self,
        class: Class,
        name: impl Into<TaskName>,
        future: F,
    ) -> Result<Task<F::Output>, TooManyTasks>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let shared = self.shared;
        shared.reserve(class)?;
        let id = TaskId(shared.counts.spawned.fetch_add(1, Relaxed));
        let info = TaskInfo { shared, name: name.into(), id, class, turn: Turn::default() };
        // `Map` and not an `async` block around the future: the block would hold the
        // future twice, once as what it captured and once as what it awaits, and a
        // thread's task is to stay under a kilobyte.
        let alive = Alive { shared, completed: false };
        let counted = future.map(move |output| alive.complete_with(output));
        let (runnable, task) = Builder::new().metadata(info).spawn(|_| counted, WithInfo(schedule));
        runnable.schedule();
        Ok(task)
    }

    /// Polls ready tasks, at most `max_polls` of them, until none is left.
    ///
    /// The caller holds nothing and takes interrupts between two calls; `max_polls`
    /// bounds how long they wait (design D3: 64). One caller at a time.
    pub fn tick(&self, max_polls: usize) -> Tick {
        let shared = self.shared;
        let counts = &shared.counts;
        let (completed, dropped) = (counts.completed.load(Relaxed), counts.dropped.load(Relaxed));
        let mut tick = Tick::default();
        let mut clock = PollClock::new(shared.config.clock);
        let mut served = Served::default();
        // At most one poll of a tick is out of turn, the first: whoever is too late by
        // then has waited for at least one whole tick, and anything more generous would
        // let the lower lanes push back.
        let mut out_of_turn = shared.patience.overdue(|| clock.now());
        while tick.polled < max_polls {
            // The lanes are looked at from the top before *every* poll: a task that
            // this very loop, or an interrupt before it, has just made ready goes
            // before those of lower rank that were ready long ago.
            let next = match out_of_turn.take() {
                None => shared.lanes.pop().inspect(|(lane, _)| shared.turns.count(*lane)),
                Some(lane) => shared.lanes.pop_from(lane).map(|runnable| (lane, runnable)),
            };
            let Some((lane, runnable)) = next else { break };
            served.add(lane);
            tick.polled += 1;
            shared.turns.begin(&runnable.metadata().turn);
            let requeued = if shared.measures(runnable.metadata().class) {
                shared.run_measured(runnable, &mut clock, &mut tick)
            } else {
                clock.forget();
                runnable.run()
            };
            tick.requeued += usize::from(requeued);
        }
        // Taken from the totals and not counted in the loop: whether a poll ended its
        // task is known inside the task only.
        tick.completed = (counts.completed.load(Relaxed) - completed) as usize;
        tick.dropped = (counts.dropped.load(Relaxed) - dropped) as usize;
        tick.idle = shared.lanes.all_empty();
        shared.patience.end_of_tick(&shared.lanes, served, tick.idle, || clock.now());
        shared.count(&tick);
        tick
    }

    /// Tells the meter that the poll going on was in user mode from `left` until
    /// `back`.
    ///
    /// Needed with [`Measure::AllTasks`], or user time counts as kernel time; harmless
    /// otherwise.
    #[inline]
    pub fn user_ran(&self, left: Instant, back: Instant) {
        self.shared.meter.break_at(left, back);
    }

    /// Whether nothing is ready: only a wake-up from outside or a timer can change
    /// that.
    ///
    /// To be asked with interrupts off right before `sti; hlt`. A wake-up cannot be
    /// slept through then: an interrupt that is pending already is taken after the
    /// instruction that follows `sti`, which is the `hlt` (SDM vol. 2, STI).
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.shared.lanes.all_empty()
    }

    /// Whether a task is ready that goes before a pre-empted one: a user thread that
    /// came back from user mode for an interrupt asks this to see whether the interrupt
    /// woke anybody.
    #[inline]
    pub fn has_urgent(&self) -> bool {
        !self.shared.lanes.is_empty(Lane::Kernel) || !self.shared.lanes.is_empty(Lane::Woken)
    }

    /// The timer queue.
    pub fn timers(&self) -> &'static Timers<'static> {
        &self.shared.timers
    }

    /// The clock the executor was made with.
    pub fn clock(&self) -> &'static dyn Clock {
        self.shared.config.clock
    }

    /// Totals and queue lengths.
    pub fn stats(&self) -> Stats {
        let Shared { counts, meter, lanes, .. } = self.shared;
        Stats {
            polls: counts.polls.load(Relaxed),
            slow_polls: counts.slow_polls.load(Relaxed),
            longest: meter.longest(),
            spawned: counts.spawned.load(Relaxed),
            completed: counts.completed.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            ready: lanes.ready(),
        }
    }
}

impl Shared {
    /// Takes a place for one more task of this class.
    fn reserve(&self, class: Class) -> Result<(), TooManyTasks> {
        let limit = match class {
            Class::Kernel => self.config.max_kernel_tasks,
            Class::User => self.config.max_user_tasks,
        };
        // One atomic step, so that two spawners cannot both take the last place.
        let take = |tasks| if tasks < limit { Some(tasks + 1) } else { None };
        match self.counts.tasks(class).fetch_update(Relaxed, Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(TooManyTasks { class, limit }),
        }
    }

    /// Gives the place back. May run in an interrupt handler, see `TaskInfo::drop`.
    pub(crate) fn release(&self, class: Class) {
        self.counts.tasks(class).fetch_sub(1, Relaxed);
    }

    /// The lane of a user task that was woken while it ran.
    pub(crate) fn ready_again(&self, turn: &Turn) -> Lane {
        self.turns.ready_again(turn, self.config.turn, || self.config.clock.now())
    }

    #[inline]
    fn measures(&self, class: Class) -> bool {
        match self.config.measure {
            Measure::Nothing => false,
            Measure::KernelTasks => class == Class::Kernel,
            Measure::AllTasks => true,
        }
    }

    /// One poll with the stopwatch running. The name is copied first: `run` may free
    /// the task.
    fn run_measured(&self, runnable: Runnable, clock: &mut PollClock, tick: &mut Tick) -> bool {
        let name = runnable.metadata().name;
        self.meter.begin(clock.now());
        let requeued = runnable.run();
        clock.forget();
        // The reading taken here stays for the next measured poll to begin with.
        let took = self.meter.end(clock.now());
        tick.slow += usize::from(took > self.config.poll_budget);
        if tick.longest.is_none_or(|longest| took > longest.took) {
            tick.longest = Some(PollTime { name, took });
        }
        requeued
    }

    /// Adds one tick to the totals.
    fn count(&self, tick: &Tick) {
        self.counts.polls.fetch_add(tick.polled as u64, Relaxed);
        if let Some(poll) = tick.longest {
            self.meter.enter(poll);
            self.counts.slow_polls.fetch_add(tick.slow as u64, Relaxed);
        }
    }
}

/// The clock as one tick sees it. A reading stays good until the next poll, since
/// everything else in the loop is short: the end of one measured poll is the beginning
/// of the next, for one reading per poll instead of two, and a tick that measures
/// nothing reads nothing.
struct PollClock {
    clock: &'static dyn Clock,
    read: Option<Instant>,
}

impl PollClock {
    fn new(clock: &'static dyn Clock) -> Self {
        Self { clock, read: None }
    }

    /// The last reading, or a new one.
    fn now(&mut self) -> Instant {
        *self.read.get_or_insert_with(|| self.clock.now())
    }

    /// Something ran: the last reading is old.
    fn forget(&mut self) {
        self.read = None;
    }
}

/// Lives inside the task's future, and so learns how it ended: by its output, or
/// dropped at some await.
struct Alive {
    shared: &'static Shared,
    completed: bool,
}

impl Alive {
    fn complete_with<T>(mut self, output: T) -> T {
        self.completed = true;
        output
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let counts = &self.shared.counts;
        let ended = if self.completed { &counts.completed } else { &counts.dropped };
        ended.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
