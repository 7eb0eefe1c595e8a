//! The open files of one process, by descriptor.
//!
//! Owns descriptors: which are free, what each refers to, which end with execve. Does not own what an open file is
//! (`mod.rs`). Threads share a table; fork copies it, and both copies refer to the same open files, with their offsets.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as flag;

use super::context::FsContext;
use super::{Kind, OpenFile, Stream};
use crate::syscall::errno::Errno;

/// Most files one process may have open, whatever its limit says.
pub const MAX_FILES: usize = 1024;

/// Whether a descriptor survives `execve`.
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

/// See the module's head; and where relative paths begin for the process.
#[derive(Clone)]
pub struct FdTable {
    entries: Vec<Option<Entry>>,
    /// Working directory and umask.
    pub context: FsContext,
    /// `RLIMIT_NOFILE`: descriptors below this one may be given out.
    limit: usize,
}

impl Default for FdTable {
    fn default() -> Self {
        Self { entries: Vec::new(), context: FsContext::default(), limit: MAX_FILES }
    }
}

impl FdTable {
    /// Descriptors 0, 1 and 2 on the console.
    pub fn with_console() -> Self {
        let open = |stream| {
            let flags = if stream == Stream::Input { flag::O_RDONLY } else { flag::O_WRONLY };
            let file = Arc::new(OpenFile::new(Kind::Console(stream), flags));
            Some(Entry { file, on_exec: OnExec::Keep })
        };
        Self { entries: [Stream::Input, Stream::Output, Stream::Error].map(open).into(), ..Self::default() }
    }

    /// Gives out only descriptors below `limit` from now on; those that are open stay.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = usize::try_from(limit).map_or(MAX_FILES, |limit| limit.min(MAX_FILES));
    }

    /// The open file behind a descriptor.
    pub fn get(&self, fd: u64) -> Result<Arc<OpenFile>, Errno> {
        self.entry(fd).map(|entry| Arc::clone(&entry.file))
    }

    /// All open files, some perhaps more than once.
    pub fn files(&self) -> impl Iterator<Item = &Arc<OpenFile>> {
        self.entries.iter().flatten().map(|entry| &entry.file)
    }

    /// Puts a file at the lowest free descriptor not below `lowest`.
    pub fn insert(&mut self, file: Arc<OpenFile>, lowest: u64, on_exec: OnExec) -> Result<u64, Errno> {
        let lowest = usize::try_from(lowest).ok().filter(|fd| *fd < self.limit).ok_or(Errno::EINVAL)?;
        let mut candidates = lowest..self.limit;
        let free = candidates.find(|fd| self.entries.get(*fd).is_none_or(Option::is_none));
        let fd = free.ok_or(Errno::EMFILE)? as u64;
        // The place was free: nothing is closed.
        self.replace(fd, file, on_exec).map(|_none| fd)
    }

    /// Puts a file at `fd`; what was there is given back, to be dropped when the table's lock is not held.
    pub fn replace(&mut self, fd: u64, file: Arc<OpenFile>, on_exec: OnExec) -> Result<Option<Arc<OpenFile>>, Errno> {
        let index = Some(index(fd)).filter(|fd| *fd < self.limit).ok_or(Errno::EBADF)?;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, None);
        }
        let before = self.entries[index].replace(Entry { file, on_exec });
        Ok(before.map(|entry| entry.file))
    }

    /// close(2); the file is given back, to be dropped when the table's lock is not held.
    pub fn close(&mut self, fd: u64) -> Result<Option<Arc<OpenFile>>, Errno> {
        self.entry_mut(fd).map(|place| place.take().map(|entry| entry.file))
    }

    /// One past the highest descriptor that may be open.
    pub fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Takes out what does not survive `execve`.
    pub fn take_closed_by_exec(&mut self) -> Vec<Arc<OpenFile>> {
        let closes = |entry: &mut Entry| entry.on_exec == OnExec::Close;
        self.entries.iter_mut().filter_map(|place| place.take_if(closes)).map(|entry| entry.file).collect()
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
