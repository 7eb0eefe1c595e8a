//! The order of events, the counts, and the ways a task can end.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};
use std::sync::Mutex;

use futures_util::FutureExt;

use super::Executor;
use crate::testing::{HandClock, Trace, executor};
use crate::{Class, Clock, Config, Duration, Measure, PollTime, Ready, TaskName, Tick, TooManyTasks, yield_now};

/// Gives its waker away on the first poll and is ready on the second.
fn wait(door: &Door) -> impl Future<Output = ()> + Send + use<> {
    let door = door.clone();
    let mut knocked = false;
    poll_fn(move |cx| {
        if knocked {
            return Poll::Ready(());
        }
        knocked = true;
        *door.0.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    })
}

#[derive(Clone, Debug, Default)]
struct Door(Arc<Mutex<Option<Waker>>>);

impl Door {
    fn waker(&self) -> Waker {
        self.0.lock().unwrap().clone().expect("nobody waits at this door")
    }
}

fn polls(tick: Tick) -> (usize, usize, usize, usize, bool) {
    (tick.polled, tick.completed, tick.dropped, tick.requeued, tick.idle)
}

#[test]
fn a_task_runs_once_and_its_handle_yields_the_output() {
    let (executor, _) = executor();
    let task = executor.spawn(Class::User, "answer", async { 42 });
    assert_eq!(polls(executor.tick(64)), (1, 1, 0, 0, true));
    assert_eq!(task.now_or_never(), Some(42));
    assert_eq!(polls(executor.tick(64)), (0, 0, 0, 0, true));
}

#[test]
fn kernel_tasks_run_before_woken_ones_and_these_before_preempted_ones() {
    let (executor, _) = executor();
    let (trace, door) = (Trace::default(), Door::default());
    executor.spawn(Class::User, "spinner", spinner(executor, &trace)).detach();
    let paging = {
        let (trace, wait) = (trace.clone(), wait(&door));
        async move {
            trace.push("fault");
            wait.await;
            trace.push("resume");
        }
    };
    executor.spawn(Class::User, "paging", paging).detach();
    let pager = {
        let trace = trace.clone();
        async move {
            trace.push("pager");
            yield_now().await;
            trace.push("pager again");
        }
    };
    executor.spawn(Class::Kernel, "pager", pager).detach();

    assert_eq!(polls(executor.tick(6)), (6, 1, 0, 4, false));
    trace.expect(&["pager", "pager again", "spin", "fault", "spin", "spin"]);
    assert_eq!(executor.stats().ready, Ready { kernel: 0, woken: 0, gave_way: 0, preempted: 1 });
    assert!(!executor.has_urgent());
    door.waker().wake();
    assert!(executor.has_urgent());
    assert_eq!(polls(executor.tick(2)), (2, 1, 0, 1, false));
    trace.expect(&["resume", "spin"]);
}

/// Computes for ever, a time slice after the other.
fn spinner(executor: Executor, trace: &Trace) -> impl Future<Output = ()> + Send + use<> {
    let trace = trace.clone();
    async move {
        loop {
            trace.push("spin");
            executor.end_turn().await;
        }
    }
}

#[test]
fn a_task_that_gives_way_goes_behind_woken_ones_and_before_preempted_ones() {
    let (executor, _) = executor();
    let (trace, door) = (Trace::default(), Door::default());
    executor.spawn(Class::User, "spinner", spinner(executor, &trace)).detach();
    let paging = {
        let (trace, wait) = (trace.clone(), wait(&door));
        async move {
            wait.await;
            trace.push("resume");
        }
    };
    executor.spawn(Class::User, "paging", paging).detach();
    let long_call = {
        let (trace, door) = (trace.clone(), door.clone());
        async move {
            for chunk in 0..3 {
                trace.push(format!("chunk {chunk}"));
                if chunk == 1 {
                    door.waker().wake();
                }
                yield_now().await;
            }
        }
    };
    executor.spawn(Class::User, "long call", long_call).detach();
    assert_eq!(polls(executor.tick(7)), (7, 2, 0, 4, false));
    trace.expect(&["spin", "chunk 0", "chunk 1", "resume", "chunk 2"]);
    assert_eq!(polls(executor.tick(1)), (1, 0, 0, 1, false));
    trace.expect(&["spin"]);
}

