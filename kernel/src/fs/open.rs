//! Open files: what a descriptor refers to.
//!
//! Owns what kinds there are, their offset and status flags. Reading and writing is in `syscall/file.rs`, because it
//! goes to and from user memory. Closing is dropping the last reference.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::task::Waker;

use linux_raw_sys::general as flag;
use maitake_sync::{Mutex, MutexGuard};
use mutex_traits::ConstInit;

use super::attributes::{Attributes, FileType};
use super::control::Control;
use super::disk::Inode;
use super::exclusion::Writing;
use super::memfd::MemFile;
use super::names::Name;
use super::proc;
use super::userfault::UserFault;
use super::vnode::{Access, Vnode};
use super::{locks, pipe, stdio};
use crate::process::process::Process;
use crate::sync::IrqLock;
use crate::syscall::errno::Errno;

/// One of the console's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Stream {
    Input,
    Output,
    Error,
    /// All of it, as `/dev/console` and `/dev/tty` are opened.
    Both,
}

/// What an open file is.
pub enum Kind {
    /// The console.
    Console(Stream),
    /// A file made up when it was opened; reading it twice gives the same bytes.
    Snapshot {
        /// Its bytes.
        contents: Vec<u8>,
    },
    /// A file under `/proc` that is computed where it is read.
    Computed(proc::Computed),
    /// `/dev/null`
    Null,
    /// `/dev/zero`
    Zero,
    /// `/dev/full`
    Full,
    /// `/dev/random`, `/dev/urandom`
    Random,
    /// A directory, or something opened for its name only (O_PATH): its node says which.
    Place,
    /// A regular file of the data disk.
    Disk(Arc<Inode>),
    /// A file that is memory.
    Memory(Box<MemFile>),
    /// One end of a pipe.
    Pipe(pipe::End),
    /// A file of `/sys` or `/proc` that takes values.
    Control(Control),
    /// The faults of memory that a program serves.
    UserFault(UserFault),
}

/// What a file is ready for (poll(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    /// The other side of a pipe has nobody who writes.
    pub hangup: bool,
    /// It has nobody who reads.
    pub broken: bool,
}

/// An open file; descriptors made by `dup` share one, and with it the offset.
pub struct OpenFile {
    /// What it is.
    pub kind: Kind,
    /// What it may be used for.
    pub access: Access,
    /// What it was opened as, if it has a name.
    pub node: Option<Vnode>,
    /// What a file of the data disk was found as, for people who look (`/proc/PID/fd`).
    pub name: Option<Arc<Name>>,
    /// Keeps others from running a file that may be written to through this.
    _writing: Option<Writing>,
    /// `O_APPEND`, `O_NONBLOCK` and what else fcntl(2) changes.
    status: AtomicU32,
    offset: AtomicU64,
    /// What it holds locks by.
    pub locks: locks::Handle,
    /// Held while the offset is used and moved: reads and writes of one open file happen one after the other (read(2)).
    turn: Mutex<(), IrqLock>,
}

/// Where `lseek` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of lseek(2)")]
pub enum Whence {
    Set,
    Current,
    End,
}

/// Status flags that fcntl(2) may change and we keep.
const CHANGEABLE: u32 = flag::O_APPEND | flag::O_NONBLOCK | flag::O_DIRECT | flag::O_NOATIME | flag::FASYNC;

impl OpenFile {
    /// A file that has just been opened with these flags (open(2)), at its beginning.
    pub fn new(kind: Kind, flags: u32) -> Self {
        Self {
            kind,
            access: Access::of_flags(flags),
            node: None,
            name: None,
            _writing: None,
            status: AtomicU32::new(flags & CHANGEABLE),
            offset: AtomicU64::new(0),
            locks: locks::Handle::default(),
            turn: Mutex::new_with_raw_mutex((), IrqLock::INIT),
        }
    }

