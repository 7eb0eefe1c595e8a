//! Waiting for several files at once: poll(2), ppoll(2), select(2), pselect6(2).
//!
//! Owns the translation between the calls' words and [`Readiness`]. A file that is not ready gets the task's waker; after
//! a wake-up everything is looked at again, so one too many does no harm.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use linux_raw_sys::general as flag;

use super::abi::{PollFd, Timespec, Timeval};
use super::errno::{Errno, SysResult};
use super::time::Deadline;
use crate::fs::{MAX_FILES, OpenFile, Readiness, stdio};
use crate::process::signal::SignalSet;
use crate::process::thread::Thread;

/// How long a call is told to wait.
#[derive(Clone, Copy)]
pub(super) enum Timeout {
    /// An int; negative: for ever.
    Milliseconds(u64),
    /// Where a timespec lies; null: for ever.
    Timespec(u64),
    /// Where a timeval lies; null: for ever.
    Timeval(u64),
}

impl Timeout {
    async fn deadline(self, thread: &Thread) -> Result<Option<Deadline>, Errno> {
        Ok(match self {
            Self::Milliseconds(ms) => {
                let ms = u64::try_from(ms as u32 as i32).ok();
                ms.map(|ms| Deadline::after(ms * 1_000_000))
            }
            Self::Timespec(at) => {
                let span: Option<Timespec> = thread.process.read_optional(at).await?;
                span.map(Timespec::to_ns).transpose()?.map(Deadline::after)
            }
            Self::Timeval(at) => {
                let span: Option<Timeval> = thread.process.read_optional(at).await?;
                span.map(Timeval::to_ns).transpose()?.map(Deadline::after)
            }
        })
    }
}

/// The mask that the last argument of ppoll names, in force for the call.
pub(super) async fn use_mask(thread: &mut Thread, at: u64, size: u64) -> Result<(), Errno> {
    if at == 0 {
        return Ok(());
    }
    if size != size_of::<u64>() as u64 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = thread.process.read_object(at).await?;
    thread.mask_to_restore = Some(thread.state.blocked());
    thread.state.set_blocked(SignalSet::from_mask(mask));
    Ok(())
}

/// A file that was not ready when it was looked at, and what is awaited of it.
struct Watched {
    file: Arc<OpenFile>,
    events: u32,
}

/// What of `events` has happened; an error or the end of a pipe always counts (poll(2)).
fn happened(readiness: Readiness, events: u32) -> u32 {
    let Readiness { readable, writable, hangup, broken } = readiness;
    let when = |happened: bool, event: u32| if happened { event } else { 0 };
    let readable = when(readable, flag::POLLIN | flag::POLLRDNORM);
    let writable = when(writable, flag::POLLOUT | flag::POLLWRNORM);
    (readable | writable) & events | when(hangup, flag::POLLHUP) | when(broken, flag::POLLERR)
}

