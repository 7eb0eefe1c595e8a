//! The operations on the mounted ext4 file system, in our words.
//!
//! Owns the translation between the library (`rsext4`) and the kernel: inode numbers, attributes, errno. Every method
//! runs on the actor's fiber and may leave its stack to wait for the disk. Does not own paths (`walk.rs`), open files
//! (`disk.rs`) or the cache of blocks (`blocks.rs`).

use alloc::vec;
use alloc::vec::Vec;

use rsext4::{
    Clock, DirectoryCursor, DirectoryEntryType, Ext4, Ext4Error, Ext4ErrorKind, Ext4Result, Ext4Timestamp,
    FileExtentState, FileExtentTarget, FileName, FilePermissions, InodeFlags, InodeInfo, InodeMetadataUpdate,
    InodeNumber, MountOptions, MountServices, MountedServices, MutationContext, NoopObserver, PreallocationOptions,
    RenameOptions,
};

use super::actor::{Settings, buffer};
use super::attributes::{Attributes, DATA_DEVICE, FileType, Moment};
use super::blocks::{BLOCK, BlockFailed, Blocks, Device, Payload, Writable};
use super::extents::{Extent, Extents, FilePage, Run};
use super::recovery_mark;
use crate::arch::fiber::Suspender;
use crate::syscall::errno::Errno;

/// Blocks of zeroes written at once.
const ZEROES: usize = 4;
/// Changes made to the file system in one transaction, at most: the library keeps the blocks of the running one in memory, and makes a
/// copy of them all before each change, to be able to take it back.
pub const TRANSACTION: u32 = 32;

/// The number of an inode on the data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ino(pub u32);

impl Ino {
    pub(super) fn raw(self) -> Result<InodeNumber, Errno> {
        InodeNumber::new(self.0).map_err(errno)
    }
}

/// An inode and what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its number.
    pub ino: Ino,
    /// What `stat` shows.
    pub attributes: Attributes,
}

/// A name in a directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it names.
    pub ino: Ino,
    /// Of this type.
    pub kind: FileType,
    /// The name.
    pub name: Vec<u8>,
    /// Where the entry after it is.
    pub next: u64,
}

/// An inode that lost a name.
#[derive(Debug, Clone, Copy)]
pub struct Unlinked {
    /// Which.
    pub ino: Ino,
    /// Names it has left; with none, it is to be reaped once nobody has it open.
    pub links: u16,
}

/// What a new inode is made with.
#[derive(Debug, Clone, Copy)]
pub struct Maker {
    /// The permissions asked for.
    pub permissions: u16,
    /// Those taken off.
    pub umask: u16,
}

/// What to change about an inode; times are set or left.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Change {
    pub permissions: Option<u16>,
    pub owner: Option<(u32, u32)>,
    pub accessed: Option<Moment>,
    pub modified: Option<Moment>,
}

/// How a rename treats what has the new name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of renameat2(2)")]
pub enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

/// How much room a volume has.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct VolumeFacts {
    pub root: Ino,
    pub blocks: u64,
    pub free_blocks: u64,
    pub inodes: u64,
    pub free_inodes: u64,
    pub writable: Writable,
}

