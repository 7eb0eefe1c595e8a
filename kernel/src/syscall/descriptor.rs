//! Calls on descriptors that move no bytes: seek, duplicate, flags, and waiting for them (poll).

use linux_raw_sys::general as flag;

use super::abi::{PollFd, Timespec};
use super::errno::{Errno, SysResult};
use super::file::file;
use super::time::Deadline;
use crate::fs::{self, Kind, OnExec, Stream, Whence, stdio};
use crate::process::thread::Thread;

/// close(2).
pub(super) fn close(thread: &Thread, fd: u64) -> SysResult {
    thread.process.files.lock().close(fd).map(|()| 0)
}

/// lseek(2) where nobody has to be asked; `None`: the file's size is on the disk, or directory entries have positions.
pub(super) fn lseek_now(thread: &Thread, fd: u64, distance: u64, whence: u64) -> Option<SysResult> {
    let whence = match whence as u32 {
        flag::SEEK_SET => Whence::Set,
        flag::SEEK_CUR => Whence::Current,
        flag::SEEK_END => Whence::End,
        flag::SEEK_DATA | flag::SEEK_HOLE => return None,
        _ => return Some(Err(Errno::EINVAL)),
    };
    let file = match file(thread, fd) {
        Ok(file) => file,
        Err(errno) => return Some(Err(errno)),
    };
    let size = match &file.kind {
        Kind::Console(_) => return Some(Err(Errno::ESPIPE)),
        Kind::Snapshot { contents } => contents.len() as u64,
        Kind::Null | Kind::Zero | Kind::Full | Kind::Random => return Some(Ok(0)),
        Kind::Place if file.access.read => 0,
        Kind::Place => return Some(Err(Errno::EBADF)),
        Kind::Disk(_) if whence == Whence::End => return None,
        Kind::Disk(_) => 0,
    };
    Some(file.seek(distance.cast_signed(), whence, size))
}

/// lseek(2) that has to know the size: from the end, or to the next hole, of which we know none.
pub(super) async fn lseek(thread: &Thread, fd: u64, distance: u64, whence: u64) -> SysResult {
    let file = file(thread, fd)?;
    let Kind::Disk(inode) = &file.kind else { return Err(Errno::EINVAL) };
    let size = inode.attributes().await?.size;
    match whence as u32 {
        flag::SEEK_END => file.seek(distance.cast_signed(), Whence::End, size),
        // A file system may say that everything is data (lseek(2)).
        flag::SEEK_DATA | flag::SEEK_HOLE if distance >= size => Err(Errno::ENXIO),
        flag::SEEK_DATA => file.seek(distance.cast_signed(), Whence::Set, size),
        _ => file.seek(0, Whence::End, size),
    }
}

/// dup(2), and fcntl's F_DUPFD.
pub(super) fn dup(thread: &Thread, fd: u64, lowest: u64) -> SysResult {
    let mut files = thread.process.files.lock();
    let file = files.get(fd)?;
    files.insert(file, lowest, OnExec::Keep)
}

/// dup2(2).
pub(super) fn dup2(thread: &Thread, fd: u64, target: u64) -> SysResult {
    let (fd, target) = (u64::from(fd as u32), u64::from(target as u32));
    let mut files = thread.process.files.lock();
    let file = files.get(fd)?;
    if fd != target {
        files.replace(target, file, OnExec::Keep)?;
    }
    Ok(target)
}

