//! lseek(2) and ioctl(2): calls on open files that move no bytes. Descriptors themselves are `fd.rs`'s matter.

use linux_raw_sys::general as flag;

use super::errno::{Errno, SysResult};
use super::file::file;
use crate::fs::{Kind, Whence};
use crate::process::thread::Thread;

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
        Kind::Console(_) | Kind::Pipe(_) | Kind::UserFault(_) => return Some(Err(Errno::ESPIPE)),
        Kind::Snapshot { contents } => contents.len() as u64,
        // How long it is, nobody knows before it has been read.
        Kind::Computed(_) if whence == Whence::End => return Some(Err(Errno::EINVAL)),
        Kind::Computed(_) => 0,
        Kind::Control(control) => control.contents.len() as u64,
        Kind::Null | Kind::Zero | Kind::Full | Kind::Random => return Some(Ok(0)),
        Kind::Place if file.access.read => 0,
        Kind::Place => return Some(Err(Errno::EBADF)),
        Kind::Disk(_) if whence == Whence::End => return None,
        Kind::Memory(memory) => memory.size(),
        Kind::Disk(_) => 0,
    };
    Some(file.seek(distance.cast_signed(), whence, size))
}

/// lseek(2) that has to know the size: from the end, or to the next hole, of which we know none.
pub(super) async fn lseek(thread: &Thread, fd: u64, distance: u64, whence: u64) -> SysResult {
    let file = file(thread, fd)?;
    let size = match &file.kind {
        Kind::Disk(inode) => inode.attributes().await?.size,
        Kind::Memory(memory) => memory.size(),
        _ => return Err(Errno::EINVAL),
    };
    match whence as u32 {
        flag::SEEK_END => file.seek(distance.cast_signed(), Whence::End, size),
        // A file system may say that everything is data (lseek(2)).
        flag::SEEK_DATA | flag::SEEK_HOLE if distance >= size => Err(Errno::ENXIO),
        flag::SEEK_DATA => file.seek(distance.cast_signed(), Whence::Set, size),
        _ => file.seek(0, Whence::End, size),
    }
}

/// ioctl(2): the console is a byte stream, not a terminal, and nothing else is one either. `None`: a file that knows some.
pub(super) fn ioctl_now(thread: &Thread, fd: u64) -> Option<SysResult> {
    match file(thread, fd) {
        Ok(file) if matches!(file.kind, Kind::UserFault(_)) => None,
        Ok(_) => Some(Err(Errno::ENOTTY)),
        Err(errno) => Some(Err(errno)),
    }
}
