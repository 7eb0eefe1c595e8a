//! What every frame is there for, as a byte: RAM or not, reserved, or the block it belongs to.
//!
//! Owns the bytes. They are written only for frames that are no single page of a program, so the fault path does not come here; a
//! frame in general use is free or a page, which the allocator and the frame table tell apart. With them a free by address can be
//! checked, and whoever looks sees who owns which frame.

use super::FrameKind;

/// Not RAM, or RAM that was never mentioned.
const NOT_RAM: u8 = 0;
/// RAM that is never given out: the kernel's image, firmware's tables.
const RESERVED: u8 = 1;
/// The first kind; [`FrameKind::User`], the kind of frames in general use.
const FIRST_KIND: u8 = 2;
/// Not the first frame of its block.
const INSIDE: u8 = 0x80;

/// Frames in a word of storage.
const PER_WORD: usize = 8;

/// What a frame is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Not RAM, as far as anybody has said.
    NotRam,
    /// RAM that is never given out.
    Reserved,
    /// Free, or a page of a program.
    General,
    /// The first frame of a block of this kind.
    Block(FrameKind),
    /// Another frame of the block.
    InsideBlock,
}

/// The roles of all frames.
pub(super) struct Roles {
    words: &'static mut [u64],
}

impl Roles {
    pub(super) const fn storage_words(frames: usize) -> usize {
        frames.div_ceil(PER_WORD)
    }

    /// No frame is RAM yet; `words` has [`Self::storage_words`] words.
    pub(super) fn new(words: &'static mut [u64]) -> Self {
        words.fill(0);
        Self { words }
    }

    fn set(&mut self, frame: usize, byte: u8) {
        let (word, shift) = (frame / PER_WORD, frame % PER_WORD * 8);
        self.words[word] = self.words[word] & !(0xff << shift) | u64::from(byte) << shift;
    }

    fn byte(&self, frame: usize) -> u8 {
        self.words.get(frame / PER_WORD).map_or(NOT_RAM, |word| (word >> (frame % PER_WORD * 8)) as u8)
    }

    pub(super) fn of(&self, frame: usize) -> Role {
        match self.byte(frame) {
            NOT_RAM => Role::NotRam,
            RESERVED => Role::Reserved,
            FIRST_KIND => Role::General,
            byte if byte & INSIDE != 0 => Role::InsideBlock,
            byte => Role::Block(FrameKind::ALL[usize::from(byte - FIRST_KIND)]),
        }
    }

    pub(super) fn set_reserved(&mut self, frames: core::ops::Range<usize>) {
        self.fill(frames, RESERVED);
    }

    pub(super) fn set_general(&mut self, frames: core::ops::Range<usize>) {
        self.fill(frames, FIRST_KIND);
    }

    /// Whole words at a time where it can: at boot all of RAM goes through here.
    fn fill(&mut self, frames: core::ops::Range<usize>, byte: u8) {
        let first_word = frames.start.next_multiple_of(PER_WORD).min(frames.end);
        let last_word = (frames.end / PER_WORD * PER_WORD).max(first_word);
        self.words[first_word / PER_WORD..last_word / PER_WORD].fill(u64::from_ne_bytes([byte; PER_WORD]));
        (frames.start..first_word).chain(last_word..frames.end).for_each(|frame| self.set(frame, byte));
    }

    pub(super) fn set_block(&mut self, frames: core::ops::Range<usize>, kind: FrameKind) {
        let first = frames.start;
        for frame in frames {
            // Of a program's block only the inside tells that it is one.
            let inside = if frame > first { INSIDE } else { 0 };
            self.set(frame, inside | (FIRST_KIND + kind as u8));
        }
    }

    /// Whether exactly these frames are one block of this kind; for a single page of a program, whether it is in general use.
    pub(super) fn is_block(&self, frames: core::ops::Range<usize>, kind: FrameKind) -> bool {
        let after = self.byte(frames.end);
        self.byte(frames.start) == FIRST_KIND + kind as u8
            && frames.clone().skip(1).all(|frame| self.byte(frame) == INSIDE | (FIRST_KIND + kind as u8))
            && after & INSIDE == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{boxed::Box, vec};

    #[test]
    fn a_filled_range_is_that_range() {
        for start in 0..20 {
            for end in start..40 {
                let mut roles = Roles::new(Box::leak(vec![0; Roles::storage_words(40)].into_boxed_slice()));
                roles.set_general(start..end);
                let general = |frame: &usize| roles.of(*frame) == Role::General;
                assert!((0..40).filter(general).eq(start..end), "{start}..{end}");
            }
        }
    }
}
