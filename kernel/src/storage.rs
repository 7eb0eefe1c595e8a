//! The swap device: `mm`'s [`BackingStore`] over a virtio disk; and the memory that requests to any disk own ([`DiskIo`]).
//!
//! Owns the translation between slots and sectors, the check of the header in slot 0, and requests that the disk refused for good,
//! which come back as failed. Does not own the disk ([`crate::devices`]) nor which slot holds what (`mm`), nor how pages are encrypted
//! ([`cipher`]).
#![expect(unsafe_code, reason = "states that a request's frames are memory the device may use")]

use core::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use disk_image::{HeaderError, Pages, SwapHeader};
use drivers::block::{Buffers, Cookie, Kind, Refused, Request, Sector, SectorCount};
use drivers::hal::{PhysAddr, PhysRange};
use futures_util::task::AtomicWaker;
use mm::addr::{PAGE_SIZE, Pfn};
use mm::frame::{Frame, FrameKind};
use mm::platform::{BackingStore, Discards, PhysMemory, Slot, StoreCompletion, StoreError, StoreKind, StoreRequest};

use crate::devices::Disk;
use crate::file_store::FileJob;
use crate::frames;
use crate::phys::Memory;
use crate::process::promptness;
use crate::sync::Once;

mod cipher;

use cipher::{Cipher, NoCipher, NoSeal};

/// Sectors in a slot.
const SECTORS_PER_SLOT: u32 = (PAGE_SIZE / 512) as u32;
/// Refused requests that may wait to be reported; more than the manager ever has under way.
const REFUSALS: usize = 256;

/// What a disk's request owns until the device is done.
pub enum DiskIo {
    /// A request of `mm`'s with its frames.
    Store(StoreRequest),
    /// The same, to be written encrypted: this is what the device sees.
    Sealed(StoreRequest, Bounce),
    /// Memory that the data disk's blocks pass through.
    Bounce(Bounce),
    /// Pages of a file.
    File(FileJob),
    /// None: the disk's cache is flushed.
    Nothing,
}

// SAFETY: the frames' tokens are inside, so nobody frees, maps anew or reuses them before the value is taken apart; the frames are
// whole pages of RAM, always the same ones in the same order.
unsafe impl Buffers for DiskIo {
    fn segments(&self) -> impl Iterator<Item = PhysRange> {
        let (frames, run) = match self {
            Self::Store(request) => (&request.frames[..], None),
            Self::File(job) => (job.frames(), None),
            Self::Sealed(_, bounce) | Self::Bounce(bounce) => (&[][..], Some(bounce.range())),
            Self::Nothing => (&[][..], None),
        };
        let pages = frames.iter().map(|frame| PhysRange::new(PhysAddr(frame.pfn().phys()), PAGE_SIZE as u32));
        pages.chain(run)
    }
}

/// A run of contiguous frames for data on its way, of which the first bytes are in use.
pub struct Bounce {
    run: Frame,
    used: usize,
}

impl Bounce {
    /// Uses a run, none of it yet.
    pub fn new(run: Frame) -> Self {
        Self { run, used: 0 }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Says how many bytes the next request moves.
    pub fn set_used(&mut self, bytes: usize) {
        assert!(bytes <= self.run.order().frames() * PAGE_SIZE, "more than the run holds");
        self.used = bytes;
    }

    /// The frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = Pfn> + use<> {
        let first = self.run.pfn().as_u32();
        (0..self.run.order().frames() as u32).map(move |index| Pfn::new(first + index))
    }

    fn range(&self) -> PhysRange {
        PhysRange::new(PhysAddr(self.run.pfn().phys()), self.used as u32)
    }
}

/// The first page of a disk, by which disks are told apart.
pub type FirstPage = [u8; PAGE_SIZE];

/// A disk's first page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The disk says no.
    #[error("its first page cannot be read")]
    Failed,
    /// There is no frame to read it into.
    #[error("there is no memory to read its first page into")]
    NoMemory,
}

/// Reads the first page of a disk that nobody uses yet; zeroes if the disk has not even one.
pub async fn read_first_page(disk: &'static Disk, memory: &Memory) -> Result<FirstPage, Unreadable> {
    let mut page = [0; PAGE_SIZE];
    if disk.info().end.0 < u64::from(SECTORS_PER_SLOT) {
        return Ok(page);
    }
    let frame = frames::get().alloc_page(FrameKind::Dma).ok_or(Unreadable::NoMemory)?;
    let mut bounce = Bounce::new(frame);
    bounce.set_used(PAGE_SIZE);
    let (sector, sectors) = (Sector(0), SectorCount(SECTORS_PER_SLOT));
    let request = Request { cookie: Cookie(0), kind: Kind::Read, sector, sectors, buffers: DiskIo::Bounce(bounce) };
    let (request, result) = match disk.submit(request).await {
        Ok(done) => (done.request, done.result.map_err(|_| Unreadable::Failed)),
        Err(refused) => (refused.into_request(), Err(Unreadable::Failed)),
    };
    if let DiskIo::Bounce(Bounce { run, .. }) = request.buffers {
        memory.read(run.pfn(), 0, &mut page);
        frames::get().free(run);
    }
    result.map(|()| page)
}

