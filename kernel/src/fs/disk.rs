//! The data disk: the mounted volume, and inodes that somebody refers to.
//!
//! Owns: the one volume, the tables of inodes and of files in use, what is done from time to time (pages that have been dirty
//! for long are written), and when an inode without names is given back. Does not own the operations on disk (`ext4.rs`,
//! through the actor), contents (`file.rs`) nor names (`walk.rs`).
//!
//! ```text
//!   Inode: named ──unlink of the last name──► nameless ──last Arc dropped──► released ──not mapped any more──► buried
//! ```

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use executor::Duration;
use maitake_sync::{Mutex as Gate, MutexGuard as GateGuard, WaitCell};
use mm::object::ObjectId;
use mm::space::SpaceId;
use mutex_traits::ConstInit;

use super::actor::{Actor, Settings};
use super::attributes::{Attributes, FileType};
use super::blocks::Writable;
use super::exclusion::Users;
use super::ext4::{Change, Found, Ino, Maker, MountError, Rename, Unlinked, Volume, VolumeFacts};
use super::extents::{Extents, FilePage};
use super::file::FileData;
use super::holes::Emptied;
use super::locks::FileLocks;
use super::names::{Names, Place};
use super::vnode::Listed;
use crate::arch::fiber::Fiber;
use crate::arch::stack::FiberStack;
use crate::data_disk::DataDisk;
use crate::file_store::Requests;
use crate::sync::{IrqLock, Mutex, Once};
use crate::syscall::errno::Errno;
use crate::time;

/// How often old dirty pages are looked for (Linux: `dirty_writeback_centisecs`).
const WRITE_BACK_EVERY: Duration = Duration::from_secs(5);
/// Regular files that may be in memory, with their pages, before those that nobody uses are let go.
const FILES: usize = 256;
/// Entries of a directory asked for at once.
const BATCH: usize = 32;

/// The mounted data disk.
pub struct DataVolume {
    disk: DataDisk,
    actor: Actor<DataDisk>,
    root: Once<Arc<Inode>>,
    inodes: Mutex<BTreeMap<Ino, Weak<Inode>>>,
    /// Regular files that have been used since the mount, with their pages.
    pub(super) files: Mutex<BTreeMap<Ino, Arc<FileData>>>,
    /// There have come to be too many of them.
    crowded: AtomicBool,
    requests: Requests,
    nameless: Mutex<Nameless>,
    released: WaitCell,
    /// Held while an inode is being buried: an unmount comes after.
    pub(super) burials: Gate<(), IrqLock>,
    /// How it is mounted.
    pub(super) settings: Settings,
    writable: Once<Writable>,
}

/// Inodes that have lost their last name.
#[derive(Default)]
struct Nameless {
    in_use: Vec<Ino>,
    /// Nobody uses them any more. Has room for all that are in use, so that releasing one needs no memory.
    released: Vec<Ino>,
    /// Nobody has them open, but somebody maps them.
    kept: Vec<Ino>,
}

static VOLUME: Once<DataVolume> = Once::new();

/// The data disk, if there is one.
pub fn volume() -> Option<&'static DataVolume> {
    VOLUME.get()
}

/// Mounts a disk at `/`. `spawn` gets the fiber that does all work on it, to be polled for ever.
pub async fn mount(
    disk: DataDisk,
    settings: Settings,
    stack: FiberStack,
    spawn: impl FnOnce(Fiber<FiberStack>),
) -> Result<VolumeFacts, MountError> {
    let volume = VOLUME.call_once(|| DataVolume {
        disk,
        actor: Actor::new(),
        root: Once::new(),
        inodes: Mutex::new(BTreeMap::new()),
        files: Mutex::new(BTreeMap::new()),
        crowded: AtomicBool::new(false),
        requests: Requests::new(),
        nameless: Mutex::new(Nameless::default()),
        released: WaitCell::new(),
        burials: Gate::new_with_raw_mutex((), IrqLock::INIT),
        settings,
        writable: Once::new(),
    });
    spawn(Fiber::new(stack, move |suspender| volume.actor.run(&volume.disk, settings, suspender)));
    let facts = volume.actor.mounted().await?;
    let root = Inode::new(facts.root, FileType::Directory, volume);
    volume.root.call_once(|| Arc::new(root));
    volume.writable.call_once(|| facts.writable);
    Ok(facts)
}

