//! Calls that change the address space. Checks what the program asked for and passes it to `mm`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use linux_raw_sys::general as flag;
use mm::object::{Backing, ObjectPage, Sharing};

use super::abi::{PAGE_SIZE, USER_END};
use super::errno::{Errno, SysResult};
use crate::fs::{Kind, disk};
use crate::process::memory::{MapWish, Place, Protection};
use crate::process::thread::Thread;
use mm::space::Lock;

/// `len` in whole pages; zero and overflow are errors with names of their own per call.
pub(super) fn pages(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(PAGE_SIZE)
}

pub(super) fn check_aligned(address: u64) -> Result<(), Errno> {
    if address.is_multiple_of(PAGE_SIZE) { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn protection(bits: u64) -> Result<Protection, Errno> {
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

/// mmap(2): private or shared, of nothing or of a file.
pub(super) async fn mmap(thread: &Thread, [hint, len, prot, flags, fd, offset]: [u64; 6]) -> SysResult {
    const HUGETLB: u32 = flag::MAP_HUGETLB;
    let has = |wanted: u32| flags & u64::from(wanted) != 0;
    let len = pages(len).filter(|len| *len <= USER_END).ok_or(Errno::ENOMEM)?;
    if len == 0 || !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let rights = protection(prot & !u64::from(flag::PROT_GROWSDOWN | flag::PROT_GROWSUP))?;
    let sharing = match flags as u32 & flag::MAP_TYPE {
        flag::MAP_PRIVATE => Sharing::Private,
        flag::MAP_SHARED | flag::MAP_SHARED_VALIDATE => Sharing::Shared,
        _ => return Err(Errno::EINVAL),
    };
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
    let has_window = !has(flag::MAP_ANONYMOUS) || sharing == Sharing::Shared;
    let future_lock = thread.process.future_lock();
    let mapped = if has_window {
        Box::pin(map_window(thread, (place, len, rights, sharing), has(flag::MAP_ANONYMOUS), (fd, offset))).await?
    } else {
        let wish = MapWish::anonymous(place, len, rights);
        let wish = if has(flag::MAP_NORESERVE) { wish.never_promised() } else { wish };
        thread.process.map(wish).await?
    };
    finish_mapping(thread, mapped, len, [has(flag::MAP_LOCKED), has(flag::MAP_POPULATE), future_lock == Lock::Now])
        .await
}

/// mmap(2) of shared memory, or of a file of the data disk. Others have nothing that could be mapped.
async fn map_window(
    thread: &Thread,
    (place, len, rights, sharing): (Place, u64, Protection, Sharing),
    is_anonymous: bool,
    (fd, offset): (u64, u64),
) -> SysResult {
    if is_anonymous {
        let object = crate::mm().create_object(len).map_err(|_| Errno::ENOMEM)?;
        let from = (object, ObjectPage::new(0));
        let mapped = thread.process.map(MapWish::object(place, len, rights, from, sharing)).await;
        // The area keeps it from now on.
        crate::mm().close_object(object);
        return mapped;
    }
    let file = thread.process.files.lock().get(fd)?;
    let writes_to_it = sharing == Sharing::Shared && rights.write;
    if let Kind::Memory(memory) = &file.kind {
        let (sharing, _until_it_is_there) = memory.share(sharing, rights.write).await?;
        let from = (memory.object(), ObjectPage::new(offset / PAGE_SIZE));
        return thread.process.map(MapWish::object(place, len, rights, from, sharing)).await;
    }
    let Kind::Disk(inode) = &file.kind else { return Err(Errno::ENODEV) };
    if !file.access.read || (writes_to_it && !file.access.write) {
        return Err(Errno::EACCES);
    }
    let data = inode.file().await?;
    let from = (data.object(), ObjectPage::new(offset / PAGE_SIZE));
    let sharing = if sharing == Sharing::Shared && !file.access.write { Sharing::Viewed } else { sharing };
    thread.process.map(MapWish::object(place, len, rights, from, sharing)).await
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

/// msync(2): files mapped in the range are made durable, all of each, if the caller wants to wait for it.
pub(super) async fn msync(thread: &Thread, start: u64, len: u64, flags: u64) -> SysResult {
    let (known, both) = (flag::MS_ASYNC | flag::MS_INVALIDATE | flag::MS_SYNC, flag::MS_ASYNC | flag::MS_SYNC);
    if flags & !u64::from(known) != 0 || flags & u64::from(both) == u64::from(both) {
        return Err(Errno::EINVAL);
    }
    let Some(len) = checked_range(start, len, Errno::ENOMEM)? else { return Ok(0) };
    let end = start + len;
    let Some(volume) = disk::volume().filter(|_| flags & u64::from(flag::MS_SYNC) != 0) else { return Ok(0) };
    let mut objects = Vec::new();
    thread.process.each_mapping(&mut |area| {
        let overlaps = area.range.start.addr().as_u64() < end && area.range.end.addr().as_u64() > start;
        if let (true, Backing::Object { object, sharing: Sharing::Shared, .. }) = (overlaps, area.backing)
            && !objects.contains(&object)
        {
            objects.push(object);
        }
    });
    if objects.is_empty() {
        return Ok(0);
    }
    volume.sync_objects(objects).await.map(|()| 0)
}
