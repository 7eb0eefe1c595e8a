//! Calls on descriptors that move bytes: read, write and their kin. What files there are is `fs/`'s matter.
//!
//! Bytes cross in chunks: a read or write of any size costs the kernel a bounded buffer, and every chunk is a point where
//! other tasks run.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::abi::{IoVec, check_user_range};
use super::errno::{Errno, SysResult};
use super::fd::patience;
use crate::arch;
use crate::fs::attributes::FileType;
use crate::fs::control::Control;
use crate::fs::disk::{DataVolume, Inode, WriteAt};
use crate::fs::file::FileData;
use crate::fs::memfd::MemFile;
use crate::fs::proc::Computed;
use crate::fs::{Kind, OpenFile, Stream, stdio};
use crate::process::memory::wait_for_room;
use crate::process::thread::Thread;
use mm::space::SpaceId;

/// Bytes per chunk to the console.
const CHUNK: usize = 256;
/// Bytes per read from it: they wait in the thread's future for the page they go to.
const INPUT_CHUNK: usize = 64;
/// Bytes per piece of what is computed.
const PIECE: usize = 16 << 10;
/// Most vectors one readv or writev takes.
const IOV_MAX: u64 = 1024;
/// Most bytes one read or write moves, as on Linux.
const MAX_BYTES: u64 = 0x7fff_f000;

/// Where in the file a call works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// At the open file's offset, which moves.
    Current,
    /// Here; the offset stays.
    At(u64),
}

impl Position {
    /// From the argument of pread(2) and its kin.
    pub(super) fn at(offset: u64) -> Result<Self, Errno> {
        if offset.cast_signed() < 0 { Err(Errno::EINVAL) } else { Ok(Self::At(offset)) }
    }
}

pub(super) fn file(thread: &Thread, fd: u64) -> Result<Arc<OpenFile>, Errno> {
    thread.process.files.lock().get(fd)
}

/// read(2), pread64(2).
pub(super) async fn read(thread: &Thread, fd: u64, out: u64, len: u64, position: Position) -> SysResult {
    let file = file(thread, fd)?;
    read_file(thread, &file, out, len, position).await
}

async fn read_file(thread: &Thread, file: &OpenFile, out: u64, len: u64, position: Position) -> SysResult {
    if !file.access.read {
        return Err(unusable(file));
    }
    let len = len.min(MAX_BYTES);
    check_user_range(out, len)?;
    match &file.kind {
        Kind::Console(_) | Kind::Pipe(_) if position != Position::Current => Err(Errno::ESPIPE),
        Kind::Pipe(end) => Box::pin(end.read(thread, out, len, patience(file))).await,
        Kind::UserFault(faults) => Box::pin(faults.read(thread, out, len, patience(file))).await,
        Kind::Console(_) => read_console(thread, out, len).await,
        Kind::Place => Err(unusable(file)),
        Kind::Null => Ok(0),
        Kind::Zero | Kind::Full => read_made(thread, out, len, |_| {}).await,
        Kind::Random => read_made(thread, out, len, arch::random::fill).await,
        Kind::Snapshot { contents } | Kind::Control(Control { contents, .. }) => {
            let from = start(file, position);
            let count = copy_contents(thread, contents, from, out, len).await?;
            moved(file, position, from + count);
            Ok(count)
        }
        Kind::Computed(computed) => {
            wait_for_room().await?;
            Box::pin(read_pieces(thread, file, computed, out, len, position)).await
        }
        Kind::Disk(_) | Kind::Memory(_) => {
            wait_for_room().await?;
            Box::pin(read_stored(thread, file, out, len, position)).await
        }
    }
}

/// Why a file cannot be read or written: it was not opened for that, or it is a directory.
fn unusable(file: &OpenFile) -> Errno {
    match file.kind {
        Kind::Place if file.access.read => Errno::EISDIR,
        _ => Errno::EBADF,
    }
}

fn start(file: &OpenFile, position: Position) -> u64 {
    match position {
        Position::Current => file.offset(),
        Position::At(offset) => offset,
    }
}

