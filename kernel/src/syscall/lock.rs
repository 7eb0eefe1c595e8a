//! Calls that lock files: fcntl(2) with a `struct flock`, flock(2).
//!
//! Owns which bytes a call means. The locks are `fs/locks.rs`'s. Only regular files of the data disk have any: whatever else is
//! open, is refused with EINVAL, as a file is whose file system has no locks.

use alloc::sync::Arc;

use linux_raw_sys::general as flag;

use super::abi::Flock;
use super::errno::{Errno, SysResult};
use super::file::file;
use crate::fs::attributes::FileType;
use crate::fs::disk::Inode;
use crate::fs::locks::{Family, Owner};
use crate::fs::range_locks::{Mode, Range, Refused};
use crate::fs::{Kind, OpenFile};
use crate::process::thread::Thread;

/// Values of `l_whence` (lseek(2)).
const SEEK_SET: i16 = flag::SEEK_SET as i16;
const SEEK_CUR: i16 = flag::SEEK_CUR as i16;
const SEEK_END: i16 = flag::SEEK_END as i16;
/// Values of `l_type` (fcntl(2)).
const F_RDLCK: i16 = flag::F_RDLCK as i16;
const F_WRLCK: i16 = flag::F_WRLCK as i16;
const F_UNLCK: i16 = flag::F_UNLCK as i16;

/// Whether fcntl(2) with this command is about locks.
pub(super) fn is_about_locks(command: u64) -> bool {
    matches!(
        command as u32,
        flag::F_GETLK | flag::F_SETLK | flag::F_SETLKW | flag::F_OFD_GETLK | flag::F_OFD_SETLK | flag::F_OFD_SETLKW
    )
}

fn lockable(file: &OpenFile) -> Result<&Arc<Inode>, Errno> {
    match &file.kind {
        Kind::Disk(inode) if inode.kind() == FileType::Regular => Ok(inode),
        _ => Err(Errno::EINVAL),
    }
}

/// fcntl(2) with one of these commands.
pub(super) async fn fcntl(thread: &Thread, fd: u64, command: u64, argument: u64) -> SysResult {
    let file = file(thread, fd)?;
    let inode = lockable(&file)?;
    let asked: Flock = thread.process.read_object(argument).await?;
    let range = range(&asked, &file, inode).await?;
    let owner = match command as u32 {
        flag::F_GETLK | flag::F_SETLK | flag::F_SETLKW => Owner::Process(thread.process.pid),
        _ if asked.l_pid != 0 => return Err(Errno::EINVAL),
        _ => file.locks.owner(inode),
    };
    let mode = match asked.l_type {
        F_RDLCK => Some(Mode::Shared),
        F_WRLCK => Some(Mode::Exclusive),
        F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let locks = &inode.locks;
    match (command as u32, mode) {
        (flag::F_GETLK | flag::F_OFD_GETLK, None) => Err(Errno::EINVAL),
        (flag::F_GETLK | flag::F_OFD_GETLK, Some(mode)) => {
            let answer = match locks.conflict(owner, mode, range) {
                None => Flock { l_type: F_UNLCK, ..asked },
                Some(held) => Flock {
                    l_type: if held.mode == Mode::Shared { F_RDLCK } else { F_WRLCK },
                    l_whence: SEEK_SET,
                    l_start: held.range.start.cast_signed(),
                    l_len: if held.range.end == u64::MAX {
                        0
                    } else {
                        (held.range.end - held.range.start).cast_signed()
                    },
                    l_pid: if let Owner::Process(pid) = held.owner { pid.number().cast_signed() } else { -1 },
                    ..asked
                },
            };
            thread.process.write_object(argument, &answer).await?;
            Ok(0)
        }
        (_, None) => locks.unlock(Family::Ranges, owner, range).map_err(refused).map(|()| 0),
        (_, Some(Mode::Shared)) if !file.access.read => Err(Errno::EBADF),
        (_, Some(Mode::Exclusive)) if !file.access.write => Err(Errno::EBADF),
        (flag::F_SETLK | flag::F_OFD_SETLK, Some(mode)) => {
            locks.lock_now(Family::Ranges, owner, mode, range).map_err(refused)?;
            still_open(thread, fd, &file, inode, owner)
        }
        (_, Some(mode)) => {
            thread.interruptible(locks.lock(Family::Ranges, owner, mode, range)).await??;
            still_open(thread, fd, &file, inode, owner)
        }
    }
}

/// A close by another thread gives up the locks of its process: one that was granted after it must go, too, for nobody else would see to it.
fn still_open(thread: &Thread, fd: u64, open: &Arc<OpenFile>, inode: &Inode, owner: Owner) -> SysResult {
    if file(thread, fd).is_ok_and(|now| Arc::ptr_eq(&now, open)) {
        return Ok(0);
    }
    if matches!(owner, Owner::Process(_)) {
        inode.locks.release(owner);
    }
    Err(Errno::EBADF)
}

fn refused(reason: Refused<Owner>) -> Errno {
    match reason {
        Refused::Conflict(_) => Errno::EAGAIN,
        Refused::Full => Errno::ENOLCK,
    }
}

/// The bytes that a `struct flock` names: a length of 0 is to the end, a negative one goes backwards.
async fn range(asked: &Flock, file: &OpenFile, inode: &Inode) -> Result<Range, Errno> {
    let base = match asked.l_whence {
        SEEK_SET => 0,
        SEEK_CUR => file.offset(),
        SEEK_END => inode.attributes().await?.size,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.cast_signed().checked_add(asked.l_start).ok_or(Errno::EOVERFLOW)?;
    let end = start.checked_add(asked.l_len).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = if end < start { (end, start) } else { (start, end) };
    let position = |at: i64| u64::try_from(at).map_err(|_| Errno::EINVAL);
    let (start, end) = (position(start)?, position(end)?);
    Ok(Range { start, end: if start == end { u64::MAX } else { end } })
}

/// flock(2).
pub(super) async fn flock(thread: &Thread, fd: u64, operation: u64) -> SysResult {
    let file = file(thread, fd)?;
    let inode = lockable(&file)?;
    let owner = file.locks.owner(inode);
    let operation = operation as u32;
    let mode = match operation & !flag::LOCK_NB {
        flag::LOCK_UN => return inode.locks.unlock(Family::Whole, owner, Range::ALL).map_err(refused).map(|()| 0),
        flag::LOCK_SH => Mode::Shared,
        flag::LOCK_EX => Mode::Exclusive,
        _ => return Err(Errno::EINVAL),
    };
    if operation & flag::LOCK_NB != 0 {
        return inode.locks.lock_now(Family::Whole, owner, mode, Range::ALL).map_err(refused).map(|()| 0);
    }
    thread.interruptible(inode.locks.lock(Family::Whole, owner, mode, Range::ALL)).await?.map(|()| 0)
}
