//! process_vm_readv(2) and process_vm_writev(2): bytes between the memory of two processes.
//!
//! They go through a page of the kernel's own, because both sides may have to wait for their pages. Lists are read as they are
//! used, so their length costs nothing.

use super::abi::{IoVec, PAGE_SIZE};
use super::errno::{Errno, SysResult};
use crate::process::memory::wait_for_room;
use crate::process::process::{Process, Tid};
use crate::process::table;
use crate::process::thread::Thread;

/// Most vectors in a list.
const IOV_MAX: u64 = 1024;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(super) enum Direction {
    FromOther,
    ToOther,
}

/// A list of ranges in the caller's memory, and where in it the copy is.
struct Ranges {
    list: u64,
    left: u64,
    current: IoVec,
}

impl Ranges {
    fn new(list: u64, count: u64) -> Result<Self, Errno> {
        let current = IoVec { iov_base: 0, iov_len: 0 };
        if count > IOV_MAX { Err(Errno::EINVAL) } else { Ok(Self { list, left: count, current }) }
    }

    /// The range that is next; empty at the end of the list.
    async fn next(&mut self, thread: &Thread) -> Result<IoVec, Errno> {
        while self.current.iov_len == 0 && self.left != 0 {
            self.current = thread.process.read_object(self.list).await?;
            self.list = self.list.checked_add(size_of::<IoVec>() as u64).ok_or(Errno::EFAULT)?;
            self.left -= 1;
        }
        Ok(self.current)
    }

    fn advance(&mut self, bytes: u64) {
        self.current.iov_base = self.current.iov_base.wrapping_add(bytes);
        self.current.iov_len -= bytes;
    }
}

/// Both calls.
pub(super) async fn process_vm(thread: &Thread, args: [u64; 6], direction: Direction) -> SysResult {
    let [pid, local, locals, remote, remotes, flags] = args;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (mut local, mut remote) = (Ranges::new(local, locals)?, Ranges::new(remote, remotes)?);
    let other = table::find(Tid::from_number(pid)).ok_or(Errno::ESRCH)?;
    wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
    let mut page = alloc::vec![0; PAGE_SIZE as usize];
    let mut done = 0;
    loop {
        let part = part(thread, &other, (&mut local, &mut remote), &mut page, direction).await;
        match part {
            Ok(0) => return Ok(done),
            Ok(bytes) => done += bytes,
            Err(_) if done != 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
        executor::yield_now().await;
    }
}

/// Copies what is next in both lists, a page at most.
async fn part(
    thread: &Thread,
    other: &Process,
    (local, remote): (&mut Ranges, &mut Ranges),
    page: &mut [u8],
    direction: Direction,
) -> SysResult {
    let (here, there) = (local.next(thread).await?, remote.next(thread).await?);
    let bytes = here.iov_len.min(there.iov_len).min(PAGE_SIZE - there.iov_base % PAGE_SIZE);
    let page = &mut page[..bytes as usize];
    let own = &thread.process;
    match direction {
        Direction::FromOther => {
            own.read_from_other(other, there.iov_base, page).await?;
            own.write_bytes(here.iov_base, page).await?;
        }
        Direction::ToOther => {
            own.read_from_other(own, here.iov_base, page).await?;
            own.write_to_other(other, there.iov_base, page).await?;
        }
    }
    local.advance(bytes);
    remote.advance(bytes);
    Ok(bytes)
}
