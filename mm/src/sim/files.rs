//! The store of files of the simulated machine: a disk with blocks, as slow and unkind as the one for swap.
//!
//! Owns blocks with their contents, how many more there may be, and requests under way. It holds the manager to the contract of
//! [`crate::file_store`]: a page without a block is never written, and blocks are cut off only while nothing is under way for them.

use super::memory::{Ram, Words};
use super::rng::SimRng;
use super::store::PerMille;
use super::{Shared, SimLock};
use crate::addr::WORDS_PER_PAGE;
use crate::file_store::{FileCompletion, FileError, FileId, FileIo, FileRequest, FileStore};
use alloc::{boxed::Box, collections::BTreeMap, collections::VecDeque, sync::Arc, vec::Vec};
use core::ops::Range;
use core::task::{Context, Poll, Waker};
use mutex_traits::ConstInit;

/// What the store of files is like.
#[derive(Clone, Copy, Debug)]
pub struct FilesConfig {
    /// Blocks it has in all.
    pub blocks: usize,
    /// Requests it takes at a time.
    pub depth: usize,
    /// Reads that fail.
    pub read_errors: PerMille,
    /// Writes that fail.
    pub write_errors: PerMille,
}

impl FilesConfig {
    /// A store without faults of so many blocks.
    pub const fn good(blocks: usize) -> Self {
        Self { blocks, depth: 8, read_errors: PerMille(0), write_errors: PerMille(0) }
    }
}

/// What the store was asked for and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesCounts {
    /// Requests that were done, by kind; failed ones count.
    pub reads: u64,
    /// As `reads`.
    pub writes: u64,
    /// As `reads`.
    pub prepares: u64,
    /// Pages moved.
    pub pages_read: u64,
    /// Pages moved.
    pub pages_written: u64,
}

struct Active {
    request: FileRequest,
    begun: bool,
}

struct Disk {
    config: FilesConfig,
    rng: SimRng,
    blocks: BTreeMap<(FileId, u64), Box<Words>>,
    active: Vec<Active>,
    done: VecDeque<FileCompletion>,
    pager: Option<Waker>,
    driver: Option<Waker>,
    counts: FilesCounts,
    stopped: bool,
}

/// The device; clones are the same one.
#[derive(Clone)]
pub struct SimFiles {
    disk: Arc<Shared<Disk>>,
    ram: Arc<Ram>,
}

impl SimFiles {
    /// A store for this memory.
    pub fn new(config: FilesConfig, ram: &Arc<Ram>, seed: u64) -> Self {
        let disk = Disk {
            config,
            rng: SimRng::new(seed),
            blocks: BTreeMap::new(),
            active: Vec::with_capacity(config.depth),
            done: VecDeque::with_capacity(2 * config.depth),
            pager: None,
            driver: None,
            counts: FilesCounts::default(),
            stopped: false,
        };
        Self { disk: Arc::new(Shared::new_with_raw_mutex(disk, SimLock::INIT)), ram: ram.clone() }
    }

    /// Moves one request on. `false` if there is none, or the store is stopped.
    pub fn step(&self) -> bool {
        let (moved, pager) = self.disk.with_lock(|disk| disk.step(&self.ram));
        pager.into_iter().for_each(Waker::wake);
        moved
    }