#[test]
fn a_task_that_gives_way_for_longer_than_a_turn_goes_behind_preempted_ones() {
    let (executor, clock) = executor();
    let trace = Trace::default();
    executor.spawn(Class::User, "spinner", spinner(executor, &trace)).detach();
    let long_call = {
        let trace = trace.clone();
        async move {
            loop {
                trace.push("chunk");
                clock.advance(Duration::from_millis(4));
                yield_now().await;
            }
        }
    };
    executor.spawn(Class::User, "long call", long_call).detach();
    assert_eq!(polls(executor.tick(10)), (10, 0, 0, 10, false));
    // The first time that it gives way begins the ten milliseconds.
    let turn = ["chunk"; 4];
    trace.expect(&[&["spin"], &turn[..], &["spin"], &turn[..]].concat());
}

#[test]
fn whether_a_woken_task_had_to_wait_for_a_preempted_one_is_counted() {
    let (executor, _) = executor();
    let (trace, door) = (Trace::default(), Door::default());
    let paging = {
        let (trace, wait) = (trace.clone(), wait(&door));
        async move {
            wait.await;
            trace.push(format!("overtaken by {}", executor.overtaken()));
            executor.end_turn().await;
            trace.push(format!("overtaken by {}", executor.overtaken()));
        }
    };
    executor.spawn(Class::User, "paging", paging).detach();
    executor.spawn(Class::User, "spinner", spinner(executor, &trace)).detach();
    let tick = executor.tick(3);
    trace.expect(&["spin", "spin"]);
    assert_eq!(executor.preempted_turns(), 1);
    door.waker().wake();
    assert_eq!((tick.polled, executor.tick(3).polled), (3, 3));
    // Its own second turn is one of a pre-empted task as well.
    trace.expect(&["overtaken by 0", "spin", "overtaken by 2"]);
}

#[test]
fn tasks_of_a_lane_take_turns() {
    let (executor, _) = executor();
    let trace = Trace::default();
    for name in ["a", "b", "c"] {
        let trace = trace.clone();
        let turns = async move {
            for turn in 0..2 {
                trace.push(format!("{name}{turn}"));
                yield_now().await;
            }
        };
        executor.spawn(Class::User, name, turns).detach();
    }
    assert_eq!(polls(executor.tick(64)), (9, 3, 0, 6, true));
    trace.expect(&["a0", "b0", "c0", "a1", "b1", "c1"]);
}

#[test]
fn a_tick_stops_at_its_limit_and_says_that_it_is_not_idle() {
    let (executor, _) = executor();
    for number in 0..5 {
        executor.spawn(Class::User, TaskName::numbered("short", number), async {}).detach();
    }
    assert_eq!(polls(executor.tick(3)), (3, 3, 0, 0, false));
    assert_eq!(polls(executor.tick(3)), (2, 2, 0, 0, true));
    assert_eq!(polls(executor.tick(0)), (0, 0, 0, 0, true));
}

#[test]
fn two_wakes_before_a_poll_are_one_and_a_wake_after_the_end_is_none() {
    let (executor, _) = executor();
    let door = Door::default();
    let task = executor.spawn(Class::User, "waits", wait(&door));
    assert_eq!(polls(executor.tick(64)), (1, 0, 0, 0, true));
    let waker = door.waker();
    waker.wake_by_ref();
    waker.wake_by_ref();
    assert_eq!(executor.stats().ready.woken, 1);
    assert_eq!(polls(executor.tick(64)), (1, 1, 0, 0, true));
    waker.wake_by_ref();
    assert_eq!(polls(executor.tick(64)), (0, 0, 0, 0, true));
    assert!(task.is_finished());
}

#[test]
fn a_wake_after_the_tick_is_seen_by_is_idle_and_not_by_the_report() {
    let (executor, _) = executor();
    let door = Door::default();
    executor.spawn(Class::User, "waits", wait(&door)).detach();
    let tick = executor.tick(64);
    assert!(executor.is_idle());
    door.waker().wake();
    assert!(tick.idle && !executor.is_idle());
}

#[test]
fn a_wake_during_the_poll_is_not_lost() {
    let (executor, _) = executor();
    let mut polled = 0;
    let impatient = poll_fn(move |cx| {
        polled += 1;
        cx.waker().wake_by_ref();
        cx.waker().wake_by_ref();
        if polled == 3 { Poll::Ready(polled) } else { Poll::Pending }
    });
    let task = executor.spawn(Class::User, "impatient", impatient);
    assert_eq!(polls(executor.tick(64)), (3, 1, 0, 2, true));
    assert_eq!(task.now_or_never(), Some(3));
}

