//! The watermarks: how many frames reclaim keeps free.
//!
//! Owns three numbers derived from the size of RAM, and what of `min` is for what. Below `low` reclaim begins, or somewhat
//! before if a sequence is read ahead; at `high` it ends, and below `min` no page of a program gets a frame. The upper half of that is
//! for page tables; the kernel heap, which nobody can refuse, has the rest, but that no area is added when only its last quarter is left.

/// Watermarks, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Below this, faults wait.
    pub min: usize,
    /// Below this, reclaim begins at the latest.
    pub low: usize,
    /// At this, reclaim ends.
    pub high: usize,
}

impl Watermarks {
    /// At this, and below, no page table is made and no page gets its first record.
    pub fn tables(self) -> usize {
        self.min / 2
    }

    /// At this, and below, no area is added.
    pub fn areas(self) -> usize {
        self.min / 4
    }

    /// Watermarks for a machine with `total` frames for everything but the kernel's image: 1/256, 1/128 and 1/64 of them,
    /// so that a victim cluster or two fit between `low` and `high`, within reason for tiny and huge machines.
    pub fn for_frames(total: usize) -> Self {
        let least = (total.min(256) / 16).max(1);
        let min = (total / 256).clamp(least, 1024);
        let low = min + (total / 192).clamp(least, 2048);
        let high = low + (total / 96).clamp(least, 4096);
        Self { min, low, high }
    }
}
