//! Which slots of the swap device are free: one bit each.
//!
//! Owns the bitmap. Slots are given out in runs from clusters of [`CLUSTER`]: an empty cluster first, so that victims leave in one
//! request; then the emptiest to be found nearby. Does not know which page uses a slot.

use crate::platform::{CLUSTER, Slot};
use alloc::vec::Vec;

const _: () = assert!(CLUSTER == 64, "a cluster is one word of the bitmap");

/// Words looked at for a good run when no cluster is empty, before a poor one is taken.
const SEARCH: usize = 512;

/// A contiguous run of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotRun {
    /// First slot.
    pub start: Slot,
    /// Number of slots, at most [`CLUSTER`].
    pub len: u32,
}

/// Counts: `total = free + used + bad`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotCounts {
    /// Slots that can hold pages: all but the header's.
    pub total: u32,
    /// Free slots (those being discarded included).
    pub free: u32,
    /// Slots that hold a page, or are reserved for one.
    pub used: u32,
    /// Slots the device failed on; never used again.
    pub bad: u32,
}

/// The bitmap of free slots.
pub struct SlotMap {
    /// Bit set: free. Word `w` is the cluster of slots `64w..64w+64`.
    free: Vec<u64>,
    counts: SlotCounts,
    /// Where the search for an empty cluster goes on.
    cursor: usize,
    /// Entirely free clusters.
    empty: usize,
}

/// Which bits of the last word exist.
fn full_word(slots: u32, word: usize) -> u64 {
    let bits = (slots as usize - word * 64).min(64);
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    if word == 0 { mask & !1 } else { mask }
}

impl SlotMap {
    /// A map of `slots` slots, all free but slot 0, which is the header's.
    pub fn new(slots: u32) -> Self {
        let words = (slots as usize).div_ceil(64);
        let free: Vec<u64> = (0..words).map(|w| full_word(slots, w)).collect();
        let usable = slots.saturating_sub(1);
        let empty = free.iter().filter(|&&w| w == u64::MAX).count();
        Self { free, counts: SlotCounts { total: usable, free: usable, used: 0, bad: 0 }, cursor: 0, empty }
    }

    /// Counts at this moment.
    pub fn counts(&self) -> SlotCounts {
        self.counts
    }

    /// Takes a run of at most [`CLUSTER`] contiguous slots, as long as can be found cheaply; `None` if no slot is free. Clusters of
    /// which `spared` is true, by their first slot, come last.
    pub fn take_run(&mut self, spared: impl Fn(Slot) -> bool) -> Option<SlotRun> {
        if self.counts.free == 0 {
            return None;
        }
        let word = if self.empty > 0 { self.find(|w| w == u64::MAX)? } else { self.best_nearby(spared)? };
        let (bit, len) = longest_run(self.free[word]);
        let start = Slot::new((word * 64 + bit) as u32);
        for i in 0..len {
            self.take(word, bit + i);
        }
        self.cursor = word;
        Some(SlotRun { start, len: len as u32 })
    }

    /// Gives a slot back. Returns its cluster's first slot if that leaves a whole cluster free.
    pub fn release(&mut self, slot: Slot) -> Option<SlotRun> {
        let (word, bit) = (slot.as_u32() as usize / 64, slot.as_u32() as usize % 64);
        assert!(self.free[word] >> bit & 1 == 0, "slot {slot:?} freed twice");
        self.free[word] |= 1 << bit;
        self.counts.free += 1;
        self.counts.used -= 1;
        if self.free[word] == u64::MAX {
            self.empty += 1;
            return Some(SlotRun { start: Slot::new((word * 64) as u32), len: 64 });
        }
        None
    }

    /// Takes a slot out of use for ever; it must be in use.
    pub fn retire(&mut self, slot: Slot) {
        debug_assert!(self.free[slot.as_u32() as usize / 64] >> (slot.as_u32() % 64) & 1 == 0);
        self.counts.used -= 1;
        self.counts.bad += 1;
    }

    /// Takes the whole free cluster at `start`, so that nobody writes it while it is discarded; `false` if it is no longer free.
    pub fn reserve_cluster(&mut self, start: Slot) -> bool {
        let word = start.as_u32() as usize / 64;
        if !self.is_cluster_free(start) {
            return false;
        }
        (0..64).for_each(|bit| self.take(word, bit));
        true
    }

    /// Whether a slot is free.
    #[cfg(feature = "sim")]
    pub fn is_free(&self, slot: Slot) -> bool {
        self.free[slot.as_u32() as usize / 64] >> (slot.as_u32() % 64) & 1 == 1
    }

