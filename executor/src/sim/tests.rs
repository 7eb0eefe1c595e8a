//! Same seed, same run; planted faults are found and named.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::task::{Poll, Waker};

use spin::Mutex;

use super::{Event, Order, Seed, Settings, Sim, Spurious, Stuck, cancel_at_every_await};
use crate::testing::Trace;
use crate::{Class, Clock, Duration, Instant, TaskName, yield_now};

/// A flag that somebody waits for. With `Fault::None` it is correct: the waker is
/// stored before the flag is read again.
#[derive(Debug, Default)]
struct Signal {
    set: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    fault: Fault,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Looks, gives way, and only then registers: a `set` in between wakes nobody.
    RegistersTooLate,
    /// A second waiter's waker replaces the first.
    OneWakerOnly,
}

impl Signal {
    fn with(fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault, ..Self::default() })
    }

    fn set(&self) {
        self.set.store(true, Relaxed);
        core::mem::take(&mut *self.wakers.lock()).into_iter().for_each(Waker::wake);
    }

    async fn wait(self: Arc<Self>) {
        if self.set.load(Relaxed) {
            return;
        }
        if self.fault == Fault::RegistersTooLate {
            yield_now().await;
        }
        let mut registered = false;
        poll_fn(|cx| {
            if self.fault == Fault::RegistersTooLate && registered && self.set.load(Relaxed) {
                return Poll::Ready(());
            }
            if self.fault != Fault::RegistersTooLate && self.set.load(Relaxed) {
                return Poll::Ready(());
            }
            registered = true;
            let mut wakers = self.wakers.lock();
            if self.fault == Fault::OneWakerOnly {
                wakers.clear();
            }
            wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Sleepers, yielders and a shared counter: enough for the order to matter.
fn busy_run(settings: Settings) -> (u64, u64, Instant) {
    let mut sim = Sim::new(settings);
    let total = Arc::new(AtomicU64::new(1));
    for number in 0..6 {
        let (total, journal, timers) = (total.clone(), sim.journal(), sim.executor().timers());
        let class = if number % 3 == 0 { Class::Kernel } else { Class::User };
        let worker = async move {
            for round in 0..5 {
                let value = total.load(Relaxed).wrapping_mul(31) + number;
                total.store(value, Relaxed);
                journal.note("total", value);
                if round % 2 == 0 {
                    yield_now().await;
                } else {
                    timers.sleep(Duration::from_micros(10 * (number + 1))).await;
                }
            }
        };
        sim.spawn(class, TaskName::numbered("worker", number as u32), worker).detach();
    }
    sim.run().unwrap();
    (sim.journal().hash(), total.load(Relaxed), sim.clock().now())
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let runs: Vec<_> = (0..32).map(|seed| busy_run(Settings::new(Seed(seed)))).collect();
    let again: Vec<_> = (0..32).map(|seed| busy_run(Settings::new(Seed(seed)))).collect();
    assert_eq!(runs, again);
    let mut hashes: Vec<_> = runs.iter().map(|run| run.0).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 32);
    let orders: alloc::collections::BTreeSet<_> = runs.iter().map(|run| run.1).collect();
    assert!(orders.len() > 16, "the seed hardly changes the order: {} of 32 differ", orders.len());
}

#[test]
fn spurious_wakes_are_part_of_the_seed_and_harm_nobody() {
    let settings = Settings { spurious: Spurious::OneIn(3), ..Settings::new(Seed(9)) };
    let (plain, spurious) = (busy_run(Settings::new(Seed(9))), busy_run(settings));
    assert_ne!(plain.0, spurious.0);
    assert_eq!(busy_run(settings), spurious);
}

#[test]
fn without_a_shuffle_the_order_is_the_kernels_and_the_log_is_literal() {
    let mut sim = Sim::new(Settings { order: Order::AsInKernel, ..Settings::new(Seed(0)) });
    let timers = sim.executor().timers();
    sim.spawn(Class::User, "user", yield_now()).detach();
    sim.spawn(Class::Kernel, "kernel", timers.sleep(Duration::from_millis(1))).detach();
    sim.run().unwrap();
    let expected = "\
0.000000 kernel: appears
0.000000 user: appears
0.000000 kernel: poll 1
0.000001 user: poll 1
0.000002 user: poll 2
0.000002 user: completed
0.001000 clock jumps
0.001000 kernel: poll 2
0.001000 kernel: completed
";
    assert_eq!(sim.journal().print(), expected);
    assert_eq!((sim.journal().count(), sim.steps()), (9, 4));
}

#[test]
fn virtual_time_costs_no_time() {
    let mut sim = Sim::new(Settings::new(Seed(0)));
    let timers = sim.executor().timers();
    let year = Duration::from_secs(365 * 86_400);
    sim.block_on("sleeper", timers.sleep(year)).unwrap();
    assert!(sim.clock().now() >= Instant::ZERO + year);
}

#[test]
fn a_spinning_task_does_not_keep_time_from_passing() {
    let mut sim = Sim::new(Settings::new(Seed(0)));
    let timers = sim.executor().timers();
    sim.endless("spinner");
    let spinner = async {
        loop {
            yield_now().await;
        }
    };
    sim.spawn(Class::User, "spinner", spinner).detach();
    sim.block_on("sleeper", timers.sleep(Duration::from_millis(1))).unwrap();
}

/// Two waiters and one who sets the flag, in whatever order the seed has it.
fn signal_run(seed: u64, fault: Fault) -> Result<(), Stuck> {
    let mut sim = Sim::new(Settings::new(Seed(seed)));
    let signal = Signal::with(fault);
    for number in 0..2 {
        sim.spawn(Class::User, TaskName::numbered("waiter", number), signal.clone().wait()).detach();
    }
    sim.spawn(Class::User, "setter", async move { signal.set() }).detach();
    sim.run()
}

#[test]
fn a_lost_wake_up_is_a_deadlock_that_names_who_waits() {
    for seed in 0..64 {
        assert_eq!(signal_run(seed, Fault::None), Ok(()), "seed {seed}");
    }
    for fault in [|| Fault::RegistersTooLate, || Fault::OneWakerOnly] {
        let stuck = (0..64).find_map(|seed| signal_run(seed, fault()).err());
        let Some(Stuck::Deadlock { waiting, .. }) = &stuck else { panic!("not found: {stuck:?}") };
        assert!(waiting.iter().all(|task| task.name.to_string().starts_with("waiter")));
    }
}

#[test]
fn a_task_whose_waker_is_thrown_away_is_reported_and_not_dropped_in_silence() {
    let mut sim = Sim::new(Settings::new(Seed(0)));
    sim.spawn(Class::Kernel, "forgotten", core::future::pending::<()>()).detach();
    let stuck = sim.run().unwrap_err();
    assert_eq!(stuck.to_string(), "deadlock at 0.000001: nothing is ready, waiting: forgotten (poll 1)");
}

#[test]
fn a_livelock_ends_at_the_step_limit_with_names() {
    let mut sim = Sim::new(Settings { max_steps: 100, ..Settings::new(Seed(0)) });
    let circle = async {
        loop {
            yield_now().await;
        }
    };
    sim.spawn(Class::User, "circle", circle).detach();
    sim.spawn(Class::User, "waits", core::future::pending::<()>()).detach();
    let text = sim.run().unwrap_err().to_string();
    assert_eq!(text, "no end after 100 steps, ready: circle (poll 99); waiting: waits (poll 1)");
}

#[test]
fn endless_tasks_are_not_waited_for() {
    let mut sim = Sim::new(Settings::new(Seed(0)));
    sim.endless("pager");
    sim.spawn(Class::Kernel, "pager", core::future::pending::<()>()).detach();
    assert_eq!(sim.run(), Ok(()));
    assert_eq!(sim.block_on("main", async { 5 }), Ok(5));
    assert_eq!(sim.settle(), Ok(()));
    assert_eq!(sim.unfinished().len(), 1);
}

#[test]
fn a_dropped_simulation_drops_its_tasks() {
    let trace = Trace::default();
    let mut sim = Sim::new(Settings::new(Seed(0)));
    for event in ["first dropped", "second dropped"] {
        let guard = trace.on_drop(event);
        let waits = async move {
            core::future::pending::<()>().await;
            drop(guard);
        };
        sim.spawn(Class::User, "waits", waits).detach();
    }
    assert!(sim.run().is_err());
    trace.expect(&[]);
    let stats = {
        let executor = sim.executor();
        drop(sim);
        executor.stats()
    };
    trace.expect(&["first dropped", "second dropped"]);
    assert_eq!((stats.dropped, stats.alive()), (2, 0));
}

/// A counter of permits. `Leaky` forgets to give its permit back when the future is
/// dropped while it holds one.
#[derive(Debug, Default)]
struct Permits(AtomicU64);

struct Held(Arc<Permits>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn cancelling_at_every_await_finds_what_is_not_given_back() {
    let run = |safe: bool| {
        let mut leaked = Vec::new();
        let times = cancel_at_every_await(Settings::new(Seed(3)), "victim", |sim| {
            let permits = Arc::new(Permits::default());
            let (timers, shared) = (sim.executor().timers(), permits.clone());
            let body = async move {
                yield_now().await;
                shared.0.fetch_add(1, Relaxed);
                let held = safe.then(|| Held(shared.clone()));
                timers.sleep(Duration::from_micros(50)).await;
                if held.is_none() {
                    shared.0.fetch_sub(1, Relaxed);
                }
            };
            let ended = sim.block_on("victim", body);
            assert!(matches!(ended, Ok(()) | Err(Stuck::Cancelled(_))), "{ended:?}");
            assert_eq!(sim.executor().timers().waiting(), 0);
            leaked.push(permits.0.load(Relaxed));
        });
        (times, leaked)
    };
    // Dropped before polls 1, 2, 3 and after polls 1 and 2; poll 3 completes. The last
    // run ends by itself.
    assert_eq!(run(true), (5, Vec::from([0; 7])));
    assert_eq!(run(false), (5, Vec::from([0, 0, 0, 1, 1, 0, 0])));
}

#[test]
fn a_cancelled_handle_shows_in_the_log() {
    let mut sim = Sim::new(Settings::new(Seed(0)));
    let task = sim.spawn(Class::User, "child", core::future::pending::<()>());
    sim.block_on("parent", async move {
        yield_now().await;
        assert!(task.cancel().await.is_none());
    })
    .unwrap();
    let dropped =
        |entry: &super::Entry| matches!(entry.event, Event::Dropped(name, _) if name == TaskName::new("child"));
    assert_eq!(sim.journal().tail().iter().filter(|entry| dropped(entry)).count(), 1);
}
