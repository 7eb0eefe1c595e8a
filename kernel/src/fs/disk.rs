//! Files of the data disk: inodes that somebody refers to, and what can be done with them.
//!
//! Owns: the one mounted volume, the table of inodes in use, and when an inode without names is given back: after the last
//! reference to it is gone. Does not own the operations on disk (`ext4.rs`, through the actor) nor names (`walk.rs`).
//!
//! Not yet through the page cache: contents are read and written through the actor, piece by piece, and nothing is kept.
//!
//! ```text
//!   Inode: named ──unlink of the last name──► nameless ──last Arc dropped──► released: the actor reaps it
//! ```

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::actor::{Actor, Settings};
use super::attributes::{Attributes, FileType};
use super::blocks::Writable;
use super::ext4::{Change, Found, Ino, Maker, MountError, Rename, Unlinked, VolumeFacts};
use super::vnode::Listed;
use crate::arch::fiber::Fiber;
use crate::arch::stack::FiberStack;
use crate::data_disk::DataDisk;
use crate::sync::{Mutex, Once};
use crate::syscall::errno::Errno;

/// Entries of a directory asked for at once.
const BATCH: usize = 32;

/// The mounted data disk.
pub struct DataVolume {
    disk: DataDisk,
    actor: Actor<DataDisk>,
    root: Once<Arc<Inode>>,
    inodes: Mutex<BTreeMap<Ino, Weak<Inode>>>,
    writable: Once<Writable>,
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
        writable: Once::new(),
    });
    spawn(Fiber::new(stack, move |suspender| volume.actor.run(&volume.disk, settings, suspender)));
    let facts = volume.actor.mounted().await?;
    let root = Inode { ino: facts.root, kind: FileType::Directory, volume, nameless: AtomicBool::new(false) };
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

    /// Makes everything durable.
    pub async fn sync(&self) -> Result<(), Errno> {
        self.actor.call(|volume| volume.sync()).await
    }

    /// Makes everything durable and the file system clean. Nothing may be asked of it any more.
    pub async fn unmount(&self) -> Result<(), Errno> {
        self.actor.unmount().await
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
        let inode =
            Inode { ino: found.ino, kind: found.attributes.kind, volume: self, nameless: AtomicBool::new(false) };
        let inode = Arc::new(inode);
        inodes.insert(found.ino, Arc::downgrade(&inode));
        inode
    }

    /// An inode has lost a name. From the actor's fiber; says what to reap at once.
    fn lost_name(&self, lost: Unlinked) -> Option<Ino> {
        if lost.links > 0 {
            return None;
        }
        let user = self.inodes.lock().get(&lost.ino).and_then(Weak::upgrade);
        match user {
            None => Some(lost.ino),
            Some(inode) => {
                if !inode.nameless.swap(true, Ordering::AcqRel) {
                    self.actor.expect_release(lost.ino);
                }
                None
            }
        }
    }
}

/// An inode that somebody refers to.
pub struct Inode {
    ino: Ino,
    kind: FileType,
    volume: &'static DataVolume,
    /// Has no name left.
    nameless: AtomicBool,
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
            self.volume.actor.release(self.ino);
        }
    }
}

impl Inode {
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

    /// What stat(2) shows.
    pub async fn attributes(&self) -> Result<Attributes, Errno> {
        let ino = self.ino;
        self.volume.actor.call(move |volume| volume.inspect(ino)).await.map(|found| found.attributes)
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
        let work = move |volume: &mut super::ext4::Volume<'_, DataDisk>| {
            let lost = match what {
                Unlinkable::File => volume.unlink(ino, &name),
                Unlinkable::Directory => volume.remove_directory(ino, &name),
            }?;
            table.lost_name(lost).map_or(Ok(()), |ino| volume.reap(ino))
        };
        table.actor.call(work).await
    }

    /// Moves a name from this directory to another.
    pub async fn rename(&self, old: &[u8], to: &Self, new: &[u8], how: Rename) -> Result<(), Errno> {
        self.check_directory()?;
        to.check_open_to_changes()?;
        let (from, to, table, old, new) = (self.ino, to.ino, self.volume, old.to_vec(), new.to_vec());
        let work = move |volume: &mut super::ext4::Volume<'_, DataDisk>| {
            let lost = volume.rename((from, &old), (to, &new), how)?;
            lost.and_then(|lost| table.lost_name(lost)).map_or(Ok(()), |ino| volume.reap(ino))
        };
        table.actor.call(work).await
    }

    /// At most `len` bytes from `offset` on; fewer at the end.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let ino = self.ino;
        self.volume.actor.call(move |volume| volume.read(ino, offset, len)).await
    }

    /// Writes; says where the bytes went.
    pub async fn write(&self, place: WriteAt, bytes: Vec<u8>) -> Result<u64, Errno> {
        let ino = self.ino;
        let work = move |volume: &mut super::ext4::Volume<'_, DataDisk>| {
            let offset = match place {
                WriteAt::Offset(offset) => offset,
                WriteAt::End => volume.inspect(ino)?.attributes.size,
            };
            volume.write(ino, offset, &bytes).map(|()| offset)
        };
        self.volume.actor.call(work).await
    }

    /// Cuts or extends the file.
    pub async fn truncate(&self, size: u64) -> Result<(), Errno> {
        self.volume.check_writable()?;
        let ino = self.ino;
        self.volume.actor.call(move |volume| volume.truncate(ino, size)).await
    }

    /// Has blocks for a range, or a hole.
    pub async fn allocate(&self, offset: u64, len: u64, how: Allocate) -> Result<(), Errno> {
        self.volume.check_writable()?;
        let ino = self.ino;
        let work = move |volume: &mut super::ext4::Volume<'_, DataDisk>| match how {
            Allocate::Extend => volume.allocate(ino, offset, len, false),
            Allocate::KeepSize => volume.allocate(ino, offset, len, true),
            Allocate::Hole => volume.punch(ino, offset, len),
        };
        self.volume.actor.call(work).await
    }

    /// Changes attributes.
    pub async fn change(&self, change: Change) -> Result<(), Errno> {
        self.volume.check_writable()?;
        let ino = self.ino;
        self.volume.actor.call(move |volume| volume.change(ino, change)).await
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
}
