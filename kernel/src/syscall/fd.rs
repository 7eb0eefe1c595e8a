//! Calls on descriptors, whatever they refer to: close, dup, fcntl, pipes, files that are memory. The table is `fs/table.rs`.

use alloc::boxed::Box;
use alloc::sync::Arc;

use linux_raw_sys::general as flag;

use super::errno::{Errno, SysResult};
use crate::fs::locks;
use crate::fs::memfd::{MemFile, Seals};
use crate::fs::pipe::{self, Patience};
use crate::fs::{FdTable, Kind, OnExec, OpenFile};
use crate::process::memory::wait_for_room;
use crate::process::thread::Thread;

/// Ends the process's use of a file that one of its descriptors referred to. With no lock held: closing may wake others.
fn forget(thread: &Thread, closed: Option<Arc<OpenFile>>) {
    if let Some(file) = closed {
        locks::closed_by(thread.process.pid, &file);
    }
}

/// close(2).
pub(super) fn close(thread: &Thread, fd: u64) -> SysResult {
    let closed = thread.process.files.lock().close(fd)?;
    forget(thread, closed);
    Ok(0)
}

/// Flags of close_range(2). No table is shared by processes, so there is nothing to undo for the first.
const CLOSE_RANGE_UNSHARE: u64 = 2;
const CLOSE_RANGE_CLOEXEC: u64 = 4;

/// close_range(2).
pub(super) fn close_range(thread: &Thread, first: u64, last: u64, flags: u64) -> SysResult {
    let (first, last) = (u64::from(first as u32), u64::from(last as u32));
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let end = last.saturating_add(1).min(thread.process.files.lock().end());
    for fd in first..end {
        if flags & CLOSE_RANGE_CLOEXEC != 0 {
            let _is_open = thread.process.files.lock().set_on_exec(fd, OnExec::Close);
        } else {
            let closed = thread.process.files.lock().close(fd);
            forget(thread, closed.ok().flatten());
        }
    }
    Ok(0)
}

/// dup(2).
pub(super) fn dup(thread: &Thread, fd: u64) -> SysResult {
    let mut files = thread.process.files.lock();
    let file = files.get(fd)?;
    files.insert(file, 0, OnExec::Keep)
}

/// dup2(2).
pub(super) fn dup2(thread: &Thread, fd: u64, target: u64) -> SysResult {
    let (fd, target) = (u64::from(fd as u32), u64::from(target as u32));
    if fd != target {
        return put(thread, fd, target, OnExec::Keep);
    }
    thread.process.files.lock().get(fd).map(|_| target)
}

/// dup3(2).
pub(super) fn dup3(thread: &Thread, fd: u64, target: u64, flags: u64) -> SysResult {
    let (fd, target) = (u64::from(fd as u32), u64::from(target as u32));
    if fd == target || flags & !u64::from(flag::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    put(thread, fd, target, on_exec(flags))
}

fn put(thread: &Thread, fd: u64, target: u64, on_exec: OnExec) -> SysResult {
    let before = {
        let mut files = thread.process.files.lock();
        let file = files.get(fd)?;
        files.replace(target, file, on_exec)?
    };
    forget(thread, before);
    Ok(target)
}

pub(super) fn on_exec(flags: u64) -> OnExec {
    if flags & u64::from(flag::O_CLOEXEC) != 0 { OnExec::Close } else { OnExec::Keep }
}

/// fcntl(2): descriptor flags, duplication, status flags, a pipe's size.
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
        flag::F_GETPIPE_SZ => match file.kind {
            Kind::Pipe(_) => Ok(pipe::CAPACITY),
            _ => Err(Errno::EBADF),
        },
        command => {
            drop(files);
            seals(&file, command, argument)
        }
    }
}

/// F_GET_SEALS and F_ADD_SEALS of fcntl(2).
fn seals(file: &OpenFile, command: u32, argument: u64) -> SysResult {
    let Kind::Memory(memory) = &file.kind else { return Err(Errno::EINVAL) };
    match command {
        flag::F_GET_SEALS => Ok(memory.seals().bits().into()),
        flag::F_ADD_SEALS => memory.seal(Seals::from_bits(argument)?).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// Longest name that memfd_create(2) takes.
const MAX_NAME: usize = 249;

/// memfd_create(2). The name is for people who look (`/proc/PID/fd`).
pub(super) async fn memfd_create(thread: &Thread, name: u64, flags: u64) -> SysResult {
    let known = flag::MFD_CLOEXEC | flag::MFD_ALLOW_SEALING | flag::MFD_EXEC;
    if flags & !u64::from(known) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; MAX_NAME + 1];
    let len = thread.process.read_string(name, &mut bytes).await?;
    if len > MAX_NAME {
        return Err(Errno::EINVAL);
    }
    let may_be_sealed = flags & u64::from(flag::MFD_ALLOW_SEALING) != 0;
    let seals = if may_be_sealed { Seals::NONE } else { Seals::SEALED };
    let memory = Box::new(MemFile::new(&bytes[..len], seals)?);
    let file = Arc::new(OpenFile::new(Kind::Memory(memory), flag::O_RDWR));
    let close = flags & u64::from(flag::MFD_CLOEXEC) != 0;
    thread.process.files.lock().insert(file, 0, if close { OnExec::Close } else { OnExec::Keep })
}

/// pipe(2) and pipe2(2).
pub(super) async fn pipe(thread: &Thread, out: u64, flags: u64) -> SysResult {
    let known = flag::O_CLOEXEC | flag::O_NONBLOCK;
    if flags & !u64::from(known) != 0 {
        return Err(Errno::EINVAL);
    }
    wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
    let (read, write) = pipe::pipe();
    let read = Arc::new(OpenFile::new(Kind::Pipe(read), flags as u32 | flag::O_RDONLY));
    let write = Arc::new(OpenFile::new(Kind::Pipe(write), flags as u32 | flag::O_WRONLY));
    let numbers = {
        let mut files = thread.process.files.lock();
        insert_both(&mut files, read, write, on_exec(flags))?
    };
    if let Err(errno) = thread.process.write_object(out, &numbers.map(|fd| fd as u32)).await {
        for fd in numbers {
            close(thread, fd)?;
        }
        return Err(errno);
    }
    Ok(0)
}

/// Two descriptors or none. What does not fit is dropped by the caller's `?`, which is after the lock.
fn insert_both(
    files: &mut FdTable,
    read: Arc<OpenFile>,
    write: Arc<OpenFile>,
    on_exec: OnExec,
) -> Result<[u64; 2], Errno> {
    let first = files.insert(read, 0, on_exec)?;
    match files.insert(write, 0, on_exec) {
        Ok(second) => Ok([first, second]),
        Err(errno) => {
            let _unused = files.close(first);
            Err(errno)
        }
    }
}

/// How long a read or write of this file may take.
pub(super) fn patience(file: &OpenFile) -> Patience {
    if file.is_nonblocking() { Patience::Refuse } else { Patience::Wait }
}