/// The library cannot mount a data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its file system cannot be mounted: {0}")]
pub struct MountError(#[from] Ext4Error);

struct WallClock(fn() -> u64);

impl Clock for WallClock {
    fn now(&self) -> Ext4Result<Ext4Timestamp> {
        Ok(timestamp(Moment { ns: (self.0)().cast_signed() }))
    }
}

fn timestamp(moment: Moment) -> Ext4Timestamp {
    Ext4Timestamp::new(moment.seconds(), moment.subsecond())
}

/// The library's mounted file system over our device.
pub(super) type Library<'a, B> = Ext4<Device<'a, B>, MountedServices<(), NoopObserver>>;

/// The mounted file system.
pub struct Volume<'a, B: Blocks> {
    ext4: Library<'a, B>,
    payload: &'a Payload,
    /// Changes made since the last commit.
    changes: u32,
    /// What a new block is written with. Made once: where it is needed, there may be no four frames in a row.
    zeroes: Vec<u8>,
    /// The disk itself, and how to wait for it.
    disk: (&'a B, &'a Suspender<'a>),
}

impl<'a, B: Blocks> Volume<'a, B> {
    /// Mounts a file system whose blocks are of [`BLOCK`] bytes; a journal that was left behind is replayed.
    pub fn mount(
        blocks: &'a B,
        settings: Settings,
        payload: &'a Payload,
        suspender: &'a Suspender<'a>,
    ) -> Result<(Self, VolumeFacts), MountError> {
        let device = Device::new(blocks, suspender, payload, settings.cached_blocks);
        let services = MountServices::new(WallClock(settings.clock), (), NoopObserver);
        let options = match blocks.writable() {
            Writable::Yes => MountOptions::read_write(),
            Writable::No => MountOptions::read_only_no_journal_replay(),
        };
        let zeroes = vec![0; ZEROES * BLOCK];
        let ext4 = Ext4::mount(device, services, options)?;
        let volume = Self { ext4, payload, changes: 0, zeroes, disk: (blocks, suspender) };
        debug_assert_eq!(volume.ext4.statfs().block_size, BLOCK as u64);
        let facts = volume.facts();
        Ok((volume, facts))
    }

    /// The library, to change something on the disk.
    pub(super) fn changing(&mut self) -> &mut Library<'a, B> {
        self.changes += 1;
        &mut self.ext4
    }

    /// The library, to look at something.
    pub(super) fn library(&mut self) -> &mut Library<'a, B> {
        &mut self.ext4
    }

    /// How much room there is.
    pub fn facts(&self) -> VolumeFacts {
        let stats = self.ext4.statfs();
        VolumeFacts {
            root: Ino(self.ext4.root_inode().raw()),
            blocks: stats.total_blocks,
            free_blocks: stats.free_blocks,
            inodes: stats.total_inodes.into(),
            free_inodes: stats.free_inodes.into(),
            writable: if self.ext4.options().readonly { Writable::No } else { Writable::Yes },
        }
    }

    /// What has this name in a directory.
    pub fn look_up(&mut self, directory: Ino, name: &[u8]) -> Result<Found, Errno> {
        let found = self.ext4.lookup_child(directory.raw()?, file_name(name)?).map_err(errno)?;
        found.map(|info| found_of(&info)).ok_or(Errno::ENOENT)
    }

    /// What `stat` shows of an inode.
    pub fn inspect(&mut self, ino: Ino) -> Result<Found, Errno> {
        let info = self.ext4.inode(ino.raw()?).map_err(errno)?;
        Ok(found_of(&info))
    }

    /// Makes an empty file.
    pub fn create(&mut self, directory: Ino, name: &[u8], maker: Maker) -> Result<Found, Errno> {
        let (context, permissions) = mutation(maker)?;
        let info = self.changing().create_regular_file(context, directory.raw()?, file_name(name)?, permissions);
        info.map(|info| found_of(&info)).map_err(errno)
    }

    /// Makes an empty directory.
    pub fn make_directory(&mut self, parent: Ino, name: &[u8], maker: Maker) -> Result<Found, Errno> {
        let (context, permissions) = mutation(maker)?;
        let info = self.changing().create_directory(context, parent.raw()?, file_name(name)?, permissions);
        info.map(|info| found_of(&info)).map_err(errno)
    }

    /// Makes a symbolic link.
    pub fn make_link(&mut self, directory: Ino, name: &[u8], target: &[u8]) -> Result<Found, Errno> {
        let (context, _) = mutation(Maker { permissions: 0o777, umask: 0 })?;
        let info = self.changing().create_symlink(context, directory.raw()?, file_name(name)?, target);
        info.map(|info| found_of(&info)).map_err(errno)
    }

    /// Gives an inode another name.
    pub fn hard_link(&mut self, ino: Ino, directory: Ino, name: &[u8]) -> Result<(), Errno> {
        self.changing().hard_link(ino.raw()?, directory.raw()?, file_name(name)?).map(drop).map_err(errno)
    }

    /// Takes a name from a file.
    pub fn unlink(&mut self, directory: Ino, name: &[u8]) -> Result<Unlinked, Errno> {
        let outcome = self.changing().unlink(directory.raw()?, file_name(name)?).map_err(errno)?;
        Ok(Unlinked { ino: Ino(outcome.inode.raw()), links: outcome.remaining_links })
    }

    /// Takes an empty directory away.
    pub fn remove_directory(&mut self, parent: Ino, name: &[u8]) -> Result<Unlinked, Errno> {
        let outcome = self.changing().remove_empty_directory(parent.raw()?, file_name(name)?).map_err(errno)?;
        Ok(Unlinked { ino: Ino(outcome.inode.raw()), links: outcome.remaining_links })
    }

    /// Moves a name; says what lost its name to it.
    pub fn rename(
        &mut self,
        (from, old): (Ino, &[u8]),
        (to, new): (Ino, &[u8]),
        how: Rename,
    ) -> Result<Option<Unlinked>, Errno> {
        let options = match how {
            Rename::Replace => RenameOptions::REPLACE,
            Rename::NoReplace => RenameOptions::NO_REPLACE,
            Rename::Exchange => RenameOptions::EXCHANGE,
        };
        let outcome = self.changing().rename(from.raw()?, file_name(old)?, to.raw()?, file_name(new)?, options);
        let replaced = outcome.map_err(errno)?.replaced;
        Ok(replaced.map(|lost| Unlinked { ino: Ino(lost.inode.raw()), links: lost.remaining_links }))
    }

    /// Gives back an inode without names, which nobody has open any more.
    pub fn reap(&mut self, ino: Ino) -> Result<(), Errno> {
        let Attributes { kind, size, blocks, .. } = self.inspect(ino)?.attributes;
        if kind == FileType::Regular && blocks > 0 {
            // Of what has an extent the library would only free what is written (rsext4 0.9.2, `inode_owned_blocks`): blocks that
            // were reserved would be lost. Truncation takes all, but finds nothing to do where the size stays the same.
            let number = ino.raw()?;
            if size == 0 {
                self.changing().truncate_inode(number, BLOCK as u64).map_err(errno)?;
            }
            self.changing().truncate_inode(number, 0).map_err(errno)?;
        }
        self.changing().reap_unlinked_inode(ino.raw()?).map_err(errno)
    }

    /// The target of a symbolic link.
    pub fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>, Errno> {
        let found = self.inspect(ino)?;
        if found.attributes.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        let mut target = buffer((found.attributes.size as usize).min(BLOCK))?;
        let count = self.ext4.read_inode(ino.raw()?, 0, &mut target).map_err(errno)?;
        target.truncate(count);
        Ok(target)
    }

    /// Has blocks allocated for a range.
    pub fn allocate(&mut self, ino: Ino, offset: u64, len: u64, keep_size: bool) -> Result<(), Errno> {
        self.changing().preallocate_inode(ino.raw()?, offset, len, PreallocationOptions { keep_size }).map_err(errno)
    }

    /// Where the pages of a range are, as far as they have initialised blocks. What lies behind the file's end has none.
    pub fn extents(&mut self, ino: Ino, page: FilePage, pages: u64) -> Result<Vec<Extent>, Errno> {
        let (start, len) = (page.0 * BLOCK as u64, pages.saturating_mul(BLOCK as u64));
        let map = self.ext4.inode_extents(ino.raw()?, start, len, FileExtentTarget::Data, usize::MAX).map_err(errno)?;
        let in_blocks = |bytes: u64| bytes / BLOCK as u64;
        let initialised = map.extents.into_iter().filter(|extent| extent.state == FileExtentState::Initialized);
        let extent = |extent: rsext4::FileExtent| Extent {
            page: FilePage(in_blocks(extent.logical_start)),
            block: in_blocks(extent.physical_start),
            pages: extent.length.div_ceil(BLOCK as u64),
        };
        Ok(initialised.map(extent).collect())
    }

    /// Gives every page of a range an initialised block, zeroed if it is new, so that data can be written there without asking again.
    /// A file that ends before, ends behind the range now; the true size follows by [`Self::settle`]. Says where the pages are.
    pub fn prepare(&mut self, ino: Ino, page: FilePage, pages: u64) -> Result<Vec<Extent>, Errno> {
        let mut known = Extents::default();
        self.extents(ino, page, pages)?.into_iter().for_each(|extent| known.add(extent));
        let (mut at, end) = (page.0, page.0 + pages);
        while at < end {
            let run = known.run(FilePage(at), (end - at).min(ZEROES as u64));
            if let Run::Hole { pages } = run {
                self.write_zeroes(ino, FilePage(at), pages as usize)?;
            }
            at += run.pages();
        }
        self.extents(ino, page, pages)
    }

    /// Writes at most [`ZEROES`] blocks of zeroes.
    pub(super) fn write_zeroes(&mut self, ino: Ino, page: FilePage, pages: usize) -> Result<(), Errno> {
        let number = ino.raw()?;
        self.changes += 1;
        let Self { ext4, payload, zeroes, .. } = self;
        payload.passing(|| ext4.write_inode(number, page.0 * BLOCK as u64, &zeroes[..pages * BLOCK])).map_err(errno)
    }

    /// Sets the file's size, as far as it is another one, and when it was modified. All in one go, however many blocks that takes away:
    /// after a power cut the file has its old end and everything up to it, or the new one (the library sees to that).
    pub fn settle(&mut self, ino: Ino, size: u64, modified: Moment) -> Result<(), Errno> {
        let before = self.inspect(ino)?.attributes.size;
        if before != size {
            self.resize(ino, before, size)?;
        }
        self.change(ino, Change { modified: Some(modified), ..Change::default() })
    }

    /// The block that the end lies in is left as it is: its page is the memory manager's.
    fn resize(&mut self, ino: Ino, before: u64, size: u64) -> Result<(), Errno> {
        let last = [size, before].map(|end| FilePage(end / BLOCK as u64));
        let mut tails = [None; 2];
        for (tail, page) in tails.iter_mut().zip(last) {
            let mut known = Extents::default();
            self.extents(ino, page, 1)?.into_iter().for_each(|extent| known.add(extent));
            if let Run::Blocks { first, .. } = known.run(page, 1) {
                *tail = Some(first);
            }
        }
        let (number, payload) = (ino.raw()?, self.payload);
        let ext4 = self.changing();
        payload.withholding(tails, || ext4.truncate_inode(number, size)).map_err(errno)
    }

    /// Changes attributes.
    pub fn change(&mut self, ino: Ino, change: Change) -> Result<(), Errno> {
        let permissions = change.permissions.map(FilePermissions::new).transpose().map_err(errno)?;
        let update = InodeMetadataUpdate {
            permissions,
            owner: change.owner,
            atime: change.accessed.map(timestamp),
            mtime: change.modified.map(timestamp),
            ..InodeMetadataUpdate::default()
        };
        self.changing().update_inode_metadata(ino.raw()?, update).map(drop).map_err(errno)
    }

    /// At most `most` entries of a directory from a position on: 0, or what the entry before said.
    pub fn entries(&mut self, directory: Ino, from: u64, most: usize) -> Result<Vec<Entry>, Errno> {
        let number = directory.raw()?;
        let indexed = self.ext4.inode(number).map_err(errno)?.flags.contains(InodeFlags::DIRECTORY_INDEX);
        let found = self.ext4.read_directory(number, cursor(from, indexed), most).map_err(errno)?;
        let entry = |entry: rsext4::DirectoryEntry| Entry {
            ino: Ino(entry.inode.raw()),
            kind: file_type(entry.file_type),
            name: entry.name,
            next: position(entry.next_cursor),
        };
        Ok(found.into_iter().map(entry).collect())
    }

    /// Makes everything durable.
    pub fn sync(&mut self) -> Result<(), Errno> {
        self.with_room_in_journal(|ext4| ext4.sync())?;
        self.changes = 0;
        Ok(())
    }

    /// Commits if there have been many changes since the last time.
    pub fn keep_transaction_small(&mut self) {
        // An error comes again, and to somebody who asked, at the next sync.
        if self.changes >= TRANSACTION && self.sync().is_err() {
            self.changes = 0;
        }
    }

    /// Makes everything durable and marks the file system clean.
    pub fn unmount(&mut self) -> Result<(), Errno> {
        self.end()?;
        self.clear_mark().map_err(|BlockFailed| Errno::EIO)
    }

    /// The library's unmount; on an error it is still mounted.
    pub(super) fn end(&mut self) -> Result<(), Errno> {
        self.with_room_in_journal(|ext4| ext4.unmount())
    }

    /// Another instance of the library over the same disk.
    pub(super) fn mount_again(&self, settings: Settings) -> Result<(Self, VolumeFacts), MountError> {
        let (blocks, suspender) = self.disk;
        Self::mount(blocks, settings, self.payload, suspender)
    }

    /// Takes the mark for recovery away, after the library's unmount.
    pub(super) fn clear_mark(&self) -> Result<(), BlockFailed> {
        let (blocks, suspender) = self.disk;
        if self.ext4.options().readonly { Ok(()) } else { suspender.block_on(recovery_mark::clear(blocks)) }
    }

    /// Does something that the library refuses as busy, with nothing changed, when the journal is full.
    ///
    /// It makes room before an operation, but not before a lone edit that begins a transaction, such as the superblock's at a sync. So an
    /// operation begins the transaction, and the edit joins it.
    fn with_room_in_journal(&mut self, work: impl Fn(&mut Library<'a, B>) -> Ext4Result<()>) -> Result<(), Errno> {
        match work(&mut self.ext4) {
            Err(error) if error.kind() == Ext4ErrorKind::Busy => {}
            done => return done.map_err(errno),
        }
        self.begin_transaction()?;
        work(&mut self.ext4).map_err(errno)
    }

    /// Makes a file and takes it away again.
    fn begin_transaction(&mut self) -> Result<(), Errno> {
        const NAME: &[u8] = b".ebb-transaction";
        let root = Ino(self.ext4.root_inode().raw());
        self.create(root, NAME, Maker { permissions: 0, umask: 0 })?;
        let lost = self.unlink(root, NAME)?;
        self.reap(lost.ino)
    }
}

