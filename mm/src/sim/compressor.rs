//! A compressor whose results have all sizes: pages of a simulation have few words that are not zero, and would all be as small.
//!
//! Owns the format: the number of words that are not zero, each with its place, then padding. How much, and whether the page gets smaller at
//! all, comes from its contents, so that the same page always compresses to the same bytes. Everything is checked when it is read.

use super::SimStore;
use crate::addr::PAGE_SIZE;
use crate::platform::{Compressor, Corrupt, Spent};
use crate::tier::COMPRESSED_ROOM;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What things cost on a simulated machine, in ticks.
#[derive(Debug)]
pub struct SimPrices {
    read: AtomicU64,
    compress: AtomicU64,
}

impl SimPrices {
    /// A read costs so much, compressing a page so much, and decompressing one half of that.
    pub fn set(&self, read: u64, compress: u64) {
        self.read.store(read, Relaxed);
        self.compress.store(compress, Relaxed);
    }
}

/// See the module's head.
pub struct SimCompressor {
    prices: Arc<SimPrices>,
    /// Where reads are counted.
    disk: Option<SimStore>,
    /// Reads that have been paid for.
    reads: Cell<u64>,
    spent: Cell<Spent>,
}

impl SimCompressor {
    /// A compressor at prices that come with the seed.
    pub fn new(disk: Option<SimStore>, seed: u64) -> Self {
        let prices = SimPrices { read: AtomicU64::new(seed % 2000), compress: AtomicU64::new(20) };
        Self { prices: Arc::new(prices), disk, reads: Cell::new(0), spent: Cell::default() }
    }

    /// What things cost.
    pub fn prices(&self) -> Arc<SimPrices> {
        self.prices.clone()
    }

    /// Pays for what has happened since the last time.
    fn pay(&self, compressed: u64, decompressed: u64) {
        let (mut spent, compress) = (self.spent.get(), self.prices.compress.load(Relaxed));
        let reads = self.disk.as_ref().map_or(0, |disk| disk.counts().reads);
        let fresh = reads - self.reads.replace(reads);
        spent.waiting += fresh * self.prices.read.load(Relaxed);
        spent.compressing += compressed * compress;
        spent.decompressing += decompressed * compress / 2;
        self.spent.set(spent);
    }
}

/// Bytes for a word and its place.
const STEP: usize = 10;

fn words(page: &[u8; PAGE_SIZE]) -> impl Iterator<Item = (usize, u64)> {
    let words = page.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    words.enumerate().filter(|(_, word)| *word != 0)
}

/// A number that says how long the padding is, and what is in it.
fn mix(page: &[u8; PAGE_SIZE]) -> u64 {
    let step = |hash: u64, (at, word): (usize, u64)| {
        (hash ^ word ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    };
    words(page).fold(1, step)
}

impl Compressor for SimCompressor {
    fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; COMPRESSED_ROOM]) -> Option<usize> {
        self.pay(1, 0);
        let mut len = 2;
        for (at, word) in words(page) {
            let place = out.get_mut(len..len + STEP)?;
            place[..2].copy_from_slice(&(at as u16).to_le_bytes());
            place[2..].copy_from_slice(&word.to_le_bytes());
            len += STEP;
        }
        out[..2].copy_from_slice(&(((len - 2) / STEP) as u16).to_le_bytes());
        let mix = mix(page);
        // Half of all small, the others of any size, up to what is no gain.
        let padding = if mix >> 63 == 0 { mix as usize % 60 } else { mix as usize % (PAGE_SIZE * 7 / 8) };
        out.get_mut(len..len + padding)?.fill(mix as u8);
        Some(len + padding)
    }

    fn decompress(&mut self, bytes: &[u8], page: &mut [u8; PAGE_SIZE]) -> Result<(), Corrupt> {
        self.pay(0, 1);
        page.fill(0);
        let (count, rest) = bytes.split_first_chunk::<2>().ok_or(Corrupt)?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (words, padding) = rest.split_at_checked(count * STEP).ok_or(Corrupt)?;
        for word in words.as_chunks::<STEP>().0 {
            let at = usize::from(u16::from_le_bytes([word[0], word[1]])) * 8;
            page.get_mut(at..at + 8).ok_or(Corrupt)?.copy_from_slice(&word[2..]);
        }
        let mix = mix(page);
        if padding.iter().all(|byte| *byte == mix as u8) { Ok(()) } else { Err(Corrupt) }
    }

    fn spent(&self) -> Spent {
        self.pay(0, 0);
        self.spent.get()
    }
}
