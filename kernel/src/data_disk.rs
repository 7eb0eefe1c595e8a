//! The data disk: blocks of the file system, moved through memory of the disk's own.
//!
//! Owns: the bounce memory (a few runs of contiguous frames) and the translation between blocks and sectors. The library above
//! reads and writes its own buffers, which may lie on a fiber's stack; a request owns a run of frames instead, so that
//! nothing the device works on can go away under it. Does not own the disk ([`crate::devices`]) nor what is in a block (`fs`).

use drivers::block::{BlockError, Cookie, Kind, Request, Sector, SectorCount};
use maitake_sync::WaitQueue;
use mm::addr::PAGE_SIZE;
use mm::frame::{FrameKind, Order};
use mutex_traits::ConstInit;

use crate::devices::Disk;
use crate::frames;
use crate::fs::blocks::{BLOCK, BlockFailed, BlockNumber, Blocks, Writable};
use crate::heap;
use crate::phys::Memory;
use crate::storage::{Bounce, DiskIo};
use crate::sync::{IrqLock, Mutex};

const SECTORS_PER_BLOCK: u64 = (BLOCK / 512) as u64;
/// Frames in a run of bounce memory: the most blocks moved by one request.
const RUN: usize = 4;

/// Frames that one operation of the file system's library may take: a copy of the running transaction, of at most
/// [`crate::fs::ext4::TRANSACTION`] operations, and the blocks that it adds.
const OPERATION: usize = 64;

const _: () = assert!(BLOCK == PAGE_SIZE);

/// A virtio disk with a file system on it.
pub struct DataDisk {
    disk: &'static Disk,
    memory: Memory,
    /// The run, while no request has it. The file system's actor makes one request at a time, and is never dropped.
    bounce: Mutex<Option<Bounce>>,
    returned: WaitQueue<IrqLock>,
}

/// There is no memory to read or write the data disk through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory to read it through")]
pub struct NoBounce;

impl DataDisk {
    /// The file system's view of a disk.
    pub fn new(disk: &'static Disk, memory: Memory) -> Result<Self, NoBounce> {
        heap::set_reserve(OPERATION);
        let run = Order::holding(RUN).and_then(|order| frames::get().alloc(FrameKind::Dma, order)).ok_or(NoBounce)?;
        let bounce = Mutex::new(Some(Bounce::new(run)));
        Ok(Self { disk, memory, bounce, returned: WaitQueue::new_with_raw_mutex(IrqLock::INIT) })
    }

    /// The disk's own counts.
    pub fn disk(&self) -> &'static Disk {
        self.disk
    }

    /// Contents of frames.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn take_bounce(&self) -> Bounce {
        let taken = self.returned.wait_for_value(|| self.bounce.lock().take()).await;
        taken.unwrap_or_else(|_| unreachable!("the queue is never closed"))
    }

    /// Sends one request of at most [`RUN`] blocks; the run comes back with its contents.
    async fn transfer(&self, kind: Kind, first: u64, bounce: Bounce) -> (Bounce, Result<(), BlockFailed>) {
        let (sector, sectors) = (Sector(first * SECTORS_PER_BLOCK), SectorCount((bounce.used() / 512) as u32));
        let (buffers, result) =
            self.ask(Request { cookie: Cookie(first), kind, sector, sectors, buffers: DiskIo::Bounce(bounce) }).await;
        let DiskIo::Bounce(bounce) = buffers else { unreachable!("a request comes back with its own buffers") };
        (bounce, result)
    }

    async fn ask(&self, request: Request<DiskIo>) -> (DiskIo, Result<(), BlockFailed>) {
        let Cookie(first) = request.cookie;
        let (request, result) = match self.disk.submit(request).await {
            Ok(done) => (done.request, done.result.map_err(|error| failed(first, error))),
            Err(refused) => {
                log::warn!("data disk: block {first}: the disk refuses a request: {refused:?}");
                (refused.into_request(), Err(BlockFailed))
            }
        };
        (request.buffers, result)
    }

    fn give_back(&self, bounce: Bounce) {
        *self.bounce.lock() = Some(bounce);
        self.returned.wake();
    }
}

fn failed(block: u64, error: BlockError) -> BlockFailed {
    log::warn!("data disk: block {block}: {error}");
    BlockFailed
}

impl Blocks for DataDisk {
    fn count(&self) -> u64 {
        self.disk.info().end.0 / SECTORS_PER_BLOCK
    }

    fn writable(&self) -> Writable {
        if self.disk.info().read_only { Writable::No } else { Writable::Yes }
    }

    async fn read(&self, first: BlockNumber, out: &mut [u8]) -> Result<(), BlockFailed> {
        for (number, part) in (first.0..).step_by(RUN).zip(out.chunks_mut(RUN * BLOCK)) {
            let mut bounce = self.take_bounce().await;
            bounce.set_used(part.len());
            let (bounce, result) = self.transfer(Kind::Read, number, bounce).await;
            if result.is_ok() {
                for (frame, page) in bounce.frames().zip(part.chunks_mut(PAGE_SIZE)) {
                    self.memory.copy_from(frame, page);
                }
            }
            self.give_back(bounce);
            result?;
        }
        Ok(())
    }

    async fn write(&self, first: BlockNumber, data: &[u8]) -> Result<(), BlockFailed> {
        for (number, part) in (first.0..).step_by(RUN).zip(data.chunks(RUN * BLOCK)) {
            let mut bounce = self.take_bounce().await;
            bounce.set_used(part.len());
            for (frame, page) in bounce.frames().zip(part.chunks(PAGE_SIZE)) {
                self.memory.copy_to(frame, page);
            }
            let (bounce, result) = self.transfer(Kind::Write, number, bounce).await;
            self.give_back(bounce);
            result?;
        }
        Ok(())
    }

    /// By whoever syncs, who may be killed meanwhile: so it takes no memory, which would be lost.
    async fn flush(&self) -> Result<(), BlockFailed> {
        if !self.disk.info().flush {
            // Completed writes are as durable as they will get.
            return Ok(());
        }
        let (sector, sectors) = (Sector(0), SectorCount(0));
        let request = Request { cookie: Cookie(0), kind: Kind::Flush, sector, sectors, buffers: DiskIo::Nothing };
        self.ask(request).await.1
    }

    async fn room(&self) {
        while !heap::fill_reserve() {
            let Some(mm) = crate::try_mm() else { return };
            if mm.wait_for_frame_to_prepare().await.is_err() {
                // There is none to be had, and what is asked for may be what gives some back: the reserve has to do.
                return;
            }
        }
    }
}
