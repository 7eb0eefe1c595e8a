//! The data disk as the file system's library sees it: blocks, read and written synchronously, with a small cache.
//!
//! Owns: the seam to the disk ([`Blocks`]: async, in blocks of 4 KiB), and the device under the library ([`Device`]) that
//! waits for it by leaving the fiber's stack, with a write-through cache of a fixed number of blocks, because the library
//! keeps next to none itself. It also sees to the mark for recovery (`recovery_mark.rs`). Does not own what is in a block (`ext4.rs`), nor how the disk works (`crate::data_disk`).
//! Pure: host tests run it over a file.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rsext4::{BlockIo, DeviceCapabilities, DeviceGeometry, Ext4Error, Ext4Result, SectorId, WriteFlags};

use super::recovery_mark::{RecoveryMark, with_mark};
use crate::arch::fiber::Suspender;

/// Bytes in a block: a page, so that a block moves between the disk and a frame by itself.
pub const BLOCK: usize = 4096;

/// The number of a block on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockNumber(pub u64);

/// The disk did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFailed;

/// Whether a disk takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Writable {
    Yes,
    No,
}

/// A disk of blocks.
pub trait Blocks: Send + Sync + 'static {
    /// How many blocks there are.
    fn count(&self) -> u64;
    /// Whether it can be written.
    fn writable(&self) -> Writable;
    /// Reads whole blocks from `first` on.
    fn read(&self, first: BlockNumber, out: &mut [u8]) -> impl Future<Output = Result<(), BlockFailed>>;
    /// Writes whole blocks from `first` on.
    fn write(&self, first: BlockNumber, data: &[u8]) -> impl Future<Output = Result<(), BlockFailed>>;
    /// Makes every write that has completed durable.
    fn flush(&self) -> impl Future<Output = Result<(), BlockFailed>>;
    /// Waits until there is memory for an operation of the library, which cannot do without once it has begun.
    fn room(&self) -> impl Future<Output = ()>;
}

/// What the device is told about file data. Its pages are the memory manager's: what the library does to blocks of theirs on its own
/// account must not reach the disk behind the pages' back, nor stay in the cache.
#[derive(Default)]
pub struct Payload {
    /// Blocks that the operation under way does not write; 0 is none, for block 0 is never a file's.
    withheld: [AtomicU64; 2],
    /// Whether what is written now is file data, which the cache does not keep.
    passing: AtomicBool,
}

impl Payload {
    /// Runs an operation that would write these blocks, and does not write them.
    pub fn withholding<R>(&self, blocks: [Option<u64>; 2], operation: impl FnOnce() -> R) -> R {
        let set = |blocks: [Option<u64>; 2]| {
            for (place, block) in self.withheld.iter().zip(blocks) {
                place.store(block.unwrap_or(0), Ordering::Relaxed);
            }
        };
        set(blocks);
        let result = operation();
        set([None; 2]);
        result
    }

    /// Runs an operation that writes file data.
    pub fn passing<R>(&self, operation: impl FnOnce() -> R) -> R {
        self.passing.store(true, Ordering::Relaxed);
        let result = operation();
        self.passing.store(false, Ordering::Relaxed);
        result
    }

    fn withholds(&self, block: BlockNumber) -> bool {
        block.0 != 0 && self.withheld.iter().any(|place| place.load(Ordering::Relaxed) == block.0)
    }
}

/// A block in the cache.
struct Cached {
    number: BlockNumber,
    /// Set when it is used, cleared by the hand that looks for a victim.
    used: bool,
    bytes: Box<[u8]>,
}

/// The device under the library.
pub struct Device<'a, B> {
    blocks: &'a B,
    suspender: &'a Suspender<'a>,
    payload: &'a Payload,
    cache: Vec<Cached>,
    limit: usize,
    hand: usize,
    /// Block 0 as the library has it; none before its first write. The disk's has the mark for recovery from then on.
    superblock: Option<Box<[u8]>>,
}

impl<'a, B: Blocks> Device<'a, B> {
    /// A device whose cache holds at most `limit` blocks.
    pub fn new(blocks: &'a B, suspender: &'a Suspender<'a>, payload: &'a Payload, limit: usize) -> Self {
        Self { blocks, suspender, payload, cache: Vec::with_capacity(limit), limit, hand: 0, superblock: None }
    }

    fn find(&mut self, number: BlockNumber) -> Option<&mut Cached> {
        self.cache.iter_mut().find(|cached| cached.number == number)
    }

