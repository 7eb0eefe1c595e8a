//! The seam for the data of files: what the memory manager asks of whoever keeps them.
//!
//! Owns the terms: pages of files in, pages out, and the promise that a page can go out. Does not know file systems: names, sizes on the
//! disk, extents and journals are the store's. Implemented by the kernel over the data disk, and by [`crate::sim`].
//!
//! ```text
//!   a page is read:     Read ─────────────────────────────► the frames are full
//!   a page is written:  Prepare ─► it has a block, or NoSpace        (before the first store, so that write-back cannot fail for room)
//!                       …stores…
//!                       Write ────────────────────────────► the block has what was in the frame
//! ```
//! A `Write` is only ever for pages that were prepared since they were read in, so it needs no look-up, no allocation and no memory: it
//! is how reclaim gets frames back. A `Read` or `Prepare` may take as long as it likes.

use crate::object::ObjectPage;
use crate::ops::OpId;
use crate::platform::IoFrames;
use core::task::{Context, Poll};

/// Name of a file, as its store gave it; the manager only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FileId(u64);

impl FileId {
    /// File `raw`: an inode number, for example.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// What a request asks of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileIo {
    /// Pages to frames. What the file does not have reads as zeroes.
    Read,
    /// Frames to pages.
    Write,
    /// Blocks for the pages, if they have none, such that a `Write` of them needs nothing more.
    Prepare,
}

/// A request to the store. It owns its frames until it comes back.
#[derive(Debug)]
pub struct FileRequest {
    /// The operation that this is for.
    pub op: OpId,
    /// What to do.
    pub io: FileIo,
    /// Which file.
    pub file: FileId,
    /// First page.
    pub page: ObjectPage,
    /// Number of pages.
    pub count: u32,
    /// The frames, one a page; none for [`FileIo::Prepare`].
    pub frames: IoFrames,
}

/// Why the store could not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileError {
    /// The device failed.
    #[error("the file's disk failed")]
    Io,
    /// There is no block for the page.
    #[error("no room on the file's disk")]
    NoSpace,
}

/// A request that is over, with everything it owned.
#[derive(Debug)]
pub struct FileCompletion {
    /// The request as it was submitted.
    pub request: FileRequest,
    /// How it went. After an error the contents of frames, or of blocks, are unknown.
    pub result: Result<(), FileError>,
}

/// Where files are. Never waits and never allocates: both would be done when memory is short.
pub trait FileStore: Send + Sync + 'static {
    /// Starts a request, or gives it back if there is no room for it now; each completion is an occasion to try again.
    fn try_submit(&self, request: FileRequest) -> Result<(), FileRequest>;
    /// The next request that is over. Only the pager calls this.
    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<FileCompletion>;
}

/// The store of a machine without files: there is none.
#[derive(Debug)]
pub enum NoFiles {}

impl FileStore for NoFiles {
    fn try_submit(&self, _: FileRequest) -> Result<(), FileRequest> {
        match *self {}
    }
    fn poll_complete(&self, _: &mut Context<'_>) -> Poll<FileCompletion> {
        match *self {}
    }
}
