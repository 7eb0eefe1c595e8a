//! Calls that change the address space. Checks what the program asked for and passes it to `mm`.

use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general as flag;

use super::abi::{PAGE_SIZE, USER_END};
use super::errno::{Errno, SysResult};
use crate::process::memory::{MapWish, Place, Protection};
use crate::process::thread::Thread;
use mm::space::Lock;

static MISSING_FILE_MAPPINGS: Missing = Missing(AtomicBool::new(false));
static MISSING_SHARED_MEMORY: Missing = Missing(AtomicBool::new(false));

/// Something a program asked for that is not there yet: said once, not at every attempt.
struct Missing(AtomicBool);

impl Missing {
    fn note(&self, what: &str) {
        if !self.0.swap(true, Ordering::Relaxed) {
            log::warn!("{what}");
        }
    }
}

/// `len` in whole pages; zero and overflow are errors with names of their own per call.
pub(super) fn pages(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(PAGE_SIZE)
}

pub(super) fn check_aligned(address: u64) -> Result<(), Errno> {
    if address.is_multiple_of(PAGE_SIZE) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn protection(bits: u64) -> Result<Protection, Errno> {
    let known = flag::PROT_READ | flag::PROT_WRITE | flag::PROT_EXEC;
    if bits & !u64::from(known) != 0 {
        return Err(Errno::EINVAL);
    }
    let has = |wanted: u32| bits & u64::from(wanted) != 0;
    Ok(Protection { read: has(flag::PROT_READ), write: has(flag::PROT_WRITE), execute: has(flag::PROT_EXEC) })
}

/// brk(2): the system call returns where the heap ends now; failure is an end that did not move.
pub(super) async fn brk(thread: &Thread, wanted: u64) -> SysResult {
    let heap = *thread.space.heap.lock();
    if wanted < heap.start || wanted > USER_END {
        return Ok(heap.end);
    }
    let (old, new) = (heap.end.next_multiple_of(PAGE_SIZE), wanted.next_multiple_of(PAGE_SIZE));
    let changed = if new > old {
        let wish = MapWish::heap(old, new - old);
        thread.process.map(wish).await.map(|_| ())
    } else if new < old {
        thread.process.unmap(new, old - new).await
    } else {
        Ok(())
    };
    let mut heap = thread.space.heap.lock();
    if changed.is_ok() {
        heap.end = wanted;
    }
    Ok(heap.end)
}

/// mmap(2) of anonymous private memory. File and shared mappings come with memory objects.
pub(super) async fn mmap(thread: &Thread, [hint, len, prot, flags, fd, offset]: [u64; 6]) -> SysResult {
    const HUGETLB: u32 = flag::MAP_HUGETLB;
    let has = |wanted: u32| flags & u64::from(wanted) != 0;
    let len = pages(len).filter(|len| *len <= USER_END).ok_or(Errno::ENOMEM)?;
    if len == 0 || !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let rights = protection(prot & !u64::from(flag::PROT_GROWSDOWN | flag::PROT_GROWSUP))?;
    if !has(flag::MAP_ANONYMOUS) {
        thread.process.files.lock().get(fd)?;
        MISSING_FILE_MAPPINGS.note("mmap of a file is not implemented: answered ENODEV");
        return Err(Errno::ENODEV);
    }
    match flags as u32 & flag::MAP_TYPE {
        flag::MAP_PRIVATE => {}
        flag::MAP_SHARED | flag::MAP_SHARED_VALIDATE => {
            MISSING_SHARED_MEMORY.note("shared anonymous mmap is not implemented: answered EOPNOTSUPP");
            return Err(Errno::EOPNOTSUPP);
        }
        _ => return Err(Errno::EINVAL),
    }
    if has(HUGETLB) {
        // As Linux without reserved huge pages.
        return Err(Errno::ENOMEM);
    }
    let place = if has(flag::MAP_FIXED_NOREPLACE) {
        check_fixed(hint, len)?;
        Place::FixedIfFree(hint)
    } else if has(flag::MAP_FIXED) {
        check_fixed(hint, len)?;
        Place::Fixed(hint)
    } else if hint == 0 {
        Place::Anywhere
    } else {
        Place::Near(hint - hint % PAGE_SIZE)
    };
    let wish = MapWish::anonymous(place, len, rights);
    let wish = if has(flag::MAP_NORESERVE) { wish.never_promised() } else { wish };
    let future_lock = thread.process.future_lock();
    let mapped = thread.process.map(wish).await?;
    finish_mapping(thread, mapped, len, [has(flag::MAP_LOCKED), has(flag::MAP_POPULATE), future_lock == Lock::Now])
        .await
}

/// What mmap(2) does after the mapping is there: locks it, or makes it resident.
async fn finish_mapping(thread: &Thread, start: u64, len: u64, [lock, populate, locked]: [bool; 3]) -> SysResult {
    if lock && let Err(error) = thread.process.lock_memory(start, len, Lock::OnFault).await {
        thread.process.unmap(start, len).await?;
        // mmap(2): over the limit is EAGAIN here, and not ENOMEM as for mlock(2).
        return Err(if error == Errno::ENOMEM { Errno::EAGAIN } else { error });
    }
    if lock || populate || locked {
        thread.process.populate(start, len).await;
    }
    Ok(start)
}

fn check_fixed(address: u64, len: u64) -> Result<(), Errno> {
    check_aligned(address)?;
    match address.checked_add(len) {
        Some(end) if end <= USER_END && address != 0 => Ok(()),
        // Page zero is never mapped (design D16); Linux says the same below mmap_min_addr.
        Some(_) if address == 0 => Err(Errno::EPERM),
        _ => Err(Errno::ENOMEM),
    }
}

/// The checks munmap, mprotect and madvise share; `None` if there is nothing to do.
pub(super) fn checked_range(start: u64, len: u64, too_far: Errno) -> Result<Option<u64>, Errno> {
    check_aligned(start)?;
    let len = pages(len).ok_or(too_far)?;
    match start.checked_add(len) {
        Some(end) if end <= USER_END => Ok((len != 0).then_some(len)),
        _ => Err(too_far),
    }
}

/// munmap(2).
pub(super) async fn munmap(thread: &Thread, start: u64, len: u64) -> SysResult {
    let len = checked_range(start, len, Errno::EINVAL)?.ok_or(Errno::EINVAL)?;
    thread.process.unmap(start, len).await?;
    Ok(0)
}

/// mprotect(2).
pub(super) async fn mprotect(thread: &Thread, start: u64, len: u64, prot: u64) -> SysResult {
    let rights = protection(prot)?;
    if let Some(len) = checked_range(start, len, Errno::ENOMEM)? {
        thread.process.protect(start, len, rights).await?;
    }
    Ok(0)
}

/// msync(2): nothing mapped has a file behind it.
pub(super) fn msync(start: u64, len: u64, flags: u64) -> SysResult {
    let (known, both) = (flag::MS_ASYNC | flag::MS_INVALIDATE | flag::MS_SYNC, flag::MS_ASYNC | flag::MS_SYNC);
    if flags & !u64::from(known) != 0 || flags & u64::from(both) == u64::from(both) {
        return Err(Errno::EINVAL);
    }
    checked_range(start, len, Errno::ENOMEM).map(|_| 0)
}
