//! Spawning and polling: the executor itself.
//!
//! Owns the configuration, the limits on the number of tasks, the loop that polls and the report of what it did. Does not
//! own the queues (`run_queue`), the tasks' states (`async-task`), time (`timers`), or what happens when nothing is
//! ready: `tick` returns, and its caller takes interrupts, fires timers, and halts.

use alloc::boxed::Box;
use core::fmt;
use core::future::Future;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use async_task::{Builder, WithInfo};
use futures_util::FutureExt;

use crate::meter::{Measure, Meter, PollTime};
use crate::patience::Patience;
use crate::run_queue::{Lane, Lanes, Ready, schedule};
use crate::task::{Class, Runnable, Task, TaskId, TaskInfo, TaskName};
use crate::time::{Clock, Duration, Instant};
use crate::timers::Timers;

/// What an executor is made with.
#[derive(Clone, Copy)]
pub struct Config {
    /// Where time comes from.
    pub clock: &'static dyn Clock,
    /// How many kernel tasks there can be at once. Costs 16 bytes each.
    pub max_kernel_tasks: usize,
    /// How many user tasks there can be at once. Costs 32 bytes each.
    pub max_user_tasks: usize,
    /// Whose polls are measured.
    pub measure: Measure,
    /// A measured poll that takes longer is counted and reported as slow.
    pub poll_budget: Duration,
    /// How long a ready user task waits behind tasks of higher rank before it gets one poll out of turn.
    pub patience: Duration,
}

impl Config {
    /// The usual figures: 64 kernel tasks, 1024 user tasks, kernel tasks measured, 1 ms a poll, 50 ms of patience.
    pub const fn new(clock: &'static dyn Clock) -> Self {
        Self {
            clock,
            max_kernel_tasks: 64,
            max_user_tasks: 1024,
            measure: Measure::KernelTasks,
            poll_budget: Duration::from_millis(1),
            patience: Duration::from_millis(50),
        }
    }
}

/// A handle to an executor; copies are the same executor.
///
/// The executor itself is allocated once and never freed. Every wake-up needs the way from the task to its queues, and
/// a `&'static` is the only way that costs nothing: an `Arc` in each task would be cloned and dropped at every
/// wake-up, because the last task may go while its wake-up is still under way. A kernel has one executor for ever; a
/// host test that makes one pays about two kilobytes.
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
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Tasks whose memory exists, by class. A dead task leaves when nobody can wake it any more.
    kernel_tasks: AtomicUsize,
    user_tasks: AtomicUsize,
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

/// All places for tasks of this class are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTasks {
    /// The class that is full.
    pub class: Class,
    /// How many it holds.
    pub limit: usize,
}

impl fmt::Display for TooManyTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there are {} tasks of class {:?} already",
            self.limit, self.class
        )
    }
}

impl core::error::Error for TooManyTasks {}

/// What one call of [`Executor::tick`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "`idle` decides whether the CPU may halt, and slow polls want to be logged"]
pub struct Tick {
    /// Polls made.
    pub polled: usize,
    /// Tasks that returned their output.
    pub completed: usize,
    /// Tasks that were dropped before they were done.
    pub dropped: usize,
    /// Polls that ended with the task ready again at once (it yielded, or something woke it meanwhile).
    pub requeued: usize,
    /// Measured polls over [`Config::poll_budget`].
    pub slow: usize,
    /// The longest measured poll.
    pub longest: Option<PollTime>,
    /// Nothing is ready: only a wake-up from outside or a timer can change that.
    pub idle: bool,
}

/// Totals since the executor was made, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Polls made.
    pub polls: u64,
    /// Polls over their budget.
    pub slow_polls: u64,
    /// The longest measured poll.
    pub longest: Option<PollTime>,
    /// Tasks spawned.
    pub spawned: u64,
    /// Tasks that returned their output.
    pub completed: u64,
    /// Tasks that were dropped before they were done.
    pub dropped: u64,
    /// The lengths of the ready queues.
    pub ready: Ready,
}