#[test]
fn a_cancelled_task_is_dropped_by_the_next_tick_where_it_stands() {
    let (executor, _) = executor();
    let (trace, door) = (Trace::default(), Door::default());
    let body = {
        let (trace, wait) = (trace.clone(), wait(&door));
        async move {
            let _outer = trace.on_drop("outer dropped");
            trace.push("polled");
            wait.await;
            trace.push("never");
        }
    };
    let task = executor.spawn(Class::User, "victim", body);
    assert_eq!(polls(executor.tick(64)), (1, 0, 0, 0, true));
    trace.expect(&["polled"]);
    drop(task);
    trace.expect(&[]);
    assert_eq!(polls(executor.tick(64)), (1, 0, 1, 0, true));
    trace.expect(&["outer dropped"]);
    door.waker().wake();
    assert_eq!(polls(executor.tick(64)), (0, 0, 0, 0, true));
    assert_eq!(executor.stats().alive(), 0);
}

#[test]
fn a_cancelled_task_that_is_ready_is_not_polled_again() {
    let (executor, _) = executor();
    let trace = Trace::default();
    let (guard, in_task) = (trace.on_drop("dropped"), trace.clone());
    let task = executor.spawn(Class::Kernel, "victim", async move {
        in_task.push("never");
        drop(guard);
    });
    drop(task);
    assert_eq!(polls(executor.tick(64)), (1, 0, 1, 0, true));
    trace.expect(&["dropped"]);
}

#[test]
fn a_detached_task_that_nobody_can_wake_is_dropped() {
    let (executor, _) = executor();
    let door = Door::default();
    executor.spawn(Class::User, "forgotten", wait(&door)).detach();
    assert_eq!(polls(executor.tick(64)), (1, 0, 0, 0, true));
    *door.0.lock().unwrap() = None;
    assert_eq!(polls(executor.tick(64)), (1, 0, 1, 0, true));
    let stats = executor.stats();
    assert_eq!((stats.spawned, stats.completed, stats.dropped, stats.polls), (1, 0, 1, 2));
}

#[test]
fn awaiting_a_handle_waits_for_the_task() {
    let (executor, _) = executor();
    let (trace, door) = (Trace::default(), Door::default());
    let child = executor.spawn(Class::User, "child", wait(&door));
    let parent = {
        let trace = trace.clone();
        async move {
            child.await;
            trace.push("child is done");
        }
    };
    executor.spawn(Class::User, "parent", parent).detach();
    assert_eq!(polls(executor.tick(64)), (2, 0, 0, 0, true));
    door.waker().wake();
    assert_eq!(polls(executor.tick(64)), (2, 2, 0, 0, true));
    trace.expect(&["child is done"]);
}

#[test]
fn the_number_of_tasks_is_limited_by_class_until_their_memory_is_free() {
    let (executor, _) = executor();
    let tasks: Vec<_> = (0..8).map(|_| executor.spawn(Class::User, "many", async {})).collect();
    let full = executor.try_spawn(Class::User, "ninth", async {});
    assert_eq!(full.unwrap_err(), TooManyTasks { class: Class::User, limit: 8 });
    executor.spawn(Class::Kernel, "other class", async {}).detach();
    assert_eq!(polls(executor.tick(64)), (9, 9, 0, 0, true));
    // The handles keep the outputs, and so the tasks.
    assert!(executor.try_spawn(Class::User, "ninth", async {}).is_err());
    drop(tasks);
    executor.spawn(Class::User, "ninth", async {}).detach();
}

#[test]
fn a_full_house_of_ready_tasks_fits_into_every_lane() {
    let (executor, _) = executor();
    for class in [Class::Kernel, Class::User] {
        for _ in 0..8 {
            executor.spawn(class, "yields", yield_now()).detach();
        }
    }
    assert_eq!(polls(executor.tick(64)), (32, 16, 0, 16, true));
}

#[test]
fn a12_a_slow_poll_is_named_and_a_quick_one_is_not() {
    let (executor, clock) = executor();
    let work = |micros| async move { clock.advance(Duration::from_micros(micros)) };
    executor.spawn(Class::User, TaskName::numbered("thread", 7), work(1_500)).detach();
    executor.spawn(Class::User, "quick", work(1_000)).detach();
    executor.spawn(Class::Kernel, "reclaim", work(10)).detach();
    let tick = executor.tick(64);
    let slowest = PollTime { name: TaskName::numbered("thread", 7), took: Duration::from_micros(1_500) };
    assert_eq!((tick.slow, tick.longest), (1, Some(slowest)));
    assert_eq!(format!("{slowest}"), "thread 7 took 1.500 ms");
    executor.spawn(Class::User, "quick", work(2)).detach();
    assert_eq!(executor.tick(64).slow, 0);
    let stats = executor.stats();
    assert_eq!((stats.slow_polls, stats.longest), (1, Some(slowest)));
}

