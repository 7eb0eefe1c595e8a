//! Slots and descriptor ring of one device, together: everything behind the device's lock.
//!
//! Owns the transport, the virtqueue, the command memory, the slots with the requests in them, and the
//! counters. Does not wake anybody: it collects [`News`], which the caller delivers after unlocking.
//!
//! The used ring is not trusted: a head that is not in flight, or a request returned without a status, means that what
//! the device still touches is not known. The device is then reset, which ends all its memory accesses (VirtIO 1.2
//! §2.4.2), and only after that do the buffers of the requests in flight go back, with [`BlockError::DeviceFailed`].
#![expect(unsafe_code, reason = "hands memory to the device and takes it back")]

use super::chain::{Commands, NoChain, STATUS_UNWRITTEN, describe};
use super::config::{Features, Info};
use super::counters::Counters;
use super::queue::{QUEUE, Queue, Returned, Submitted};
use super::slots::{SlotIndex, SlotSet, Slots, Waiter};
use super::{BlockTransport, Health, InitError, QUEUE_SIZE, Violation};
use crate::block::{BlockError, Buffers, Completion, Invalid, Kind, Refused, Request};
use crate::hal::DeviceMemory;
use virtio_drivers::transport::{DeviceStatus, DeviceType};

/// How often the status is read back for the answer to a reset before the device is given up.
const RESET_POLLS: usize = 100_000;

/// Why a request cannot be added; [`Refused`] without the request.
enum Refusal {
    Full,
    Invalid(Invalid),
    Failed,
}

/// What happened under the lock that others want to know.
#[derive(Default)]
pub(super) struct News {
    /// Completions for the stream.
    pub(super) stream: bool,
    /// Completions for futures.
    pub(super) tasks: SlotSet,
    /// Completions for nobody, to be dropped outside the lock.
    pub(super) orphans: bool,
    /// Somebody was refused for want of room, and now there is some.
    pub(super) room: bool,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        !(self.stream || self.orphans || self.room) && self.tasks.is_empty()
    }
}

/// A chain in flight, and the slot of its request.
type InFlight = (SlotIndex, Submitted);

pub(super) struct Ring<H: DeviceMemory, T: BlockTransport, B> {
    transport: T,
    queue: Queue<H>,
    commands: Commands<H>,
    pub(super) slots: Slots<B>,
    /// The chains in flight, by their heads.
    by_head: [Option<InFlight>; QUEUE_SIZE],
    info: Info,
    features: Features,
    health: Health,
    unannounced: bool,
    room_wanted: bool,
    news: News,
    pub(super) counters: Counters,
}

