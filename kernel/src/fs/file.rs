//! The contents of a regular file: a memory object, and where its pages are on the disk.
//!
//! Owns, for each file in use: the object, the complete list of extents, the order of writes and truncations, and what the
//! disk does not know yet about the file (its size, that it was modified). Does not own pages (`mm`), nor how they travel
//! (`crate::file_store`). `read`, `write` and `mmap` all go through the object, so they see the same bytes.
//!
//! | | reads | writes | truncation | pages in and out |
//! |---|---|---|---|---|
//! | writes | by page, in `mm` | the gate | the gate | a page is prepared before it is written |
//! | truncation | `mm` | the gate | the gate | `mm` waits for those behind the end, then blocks are freed |
//!
//! Holes are made in `holes.rs`. Order of a truncation: the object's end moves and I/O behind it ends; the extents are forgotten; the library frees the blocks.
//! Order of fsync: pages written; size and journal committed; FLUSH.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use maitake_sync::Mutex as Gate;
use mm::addr::VirtAddr;
use mm::file_store::{FileError, FileId};
use mm::object::{ObjectError, ObjectId, ObjectPage};
use mm::space::SpaceId;
use mutex_traits::ConstInit;

use super::attributes::Moment;
use super::blocks::BLOCK;
use super::disk::{DataVolume, WriteAt};
use super::ext4::Ino;
use super::extents::{Extent, Extents, FilePage, Run};
use crate::mm;
use crate::sync::{IrqLock, Mutex};
use crate::syscall::errno::Errno;
use crate::time;

/// A file in use. Lives in the volume's table until the file is gone, the volume is unmounted, or room is needed for others.
pub struct FileData {
    ino: Ino,
    object: ObjectId,
    extents: Mutex<Extents>,
    /// Held while the size changes or bytes are written.
    pub(super) gate: Gate<(), IrqLock>,
    /// A cut was begun, and not all is done that belongs to it.
    cut: AtomicBool,
    /// How often something was begun that the disk has to be told about: its size, its time of modification.
    changes: AtomicU64,
    /// Up to which of them the disk knows.
    settled: AtomicU64,
}

/// Translates what `mm` says.
pub fn errno(error: ObjectError) -> Errno {
    match error {
        ObjectError::NoSpace => Errno::ENOSPC,
        ObjectError::Io => Errno::EIO,
        ObjectError::BadAddress => Errno::EFAULT,
        ObjectError::OutOfMemory => Errno::ENOMEM,
        ObjectError::TooLarge => Errno::EFBIG,
        ObjectError::Gone => Errno::ESTALE,
    }
}

impl FileData {
    /// The contents of a file that nobody uses yet.
    pub fn new(ino: Ino, size: u64, extents: Extents) -> Result<Self, Errno> {
        let object = mm().create_file_object(FileId::new(ino.0.into()), size).map_err(|_| Errno::ENOMEM)?;
        Ok(Self {
            ino,
            object,
            extents: Mutex::new(extents),
            gate: Gate::new_with_raw_mutex((), IrqLock::INIT),
            cut: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            settled: AtomicU64::new(0),
        })
    }

    /// What mappings of the file map.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// How long it is.
    pub fn size(&self) -> u64 {
        mm().object_size(self.object).unwrap_or(0)
    }

    /// Where the pages from `page` on are.
    pub fn run(&self, page: FilePage, most: u64) -> Run {
        self.extents.lock().run(page, most)
    }

    /// Enters all the blocks that some pages have.
    pub(super) fn replace_extents(&self, page: FilePage, pages: u64, found: Vec<Extent>) {
        let mut extents = self.extents.lock();
        extents.remove(page, pages);
        found.into_iter().for_each(|extent| extents.add(extent));
    }

    /// read(2) and its kin.
    pub async fn read(&self, offset: u64, space: SpaceId, to: u64, len: u64) -> Result<u64, Errno> {
        mm().object_read(self.object, offset, space, VirtAddr::new(to), len).await.map_err(errno)
    }

    /// Reads for the kernel, on behalf of a process.
    pub async fn read_bytes(&self, offset: u64, space: SpaceId, out: &mut [u8]) -> Result<usize, Errno> {
        mm().object_read_bytes(self.object, offset, space, out).await.map(|count| count as usize).map_err(errno)
    }

    /// write(2) and its kin; says where the bytes went, and how many.
    pub async fn write(
        &self,
        volume: &DataVolume,
        place: WriteAt,
        space: SpaceId,
        from: u64,
        len: u64,
    ) -> Result<(u64, u64), Errno> {
        let _gate = self.gate.lock().await;
        self.complete_cut(volume, space).await?;
        let offset = match place {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => self.size(),
        };
        self.note_change();
        let done = mm().object_write(self.object, offset, space, VirtAddr::new(from), len).await.map_err(errno)?;
        Ok((offset, done))
    }