/// Waits until one of them may be ready; `false` if the deadline comes first.
async fn wait(thread: &Thread, watched: &[Watched], deadline: Option<Deadline>) -> Result<bool, Errno> {
    let change = async {
        let wants_input = |watched: &Watched| watched.events & EVENTS[0] != 0 && watched.file.is_input();
        let waits_for_input = watched.iter().any(wants_input);
        let mut input = pin!(stdio::readable());
        poll_fn(|cx| {
            let mut is_ready = false;
            for Watched { file, events } in watched {
                // First the waker, then the look: nothing can happen between them unseen.
                file.register(cx.waker());
                is_ready |= happened(file.readiness(), *events) != 0;
            }
            is_ready |= waits_for_input && input.as_mut().poll(cx).is_ready();
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    };
    let in_time = match deadline {
        None => thread.interruptible(change).await.map(Some),
        Some(deadline) => thread.interruptible(deadline.limit(change)).await,
    };
    // Never restarted, whatever the handler's flags (signal(7)).
    in_time.map(|change| change.is_some()).map_err(|_| Errno::EINTR)
}

/// ppoll(2).
pub(super) async fn ppoll(thread: &mut Thread, [entries, count, timeout, mask, size]: [u64; 5]) -> SysResult {
    use_mask(thread, mask, size).await?;
    poll(thread, entries, count, Timeout::Timespec(timeout)).await
}

/// poll(2).
pub(super) async fn poll(thread: &Thread, entries: u64, count: u64, timeout: Timeout) -> SysResult {
    if count > MAX_FILES as u64 {
        return Err(Errno::EINVAL);
    }
    let deadline = timeout.deadline(thread).await?;
    loop {
        let mut watched = Vec::new();
        let ready = poll_once(thread, entries, count, &mut watched).await?;
        if ready != 0 || !wait(thread, &watched, deadline).await? {
            return Ok(ready);
        }
    }
}

/// Fills in what is ready now, says how many entries are, and collects the files of the others.
async fn poll_once(thread: &Thread, entries: u64, count: u64, watched: &mut Vec<Watched>) -> SysResult {
    let mut ready = 0;
    for index in 0..count {
        let at = entries.checked_add(index * size_of::<PollFd>() as u64).ok_or(Errno::EFAULT)?;
        let mut entry: PollFd = thread.process.read_object(at).await?;
        entry.revents = 0;
        if entry.fd >= 0 {
            let events = u32::from(entry.events as u16);
            let file = thread.process.files.lock().get(entry.fd as u64);
            entry.revents = match file {
                Err(_) => flag::POLLNVAL as i16,
                Ok(file) => {
                    let happened = happened(file.readiness(), events) as i16;
                    if happened == 0 {
                        watched.push(Watched { file, events });
                    }
                    happened
                }
            };
        }
        ready += u64::from(entry.revents != 0);
        thread.process.write_object(at, &entry).await?;
    }
    Ok(ready)
}

/// Words of a set of descriptors.
const SET_WORDS: usize = MAX_FILES / 64;

/// The three sets of select(2): to read, to write, exceptional.
type Sets = [[u64; SET_WORDS]; 3];

/// What each set asks for.
const EVENTS: [u32; 3] = [flag::POLLIN | flag::POLLRDNORM, flag::POLLOUT | flag::POLLWRNORM, 0];
/// What makes a descriptor ready in each set: the end of a pipe is something to read, a broken one something to write.
const MEANS: [u32; 3] = [EVENTS[0] | flag::POLLHUP, EVENTS[1] | flag::POLLERR, 0];

/// pselect6(2): the last argument points to the mask and its size.
pub(super) async fn pselect6(thread: &mut Thread, [count, read, write, except, timeout, sixth]: [u64; 6]) -> SysResult {
    if sixth != 0 {
        let [mask, size]: [u64; 2] = thread.process.read_object(sixth).await?;
        use_mask(thread, mask, size).await?;
    }
    select(thread, count, [read, write, except], Timeout::Timespec(timeout)).await
}

/// select(2). The time that is left is not written back; POSIX leaves that open.
pub(super) async fn select(thread: &Thread, count: u64, sets: [u64; 3], timeout: Timeout) -> SysResult {
    let count = u64::from(count as u32);
    if count > MAX_FILES as u64 {
        return Err(Errno::EINVAL);
    }
    let deadline = timeout.deadline(thread).await?;
    let mut wanted: Sets = [[0; SET_WORDS]; 3];
    let words = count.div_ceil(64) as usize;
    for (set, at) in wanted.iter_mut().zip(sets).filter(|(_, at)| *at != 0) {
        for (word, at) in set[..words].iter_mut().zip((at..).step_by(8)) {
            *word = thread.process.read_object(at).await?;
        }
    }
    let (found, ready) = loop {
        let mut watched = Vec::new();
        let (found, ready) = select_once(thread, count, &wanted, &mut watched)?;
        if ready != 0 || !wait(thread, &watched, deadline).await? {
            break (found, ready);
        }
    };
    for (set, at) in found.iter().zip(sets).filter(|(_, at)| *at != 0) {
        for (word, at) in set[..words].iter().zip((at..).step_by(8)) {
            thread.process.write_object(at, word).await?;
        }
    }
    Ok(ready)
}

fn select_once(thread: &Thread, count: u64, wanted: &Sets, watched: &mut Vec<Watched>) -> Result<(Sets, u64), Errno> {
    let (mut found, mut ready): (Sets, u64) = ([[0; SET_WORDS]; 3], 0);
    for fd in 0..count {
        let (word, bit) = (fd as usize / 64, 1 << (fd % 64));
        let in_set = |index: usize| wanted[index][word] & bit != 0;
        if !(0..3).any(in_set) {
            continue;
        }
        let file = thread.process.files.lock().get(fd)?;
        let events = (0..3).filter(|index| in_set(*index)).fold(0, |events, index| events | EVENTS[index]);
        let happened = happened(file.readiness(), events);
        for index in (0..3).filter(|index| in_set(*index) && happened & MEANS[*index] != 0) {
            found[index][word] |= bit;
            ready += 1;
        }
        if happened == 0 {
            watched.push(Watched { file, events });
        }
    }
    Ok((found, ready))
}
