//! The disk driver against the fake device: the tools all these tests share.

mod cancel;
mod garbage;
mod queue;
mod random;
mod wire;

use super::*;
use crate::block::{BlockError, Cookie, Invalid, Kind, Sector, SectorCount};
use crate::fake::device::{Ending, FakeDisk, FakeTransport, feature, pattern_from};
use crate::fake::memory::{FakeHal, Frames, frames_owned, leaks};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;
use std::vec::Vec;

type Disk = VirtioBlk<FakeHal, FakeTransport, Frames>;

/// Sectors per frame.
const PER_FRAME: u32 = 8;

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), Waker::from(bell))
    }

    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A driver on a fresh disk of `sectors`.
fn disk(sectors: usize) -> (FakeDisk, Disk) {
    let (device, transport) = FakeDisk::new(sectors);
    (device, VirtioBlk::new(transport).expect("the device is good"))
}

fn request(cookie: u64, kind: Kind, sector: u64, sectors: u32, buffers: Frames) -> Request<Frames> {
    let (sector, sectors) = (Sector(sector), SectorCount(sectors));
    Request { cookie: Cookie(cookie), kind, sector, sectors, buffers }
}

/// A read of one frame at frame position `at`, whose cookie is `at`.
fn read_frame(at: u64) -> Request<Frames> {
    request(at, Kind::Read, at * u64::from(PER_FRAME), PER_FRAME, Frames::scattered(1))
}

fn flush() -> Request<Frames> {
    request(0, Kind::Flush, 0, 0, Frames::none())
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

fn poll_stream(disk: &Disk, waker: &Waker) -> Poll<Completion<Frames>> {
    disk.poll_complete(&mut Context::from_waker(waker))
}

/// Nothing of a test's requests is left anywhere, and the counts agree.
#[track_caller]
fn assert_quiet(disk: &Disk) {
    let counters = disk.counters();
    assert!(counters.balanced(), "{counters:?}");
    assert_eq!((counters.in_flight, counters.orphaned), (0, 0));
    assert_eq!(frames_owned(), 0, "frames that were not given up");
}