impl DataVolume {
    /// The root directory.
    pub fn root(&self) -> Arc<Inode> {
        Arc::clone(self.root.get().expect("nobody asks before the disk is mounted"))
    }

    /// The disk below.
    pub fn disk(&self) -> &DataDisk {
        &self.disk
    }

    /// How much room there is.
    pub async fn facts(&self) -> VolumeFacts {
        self.actor.call(|volume| volume.facts()).await
    }

    /// Has something done on the file system.
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl for<'v, 'd> FnOnce(&'v mut Volume<'d, DataDisk>) -> R + Send + 'static,
    ) -> R {
        self.actor.call(work).await
    }

    /// Requests for pages of files.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The contents of a file that has been used since the mount.
    pub fn file_in_use(&self, ino: Ino) -> Option<Arc<FileData>> {
        self.files.lock().get(&ino).cloned()
    }

    /// The contents of a regular file. They are taken up on the actor's fiber: what it says of the disk is still so then.
    async fn file(&'static self, ino: Ino) -> Result<Arc<FileData>, Errno> {
        if let Some(file) = self.file_in_use(ino) {
            return Ok(file);
        }
        let look = move |volume: &mut Volume<'_, DataDisk>| {
            // Somebody else may have been faster.
            if let Some(file) = self.file_in_use(ino) {
                return Ok(file);
            }
            let size = volume.inspect(ino)?.attributes.size;
            let mut extents = Extents::default();
            volume.extents(ino, FilePage(0), u64::MAX / 4096)?.into_iter().for_each(|extent| extents.add(extent));
            let file = Arc::new(FileData::new(ino, size, extents)?);
            self.take_up(&file);
            Ok(file)
        };
        self.call(look).await
    }

    fn take_up(&self, file: &Arc<FileData>) {
        let mut files = self.files.lock();
        files.insert(file.ino(), Arc::clone(file));
        if files.len() > FILES {
            self.crowded.store(true, Ordering::Relaxed);
            self.released.wake();
        }
    }

    pub(super) fn all_files(&self) -> Vec<Arc<FileData>> {
        self.files.lock().values().cloned().collect()
    }

    /// Makes everything durable. Goes on after an error, and tells the first.
    pub async fn sync(&self) -> Result<(), Errno> {
        let mut result = Ok(());
        for file in self.all_files() {
            result = result.and(file.write_back(self).await);
        }
        result.and(self.commit().await)
    }

    /// Makes files durable, by their objects; others are none of ours.
    pub async fn sync_objects(&self, objects: Vec<ObjectId>) -> Result<(), Errno> {
        let mut result = Ok(());
        for file in self.all_files().into_iter().filter(|file| objects.contains(&file.object())) {
            result = result.and(file.write_back(self).await);
        }
        result.and(self.commit().await)
    }

    /// Makes durable what has been written: the journal, then the disk's own cache.
    async fn commit(&self) -> Result<(), Errno> {
        self.call(|volume| volume.sync()).await?;
        use super::blocks::Blocks;
        self.disk.flush().await.map_err(|_| Errno::EIO)
    }

    /// Makes everything durable and the file system clean. Nothing may be asked of it any more.
    pub async fn unmount(&self) -> Result<(), Errno> {
        let _no_burials = self.burials.lock().await;
        let nameless = core::mem::take(&mut *self.nameless.lock());
        for ino in nameless.in_use.into_iter().chain(nameless.released).chain(nameless.kept) {
            self.bury(ino).await;
        }
        let written = self.sync().await;
        for (_, file) in core::mem::take(&mut *self.files.lock()) {
            file.close();
        }
        written.and(self.actor.unmount().await)
    }

    /// What is done from time to time and behind people's backs, for ever.
    pub async fn keep_house(&'static self) {
        let mut due = time::now_ns() + WRITE_BACK_EVERY.as_nanos();
        loop {
            let left = Duration::from_nanos(due.saturating_sub(time::now_ns()));
            let is_wanted = || !self.nameless.lock().released.is_empty() || self.crowded.load(Ordering::Relaxed);
            let wanted = self.released.wait_for(is_wanted);
            match crate::executor().timers().timeout(left, wanted).await {
                Ok(_) if self.crowded.swap(false, Ordering::Relaxed) => {
                    let _no_burials = self.burials.lock().await;
                    self.let_files_go(FILES / 2).await;
                }
                Ok(_) => {
                    let _burials = self.burials.lock().await;
                    self.bury_next().await;
                }
                Err(_) => {}
            }
            // However much else there is to do: what is old is written.
            if time::now_ns() >= due {
                crate::mm().write_back_old().await;
                self.release_kept();
                due = time::now_ns() + WRITE_BACK_EVERY.as_nanos();
            }
        }
    }

    /// Buries the next of those that nobody uses any more; one that is still mapped is kept until later. Under the lock of burials, and by
    /// a task that nobody ends: a burial given up half-way is in no list.
    async fn bury_next(&self) {
        let Some(ino) = self.nameless.lock().released.pop() else { return };
        if self.file_in_use(ino).is_some_and(|file| file.is_mapped()) {
            self.nameless.lock().kept.push(ino);
        } else {
            self.bury(ino).await;
        }
    }

    /// Waits until the housekeeper has buried all that nobody uses, and keeps it from burying more.
    pub(super) async fn no_burials(&self) -> GateGuard<'_, (), IrqLock> {
        loop {
            let burials = self.burials.lock().await;
            if self.nameless.lock().released.is_empty() {
                return burials;
            }
            drop(burials);
            self.released.wake();
            crate::executor().end_turn().await;
        }
    }

    /// Those that were still mapped may not be by now.
    pub(super) fn release_kept(&self) {
        let mut nameless = self.nameless.lock();
        let Nameless { in_use, released, kept } = &mut *nameless;
        released.append(kept);
        released.reserve(in_use.len());
    }

    /// Whether there are inodes without names.
    pub(super) fn has_nameless(&self) -> bool {
        let nameless = self.nameless.lock();
        !(nameless.in_use.is_empty() && nameless.released.is_empty() && nameless.kept.is_empty())
    }

    /// The directory of a number, if it is one still.
    pub async fn directory(&'static self, ino: Ino) -> Result<Arc<Inode>, Errno> {
        let found = self.call(move |volume| volume.inspect(ino).map(|found| self.adopt(found))).await?;
        found.check_directory().map(|()| found)
    }

    /// Gives back an inode without names that nobody uses.
    async fn bury(&self, ino: Ino) {
        let file = self.files.lock().remove(&ino);
        if let Some(file) = file {
            file.forget().await;
        }
        // If that fails, the library does as much as it can at once.
        let thinned = self.thin(ino).await;
        let reaped = self.call(move |volume| volume.reap(ino)).await;
        if let Err(errno) = thinned.and(reaped) {
            log::warn!("data disk: inode {} is not given back: {errno:?}", ino.0);
        }
    }

    /// EROFS, if the disk takes no writes.
    pub fn check_writable(&self) -> Result<(), Errno> {
        match self.writable.get() {
            Some(Writable::Yes) => Ok(()),
            _ => Err(Errno::EROFS),
        }
    }

    /// The one value for an inode in use. To be called from the actor's fiber: no inode is reaped meanwhile.
    fn adopt(&'static self, found: Found) -> Arc<Inode> {
        let mut inodes = self.inodes.lock();
        if let Some(inode) = inodes.get(&found.ino).and_then(Weak::upgrade) {
            return inode;
        }
        let inode = Arc::new(Inode::new(found.ino, found.attributes.kind, self));
        inodes.insert(found.ino, Arc::downgrade(&inode));
        inode
    }

    /// An inode has lost a name. From the actor's fiber.
    fn lost_name(&self, lost: Unlinked) {
        if lost.links > 0 {
            return;
        }
        let user = self.inodes.lock().get(&lost.ino).and_then(Weak::upgrade);
        let Some(inode) = user else {
            self.nameless.lock().released.push(lost.ino);
            self.released.wake();
            return;
        };
        if !inode.nameless.swap(true, Ordering::AcqRel) {
            let mut nameless = self.nameless.lock();
            nameless.in_use.push(lost.ino);
            let all = nameless.in_use.len();
            nameless.released.reserve(all);
        }
    }

    /// Whoever has a file open by its old name has it by its new one. From the actor's fiber.
    fn renamed(&self, old: &Place, new: &Place, how: Rename) {
        let inodes: Vec<_> = self.inodes.lock().values().filter_map(Weak::upgrade).collect();
        inodes.iter().for_each(|inode| inode.names.renamed(old, new, how));
    }

    /// Nobody uses a nameless inode any more. Never waits, needs no memory.
    fn release(&self, ino: Ino) {
        {
            let mut nameless = self.nameless.lock();
            nameless.in_use.retain(|other| *other != ino);
            nameless.released.push(ino);
        }
        self.released.wake();
    }
}

