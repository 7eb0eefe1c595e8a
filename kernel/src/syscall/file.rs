//! Calls on file descriptors and paths. What files there are is `fs/`'s matter.
//!
//! Bytes cross in chunks: a read or write of any size costs the kernel no memory, and every chunk is a point where other
//! tasks run.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use linux_raw_sys::general as flag;
use zerocopy::FromZeros;

use super::abi::{IoVec, PollFd, Stat, Statx, Timespec, check_user_range};
use super::errno::{Errno, SysResult};
use super::time::Deadline;
use crate::fs::{self, Kind, Node, OnExec, OpenFile, Stream, Whence, stdio};
use crate::process::memory::{settle_counts, wait_for_room};
use crate::process::thread::Thread;

/// Bytes per chunk to the console.
const CHUNK: usize = 256;
/// Bytes per read from it: they wait in the thread's future for the page they go to.
const INPUT_CHUNK: usize = 64;
/// Longest path a program may name; there is none longer than `/proc/self/status`.
const PATH_MAX: usize = 64;
/// Most vectors one readv or writev takes.
const IOV_MAX: u64 = 1024;
/// Most bytes one read or write moves, as on Linux.
const MAX_BYTES: u64 = 0x7fff_f000;

fn file(thread: &Thread, fd: u64) -> Result<Arc<OpenFile>, Errno> {
    thread.process.files.lock().get(fd)
}

/// read(2).
pub(super) async fn read(thread: &Thread, fd: u64, out: u64, len: u64) -> SysResult {
    let file = file(thread, fd)?;
    let len = len.min(MAX_BYTES);
    check_user_range(out, len)?;
    match &file.kind {
        Kind::Console(Stream::Input) => read_console(thread, out, len).await,
        Kind::Console(_) => Err(Errno::EBADF),
        Kind::Snapshot { contents, offset } => {
            let from = offset.load(Ordering::Relaxed);
            let count = copy_contents(thread, contents, from, out, len).await?;
            offset.store(from + count, Ordering::Relaxed);
            Ok(count)
        }
    }
}

/// pread64(2).
pub(super) async fn pread64(thread: &Thread, fd: u64, out: u64, len: u64, offset: u64) -> SysResult {
    let file = file(thread, fd)?;
    let len = len.min(MAX_BYTES);
    check_user_range(out, len)?;
    if offset.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    match &file.kind {
        Kind::Console(_) => Err(Errno::ESPIPE),
        Kind::Snapshot { contents, .. } => copy_contents(thread, contents, offset, out, len).await,
    }
}

async fn copy_contents(thread: &Thread, contents: &[u8], from: u64, out: u64, len: u64) -> SysResult {
    let rest = usize::try_from(from).ok().and_then(|from| contents.get(from..)).unwrap_or(&[]);
    let count = rest.len().min(len as usize);
    thread.process.write_bytes(out, &rest[..count]).await?;
    Ok(count as u64)
}

async fn read_console(thread: &Thread, out: u64, len: u64) -> SysResult {
    if len == 0 {
        return Ok(0);
    }
    let mut chunk = [0; INPUT_CHUNK];
    let room = INPUT_CHUNK.min(len as usize);
    let count = thread.interruptible(stdio::read(&mut chunk[..room])).await?;
    thread.process.write_bytes(out, &chunk[..count]).await?;
    Ok(count as u64)
}

/// write(2).
pub(super) async fn write(thread: &Thread, fd: u64, data: u64, len: u64) -> SysResult {
    let file = file(thread, fd)?;
    let len = len.min(MAX_BYTES);
    check_user_range(data, len)?;
    match &file.kind {
        Kind::Console(Stream::Output | Stream::Error) => write_console(thread, data, len).await,
        Kind::Console(Stream::Input) | Kind::Snapshot { .. } => Err(Errno::EBADF),
    }
}

async fn write_console(thread: &Thread, data: u64, len: u64) -> SysResult {
    let mut done = 0;
    while done < len {
        let (from, part) = (data + done, CHUNK.min((len - done) as usize));
        // The bytes go from the page to the port within one attempt, so none are kept while a page is on its way.
        let copy = || {
            let mut chunk = [0; CHUNK];
            thread.process.try_read_bytes(from, &mut chunk[..part])?;
            stdio::write(&chunk[..part]);
            Some(())
        };
        match thread.process.read_with(from, part, copy).await {
            Ok(()) => done += part as u64,
            Err(_) if done != 0 => break,
            Err(errno) => return Err(errno),
        }
        if done < len {
            executor::yield_now().await;
        }
    }
    Ok(done)
}