    /// Whether no slot of the whole cluster at `start` is in use.
    pub fn is_cluster_free(&self, start: Slot) -> bool {
        self.free.get(start.as_u32() as usize / 64) == Some(&u64::MAX)
    }

    /// Whether fewer than a quarter of the slots are free: clean copies are then given up (design D8).
    pub fn scarce(&self) -> bool {
        self.counts.free < self.counts.total / 4
    }

    /// Clusters that are entirely free.
    pub fn whole_clusters(&self) -> usize {
        self.empty
    }

    /// First slots of whole clusters with slots in use, but no more than `most`, near where runs are looked for.
    pub fn sparse_clusters(&self, most: u32) -> impl Iterator<Item = Slot> + use<'_> {
        let n = self.free.len();
        let near = (0..n.min(SEARCH)).map(move |i| (self.cursor + 1 + i) % n);
        let sparse = near.filter(move |&w| (1..=most).contains(&(64 - self.free[w].count_ones())));
        sparse.map(|w| Slot::new((w * 64) as u32))
    }

    /// Slots in use in the cluster that holds `slot`.
    pub fn cluster_use(&self, slot: Slot) -> u32 {
        64 - self.free[slot.as_u32() as usize / 64].count_ones()
    }

    fn take(&mut self, word: usize, bit: usize) {
        self.empty -= usize::from(self.free[word] == u64::MAX);
        self.free[word] &= !(1 << bit);
        self.counts.free -= 1;
        self.counts.used += 1;
    }

    /// First word from the cursor on, wrapping round, of which `wanted` is true.
    fn find(&self, wanted: impl Fn(u64) -> bool) -> Option<usize> {
        let n = self.free.len();
        (self.cursor..n).chain(0..self.cursor).find(|&w| wanted(self.free[w]))
    }

    /// The word with the longest run among the next [`SEARCH`] that have any; at worst the first that has a free slot at all.
    fn best_nearby(&self, spared: impl Fn(Slot) -> bool) -> Option<usize> {
        let n = self.free.len();
        let next = |i: usize| (self.cursor + 1 + i) % n;
        let run = |&w: &usize| if spared(Slot::new((w * 64) as u32)) { 0 } else { longest_run(self.free[w]).1 };
        let best = (0..n.min(SEARCH)).map(next).max_by_key(run)?;
        if run(&best) != 0 { Some(best) } else { self.find(|w| w != 0) }
    }
}

/// Longest run of set bits: first bit and length.
fn longest_run(word: u64) -> (usize, usize) {
    let (mut best, mut at, mut rest) = ((0, 0), 0, word);
    while rest != 0 {
        let skip = rest.trailing_zeros() as usize;
        rest >>= skip;
        at += skip;
        let len = rest.trailing_ones() as usize;
        if len > best.1 {
            best = (at, len);
        }
        at += len;
        rest = rest.checked_shr(len as u32).unwrap_or(0);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn runs_of_bits() {
        assert_eq!(longest_run(0), (0, 0));
        assert_eq!(longest_run(u64::MAX), (0, 64));
        assert_eq!(longest_run(0b0111_0110), (4, 3));
        assert_eq!(longest_run(1 << 63), (63, 1));
    }

    #[test]
    fn slots_are_given_once_and_clusters_come_back() {
        for slots in [2u32, 64, 65, 1000, 4096] {
            let mut map = SlotMap::new(slots);
            let mut used = BTreeSet::new();
            let mut x = 9u64;
            for _ in 0..5000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if x >> 60 < 4 {
                    let Some(run) = map.take_run(|_| false) else {
                        assert_eq!(map.counts().free, 0);
                        continue;
                    };
                    for s in run.start.as_u32()..run.start.as_u32() + run.len {
                        assert!(s != 0 && s < slots && used.insert(s));
                    }
                } else if let Some(&s) = used.iter().nth((x >> 33) as usize % used.len().max(1)) {
                    used.remove(&s);
                    let whole = map.release(Slot::new(s));
                    let cluster = s / 64 * 64;
                    let free =
                        cluster != 0 && cluster + 64 <= slots && (cluster..cluster + 64).all(|s| !used.contains(&s));
                    assert_eq!(whole.is_some(), free);
                }
                let c = map.counts();
                assert_eq!((c.used as usize, c.total), (used.len(), c.free + c.used + c.bad));
            }
        }
    }
}
