//! Names and open files, as far as there are any: the console, and a few files under `/proc`.
//!
//! Owns the file descriptor table and what a descriptor refers to. What is in a `/proc` file is `proc.rs`'s matter,
//! where the console's bytes go and come from `stdio.rs`'s. Moving bytes to and from user memory is done by
//! `syscall/file.rs`. Disk files come with the ext4 actor (design D11).

mod allocators;
pub mod proc;
pub mod stdio;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::process::process::Process;
use crate::syscall::errno::Errno;

/// Most files one process may have open.
pub const MAX_FILES: usize = 256;

/// One of the console's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Stream {
    Input,
    Output,
    Error,
}

/// What an open file is.
#[derive(Debug)]
pub enum Kind {
    /// The console.
    Console(Stream),
    /// A file made up when it was opened; reading it twice gives the same bytes.
    Snapshot {
        /// Its bytes.
        contents: Vec<u8>,
        /// Where the next `read` begins.
        offset: AtomicU64,
    },
}

/// An open file; descriptors made by `dup` share one, and with it the offset.
#[derive(Debug)]
pub struct OpenFile {
    /// What it is.
    pub kind: Kind,
}

/// Where `lseek` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of lseek(2)")]
pub enum Whence {
    Set,
    Current,
    End,
}

impl OpenFile {
    /// lseek(2).
    pub fn seek(&self, distance: i64, whence: Whence) -> Result<u64, Errno> {
        let Kind::Snapshot { contents, offset } = &self.kind else {
            return Err(Errno::ESPIPE);
        };
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => offset.load(Ordering::Relaxed),
            Whence::End => contents.len() as u64,
        };
        let target = base.checked_add_signed(distance).ok_or(Errno::EINVAL)?;
        offset.store(target, Ordering::Relaxed);
        Ok(target)
    }
}

/// Whether a descriptor would survive `execve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum OnExec {
    Keep,
    Close,
}

#[derive(Debug, Clone)]
struct Entry {
    file: Arc<OpenFile>,
    on_exec: OnExec,
}

/// The open files of one process, by descriptor.
#[derive(Debug)]
pub struct FdTable(Vec<Option<Entry>>);

impl FdTable {
    /// Descriptors 0, 1 and 2 on the console.
    pub fn with_console() -> Self {
        let open = |stream| {
            let file = Arc::new(OpenFile { kind: Kind::Console(stream) });
            Some(Entry { file, on_exec: OnExec::Keep })
        };
        Self([Stream::Input, Stream::Output, Stream::Error].map(open).into())
    }

    /// The open file behind a descriptor.
    pub fn get(&self, fd: u64) -> Result<Arc<OpenFile>, Errno> {
        self.entry(fd).map(|entry| Arc::clone(&entry.file))
    }

    /// Puts a file at the lowest free descriptor not below `lowest`.
    pub fn insert(&mut self, file: Arc<OpenFile>, lowest: u64, on_exec: OnExec) -> Result<u64, Errno> {
        let lowest = usize::try_from(lowest).map_err(|_| Errno::EINVAL)?;
        let mut candidates = lowest..MAX_FILES;
        let free = candidates.find(|fd| self.0.get(*fd).is_none_or(Option::is_none));
        let fd = free.ok_or(Errno::EMFILE)? as u64;
        self.replace(fd, file, on_exec)?;
        Ok(fd)
    }

    /// Puts a file at `fd`, closing what was there.
    pub fn replace(&mut self, fd: u64, file: Arc<OpenFile>, on_exec: OnExec) -> Result<(), Errno> {
        let index = Some(index(fd)).filter(|fd| *fd < MAX_FILES).ok_or(Errno::EBADF)?;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(Entry { file, on_exec });
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
        self.0.get(index(fd)).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// The place of a descriptor that is open.
    fn entry_mut(&mut self, fd: u64) -> Result<&mut Option<Entry>, Errno> {
        self.0.get_mut(index(fd)).filter(|place| place.is_some()).ok_or(Errno::EBADF)
    }
}

/// Descriptors are ints: the upper half of the register is not looked at, by any call.
fn index(fd: u64) -> usize {
    fd as u32 as usize
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory; it can be looked at, not opened.
    Directory,
    /// A file made up on demand.
    File(proc::File),
    /// A symbolic link to the program.
    Executable,
}

/// Finds what `path` names; the working directory is `/` and stays there.
pub fn look_up(path: &[u8], process: &Process) -> Result<Node, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut parts = [&b""[..]; 4];
    let mut depth = 0_usize;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            depth = depth.saturating_sub(1);
            continue;
        }
        *parts.get_mut(depth).ok_or(Errno::ENOENT)? = part;
        depth += 1;
    }
    match parts[..depth] {
        [] | [b"proc"] => Ok(Node::Directory),
        [b"proc", who] if is_self(who, process) => Ok(Node::Directory),
        [b"proc", who, b"exe"] if is_self(who, process) => Ok(Node::Executable),
        [b"proc", who, name] if is_self(who, process) => {
            proc::File::of_process(name).map(Node::File).ok_or(Errno::ENOENT)
        }
        [b"proc", name] => proc::File::of_system(name).map(Node::File).ok_or(Errno::ENOENT),
        _ => Err(Errno::ENOENT),
    }
}

fn is_self(name: &[u8], process: &Process) -> bool {
    let number = core::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    name == b"self" || number == Some(process.pid.number())
}
