//! Pipes: bytes in order from those who write to those who read.
//!
//! Owns the bytes, both ends and who waits at them. Bytes go straight between the pipe and the program's pages, under the
//! pipe's lock; when a page is not resident, the lock is given back first and the copy is tried anew once it is.
//!
//! A pipe holds up to sixteen pages. One is there from the start, so a pipe always moves; the others are had while there
//! is memory to spare. A write of up to `PIPE_BUF` bytes goes into one page, whole, and so is never mixed with another.
//!
//! Semantics: pipe(7). Lock order: pipe → memory manager.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use super::{Readiness, fresh_inode};
use crate::process::memory;
use crate::process::signal::{SigInfo, Signal, code};
use crate::process::thread::Thread;
use crate::sync::Mutex;
use crate::syscall::abi::PAGE_SIZE;
use crate::syscall::errno::{Errno, SysResult};

/// Bytes that are written in one piece.
const PIPE_BUF: usize = PAGE_SIZE as usize;
/// Pages a pipe may hold.
const MAX_CHUNKS: usize = 16;
/// What F_GETPIPE_SZ says.
pub const CAPACITY: u64 = MAX_CHUNKS as u64 * PAGE_SIZE;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Side {
    Read,
    Write,
}

/// Whether a call on a pipe may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Patience {
    Wait,
    Refuse,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    /// A page for the next chunk: the pipe's own.
    spare: Option<Box<[u8]>>,
    readers: usize,
    writers: usize,
    waiting: Vec<Waker>,
}

/// Some bytes, in a page.
#[derive(Debug)]
struct Chunk {
    page: Box<[u8]>,
    start: usize,
    end: usize,
}

/// What came of an attempt to write.
enum Written {
    Bytes(usize),
    Full,
    Broken,
}

/// An open end of a pipe.
#[derive(Debug)]
pub struct End {
    pipe: Arc<Mutex<State>>,
    inode: u64,
    side: Side,
}

/// A new pipe: where to read and where to write.
pub fn pipe() -> (End, End) {
    let state = State { spare: Some(new_page()), readers: 1, writers: 1, ..State::default() };
    let pipe = Arc::new(Mutex::new(state));
    let inode = fresh_inode();
    (End { pipe: Arc::clone(&pipe), inode, side: Side::Read }, End { pipe, inode, side: Side::Write })
}

fn new_page() -> Box<[u8]> {
    alloc::vec![0; PIPE_BUF].into_boxed_slice()
}

impl End {
    /// Its number, that of both ends.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// What it is ready for.
    pub fn readiness(&self) -> Readiness {
        let state = self.pipe.lock();
        match self.side {
            Side::Read => {
                Readiness { readable: !state.chunks.is_empty(), hangup: state.writers == 0, ..Readiness::default() }
            }
            Side::Write => Readiness {
                writable: state.has_page() || state.readers == 0,
                broken: state.readers == 0,
                ..Readiness::default()
            },
        }
    }

    /// Has `waker` woken at the next change.
    pub fn register(&self, waker: &Waker) {
        self.pipe.lock().register(waker);
    }

    /// read(2): what there is, or the end once nobody can write.
    pub async fn read(&self, thread: &Thread, out: u64, len: u64, patience: Patience) -> SysResult {
        if self.side != Side::Read {
            return Err(Errno::EBADF);
        }
        loop {
            let done = self.read_now(thread, out, len).await?;
            if done != 0 || len == 0 || self.pipe.lock().is_at_end() {
                return Ok(done);
            }
            if patience == Patience::Refuse {
                return Err(Errno::EAGAIN);
            }
            self.wait(thread, |state| !state.chunks.is_empty() || state.writers == 0).await?;
        }
    }

