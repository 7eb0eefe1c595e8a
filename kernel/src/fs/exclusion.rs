//! Who runs a file and who may write to it: never both at a time (ETXTBSY; execve(2), open(2), truncate(2)).
//!
//! Owns one count per inode and the two guards that move it. A program's pages come from its file as it runs, so a store to the
//! file would change the program under its own feet. Does not own who holds the guards: open files, and processes.
//!
//! ```text
//!   programs of it        nobody         descriptors that may write to it
//!        −n  ◄── Executing ──  0  ── Writing ──►  +n
//! ```
//! Shared windows keep a file written to after the last descriptor is closed; `mm` knows of those.

use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicI32, Ordering};

use super::disk::Inode;
use crate::mm;
use crate::syscall::errno::Errno;

/// Of an inode: how many may write to it, or minus how many run it.
#[derive(Debug, Default)]
pub struct Users(AtomicI32);

impl Users {
    /// One more in this direction, unless there are some in the other.
    fn enter(&self, step: i32) -> Result<(), Errno> {
        let add = |users: i32| if users * step < 0 { None } else { users.checked_add(step) };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map(drop).map_err(|_| Errno::ETXTBSY)
    }

    fn leave(&self, step: i32) {
        self.0.fetch_sub(step, Ordering::AcqRel);
    }
}

const WRITER: i32 = 1;
const PROGRAM: i32 = -1;

/// The right to write to a file: nobody runs it meanwhile.
pub struct Writing(Arc<Inode>);

impl Writing {
    /// ETXTBSY, if a program runs from it.
    pub fn begin(inode: &Arc<Inode>) -> Result<Self, Errno> {
        inode.users().enter(WRITER)?;
        Ok(Self(Arc::clone(inode)))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.users().leave(WRITER);
    }
}

/// A file that a program runs from: nobody writes to it meanwhile.
pub struct Executing(Arc<Inode>);

impl Executing {
    /// ETXTBSY, if somebody may write to it.
    pub fn begin(inode: Arc<Inode>) -> Result<Self, Errno> {
        inode.users().enter(PROGRAM)?;
        let file = Self(inode);
        // No descriptor can come from here on, so no such window either.
        let data = file.volume().file_in_use(file.ino());
        let is_stored_to = data.is_some_and(|data| mm().object_is_stored_to(data.object()));
        if is_stored_to { Err(Errno::ETXTBSY) } else { Ok(file) }
    }
}

impl Clone for Executing {
    fn clone(&self) -> Self {
        self.0.users().0.fetch_add(PROGRAM, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.users().leave(PROGRAM);
    }
}

impl Deref for Executing {
    type Target = Inode;

    fn deref(&self) -> &Inode {
        &self.0
    }
}