impl Stats {
    /// Tasks that are neither completed nor dropped.
    pub fn alive(&self) -> u64 {
        self.spawned - self.completed - self.dropped
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
            patience: Patience::new(config.patience, config.clock.now()),
            counts: Counts::default(),
        };
        Self {
            shared: Box::leak(Box::new(shared)),
        }
    }

    /// Makes a task and puts it into its lane.
    ///
    /// # Panics
    /// When there are too many tasks; for a number that a user can raise, use [`Self::try_spawn`].
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
        let info = TaskInfo {
            shared,
            name: name.into(),
            id,
            class,
        };
        // `Map` and not an `async` block around the future: the block would hold the future twice, once as what it
        // captured and once as what it awaits, and a thread's task is to stay under a kilobyte.
        let alive = Alive {
            shared,
            completed: false,
        };
        let counted = future.map(move |output| alive.complete_with(output));
        let (runnable, task) = Builder::new()
            .metadata(info)
            .spawn(|_| counted, WithInfo(schedule));
        runnable.schedule();
        Ok(task)
    }

    /// Polls ready tasks, at most `max_polls` of them, until none is left.
    ///
    /// The caller holds nothing and takes interrupts between two calls; `max_polls` bounds how long they wait (design D3:
    /// 64). One caller at a time.
    pub fn tick(&self, max_polls: usize) -> Tick {
        let shared = self.shared;
        let counts = &shared.counts;
        let start = shared.config.clock.now();
        let (completed, dropped) = (counts.completed.load(Relaxed), counts.dropped.load(Relaxed));
        let mut tick = Tick::default();
        let mut clock = PollClock { read: Some(start) };
        let mut served = [false; Lane::ALL.len()];
        let mut out_of_turn = shared.patience.overdue(&shared.lanes, start);
        while tick.polled < max_polls {
            let next = match out_of_turn.take() {
                None => shared.lanes.pop(),
                Some(lane) => shared.lanes.pop_from(lane).map(|runnable| (lane, runnable)),
            };
            let Some((lane, runnable)) = next else { break };
            served[lane as usize] = true;
            tick.polled += 1;
            let requeued = if shared.measures(runnable.metadata().class) {
                shared.run_measured(runnable, &mut clock, &mut tick)
            } else {
                clock.read = None;
                runnable.run()
            };
            tick.requeued += usize::from(requeued);
        }
        for lane in Lane::ALL.into_iter().filter(|lane| served[*lane as usize]) {
            shared.patience.served(lane, start);
        }
        tick.completed = (counts.completed.load(Relaxed) - completed) as usize;
        tick.dropped = (counts.dropped.load(Relaxed) - dropped) as usize;
        tick.idle = Lane::ALL
            .into_iter()
            .all(|lane| shared.lanes.is_empty(lane));
        shared.count(&tick);
        tick
    }

    /// Tells the meter that the poll going on was in user mode from `left` until `back`.
    ///
    /// Needed with [`Measure::AllTasks`], or user time counts as kernel time; harmless otherwise.
    #[inline]
    pub fn user_ran(&self, left: Instant, back: Instant) {
        self.shared.meter.break_at(left, back);
    }

    /// Whether a task is ready that goes before a pre-empted one: a user thread that came back from user mode for an
    /// interrupt asks this to see whether the interrupt woke anybody.
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
        let Shared {
            counts,
            meter,
            lanes,
            ..
        } = self.shared;
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
        let take = |tasks| if tasks < limit { Some(tasks + 1) } else { None };
        match self
            .counts
            .tasks(class)
            .fetch_update(Relaxed, Relaxed, take)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(TooManyTasks { class, limit }),
        }
    }

    /// Gives the place back.
    pub(crate) fn release(&self, class: Class) {
        self.counts.tasks(class).fetch_sub(1, Relaxed);
    }

    #[inline]
    fn measures(&self, class: Class) -> bool {
        match self.config.measure {
            Measure::Nothing => false,
            Measure::KernelTasks => class == Class::Kernel,
            Measure::AllTasks => true,
        }
    }

    /// One poll with the stopwatch running. The name is copied first: `run` may free the task.
    fn run_measured(&self, runnable: Runnable, clock: &mut PollClock, tick: &mut Tick) -> bool {
        let name = runnable.metadata().name;
        self.meter
            .begin(clock.read.unwrap_or_else(|| self.config.clock.now()));
        let requeued = runnable.run();
        let now = self.config.clock.now();
        clock.read = Some(now);
        let took = self.meter.end(now);
        tick.slow += usize::from(took > self.config.poll_budget);
        if tick.longest.is_none_or(|longest| took > longest.took) {
            tick.longest = Some(PollTime { name, took });
        }
        requeued
    }

    /// Adds one tick to the totals.
    fn count(&self, tick: &Tick) {
        self.counts.polls.fetch_add(tick.polled as u64, Relaxed);
        self.counts.slow_polls.fetch_add(tick.slow as u64, Relaxed);
        if let Some(poll) = tick.longest {
            self.meter.enter(poll);
        }
    }
}

/// The end of one measured poll is the beginning of the next: one clock read per poll instead of two.
struct PollClock {
    /// The last reading, unless something unmeasured ran since.
    read: Option<Instant>,
}

/// Lives inside the task's future, and so learns how it ended: by its output, or dropped at some await.
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
        let ended = if self.completed {
            &counts.completed
        } else {
            &counts.dropped
        };
        ended.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("max_kernel_tasks", &self.max_kernel_tasks)
            .field("max_user_tasks", &self.max_user_tasks)
            .field("measure", &self.measure)
            .field("poll_budget", &self.poll_budget)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
