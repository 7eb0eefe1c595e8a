//! Pages of files between memory and the data disk: `mm`'s [`FileStore`].
//!
//! Owns requests under way and the translation of pages to sectors, by the extents that each file in use keeps
//! ([`crate::fs::file`]). Reading and writing ask nobody and allocate nothing: frames go to the disk as they are, a request that
//! lies in several places goes there part by part. Preparing pages asks the file system's fiber, so it has a task of its own.
//!
//! ```text
//!   try_submit ─┬─ Read, Write ─► a part ─► disk ─► poll_complete ─┬─ more parts: the next one ─► disk
//!               │                                                  └─ none: complete
//!               └─ Prepare ─► queue ─► run_prepares (fiber) ─► finished ─► poll_complete
//! ```

use core::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use drivers::block::{Cookie, Kind, Refused, Request, Sector, SectorCount};
use futures_util::task::AtomicWaker;
use maitake_sync::WaitCell;
use mm::addr::PAGE_SIZE;
use mm::file_store::{FileCompletion, FileError, FileIo, FileRequest, FileStore};
use mm::frame::IoFrame;
use mm::platform::PhysMemory;

use crate::fs::disk::{DataVolume, volume};
use crate::fs::ext4::Ino;
use crate::fs::extents::{FilePage, Run};
use crate::storage::DiskIo;

const SECTORS_PER_PAGE: u64 = (PAGE_SIZE / 512) as u64;
/// More than the manager ever has under way.
const REQUESTS: usize = 256;

/// A request on its way, of which one part is at the disk.
pub struct FileJob {
    request: FileRequest,
    /// Pages that have been moved.
    done: u32,
    /// Pages of the part under way.
    part: u32,
}

impl FileJob {
    /// The frames of the part under way.
    pub fn frames(&self) -> &[IoFrame] {
        &self.request.frames[self.done as usize..(self.done + self.part) as usize]
    }
}

/// What became of a job that was taken up.
enum Step {
    /// A part is at the disk.
    UnderWay,
    /// The disk has no room now.
    NoRoom(FileJob),
    Over(FileCompletion),
}

/// The requests of the one volume.
pub struct Requests {
    prepares: ArrayQueue<FileRequest>,
    prepare_arrived: WaitCell,
    finished: ArrayQueue<FileCompletion>,
    /// Jobs with parts left that found no room at the disk.
    waiting: ArrayQueue<FileJob>,
    pager: AtomicWaker,
}

impl Requests {
    /// None yet.
    pub fn new() -> Self {
        Self {
            prepares: ArrayQueue::new(REQUESTS),
            prepare_arrived: WaitCell::new(),
            finished: ArrayQueue::new(REQUESTS),
            waiting: ArrayQueue::new(REQUESTS),
            pager: AtomicWaker::new(),
        }
    }

    fn finish(&self, completion: FileCompletion) {
        // There is room for all there are.
        let _ = self.finished.push(completion);
        self.pager.wake();
    }
}

/// Serves `Prepare` requests for ever.
pub async fn run_prepares(volume: &'static DataVolume) {
    let requests = volume.requests();
    loop {
        let next = requests.prepare_arrived.wait_for_value(|| requests.prepares.pop()).await;
        let request = next.unwrap_or_else(|_| unreachable!("the cell is never closed"));
        let result = match volume.file_in_use(ino(&request)) {
            Some(file) => file.prepare(volume, page(&request, 0), request.count.into()).await,
            None => Err(FileError::Io),
        };
        requests.finish(FileCompletion { request, result });
    }
}

fn ino(request: &FileRequest) -> Ino {
    Ino(request.file.as_u64() as u32)
}

fn page(request: &FileRequest, done: u32) -> FilePage {
    FilePage(request.page.as_u64() + u64::from(done))
}

/// The store, of which there is one: whatever volume is mounted.
pub struct Files;

