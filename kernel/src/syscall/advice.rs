//! Calls about memory that is mapped already: mremap(2), madvise(2), mincore(2), mlock(2) and its relatives.
//!
//! Owns the checks that need no memory manager, in the order in which Linux makes them; `process/mapping.rs` does the rest.

use linux_raw_sys::general as flag;
use mm::addr::VirtAddr;
use mm::space::{Lock, Move};

use super::abi::{PAGE_SIZE, USER_END, check_user_range};
use super::errno::{Errno, SysResult};
use super::mem::{check_aligned, checked_range, pages};
use crate::process::mapping::{Advice, RESIDENCY_PAGES};
use crate::process::thread::Thread;

/// mremap(2). `MREMAP_DONTUNMAP`, and an old length of 0 (a second mapping of shared memory), are not there: EINVAL.
pub(super) async fn mremap(thread: &Thread, [start, old, new, flags, to]: [u64; 5]) -> SysResult {
    let has = |wanted: u32| flags & u64::from(wanted) != 0;
    let known = u64::from(flag::MREMAP_MAYMOVE | flag::MREMAP_FIXED);
    if flags & !known != 0 || (has(flag::MREMAP_FIXED) && !has(flag::MREMAP_MAYMOVE)) {
        return Err(Errno::EINVAL);
    }
    check_aligned(start)?;
    let (old, new) = (pages(old).ok_or(Errno::EINVAL)?, pages(new).ok_or(Errno::EINVAL)?);
    if old == 0 || new == 0 {
        return Err(Errno::EINVAL);
    }
    let fits = |start: u64, len: u64| start.checked_add(len).is_some_and(|end| end <= USER_END);
    let go = if has(flag::MREMAP_FIXED) {
        check_aligned(to)?;
        if !fits(to, new) {
            return Err(Errno::EINVAL);
        }
        Move::To(VirtAddr::new(to))
    } else if has(flag::MREMAP_MAYMOVE) {
        Move::Allowed
    } else {
        Move::Forbidden
    };
    if !fits(start, old) {
        return Err(Errno::EFAULT);
    }
    if !fits(0, new) {
        return Err(Errno::ENOMEM);
    }
    thread.process.remap(start, old, new, go).await
}

fn advice(number: u64) -> Result<Advice, Errno> {
    Ok(match number as u32 {
        // Freed at once, and not when memory gets short: madvise(2) allows either.
        flag::MADV_DONTNEED | flag::MADV_FREE => Advice::Discard,
        flag::MADV_WILLNEED => Advice::WillNeed,
        flag::MADV_COLD => Advice::Cold,
        flag::MADV_PAGEOUT => Advice::PageOut,
        flag::MADV_POPULATE_READ => Advice::PopulateRead,
        flag::MADV_POPULATE_WRITE => Advice::PopulateWrite,
        // Hints that nothing here follows, and defaults.
        flag::MADV_NORMAL
        | flag::MADV_RANDOM
        | flag::MADV_SEQUENTIAL
        | flag::MADV_DOFORK
        | flag::MADV_KEEPONFORK
        | flag::MADV_MERGEABLE
        | flag::MADV_UNMERGEABLE
        | flag::MADV_HUGEPAGE
        | flag::MADV_NOHUGEPAGE
        | flag::MADV_DONTDUMP
        | flag::MADV_DODUMP => Advice::Nothing,
        // `MADV_DONTFORK` and `MADV_WIPEONFORK` among them: a child would have what it must not have.
        _ => return Err(Errno::EINVAL),
    })
}

/// madvise(2).
pub(super) async fn madvise(thread: &Thread, start: u64, len: u64, number: u64) -> SysResult {
    let advice = advice(number)?;
    if let Some(len) = checked_range(start, len, Errno::EINVAL)? {
        thread.process.advise(start, len, advice).await?;
    }
    Ok(0)
}

/// mincore(2).
pub(super) async fn mincore(thread: &Thread, start: u64, len: u64, out: u64) -> SysResult {
    check_aligned(start)?;
    let count = len.div_ceil(PAGE_SIZE);
    check_user_range(start, len).map_err(|_| Errno::ENOMEM)?;
    check_user_range(out, count)?;
    let mut done = 0;
    while done < count {
        let pages = (count - done).min(RESIDENCY_PAGES as u64) as usize;
        let (told, told_of) = thread.process.residency(start + done * PAGE_SIZE, pages)?;
        thread.process.write_bytes(out + done, &told[..told_of]).await?;
        done += told_of as u64;
        executor::yield_now().await;
    }
    Ok(0)
}

/// The pages that a range of bytes touches: mlock(2) rounds both ends. `None` if there are none.
fn touched(start: u64, len: u64) -> Result<Option<(u64, u64)>, Errno> {
    let first = start - start % PAGE_SIZE;
    let len = len.checked_add(start - first).and_then(pages).ok_or(Errno::EINVAL)?;
    match first.checked_add(len) {
        Some(_) if len == 0 => Ok(None),
        Some(end) if end <= USER_END => Ok(Some((first, len))),
        Some(_) => Err(Errno::ENOMEM),
        None => Err(Errno::EINVAL),
    }
}

/// mlock(2), munlock(2).
pub(super) async fn mlock(thread: &Thread, start: u64, len: u64, lock: Lock) -> SysResult {
    if let Some((first, len)) = touched(start, len)? {
        thread.process.lock_memory(first, len, lock).await?;
    }
    Ok(0)
}

/// mlock2(2).
pub(super) async fn mlock2(thread: &Thread, start: u64, len: u64, flags: u64) -> SysResult {
    let lock = match flags as u32 {
        0 => Lock::Now,
        flag::MLOCK_ONFAULT => Lock::OnFault,
        _ => return Err(Errno::EINVAL),
    };
    mlock(thread, start, len, lock).await
}

/// mlockall(2).
pub(super) async fn mlockall(thread: &Thread, flags: u64) -> SysResult {
    let known = flag::MCL_CURRENT | flag::MCL_FUTURE | flag::MCL_ONFAULT;
    let flags = flags as u32;
    if flags & !known != 0 || flags & (flag::MCL_CURRENT | flag::MCL_FUTURE) == 0 {
        return Err(Errno::EINVAL);
    }
    let lock = if flags & flag::MCL_ONFAULT != 0 { Lock::OnFault } else { Lock::Now };
    if flags & flag::MCL_CURRENT != 0 {
        thread.process.lock_all_memory(lock).await?;
    }
    thread.process.lock_future_memory(if flags & flag::MCL_FUTURE != 0 { lock } else { Lock::Unlocked })?;
    Ok(0)
}

/// munlockall(2).
pub(super) async fn munlockall(thread: &Thread) -> SysResult {
    thread.process.lock_future_memory(Lock::Unlocked)?;
    thread.process.lock_all_memory(Lock::Unlocked).await?;
    Ok(0)
}
