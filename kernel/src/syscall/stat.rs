//! Calls that look at or change what is known about a file: the stat family, access, permissions, owners, times, sizes.

use alloc::sync::Arc;

use linux_raw_sys::general as flag;
use zerocopy::FromZeros;

use super::abi::{Stat, Statfs, Statx, StatxTime, Timespec};
use super::errno::{Errno, SysResult};
use super::file::{file, has_storage, writable_inode};
use super::path::{find, read_path, start};
use crate::fs::Kind;
use crate::fs::attributes::{Attributes, FileType, Moment};
use crate::fs::disk::{self, Allocate, Inode};
use crate::fs::exclusion::Writing;
use crate::fs::ext4::Change;
use crate::fs::vnode::Vnode;
use crate::fs::walk::{LastLink, walk};
use crate::process::thread::Thread;
use crate::time;

/// Largest file: 2^32 blocks of 4 KiB.
const MAX_SIZE: u64 = 1 << 44;
/// `f_type` of ext4 and of what is made up (statfs(2)).
const EXT4_SUPER_MAGIC: u64 = 0xef53;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

fn to_stat(attributes: &Attributes) -> Stat {
    let time = |moment: Moment| Timespec { tv_sec: moment.seconds(), tv_nsec: moment.subsecond().into() };
    let mut stat = Stat::new_zeroed();
    stat.st_dev = attributes.device;
    stat.st_ino = attributes.inode;
    stat.st_nlink = attributes.links.into();
    stat.st_mode = attributes.mode();
    stat.st_uid = attributes.uid;
    stat.st_gid = attributes.gid;
    stat.st_rdev = attributes.rdev;
    stat.st_size = attributes.size.cast_signed();
    stat.st_blksize = 4096;
    stat.st_blocks = attributes.blocks.cast_signed();
    (stat.st_atim, stat.st_mtim) = (time(attributes.accessed), time(attributes.modified));
    stat.st_ctim = time(attributes.changed);
    stat
}

fn to_statx(attributes: &Attributes) -> Statx {
    let time = |moment: Moment| StatxTime { tv_sec: moment.seconds(), tv_nsec: moment.subsecond(), pad: 0 };
    let mut statx = Statx::new_zeroed();
    statx.stx_mask = flag::STATX_BASIC_STATS;
    statx.stx_blksize = 4096;
    statx.stx_nlink = attributes.links;
    (statx.stx_uid, statx.stx_gid) = (attributes.uid, attributes.gid);
    statx.stx_mode = attributes.mode() as u16;
    statx.stx_ino = attributes.inode;
    statx.stx_size = attributes.size;
    statx.stx_blocks = attributes.blocks;
    (statx.stx_atime, statx.stx_mtime) = (time(attributes.accessed), time(attributes.modified));
    statx.stx_ctime = time(attributes.changed);
    // The classic split of a device number (makedev(3)), as far as ours go.
    (statx.stx_dev_major, statx.stx_dev_minor) = ((attributes.device >> 8) as u32, attributes.device as u32 & 0xff);
    (statx.stx_rdev_major, statx.stx_rdev_minor) = ((attributes.rdev >> 8) as u32, attributes.rdev as u32 & 0xff);
    statx
}

/// The attributes a path-or-descriptor call means: AT_EMPTY_PATH with an empty path is the descriptor itself.
async fn attributes_at(thread: &Thread, directory: u64, path: u64, flags: u64) -> Result<Attributes, Errno> {
    let is_empty_allowed = flags & u64::from(flag::AT_EMPTY_PATH) != 0;
    let path = if path == 0 && is_empty_allowed { alloc::vec::Vec::new() } else { read_path(thread, path).await? };
    if path.is_empty() && is_empty_allowed {
        if directory as u32 as i32 == flag::AT_FDCWD {
            let cwd = thread.process.files.lock().context.cwd.clone();
            return cwd.attributes(&thread.process).await;
        }
        return file(thread, directory)?.attributes(&thread.process).await;
    }
    let keep = flags & u64::from(flag::AT_SYMLINK_NOFOLLOW) != 0;
    let last = if keep { LastLink::Keep } else { LastLink::Follow };
    let walked = walk(&thread.process, start(thread, directory, &path)?, &path, last).await?;
    walked.existing()?.attributes(&thread.process).await
}

/// stat(2), lstat(2), newfstatat(2).
pub(super) async fn newfstatat(thread: &Thread, [directory, path, out, flags]: [u64; 4]) -> SysResult {
    let stat = to_stat(&attributes_at(thread, directory, path, flags).await?);
    thread.process.write_object(out, &stat).await?;
    Ok(0)
}

/// fstat(2).
pub(super) async fn fstat(thread: &Thread, fd: u64, out: u64) -> SysResult {
    let stat = to_stat(&file(thread, fd)?.attributes(&thread.process).await?);
    thread.process.write_object(out, &stat).await?;
    Ok(0)
}

