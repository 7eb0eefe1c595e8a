//! A used ring full of lies: the device is failed and reset, every request comes back once, nothing panics.

use super::*;
use core::pin::pin;
use std::boxed::Box;

/// Cookie and result of each completion, in order.
type Results = Vec<(u64, Result<(), BlockError>)>;

/// Five reads in flight and a future; the device tells `lie`; what the stream then gets.
fn after(lie: impl FnOnce(&FakeDisk)) -> (FakeDisk, Disk, Results) {
    let (device, disk) = disk(4096);
    let (_bell, waker) = Bell::new();
    for at in 0..5 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    let mut task = Box::pin(disk.submit(read_frame(5)));
    assert!(poll(task.as_mut(), &waker).is_pending());
    device.fetch();
    lie(&device);
    disk.on_interrupt();
    let mut results = Results::new();
    while let Some(done) = disk.pop_complete() {
        results.push((done.request.cookie.0, done.result));
    }
    let Poll::Ready(Ok(done)) = poll(task.as_mut(), &waker) else { panic!("the future ends, too") };
    assert_eq!(done.result, Err(BlockError::DeviceFailed));
    drop((done, task));
    assert_eq!(frames_owned(), 0, "every frame came back");
    let counters = disk.counters();
    assert!(counters.balanced() && counters.in_flight == 0, "{counters:?}");
    assert_eq!(counters.protocol_errors, 1);
    assert!(device.state().pending.is_empty(), "the device was reset before the frames came back");
    (device, disk, results)
}

fn all_failed(results: &Results) -> bool {
    results.iter().map(|&(cookie, _)| cookie).eq(0..5)
        && results.iter().all(|(_, result)| *result == Err(BlockError::DeviceFailed))
}

#[test]
fn f8_an_unknown_or_idle_descriptor_fails_the_device() {
    for id in [200, 255, 256, 1000, 65_535, 65_536, 65_536 + 3] {
        let (_device, disk, results) = after(|device| device.lie(id, 0));
        assert!(all_failed(&results), "{results:?}");
        assert_eq!(disk.health(), Health::Failed(Violation::NotInFlight { head: id }));
    }
}

#[test]
fn f8_the_middle_of_a_chain_is_not_a_request() {
    let (_device, disk, results) = after(|device| {
        let head = device.state().pending[0].head;
        device.lie(u32::from(head) + 1, 0);
    });
    assert!(all_failed(&results), "{results:?}");
    assert!(matches!(disk.health(), Health::Failed(Violation::NotInFlight { .. })));
}

#[test]
fn f8_an_id_returned_twice_completes_once() {
    let (_device, _disk, results) = after(|device| {
        let head = device.state().pending[2].head;
        device.end(2, Ending::Done);
        device.lie(u32::from(head), 4097);
    });
    let good: Vec<_> = results.iter().filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(good, [&(2, Ok(()))]);
    assert_eq!(results.len(), 5);
}

#[test]
fn f8_a_used_index_that_jumps_does_not_complete_what_is_not_done() {
    for by in [1, 7, 256, 40_000] {
        let (_device, _disk, results) = after(|device| device.jump(by));
        assert!(all_failed(&results), "{by}: {results:?}");
    }
}

#[test]
fn f8_a_request_returned_without_a_status_is_not_trusted() {
    let (_device, disk, results) = after(|device| device.end(1, Ending::NoStatus));
    assert!(all_failed(&results), "{results:?}");
    assert!(matches!(disk.health(), Health::Failed(Violation::StatusMissing { .. })));
}

#[test]
fn f8_good_completions_before_the_lie_count() {
    let (_device, _disk, results) = after(|device| {
        device.end(4, Ending::Done);
        device.end(0, Ending::Status(1));
        device.lie(222, 0);
    });
    assert_eq!(results[..2], [(4, Ok(())), (0, Err(BlockError::Io))]);
    assert_eq!(results.len(), 5);
}

#[test]
fn f8_a_failed_device_takes_no_more_requests_and_wakes_those_who_wait() {
    let (device, disk) = disk(4096);
    for at in 0..85 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    let (bell, waker) = Bell::new();
    let mut task = pin!(disk.submit(read_frame(99)));
    assert!(poll(task.as_mut(), &waker).is_pending());
    device.fetch();
    device.lie(1, 0);
    assert!(disk.pop_complete().is_some());
    assert_eq!(bell.rings(), 1);
    let Poll::Ready(Err(Refused::Failed(request))) = poll(task, &waker) else { panic!("refused") };
    assert_eq!(request.cookie.0, 99);
    assert!(matches!(disk.try_submit(flush()), Err(Refused::Failed(_))));
}

#[test]
fn f8_a_device_that_does_not_stop_keeps_its_frames() {
    let (device, disk) = disk(4096);
    for at in 0..5 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    device.fetch();
    device.state().never_stops = true;
    device.lie(200, 0);
    assert!(disk.pop_complete().is_none());
    let counters = disk.counters();
    assert_eq!((counters.in_flight, frames_owned()), (5, 5));
    assert!(counters.balanced());
    // Dropping the driver waits for the device, so let it stop now.
    device.state().never_stops = false;
    drop(disk);
    assert_eq!(frames_owned(), 0);
}

#[test]
fn f8_a_head_of_an_earlier_life_does_not_reach_the_slot_it_once_had() {
    let (device, disk) = disk(4096);
    let both = |kind: fn(u64) -> Request<Frames>| (0..2).for_each(|at| disk.try_submit(kind(at)).unwrap());
    // Flushes at heads 0 and 2 of slots 0 and 1; after them, reads at heads 2 (through 0) and 1 of slots 1 and 0.
    both(|_| flush());
    device.work();
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).count(), 2);
    both(read_frame);
    device.fetch();
    let heads: Vec<_> = device.state().pending.iter().map(|request| request.head).collect();
    assert!(!heads.contains(&0), "head 0 is inside a chain now: {heads:?}");
    device.lie(0, 1);
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).filter(|done| done.result.is_err()).count(), 2);
    assert_eq!(disk.health(), Health::Failed(Violation::NotInFlight { head: 0 }));
}