    /// Cuts or extends the file.
    pub async fn truncate(&self, volume: &DataVolume, space: SpaceId, size: u64) -> Result<(), Errno> {
        let _gate = self.gate.lock().await;
        self.complete_cut(volume, space).await?;
        self.cut.store(true, Ordering::Relaxed);
        // Before the object's end moves: a cut that fails or is given up half-way has moved it all the same.
        self.note_change();
        mm().truncate_object(self.object, size, space).await.map_err(errno)?;
        // No request is under way behind the end, and nobody begins one: the blocks may go.
        self.settle(volume, size).await
    }

    /// Has blocks reserved for a range; extends the file to its end if asked to.
    pub async fn allocate(
        &self,
        volume: &DataVolume,
        space: SpaceId,
        (offset, len): (u64, u64),
        keep_size: bool,
    ) -> Result<(), Errno> {
        let _gate = self.gate.lock().await;
        self.complete_cut(volume, space).await?;
        let (ino, end) = (self.ino, offset + len);
        // The size on the disk follows at the next sync; reserved blocks are not initialised, so no extent changes.
        volume.call(move |volume| volume.allocate(ino, offset, len, true)).await?;
        if !keep_size && end > self.size() {
            self.note_change();
            mm().truncate_object(self.object, end, space).await.map_err(errno)?;
        }
        Ok(())
    }

    /// If a cut was given up half-way, nothing is left behind the end when this returns, not on the disk either: it would come back as the
    /// file grows.
    pub(super) async fn complete_cut(&self, volume: &DataVolume, space: SpaceId) -> Result<(), Errno> {
        if !self.cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        mm().complete_cut(self.object, Some(space)).await.map_err(errno)?;
        self.settle(volume, self.size()).await
    }

    /// Something begins of which the disk will have to be told.
    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the disk the size, which takes back the blocks behind it, and when the file was modified. Under the gate.
    ///
    /// What is noted here goes first: if the caller does not live to see the answer, the blocks go all the same.
    pub(super) async fn settle(&self, volume: &DataVolume, size: u64) -> Result<(), Errno> {
        let changes = self.changes.load(Ordering::Relaxed);
        mm().complete_cut(self.object, None).await.map_err(errno)?;
        // Those of a write that did not get as far as it wanted are among them.
        mm().forget_prepared(self.object).await;
        self.extents.lock().cut(FilePage(size.div_ceil(BLOCK as u64)));
        let modified = Moment { ns: time::wall_clock_ns().cast_signed() };
        let ino = self.ino;
        volume.call(move |volume| volume.settle(ino, size, modified)).await?;
        self.cut.store(false, Ordering::Relaxed);
        self.settled.store(changes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives pages blocks, and remembers where (the store's `Prepare`).
    pub async fn prepare(&self, volume: &DataVolume, page: FilePage, pages: u64) -> Result<(), FileError> {
        let ino = self.ino;
        // The library moves the end behind the last block it makes, also if it does not get as far as it should.
        self.note_change();
        let found = volume.call(move |volume| volume.prepare(ino, page, pages)).await;
        let found = found.map_err(|errno| if errno == Errno::ENOSPC { FileError::NoSpace } else { FileError::Io })?;
        let mut extents = self.extents.lock();
        found.into_iter().for_each(|extent| extents.add(extent));
        Ok(())
    }

    /// Writes what is in memory; the journal and the disk's own cache are the caller's to see to.
    pub async fn write_back(&self, volume: &DataVolume) -> Result<(), Errno> {
        let written = mm().sync_object(self.object, ObjectPage::new(0)..ObjectPage::LAST).await.map_err(errno);
        let _gate = self.gate.lock().await;
        if !self.is_settled() {
            self.settle(volume, self.size()).await?;
        }
        written
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed) == self.changes.load(Ordering::Relaxed)
    }

    /// Whether nobody maps it, and the disk has all there is to know. Whoever writes back knows less: somebody may have written since.
    pub fn is_idle(&self) -> bool {
        mm().object_is_idle(self.object) && self.is_settled()
    }

    /// Its inode.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Whether some program maps it.
    pub fn is_mapped(&self) -> bool {
        mm().object_is_mapped(self.object)
    }

    /// Takes the pages of a file without names away; when this returns, none is under way to the disk.
    pub async fn forget(&self) {
        mm().empty_object(self.object).await;
        mm().close_object(self.object);
    }

    /// Gives the object up, after the last write-back.
    pub fn close(&self) {
        mm().close_object(self.object);
    }
}
