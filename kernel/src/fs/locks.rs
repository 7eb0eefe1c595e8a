//! Locks on files between processes: whom they belong to, waiting for them, and when they go.
//!
//! Owns the locks of one file ([`FileLocks`], in its inode) and which process waits for which. There are two kinds that know nothing
//! of each other, as on Linux: ranges, by fcntl(2), and whole files, by flock(2). Does not own the arithmetic of ranges
//! (`range_locks.rs`) nor the calls (`syscall/lock.rs`).
//!
//! A range belongs to a process, and goes when that process closes any descriptor of the file; or to an open file
//! (`F_OFD_SETLK`), as flock's does, and goes with it. Lock order: a file's locks → who waits for whom.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use maitake_sync::WaitQueue;

use super::disk::Inode;
use super::range_locks::{Held, Mode, Range, RangeLocks, Refused};
use super::{Kind, OpenFile};
use crate::process::process::Tid;
use crate::sync::{Mutex, Once};
use crate::syscall::errno::Errno;

/// Whom a lock belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// All threads of a process.
    Process(Tid),
    /// Whoever has a descriptor of an open file, by its [`Handle`].
    OpenFile(u64),
}

/// Which of a file's locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// fcntl(2).
    Ranges,
    /// flock(2).
    Whole,
}

/// The locks of one file.
#[derive(Default)]
pub struct FileLocks {
    ranges: Mutex<RangeLocks<Owner>>,
    whole: Mutex<RangeLocks<Owner>>,
    /// Woken whenever something is given up.
    given_up: WaitQueue,
}

/// Processes that wait, each with who is in its way: a circle of them would wait for ever.
static WAITING: Mutex<Vec<(Tid, Tid)>> = Mutex::new(Vec::new());

impl FileLocks {
    fn of(&self, family: Family) -> &Mutex<RangeLocks<Owner>> {
        match family {
            Family::Ranges => &self.ranges,
            Family::Whole => &self.whole,
        }
    }

    /// What is in the way of a lock.
    pub fn conflict(&self, owner: Owner, mode: Mode, range: Range) -> Option<Held<Owner>> {
        self.ranges.lock().conflict(owner, mode, range)
    }

    /// Has the lock, or nothing changes.
    pub fn lock_now(&self, family: Family, owner: Owner, mode: Mode, range: Range) -> Result<(), Refused<Owner>> {
        self.of(family).lock().lock(owner, mode, range)?;
        // A lock that was held alone before may be shared now.
        self.given_up.wake_all();
        Ok(())
    }

    /// Waits for the lock. EDEADLK: the process in the way waits for the caller, itself or through others.
    pub async fn lock(&self, family: Family, owner: Owner, mode: Mode, range: Range) -> Result<(), Errno> {
        let mut result = Ok(());
        let mut waits = Waits::default();
        let attempt = || match self.lock_now(family, owner, mode, range) {
            Ok(()) => true,
            Err(Refused::Full) => {
                result = Err(Errno::ENOLCK);
                true
            }
            Err(Refused::Conflict(held)) => {
                result = waits.begin(owner, held.owner);
                result.is_err()
            }
        };
        // The queue is never closed, so the wait cannot fail.
        let _ = self.given_up.wait_for(attempt).await;
        result
    }

    /// Gives a range up.
    pub fn unlock(&self, family: Family, owner: Owner, range: Range) -> Result<(), Refused<Owner>> {
        self.of(family).lock().unlock(owner, range)?;
        self.given_up.wake_all();
        Ok(())
    }

    /// Gives up everything that `owner` holds. Never waits, needs no memory.
    pub fn release(&self, owner: Owner) {
        if self.ranges.lock().release(owner) | self.whole.lock().release(owner) {
            self.given_up.wake_all();
        }
    }
}

/// A process that waits, if it does, for as long as this lives.
#[derive(Default)]
struct Waits(Option<Tid>);

impl Waits {
    /// `owner` waits for `other` from now on. Only processes are looked at: an open file may belong to several (fcntl(2)).
    fn begin(&mut self, owner: Owner, other: Owner) -> Result<(), Errno> {
        self.end();
        let (Owner::Process(owner), Owner::Process(other)) = (owner, other) else { return Ok(()) };
        let mut waiting = WAITING.lock();
        let mut at = other;
        // A process whose threads wait for several is followed along one of them: the walk ends, and may miss a circle.
        for _ in 0..=waiting.len() {
            if at == owner {
                return Err(Errno::EDEADLK);
            }
            match waiting.iter().find(|(waits, _)| *waits == at) {
                Some((_, next)) => at = *next,
                None => break,
            }
        }
        waiting.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        waiting.push((owner, other));
        self.0 = Some(owner);
        Ok(())
    }

    fn end(&mut self) {
        let Some(owner) = self.0.take() else { return };
        let mut waiting = WAITING.lock();
        if let Some(index) = waiting.iter().position(|(waits, _)| *waits == owner) {
            waiting.swap_remove(index);
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process has closed a descriptor of this file: what it has locked of it goes, whatever other descriptors it has (fcntl(2)).
pub fn closed_by(process: Tid, file: &OpenFile) {
    if let Kind::Disk(inode) = &file.kind {
        inode.locks.release(Owner::Process(process));
    }
}

/// What an open file holds by: it gives its locks up when it is dropped.
#[derive(Default)]
pub struct Handle(Once<(u64, Arc<Inode>)>);

impl Handle {
    /// The owner that stands for the open file with this handle, of this inode.
    pub fn owner(&self, inode: &Arc<Inode>) -> Owner {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (number, _) = self.0.call_once(|| (NEXT.fetch_add(1, Ordering::Relaxed), Arc::clone(inode)));
        Owner::OpenFile(*number)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some((number, inode)) = self.0.get() {
            inode.locks.release(Owner::OpenFile(*number));
        }
    }
}
