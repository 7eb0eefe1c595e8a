//! An asynchronous virtio-blk disk: requests of many separate frames, many in flight, each owning its memory until the
//! device is done.
//!
//! Owns the requests in flight (`slots`, `ring`), the virtqueue (`queue`), the command memory (`chain`) and the wakers
//! (`wake`). Does not own PCI ([`crate::pci`] makes the transport), retries, timeouts or the meaning of what is on the
//! disk.
//!
//! Two ways to use one device, at the same time if need be:
//! - **the stream**, for the pager: [`VirtioBlk::try_submit`] never waits and never allocates; everything submitted so
//!   comes out of [`VirtioBlk::poll_complete`], in any order;
//! - **a future per request**: [`VirtioBlk::submit`] waits for room and then for the answer. Dropping it drops a wait,
//!   never a buffer.
//!
//! Whoever polls takes everything off the used ring and hands out what is for others. One lock serialises ring and
//! slots; it is held for one call, never across an await, and never by the interrupt handler
//! ([`VirtioBlk::on_interrupt`] marks and wakes).
//!
//! Descriptors: 256, of which a read or write takes one per run of memory plus two. So 85 single-frame requests fit, or
//! 3 of 64 scattered frames; frames that are adjacent share a descriptor.

mod chain;
mod config;
mod counters;
mod queue;
mod ring;
mod slots;
mod wake;

#[cfg(test)]
mod tests;

pub use config::{Info, RangeLimits};
pub use counters::{Counters, KindCounters};

use crate::block::{Buffers, Completion, Kind, Refused, Request, Sector, SectorCount};
use crate::hal::DeviceMemory;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use maitake_sync::WaitQueue;
use ring::{News, Ring};
use slots::{SlotIndex, Waiter};
use spin::MutexGuard;
use thiserror::Error;
use virtio_drivers::transport::Transport;
use wake::Wakers;

/// Descriptors in the ring.
pub const QUEUE_SIZE: usize = 256;
/// Request slots: as many as there are chains of the shortest kind (a flush takes two descriptors).
pub const SLOTS: usize = QUEUE_SIZE / 2;
/// The most separate runs of memory in one request.
pub const MAX_SEGMENTS: usize = 64;

/// A virtio transport whose first queue can interrupt.
pub trait BlockTransport: Transport {
    /// Routes the queue's interrupt. Called while the device is being set up, after the reset and before the queue is
    /// enabled.
    fn bind_interrupt(&mut self) -> Result<(), InitError>;
}

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InitError {
    /// Not a disk.
    #[error("not a virtio block device")]
    NotABlockDevice,
    /// It does not speak VirtIO 1.0, or did not accept the features chosen.
    #[error("the device does not accept VirtIO 1.0 with the features chosen")]
    FeaturesRefused,
    /// It does not accept the interrupt vector.
    #[error("the device does not accept the interrupt vector")]
    InterruptRefused,
    /// No memory for the command records.
    #[error("no memory for the command records")]
    NoMemory,
    /// The ring or the configuration space could not be set up.
    #[error("setting up the device failed: {0}")]
    Virtio(#[from] virtio_drivers::Error),
}

/// What the device did that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// It returned a chain that is not in flight.
    #[error("descriptor {head} was returned but is not in flight")]
    NotInFlight {
        /// The head it named.
        head: u32,
    },
    /// It returned a request without writing its status.
    #[error("descriptor {head} was returned without a status")]
    StatusMissing {
        /// The head of the request.
        head: u32,
    },
}

/// Rounds of the watch after which a request is late: between two and three times the time from one round to the next.
const LATE_ROUNDS: u8 = 3;

/// Requests that the device has not answered for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// What one of them is.
    pub kind: Kind,
    /// Where it begins.
    pub sector: Sector,
    /// How long it is.
    pub sectors: SectorCount,
    /// How many there are besides.
    pub others: usize,
}

/// Whether the device is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Working,
    /// It broke the protocol, was reset, and takes no more requests.
    Failed(Violation),
}

/// One disk. See the [module](self) for how to use it.
pub struct VirtioBlk<H: DeviceMemory, T: BlockTransport, B: Buffers> {
    ring: spin::Mutex<Ring<H, T, B>>,
    wakers: Wakers,
    room: WaitQueue,
}

impl<H: DeviceMemory, T: BlockTransport, B: Buffers> VirtioBlk<H, T, B> {
    /// Resets the device and sets it up. Everything this driver ever needs is allocated here.
    pub fn new(transport: T) -> Result<Self, InitError> {
        Ok(Self { ring: spin::Mutex::new(Ring::new(transport)?), wakers: Wakers::new(), room: WaitQueue::new() })
    }

    /// What this disk is.
    pub fn info(&self) -> Info {
        self.ring.lock().info()
    }

    /// Whether it works.
    pub fn health(&self) -> Health {
        self.ring.lock().health()
    }

    /// A consistent snapshot of the counts.
    pub fn counters(&self) -> Counters {
        self.ring.lock().counters
    }

    /// One round of a watch over requests that are not answered, to be made at regular times: says which have become
    /// late. Each is told once. What to do is the caller's affair; the request stays the device's, and ends when that
    /// answers.
    pub fn watch_round(&self) -> Option<Late> {
        self.with_ring(|ring| {
            // What has been answered and not been looked at is not late.
            ring.reap();
            let mut late = ring.slots.next_round(LATE_ROUNDS);
            let Request { kind, sector, sectors, .. } = late.next()?;
            let (kind, sector, sectors) = (*kind, *sector, *sectors);
            Some(Late { kind, sector, sectors, others: late.count() })
        })
    }