    /// The block's contents, if they are cached.
    fn look_up(&mut self, number: BlockNumber) -> Option<&[u8]> {
        let cached = self.find(number)?;
        cached.used = true;
        Some(&cached.bytes)
    }

    /// Keeps a copy of a block that is on the disk like this.
    fn keep(&mut self, number: BlockNumber, contents: &[u8]) {
        if let Some(cached) = self.find(number) {
            cached.bytes.copy_from_slice(contents);
            return;
        }
        if self.cache.len() < self.limit {
            self.cache.push(Cached { number, used: false, bytes: contents.into() });
            return;
        }
        // Second chance: used blocks are passed over once.
        for _ in 0..2 * self.cache.len() {
            self.hand = (self.hand + 1) % self.cache.len();
            let cached = &mut self.cache[self.hand];
            if !core::mem::take(&mut cached.used) {
                cached.number = number;
                cached.bytes.copy_from_slice(contents);
                return;
            }
        }
    }

    /// Puts the mark for recovery on the disk, to be there before anything else is.
    fn mark(&mut self) -> Ext4Result<()> {
        if self.superblock.is_some() {
            return Ok(());
        }
        let mut found = alloc::vec![0; BLOCK].into_boxed_slice();
        self.suspender.block_on(self.blocks.read(BlockNumber(0), &mut found)).map_err(|BlockFailed| Ext4Error::io())?;
        self.write_superblock(&found)?;
        self.flush()
    }

    /// Writes block 0, with the mark.
    fn write_superblock(&mut self, contents: &[u8]) -> Ext4Result<()> {
        self.forget(BlockNumber(0));
        let marked = with_mark(contents, RecoveryMark::Set);
        let written = self.blocks.write(BlockNumber(0), marked.as_deref().unwrap_or(contents));
        self.suspender.block_on(written).map_err(|BlockFailed| Ext4Error::io())?;
        self.superblock = Some(contents.into());
        Ok(())
    }

    fn forget(&mut self, number: BlockNumber) {
        self.cache.retain(|cached| cached.number != number);
        self.hand = 0;
    }
}

fn number(sector: SectorId) -> BlockNumber {
    BlockNumber(sector.raw())
}

impl<B: Blocks> BlockIo for Device<'_, B> {
    fn read(&mut self, buffer: &mut [u8], sector: SectorId, count: u32) -> Ext4Result<()> {
        let first = number(sector);
        if let Some(superblock) = &self.superblock
            && first == BlockNumber(0)
            && count == 1
        {
            buffer.copy_from_slice(superblock);
            return Ok(());
        }
        if count == 1
            && let Some(contents) = self.look_up(first)
        {
            buffer.copy_from_slice(contents);
            return Ok(());
        }
        self.suspender.block_on(self.blocks.read(first, buffer)).map_err(|BlockFailed| Ext4Error::io())?;
        if count == 1 {
            self.keep(first, buffer);
        }
        Ok(())
    }

    fn write(&mut self, buffer: &[u8], sector: SectorId, _count: u32) -> Ext4Result<()> {
        let first = number(sector);
        self.mark()?;
        if first == BlockNumber(0) && buffer.len() == BLOCK {
            return self.write_superblock(buffer);
        }
        if buffer.len() == BLOCK && self.payload.withholds(first) {
            self.forget(first);
            return Ok(());
        }
        let written = self.suspender.block_on(self.blocks.write(first, buffer));
        for (block, contents) in (first.0..).map(BlockNumber).zip(buffer.chunks(BLOCK)) {
            match written {
                Ok(()) if !self.payload.passing.load(Ordering::Relaxed) => self.keep(block, contents),
                // What the disk holds now, or will hold soon, is not known.
                _ => self.forget(block),
            }
        }
        written.map_err(|BlockFailed| Ext4Error::io())
    }

    fn write_with_flags(&mut self, buffer: &[u8], sector: SectorId, count: u32, flags: WriteFlags) -> Ext4Result<()> {
        if flags.contains(WriteFlags::FUA) {
            return Err(Ext4Error::unsupported());
        }
        self.write(buffer, sector, count)
    }

    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry::new(BLOCK as u32, self.blocks.count())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let read_only = self.blocks.writable() == Writable::No;
        DeviceCapabilities { read_only, flush: true, barrier: true, ..DeviceCapabilities::default() }
    }

    fn flush(&mut self) -> Ext4Result<()> {
        self.suspender.block_on(self.blocks.flush()).map_err(|BlockFailed| Ext4Error::io())
    }

    /// The journal's order: what was written before is on the disk before anything written later.
    fn barrier(&mut self) -> Ext4Result<()> {
        self.flush()
    }
}