/// The position behind the last entry: the largest that `d_off` can say.
const END: u64 = i64::MAX as u64;

/// A directory's position as a number: an offset, or, in a hashed directory, the hash. Of names with the very same hash (one pair in
/// 2^63), only the first would be found again.
fn position(cursor: DirectoryCursor) -> u64 {
    match cursor {
        DirectoryCursor::Start => 0,
        DirectoryCursor::Linear { offset } => offset,
        DirectoryCursor::HTree { major, minor, .. } => u64::from(major >> 1) << 32 | u64::from(minor),
        DirectoryCursor::End => END,
    }
}

fn cursor(position: u64, indexed: bool) -> DirectoryCursor {
    match position {
        0 => DirectoryCursor::Start,
        END => DirectoryCursor::End,
        at if indexed => DirectoryCursor::HTree { major: ((at >> 32) as u32) << 1, minor: at as u32, collision: 0 },
        offset => DirectoryCursor::Linear { offset },
    }
}

fn file_name(name: &[u8]) -> Result<FileName<'_>, Errno> {
    FileName::new(name).map_err(|_| if name.len() > rsext4::DIRNAME_LEN { Errno::ENAMETOOLONG } else { Errno::EINVAL })
}

/// Everything belongs to the superuser: there are no other users yet.
fn mutation(maker: Maker) -> Result<(MutationContext, FilePermissions), Errno> {
    let permissions = FilePermissions::new(maker.permissions & 0o7777).map_err(errno)?;
    Ok((MutationContext::new(0, 0, 0, maker.umask), permissions))
}