    async fn read_now(&self, thread: &Thread, out: u64, len: u64) -> SysResult {
        let mut done = 0;
        while done < len && !self.pipe.lock().chunks.is_empty() {
            let to = out + done;
            let part = (len - done).min(PAGE_SIZE - to % PAGE_SIZE) as usize;
            let take = || self.pipe.lock().take(part, |bytes| thread.process.try_write_bytes(to, bytes));
            match thread.process.write_with(to, part, take).await {
                Ok(0) => break,
                Ok(count) => done += count as u64,
                Err(_) if done != 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        if done != 0 {
            self.announce();
        }
        Ok(done)
    }

    /// write(2): all of it, waiting for room; SIGPIPE when nobody can read.
    pub async fn write(&self, thread: &Thread, data: u64, len: u64, patience: Patience) -> SysResult {
        if self.side != Side::Write {
            return Err(Errno::EBADF);
        }
        let mut done = 0;
        while done < len {
            let (from, part) = (data + done, PIPE_BUF.min((len - done) as usize));
            let put = || self.pipe.lock().put(part, |page| thread.process.try_read_bytes(from, page));
            let failure = match thread.process.read_with(from, part, put).await {
                Ok(Written::Bytes(count)) => {
                    done += count as u64;
                    self.announce();
                    continue;
                }
                Ok(Written::Full) if patience == Patience::Refuse => Errno::EAGAIN,
                Ok(Written::Full) => match self.wait(thread, |state| state.has_page() || state.readers == 0).await {
                    Ok(()) => continue,
                    Err(errno) => errno,
                },
                Ok(Written::Broken) => {
                    let info = SigInfo::sent(Signal::PIPE, code::SI_USER, thread.process.pid);
                    thread.process.send_to_thread(&thread.state, info);
                    Errno::EPIPE
                }
                Err(errno) => errno,
            };
            return if done == 0 { Err(failure) } else { Ok(done) };
        }
        Ok(done)
    }

    async fn wait(&self, thread: &Thread, is_over: impl Fn(&State) -> bool) -> Result<(), Errno> {
        let change = poll_fn(|cx| {
            let mut state = self.pipe.lock();
            if is_over(&state) {
                return Poll::Ready(());
            }
            state.register(cx.waker());
            Poll::Pending
        });
        thread.interruptible(change).await
    }

    /// Wakes all who wait at either end.
    fn announce(&self) {
        let waiting = core::mem::take(&mut self.pipe.lock().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let unread = {
            let mut state = self.pipe.lock();
            match self.side {
                Side::Read => state.readers -= 1,
                Side::Write => state.writers -= 1,
            }
            // What nobody can read any more need not be kept.
            if state.readers == 0 { core::mem::take(&mut state.chunks) } else { VecDeque::new() }
        };
        drop(unread);
        self.announce();
    }
}

impl State {
    fn is_at_end(&self) -> bool {
        self.chunks.is_empty() && self.writers == 0
    }

    /// Whether a page could be had for `PIPE_BUF` more bytes.
    fn has_page(&self) -> bool {
        self.spare.is_some() || (self.chunks.len() < MAX_CHUNKS && memory::has_room(PIPE_BUF))
    }

    fn register(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// Takes up to `most` bytes from the front, if `copy` takes them.
    fn take(&mut self, most: usize, copy: impl FnOnce(&[u8]) -> Option<()>) -> Option<usize> {
        let Some(chunk) = self.chunks.front_mut() else { return Some(0) };
        let count = most.min(chunk.end - chunk.start);
        copy(&chunk.page[chunk.start..chunk.start + count])?;
        chunk.start += count;
        if chunk.start == chunk.end {
            let page = self.chunks.pop_front().map(|chunk| chunk.page);
            self.spare = self.spare.take().or(page);
        }
        Some(count)
    }

    /// Adds `count` bytes, all or none, that `copy` fetches.
    fn put(&mut self, count: usize, copy: impl FnOnce(&mut [u8]) -> Option<()>) -> Option<Written> {
        if self.readers == 0 {
            return Some(Written::Broken);
        }
        if let Some(last) = self.chunks.back_mut()
            && last.page.len() - last.end >= count
        {
            copy(&mut last.page[last.end..last.end + count])?;
            last.end += count;
            return Some(Written::Bytes(count));
        }
        if self.spare.is_none() {
            if !self.has_page() {
                return Some(Written::Full);
            }
            self.spare = Some(new_page());
        }
        copy(&mut self.spare.as_mut()?[..count])?;
        let page = self.spare.take()?;
        self.chunks.push_back(Chunk { page, start: 0, end: count });
        Some(Written::Bytes(count))
    }
}