    /// Submits a request whose completion comes out of the stream, and tells the device. Never waits, never allocates.
    pub fn try_submit(&self, request: Request<B>) -> Result<(), Refused<B>> {
        self.with_ring(|ring| {
            let begun = ring.begin(request, Waiter::Stream);
            ring.announce();
            begun.map(drop)
        })
    }

    /// As [`try_submit`](Self::try_submit), but the device is not told before the next [`kick`](Self::kick): for
    /// batches.
    pub fn try_enqueue(&self, request: Request<B>) -> Result<(), Refused<B>> {
        self.with_ring(|ring| ring.begin(request, Waiter::Stream).map(drop))
    }

    /// Tells the device of enqueued requests, if there are any.
    pub fn kick(&self) {
        self.ring.lock().announce();
    }

    /// The next completion of the stream, if the device is done with one.
    pub fn pop_complete(&self) -> Option<Completion<B>> {
        let ring = self.ring.lock();
        if ring.is_quiet() {
            return None;
        }
        self.work_on(ring, Ring::next_of_stream)
    }

    /// The next completion of the stream. One task polls the stream, until it is pending: a second one would take over
    /// its waker.
    pub fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<Completion<B>> {
        if let Some(done) = self.pop_complete() {
            return Poll::Ready(done);
        }
        // Registered before the second look, so that a completion between the looks wakes us.
        self.wakers.register_stream(cx.waker());
        self.pop_complete().map_or(Poll::Pending, Poll::Ready)
    }

    /// Submits a request and waits for its end; waits for room first if there is none. Never answers [`Refused::Full`].
    ///
    /// Dropping the future before the request is in the ring drops the request; after that, the driver keeps the
    /// request until the device is done with it, and drops it then.
    pub async fn submit(&self, request: Request<B>) -> Result<Completion<B>, Refused<B>> {
        let mut waiting = Some(request);
        let begun = self.room.wait_for_value(|| match self.try_begin(waiting.take()?) {
            Err(Refused::Full(request)) => {
                waiting = Some(request);
                None
            }
            begun => Some(begun),
        });
        let slot = match begun.await {
            Ok(begun) => begun?,
            Err(_closed) => unreachable!("the wait queue is never closed"),
        };
        Ok(InFlight { device: self, slot: Some(slot) }.await)
    }

    /// To be called by the interrupt handler. Marks and wakes; takes no lock that anybody holds and frees nothing.
    pub fn on_interrupt(&self) {
        self.wakers.interrupt();
    }

    fn try_begin(&self, request: Request<B>) -> Result<SlotIndex, Refused<B>> {
        self.with_ring(|ring| {
            let begun = ring.begin(request, Waiter::Task);
            ring.announce();
            begun
        })
    }

    /// The completion of a future's own slot, if it is there.
    fn take(&self, slot: SlotIndex) -> Option<Completion<B>> {
        let done = self.with_ring(|ring| {
            ring.reap();
            ring.forget_task_news(slot);
            ring.slots.is_done(slot)
        });
        if !done {
            return None;
        }
        // While the slot is ours: the moment it is free, its place in the table belongs to the next request.
        self.wakers.forget_task(slot);
        self.with_ring(|ring| {
            let done = ring.slots.take(slot);
            ring.made_room();
            done
        })
    }

    /// Works on the ring under its lock, and tells others afterwards what came of it.
    fn with_ring<R>(&self, work: impl FnOnce(&mut Ring<H, T, B>) -> R) -> R {
        self.work_on(self.ring.lock(), work)
    }

    fn work_on<R>(&self, mut ring: MutexGuard<'_, Ring<H, T, B>>, work: impl FnOnce(&mut Ring<H, T, B>) -> R) -> R {
        let result = work(&mut ring);
        if ring.has_news() {
            let news = ring.take_news();
            drop(ring);
            self.tell(news);
        }
        result
    }

    #[cold]
    fn tell(&self, news: News) {
        if news.stream {
            self.wakers.wake_stream();
        }
        if !news.tasks.is_empty() {
            self.wakers.wake_tasks(news.tasks);
        }
        if news.room {
            self.room.wake_all();
        }
        if news.orphans {
            self.drop_orphans();
        }
    }

    /// Drops what the device has finished and nobody waits for, outside the lock: dropping frees frames.
    fn drop_orphans(&self) {
        loop {
            let (orphan, news) = {
                let mut ring = self.ring.lock();
                let orphan = ring.take_orphan();
                (orphan, ring.take_news())
            };
            if news.room {
                self.room.wake_all();
            }
            match orphan {
                Some(orphan) => drop(orphan),
                None => return,
            }
        }
    }
}

/// The wait for one request that is in the ring.
struct InFlight<'a, H: DeviceMemory, T: BlockTransport, B: Buffers> {
    device: &'a VirtioBlk<H, T, B>,
    /// None once the completion has been taken.
    slot: Option<SlotIndex>,
}

impl<H: DeviceMemory, T: BlockTransport, B: Buffers> Future for InFlight<'_, H, T, B> {
    type Output = Completion<B>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion<B>> {
        let slot = self.slot.expect("a completed wait is not polled again");
        let device = self.device;
        let done = device.take(slot).or_else(|| {
            // Registered before the second look, as in `poll_complete`.
            device.wakers.register_task(slot, cx.waker());
            device.take(slot)
        });
        let Some(done) = done else {
            return Poll::Pending;
        };
        self.slot = None;
        Poll::Ready(done)
    }
}

impl<H: DeviceMemory, T: BlockTransport, B: Buffers> Drop for InFlight<'_, H, T, B> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.device.wakers.forget_task(slot);
            self.device.with_ring(|ring| ring.orphan(slot));
        }
    }
}
