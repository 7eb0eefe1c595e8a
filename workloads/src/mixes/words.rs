//! A mapping as one long array of words, for structures that do not care where pages end.

use crate::mapping::{Mapping, WORDS};

/// Words in anonymous memory.
pub struct Words(Mapping);

impl Words {
    /// The words of a mapping.
    pub fn new(memory: Mapping) -> Self {
        Self(memory)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.pages() * WORDS
    }

    /// Reads a word.
    #[inline(always)]
    pub fn get(&self, index: usize) -> u64 {
        self.0.page(index / WORDS).read(index % WORDS)
    }

    /// Writes a word.
    #[inline(always)]
    pub fn set(&self, index: usize, value: u64) {
        self.0.page_to_write(index / WORDS).write(index % WORDS, value);
    }
}
