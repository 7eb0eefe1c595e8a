//! Many in flight, full, resumed, batched, wrapped around, without allocating.

use super::*;
use crate::fake::alloc_count::allocations;

#[test]
fn eighty_five_reads_in_flight_end_in_any_order_byte_exact() {
    let (device, disk) = disk(4096);
    for at in 0..85 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    assert_eq!(device.fetch(), 85);
    assert_eq!(disk.counters().in_flight, 85);
    // 37 steps through 85 positions visit each once, far from any order.
    for step in 0..85u16 {
        let head = device.state().pending.iter().map(|request| request.head).min();
        let index = usize::from(step * 37 % 85) % device.state().pending.len();
        assert!(head.is_some());
        device.end(index, Ending::Done);
    }
    let mut seen = Vec::new();
    while let Some(done) = disk.pop_complete() {
        done.result.unwrap();
        let at = done.request.cookie.0;
        assert_eq!(done.request.buffers.bytes(), pattern_from(at * 8, 4096));
        seen.push(at);
    }
    assert_ne!(seen, (0..85).collect::<Vec<_>>(), "the device answered out of order");
    seen.sort_unstable();
    assert_eq!(seen, (0..85).collect::<Vec<_>>());
    assert_quiet(&disk);
}

#[test]
fn a_full_ring_gives_the_request_back_and_takes_it_after_a_completion() {
    let (device, disk) = disk(4096);
    // 3 x 66 descriptors leave 58: not enough for a fourth, enough for one of 56 frames.
    for at in 0..3 {
        disk.try_submit(request(at, Kind::Read, 0, 512, Frames::scattered(64))).unwrap();
    }
    let refused = disk.try_submit(request(9, Kind::Read, 512, 512, Frames::scattered(64)));
    let Err(Refused::Full(fourth)) = refused else { panic!("{refused:?}") };
    disk.try_submit(request(4, Kind::Read, 0, 448, Frames::scattered(56))).unwrap();
    let refused = disk.try_submit(flush());
    assert!(matches!(refused, Err(Refused::Full(_))), "{refused:?}");
    drop(refused);
    assert_eq!(disk.counters().refused_full, 2);
    // The device returns one: the next submission finds the room itself, before anybody has popped the completion.
    device.fetch();
    device.end(0, Ending::Done);
    disk.try_submit(fourth).unwrap();
    device.work();
    let cookies: Vec<_> = core::iter::from_fn(|| disk.pop_complete()).map(|done| done.request.cookie.0).collect();
    assert_eq!(cookies, [0, 1, 2, 4, 9]);
    assert_quiet(&disk);
}

#[test]
fn as_many_flushes_as_slots_fit() {
    let (device, disk) = disk(64);
    for _ in 0..SLOTS {
        disk.try_submit(flush()).unwrap();
    }
    assert!(matches!(disk.try_submit(flush()), Err(Refused::Full(_))));
    assert_eq!(device.work(), SLOTS);
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).count(), SLOTS);
    assert_quiet(&disk);
}

#[test]
fn a_batch_is_announced_once_and_not_at_all_when_the_device_looks_anyway() {
    let (device, disk) = disk(4096);
    for at in 0..10 {
        disk.try_enqueue(read_frame(at)).unwrap();
    }
    assert_eq!((device.fetch(), device.state().notifications), (0, 0));
    disk.kick();
    disk.kick();
    assert_eq!((device.fetch(), device.state().notifications), (10, 1));
    device.suppress_notifications(true);
    disk.try_submit(read_frame(10)).unwrap();
    assert_eq!((device.fetch(), device.state().notifications), (10, 1));
    device.look();
    device.suppress_notifications(false);
    disk.try_submit(read_frame(11)).unwrap();
    assert_eq!((device.work(), device.state().notifications), (12, 2));
    assert_eq!(disk.counters().notifications, 2);
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).count(), 12);
    assert_quiet(&disk);
}