fn moved(file: &OpenFile, position: Position, to: u64) {
    if position == Position::Current {
        file.set_offset(to);
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

/// Bytes that need no file: zeroes, or what `fill` makes of them.
async fn read_made(thread: &Thread, out: u64, len: u64, fill: impl Fn(&mut [u8])) -> SysResult {
    let mut done = 0;
    while done < len {
        let mut chunk = [0; INPUT_CHUNK];
        let part = INPUT_CHUNK.min((len - done) as usize);
        fill(&mut chunk[..part]);
        match thread.process.write_bytes(out + done, &chunk[..part]).await {
            Ok(()) => done += part as u64,
            Err(_) if done != 0 => break,
            Err(errno) => return Err(errno),
        }
        if done % 4096 == 0 {
            executor::yield_now().await;
        }
    }
    Ok(done)
}

/// Reads what is computed piece by piece.
async fn read_pieces(
    thread: &Thread,
    file: &OpenFile,
    computed: &Computed,
    out: u64,
    len: u64,
    position: Position,
) -> SysResult {
    let _turn = if position == Position::Current { Some(file.turn().await) } else { None };
    let from = start(file, position);
    let mut done = 0;
    while done < len {
        let wanted = PIECE.min((len - done) as usize);
        let read = async {
            let bytes = computed.read(from + done, wanted).await?;
            thread.process.write_bytes(out + done, &bytes).await?;
            Ok(bytes.len())
        };
        match read.await {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(_) if done != 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    moved(file, position, from + done);
    Ok(done)
}

/// A file whose bytes are an object's.
enum Stored<'a> {
    Disk(Arc<FileData>, &'static DataVolume),
    Memory(&'a MemFile),
}

impl<'a> Stored<'a> {
    async fn of(file: &'a OpenFile) -> Result<Self, Errno> {
        match &file.kind {
            Kind::Disk(inode) => Ok(Self::Disk(inode.file().await?, inode.volume())),
            Kind::Memory(memory) => Ok(Self::Memory(memory)),
            _ => Err(Errno::EINVAL),
        }
    }

    async fn read(&self, from: u64, space: SpaceId, out: u64, len: u64) -> SysResult {
        match self {
            Self::Disk(data, _) => data.read(from, space, out, len).await,
            Self::Memory(memory) => memory.read(from, space, out, len).await,
        }
    }

    async fn write(&self, place: WriteAt, space: SpaceId, from: u64, len: u64) -> Result<(u64, u64), Errno> {
        match self {
            Self::Disk(data, volume) => data.write(volume, place, space, from, len).await,
            Self::Memory(memory) => memory.write(place, space, from, len).await,
        }
    }
}

async fn read_stored(thread: &Thread, file: &OpenFile, out: u64, len: u64, position: Position) -> SysResult {
    let data = Stored::of(file).await?;
    let _turn = if position == Position::Current { Some(file.turn().await) } else { None };
    let from = start(file, position);
    let done = data.read(from, thread.process.space(), out, len).await.map_err(|errno| out_of_memory(thread, errno))?;
    moved(file, position, from + done);
    Ok(done)
}

/// A copy that was refused a frame may be the first to know that the program is to end.
fn out_of_memory(thread: &Thread, errno: Errno) -> Errno {
    if errno == Errno::ENOMEM {
        thread.process.end_if_condemned();
    }
    errno
}

/// write(2), pwrite64(2).
pub(super) async fn write(thread: &Thread, fd: u64, data: u64, len: u64, position: Position) -> SysResult {
    let file = file(thread, fd)?;
    write_file(thread, &file, data, len, position).await
}

async fn write_file(thread: &Thread, file: &OpenFile, data: u64, len: u64, position: Position) -> SysResult {
    if !file.access.write {
        return Err(Errno::EBADF);
    }
    let len = len.min(MAX_BYTES);
    check_user_range(data, len)?;
    match &file.kind {
        Kind::Console(_) | Kind::Pipe(_) if position != Position::Current => Err(Errno::ESPIPE),
        Kind::Pipe(end) => Box::pin(end.write(thread, data, len, patience(file))).await,
        Kind::UserFault(_) => Err(Errno::EINVAL),
        Kind::Console(Stream::Input) | Kind::Snapshot { .. } | Kind::Computed(_) | Kind::Place => Err(Errno::EBADF),
        Kind::Console(Stream::Output | Stream::Error | Stream::Both) => write_console(thread, data, len).await,
        Kind::Null | Kind::Zero | Kind::Random => Ok(len),
        Kind::Full => Err(Errno::ENOSPC),
        Kind::Control(control) => write_control(thread, control, data, len).await,
        Kind::Disk(_) | Kind::Memory(_) => {
            wait_for_room().await?;
            Box::pin(write_stored(thread, file, data, len, position)).await
        }
    }
}

/// Longest value that a file takes.
const MAX_VALUE: usize = 64;

async fn write_control(thread: &Thread, control: &Control, data: u64, len: u64) -> SysResult {
    let part = usize::try_from(len).ok().filter(|len| *len <= MAX_VALUE).ok_or(Errno::EINVAL)?;
    let copy = || {
        let mut value = [0; MAX_VALUE];
        thread.process.try_read_bytes(data, &mut value[..part])?;
        Some(value)
    };
    let value = thread.process.read_with(data, part, copy).await?;
    control.write(&value[..part], &thread.process).map(|()| len)
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

async fn write_stored(thread: &Thread, file: &OpenFile, from: u64, len: u64, position: Position) -> SysResult {
    let data = Stored::of(file).await?;
    let _turn = if position == Position::Current { Some(file.turn().await) } else { None };
    let place = if file.appends() { WriteAt::End } else { WriteAt::Offset(start(file, position)) };
    let written = data.write(place, thread.process.space(), from, len).await;
    let (at, done) = written.map_err(|errno| out_of_memory(thread, errno))?;
    moved(file, position, at + done);
    Ok(done)
}

/// readv(2), preadv(2).
pub(super) async fn readv(thread: &Thread, fd: u64, vectors: u64, count: u64, position: Position) -> SysResult {
    let (mut total, mut position) = (0, position);
    for index in 0..checked_count(count)? {
        let vector = vector(thread, vectors, index).await?;
        // What is there already is the answer; only a call that has nothing yet waits (readv(2)).
        if total != 0 && would_wait(thread, fd)? {
            break;
        }
        match read(thread, fd, vector.iov_base, vector.iov_len, position).await {
            Ok(done) => {
                total += done;
                position = position.behind(done);
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
    let ready = file(thread, fd)?.readiness();
    Ok(!ready.readable && !ready.hangup)
}

/// writev(2), pwritev(2).
pub(super) async fn writev(thread: &Thread, fd: u64, vectors: u64, count: u64, position: Position) -> SysResult {
    let (mut total, mut position) = (0, position);
    for index in 0..checked_count(count)? {
        let vector = vector(thread, vectors, index).await?;
        match write(thread, fd, vector.iov_base, vector.iov_len, position).await {
            Ok(done) => {
                total += done;
                position = position.behind(done);
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

impl Position {
    fn behind(self, done: u64) -> Self {
        match self {
            Self::Current => Self::Current,
            Self::At(offset) => Self::At(offset.saturating_add(done)),
        }
    }
}

fn checked_count(count: u64) -> Result<u64, Errno> {
    if count <= IOV_MAX { Ok(count) } else { Err(Errno::EINVAL) }
}

async fn vector(thread: &Thread, vectors: u64, index: u64) -> Result<IoVec, Errno> {
    let at = vectors.checked_add(index * size_of::<IoVec>() as u64).ok_or(Errno::EFAULT)?;
    thread.process.read_object(at).await
}

/// The inode behind a descriptor of a regular file on the data disk that is open for writing.
pub(super) fn writable_inode(thread: &Thread, fd: u64) -> Result<Arc<Inode>, Errno> {
    let file = file(thread, fd)?;
    match &file.kind {
        Kind::Disk(inode) if file.access.write => Ok(Arc::clone(inode)),
        Kind::Disk(_) => Err(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether a file has something that can be made durable.
pub(super) fn has_storage(inode: &Inode) -> bool {
    matches!(inode.kind(), FileType::Regular | FileType::Directory)
}
