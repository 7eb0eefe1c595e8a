//! What the device gets to see of each kind, and what its answers become.

use super::*;

#[test]
fn scattered_frames_go_both_ways_byte_exact() {
    let (device, disk) = disk(8192);
    let data: Vec<u8> = (0..64 * 4096u32).map(|at| (at * 7 + at / 4096) as u8).collect();
    let frames = Frames::scattered(64);
    frames.fill(&data);
    disk.try_submit(request(1, Kind::Write, 1000, 512, frames)).unwrap();
    device.fetch();
    assert_eq!(device.state().pending[0].descriptors, 66);
    device.work();
    let written = disk.pop_complete().unwrap();
    written.result.unwrap();
    assert_eq!(written.request.buffers.bytes(), data, "a write leaves the frames alone");
    assert_eq!(device.state().disk[1000 * 512..][..data.len()], data);
    drop(written);
    disk.try_submit(request(2, Kind::Read, 1000, 512, Frames::scattered(64))).unwrap();
    device.work();
    let read = disk.pop_complete().unwrap();
    assert_eq!(read.request.buffers.bytes(), data);
    drop(read);
    let counters = disk.counters();
    assert_eq!(counters.of(Kind::Read).bytes, 64 * 4096);
    assert_eq!(counters.of(Kind::Write), KindCounters { submitted: 1, completed: 1, errors: 0, bytes: 64 * 4096 });
    assert_quiet(&disk);
}

#[test]
fn adjacent_frames_share_a_descriptor() {
    let (device, disk) = disk(4096);
    disk.try_submit(request(1, Kind::Read, 8, 200 * 8, Frames::adjacent(200))).unwrap();
    device.fetch();
    assert_eq!(device.state().pending[0].descriptors, 3);
    device.work();
    let done = disk.pop_complete().unwrap();
    assert_eq!(done.request.buffers.bytes(), pattern_from(8, 200 * 4096));
    drop(done);
    assert_quiet(&disk);
}

#[test]
fn the_device_offers_what_info_says_and_no_more_is_taken() {
    let (device, disk) = disk(4096);
    let info = disk.info();
    let limits =
        |sectors, alignment| Some(RangeLimits { max_sectors: SectorCount(sectors), alignment: SectorCount(alignment) });
    assert_eq!(
        info,
        Info {
            end: Sector(4096),
            block_size: 4096,
            read_only: false,
            flush: true,
            discard: limits(64, 8),
            write_zeroes: limits(32, 1),
            max_segments: 64,
        }
    );
    assert_eq!(device.state().accepted, feature::USUAL & !(feature::INDIRECT | feature::EVENT_IDX));
}

#[test]
fn flush_discard_and_zeroes_reach_the_device_as_specified() {
    let (device, disk) = disk(4096);
    disk.try_submit(flush()).unwrap();
    disk.try_submit(request(1, Kind::Discard, 40, 16, Frames::none())).unwrap();
    disk.try_submit(request(2, Kind::WriteZeroes, 80, 32, Frames::none())).unwrap();
    device.fetch();
    let kinds: Vec<_> = device.state().pending.iter().map(|request| (request.kind, request.descriptors)).collect();
    assert_eq!(kinds, [(4, 2), (11, 3), (13, 3)]);
    device.work();
    assert_eq!(core::iter::from_fn(|| disk.pop_complete()).filter(|done| done.result.is_ok()).count(), 3);
    assert_eq!(device.state().ranges, [(40, 16, 0), (80, 32, 0)]);
    assert_eq!(disk.counters().of(Kind::Discard).bytes, 16 * 512);
    assert_quiet(&disk);
}

#[test]
fn status_codes_and_short_answers_become_values() {
    let (device, disk) = disk(4096);
    let cases = [
        (Ending::Status(1), Err(BlockError::Io)),
        (Ending::Status(2), Err(BlockError::Unsupported)),
        (Ending::Status(77), Err(BlockError::UnknownStatus(77))),
        (Ending::DoneButSays(4096), Err(BlockError::Short { got: 4096, wanted: 4097 })),
        (Ending::Done, Ok(())),
    ];
    for (ending, result) in cases {
        disk.try_submit(read_frame(3)).unwrap();
        device.fetch();
        device.end(0, ending);
        let done = disk.pop_complete().unwrap();
        assert_eq!(done.result, result);
        assert_eq!(done.request.buffers.len(), 4096, "the frames come back with an error, too");
    }
    let reads = disk.counters().of(Kind::Read);
    assert_eq!((reads.completed, reads.errors, reads.bytes), (5, 4, 4096));
    assert_eq!(disk.health(), Health::Working);
    assert_quiet(&disk);
}