/// An inode that somebody refers to.
pub struct Inode {
    ino: Ino,
    kind: FileType,
    volume: &'static DataVolume,
    /// Has no name left.
    nameless: AtomicBool,
    /// What processes have locked of it.
    pub locks: FileLocks,
    users: Users,
    /// By which names it is open.
    pub names: Names,
}

impl Drop for Inode {
    fn drop(&mut self) {
        {
            let mut inodes = self.volume.inodes.lock();
            // Another value may have taken the place since the last reference went.
            if inodes.get(&self.ino).is_some_and(|inode| inode.strong_count() == 0) {
                inodes.remove(&self.ino);
            }
        }
        if *self.nameless.get_mut() {
            self.volume.release(self.ino);
        }
    }
}

impl Inode {
    fn new(ino: Ino, kind: FileType, volume: &'static DataVolume) -> Self {
        Self {
            ino,
            kind,
            volume,
            nameless: AtomicBool::new(false),
            locks: FileLocks::default(),
            users: Users::default(),
            names: Names::new(),
        }
    }

    /// Who writes to it, or runs it.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Its number.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// What kind of file it is.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether it is the root directory.
    pub fn is_root(&self) -> bool {
        self.volume.root.get().is_some_and(|root| root.ino == self.ino)
    }

    /// The disk it is on.
    pub fn volume(&self) -> &'static DataVolume {
        self.volume
    }

    /// Whether it has no name any more: a directory like that takes no new entries.
    pub fn is_nameless(&self) -> bool {
        self.nameless.load(Ordering::Acquire)
    }

    fn check_directory(&self) -> Result<(), Errno> {
        if self.kind == FileType::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    /// A directory that may get a new entry.
    fn check_open_to_changes(&self) -> Result<(), Errno> {
        self.check_directory()?;
        self.volume.check_writable()?;
        if self.is_nameless() { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// What stat(2) shows. The size is what the file's pages say: the disk may not know yet.
    pub async fn attributes(&self) -> Result<Attributes, Errno> {
        let (ino, table) = (self.ino, self.volume);
        // Both at one moment of the actor's: a file that is let go has told the disk its size before.
        let look = move |volume: &mut Volume<'_, DataDisk>| {
            let mut attributes = volume.inspect(ino)?.attributes;
            if let Some(file) = table.file_in_use(ino) {
                attributes.size = file.size();
            }
            Ok(attributes)
        };
        table.call(look).await
    }

    /// What has this name in the directory.
    pub async fn child(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        self.check_directory()?;
        let (ino, table, name) = (self.ino, self.volume, name.to_vec());
        table.actor.call(move |volume| volume.look_up(ino, &name).map(|found| table.adopt(found))).await
    }

    /// The target of a symbolic link.
    pub async fn link_target(&self) -> Result<Vec<u8>, Errno> {
        let ino = self.ino;
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        self.volume.actor.call(move |volume| volume.read_link(ino)).await
    }

    /// Some entries from a position on.
    pub async fn entries(&self, from: u64) -> Result<Vec<Listed>, Errno> {
        self.check_directory()?;
        let ino = self.ino;
        let found = self.volume.actor.call(move |volume| volume.entries(ino, from, BATCH)).await?;
        let listed = |entry: super::ext4::Entry| Listed {
            inode: entry.ino.0.into(),
            kind: entry.kind,
            name: entry.name,
            next: entry.next,
        };
        Ok(found.into_iter().map(listed).collect())
    }

    /// Makes an empty file in the directory.
    pub async fn create(&self, name: &[u8], maker: Maker) -> Result<Arc<Self>, Errno> {
        self.check_open_to_changes()?;
        let (ino, table, name) = (self.ino, self.volume, name.to_vec());
        table.actor.call(move |volume| volume.create(ino, &name, maker).map(|found| table.adopt(found))).await
    }

    /// Makes a directory in the directory.
    pub async fn make_directory(&self, name: &[u8], maker: Maker) -> Result<(), Errno> {
        self.check_open_to_changes()?;
        let (ino, name) = (self.ino, name.to_vec());
        self.volume.actor.call(move |volume| volume.make_directory(ino, &name, maker).map(drop)).await
    }

    /// Makes a symbolic link in the directory.
    pub async fn make_link(&self, name: &[u8], target: Vec<u8>) -> Result<(), Errno> {
        self.check_open_to_changes()?;
        let (ino, name) = (self.ino, name.to_vec());
        self.volume.actor.call(move |volume| volume.make_link(ino, &name, &target).map(drop)).await
    }

    /// Gives `file` another name, in this directory.
    pub async fn hard_link(&self, file: &Self, name: &[u8]) -> Result<(), Errno> {
        self.check_open_to_changes()?;
        if file.kind == FileType::Directory {
            return Err(Errno::EPERM);
        }
        if file.is_nameless() {
            return Err(Errno::ENOENT);
        }
        let (target, ino, name) = (file.ino, self.ino, name.to_vec());
        self.volume.actor.call(move |volume| volume.hard_link(target, ino, &name)).await
    }

    /// Takes a name out of the directory.
    pub async fn unlink(&self, name: &[u8], what: Unlinkable) -> Result<(), Errno> {
        self.check_directory()?;
        self.volume.check_writable()?;
        let (ino, table, name) = (self.ino, self.volume, name.to_vec());
        let work = move |volume: &mut Volume<'_, DataDisk>| {
            let lost = match what {
                Unlinkable::File => volume.unlink(ino, &name),
                Unlinkable::Directory => volume.remove_directory(ino, &name),
            };
            lost.map(|lost| table.lost_name(lost))
        };
        table.actor.call(work).await
    }

    /// Moves a name from this directory to another.
    pub async fn rename(&self, old: &[u8], to: &Self, new: &[u8], how: Rename) -> Result<(), Errno> {
        self.check_directory()?;
        to.check_open_to_changes()?;
        let table = self.volume;
        let old = Place { directory: self.ino, name: old.to_vec() };
        let new = Place { directory: to.ino, name: new.to_vec() };
        let work = move |volume: &mut Volume<'_, DataDisk>| {
            let lost = volume.rename((old.directory, &old.name), (new.directory, &new.name), how)?;
            lost.into_iter().for_each(|lost| table.lost_name(lost));
            table.renamed(&old, &new, how);
            Ok(())
        };
        table.actor.call(work).await
    }

    /// The contents of a regular file.
    pub async fn file(&self) -> Result<Arc<FileData>, Errno> {
        match self.kind {
            FileType::Regular => self.volume.file(self.ino).await,
            FileType::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Cuts or extends the file, on behalf of a process.
    pub async fn truncate(&self, size: u64, space: SpaceId) -> Result<(), Errno> {
        self.volume.check_writable()?;
        self.file().await?.truncate(self.volume, space, size).await
    }

    /// Has blocks for a range, or a hole, on behalf of a process.
    pub async fn allocate(&self, offset: u64, len: u64, how: Allocate, space: SpaceId) -> Result<(), Errno> {
        self.volume.check_writable()?;
        let file = self.file().await?;
        match how {
            Allocate::Extend => file.allocate(self.volume, space, (offset, len), false).await,
            Allocate::KeepSize => file.allocate(self.volume, space, (offset, len), true).await,
            Allocate::Hole => file.empty(self.volume, space, (offset, len), Emptied::GivenBack).await,
            Allocate::Zero => {
                file.empty(self.volume, space, (offset, len), Emptied::Reserved).await?;
                file.allocate(self.volume, space, (offset, len), false).await
            }
            Allocate::ZeroKeepSize => file.empty(self.volume, space, (offset, len), Emptied::Reserved).await,
        }
    }

    /// fsync(2): data, then metadata, then the disk's own cache.
    pub async fn sync(&self) -> Result<(), Errno> {
        if self.volume.check_writable().is_err() {
            return Ok(());
        }
        let written = match self.volume.file_in_use(self.ino) {
            Some(file) => file.write_back(self.volume).await,
            None => Ok(()),
        };
        written.and(self.volume.commit().await)
    }

    /// Changes attributes.
    pub async fn change(&self, change: Change) -> Result<(), Errno> {
        self.volume.check_writable()?;
        let ino = self.ino;
        self.volume.call(move |volume| volume.change(ino, change)).await
    }
}

/// What unlink is to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Unlinkable {
    File,
    Directory,
}

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAt {
    /// Here.
    Offset(u64),
    /// Behind what is there: O_APPEND.
    End,
}

/// What fallocate(2) is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Allocate {
    Extend,
    KeepSize,
    Hole,
    Zero,
    ZeroKeepSize,
}
