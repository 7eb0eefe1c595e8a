//! A bit set with summary levels: find the lowest set bit in a few steps, however large the set.
//!
//! Owns its words, which the caller provides (the frame allocator lives before the heap does). It does not know what a bit means.

/// Most levels a set may have: 64^5 bits are far more than any machine has frames.
const MAX_LEVELS: usize = 5;

/// Bits `0..len`, all clear at first. Level 0 has a bit per element; bit `i` of level `n+1` says that word `i` of level `n` is not 0.
pub struct BitTree {
    words: &'static mut [u64],
    /// Where each level starts in `words`.
    start: [usize; MAX_LEVELS],
    levels: usize,
    len: usize,
}

impl BitTree {
    /// Words that a set of `len` bits needs.
    pub const fn words_for(len: usize) -> usize {
        let mut total = 0;
        let mut bits = len;
        loop {
            let words = bits.div_ceil(64);
            total += words;
            if words <= 1 {
                return total;
            }
            bits = words;
        }
    }

    /// An empty set of `len` bits over `words`, which are cleared; there must be [`BitTree::words_for`] of them.
    pub fn new(words: &'static mut [u64], len: usize) -> Self {
        assert_eq!(words.len(), Self::words_for(len), "storage of a bit tree");
        words.fill(0);
        let (mut start, mut levels, mut bits, mut at) = ([0; MAX_LEVELS], 0, len, 0);
        loop {
            let count = bits.div_ceil(64);
            start[levels] = at;
            levels += 1;
            at += count;
            if count <= 1 {
                break;
            }
            bits = count;
        }
        Self { words, start, levels, len }
    }

    /// Bits the set can hold, set or not.
    pub fn capacity(&self) -> usize {
        self.len
    }

    /// Whether bit `index` is set; bits past the end are not.
    pub fn get(&self, index: usize) -> bool {
        index < self.len && self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// Sets bit `index`.
    pub fn set(&mut self, index: usize) {
        debug_assert!(index < self.len);
        let mut at = index;
        for level in 0..self.levels {
            let word = &mut self.words[self.start[level] + at / 64];
            let was = *word;
            *word |= 1 << (at % 64);
            if was != 0 {
                return;
            }
            at /= 64;
        }
    }

    /// Clears bit `index`.
    pub fn clear(&mut self, index: usize) {
        debug_assert!(index < self.len);
        let mut at = index;
        for level in 0..self.levels {
            let word = &mut self.words[self.start[level] + at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    /// How many bits are set.
    pub fn count(&self) -> usize {
        self.words[..self.len.div_ceil(64)].iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The lowest set bit.
    pub fn first(&self) -> Option<usize> {
        let mut at = 0;
        for level in (0..self.levels).rev() {
            let word = *self.words.get(self.start[level] + at)?;
            if word == 0 {
                return None;
            }
            at = at * 64 + word.trailing_zeros() as usize;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{boxed::Box, collections::BTreeSet, vec};

    #[test]
    fn follows_a_plain_set() {
        for len in [1, 63, 64, 65, 4096, 4097, 300_000] {
            let mut tree = BitTree::new(Box::leak(vec![0; BitTree::words_for(len)].into_boxed_slice()), len);
            let mut model = BTreeSet::new();
            let mut x = 12345u64;
            for _ in 0..3000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let i = (x >> 33) as usize % len;
                if x >> 32 & 1 == 0 {
                    tree.set(i);
                    model.insert(i);
                } else {
                    tree.clear(i);
                    model.remove(&i);
                }
                assert_eq!(tree.first(), model.first().copied());
                assert_eq!(tree.count(), model.len());
                assert_eq!(tree.get(i), model.contains(&i));
            }
        }
    }
}