/// readv(2).
pub(super) async fn readv(thread: &Thread, fd: u64, vectors: u64, count: u64) -> SysResult {
    let mut total = 0;
    for index in 0..checked_count(count)? {
        let vector = vector(thread, vectors, index).await?;
        // What is there already is the answer; only a call that has nothing yet waits (readv(2)).
        if total != 0 && would_wait(thread, fd)? {
            break;
        }
        match read(thread, fd, vector.iov_base, vector.iov_len).await {
            Ok(done) => {
                total += done;
                if done < vector.iov_len {
                    break;
                }
            }
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(total)
}

fn would_wait(thread: &Thread, fd: u64) -> Result<bool, Errno> {
    let is_input = matches!(file(thread, fd)?.kind, Kind::Console(Stream::Input));
    Ok(is_input && !stdio::is_readable())
}

/// writev(2).
pub(super) async fn writev(thread: &Thread, fd: u64, vectors: u64, count: u64) -> SysResult {
    let mut total = 0;
    for index in 0..checked_count(count)? {
        let vector = vector(thread, vectors, index).await?;
        match write(thread, fd, vector.iov_base, vector.iov_len).await {
            Ok(done) => {
                total += done;
                if done < vector.iov_len {
                    break;
                }
            }
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(total)
}

fn checked_count(count: u64) -> Result<u64, Errno> {
    if count <= IOV_MAX { Ok(count) } else { Err(Errno::EINVAL) }
}

async fn vector(thread: &Thread, vectors: u64, index: u64) -> Result<IoVec, Errno> {
    let at = vectors.checked_add(index * size_of::<IoVec>() as u64).ok_or(Errno::EFAULT)?;
    thread.process.read_object(at).await
}

/// A path copied in from the program.
struct Path {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl Path {
    async fn read(thread: &Thread, at: u64) -> Result<Self, Errno> {
        let mut path = Self { bytes: [0; PATH_MAX], len: 0 };
        path.len = thread.process.read_string(at, &mut path.bytes).await?;
        // No name is that long: what was cut off names nothing either.
        if path.len == PATH_MAX { Err(Errno::ENOENT) } else { Ok(path) }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn look_up(&self, thread: &Thread) -> Result<Node, Errno> {
        fs::look_up(self.as_bytes(), &thread.process)
    }
}

/// open(2) and openat(2): the directory is always `/`.
pub(super) async fn openat(thread: &Thread, path: u64, flags: u64) -> SysResult {
    let has = |wanted: u32| flags & u64::from(wanted) != 0;
    let node = Path::read(thread, path).await?.look_up(thread)?;
    let Node::File(file) = node else {
        return Err(Errno::EACCES);
    };
    if flags & u64::from(flag::O_ACCMODE) != u64::from(flag::O_RDONLY) {
        return Err(Errno::EACCES);
    }
    if has(flag::O_DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
    settle_counts().await;
    let contents = file.render(&thread.process)?;
    let file = Arc::new(OpenFile { kind: Kind::Snapshot { contents, offset: 0.into() } });
    let on_exec = if has(flag::O_CLOEXEC) { OnExec::Close } else { OnExec::Keep };
    thread.process.files.lock().insert(file, 0, on_exec)
}

/// close(2).
pub(super) fn close(thread: &Thread, fd: u64) -> SysResult {
    thread.process.files.lock().close(fd).map(|()| 0)
}

/// lseek(2).
pub(super) fn lseek(thread: &Thread, fd: u64, distance: u64, whence: u64) -> SysResult {
    let whence = match whence as u32 {
        flag::SEEK_SET => Whence::Set,
        flag::SEEK_CUR => Whence::Current,
        flag::SEEK_END => Whence::End,
        _ => return Err(Errno::EINVAL),
    };
    file(thread, fd)?.seek(distance.cast_signed(), whence)
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

/// fcntl(2): descriptor flags, duplication, and status flags that cannot change.
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
        flag::F_GETFL => Ok(match file.kind {
            Kind::Console(Stream::Output | Stream::Error) => flag::O_WRONLY.into(),
            _ => flag::O_RDONLY.into(),
        }),
        _ => Err(Errno::EINVAL),
    }
}

/// ioctl(2): the console is a byte stream, not a terminal, and nothing else is one either.
pub(super) fn ioctl(thread: &Thread, fd: u64) -> SysResult {
    file(thread, fd)?;
    Err(Errno::ENOTTY)
}

/// fsync(2) of a file without storage.
pub(super) fn fsync(thread: &Thread, fd: u64) -> SysResult {
    file(thread, fd)?;
    Err(Errno::EINVAL)
}

/// What `stat` tells apart.
#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    inode: u64,
}

impl Attributes {
    fn of_file(file: &OpenFile) -> Self {
        match &file.kind {
            // A pipe: programs then neither ask for a terminal nor seek.
            Kind::Console(stream) => Self { mode: flag::S_IFIFO | 0o600, inode: 1 + *stream as u64 },
            Kind::Snapshot { .. } => Self { mode: flag::S_IFREG | 0o444, inode: 16 },
        }
    }

    fn of_node(node: Node) -> Self {
        match node {
            Node::Directory => Self { mode: flag::S_IFDIR | 0o555, inode: 4 },
            Node::File(_) => Self { mode: flag::S_IFREG | 0o444, inode: 16 },
            Node::Executable => Self { mode: flag::S_IFLNK | 0o777, inode: 5 },
        }
    }

    fn stat(self) -> Stat {
        let mut stat = Stat::new_zeroed();
        stat.st_dev = 1;
        stat.st_ino = self.inode;
        stat.st_nlink = 1;
        stat.st_mode = self.mode;
        stat.st_blksize = 4096;
        stat
    }

    fn statx(self) -> Statx {
        let mut statx = Statx::new_zeroed();
        statx.stx_mask = flag::STATX_BASIC_STATS;
        statx.stx_blksize = 4096;
        statx.stx_nlink = 1;
        statx.stx_mode = self.mode as u16;
        statx.stx_ino = self.inode;
        statx.stx_dev_minor = 1;
        statx
    }
}

/// stat(2) and lstat(2).
pub(super) async fn stat(thread: &Thread, path: u64, out: u64) -> SysResult {
    let node = Path::read(thread, path).await?.look_up(thread)?;
    thread.process.write_object(out, &Attributes::of_node(node).stat()).await?;
    Ok(0)
}

/// fstat(2).
pub(super) async fn fstat(thread: &Thread, fd: u64, out: u64) -> SysResult {
    let stat = Attributes::of_file(&*file(thread, fd)?).stat();
    thread.process.write_object(out, &stat).await?;
    Ok(0)
}

/// The file a path-or-descriptor call means: AT_EMPTY_PATH with an empty path is the descriptor itself.
async fn attributes_at(thread: &Thread, fd: u64, path: u64, flags: u64) -> Result<Attributes, Errno> {
    let path = Path::read(thread, path).await?;
    if path.len == 0 && flags & u64::from(flag::AT_EMPTY_PATH) != 0 {
        return Ok(Attributes::of_file(&*file(thread, fd)?));
    }
    path.look_up(thread).map(Attributes::of_node)
}

/// newfstatat(2).
pub(super) async fn newfstatat(thread: &Thread, [fd, path, out, flags]: [u64; 4]) -> SysResult {
    let stat = attributes_at(thread, fd, path, flags).await?.stat();
    thread.process.write_object(out, &stat).await?;
    Ok(0)
}

/// statx(2).
pub(super) async fn statx(thread: &Thread, [fd, path, flags, _mask, out]: [u64; 5]) -> SysResult {
    let statx = attributes_at(thread, fd, path, flags).await?.statx();
    thread.process.write_object(out, &statx).await?;
    Ok(0)
}

/// access(2) and its variants.
pub(super) async fn access(thread: &Thread, path: u64, mode: u64) -> SysResult {
    let node = Path::read(thread, path).await?.look_up(thread)?;
    if mode & u64::from(flag::W_OK) != 0 && node != Node::Executable {
        return Err(Errno::EROFS);
    }
    Ok(0)
}

/// readlink(2) and readlinkat(2): the one link there is points at the program.
pub(super) async fn readlink(thread: &Thread, path: u64, out: u64, len: u64) -> SysResult {
    match Path::read(thread, path).await?.look_up(thread)? {
        Node::Executable => {}
        _ => return Err(Errno::EINVAL),
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let target = &thread.process.executable;
    let count = target.len().min(len as usize);
    thread.process.write_bytes(out, &target[..count]).await?;
    Ok(count as u64)
}

/// getcwd(2).
pub(super) async fn getcwd(thread: &Thread, out: u64, len: u64) -> SysResult {
    const CWD: &[u8] = b"/\0";
    if len < CWD.len() as u64 {
        return Err(Errno::ERANGE);
    }
    thread.process.write_bytes(out, CWD).await?;
    Ok(CWD.len() as u64)
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
                    Kind::Console(_) => wants(flag::POLLOUT),
                    Kind::Snapshot { .. } => wants(flag::POLLIN),
                },
            };
        }
        ready += u64::from(entry.revents != 0);
        thread.process.write_object(at, &entry).await?;
    }
    Ok((ready, waits_for_input))
}
