//! The process side's way to `mm`'s user pagers, as `memory.rs` is to the rest of it.
//!
//! Owns the translation between Linux' words and `mm`'s. What is kept of a pager is in `mm`; this names it, and closes it when dropped.

use core::task::Waker;

use mm::addr::{PageRange, VirtAddr};
use mm::platform::Access;
use mm::space::{Contents, UserPagerError, UserPagerId, Wake};

use super::process::Process;
use crate::syscall::abi::{PAGE_SIZE, check_user_range};
use crate::syscall::errno::Errno;

/// A fault that a pager is to serve.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Fault {
    pub address: u64,
    pub is_write: bool,
}

/// A pager; closed when dropped.
#[derive(Debug)]
pub struct Pager(UserPagerId);

impl Pager {
    /// One for the memory of `process`, without ranges.
    pub fn of(process: &Process) -> Result<Self, Errno> {
        crate::mm().create_user_pager(process.space()).map(Self).map_err(|_| Errno::ENOMEM)
    }

    /// The next fault nobody was told of yet.
    pub fn next_fault(&self) -> Option<Fault> {
        let question = crate::mm().next_question(self.0)?;
        Some(Fault { address: question.addr.as_u64(), is_write: question.access == Access::Write })
    }

    /// Whether there is one.
    pub fn has_fault(&self) -> bool {
        crate::mm().has_question(self.0)
    }

    /// Has `waker` woken when there is one.
    pub fn register(&self, waker: &Waker) {
        crate::mm().await_question(self.0, waker);
    }

    /// Makes the range the pager's.
    pub async fn take_range(&self, start: u64, len: u64) -> Result<(), Errno> {
        crate::mm().register_user_pager(self.0, VirtAddr::new(start), len).await.map_err(errno)
    }

    /// Makes it memory like any other.
    pub async fn give_range(&self, start: u64, len: u64) -> Result<(), Errno> {
        crate::mm().unregister_user_pager(self.0, VirtAddr::new(start), len).await.map_err(errno)
    }

    /// Supplies a page with what is at `from` in the memory of `process`.
    pub async fn copy(&self, process: &Process, to: u64, from: u64, wake: Wake) -> Result<(), Errno> {
        check_user_range(from, PAGE_SIZE)?;
        let contents = Contents::Memory(process.space(), VirtAddr::new(from));
        crate::mm().answer(self.0, VirtAddr::new(to), contents, wake).await.map_err(errno)
    }

    /// Supplies a page of zeroes.
    pub async fn zero(&self, to: u64, wake: Wake) -> Result<(), Errno> {
        crate::mm().answer(self.0, VirtAddr::new(to), Contents::Zero, wake).await.map_err(errno)
    }

    /// Has those look again who wait in the range, whose bounds are pages'.
    pub fn wake(&self, start: u64, len: u64) {
        let range = PageRange::new(VirtAddr::new(start).page(), len / PAGE_SIZE);
        crate::mm().wake_user_pages(self.0, range);
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        crate::mm().close_user_pager(self.0);
    }
}

/// As ioctl_userfaultfd(2) has them.
fn errno(error: UserPagerError) -> Errno {
    match error {
        UserPagerError::Invalid => Errno::EINVAL,
        UserPagerError::Busy => Errno::EBUSY,
        UserPagerError::NotRegistered => Errno::ENOENT,
        UserPagerError::Exists => Errno::EEXIST,
        UserPagerError::BadAddress => Errno::EFAULT,
        UserPagerError::OutOfMemory => Errno::ENOMEM,
        UserPagerError::SpaceGone => Errno::ESRCH,
    }
}