/// statx(2).
pub(super) async fn statx(thread: &Thread, [directory, path, flags, _mask, out]: [u64; 5]) -> SysResult {
    let statx = to_statx(&attributes_at(thread, directory, path, flags).await?);
    thread.process.write_object(out, &statx).await?;
    Ok(0)
}

/// access(2), faccessat(2): the superuser may do everything but write where nothing can be written, and execute what nobody may.
pub(super) async fn faccessat(thread: &Thread, directory: u64, path: u64, mode: u64) -> SysResult {
    let node = find(thread, directory, path, LastLink::Follow).await?;
    let attributes = node.attributes(&thread.process).await?;
    if mode & u64::from(flag::W_OK) != 0 {
        match &node {
            Vnode::Disk(inode) => inode.volume().check_writable()?,
            _ if attributes.kind == FileType::Directory => return Err(Errno::EROFS),
            _ => {}
        }
    }
    let is_executable = attributes.kind == FileType::Directory || attributes.permissions & 0o111 != 0;
    if mode & u64::from(flag::X_OK) != 0 && !is_executable {
        return Err(Errno::EACCES);
    }
    Ok(0)
}

async fn change(node: &Vnode, change: Change) -> SysResult {
    node.on_disk()?.change(change).await.map(|()| 0)
}

fn node_of(thread: &Thread, fd: u64) -> Result<Vnode, Errno> {
    file(thread, fd)?.node.clone().ok_or(Errno::EINVAL)
}

fn permissions(mode: u64) -> Change {
    Change { permissions: Some(mode as u16 & 0o7777), ..Change::default() }
}

/// chmod(2), fchmodat(2).
pub(super) async fn fchmodat(thread: &Thread, directory: u64, path: u64, mode: u64) -> SysResult {
    change(&find(thread, directory, path, LastLink::Follow).await?, permissions(mode)).await
}

/// fchmod(2).
pub(super) async fn fchmod(thread: &Thread, fd: u64, mode: u64) -> SysResult {
    change(&node_of(thread, fd)?, permissions(mode)).await
}

async fn change_owner(thread: &Thread, node: &Vnode, uid: u64, gid: u64) -> SysResult {
    let before = node.attributes(&thread.process).await?;
    let chosen = |id: u64, before: u32| if id as u32 == u32::MAX { before } else { id as u32 };
    let owner = Some((chosen(uid, before.uid), chosen(gid, before.gid)));
    change(node, Change { owner, ..Change::default() }).await
}

/// chown(2), lchown(2), fchownat(2).
pub(super) async fn fchownat(thread: &Thread, [directory, path, uid, gid, flags]: [u64; 5]) -> SysResult {
    let keep = flags & u64::from(flag::AT_SYMLINK_NOFOLLOW) != 0;
    let last = if keep { LastLink::Keep } else { LastLink::Follow };
    change_owner(thread, &find(thread, directory, path, last).await?, uid, gid).await
}

/// fchown(2).
pub(super) async fn fchown(thread: &Thread, fd: u64, uid: u64, gid: u64) -> SysResult {
    change_owner(thread, &node_of(thread, fd)?, uid, gid).await
}

/// utimensat(2); a null path means the descriptor.
pub(super) async fn utimensat(thread: &Thread, [directory, path, times, flags]: [u64; 4]) -> SysResult {
    let times: Option<[Timespec; 2]> = match times {
        0 => None,
        at => {
            let first = thread.process.read_object(at).await?;
            Some([first, thread.process.read_object(at + size_of::<Timespec>() as u64).await?])
        }
    };
    let now = Moment { ns: time::wall_clock_ns().cast_signed() };
    let (accessed, modified) = match times {
        None => (Some(now), Some(now)),
        Some([accessed, modified]) => (chosen_time(accessed, now)?, chosen_time(modified, now)?),
    };
    let keep = flags & u64::from(flag::AT_SYMLINK_NOFOLLOW) != 0;
    let node = match path {
        0 => node_of(thread, directory)?,
        path => find(thread, directory, path, if keep { LastLink::Keep } else { LastLink::Follow }).await?,
    };
    if accessed.is_none() && modified.is_none() {
        return Ok(0);
    }
    change(&node, Change { accessed, modified, ..Change::default() }).await
}

