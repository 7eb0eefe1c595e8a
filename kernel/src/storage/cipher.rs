//! Swap that only this boot can read (`swap.encrypt=on`).
//!
//! Owns the key, how often each slot was written, and the memory that enciphered pages leave from: a page that leaves stays what it is,
//! because a program may want it back meanwhile. What comes in is deciphered where it lies. Does not own whether it is what had left: that is
//! for `mm`'s tags to say.
//!
//! ChaCha with eight rounds (Bernstein 2008; Aumasson, *Too Much Crypto*, 2020). The nonce of a page is its slot and how often that slot was
//! written, so none is used twice with a key, and the key is made at boot and kept nowhere else.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use crossbeam_queue::ArrayQueue;
use mm::addr::{PAGE_SIZE, Pfn};
use mm::frame::{FrameKind, Order};
use mm::platform::{CLUSTER, PhysMemory, StoreRequest};

use super::Bounce;
use crate::arch::random;
use crate::frames;
use crate::phys::Memory;

/// Writes under way at once; more wait until one is done.
const RUNS: usize = 2;

/// Why swap cannot be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCipher {
    /// A key from anything else could be guessed.
    #[error("swap cannot be encrypted: the processor has no source of random numbers (RDRAND)")]
    NoKey,
    /// Four bytes a slot, and the runs.
    #[error("swap cannot be encrypted: there is no memory for it, which is 4 bytes a slot and half a MiB")]
    NoMemory,
}

/// Why a page cannot be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeal {
    /// All runs are under way.
    Busy,
    /// One of the slots has been written 2^32 times.
    WornOut,
}

/// The cipher of one swap area.
pub struct Cipher {
    key: [u8; 32],
    /// How often each slot was written.
    writes: Box<[AtomicU32]>,
    idle: ArrayQueue<Bounce>,
    memory: Memory,
}

impl Cipher {
    /// A cipher for so many slots with a key of its own.
    pub fn new(slots: u32, memory: Memory) -> Result<Self, NoCipher> {
        let key = random::key().ok_or(NoCipher::NoKey)?;
        let mut writes = Vec::new();
        writes.try_reserve_exact(slots as usize).map_err(|_| NoCipher::NoMemory)?;
        writes.resize_with(slots as usize, || AtomicU32::new(0));
        let order = Order::new(CLUSTER.ilog2() as usize).expect("a cluster is a block");
        let idle = ArrayQueue::new(RUNS);
        for _ in 0..RUNS {
            let run = frames::get().alloc(FrameKind::Dma, order).ok_or(NoCipher::NoMemory)?;
            let _room = idle.push(Bounce::new(run));
        }
        Ok(Self { key, writes: writes.into_boxed_slice(), idle, memory })
    }

    /// What is to be written instead of a request's pages.
    pub fn seal(&self, request: &StoreRequest) -> Result<Bounce, NoSeal> {
        let slots = self.slots(request);
        if slots.iter().any(|writes| writes.load(Ordering::Relaxed) == u32::MAX) {
            return Err(NoSeal::WornOut);
        }
        let mut bounce = self.idle.pop().ok_or(NoSeal::Busy)?;
        bounce.set_used(request.frames.len() * PAGE_SIZE);
        for writes in slots {
            writes.fetch_add(1, Ordering::Relaxed);
        }
        for ((index, frame), sealed) in request.frames.iter().enumerate().zip(bounce.frames()) {
            self.memory.copy(frame.pfn(), sealed);
            self.apply(request, index, sealed);
        }
        Ok(bounce)
    }

    /// A write is over, or was not begun.
    pub fn give_back(&self, bounce: Bounce) {
        self.idle.push(bounce).unwrap_or_else(|_| unreachable!("it was taken from there"));
    }

    /// Deciphers pages that have been read.
    pub fn open(&self, request: &StoreRequest) {
        request.frames.iter().enumerate().for_each(|(index, frame)| self.apply(request, index, frame.pfn()));
    }

    fn slots(&self, request: &StoreRequest) -> &[AtomicU32] {
        let first = request.slot.as_u32() as usize;
        &self.writes[first..first + request.frames.len()]
    }

    /// The key stream of the `index`-th page of a request, over the page in `at`.
    fn apply(&self, request: &StoreRequest, index: usize, at: Pfn) {
        let slot = request.slot.as_u32() + index as u32;
        let writes = self.slots(request)[index].load(Ordering::Relaxed);
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&slot.to_le_bytes());
        nonce[4..8].copy_from_slice(&writes.to_le_bytes());
        let mut stream = ChaCha8::new(&self.key.into(), &nonce.into());
        self.memory.change(at, |page| stream.apply_keystream(page));
    }
}
