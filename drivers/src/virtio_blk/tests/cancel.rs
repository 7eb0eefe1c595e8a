//! Futures: waiting for room and for the end, woken, dropped at each await; and no wake-up lost.
#![expect(unsafe_code, reason = "a waker whose clone does something, to act between two steps of a poll")]

use super::*;
use core::pin::pin;
use core::task::{RawWaker, RawWakerVTable};
use std::boxed::Box;

#[test]
fn a_future_and_the_stream_each_get_their_own() {
    let (device, disk) = disk(4096);
    let (stream_bell, stream_waker) = Bell::new();
    let (task_bell, task_waker) = Bell::new();
    let mut task = pin!(disk.submit(read_frame(7)));
    assert!(poll(task.as_mut(), &task_waker).is_pending());
    disk.try_submit(read_frame(8)).unwrap();
    assert!(poll_stream(&disk, &stream_waker).is_pending());
    device.work();
    assert_eq!((stream_bell.rings(), task_bell.rings()), (0, 0));
    disk.on_interrupt();
    assert_eq!((stream_bell.rings(), task_bell.rings()), (1, 1));
    // The stream takes both off the ring, keeps its own and tells the future.
    let Poll::Ready(done) = poll_stream(&disk, &stream_waker) else { panic!("a completion") };
    assert_eq!(done.request.cookie.0, 8);
    assert_eq!((stream_bell.rings(), task_bell.rings()), (1, 2));
    assert!(poll_stream(&disk, &stream_waker).is_pending());
    let Poll::Ready(Ok(mine)) = poll(task, &task_waker) else { panic!("a completion") };
    assert_eq!(mine.request.buffers.bytes(), pattern_from(56, 4096));
    drop((done, mine));
    assert_quiet(&disk);
}

#[test]
fn a_future_that_empties_the_ring_tells_the_stream() {
    let (device, disk) = disk(4096);
    let (stream_bell, stream_waker) = Bell::new();
    let (_bell, task_waker) = Bell::new();
    let mut task = pin!(disk.submit(read_frame(7)));
    assert!(poll(task.as_mut(), &task_waker).is_pending());
    disk.try_submit(read_frame(8)).unwrap();
    assert!(poll_stream(&disk, &stream_waker).is_pending());
    device.work();
    assert!(poll(task, &task_waker).is_ready());
    assert_eq!(stream_bell.rings(), 1);
    assert!(poll_stream(&disk, &stream_waker).is_ready());
}

#[test]
fn p23_a_completion_before_the_first_poll_is_not_missed() {
    let (device, disk) = disk(64);
    let (bell, waker) = Bell::new();
    disk.try_submit(read_frame(0)).unwrap();
    device.work();
    // The interrupt finds nobody registered.
    disk.on_interrupt();
    assert!(poll_stream(&disk, &waker).is_ready());
    assert_eq!(bell.rings(), 0);
}

/// A waker that calls `0` when it is cloned, that is while it is being registered.
fn clone_hook(hook: &dyn Fn()) -> Waker {
    type Hook<'a> = &'a dyn Fn();
    static TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: `data` is the leaked box below; the hook outlives the test's use of the waker.
            (unsafe { &*data.cast::<Hook<'_>>() })();
            RawWaker::new(data, &TABLE)
        },
        |_| {},
        |_| {},
        |_| {},
    );
    let data: *const Hook<'_> = Box::leak(Box::new(hook));
    // SAFETY: the table's functions accept `data`, and the box is never freed.
    unsafe { Waker::from_raw(RawWaker::new(data.cast(), &TABLE)) }
}

#[test]
fn p23_a_completion_while_the_waker_is_being_registered_is_not_missed() {
    let (device, disk) = disk(64);
    disk.try_submit(read_frame(0)).unwrap();
    let act = || {
        device.work();
        disk.on_interrupt();
    };
    assert!(poll_stream(&disk, &clone_hook(&act)).is_ready());
    let mut task = pin!(disk.submit(read_frame(1)));
    assert!(poll(task.as_mut(), &clone_hook(&act)).is_ready());
}

#[test]
fn an_interrupt_while_the_table_is_held_is_delivered_by_the_holder() {
    let (_device, disk) = disk(64);
    let (bell, waker) = Bell::new();
    assert!(poll_stream(&disk, &waker).is_pending());
    // Registering a future's waker holds the table; the interrupt comes in the middle of it.
    let act = || disk.on_interrupt();
    let mut task = pin!(disk.submit(read_frame(1)));
    assert!(poll(task.as_mut(), &clone_hook(&act)).is_pending());
    assert_eq!(bell.rings(), 1);
}