fn chosen_time(time: Timespec, now: Moment) -> Result<Option<Moment>, Errno> {
    match time.tv_nsec {
        nsec if nsec == i64::from(flag::UTIME_NOW) => Ok(Some(now)),
        nsec if nsec == i64::from(flag::UTIME_OMIT) => Ok(None),
        nsec if (0..1_000_000_000).contains(&nsec) => {
            Ok(Some(Moment { ns: time.tv_sec.saturating_mul(1_000_000_000).saturating_add(nsec) }))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn checked_size(size: u64) -> Result<u64, Errno> {
    match size {
        size if size.cast_signed() < 0 => Err(Errno::EINVAL),
        size if size > MAX_SIZE => Err(Errno::EFBIG),
        size => Ok(size),
    }
}

/// truncate(2).
pub(super) async fn truncate(thread: &Thread, path: u64, size: u64) -> SysResult {
    let size = checked_size(size)?;
    let node = find(thread, flag::AT_FDCWD as u64, path, LastLink::Follow).await?;
    match node.kind(&thread.process)? {
        FileType::Directory => Err(Errno::EISDIR),
        FileType::Regular => {
            let inode = node.on_disk()?;
            let _writing = Writing::begin(inode)?;
            inode.truncate(size, thread.process.space()).await.map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// ftruncate(2).
pub(super) async fn ftruncate(thread: &Thread, fd: u64, size: u64) -> SysResult {
    let size = checked_size(size)?;
    if let Kind::Memory(memory) = &file(thread, fd)?.kind {
        return memory.resize(thread.process.space(), size).await.map(|()| 0);
    }
    writable_inode(thread, fd)?.truncate(size, thread.process.space()).await.map(|()| 0)
}

/// fallocate(2): allocating, punching holes, and zeroes in place of what is there.
pub(super) async fn fallocate(thread: &Thread, fd: u64, mode: u64, offset: u64, len: u64) -> SysResult {
    const HOLE: u32 = flag::FALLOC_FL_PUNCH_HOLE | flag::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP_SIZE: u32 = flag::FALLOC_FL_ZERO_RANGE | flag::FALLOC_FL_KEEP_SIZE;
    let how = match mode as u32 {
        0 => Allocate::Extend,
        flag::FALLOC_FL_KEEP_SIZE => Allocate::KeepSize,
        HOLE => Allocate::Hole,
        flag::FALLOC_FL_ZERO_RANGE => Allocate::Zero,
        ZERO_KEEP_SIZE => Allocate::ZeroKeepSize,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if offset.cast_signed() < 0 || len.cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    let end = checked_size(offset.checked_add(len).ok_or(Errno::EFBIG)?)?;
    if let Kind::Memory(memory) = &file(thread, fd)?.kind {
        return match how {
            // There is nothing to reserve: what memory there is shows when it is touched.
            Allocate::KeepSize => Ok(0),
            Allocate::Extend if end <= memory.size() => Ok(0),
            Allocate::Extend => memory.resize(thread.process.space(), end).await.map(|()| 0),
            Allocate::Hole => memory.punch(thread.process.space(), offset, len).await.map(|()| 0),
            Allocate::Zero | Allocate::ZeroKeepSize => Err(Errno::EOPNOTSUPP),
        };
    }
    let inode: Arc<Inode> = writable_inode(thread, fd).map_err(|errno| match errno {
        Errno::EINVAL => Errno::EBADF,
        errno => errno,
    })?;
    inode.allocate(offset, len, how, thread.process.space()).await.map(|()| 0)
}

/// fsync(2), fdatasync(2).
pub(super) async fn fsync(thread: &Thread, fd: u64) -> SysResult {
    let file = file(thread, fd)?;
    if let Kind::Memory(_) = file.kind {
        return Ok(0);
    }
    let inode = file.node.as_ref().and_then(|node| node.on_disk().ok()).filter(|inode| has_storage(inode));
    inode.ok_or(Errno::EINVAL)?.sync().await.map(|()| 0)
}

/// sync(2), syncfs(2).
pub(super) async fn sync() -> SysResult {
    match disk::volume() {
        Some(volume) => volume.sync().await.map(|()| 0),
        None => Ok(0),
    }
}

/// statfs(2).
pub(super) async fn statfs(thread: &Thread, path: u64, out: u64) -> SysResult {
    let node = find(thread, flag::AT_FDCWD as u64, path, LastLink::Follow).await?;
    write_statfs(thread, Some(&node), out).await
}

/// fstatfs(2).
pub(super) async fn fstatfs(thread: &Thread, fd: u64, out: u64) -> SysResult {
    let file = file(thread, fd)?;
    write_statfs(thread, file.node.as_ref(), out).await
}

async fn write_statfs(thread: &Thread, node: Option<&Vnode>, out: u64) -> SysResult {
    let mut statfs = Statfs::new_zeroed();
    (statfs.f_bsize, statfs.f_frsize, statfs.f_namelen) = (4096, 4096, 255);
    statfs.f_type = RAMFS_MAGIC;
    if let Some(Vnode::Disk(inode)) = node {
        let facts = inode.volume().facts().await;
        statfs.f_type = EXT4_SUPER_MAGIC;
        (statfs.f_blocks, statfs.f_bfree, statfs.f_bavail) = (facts.blocks, facts.free_blocks, facts.free_blocks);
        (statfs.f_files, statfs.f_ffree) = (facts.inodes, facts.free_inodes);
    }
    thread.process.write_object(out, &statfs).await?;
    Ok(0)
}