#[test]
fn a_forgotten_kick_is_made_up_for_by_the_next_poll() {
    let (device, disk) = disk(64);
    disk.try_enqueue(read_frame(0)).unwrap();
    let (_bell, waker) = Bell::new();
    assert!(poll_stream(&disk, &waker).is_pending());
    assert_eq!(device.work(), 1);
    assert!(poll_stream(&disk, &waker).is_ready());
}

#[test]
fn ring_indices_wrap_around_past_65536_requests() {
    let (device, disk) = disk(64);
    let mut frames = Some(Frames::scattered(1));
    for round in 0..70_000u64 {
        disk.try_submit(request(round, Kind::Read, round % 56, 8, frames.take().unwrap())).unwrap();
        // Batches of flushes of varying size shift the positions in the ring.
        let extra = if round % 1000 == 0 { 100 } else { round % 3 };
        (0..extra).for_each(|_| disk.try_enqueue(flush()).unwrap());
        disk.kick();
        assert_eq!(device.work() as u64, 1 + extra, "round {round}: a lost notification");
        for _ in 0..=extra {
            let done = disk.pop_complete().expect("a completion");
            done.result.unwrap();
            if done.request.kind == Kind::Read {
                assert_eq!(done.request.cookie.0, round);
                frames = Some(done.request.buffers);
            }
        }
    }
    assert_eq!(frames.take().unwrap().bytes(), pattern_from(69_999 % 56, 4096));
    assert!(disk.counters().submitted() > 2 * 65_536);
    assert_quiet(&disk);
}

#[test]
fn nothing_is_allocated_or_freed_per_request() {
    let (device, disk) = disk(4096);
    let (_bell, waker) = Bell::new();
    let mut requests: Vec<_> = (0..3).map(|at| request(at, Kind::Write, 0, 512, Frames::scattered(64))).collect();
    requests.extend((3..10).map(read_frame));
    let mut done = Vec::with_capacity(16);
    let mut on_the_device = 0;
    let total = allocations(|| {
        for _ in 0..100 {
            requests.drain(..).for_each(|request| disk.try_submit(request).unwrap());
            assert!(poll_stream(&disk, &waker).is_pending());
            on_the_device += allocations(|| {
                device.work();
            });
            disk.on_interrupt();
            while let Poll::Ready(completion) = poll_stream(&disk, &waker) {
                completion.result.unwrap();
                done.push(completion.request);
            }
            assert_eq!(done.len(), 10);
            requests.append(&mut done);
        }
    });
    assert_eq!(total - on_the_device, 0);
}

#[test]
fn values_have_the_sizes_that_were_planned() {
    fn shared<T: Send + Sync>() {}
    shared::<VirtioBlk<FakeHal, crate::pci::virtio::VirtioPci, Frames>>();
    let request = size_of::<Request<Frames>>();
    let device = disk(64).1;
    let future = device.submit(flush());
    // The request, where it waits and where it is handed over, and the wait itself.
    assert!(size_of_val(&future) <= 3 * request + 256, "{} with a request of {request}", size_of_val(&future));
}

#[test]
fn f4_a_request_without_an_answer_is_late_once_and_still_ends() {
    let (device, disk) = disk(4096);
    for at in 0..3 {
        disk.try_submit(read_frame(at)).unwrap();
    }
    device.fetch();
    assert_eq!((disk.watch_round(), disk.watch_round()), (None, None));
    device.end(1, Ending::Done);
    disk.try_submit(read_frame(3)).unwrap();
    let late = Late { kind: Kind::Read, sector: Sector(0), sectors: SectorCount(8), others: 1 };
    assert_eq!((disk.watch_round(), disk.watch_round()), (Some(late), None), "what was answered is not late");
    assert!(disk.watch_round().is_some_and(|late| late.others == 0), "a later one has its own time");
    device.work();
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).filter(|done| done.result.is_ok()).count(), 4);
    disk.try_submit(read_frame(5)).unwrap();
    assert_eq!(disk.watch_round(), None, "a slot that is used again begins anew");
}