fn found_of(info: &InodeInfo) -> Found {
    let moment = |seconds: u32| Moment { ns: i64::from(seconds) * 1_000_000_000 };
    let attributes = Attributes {
        kind: file_type(info.file_type()),
        permissions: info.mode & 0o7777,
        inode: info.number.as_u64(),
        device: DATA_DEVICE,
        links: info.links.into(),
        uid: info.uid,
        gid: info.gid,
        size: info.size,
        blocks: info.blocks,
        rdev: 0,
        accessed: moment(info.atime),
        modified: moment(info.mtime),
        changed: moment(info.ctime),
    };
    Found { ino: Ino(info.number.raw()), attributes }
}

fn file_type(kind: DirectoryEntryType) -> FileType {
    match kind {
        DirectoryEntryType::RegularFile | DirectoryEntryType::Unknown => FileType::Regular,
        DirectoryEntryType::Directory => FileType::Directory,
        DirectoryEntryType::CharacterDevice => FileType::Character,
        DirectoryEntryType::BlockDevice => FileType::Block,
        DirectoryEntryType::Fifo => FileType::Fifo,
        DirectoryEntryType::Socket => FileType::Socket,
        DirectoryEntryType::Symlink => FileType::Symlink,
    }
}

/// The library's reasons as errno(3).
pub(super) fn errno(error: Ext4Error) -> Errno {
    use Ext4ErrorKind as Kind;
    let errno = match error.kind() {
        Kind::NotFound => Errno::ENOENT,
        Kind::AlreadyExists => Errno::EEXIST,
        Kind::NotDirectory => Errno::ENOTDIR,
        Kind::IsDirectory => Errno::EISDIR,
        Kind::NotEmpty => Errno::ENOTEMPTY,
        Kind::NoSpace | Kind::QuotaExceeded => Errno::ENOSPC,
        Kind::NoMemory => Errno::ENOMEM,
        Kind::ReadOnly => Errno::EROFS,
        Kind::TooManyLinks => Errno::EMLINK,
        Kind::PermissionDenied => Errno::EPERM,
        Kind::Busy => Errno::EBUSY,
        Kind::BadFileDescriptor => Errno::EBADF,
        Kind::InvalidInput | Kind::Overflow => Errno::EINVAL,
        Kind::FileTooLarge => Errno::EFBIG,
        Kind::Unsupported | Kind::UnsupportedFeature | Kind::UnsupportedCapability => Errno::EOPNOTSUPP,
        _ => Errno::EIO,
    };
    if errno == Errno::EIO || errno == Errno::EBUSY {
        log::warn!("data disk: {error}");
    }
    errno
}