#[track_caller]
fn refused(disk: &Disk, request: Request<Frames>) -> Invalid {
    let cookie = request.cookie;
    match disk.try_submit(request) {
        Err(Refused::Invalid(request, why)) => {
            assert_eq!(request.cookie, cookie);
            why
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn f3_what_can_never_succeed_is_refused_with_its_reason() {
    let (device, disk) = disk(4096);
    let read = |sector, sectors, frames| request(5, Kind::Read, sector, sectors, frames);
    let none = Frames::none;
    assert_eq!(refused(&disk, read(4089, 8, Frames::scattered(1))), Invalid::PastEnd);
    assert_eq!(refused(&disk, read(u64::MAX - 3, 8, Frames::scattered(1))), Invalid::PastEnd);
    assert_eq!(refused(&disk, read(0, 8, none())), Invalid::WrongLength);
    assert_eq!(refused(&disk, read(0, 8, Frames::scattered(2))), Invalid::WrongLength);
    assert_eq!(refused(&disk, read(0, 0, none())), Invalid::Empty);
    assert_eq!(refused(&disk, read(0, 65 * 8, Frames::scattered(65))), Invalid::TooManySegments);
    assert_eq!(refused(&disk, request(5, Kind::Discard, 0, 65, none())), Invalid::TooLong);
    assert_eq!(refused(&disk, request(5, Kind::WriteZeroes, 0, 33, none())), Invalid::TooLong);
    assert_eq!(device.state().notifications, 0);
    assert_eq!(disk.counters().submitted(), 0);
    assert_quiet(&disk);
}

#[test]
fn f3_a_disk_that_has_become_shorter_is_not_asked_for_what_it_had() {
    let (device, disk) = disk(4096);
    disk.try_submit(read_frame(500)).unwrap();
    device.fetch();
    device.state().disk.truncate(2048 * 512);
    device.end(0, Ending::Status(1));
    assert_eq!(disk.pop_complete().map(|done| done.result), Some(Err(BlockError::Io)));
    assert_eq!(refused(&disk, read_frame(500)), Invalid::PastEnd);
    disk.try_submit(read_frame(255)).unwrap();
    device.work();
    assert!(disk.pop_complete().is_some_and(|done| done.result.is_ok()), "what is left is as good as before");
    assert_eq!(disk.info().end, Sector(2048));
    assert_quiet(&disk);
}

#[test]
fn a_plain_read_only_device_refuses_what_it_does_not_offer() {
    let (device, transport) = FakeDisk::new(64);
    device.state().offered = feature::VERSION_1 | feature::RO;
    let disk: Disk = VirtioBlk::new(transport).unwrap();
    let one = |kind| request(1, kind, 0, 8, Frames::scattered(1));
    assert_eq!(refused(&disk, one(Kind::Write)), Invalid::ReadOnly);
    assert_eq!(refused(&disk, one(Kind::Discard)), Invalid::ReadOnly);
    assert_eq!(refused(&disk, flush()), Invalid::NotOffered);
    // Without SEG_MAX, one segment is all that is promised.
    assert_eq!(disk.info().max_segments, 1);
    assert_eq!(refused(&disk, request(1, Kind::Read, 0, 16, Frames::scattered(2))), Invalid::TooManySegments);
    disk.try_submit(one(Kind::Read)).unwrap();
    assert_eq!(device.work(), 1);
}

#[test]
fn a_device_that_cannot_be_used_is_refused_with_its_reason() {
    let start = |spoil: fn(&mut crate::fake::device::State)| {
        let (device, transport) = FakeDisk::new(64);
        spoil(&mut device.state());
        let result = Disk::new(transport).err();
        assert_eq!(leaks(), 0);
        result
    };
    assert_eq!(start(|_| ()), None);
    assert_eq!(
        start(|state| state.kind = virtio_drivers::transport::DeviceType::Network),
        Some(InitError::NotABlockDevice)
    );
    assert_eq!(start(|state| state.offered = feature::SEG_MAX), Some(InitError::FeaturesRefused));
    assert_eq!(start(|state| state.refuses_features = true), Some(InitError::FeaturesRefused));
    assert_eq!(start(|state| state.refuses_interrupt = true), Some(InitError::InterruptRefused));
    assert_eq!(start(|state| state.queue_size = 128), Some(InitError::Virtio(virtio_drivers::Error::InvalidParam)));
}
