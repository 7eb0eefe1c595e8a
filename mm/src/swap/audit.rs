//! The hash that pages are audited with, and the check for pages whose words are all the same.
//!
//! Owns the key. Every page that leaves for the store takes a [`Tag`] of its contents along in its record; what comes back must
//! hash to it, or the page is lost and its owner told. That finds torn, stale, misdirected and flipped slots alike, for 32 bits a page.
//!
//! The hash here is multiply-add over four independent lanes: full coverage of every bit, few instructions. A machine may have
//! instructions that do better ([`PhysMemory::tag`](crate::platform::PhysMemory::tag)); it has them for all pages or for none. See
//! `docs/decisions/swap-audit.md`.

use crate::addr::WORDS_PER_PAGE;
use crate::page::Tag;

/// Odd multipliers with well mixed bits (from SplitMix64's and PCG's constants).
const MULTIPLIERS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0x5851_f42d_4c95_7f2d];

/// Words of the key.
const KEY_WORDS: usize = 12;

/// Hashes pages under a key of its own.
#[derive(Clone, Copy)]
pub struct Audit {
    key: [u64; KEY_WORDS],
}

impl Audit {
    /// An audit with this key, which need not be secret: it guards against accidents, not against forgers.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        // SplitMix64 (Steele et al., OOPSLA 2014, fig. 15).
        let key = core::array::from_fn(|_| {
            state = state.wrapping_add(MULTIPLIERS[0]);
            let mixed = (state ^ state >> 30).wrapping_mul(MULTIPLIERS[1]);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(MULTIPLIERS[2]);
            mixed ^ mixed >> 31
        });
        Self { key }
    }

    /// For a hash of the machine's own: what makes it another one at each boot.
    pub fn key(&self) -> &[u64; KEY_WORDS] {
        &self.key
    }

    /// The tag of a page's contents.
    ///
    /// Each lane is a polynomial in an odd multiplier, so a change of any one word changes its lane for certain; lanes are mixed at the end.
    pub fn tag(&self, words: &[u64; WORDS_PER_PAGE]) -> Tag {
        let mut lanes: [u64; 4] = core::array::from_fn(|lane| MULTIPLIERS[lane] ^ self.key[lane]);
        // Many words a round: what the loop itself costs is paid once for them.
        for many in words.as_chunks::<32>().0 {
            for four in many.as_chunks::<4>().0 {
                for lane in 0..4 {
                    lanes[lane] = (lanes[lane].wrapping_add(four[lane])).wrapping_mul(MULTIPLIERS[lane]);
                }
            }
        }
        let mut mixed = 0u64;
        for lane in lanes {
            mixed = (mixed.rotate_left(23) ^ lane ^ lane >> 32).wrapping_mul(MULTIPLIERS[0]);
        }
        Tag::new((mixed ^ mixed >> 32) as u32)
    }
}

/// The word that the whole page repeats, if it does.
pub fn fill_pattern(words: &[u64; WORDS_PER_PAGE]) -> Option<u32> {
    let first = words[0];
    let same_halves = first as u32 == (first >> 32) as u32;
    (same_halves && words.iter().all(|&w| w == first)).then_some(first as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_bit_matters() {
        let mut page = [0u64; WORDS_PER_PAGE];
        for (i, w) in page.iter_mut().enumerate() {
            *w = (i as u64).wrapping_mul(MULTIPLIERS[1]);
        }
        let audit = Audit::new(7);
        let tag = audit.tag(&page);
        for bit in 0..WORDS_PER_PAGE * 64 {
            page[bit / 64] ^= 1 << (bit % 64);
            assert_ne!(audit.tag(&page), tag, "bit {bit}");
            page[bit / 64] ^= 1 << (bit % 64);
        }
        page.swap(8, 12);
        assert_ne!(audit.tag(&page), tag, "order matters within a lane");
    }

    #[test]
    fn only_pages_of_one_word_are_patterns() {
        let mut page = [0xabcd_1234_abcd_1234u64; WORDS_PER_PAGE];
        assert_eq!(fill_pattern(&page), Some(0xabcd_1234));
        page[511] ^= 1;
        assert_eq!(fill_pattern(&page), None);
        assert_eq!(fill_pattern(&[1; WORDS_PER_PAGE]), None);
    }
}
