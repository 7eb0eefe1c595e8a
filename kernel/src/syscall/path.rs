//! Calls on paths: opening, making, removing, renaming. The walk is `fs/walk.rs`'s matter.
//!
//! Everything here may ask the disk; `dispatch` boxes these futures as a whole, so that a thread's own stays small.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as flag;

use super::errno::{Errno, SysResult};
use super::file::file;
use crate::fs::attributes::FileType;
use crate::fs::disk::Unlinkable;
use crate::fs::exclusion::Writing;
use crate::fs::ext4::{Maker, Rename};
use crate::fs::names::{Name, Place};
use crate::fs::vnode::{Access, Synthetic, Vnode};
use crate::fs::walk::{LastLink, Walked, path_of, walk};
use crate::fs::{Kind, OnExec, OpenFile};
use crate::process::process::Process;
use crate::process::thread::Thread;

/// Longest path, its zero byte included.
const PATH_MAX: usize = 4096;
/// Enough for nearly every path.
const SHORT_PATH: usize = 256;

/// A path copied in from the program.
pub(super) async fn read_path(thread: &Thread, at: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = crate::fs::actor::buffer(SHORT_PATH)?;
    let mut len = thread.process.read_string(at, &mut bytes).await?;
    if len == SHORT_PATH {
        bytes = crate::fs::actor::buffer(PATH_MAX)?;
        len = thread.process.read_string(at, &mut bytes).await?;
    }
    if len == PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Where a path that does not begin with a slash begins.
pub(super) fn start(thread: &Thread, directory: u64, path: &[u8]) -> Result<Vnode, Errno> {
    if path.starts_with(b"/") {
        return Ok(Vnode::root());
    }
    if directory as u32 as i32 == flag::AT_FDCWD {
        return Ok(thread.process.files.lock().context.cwd.clone());
    }
    let file = file(thread, directory)?;
    let node = file.node.clone().ok_or(Errno::ENOTDIR)?;
    node.require_directory(&thread.process)?;
    Ok(node)
}

pub(super) async fn walk_from(thread: &Thread, directory: u64, path: u64, last: LastLink) -> Result<Walked, Errno> {
    let path = read_path(thread, path).await?;
    let start = start(thread, directory, &path)?;
    walk(&thread.process, start, &path, last).await
}

/// What an existing path names.
pub(super) async fn find(thread: &Thread, directory: u64, path: u64, last: LastLink) -> Result<Vnode, Errno> {
    walk_from(thread, directory, path, last).await?.existing()
}

fn maker(thread: &Thread, mode: u64) -> Maker {
    Maker { permissions: mode as u16 & 0o7777, umask: thread.process.files.lock().context.umask }
}

/// open(2), openat(2), creat(2).
pub(super) async fn openat(thread: &Thread, directory: u64, path: u64, flags: u64, mode: u64) -> SysResult {
    let flags = flags as u32;
    let has = |wanted: u32| flags & wanted == wanted;
    if has(flag::O_TMPFILE) {
        return Err(Errno::EOPNOTSUPP);
    }
    let keep_link = has(flag::O_NOFOLLOW) || has(flag::O_CREAT | flag::O_EXCL);
    let last = if keep_link { LastLink::Keep } else { LastLink::Follow };
    let walked = walk_from(thread, directory, path, last).await?;
    let node = match &walked.node {
        Some(_) if has(flag::O_CREAT | flag::O_EXCL) => return Err(Errno::EEXIST),
        Some(node) => node.clone(),
        None if !has(flag::O_CREAT) || has(flag::O_PATH) => return Err(Errno::ENOENT),
        None => create(thread, &walked, mode).await?,
    };
    let file = open(&thread.process, node, flags, walked.node.is_some()).await?;
    let name = file.node.as_ref().and_then(|node| name_of(node, walked));
    let file = file.found(name);
    let on_exec = if has(flag::O_CLOEXEC) { OnExec::Close } else { OnExec::Keep };
    thread.process.files.lock().insert(Arc::new(file), 0, on_exec)
}

/// By which name something was found, if it is on the data disk.
fn name_of(node: &Vnode, walked: Walked) -> Option<Arc<Name>> {
    let Walked { directory, name, by, .. } = walked;
    match (by, node, directory) {
        (Some(file), ..) => file.name.clone(),
        (None, Vnode::Disk(inode), Vnode::Disk(directory)) if !name.is_empty() => {
            Some(inode.names.found(Place { directory: directory.ino(), name }))
        }
        _ => None,
    }
}

async fn create(thread: &Thread, walked: &Walked, mode: u64) -> Result<Vnode, Errno> {
    if walked.slash {
        return Err(Errno::EISDIR);
    }
    let directory = walked.directory.on_disk().map_err(|_| Errno::EACCES)?;
    directory.create(&walked.name, maker(thread, mode)).await.map(Vnode::Disk)
}

/// Opens what was found; `existed` says whether it was there before.
async fn open(who: &Process, node: Vnode, flags: u32, existed: bool) -> Result<OpenFile, Errno> {
    let has = |wanted: u32| flags & wanted == wanted;
    let (kind, access) = (node.kind(who)?, Access::of_flags(flags));
    if has(flag::O_DIRECTORY) && kind != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let mut writing = None;
    let opened = match (&node, kind) {
        _ if has(flag::O_PATH) => Kind::Place,
        (_, FileType::Symlink) => return Err(Errno::ELOOP),
        (_, FileType::Directory) if access.write || has(flag::O_CREAT) => return Err(Errno::EISDIR),
        (_, FileType::Directory) => Kind::Place,
        (Vnode::Disk(inode), FileType::Regular) => {
            if access.write {
                inode.volume().check_writable()?;
            }
            let truncates = has(flag::O_TRUNC) && existed;
            let right = if access.write || truncates { Some(Writing::begin(inode)?) } else { None };
            if truncates {
                inode.truncate(0, who.space()).await?;
            }
            writing = right.filter(|_| access.write);
            Kind::Disk(Arc::clone(inode))
        }
        (Vnode::Proc(place), _) => place.open(access, who).await?,
        (Vnode::Sys(place), _) => place.open(access, who).await?,
        (Vnode::Dev(place), _) => place.open(access, who).await?,
        // Named pipes, sockets and device files of the data disk: nobody is behind them.
        _ => return Err(Errno::ENXIO),
    };
    Ok(OpenFile::new(opened, flags).named(node).writing(writing))
}

/// mkdir(2), mkdirat(2).
pub(super) async fn mkdirat(thread: &Thread, directory: u64, path: u64, mode: u64) -> SysResult {
    let walked = walk_from(thread, directory, path, LastLink::Keep).await?;
    if walked.node.is_some() {
        return Err(Errno::EEXIST);
    }
    if let Vnode::Sys(group) = walked.directory {
        return group.make_directory(&walked.name).await.map(|()| 0);
    }
    let parent = walked.directory.on_disk()?;
    parent.make_directory(&walked.name, maker(thread, mode)).await.map(|()| 0)
}

/// mknod(2), mknodat(2): regular files only.
pub(super) async fn mknodat(thread: &Thread, directory: u64, path: u64, mode: u64) -> SysResult {
    let kind = mode as u32 & flag::S_IFMT;
    if kind != flag::S_IFREG && kind != 0 {
        return Err(Errno::EPERM);
    }
    let walked = walk_from(thread, directory, path, LastLink::Keep).await?;
    if walked.node.is_some() {
        return Err(Errno::EEXIST);
    }
    create(thread, &walked, mode).await.map(|_| 0)
}

/// unlink(2), rmdir(2), unlinkat(2).
pub(super) async fn unlinkat(thread: &Thread, directory: u64, path: u64, flags: u64) -> SysResult {
    if flags & !u64::from(flag::AT_REMOVEDIR) != 0 {
        return Err(Errno::EINVAL);
    }
    let bytes = read_path(thread, path).await?;
    let walked = walk(&thread.process, start(thread, directory, &bytes)?, &bytes, LastLink::Keep).await?;
    let what = if flags == 0 { Unlinkable::File } else { Unlinkable::Directory };
    let kind = walked.node.as_ref().ok_or(Errno::ENOENT)?.kind(&thread.process)?;
    if walked.name.is_empty() {
        return Err(unnamed(&bytes, what));
    }
    match (what, kind) {
        (Unlinkable::File, FileType::Directory) => return Err(Errno::EISDIR),
        (Unlinkable::File, _) if walked.slash => return Err(Errno::ENOTDIR),
        (Unlinkable::Directory, kind) if kind != FileType::Directory => return Err(Errno::ENOTDIR),
        _ => {}
    }
    if walked.node.as_ref().is_some_and(|node| node.mount_point().is_some()) {
        return Err(Errno::EBUSY);
    }
    if let (Some(Vnode::Sys(group)), Unlinkable::Directory) = (&walked.node, what) {
        return group.remove_directory().await.map(|()| 0);
    }
    walked.directory.on_disk()?.unlink(&walked.name, what).await.map(|()| 0)
}

/// Why a path without a name of its own cannot be removed (rmdir(2)).
fn unnamed(path: &[u8], what: Unlinkable) -> Errno {
    let last = path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty());
    match (what, last) {
        (Unlinkable::File, _) => Errno::EISDIR,
        (Unlinkable::Directory, Some(b".")) => Errno::EINVAL,
        (Unlinkable::Directory, Some(b"..")) => Errno::ENOTEMPTY,
        (Unlinkable::Directory, _) => Errno::EBUSY,
    }
}