    /// Waits until there is something to do: for the task that calls [`Self::step`].
    pub fn poll_busy(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.disk.with_lock(|disk| {
            if !disk.active.is_empty() && !disk.stopped {
                return Poll::Ready(());
            }
            disk.driver = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// From now on nothing moves, until [`Self::resume`].
    pub fn stop(&self) {
        self.disk.with_lock(|disk| disk.stopped = true);
    }

    /// Things move again.
    pub fn resume(&self) {
        let driver = self.disk.with_lock(|disk| {
            disk.stopped = false;
            disk.driver.take()
        });
        driver.into_iter().for_each(Waker::wake);
    }

    /// Writes a block from outside, as if the file had been there before.
    pub fn put(&self, file: FileId, page: u64, words: Words) {
        self.disk.with_lock(|disk| disk.blocks.insert((file, page), Box::new(words)));
    }

    /// What a block holds; `None` if the page has none.
    pub fn contents(&self, file: FileId, page: u64) -> Option<Words> {
        self.disk.with_lock(|disk| disk.blocks.get(&(file, page)).map(|words| **words))
    }

    /// Frees the blocks of a file from a page on, as a truncation does when the manager is done with them.
    ///
    /// # Panics
    /// If a request is under way for one of them.
    pub fn cut(&self, file: FileId, from: u64) {
        self.punch(file, from..u64::MAX);
    }

    /// Frees the blocks of a range of a file's pages.
    ///
    /// # Panics
    /// If a request is under way for one of them.
    pub fn punch(&self, file: FileId, hole: Range<u64>) {
        self.disk.with_lock(|disk| {
            for Active { request, .. } in &disk.active {
                let touches = pages(request).any(|(of, page)| of == file && hole.contains(&page));
                assert!(!touches, "{request:?} is under way for blocks that are freed");
            }
            disk.blocks.retain(|(of, page), _| *of != file || !hole.contains(page));
        });
    }

    /// Changes what the store is like.
    pub fn reconfigure(&self, change: impl FnOnce(&mut FilesConfig)) {
        self.disk.with_lock(|disk| change(&mut disk.config));
    }

    /// What was done so far.
    pub fn counts(&self) -> FilesCounts {
        self.disk.with_lock(|disk| disk.counts)
    }

    /// How many requests are under way.
    pub fn load(&self) -> usize {
        self.disk.with_lock(|disk| disk.active.len())
    }
}

impl FileStore for SimFiles {
    fn try_submit(&self, request: FileRequest) -> Result<(), FileRequest> {
        let driver = self.disk.with_lock(|disk| {
            disk.check(&request);
            if disk.active.len() >= disk.config.depth {
                return Err(request);
            }
            disk.active.push(Active { request, begun: false });
            Ok(disk.driver.take())
        })?;
        driver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<FileCompletion> {
        self.disk.with_lock(|disk| match disk.done.pop_front() {
            Some(completion) => Poll::Ready(completion),
            None => {
                disk.pager = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }
}

fn pages(request: &FileRequest) -> impl Iterator<Item = (FileId, u64)> + use<> {
    let (file, first) = (request.file, request.page.as_u64());
    (first..first + u64::from(request.count)).map(move |page| (file, page))
}

impl Disk {
    /// A request must make sense, and must not move pages that another one is moving.
    fn check(&self, request: &FileRequest) {
        let frames = if request.io == FileIo::Prepare { 0 } else { request.count as usize };
        assert!(request.count > 0 && request.frames.len() == frames, "{request:?}: a frame for each page");
        for page in pages(request).filter(|_| request.io == FileIo::Write) {
            assert!(self.blocks.contains_key(&page), "{page:?} is written, but was never prepared for");
        }
        for Active { request: other, .. } in &self.active {
            let moves = |r: &FileRequest| r.io != FileIo::Prepare;
            let apart = pages(request).all(|page| pages(other).all(|theirs| theirs != page));
            assert!(apart || !moves(request) || !moves(other), "{request:?} races with {other:?}");
        }
    }

    fn step(&mut self, ram: &Ram) -> (bool, Option<Waker>) {
        if self.active.is_empty() || self.stopped {
            return (false, None);
        }
        let index = self.rng.below(self.active.len());
        if !self.active[index].begun {
            self.active[index].begun = true;
            self.begin(index, ram);
            return (true, None);
        }
        let Active { request, .. } = self.active.swap_remove(index);
        let result = self.finish(&request, ram);
        self.done.push_back(FileCompletion { request, result });
        (true, self.pager.take())
    }

    /// The first half: a write takes half of each page, a read leaves rubbish in its frames.
    fn begin(&mut self, index: usize, ram: &Ram) {
        let Self { active, blocks, rng, .. } = self;
        let request = &active[index].request;
        for (frame, page) in request.frames.iter().zip(pages(request)) {
            match request.io {
                FileIo::Write => {
                    let half = ..WORDS_PER_PAGE / 2;
                    let Some(block) = blocks.get_mut(&page) else { panic!("{page:?} was cut off under a write") };
                    ram.with(frame.pfn(), |words| block[half].copy_from_slice(&words[half]));
                }
                _ => ram.with(frame.pfn(), |words| words[rng.below(WORDS_PER_PAGE)] = rng.word()),
            }
        }
    }

    fn finish(&mut self, request: &FileRequest, ram: &Ram) -> Result<(), FileError> {
        let (count, chance) = match request.io {
            FileIo::Read => (&mut self.counts.reads, self.config.read_errors),
            FileIo::Write => (&mut self.counts.writes, self.config.write_errors),
            FileIo::Prepare => (&mut self.counts.prepares, PerMille(0)),
        };
        *count += 1;
        if self.rng.below(1000) < usize::from(chance.0) {
            return Err(FileError::Io);
        }
        if request.io == FileIo::Prepare {
            return self.prepare(request);
        }
        for (frame, page) in request.frames.iter().zip(pages(request)) {
            if request.io == FileIo::Read {
                self.counts.pages_read += 1;
                let block = self.blocks.get(&page).map_or([0; WORDS_PER_PAGE], |block| **block);
                ram.with(frame.pfn(), |words| *words = block);
            } else {
                self.counts.pages_written += 1;
                let Some(block) = self.blocks.get_mut(&page) else { panic!("{page:?} was cut off under a write") };
                ram.with(frame.pfn(), |words| **block = *words);
            }
        }
        Ok(())
    }

    fn prepare(&mut self, request: &FileRequest) -> Result<(), FileError> {
        let missing: Vec<_> = pages(request).filter(|page| !self.blocks.contains_key(page)).collect();
        if self.blocks.len() + missing.len() > self.config.blocks {
            return Err(FileError::NoSpace);
        }
        for page in missing {
            self.blocks.insert(page, Box::new([0; WORDS_PER_PAGE]));
        }
        Ok(())
    }
}
