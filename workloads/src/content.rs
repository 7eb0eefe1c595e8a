//! What a page holds, so that any byte that comes back wrong is noticed.
//!
//! Word 0 is a tag made of seed and page number, word 1 a version that every writing touch increments, and the following
//! words, as many as asked for, an incompressible sequence that starts at the tag. The rest stays zero, and that is
//! checked too. Owns the layout; the memory belongs to `mapping`.

use std::fmt;

use crate::mapping::{PAGE_SIZE, Page, WORDS, WritablePage};
use crate::rng::mix;

const TAG: usize = 0;
const VERSION: usize = 1;
const FILLER: usize = 2;

/// The part of a page that was found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The word that names the page.
    Tag,
    /// A word of the incompressible sequence.
    Filler,
    /// A word that nobody ever wrote.
    Zeroes,
}

/// A word that is not what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Page number in the workload.
    pub page: u64,
    /// Word in the page.
    pub word: usize,
    /// What kind of word it is.
    pub part: Part,
    /// What was written.
    pub expected: u64,
    /// What was read.
    pub found: u64,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Tag => "tag",
            Part::Filler => "filler",
            Part::Zeroes => "zeroes",
        };
        let Self { page, word, expected, found, .. } = self;
        write!(out, "{part} page={page} word={word} expected={expected:#x} found={found:#x}")
    }
}

/// The layout of all pages of one run.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    seed: u64,
    /// One past the last filler word.
    filler_end: usize,
}

impl Content {
    /// Pages of `seed` with `fill` percent of their words filled.
    ///
    /// # Panics
    /// If `fill` is above 100.
    pub fn new(seed: u64, fill: u64) -> Self {
        assert!(fill <= 100, "{fill} % of a page");
        Self { seed, filler_end: FILLER + (WORDS - FILLER) * fill as usize / 100 }
    }

    /// The tag of a page; never zero.
    #[inline]
    pub fn tag(&self, page: u64) -> u64 {
        mix(page.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(self.seed)) | 1
    }

    /// Writes a fresh page with version 0 into memory that is zero or held the same page before.
    pub fn write(&self, page: u64, memory: &WritablePage) {
        self.each_word(page, |word, value| memory.write(word, value));
    }

    /// The bytes of a fresh page, for a file.
    pub fn bytes(&self, page: u64, out: &mut [u8; PAGE_SIZE]) {
        out.fill(0);
        let (words, _) = out.as_chunks_mut::<8>();
        self.each_word(page, |word, value| words[word] = value.to_ne_bytes());
    }

    fn each_word(&self, page: u64, mut put: impl FnMut(usize, u64)) {
        let mut value = self.tag(page);
        put(TAG, value);
        put(VERSION, 0);
        for word in FILLER..self.filler_end {
            value = next_filler(value);
            put(word, value);
        }
    }

    /// Checks the tag and one filler word: what a touch does. Returns the tag.
    #[inline]
    pub fn check(&self, page: u64, memory: &Page) -> Result<u64, Corrupt> {
        let tag = self.tag(page);
        self.expect(page, memory, TAG, Part::Tag, tag)?;
        if self.filler_end > FILLER {
            self.expect(page, memory, FILLER, Part::Filler, next_filler(tag))?;
        }
        Ok(tag)
    }

    /// Counts a writing touch.
    #[inline]
    pub fn bump(&self, memory: &WritablePage) {
        memory.write(VERSION, memory.read(VERSION).wrapping_add(1));
    }

    /// Checks every word and returns the version.
    pub fn verify(&self, page: u64, memory: &Page) -> Result<u64, Corrupt> {
        let mut value = self.tag(page);
        self.expect(page, memory, TAG, Part::Tag, value)?;
        for word in FILLER..self.filler_end {
            value = next_filler(value);
            self.expect(page, memory, word, Part::Filler, value)?;
        }
        for word in self.filler_end..WORDS {
            self.expect(page, memory, word, Part::Zeroes, 0)?;
        }
        Ok(memory.read(VERSION))
    }

    #[inline]
    fn expect(&self, page: u64, memory: &Page, word: usize, part: Part, expected: u64) -> Result<(), Corrupt> {
        let found = memory.read(word);
        if found == expected { Ok(()) } else { Err(Corrupt { page, word, part, expected, found }) }
    }
}

/// The next word of the incompressible sequence (Knuth's MMIX generator).
fn next_filler(word: u64) -> u64 {
    word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(content: &Content, page: u64) -> WritablePage {
        let memory = WritablePage::zeroed();
        content.write(page, &memory);
        memory
    }

    #[test]
    fn a_written_page_verifies_and_counts_its_touches() {
        let content = Content::new(1, 50);
        let memory = page_of(&content, 42);
        assert_eq!(content.verify(42, &memory), Ok(0));
        for _ in 0..3 {
            content.check(42, &memory).expect("right");
            content.bump(&memory);
        }
        assert_eq!(content.verify(42, &memory), Ok(3));
    }

    #[test]
    fn every_flipped_bit_is_caught_wherever_it_is() {
        for fill in [0, 50, 100] {
            let content = Content::new(9, fill);
            let memory = page_of(&content, 7);
            for word in (0..WORDS).filter(|&word| word != VERSION) {
                let right = memory.read(word);
                for bit in [0, 31, 63] {
                    memory.write(word, right ^ 1 << bit);
                    let corrupt = content.verify(7, &memory).expect_err("a flipped bit");
                    assert_eq!((corrupt.page, corrupt.word, corrupt.expected), (7, word, right));
                }
                memory.write(word, right);
            }
            // A flipped bit of the version shows in the sum of all versions.
            memory.write(VERSION, 1 << 40);
            assert_eq!(content.verify(7, &memory), Ok(1 << 40));
        }
    }

    #[test]
    fn a_page_in_anothers_place_is_caught_by_a_touch() {
        let content = Content::new(1, 0);
        let memory = page_of(&content, 7);
        assert_eq!(content.check(8, &memory).expect_err("another page").part, Part::Tag);
        assert!(Content::new(2, 0).check(7, &memory).is_err(), "another seed");
    }

    #[test]
    fn a_touch_checks_the_first_filler_word() {
        let content = Content::new(1, 10);
        let memory = page_of(&content, 7);
        memory.write(FILLER, 0);
        assert_eq!(content.check(7, &memory).expect_err("no filler").part, Part::Filler);
    }

    #[test]
    fn file_bytes_and_memory_agree() {
        let content = Content::new(5, 30);
        let memory = page_of(&content, 3);
        let mut bytes = [0xff; PAGE_SIZE];
        content.bytes(3, &mut bytes);
        let (words, _) = bytes.as_chunks::<8>();
        assert!((0..WORDS).all(|word| u64::from_ne_bytes(words[word]) == memory.read(word)));
    }
}
