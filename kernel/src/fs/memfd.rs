//! Files that are memory: memfd_create(2).
//!
//! Owns a memory object under a descriptor, what may still be done to it (seals, fcntl(2)), and the order of writes, changes of the
//! size and of seals. Does not own pages (`mm`): they are shared by all who map or read them, and each is swapped once, whoever has it.
//!
//! | | writes | size | seals | shared windows that may be written through |
//! |---|---|---|---|---|
//! | under | the gate | the gate | the gate | the gate, while they are made |

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::general as flag;
use maitake_sync::{Mutex as Gate, MutexGuard};
use mm::addr::VirtAddr;
use mm::object::{ObjectId, ObjectPage, Sharing};
use mm::space::SpaceId;
use mutex_traits::ConstInit;

use super::attributes::{Attributes, FileType};
use super::disk::WriteAt;
use super::file::errno;
use super::fresh_inode;
use super::holes::{Parts, write_zeroes};
use crate::mm;
use crate::sync::IrqLock;
use crate::syscall::errno::Errno;

/// `st_dev`: Linux has a file system for these that is mounted nowhere.
const DEVICE: u64 = 1;
/// Blocks of `st_blocks` in a page.
const BLOCKS_PER_PAGE: u64 = 8;

/// What may never be done again (fcntl(2), file sealing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seals(u32);

impl Seals {
    const ALL: u32 =
        flag::F_SEAL_SEAL | flag::F_SEAL_SHRINK | flag::F_SEAL_GROW | flag::F_SEAL_WRITE | flag::F_SEAL_FUTURE_WRITE;
    /// No seal can be added: what a file has that was not made to be sealed.
    pub const SEALED: Self = Self(flag::F_SEAL_SEAL);
    /// None.
    pub const NONE: Self = Self(0);

    /// As fcntl(2) numbers them.
    pub fn from_bits(bits: u64) -> Result<Self, Errno> {
        if bits & !u64::from(Self::ALL) == 0 { Ok(Self(bits as u32)) } else { Err(Errno::EINVAL) }
    }

    /// As fcntl(2) numbers them.
    pub fn bits(self) -> u32 {
        self.0
    }

    fn any_of(self, seals: u32) -> bool {
        self.0 & seals != 0
    }
}

/// A file that is memory. Goes with the last descriptor; its contents with the last mapping, too.
pub struct MemFile {
    object: ObjectId,
    inode: u64,
    /// For people who look (`/proc/PID/fd`).
    name: Box<[u8]>,
    seals: AtomicU32,
    gate: Gate<(), IrqLock>,
}

impl Drop for MemFile {
    fn drop(&mut self) {
        mm().close_object(self.object);
    }
}

impl MemFile {
    /// An empty one.
    pub fn new(name: &[u8], seals: Seals) -> Result<Self, Errno> {
        let object = mm().create_object(0).map_err(|_| Errno::ENOMEM)?;
        let gate = Gate::new_with_raw_mutex((), IrqLock::INIT);
        let seals = AtomicU32::new(seals.0);
        Ok(Self { object, inode: fresh_inode(), name: name.into(), seals, gate })
    }

    /// What it was called.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What mappings of it map.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// How long it is.
    pub fn size(&self) -> u64 {
        mm().object_size(self.object).unwrap_or(0)
    }

    /// What is sealed.
    pub fn seals(&self) -> Seals {
        Seals(self.seals.load(Ordering::Acquire))
    }

    /// Seals more. Who may still write through a window stands in the way of sealing what is written.
    pub fn seal(&self, more: Seals) -> Result<(), Errno> {
        let Some(_gate) = self.gate.try_lock() else { return Err(Errno::EBUSY) };
        let seals = self.seals();
        if seals.any_of(flag::F_SEAL_SEAL) {
            return Err(Errno::EPERM);
        }
        let seals_stores = more.any_of(flag::F_SEAL_WRITE) && !seals.any_of(flag::F_SEAL_WRITE);
        if seals_stores && mm().object_is_stored_to(self.object) {
            return Err(Errno::EBUSY);
        }
        self.seals.store(seals.0 | more.0, Ordering::Release);
        Ok(())
    }

    /// Before a window is made, and until it is there: how it may be shared, if it may.
    pub async fn share(
        &self,
        sharing: Sharing,
        writes: bool,
    ) -> Result<(Sharing, Option<MutexGuard<'_, (), IrqLock>>), Errno> {
        if sharing.is_private() {
            return Ok((sharing, None));
        }
        let gate = self.gate.lock().await;
        let is_sealed = self.seals().any_of(flag::F_SEAL_WRITE | flag::F_SEAL_FUTURE_WRITE);
        match (is_sealed, writes) {
            (true, true) => Err(Errno::EPERM),
            (true, false) => Ok((Sharing::Viewed, None)),
            (false, _) => Ok((sharing, Some(gate))),
        }
    }

    /// read(2) and its kin.
    pub async fn read(&self, offset: u64, space: SpaceId, to: u64, len: u64) -> Result<u64, Errno> {
        mm().object_read(self.object, offset, space, VirtAddr::new(to), len).await.map_err(errno)
    }

    /// write(2) and its kin; says where the bytes went, and how many.
    pub async fn write(&self, place: WriteAt, space: SpaceId, from: u64, len: u64) -> Result<(u64, u64), Errno> {
        let _gate = self.gate.lock().await;
        let (size, seals) = (self.size(), self.seals());
        let offset = match place {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => size,
        };
        if seals.any_of(flag::F_SEAL_WRITE | flag::F_SEAL_FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        let grows = offset.checked_add(len).is_none_or(|end| end > size);
        if grows && seals.any_of(flag::F_SEAL_GROW) {
            return Err(Errno::EPERM);
        }
        let done = mm().object_write(self.object, offset, space, VirtAddr::new(from), len).await.map_err(errno)?;
        Ok((offset, done))
    }

    /// ftruncate(2).
    pub async fn resize(&self, space: SpaceId, size: u64) -> Result<(), Errno> {
        let _gate = self.gate.lock().await;
        let (before, seals) = (self.size(), self.seals());
        let forbidden = if size < before { flag::F_SEAL_SHRINK } else { flag::F_SEAL_GROW };
        if size != before && seals.any_of(forbidden) {
            return Err(Errno::EPERM);
        }
        mm().truncate_object(self.object, size, space).await.map_err(errno)
    }

    /// fallocate(2): a hole. What of it is less than a page is written with zeroes.
    pub async fn punch(&self, space: SpaceId, offset: u64, len: u64) -> Result<(), Errno> {
        let _gate = self.gate.lock().await;
        if self.seals().any_of(flag::F_SEAL_WRITE | flag::F_SEAL_FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        let Parts { pages, edges } = Parts::of(offset..offset + len, self.size());
        for edge in edges {
            write_zeroes(self.object, space, edge).await?;
        }
        let pages = ObjectPage::new(pages.start)..ObjectPage::new(pages.end);
        mm().vacate(self.object, pages).await.map(drop).map_err(errno)
    }

    /// What fstat(2) shows.
    pub fn attributes(&self) -> Attributes {
        let kept = mm().object_pages(self.object).map_or(0, |pages| pages.resident() + pages.away());
        let made_up = Attributes::made_up(FileType::Regular, 0o777, DEVICE, self.inode);
        Attributes { size: self.size(), blocks: kept * BLOCKS_PER_PAGE, links: 0, ..made_up }
    }
}
