//! What the simulated CPU remembers of page tables.
//!
//! Owns the cached translations. It forgets only what it is told to, or what it has no room for, as the SDM allows (vol. 3A §4.10.4);
//! so a missing flush leaves an entry behind, and the next use of it is found by [`super::table::SimTable::access`].

use super::rng::SimRng;
use crate::addr::{Pfn, Vpn};
use crate::platform::Rights;
use alloc::vec::Vec;

/// A cached translation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Whose page: tables have numbers as address spaces have PCIDs.
    pub table: u32,
    pub page: Vpn,
    pub frame: Pfn,
    /// Which life of the frame.
    pub life: u32,
    pub rights: Rights,
    /// The D bit is known to be set: stores need no walk.
    pub dirty: bool,
}

pub(super) struct Tlb {
    entries: Vec<Entry>,
    capacity: usize,
    rng: SimRng,
}

impl Tlb {
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self { entries: Vec::with_capacity(capacity), capacity, rng: SimRng::new(seed) }
    }

    pub fn find(&mut self, table: u32, page: Vpn) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|e| (e.table, e.page) == (table, page))
    }

    pub fn insert(&mut self, entry: Entry) {
        if self.entries.len() == self.capacity {
            let victim = self.rng.below(self.capacity);
            self.entries.swap_remove(victim);
        }
        self.entries.push(entry);
    }

    pub fn forget(&mut self, mut which: impl FnMut(&Entry) -> bool) {
        self.entries.retain(|e| !which(e));
    }

    pub fn holds_any(&self, table: u32) -> bool {
        self.entries.iter().any(|e| e.table == table)
    }
}
