//! The file descriptor table of a process, and its place in the tree.
//!
//! Owns which descriptor refers to which open file. Does not own what an open file is (`open.rs`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as flag;

use super::Stream;
use super::context::FsContext;
use super::open::{Kind, OpenFile};
use crate::syscall::errno::Errno;

/// Most files one process may have open.
pub const MAX_FILES: usize = 256;

/// Whether a descriptor would survive `execve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum OnExec {
    Keep,
    Close,
}

#[derive(Clone)]
struct Entry {
    file: Arc<OpenFile>,
    on_exec: OnExec,
}

/// The open files of one process, by descriptor; and where relative paths begin for it.
#[derive(Clone, Default)]
pub struct FdTable {
    entries: Vec<Option<Entry>>,
    /// Working directory and umask.
    pub context: FsContext,
}

impl FdTable {
    /// Descriptors 0, 1 and 2 on the console.
    pub fn with_console() -> Self {
        let open = |stream| {
            let flags = if stream == Stream::Input { flag::O_RDONLY } else { flag::O_WRONLY };
            let file = Arc::new(OpenFile::new(Kind::Console(stream), flags));
            Some(Entry { file, on_exec: OnExec::Keep })
        };
        let entries = [Stream::Input, Stream::Output, Stream::Error].map(open).into();
        Self { entries, context: FsContext::default() }
    }
    /// The open file behind a descriptor.
    pub fn get(&self, fd: u64) -> Result<Arc<OpenFile>, Errno> {
        self.entry(fd).map(|entry| Arc::clone(&entry.file))
    }

    /// Puts a file at the lowest free descriptor not below `lowest`.
    pub fn insert(&mut self, file: Arc<OpenFile>, lowest: u64, on_exec: OnExec) -> Result<u64, Errno> {
        let lowest = usize::try_from(lowest).map_err(|_| Errno::EINVAL)?;
        let mut candidates = lowest..MAX_FILES;
        let free = candidates.find(|fd| self.entries.get(*fd).is_none_or(Option::is_none));
        let fd = free.ok_or(Errno::EMFILE)? as u64;
        self.replace(fd, file, on_exec)?;
        Ok(fd)
    }

    /// Puts a file at `fd`, closing what was there.
    pub fn replace(&mut self, fd: u64, file: Arc<OpenFile>, on_exec: OnExec) -> Result<(), Errno> {
        let index = Some(index(fd)).filter(|fd| *fd < MAX_FILES).ok_or(Errno::EBADF)?;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, None);
        }
        self.entries[index] = Some(Entry { file, on_exec });
        Ok(())
    }

    /// close(2).
    pub fn close(&mut self, fd: u64) -> Result<(), Errno> {
        *self.entry_mut(fd)? = None;
        Ok(())
    }

    /// F_GETFD.
    pub fn on_exec(&self, fd: u64) -> Result<OnExec, Errno> {
        self.entry(fd).map(|entry| entry.on_exec)
    }

    /// F_SETFD.
    pub fn set_on_exec(&mut self, fd: u64, on_exec: OnExec) -> Result<(), Errno> {
        if let Some(entry) = self.entry_mut(fd)? {
            entry.on_exec = on_exec;
        }
        Ok(())
    }

    fn entry(&self, fd: u64) -> Result<&Entry, Errno> {
        self.entries.get(index(fd)).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// The place of a descriptor that is open.
    fn entry_mut(&mut self, fd: u64) -> Result<&mut Option<Entry>, Errno> {
        self.entries.get_mut(index(fd)).filter(|place| place.is_some()).ok_or(Errno::EBADF)
    }
}

/// Descriptors are ints: the upper half of the register is not looked at, by any call.
fn index(fd: u64) -> usize {
    fd as u32 as usize
}