impl Files {
    /// Sends the next part that the disk has to move; what is in a hole needs no disk.
    fn take_up(volume: &'static DataVolume, mut job: FileJob) -> Step {
        let over = |request, result| Step::Over(FileCompletion { request, result });
        let Some(file) = volume.file_in_use(ino(&job.request)) else { return over(job.request, Err(FileError::Io)) };
        while job.done < job.request.count {
            let left = u64::from(job.request.count - job.done);
            match file.run(page(&job.request, job.done), left) {
                Run::Blocks { first, pages } => {
                    job.part = pages as u32;
                    return Self::send(volume, first, job);
                }
                Run::Hole { pages } if job.request.io == FileIo::Read => {
                    for frame in &job.request.frames[job.done as usize..][..pages as usize] {
                        volume.disk().memory().zero(frame.pfn());
                    }
                    job.done += pages as u32;
                }
                Run::Hole { .. } => {
                    debug_assert!(false, "inode {} is written where it has no block", ino(&job.request).0);
                    return over(job.request, Err(FileError::Io));
                }
            }
        }
        over(job.request, Ok(()))
    }

    fn send(volume: &'static DataVolume, block: u64, job: FileJob) -> Step {
        let kind = if job.request.io == FileIo::Read { Kind::Read } else { Kind::Write };
        let (sector, sectors) = (Sector(block * SECTORS_PER_PAGE), SectorCount(job.part * SECTORS_PER_PAGE as u32));
        let cookie = Cookie(u64::from(job.request.op.as_u16()));
        let request = Request { cookie, kind, sector, sectors, buffers: DiskIo::File(job) };
        match volume.disk().disk().try_submit(request) {
            Ok(()) => Step::UnderWay,
            Err(Refused::Full(request)) => Step::NoRoom(file_job(request)),
            Err(refused) => {
                log::warn!("data disk: the disk refuses a request: {refused:?}");
                let job = file_job(refused.into_request());
                Step::Over(FileCompletion { request: job.request, result: Err(FileError::Io) })
            }
        }
    }

    /// Goes on with a job; `Some` if it is over.
    fn go_on(volume: &'static DataVolume, job: FileJob) -> Option<FileCompletion> {
        match Self::take_up(volume, job) {
            Step::UnderWay => None,
            Step::Over(completion) => Some(completion),
            Step::NoRoom(job) => {
                // There is room for all there are.
                let _ = volume.requests().waiting.push(job);
                None
            }
        }
    }
}

/// What comes out of the data disk's stream is what [`Files`] put in: other requests have futures of their own.
fn file_job(request: Request<DiskIo>) -> FileJob {
    match request.buffers {
        DiskIo::File(job) => job,
        _ => unreachable!("a request comes back with its own buffers"),
    }
}

impl FileStore for Files {
    fn try_submit(&self, request: FileRequest) -> Result<(), FileRequest> {
        let Some(volume) = volume() else { return Err(request) };
        let requests = volume.requests();
        if request.io == FileIo::Prepare {
            requests.prepares.push(request)?;
            requests.prepare_arrived.wake();
            return Ok(());
        }
        match Self::take_up(volume, FileJob { request, done: 0, part: 0 }) {
            Step::UnderWay => Ok(()),
            Step::NoRoom(job) => Err(job.request),
            Step::Over(completion) => {
                requests.finish(completion);
                Ok(())
            }
        }
    }

    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<FileCompletion> {
        let Some(volume) = volume() else { return Poll::Pending };
        let requests = volume.requests();
        requests.pager.register(cx.waker());
        loop {
            if let Some(completion) = requests.finished.pop() {
                return Poll::Ready(completion);
            }
            let Poll::Ready(done) = volume.disk().disk().poll_complete(cx) else { break };
            let mut job = file_job(done.request);
            if let Err(error) = done.result {
                log::warn!("data disk: inode {}: {error}", ino(&job.request).0);
                return Poll::Ready(FileCompletion { request: job.request, result: Err(FileError::Io) });
            }
            job.done += core::mem::take(&mut job.part);
            if let Some(completion) = Self::go_on(volume, job) {
                return Poll::Ready(completion);
            }
        }
        // What found no room before may find some now; as long as something is at the disk, its completion brings us back.
        while let Some(job) = requests.waiting.pop() {
            match Self::take_up(volume, job) {
                Step::UnderWay => {}
                Step::Over(completion) => return Poll::Ready(completion),
                Step::NoRoom(job) => {
                    let _ = requests.waiting.push(job);
                    break;
                }
            }
        }
        Poll::Pending
    }
}