static SWAP_DISK: Once<&'static Disk> = Once::new();

/// Whether a disk is the one that is swapped on. Takes no lock.
pub fn is_swap(disk: &'static Disk) -> bool {
    SWAP_DISK.get().is_some_and(|swap| core::ptr::eq(*swap, disk))
}

/// A virtio disk as swap.
pub struct Storage {
    disk: &'static Disk,
    slots: u32,
    cipher: Option<Cipher>,
    refused: ArrayQueue<StoreRequest>,
    waker: AtomicWaker,
}

impl Storage {
    /// Checks the disk's header. The disk must not be in use by anybody else.
    pub fn open(disk: &'static Disk, page: &FirstPage) -> Result<Self, HeaderError> {
        let pages = disk.info().end.0 / u64::from(SECTORS_PER_SLOT);
        let refused = ArrayQueue::new(REFUSALS);
        let mut storage = Self { disk, slots: 1, cipher: None, refused, waker: AtomicWaker::new() };
        let header = SwapHeader::parse(page, Pages(pages))?;
        let slots = u32::try_from(header.pages().0).unwrap_or(Slot::LIMIT);
        storage.slots = slots.min(Slot::LIMIT);
        SWAP_DISK.call_once(|| disk);
        Ok(storage)
    }

    /// Encrypts all that is written from now on; nothing has been yet.
    pub fn encrypt(&mut self, memory: Memory) -> Result<(), NoCipher> {
        self.cipher = Some(Cipher::new(self.slots, memory)?);
        Ok(())
    }

    /// What comes back from the device is what [`BackingStore::try_submit`] put in: other requests have futures of their own.
    fn store_request(&self, request: Request<DiskIo>) -> StoreRequest {
        match (request.buffers, &self.cipher) {
            (DiskIo::Store(request), _) => request,
            (DiskIo::Sealed(request, bounce), Some(cipher)) => {
                cipher.give_back(bounce);
                request
            }
            _ => unreachable!("a request comes back with its own buffers"),
        }
    }

    /// A request cannot be done, now or ever: it comes back as failed, unless too many do.
    fn fail(&self, request: StoreRequest) -> Option<StoreRequest> {
        let left = self.refused.push(request).err();
        self.waker.wake();
        left
    }

    /// The disk's own counts.
    pub fn disk(&self) -> &'static Disk {
        self.disk
    }
}

impl BackingStore for Storage {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn discards(&self) -> Discards {
        if self.disk.info().discard.is_some() { Discards::Wanted } else { Discards::Ignored }
    }

    fn try_submit(&self, request: StoreRequest) -> Result<(), StoreRequest> {
        let kind = match request.kind {
            StoreKind::Read => Kind::Read,
            StoreKind::Write => Kind::Write,
            StoreKind::Discard => Kind::Discard,
        };
        let sector = Sector(u64::from(request.slot.as_u32()) * u64::from(SECTORS_PER_SLOT));
        let sectors = SectorCount(request.count * SECTORS_PER_SLOT);
        let cookie = Cookie(u64::from(request.op.as_u16()));
        let sealed = match &self.cipher {
            Some(cipher) if request.kind == StoreKind::Write => Some(cipher.seal(&request)),
            _ => None,
        };
        let buffers = match sealed {
            None => DiskIo::Store(request),
            Some(Ok(bounce)) => DiskIo::Sealed(request, bounce),
            Some(Err(NoSeal::Busy)) => return Err(request),
            Some(Err(NoSeal::WornOut)) => return self.fail(request).map_or(Ok(()), Err),
        };
        match self.disk.try_submit(Request { cookie, kind, sector, sectors, buffers }) {
            Ok(()) => Ok(()),
            Err(Refused::Full(request)) => Err(self.store_request(request)),
            Err(refused) => {
                log::warn!("swap: the disk refuses a request: {refused:?}");
                self.fail(self.store_request(refused.into_request())).map_or(Ok(()), Err)
            }
        }
    }

    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<StoreCompletion> {
        promptness::completions_taken();
        self.waker.register(cx.waker());
        if let Some(request) = self.refused.pop() {
            return Poll::Ready(StoreCompletion { request, result: Err(StoreError) });
        }
        self.disk.poll_complete(cx).map(|done| {
            let request = self.store_request(done.request);
            match (&done.result, &self.cipher) {
                (Ok(()), Some(cipher)) if request.kind == StoreKind::Read => cipher.open(&request),
                (Ok(()), _) => {}
                (Err(error), _) => log::warn!("swap: {error}"),
            }
            StoreCompletion { request, result: done.result.map_err(|_| StoreError) }
        })
    }
}
