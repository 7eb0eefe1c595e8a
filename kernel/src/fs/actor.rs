//! The actor that owns the mounted file system: one fiber, one request at a time.
//!
//! Owns: the queue of requests, waiting for their answers, and the life of the mount. Does not own what a request does
//! (`ext4.rs` has the operations) nor who may ask for it. Because there is one fiber, a request sees and leaves the file
//! system whole: the actor is the file system's lock.
//!
//! ```text
//!   call(work) ─► queue (bounded) ─► fiber: work(&mut volume) ─► Reply ─► call returns
//! ```
//! A caller that is dropped drops its wait; the request runs to its end all the same, and its answer is dropped.
//! Pure: host tests run it over a file.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crossbeam_queue::ArrayQueue;
use maitake_sync::{WaitCell, WaitQueue};

use super::blocks::{Blocks, Payload};
use super::ext4::{MountError, Volume, VolumeFacts};
use crate::arch::fiber::Suspender;
use crate::syscall::errno::Errno;

/// Requests that may wait; callers beyond that wait for room.
const QUEUE: usize = 32;

type Work<B> = Box<dyn for<'v, 'd> FnOnce(&'v mut Volume<'d, B>) + Send>;

enum Request<B: Blocks> {
    Work(Work<B>),
    Unmount(Arc<Reply<Result<(), Errno>>>),
}

/// Where an answer is left and waited for.
struct Reply<R> {
    /// A queue for one, because it needs no lock.
    answer: ArrayQueue<R>,
    given: WaitCell,
}

impl<R> Reply<R> {
    fn new() -> Self {
        Self { answer: ArrayQueue::new(1), given: WaitCell::new() }
    }

    fn give(&self, answer: R) {
        // Given once; if it were twice, the first would stand.
        let _ = self.answer.push(answer);
        self.given.wake();
    }

    async fn wait(&self) -> R {
        let answer = self.given.wait_for_value(|| self.answer.pop()).await;
        answer.unwrap_or_else(|_| unreachable!("the cell is never closed"))
    }
}

/// See the module's head.
pub struct Actor<B: Blocks> {
    requests: ArrayQueue<Request<B>>,
    arrived: WaitCell,
    room: WaitQueue,
    mounted: Reply<Result<VolumeFacts, MountError>>,
    payload: Payload,
}

/// How the mount is made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most blocks in the cache below the library.
    pub cached_blocks: usize,
    /// Time of day, in nanoseconds.
    pub clock: fn() -> u64,
}

impl<B: Blocks> Actor<B> {
    /// An actor that nobody runs yet.
    pub fn new() -> Self {
        Self {
            requests: ArrayQueue::new(QUEUE),
            arrived: WaitCell::new(),
            room: WaitQueue::new(),
            mounted: Reply::new(),
            payload: Payload::default(),
        }
    }

    /// The body of the fiber: mounts, serves, ends with the unmount.
    pub fn run(&self, blocks: &B, settings: Settings, suspender: &Suspender<'_>) {
        let mut volume = match Volume::mount(blocks, settings, &self.payload, suspender) {
            Ok((volume, facts)) => {
                self.mounted.give(Ok(facts));
                volume
            }
            Err(error) => return self.mounted.give(Err(error)),
        };
        loop {
            let request = suspender.block_on(self.arrived.wait_for_value(|| self.requests.pop()));
            self.room.wake();
            suspender.block_on(blocks.room());
            match request {
                Ok(Request::Work(work)) => {
                    work(&mut volume);
                    volume.keep_transaction_small();
                }
                Ok(Request::Unmount(reply)) => return reply.give(volume.unmount()),
                Err(_closed) => unreachable!("the cell is never closed"),
            }
        }
    }

    /// Waits for the mount. To be asked once.
    pub async fn mounted(&self) -> Result<VolumeFacts, MountError> {
        self.mounted.wait().await
    }

    /// Has `work` done on the file system, and waits for its result.
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl for<'v, 'd> FnOnce(&'v mut Volume<'d, B>) -> R + Send + 'static,
    ) -> R {
        let reply = Arc::new(Reply::new());
        let given = Arc::clone(&reply);
        self.send(Request::Work(Box::new(move |volume| given.give(work(volume))))).await;
        reply.wait().await
    }

    /// Ends the mount: everything is on the disk and the file system marked clean when this returns. The last request.
    pub async fn unmount(&self) -> Result<(), Errno> {
        let reply = Arc::new(Reply::new());
        self.send(Request::Unmount(Arc::clone(&reply))).await;
        reply.wait().await
    }

    async fn send(&self, request: Request<B>) {
        let mut waiting = Some(request);
        let sent = self.room.wait_for(|| match waiting.take().map(|request| self.requests.push(request)) {
            Some(Err(refused)) => {
                waiting = Some(refused);
                false
            }
            _ => true,
        });
        // The queue is never closed, so the wait cannot fail.
        let _ = sent.await;
        self.arrived.wake();
    }
}

/// A buffer for file data, refused instead of made when memory is short.
pub fn buffer(len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    Ok(bytes)
}
