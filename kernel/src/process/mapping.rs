//! What a process may ask about its mappings beyond map and unmap: move, populate, lock, advise, and what is resident.
//!
//! Owns the translation between Linux' words and `mm`'s, errno by errno, as `memory.rs` does for the rest. Checks of arguments that
//! need no memory manager are the system calls' (`syscall/advice.rs`).

use mm::addr::VirtAddr;
use mm::space::{Cooling, Lock, LockLimit, MapError, Move, Populate, PopulateError, Residency, Scope};

use super::limits::Resource;
use super::memory::{MapWish, Place, Protection, map_errno};
use super::process::Process;
use crate::syscall::abi::PAGE_SIZE;
use crate::syscall::errno::Errno;

/// Pages that [`Process::residency`] tells of at once.
pub const RESIDENCY_PAGES: usize = 64;

/// madvise(2), as far as it does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The contents are not needed any more.
    Discard,
    /// The pages are needed soon.
    WillNeed,
    /// The pages are not needed soon.
    Cold,
    /// The pages are to go to swap now.
    PageOut,
    /// All pages are to be there, for loads.
    PopulateRead,
    /// All pages are to be there, for stores.
    PopulateWrite,
    /// Nothing that would change anything here.
    Nothing,
}

/// Why `mlock` and its relatives fail.
fn lock_errno(error: PopulateError) -> Errno {
    match error {
        // mlock(2): over the limit and not mapped are the same to it.
        PopulateError::Range(MapError::OverLimit) => Errno::ENOMEM,
        PopulateError::Range(error) => map_errno(error),
        PopulateError::OutOfMemory => Errno::EAGAIN,
        PopulateError::Forbidden | PopulateError::BadPage => Errno::ENOMEM,
    }
}

fn populate_errno(error: PopulateError) -> Errno {
    match error {
        PopulateError::Range(error) => map_errno(error),
        PopulateError::Forbidden => Errno::EINVAL,
        PopulateError::BadPage => Errno::EFAULT,
        PopulateError::OutOfMemory => Errno::ENOMEM,
    }
}

impl Process {
    /// mremap(2) once its arguments make sense.
    pub async fn remap(&self, start: u64, old: u64, new: u64, go: Move) -> Result<u64, Errno> {
        self.take_over_lock_limit();
        let moved = crate::mm().remap(self.space(), VirtAddr::new(start), old, new, go).await;
        moved.map(VirtAddr::as_u64).map_err(|error| match error {
            MapError::OverLimit => Errno::EAGAIN,
            error => map_errno(error),
        })
    }

    /// Memory in a block of its own, in part of the address space; within the process's limits.
    pub async fn allocate(&self, within: Scope, len: u64, protection: Protection) -> Result<u64, Errno> {
        self.check_limits(&MapWish::anonymous(Place::Anywhere, len, protection))?;
        let at = crate::mm().allocate(self.space(), within, len, protection.rights()).await;
        at.map(VirtAddr::as_u64).map_err(map_errno)
    }

    /// Unmaps the whole block that an address lies in.
    pub async fn free_block(&self, address: u64) -> Result<u64, Errno> {
        crate::mm().free_block(self.space(), VirtAddr::new(address)).await.map(|()| 0).map_err(map_errno)
    }

    /// Sets a range apart.
    pub fn create_submap(&self, within: Scope, len: u64) -> Result<u64, Errno> {
        let start = crate::mm().create_submap(self.space(), within, len);
        start.map(VirtAddr::as_u64).map_err(map_errno)
    }

    /// Ends a submap and unmaps what is in it.
    pub async fn remove_submap(&self, start: u64) -> Result<u64, Errno> {
        crate::mm().remove_submap(self.space(), VirtAddr::new(start)).await.map(|()| 0).map_err(map_errno)
    }

    /// madvise(2) once its arguments make sense.
    pub async fn advise(&self, start: u64, len: u64, advice: Advice) -> Result<(), Errno> {
        let (mm, space, addr) = (crate::mm(), self.space(), VirtAddr::new(start));
        match advice {
            Advice::Discard => mm.discard(space, addr, len).await.map_err(map_errno),
            Advice::WillNeed => mm.prefetch(space, addr, len).await.map_err(map_errno),
            Advice::Cold => mm.cool(space, addr, len, Cooling::Cold).await.map_err(map_errno),
            Advice::PageOut => mm.cool(space, addr, len, Cooling::Out).await.map_err(map_errno),
            Advice::PopulateRead => mm.populate(space, addr, len, Populate::Read).await.map_err(populate_errno),
            Advice::PopulateWrite => mm.populate(space, addr, len, Populate::Write).await.map_err(populate_errno),
            Advice::Nothing => mm.check_mapped(space, addr, len).map_err(map_errno),
        }
    }

    /// Makes what was just mapped resident (`MAP_POPULATE`). As on Linux, it is no error if that does not succeed.
    pub async fn populate(&self, start: u64, len: u64) {
        let _as_far_as_it_goes =
            crate::mm().populate(self.space(), VirtAddr::new(start), len, Populate::AsAllowed).await;
    }

    /// mlock(2), mlock2(2), munlock(2).
    pub async fn lock_memory(&self, start: u64, len: u64, lock: Lock) -> Result<(), Errno> {
        if lock != Lock::Unlocked {
            self.check_may_lock()?;
        }
        crate::mm().lock(self.space(), VirtAddr::new(start), len, lock).await.map_err(lock_errno)
    }

    /// mlockall(2) of what is mapped, munlockall(2).
    pub async fn lock_all_memory(&self, lock: Lock) -> Result<(), Errno> {
        if lock != Lock::Unlocked {
            self.check_may_lock()?;
        }
        match crate::mm().lock_all(self.space(), lock).await {
            // mlockall(2) fails for the limit; what cannot be made resident is no error.
            Err(PopulateError::Range(error)) => Err(lock_errno(PopulateError::Range(error))),
            _ => Ok(()),
        }
    }

    /// mlockall(2) of what will be mapped.
    pub fn lock_future_memory(&self, lock: Lock) -> Result<(), Errno> {
        if lock != Lock::Unlocked {
            self.check_may_lock()?;
        }
        crate::mm().set_lock_future(self.space(), lock);
        Ok(())
    }

    /// How memory is locked that is mapped from now on. The limit is in force when this returns.
    pub fn future_lock(&self) -> Lock {
        self.take_over_lock_limit();
        crate::mm().lock_future(self.space())
    }

    fn check_may_lock(&self) -> Result<(), Errno> {
        if self.take_over_lock_limit() == LockLimit(0) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Tells `mm` of `RLIMIT_MEMLOCK`.
    fn take_over_lock_limit(&self) -> LockLimit {
        let limit = LockLimit(self.inherited.lock().limits.get(Resource::MEMLOCK).current / PAGE_SIZE);
        crate::mm().set_lock_limit(self.space(), limit);
        limit
    }

    /// Which of up to [`RESIDENCY_PAGES`] pages are resident: bytes as mincore(2) writes them, and how many.
    pub fn residency(&self, start: u64, pages: usize) -> Result<([u8; RESIDENCY_PAGES], usize), Errno> {
        let mut told = [Residency::Absent; RESIDENCY_PAGES];
        let count = pages.min(RESIDENCY_PAGES);
        let page = VirtAddr::new(start).page();
        let count = crate::mm().residency(self.space(), page, &mut told[..count]).map_err(map_errno)?;
        Ok((told.map(|page| u8::from(page == Residency::Resident)), count))
    }
}
