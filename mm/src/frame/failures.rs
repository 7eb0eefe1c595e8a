//! Frame allocations that fail because a test wants it so.
//!
//! Owns which allocation is next to fail, and what a drought leaves. Does not own the frames: what is withheld stays where free frames
//! are ([`super::allocator`]), it only counts as not there.
//!
//! ```text
//!   Rarer ──each n-th, and n grows──► Rarer
//!   ForGood ──(1) the n-th──► Drought ──(2) relent──► nothing fails
//! ```
//! 1. `fails`, then `begin_drought` in the same breath. From here on it looks to everybody as if memory had run out down to the kernel
//!    heap's own reserve. Frames that come back are withheld, so that reclaim can work itself to death and nobody gains by it.
//! 2. Whoever asked for it takes the whole out ([`super::FrameAllocator::relent`]).

use super::FrameKind;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Failures {
    /// Allocations until the next that fails.
    left: u32,
    /// How many have failed.
    failed: u32,
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// The `nth` from the one before fails, then the next number from there, up to the `last`-th.
    Rarer { nth: u32, last: u32 },
    /// One fails and with it all that follow, but that the heap finds so many frames.
    ForGood { spared: usize },
    /// They fail: so many frames are left to the heap, of so many at first, and so many are free and yet not there.
    Drought { spared: usize, most: usize, withheld: usize },
}

impl Failures {
    /// The `first`-th fails, the `first + 1`-th from there, up to the `last`-th. None if `first` is 0.
    pub fn rarer(first: u32, last: u32) -> Option<Self> {
        (first > 0).then_some(Self { left: first, failed: 0, plan: Plan::Rarer { nth: first, last } })
    }

    /// The `nth` fails and so do all that follow, but for `spared` frames that the heap may have.
    pub fn for_good(nth: u32, spared: usize) -> Self {
        Self { left: nth, failed: 0, plan: Plan::ForGood { spared } }
    }

    /// Whether the allocation that is about to be made is to fail.
    pub fn fails(&mut self, kind: FrameKind, frames: usize) -> bool {
        self.left = self.left.saturating_sub(1);
        let now = match &mut self.plan {
            Plan::Rarer { nth, last } => {
                let now = self.left == 0 && *nth <= *last;
                if now {
                    *nth += 1;
                    self.left = *nth;
                }
                now
            }
            Plan::ForGood { .. } => self.left == 0,
            Plan::Drought { spared, .. } => kind != FrameKind::Heap || *spared < frames,
        };
        self.failed += u32::from(now);
        now
    }

    /// An allocation did not fail.
    pub fn took(&mut self, frames: usize) {
        if let Plan::Drought { spared, .. } = &mut self.plan {
            *spared -= frames;
        }
    }

    /// After an allocation that found nothing: if it was the first to fail for good, `free` frames are withheld but for what is returned.
    pub fn begin_drought(&mut self, free: usize) -> Option<usize> {
        let Plan::ForGood { spared } = self.plan else { return None };
        if self.left > 0 {
            return None;
        }
        let spared = spared.min(free);
        self.plan = Plan::Drought { spared, most: spared, withheld: free - spared };
        Some(spared)
    }

    /// How many of `frames` that were freed are there for others. In a drought what the heap gives back is the heap's again, up to what it
    /// had at first: were there more, frames would be free and nobody could have one, and memory would never run out.
    #[cold]
    pub fn not_withheld(&mut self, kind: FrameKind, frames: usize) -> usize {
        match &mut self.plan {
            Plan::Drought { spared, most, withheld } => {
                let back = if kind == FrameKind::Heap { frames.min(*most - *spared) } else { 0 };
                *spared += back;
                *withheld += frames - back;
                back
            }
            _ => frames,
        }
    }

    /// Frames that are free and count as not there.
    pub fn withheld(&self) -> usize {
        if let Plan::Drought { withheld, .. } = self.plan { withheld } else { 0 }
    }

    /// How many allocations have failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_followed_by_a_longer_pause() {
        let mut failures = Failures::rarer(2, 4).expect("it begins with the second");
        assert!((1..30).filter(|_| failures.fails(FrameKind::User, 1)).eq([2, 5, 9]));
        assert_eq!(failures.failed(), 3);
        assert!(Failures::rarer(0, 9).is_none());
    }

    #[test]
    fn e1_from_the_nth_on_all_fail_but_the_heap_has_its_reserve() {
        let mut failures = Failures::for_good(3, 2);
        assert!(!failures.fails(FrameKind::User, 1) && !failures.fails(FrameKind::Heap, 1));
        assert_eq!((failures.begin_drought(10), failures.withheld()), (None, 0), "one that found nothing by itself");
        assert!(failures.fails(FrameKind::Heap, 1));
        assert_eq!((failures.begin_drought(10), failures.withheld()), (Some(2), 8));
        for kind in [FrameKind::User, FrameKind::PageTable, FrameKind::Dma] {
            assert!(failures.fails(kind, 1));
        }
        assert!(failures.fails(FrameKind::Heap, 3) && !failures.fails(FrameKind::Heap, 2));
        failures.took(2);
        assert!(failures.fails(FrameKind::Heap, 1), "it is used up");
        assert_eq!([FrameKind::User, FrameKind::Heap].map(|kind| failures.not_withheld(kind, 1)), [0, 1]);
        assert!(!failures.fails(FrameKind::Heap, 1), "the heap has one back");
        assert_eq!((failures.withheld(), failures.failed()), (9, 6));
        assert_eq!(failures.not_withheld(FrameKind::Heap, 5), 1, "it has no more than at first");
        assert_eq!(failures.withheld(), 13);
    }
}