#[test]
fn time_in_user_mode_is_not_time_of_the_poll() {
    let (executor, clock) = executor();
    let thread = async move {
        clock.advance(Duration::from_micros(300));
        let left = executor.clock().now();
        clock.advance(Duration::from_millis(10));
        executor.user_ran(left, executor.clock().now());
        clock.advance(Duration::from_micros(200));
    };
    executor.spawn(Class::User, "thread", thread).detach();
    let tick = executor.tick(64);
    assert_eq!((tick.slow, tick.longest.map(|poll| poll.took)), (0, Some(Duration::from_micros(300))));
}

#[test]
fn only_who_shall_be_measured_is() {
    let clock = HandClock::leak();
    let executor = Executor::new(Config { measure: Measure::KernelTasks, ..Config::new(clock) });
    let work = move |millis| async move { clock.advance(Duration::from_millis(millis)) };
    executor.spawn(Class::User, "user", work(5)).detach();
    assert_eq!(executor.tick(64).longest, None);
    executor.spawn(Class::User, "user", work(5)).detach();
    executor.spawn(Class::Kernel, "kernel", work(2)).detach();
    let longest = executor.tick(64).longest;
    assert_eq!(longest, Some(PollTime { name: TaskName::new("kernel"), took: Duration::from_millis(2) }));
}

#[test]
fn a_ready_task_behind_busy_ones_gets_a_poll_when_its_patience_ends() {
    let (executor, clock) = executor();
    let trace = Trace::default();
    for (class, name) in [(Class::Kernel, "kernel"), (Class::User, "user")] {
        let trace = trace.clone();
        let busy = async move {
            loop {
                trace.push(name);
                yield_now().await;
            }
        };
        executor.spawn(class, name, busy).detach();
    }
    assert_eq!(polls(executor.tick(2)), (2, 0, 0, 2, false));
    trace.expect(&["kernel", "kernel"]);
    clock.advance(Duration::from_millis(51));
    assert_eq!(polls(executor.tick(2)), (2, 0, 0, 2, false));
    trace.expect(&["user", "kernel"]);
    clock.advance(Duration::from_millis(50));
    assert_eq!(polls(executor.tick(2)), (2, 0, 0, 2, false));
    trace.expect(&["kernel", "kernel"]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(polls(executor.tick(2)), (2, 0, 0, 2, false));
    trace.expect(&["user", "kernel"]);
}

#[test]
fn several_executors_do_not_mix() {
    let ((one, _), (two, _)) = (executor(), executor());
    one.spawn(Class::User, "in one", async {}).detach();
    assert_eq!(polls(two.tick(64)), (0, 0, 0, 0, true));
    assert_eq!(polls(one.tick(64)), (1, 1, 0, 0, true));
}

#[test]
fn a_task_costs_its_future_and_little_more() {
    // What the kernel's limit of 1 KiB per thread has to leave for the executor (design
    // D15).
    assert!(size_of::<crate::TaskInfo>() <= 56);
    assert_eq!(size_of::<crate::Task<()>>(), 8);
}

#[test]
fn whatever_tasks_do_the_counts_add_up() {
    use crate::sim::{Rng, Seed};
    for seed in 0..50 {
        let mut rng = Rng::new(Seed(seed));
        let (executor, clock) = executor();
        let (mut handles, mut polled, mut ended) = (Vec::new(), 0, 0);
        for _ in 0..400 {
            match rng.below(5) {
                0 | 1 => {
                    let (yields, nap) = (rng.below(4), Duration::from_nanos(rng.below(50)));
                    let class = if rng.below(2) == 0 { Class::Kernel } else { Class::User };
                    let body = async move {
                        for _ in 0..yields {
                            yield_now().await;
                        }
                        executor.timers().sleep(nap).await;
                    };
                    // A full class refuses, which is as good.
                    handles.extend(executor.try_spawn(class, "some", body));
                }
                2 if !handles.is_empty() => {
                    // Dropping the handle cancels the task, ended or not.
                    let index = rng.below(handles.len() as u64) as usize;
                    drop(handles.swap_remove(index));
                }
                3 => {
                    clock.advance(Duration::from_nanos(10));
                    executor.timers().fire(clock.now());
                }
                _ => {
                    let tick = executor.tick(rng.below(6) as usize);
                    polled += tick.polled as u64;
                    ended += (tick.completed + tick.dropped) as u64;
                }
            }
            let stats = executor.stats();
            assert_eq!(stats.polls, polled, "seed {seed}");
            assert_eq!(stats.completed + stats.dropped, ended, "seed {seed}");
            assert!(stats.alive() <= 16, "seed {seed}");
        }
        drop(handles);
        while !executor.tick(64).idle {}
        assert_eq!((executor.stats().alive(), executor.timers().waiting()), (0, 0), "seed {seed}");
    }
}