/// dup3(2).
pub(super) fn dup3(thread: &Thread, fd: u64, target: u64, flags: u64) -> SysResult {
    let (fd, target) = (u64::from(fd as u32), u64::from(target as u32));
    if fd == target || flags & !u64::from(flag::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut files = thread.process.files.lock();
    let file = files.get(fd)?;
    let on_exec = if flags == 0 { OnExec::Keep } else { OnExec::Close };
    files.replace(target, file, on_exec)?;
    Ok(target)
}

/// fcntl(2): descriptor and status flags, duplication.
pub(super) fn fcntl(thread: &Thread, fd: u64, command: u64, argument: u64) -> SysResult {
    let mut files = thread.process.files.lock();
    let file = files.get(fd)?;
    match command as u32 {
        flag::F_GETFD => Ok(u64::from(files.on_exec(fd)? == OnExec::Close)),
        flag::F_SETFD => {
            let close = argument & u64::from(flag::FD_CLOEXEC) != 0;
            files.set_on_exec(fd, if close { OnExec::Close } else { OnExec::Keep })?;
            Ok(0)
        }
        flag::F_DUPFD => files.insert(file, argument, OnExec::Keep),
        flag::F_DUPFD_CLOEXEC => files.insert(file, argument, OnExec::Close),
        flag::F_GETFL => Ok(file.flags().into()),
        flag::F_SETFL => {
            file.set_flags(argument as u32);
            Ok(0)
        }
        // Locks of one machine with one user at a time: nobody else holds any.
        flag::F_SETLK | flag::F_SETLKW => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// ioctl(2): the console is a byte stream, not a terminal, and nothing else is one either.
pub(super) fn ioctl(thread: &Thread, fd: u64) -> SysResult {
    file(thread, fd)?;
    Err(Errno::ENOTTY)
}

/// How long poll(2) and ppoll(2) are told to wait.
#[derive(Clone, Copy)]
pub(super) enum PollTimeout {
    /// An int; negative: for ever.
    Milliseconds(u64),
    /// Where a timespec lies; null: for ever.
    Timespec(u64),
}

impl PollTimeout {
    async fn deadline(self, thread: &Thread) -> Result<Option<Deadline>, Errno> {
        match self {
            Self::Milliseconds(ms) => {
                let ms = u64::try_from(ms as u32 as i32).ok();
                Ok(ms.map(|ms| Deadline::after(ms * 1_000_000)))
            }
            Self::Timespec(at) => {
                let span: Option<Timespec> = thread.process.read_optional(at).await?;
                Ok(span.map(Timespec::to_ns).transpose()?.map(Deadline::after))
            }
        }
    }
}

/// poll(2): outputs are always ready, standard input when it has bytes or is at its end.
pub(super) async fn poll(thread: &Thread, entries: u64, count: u64, timeout: PollTimeout) -> SysResult {
    if count > fs::MAX_FILES as u64 {
        return Err(Errno::EINVAL);
    }
    let deadline = timeout.deadline(thread).await?;
    loop {
        let (ready, waits_for_input) = poll_once(thread, entries, count).await?;
        if ready != 0 {
            return Ok(ready);
        }
        let event = async { if waits_for_input { stdio::readable().await } else { core::future::pending().await } };
        let in_time = match deadline {
            None => thread.interruptible(event).await.map(Some),
            Some(deadline) => thread.interruptible(deadline.limit(event)).await,
        };
        match in_time {
            Ok(Some(())) => {}
            Ok(None) => return Ok(0),
            Err(_) => return Err(Errno::EINTR),
        }
    }
}

/// Fills in what is ready now; says how many entries are, and whether any waits for standard input.
async fn poll_once(thread: &Thread, entries: u64, count: u64) -> Result<(u64, bool), Errno> {
    let (mut ready, mut waits_for_input) = (0, false);
    for index in 0..count {
        let at = entries.checked_add(index * size_of::<PollFd>() as u64).ok_or(Errno::EFAULT)?;
        let mut entry: PollFd = thread.process.read_object(at).await?;
        entry.revents = 0;
        let wants = |event: u32| entry.events & event as i16;
        if entry.fd >= 0 {
            entry.revents = match file(thread, entry.fd as u64) {
                Err(_) => flag::POLLNVAL as i16,
                Ok(file) => match file.kind {
                    Kind::Console(Stream::Input) if stdio::is_readable() => wants(flag::POLLIN),
                    Kind::Console(Stream::Input) => {
                        waits_for_input |= wants(flag::POLLIN) != 0;
                        0
                    }
                    Kind::Console(Stream::Both) if !stdio::is_readable() => {
                        waits_for_input |= wants(flag::POLLIN) != 0;
                        wants(flag::POLLOUT)
                    }
                    Kind::Console(Stream::Output | Stream::Error) => wants(flag::POLLOUT),
                    // Reading and writing these never waits for an event.
                    _ => wants(flag::POLLIN | flag::POLLOUT),
                },
            };
        }
        ready += u64::from(entry.revents != 0);
        thread.process.write_object(at, &entry).await?;
    }
    Ok((ready, waits_for_input))
}