impl<H: DeviceMemory, T: BlockTransport, B: Buffers> Ring<H, T, B> {
    /// Brings the device up (VirtIO 1.2 §3.1.1).
    pub(super) fn new(mut transport: T) -> Result<Self, InitError> {
        if transport.device_type() != DeviceType::Block {
            return Err(InitError::NotABlockDevice);
        }
        let features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1) || !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(InitError::FeaturesRefused);
        }
        transport.bind_interrupt()?;
        let info = Info::read(&transport, features)?;
        let commands = Commands::new()?;
        // Last, since the device knows of its memory from then on.
        let queue = Queue::new(&mut transport)?;
        transport.finish_init();
        Ok(Self {
            transport,
            queue,
            commands,
            slots: Slots::new(),
            by_head: [const { None }; QUEUE_SIZE],
            info,
            features,
            health: Health::Working,
            unannounced: false,
            room_wanted: false,
            news: News::default(),
            counters: Counters::default(),
        })
    }

    pub(super) fn info(&self) -> Info {
        self.info
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Whether there is anything to tell.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    pub(super) fn take_news(&mut self) -> News {
        core::mem::take(&mut self.news)
    }

    /// Puts a request into the ring without telling the device. A full ring is first looked through for what is done.
    ///
    /// The request is moved once, into its slot: it may be a few hundred bytes.
    pub(super) fn begin(&mut self, request: Request<B>, waiter: Waiter) -> Result<SlotIndex, Refused<B>> {
        let mut added = self.add(&request);
        if let Err(Refusal::Full) = added {
            self.reap();
            added = self.add(&request);
        }
        match added {
            Ok((slot, chain)) => {
                self.counters.began(request.kind);
                let head = usize::from(chain.head());
                self.by_head[head] = Some((slot, chain));
                self.slots.occupy(slot, request, waiter);
                self.unannounced = true;
                Ok(slot)
            }
            Err(Refusal::Full) => {
                self.counters.refused_full += 1;
                self.room_wanted |= waiter == Waiter::Task;
                Err(Refused::Full(request))
            }
            Err(Refusal::Invalid(why)) => Err(Refused::Invalid(request, why)),
            Err(Refusal::Failed) => Err(Refused::Failed(request)),
        }
    }

    /// Writes the descriptors of a request. The caller must move it into the slot at once: the device may start at
    /// any time.
    #[inline(always)]
    fn add(&mut self, request: &Request<B>) -> Result<InFlight, Refusal> {
        if self.health != Health::Working {
            return Err(Refusal::Failed);
        }
        self.info.judge(request.kind, request.sector, request.sectors).map_err(Refusal::Invalid)?;
        let slot = self.slots.next_free().ok_or(Refusal::Full)?;
        self.commands.write(slot, request);
        let chain = describe(&mut self.queue, &self.commands, slot, request, self.info.max_segments);
        let chain = chain.map_err(|why| match why {
            NoChain::Full => Refusal::Full,
            NoChain::Invalid(why) => Refusal::Invalid(why),
        })?;
        // SAFETY: the record stays until the ring is dropped and is not touched while the slot is in flight; the
        // request's memory is owned by the request, which `begin` moves into the slot and which leaves it only after
        // the chain was taken back, or a reset.
        Ok((slot, unsafe { self.queue.submit(chain) }))
    }

    /// Tells the device of new requests, unless it has said that it is looking anyway.
    pub(super) fn announce(&mut self) {
        if !self.unannounced || self.health != Health::Working {
            return;
        }
        self.unannounced = false;
        if self.queue.should_notify() {
            self.counters.notifications += 1;
            self.transport.notify(QUEUE);
        }
    }

    /// Takes everything the device has returned off the ring.
    pub(super) fn reap(&mut self) {
        if self.health != Health::Working {
            return;
        }
        while let Some(returned) = self.queue.returned() {
            if let Err(violation) = self.finish(returned) {
                self.fail(violation);
                return;
            }
        }
    }

    fn finish(&mut self, Returned { head, written }: Returned) -> Result<(), Violation> {
        let owner = self.by_head.get_mut(head as usize).and_then(Option::take);
        let (slot, chain) = owner.ok_or(Violation::NotInFlight { head })?;
        let request = self.slots.in_flight(slot).ok_or(Violation::NotInFlight { head })?;
        let (kind, bytes) = (request.kind, request.sectors.bytes());
        self.queue.take_back(chain);
        let result = match self.commands.status(slot) {
            STATUS_UNWRITTEN => {
                // The device returned what it has not done; it may still do it. Keep the slot in flight until the
                // reset.
                return Err(Violation::StatusMissing { head });
            }
            0 if kind == Kind::Read && u64::from(written) < bytes + 1 => {
                Err(BlockError::Short { got: written, wanted: bytes as u32 + 1 })
            }
            0 => Ok(()),
            1 => Err(BlockError::Io),
            2 => Err(BlockError::Unsupported),
            unknown => Err(BlockError::UnknownStatus(unknown)),
        };
        if result == Err(BlockError::Io) {
            self.look_at_capacity();
        }
        self.complete(slot, kind, result);
        Ok(())
    }

    /// A request has failed: the disk may have become shorter (VirtIO 1.2 §5.2.5.2). What lies past its end is then
    /// refused here and does not reach it.
    #[cold]
    fn look_at_capacity(&mut self) {
        let Ok(now) = Info::read(&self.transport, self.features) else { return };
        if now.end != self.info.end {
            log::warn!("virtio-blk: the disk has {} sectors now, it had {}", now.end.0, self.info.end.0);
            self.info.end = now.end;
        }
    }

    fn complete(&mut self, slot: SlotIndex, kind: Kind, result: Result<(), BlockError>) {
        let bytes = self.slots.in_flight(slot).map_or(0, |request| request.sectors.bytes());
        self.counters.ended(kind, result.is_ok().then_some(bytes));
        match self.slots.finish(slot, result) {
            Waiter::Stream => self.news.stream = true,
            Waiter::Task => self.news.tasks.insert(slot),
            Waiter::Nobody => self.news.orphans = true,
        }
        self.made_room();
    }

    /// Whether there is nothing for the stream, nothing to look at, and nothing to tell the device.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        !self.slots.any_done() && !self.unannounced && self.queue.returned().is_none()
    }

    /// The oldest completion of the stream. The ring is looked at only when none is left, so a batch costs one look.
    pub(super) fn next_of_stream(&mut self) -> Option<Completion<B>> {
        if !self.slots.any_done() {
            self.announce();
            self.reap();
            // The stream sees for itself.
            self.news.stream = false;
        }
        let done = self.slots.take_done()?;
        self.made_room();
        Some(done)
    }

    /// The future of `slot` has its completion.
    pub(super) fn forget_task_news(&mut self, slot: SlotIndex) {
        self.news.tasks.remove(slot);
    }

    /// The future that waited for `slot` is gone: whoever polls after the device is done drops the request.
    pub(super) fn orphan(&mut self, slot: SlotIndex) {
        self.counters.orphaned += 1;
        self.slots.orphan(slot);
        self.reap();
        self.news.orphans = true;
    }

    /// A request that is done and that nobody waits for.
    pub(super) fn take_orphan(&mut self) -> Option<Completion<B>> {
        let orphan = self.slots.take_orphan()?;
        self.counters.orphaned -= 1;
        self.made_room();
        Some(orphan)
    }

    /// A slot or descriptors became free.
    pub(super) fn made_room(&mut self) {
        self.news.room |= core::mem::take(&mut self.room_wanted);
    }

    /// The device broke the protocol: stop it, then give everything in flight back. If it does not stop, its buffers
    /// are never freed.
    fn fail(&mut self, violation: Violation) {
        self.counters.protocol_errors += 1;
        self.health = Health::Failed(violation);
        log::error!("virtio-blk: {violation}; the device is reset and not used again");
        if !self.reset() {
            log::error!("virtio-blk: the device does not stop; {} requests keep their memory", self.counters.in_flight);
            return;
        }
        self.by_head = [const { None }; QUEUE_SIZE];
        for slot in SlotIndex::all() {
            if let Some(kind) = self.slots.in_flight(slot).map(|request| request.kind) {
                self.complete(slot, kind, Err(BlockError::DeviceFailed));
            }
        }
        self.made_room();
    }

    /// Resets the device; true once it says that it has stopped (VirtIO 1.2 §2.1.2, §4.1.4.3.2).
    #[must_use]
    fn reset(&mut self) -> bool {
        self.transport.set_status(DeviceStatus::empty());
        (0..RESET_POLLS).any(|_| self.transport.get_status() == DeviceStatus::empty())
    }
}

impl<H: DeviceMemory, T: BlockTransport, B> Drop for Ring<H, T, B> {
    fn drop(&mut self) {
        // Rings, records and requests are freed next: the device must have let go of them.
        self.transport.set_status(DeviceStatus::empty());
        while self.transport.get_status() != DeviceStatus::empty() {
            core::hint::spin_loop();
        }
    }
}
