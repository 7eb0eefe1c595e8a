//! Frames of the simulated machine.
//!
//! Owns their contents, and whether each is somebody's at this moment: the frame allocator says so through [`FrameWatcher`]. A frame
//! that is nobody's is full of poison, so what was not zeroed shows; and it must not be touched, by the manager or by a device.

use super::Shared;
use crate::addr::{PAGE_SIZE, Pfn, WORDS_PER_PAGE};
use crate::frame::FrameWatcher;
use crate::platform::PhysMemory;
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use mutex_traits::ConstInit;

/// What unused frames are full of.
pub const POISON: u64 = 0xdead_f4a3_dead_f4a3;

/// Contents of a page.
pub type Words = [u64; WORDS_PER_PAGE];

struct Cell {
    words: Box<Words>,
    in_use: bool,
    /// What every word is while it is not.
    unused: u64,
    /// How often the frame was freed: what refers to an earlier life of it is stale.
    lives: u32,
}

/// All frames.
pub struct Ram {
    cells: Vec<Shared<Cell>>,
}

impl Ram {
    /// `frames` frames, all unused.
    pub fn new(frames: usize) -> Arc<Self> {
        let cell = || Cell { words: Box::new([POISON; WORDS_PER_PAGE]), in_use: false, unused: POISON, lives: 0 };
        let cells = (0..frames).map(|_| Shared::new_with_raw_mutex(cell(), super::SimLock::INIT)).collect();
        Arc::new(Self { cells })
    }

    /// Which life of the frame this is.
    pub(super) fn life(&self, frame: Pfn) -> u32 {
        self.cells[frame.index()].with_lock(|cell| cell.lives)
    }

    /// Works on the words of a frame that is in use.
    ///
    /// # Panics
    /// If the frame is nobody's: whoever works on it has kept its number for too long.
    pub fn with<R>(&self, frame: Pfn, work: impl FnOnce(&mut Words) -> R) -> R {
        self.cells[frame.index()].with_lock(|cell| {
            assert!(cell.in_use, "frame {frame:?} is used although it is free");
            work(&mut cell.words)
        })
    }
}

impl FrameWatcher for Ram {
    fn allocated(&self, frame: Pfn, count: usize) {
        for cell in &self.cells[frame.index()..frame.index() + count] {
            cell.with_lock(|cell| {
                assert!(!core::mem::replace(&mut cell.in_use, true), "frame {frame:?} is given out twice");
                assert!(cell.words.iter().all(|&w| w == cell.unused), "frame {frame:?} was written while it was free");
            });
        }
    }

    fn freed(&self, frame: Pfn, count: usize) {
        for cell in &self.cells[frame.index()..frame.index() + count] {
            cell.with_lock(|cell| {
                assert!(core::mem::replace(&mut cell.in_use, false), "double free of frame {frame:?}");
                cell.lives += 1;
                cell.unused = POISON;
                cell.words.fill(POISON);
            });
        }
    }

    fn freed_zeroed(&self, frame: Pfn) {
        self.cells[frame.index()].with_lock(|cell| {
            assert!(core::mem::replace(&mut cell.in_use, false), "double free of frame {frame:?}");
            cell.lives += 1;
            cell.unused = 0;
        });
    }
}

/// The manager's view of [`Ram`].
pub struct SimMemory(pub(super) Arc<Ram>);

impl PhysMemory for SimMemory {
    fn zero(&self, frame: Pfn) {
        self.fill(frame, 0);
    }

    fn fill(&self, frame: Pfn, word: u32) {
        self.0.with(frame, |words| words.fill(u64::from(word) << 32 | u64::from(word)));
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        let words = self.0.with(from, |words| *words);
        self.0.with(to, |to| *to = words);
    }

    fn read(&self, frame: Pfn, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= PAGE_SIZE, "a read past the end of a frame");
        self.0.with(frame, |words| {
            for (i, byte) in out.iter_mut().enumerate() {
                let at = offset + i;
                *byte = (words[at / 8] >> (at % 8 * 8)) as u8;
            }
        });
    }

    fn write(&self, frame: Pfn, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= PAGE_SIZE, "a write past the end of a frame");
        self.0.with(frame, |words| {
            for (i, byte) in data.iter().enumerate() {
                let (at, shift) = ((offset + i) / 8, (offset + i) % 8 * 8);
                words[at] = words[at] & !(0xff << shift) | u64::from(*byte) << shift;
            }
        });
    }

    fn with_words<R>(&self, frame: Pfn, look: impl FnOnce(&Words) -> R) -> R {
        self.0.with(frame, |words| look(words))
    }
}