/// rename(2), renameat(2), renameat2(2).
pub(super) async fn renameat(thread: &Thread, [from, old, to, new, flags]: [u64; 5]) -> SysResult {
    let how = match flags as u32 {
        0 => Rename::Replace,
        flag::RENAME_NOREPLACE => Rename::NoReplace,
        flag::RENAME_EXCHANGE => Rename::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    let old = walk_from(thread, from, old, LastLink::Keep).await?;
    let new = walk_from(thread, to, new, LastLink::Keep).await?;
    let moved = old.node.as_ref().ok_or(Errno::ENOENT)?;
    if old.name.is_empty() || new.name.is_empty() {
        return Err(Errno::EBUSY);
    }
    let is_directory = moved.kind(&thread.process)? == FileType::Directory;
    if how == Rename::NoReplace && new.node.is_some() {
        return Err(Errno::EEXIST);
    }
    // Before their kinds are compared, as on Linux: neither may lie inside the other.
    if is_directory && is_inside(&new.directory, moved).await? {
        return Err(Errno::EINVAL);
    }
    if let Some(there) = &new.node
        && is_inside(&old.directory, there).await?
    {
        return Err(if how == Rename::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    if (old.slash || new.slash) && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    if let Some(there) = &new.node {
        match how {
            Rename::NoReplace | Rename::Exchange => {}
            Rename::Replace if there.is_same(moved) => return Ok(0),
            Rename::Replace => match (is_directory, there.kind(&thread.process)? == FileType::Directory) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => {}
            },
        }
    } else if how == Rename::Exchange {
        return Err(Errno::ENOENT);
    }
    let (Vnode::Disk(from), Vnode::Disk(to)) = (&old.directory, &new.directory) else { return Err(Errno::EXDEV) };
    if [&old.node, &new.node].into_iter().flatten().any(|node| node.mount_point().is_some()) {
        return Err(Errno::EBUSY);
    }
    from.rename(&old.name, to, &new.name, how).await.map(|()| 0)
}

/// Whether a directory is `ancestor` or lies below it.
async fn is_inside(directory: &Vnode, ancestor: &Vnode) -> Result<bool, Errno> {
    let mut at = directory.clone();
    loop {
        if at.is_same(ancestor) {
            return Ok(true);
        }
        let parent = at.parent().await?;
        if parent.is_same(&at) {
            return Ok(false);
        }
        at = parent;
    }
}

/// link(2), linkat(2).
pub(super) async fn linkat(thread: &Thread, [from, old, to, new, flags]: [u64; 5]) -> SysResult {
    let last = if flags & u64::from(flag::AT_SYMLINK_FOLLOW) != 0 { LastLink::Follow } else { LastLink::Keep };
    let target = find(thread, from, old, last).await?;
    let new = walk_from(thread, to, new, LastLink::Keep).await?;
    if new.node.is_some() {
        return Err(Errno::EEXIST);
    }
    if new.slash {
        return Err(Errno::ENOENT);
    }
    let (Vnode::Disk(target), Vnode::Disk(directory)) = (&target, &new.directory) else { return Err(Errno::EXDEV) };
    directory.hard_link(target, &new.name).await.map(|()| 0)
}

/// symlink(2), symlinkat(2).
pub(super) async fn symlinkat(thread: &Thread, target: u64, directory: u64, path: u64) -> SysResult {
    let target = read_path(thread, target).await?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let walked = walk_from(thread, directory, path, LastLink::Keep).await?;
    if walked.node.is_some() {
        return Err(Errno::EEXIST);
    }
    if walked.slash {
        return Err(Errno::ENOENT);
    }
    walked.directory.on_disk()?.make_link(&walked.name, target).await.map(|()| 0)
}

/// readlink(2), readlinkat(2).
pub(super) async fn readlinkat(thread: &Thread, [directory, path, out, len]: [u64; 4]) -> SysResult {
    if (len as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = find(thread, directory, path, LastLink::Keep).await?.link_target(&thread.process).await?;
    let count = target.len().min(len as u32 as usize);
    thread.process.write_bytes(out, &target[..count]).await?;
    Ok(count as u64)
}

/// chdir(2).
pub(super) async fn chdir(thread: &Thread, path: u64) -> SysResult {
    let node = find(thread, flag::AT_FDCWD as u64, path, LastLink::Follow).await?;
    enter(thread, node)
}

/// fchdir(2).
pub(super) fn fchdir(thread: &Thread, fd: u64) -> SysResult {
    let node = file(thread, fd)?.node.clone().ok_or(Errno::ENOTDIR)?;
    enter(thread, node)
}

fn enter(thread: &Thread, node: Vnode) -> SysResult {
    node.require_directory(&thread.process)?;
    let before = core::mem::replace(&mut thread.process.files.lock().context.cwd, node);
    // Dropped with no lock held: it may be the last reference to an inode.
    drop(before);
    Ok(0)
}

/// getcwd(2).
pub(super) async fn getcwd(thread: &Thread, out: u64, len: u64) -> SysResult {
    let cwd = thread.process.files.lock().context.cwd.clone();
    let mut path = path_of(&cwd, &thread.process).await?;
    path.push(0);
    if len < path.len() as u64 {
        return Err(Errno::ERANGE);
    }
    thread.process.write_bytes(out, &path).await?;
    Ok(path.len() as u64)
}

/// umask(2).
pub(super) fn umask(thread: &Thread, mask: u64) -> SysResult {
    let mut files = thread.process.files.lock();
    Ok(core::mem::replace(&mut files.context.umask, mask as u16 & 0o777).into())
}