    /// The same, with the name it was opened by.
    pub fn named(self, node: Vnode) -> Self {
        Self { node: Some(node), ..self }
    }

    /// The same, with where that name is.
    pub fn found(self, name: Option<Arc<Name>>) -> Self {
        Self { name, ..self }
    }

    /// The same, with the right to write to it.
    pub fn writing(self, right: Option<Writing>) -> Self {
        Self { _writing: right, ..self }
    }

    /// Waits for the turn to use the offset.
    pub async fn turn(&self) -> MutexGuard<'_, (), IrqLock> {
        self.turn.lock().await
    }

    /// Where the next read or write begins.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Moves it.
    pub fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Whether writes go to the end.
    pub fn appends(&self) -> bool {
        self.status.load(Ordering::Relaxed) & flag::O_APPEND != 0
    }

    /// F_GETFL.
    pub fn flags(&self) -> u32 {
        let mode = match self.access {
            Access { read: true, write: true } => flag::O_RDWR,
            Access { write: true, .. } => flag::O_WRONLY,
            Access { read: true, .. } => flag::O_RDONLY,
            Access { .. } => flag::O_PATH,
        };
        mode | self.status.load(Ordering::Relaxed)
    }

    /// F_SETFL.
    pub fn set_flags(&self, flags: u32) {
        self.status.store(flags & CHANGEABLE, Ordering::Relaxed);
    }

    /// Whether calls on it must not wait.
    pub fn is_nonblocking(&self) -> bool {
        self.status.load(Ordering::Relaxed) & flag::O_NONBLOCK != 0
    }

    /// What can be done with it without waiting.
    pub fn readiness(&self) -> Readiness {
        let (readable, writable) = match &self.kind {
            Kind::Console(Stream::Input) => (stdio::is_readable(), false),
            Kind::Console(Stream::Both) => (stdio::is_readable(), true),
            Kind::Console(Stream::Output | Stream::Error) => (false, true),
            Kind::Pipe(end) => return end.readiness(),
            Kind::UserFault(faults) => {
                let patience = if self.is_nonblocking() { pipe::Patience::Refuse } else { pipe::Patience::Wait };
                return faults.readiness(patience);
            }
            // Reading and writing these never waits for an event.
            _ => (true, true),
        };
        Readiness { readable, writable, ..Readiness::default() }
    }

    /// Has `waker` woken when [`Self::readiness`] may have changed, once. Not for standard input: its interrupt handler may
    /// not drop wakers, so it has a queue of its own ([`stdio::readable`]).
    pub fn register(&self, waker: &Waker) {
        match &self.kind {
            Kind::Pipe(end) => end.register(waker),
            Kind::UserFault(faults) => faults.register(waker),
            _ => {}
        }
    }

    /// Whether it reads standard input.
    pub fn is_input(&self) -> bool {
        matches!(self.kind, Kind::Console(Stream::Input | Stream::Both))
    }

    /// lseek(2), where the size is `size`.
    pub fn seek(&self, distance: i64, whence: Whence, size: u64) -> Result<u64, Errno> {
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => self.offset(),
            Whence::End => size,
        };
        let target = base.checked_add_signed(distance).filter(|at| *at <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
        self.set_offset(target);
        Ok(target)
    }

    /// What fstat(2) shows.
    pub async fn attributes(&self, who: &Process) -> Result<Attributes, Errno> {
        if let Some(node) = &self.node {
            return node.attributes(who).await;
        }
        Ok(match &self.kind {
            // A pipe: programs then neither ask for a terminal nor seek.
            Kind::Console(stream) => Attributes::made_up(FileType::Fifo, 0o600, 1, 2 + *stream as u64),
            Kind::Memory(file) => file.attributes(),
            Kind::Pipe(end) => Attributes::made_up(FileType::Fifo, 0o600, 1, end.inode()),
            _ => Attributes::made_up(FileType::Regular, 0o444, 1, 16),
        })
    }
}
