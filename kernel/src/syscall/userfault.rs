//! userfaultfd(2) and its ioctls: a program supplies the pages of another, or of itself.
//!
//! Owns the checks and the words of ioctl_userfaultfd(2), as far as missing pages go: no write protection, no events, no features.
//! The file is `fs/userfault.rs`'s, its pager `process/userpager.rs`'s.

use alloc::sync::Arc;

use linux_raw_sys::general as flag;
use mm::space::Wake;

use super::abi::{PAGE_SIZE, USER_END, UffdioApi, UffdioCopy, UffdioRange, UffdioRegister, UffdioZeropage};
use super::errno::{Errno, SysResult};
use super::fd::on_exec;
use super::file::file;
use crate::fs::userfault::UserFault;
use crate::fs::{Kind, OpenFile};
use crate::process::memory::wait_for_room;
use crate::process::thread::Thread;
use crate::process::userpager::Pager;

/// The version of the interface.
const API: u64 = 0xaa;

/// Requests: direction, size, type 0xaa and number (ioctl(2)).
mod request {
    pub const API: u64 = 0xc018_aa3f;
    pub const REGISTER: u64 = 0xc020_aa00;
    pub const UNREGISTER: u64 = 0x8010_aa01;
    pub const WAKE: u64 = 0x8010_aa02;
    pub const COPY: u64 = 0xc028_aa03;
    pub const ZEROPAGE: u64 = 0xc020_aa04;
}

/// Bits of the numbers of requests, as `ioctls` fields list them.
mod bit {
    pub const REGISTER: u64 = 1 << 0;
    pub const UNREGISTER: u64 = 1 << 1;
    pub const WAKE: u64 = 1 << 2;
    pub const COPY: u64 = 1 << 3;
    pub const ZEROPAGE: u64 = 1 << 4;
    pub const API: u64 = 1 << 0x3f;
}

const MODE_MISSING: u64 = 1;
/// `UFFDIO_COPY_MODE_DONTWAKE`, `UFFDIO_ZEROPAGE_MODE_DONTWAKE`
const DONTWAKE: u64 = 1;
/// `UFFD_USER_MODE_ONLY`: faults of the kernel are served, too; a program that asks for less gets more.
const USER_MODE_ONLY: u64 = 1;

/// userfaultfd(2).
pub(super) async fn userfaultfd(thread: &Thread, flags: u64) -> SysResult {
    let known = u64::from(flag::O_CLOEXEC | flag::O_NONBLOCK) | USER_MODE_ONLY;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
    let file = UserFault::new(Pager::of(&thread.process)?);
    let status = flags as u32 & flag::O_NONBLOCK | flag::O_RDWR;
    let file = Arc::new(OpenFile::new(Kind::UserFault(file), status));
    thread.process.files.lock().insert(file, 0, on_exec(flags))
}

/// ioctl(2) on one.
pub(super) async fn ioctl(thread: &Thread, fd: u64, request: u64, at: u64) -> SysResult {
    let file = file(thread, fd)?;
    let Kind::UserFault(file) = &file.kind else { return Err(Errno::ENOTTY) };
    // The number is an unsigned int, whatever the upper half says.
    let request = u64::from(request as u32);
    if request == request::API {
        return agree(thread, file, at).await;
    }
    if !file.has_agreed() {
        return Err(Errno::EINVAL);
    }
    match request {
        request::REGISTER => register(thread, file, at).await,
        request::UNREGISTER => {
            let range: UffdioRange = thread.process.read_object(at).await?;
            check(range)?;
            file.pager.give_range(range.start, range.len).await?;
            Ok(0)
        }
        request::WAKE => {
            let range: UffdioRange = thread.process.read_object(at).await?;
            check(range)?;
            file.pager.wake(range.start, range.len);
            Ok(0)
        }
        request::COPY => copy(thread, file, at).await,
        request::ZEROPAGE => zeropage(thread, file, at).await,
        _ => Err(Errno::EINVAL),
    }
}

/// The handshake. What is refused is all zeroes, so that a program that does not look at the errno sees it.
async fn agree(thread: &Thread, file: &UserFault, at: u64) -> SysResult {
    let asked: UffdioApi = thread.process.read_object(at).await?;
    let agreed = if asked.api == API && asked.features == 0 { file.agree() } else { Err(Errno::EINVAL) };
    let answer = match agreed {
        Ok(()) => UffdioApi { api: API, features: 0, ioctls: bit::REGISTER | bit::UNREGISTER | bit::API },
        Err(_) => UffdioApi { api: 0, features: 0, ioctls: 0 },
    };
    thread.process.write_object(at, &answer).await?;
    agreed.map(|()| 0)
}

/// The range must be whole pages of user memory.
fn check(UffdioRange { start, len }: UffdioRange) -> Result<(), Errno> {
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if len == 0 || !start.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) || end > USER_END {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

async fn register(thread: &Thread, file: &UserFault, at: u64) -> SysResult {
    let wish: UffdioRegister = thread.process.read_object(at).await?;
    check(wish.range)?;
    if wish.mode != MODE_MISSING {
        return Err(Errno::EINVAL);
    }
    file.pager.take_range(wish.range.start, wish.range.len).await?;
    let ioctls = bit::WAKE | bit::COPY | bit::ZEROPAGE;
    thread.process.write_object(at, &UffdioRegister { ioctls, ..wish }).await?;
    Ok(0)
}

fn when(mode: u64) -> Result<Wake, Errno> {
    match mode {
        0 => Ok(Wake::Now),
        DONTWAKE => Ok(Wake::Later),
        _ => Err(Errno::EINVAL),
    }
}

/// What pages are supplied from.
#[derive(Clone, Copy)]
enum Contents {
    Memory(u64),
    Zeroes,
}

/// Supplies a range page by page. What `copy` and `zeropage` fields say: bytes supplied, or why none were; and what the call returns.
async fn supply(
    thread: &Thread,
    file: &UserFault,
    range: UffdioRange,
    contents: Contents,
    wake: Wake,
) -> (u64, SysResult) {
    let mut done = 0;
    while done < range.len {
        let page = range.start + done;
        let supplied = match contents {
            Contents::Memory(from) => match from.checked_add(done) {
                Some(from) => file.pager.copy(&thread.process, page, from, wake).await,
                None => Err(Errno::EINVAL),
            },
            Contents::Zeroes => file.pager.zero(page, wake).await,
        };
        executor::yield_now().await;
        match supplied {
            Ok(()) => done += PAGE_SIZE,
            Err(errno) if done == 0 => return (errno.to_register(), Err(errno)),
            Err(_) => return (done, Err(Errno::EAGAIN)),
        }
    }
    (done, Ok(0))
}

async fn copy(thread: &Thread, file: &UserFault, at: u64) -> SysResult {
    let wish: UffdioCopy = thread.process.read_object(at).await?;
    let range = UffdioRange { start: wish.dst, len: wish.len };
    check(range)?;
    let (copy, result) = supply(thread, file, range, Contents::Memory(wish.src), when(wish.mode)?).await;
    thread.process.write_object(at, &UffdioCopy { copy, ..wish }).await?;
    result
}

async fn zeropage(thread: &Thread, file: &UserFault, at: u64) -> SysResult {
    let wish: UffdioZeropage = thread.process.read_object(at).await?;
    check(wish.range)?;
    let (zeropage, result) = supply(thread, file, wish.range, Contents::Zeroes, when(wish.mode)?).await;
    thread.process.write_object(at, &UffdioZeropage { zeropage, ..wish }).await?;
    result
}
