//! When sleeps end, in which order, and what dropping them leaves behind.

use alloc::format;
use alloc::vec::Vec;
use core::future::{Future, pending, ready};
use core::pin::pin;
use core::task::Context;

use super::{Elapsed, Timers};
use crate::testing::{HandClock, Trace, executor};
use crate::{Class, Clock, Duration, Instant};

const MS: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_equals_in_the_order_they_came() {
    let (executor, clock) = executor();
    let trace = Trace::default();
    for (name, millis) in [("c", 30), ("a", 10), ("b1", 20), ("b2", 20)] {
        let (trace, sleep) = (trace.clone(), executor.timers().sleep(Duration::from_millis(millis)));
        let sleeper = async move {
            sleep.await;
            trace.push(format!("{name} at {}", clock.now().as_nanos() / 1_000_000));
        };
        executor.spawn(Class::User, name, sleeper).detach();
    }
    assert_eq!(executor.timers().next_deadline(), None);
    assert_eq!(executor.tick(64).polled, 4);
    let mut fired = Vec::new();
    while let Some(deadline) = executor.timers().next_deadline() {
        clock.advance(deadline.since(clock.now()));
        fired.push(executor.timers().fire(clock.now()));
        let _ = executor.tick(64);
    }
    assert_eq!(fired, [1, 2, 1]);
    trace.expect(&["a at 10", "b1 at 20", "b2 at 20", "c at 30"]);
}

#[test]
fn a_late_fire_wakes_all_that_are_due_and_no_other() {
    let clock = HandClock::default();
    let timers = Timers::new(&clock);
    let mut cx = Context::from_waker(core::task::Waker::noop());
    let mut sleeps: Vec<_> = (1..=5).map(|n| alloc::boxed::Box::pin(timers.sleep_until(at(n)))).collect();
    assert!(sleeps.iter_mut().all(|sleep| sleep.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(timers.fire(Instant::ZERO), 0);
    assert_eq!(timers.fire(at(3)), 3);
    assert_eq!(timers.fire(at(3)), 0);
    assert_eq!(timers.next_deadline(), Some(at(4)));
    let done: Vec<_> = sleeps.iter_mut().map(|sleep| sleep.as_mut().poll(&mut cx).is_ready()).collect();
    assert_eq!(done, [true, true, true, false, false]);
}

#[test]
fn a_deadline_that_has_passed_never_enters_the_queue() {
    let clock = HandClock::default();
    let timers = Timers::new(&clock);
    let mut cx = Context::from_waker(core::task::Waker::noop());
    assert!(pin!(timers.sleep(Duration::ZERO)).poll(&mut cx).is_ready());
    clock.advance(MS);
    assert!(pin!(timers.sleep_until(at(1))).poll(&mut cx).is_ready());
    assert_eq!((timers.waiting(), timers.next_deadline()), (0, None));
}

#[test]
fn a_dropped_sleep_leaves_nothing_behind() {
    let clock = HandClock::default();
    let timers = Timers::new(&clock);
    let mut cx = Context::from_waker(core::task::Waker::noop());
    let mut later = pin!(timers.sleep_until(at(9)));
    assert!(later.as_mut().poll(&mut cx).is_pending());
    {
        let mut sooner = pin!(timers.sleep_until(at(5)));
        assert!(sooner.as_mut().poll(&mut cx).is_pending());
        assert_eq!((timers.waiting(), timers.next_deadline()), (2, Some(at(5))));
    }
    assert_eq!((timers.waiting(), timers.next_deadline()), (1, Some(at(9))));
    assert_eq!(timers.fire(at(5)), 0);
}

#[test]
fn a_sleep_that_moved_to_another_task_wakes_that_one() {
    let (executor, clock) = executor();
    let trace = Trace::default();
    let mut sleep = executor.timers().sleep(MS);
    {
        let mut cx = Context::from_waker(core::task::Waker::noop());
        assert!(core::pin::Pin::new(&mut sleep).poll(&mut cx).is_pending());
    }
    let new_owner = trace.clone();
    executor
        .spawn(Class::User, "new owner", async move {
            sleep.await;
            new_owner.push("woken");
        })
        .detach();
    assert_eq!(executor.tick(64).polled, 1);
    clock.advance(MS);
    assert_eq!(executor.timers().fire(clock.now()), 1);
    assert_eq!(executor.tick(64).completed, 1);
    trace.expect(&["woken"]);
}

#[test]
fn a_sleep_to_the_end_of_time_does_not_end() {
    let clock = HandClock::default();
    let timers = Timers::new(&clock);
    let mut cx = Context::from_waker(core::task::Waker::noop());
    let mut sleep = pin!(timers.sleep(Duration::MAX));
    assert!(sleep.as_mut().poll(&mut cx).is_pending());
    assert_eq!((timers.waiting(), timers.next_deadline()), (1, None));
    assert_eq!(timers.fire(at(1_000_000)), 0);
}

#[test]
fn a_timeout_gives_the_output_or_says_that_it_elapsed() {
    let (executor, clock) = executor();
    let trace = Trace::default();
    let timers = executor.timers();
    let in_task = trace.clone();
    executor
        .spawn(Class::User, "patient", async move {
            in_task.push(format!("{:?}", timers.timeout(MS, ready(1)).await));
            let slow = async { timers.sleep(MS + MS).await };
            in_task.push(format!("{:?}", timers.timeout(MS, slow).await));
            let tie = async { timers.sleep(MS).await };
            in_task.push(format!("{:?}", timers.timeout(MS, tie).await));
            assert_eq!(timers.timeout(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
            in_task.push("done");
        })
        .detach();
    let _ = executor.tick(64);
    trace.expect(&["Ok(1)"]);
    for expected in [&["Err(Elapsed)"][..], &["Ok(())", "done"]] {
        clock.advance(MS);
        timers.fire(clock.now());
        let _ = executor.tick(64);
        trace.expect(expected);
    }
    assert_eq!(timers.waiting(), 0);
}

#[test]
fn a_timeout_holds_its_future_once() {
    let clock = HandClock::default();
    let timers = Timers::new(&clock);
    let large = async {
        let block = [0_u8; 512];
        core::future::ready(()).await;
        block.len()
    };
    let size = size_of_val(&large);
    assert!(size_of_val(&timers.timeout(MS, large)) <= size + 96);
}