#[test]
fn waiting_for_room_is_an_await_and_room_wakes_it() {
    let (device, disk) = disk(4096);
    for at in 0..85 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    let (bell, waker) = Bell::new();
    let mut task = pin!(disk.submit(read_frame(99)));
    assert!(poll(task.as_mut(), &waker).is_pending());
    assert_eq!((device.fetch(), bell.rings()), (85, 0));
    device.end(40, Ending::Done);
    disk.pop_complete().unwrap().result.unwrap();
    assert_eq!(bell.rings(), 1);
    assert!(poll(task.as_mut(), &waker).is_pending());
    assert_eq!(device.work(), 85);
    disk.on_interrupt();
    let Poll::Ready(Ok(done)) = poll(task, &waker) else { panic!("a completion") };
    assert_eq!(done.request.cookie.0, 99);
    drop(done);
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).count(), 84);
    assert_quiet(&disk);
}

#[test]
fn a_large_request_waits_until_enough_descriptors_are_free() {
    let (device, disk) = disk(4096);
    for at in 0..85 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    let (bell, waker) = Bell::new();
    let mut task = pin!(disk.submit(request(99, Kind::Read, 0, 512, Frames::scattered(64))));
    assert!(poll(task.as_mut(), &waker).is_pending());
    device.fetch();
    let mut ended = 0;
    while device.state().pending.len() < 86 && ended < 85 {
        device.end(0, Ending::Done);
        ended += 1;
        disk.pop_complete().unwrap().result.unwrap();
        assert_eq!(bell.rings(), ended, "each completion wakes it once");
        assert!(poll(task.as_mut(), &waker).is_pending());
        device.fetch();
        if device.state().pending.last().unwrap().descriptors == 66 {
            break;
        }
    }
    assert_eq!(ended, 22, "66 descriptors are free after 22 of 3, with 1 left over before");
}

#[test]
fn dropping_a_future_that_waits_for_room_drops_its_request() {
    let (device, disk) = disk(4096);
    for at in 0..85 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    let (_bell, waker) = Bell::new();
    {
        let mut task = pin!(disk.submit(read_frame(99)));
        assert!(poll(task.as_mut(), &waker).is_pending());
        assert_eq!(frames_owned(), 86);
    }
    assert_eq!(frames_owned(), 85);
    assert_eq!(device.work(), 85);
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).count(), 85);
    assert_quiet(&disk);
}

#[test]
fn dropping_a_future_in_flight_leaves_the_frames_with_the_device() {
    let (device, disk) = disk(4096);
    let (bell, waker) = Bell::new();
    {
        let mut task = pin!(disk.submit(read_frame(3)));
        assert!(poll(task.as_mut(), &waker).is_pending());
    }
    assert_eq!((frames_owned(), disk.counters().orphaned), (1, 1));
    // The fake fails the test if the device wrote to a freed frame.
    assert_eq!(device.work(), 1);
    disk.on_interrupt();
    assert_eq!(bell.rings(), 0, "nobody waits any more");
    assert_eq!(frames_owned(), 1);
    assert!(disk.pop_complete().is_none(), "an orphan is not the stream's");
    assert_eq!(Arc::strong_count(&bell), 2, "the driver keeps no waker of it");
    assert_quiet(&disk);
}

#[test]
fn dropping_a_future_whose_request_is_done_gives_the_frames_up_at_once() {
    let (device, disk) = disk(4096);
    let (_bell, waker) = Bell::new();
    for taken_off_the_ring in [false, true] {
        {
            let mut task = pin!(disk.submit(read_frame(3)));
            assert!(poll(task.as_mut(), &waker).is_pending());
            device.work();
            if taken_off_the_ring {
                assert!(disk.pop_complete().is_none());
            }
        }
        assert_quiet(&disk);
    }
}

#[test]
fn dropping_a_future_never_polled_drops_its_request() {
    let (device, disk) = disk(64);
    drop(disk.submit(read_frame(0)));
    assert_eq!(device.work(), 0);
    assert_quiet(&disk);
}

#[test]
fn a_request_that_cannot_succeed_comes_back_from_the_future() {
    let (_device, disk) = disk(64);
    let (_bell, waker) = Bell::new();
    let result = poll(pin!(disk.submit(read_frame(8))), &waker);
    assert!(matches!(result, Poll::Ready(Err(Refused::Invalid(_, Invalid::PastEnd)))));
}

#[test]
fn dropping_the_driver_stops_the_device_before_anything_is_freed() {
    let (device, disk) = disk(4096);
    for at in 0..20 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    device.fetch();
    drop(disk);
    assert_eq!(device.state().pending.len(), 0);
    assert_eq!(frames_owned(), 0);
    assert_eq!(leaks(), 0, "ring and command memory are given back");
}
