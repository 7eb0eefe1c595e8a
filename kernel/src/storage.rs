//! The swap device: `mm`'s [`BackingStore`] over a virtio disk.
//!
//! Owns the translation between slots and sectors, the check of the header in slot 0, and requests that the disk refused for good,
//! which come back as failed. Does not own the disk ([`crate::devices`]) nor which slot holds what (`mm`).
#![expect(unsafe_code, reason = "states that a request's frames are memory the device may use")]

use core::future::poll_fn;
use core::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use disk_image::{HeaderError, Pages, SwapHeader};
use drivers::block::{Buffers, Cookie, Kind, Refused, Request, Sector, SectorCount};
use drivers::hal::{PhysAddr, PhysRange};
use futures_util::task::AtomicWaker;
use mm::addr::PAGE_SIZE;
use mm::frame::FrameKind;
use mm::ops::OpId;
use mm::platform::{
    BackingStore, Discards, IoFrames, PhysMemory, Slot, StoreCompletion, StoreError, StoreKind, StoreRequest,
};

use crate::devices::Disk;
use crate::frames;
use crate::phys::Memory;
use crate::process::promptness;

/// Sectors in a slot.
const SECTORS_PER_SLOT: u32 = (PAGE_SIZE / 512) as u32;
/// Refused requests that may wait to be reported; more than the manager ever has under way.
const REFUSALS: usize = 256;

/// A request of `mm`'s as the disk driver carries it: it owns the frames until the device is done.
pub struct SwapIo(StoreRequest);

// SAFETY: the frames' tokens are inside, so nobody frees, maps anew or reuses them before the value is taken apart; the frames are
// whole pages of RAM, always the same ones in the same order.
unsafe impl Buffers for SwapIo {
    fn segments(&self) -> impl Iterator<Item = PhysRange> {
        self.0.frames.iter().map(|frame| PhysRange::new(PhysAddr(frame.pfn().phys()), PAGE_SIZE as u32))
    }
}

/// Why a disk cannot be used for swap.
#[derive(Debug, thiserror::Error)]
pub enum SwapRefused {
    /// Its header is not one of ours.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// Its first page cannot be read.
    #[error("the swap disk's first page cannot be read")]
    Unreadable,
    /// There is no frame to read it into.
    #[error("there is no memory to read the swap disk's header into")]
    NoMemory,
}

/// A virtio disk as swap.
pub struct Storage {
    disk: &'static Disk,
    slots: u32,
    refused: ArrayQueue<StoreRequest>,
    waker: AtomicWaker,
}

impl Storage {
    /// Reads and checks the disk's header. The disk must not be in use by anybody else.
    pub async fn open(disk: &'static Disk, memory: &Memory) -> Result<Self, SwapRefused> {
        let pages = disk.info().end.0 / u64::from(SECTORS_PER_SLOT);
        let mut storage = Self { disk, slots: 1, refused: ArrayQueue::new(REFUSALS), waker: AtomicWaker::new() };
        let page = storage.read_first_page(memory).await?;
        let header = SwapHeader::parse(&page, Pages(pages))?;
        let slots = u32::try_from(header.pages().0).unwrap_or(Slot::LIMIT);
        storage.slots = slots.min(Slot::LIMIT);
        Ok(storage)
    }

    async fn read_first_page(&self, memory: &Memory) -> Result<[u8; PAGE_SIZE], SwapRefused> {
        let frame = frames::get().alloc_page(FrameKind::User).ok_or(SwapRefused::NoMemory)?;
        let frames = IoFrames::from_iter([frame.lend()]);
        let request = StoreRequest { op: OpId::new(0), kind: StoreKind::Read, slot: Slot::new(0), count: 1, frames };
        if let Err(request) = self.try_submit(request) {
            request.frames.into_iter().for_each(|f| frames::get().free(f.returned()));
            return Err(SwapRefused::Unreadable);
        }
        let completion = poll_fn(|cx| self.poll_complete(cx)).await;
        let mut page = [0; PAGE_SIZE];
        for frame in completion.request.frames {
            memory.read(frame.pfn(), 0, &mut page);
            frames::get().free(frame.returned());
        }
        completion.result.map_err(|_| SwapRefused::Unreadable)?;
        Ok(page)
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
        match self.disk.try_submit(Request { cookie, kind, sector, sectors, buffers: SwapIo(request) }) {
            Ok(()) => Ok(()),
            Err(Refused::Full(request)) => Err(request.buffers.0),
            Err(refused) => {
                log::warn!("swap: the disk refuses a request: {refused:?}");
                self.refused.push(refused.into_request().buffers.0)?;
                self.waker.wake();
                Ok(())
            }
        }
    }

    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<StoreCompletion> {
        promptness::completions_taken();
        self.waker.register(cx.waker());
        if let Some(request) = self.refused.pop() {
            return Poll::Ready(StoreCompletion { request, result: Err(StoreError) });
        }
        self.disk.poll_complete(cx).map(|done| StoreCompletion {
            request: done.request.buffers.0,
            result: done.result.map_err(|error| {
                log::warn!("swap: {error}");
                StoreError
            }),
        })
    }
}
