//! Belady's minimum beside what really happens: how many of the pages that are read back any policy would have had to read.
//!
//! Owns a sample of the pages, when each of it was last used, and how many frames the best policy (Belady 1966) has left at each of the last
//! moments. A page that is used again either stayed in between or was read; the best policy keeps it if at every moment in between a frame is
//! left, and takes that frame. Taken in the order in which intervals end, that keeps as many as can be kept at all: which intervals at most
//! so many of overlap is the question of Carlisle and Lloyd (1995), and Hawkeye (Jain and Lin, ISCA 2016) asks it of a processor's
//! cache ("OPTgen"). So nothing is needed of the future, and nothing is looked at twice. Does not own what is told: [`super::order`] says
//! what the kernel sees, which is what is read and what is found used when reclaim looks at it.
//!
//! ```text
//!   moments, a few evictions each        ··· 7   8   9  10  11  12  (now)
//!   frames left to the best policy           2   1   0   3   4
//!   used at 7, and again now: one of 8 to 11 has none left ─► any policy reads it, or another instead
//!   used at 9, and again now: 10 and 11 have                ─► need not be read: 2 and 3 are left there
//! ```
//! Where it errs it lets the best policy off, so that it says too little of what had to be read rather than too much:
//! - A use that the kernel does not see asks nothing of anybody: the minimum of fewer references is no larger.
//! - Moments between those that are looked at constrain nothing, and neither does the moment of either use.
//! - A page found used may have been used some time before; its next interval is the shorter for it, and only the one that ends is longer.
//!
//! What it cannot know it does not judge: a page that comes back after longer than the window, or that was forgotten ([`Judged::beyond`]).

use crate::home::PackedHome;
use alloc::vec::Vec;

/// Moments that are remembered, a power of two.
const WINDOW: usize = 512;
/// Moments in which as many pages are evicted as there are frames: the window is eight times memory.
const MOMENTS_IN_MEMORY: usize = 64;
/// Of how many neighbouring pages one is in the sample, as a power of two: of 64 MiB it has 1024 frames.
const SPARSEST: u32 = 4;
/// No more frames are in the sample, however large memory is: the error of a sample does not depend on what it is taken from.
const MOST_FRAMES: usize = 2048;
/// Pages of the sample that are remembered, by frames of the sample.
const REMEMBERED: usize = 6;
/// The longest window: moments have sixteen bits, and none within it may be taken for one before.
const LONGEST: usize = 1 << 15;
/// Pages of one hash.
const WAYS: usize = 8;
/// From Knuth, TAOCP 3, 6.4: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which page, for as long as it has that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageKey(u64);

impl PageKey {
    /// Neighbours in memory have names in a row.
    pub const fn new(name: u64) -> Self {
        Self(name)
    }
}

impl From<PackedHome> for PageKey {
    fn from(home: PackedHome) -> Self {
        Self(home.raw())
    }
}

/// How it is known that a page is used now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// It was in memory.
    Found,
    /// It had to be read.
    Read,
    /// It came without being read: it costs nothing to let it go.
    Made,
}

/// What was read and what had to be, of the sample. The figures of all pages are [`Self::one_in`] times as large.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Pages that were read and had been used within the window.
    pub reads: u64,
    /// Pages that the best policy would have read, which knows the future, at the uses within the window that the kernel has seen.
    pub minimum: u64,
    /// Pages that were read of which nothing is remembered: their last use is too long ago, or this was the first.
    pub beyond: u64,
    /// One in so many pages is in the sample.
    pub one_in: u64,
    /// How many evictions the window is long.
    pub window: u64,
}

/// A page of the sample and the moment of its last use. No fingerprint is zero, so that zero is no entry.
#[derive(Clone, Copy, Default)]
struct LastUse {
    /// The lowest bit says that it came then, and was not found used since.
    fingerprint: u16,
    moment: u16,
}

impl LastUse {
    const CAME: u16 = 1;

    fn is_of(self, fingerprint: u16) -> bool {
        self.fingerprint & !Self::CAME == fingerprint
    }
}

/// What the best policy would do, as far as it is known by now.
#[derive(Default)]
pub struct Optimum {
    sets: Vec<[LastUse; WAYS]>,
    /// Frames of the sample that the best policy has left, by moment; a ring.
    left: Vec<u16>,
    now: u16,
    /// Evictions in a moment, and how many are missing to the next.
    moment: usize,
    missing: usize,
    /// One in two to the power of this many pages is in the sample.
    sparse: u32,
    /// Where the search for entries that are too old goes on.
    hand: usize,
    judged: Judged,
}

impl Optimum {
    /// For a machine with so many frames. It takes less than a thousandth of their memory; without that nothing is judged.
    pub fn for_frames(frames: usize) -> Self {
        let sparse = (frames.div_ceil(MOST_FRAMES)).next_power_of_two().ilog2().max(SPARSEST);
        let moment = (frames / MOMENTS_IN_MEMORY).max(1);
        Self::with(sparse, moment, WINDOW, REMEMBERED * (frames >> sparse))
    }

    /// All of so many pages, at each of the last 32 768 evictions: what it costs does not matter on the host.
    pub fn exact(pages: usize) -> Self {
        Self::with(0, 1, LONGEST, 4 * pages)
    }

    fn with(sparse: u32, moment: usize, window: usize, pages: usize) -> Self {
        debug_assert!(window.is_power_of_two() && window <= LONGEST);
        let (mut sets, mut left) = (Vec::new(), Vec::new());
        let count = pages.div_ceil(WAYS);
        if sets.try_reserve_exact(count).is_ok() && left.try_reserve_exact(window).is_ok() {
            sets.resize(count, [LastUse::default(); WAYS]);
            left.resize(window, 0);
        }
        let judged = Judged { one_in: 1 << sparse, window: (moment * window) as u64, ..Judged::default() };
        Self { sets, left, moment, missing: moment, sparse, judged, ..Self::default() }
    }

    /// What was found so far.
    pub fn judged(&self) -> Judged {
        self.judged
    }

    /// A page was evicted. From time to time that is a moment to remember: `frames` says how many frames a policy has for pages then.
    #[inline]
    pub fn note_eviction(&mut self, frames: impl FnOnce() -> usize) {
        self.missing -= 1;
        if self.missing == 0 {
            self.missing = self.moment;
            self.begin_moment(frames());
        }
    }

    fn begin_moment(&mut self, frames: usize) {
        if self.left.is_empty() || self.sets.is_empty() {
            return;
        }
        self.now = self.now.wrapping_add(1);
        let place = usize::from(self.now) & (self.left.len() - 1);
        self.left[place] = frames.div_ceil(1 << self.sparse).min(u16::MAX.into()) as u16;
        // Each entry is looked at twice in a window, so that none is taken for a younger one when moments come round.
        for _ in 0..(2 * self.sets.len()).div_ceil(self.left.len()) {
            let (now, window) = (self.now, self.left.len());
            let old = |last: &&mut LastUse| usize::from(now.wrapping_sub(last.moment)) >= window;
            self.sets[self.hand].iter_mut().filter(old).for_each(|last| *last = LastUse::default());
            self.hand = (self.hand + 1) % self.sets.len();
        }
    }

    /// A page is used. Most are not in the sample.
    #[inline]
    pub fn note_use(&mut self, page: PageKey, how: Use) {
        if self.samples(page) {
            self.judge(page, how);
        }
    }

    /// One of each block of neighbours is in the sample, by chance: a sample that has its share of every loop is much better on loops than
    /// one in which each page is by chance, and what walks in steps meets no pattern.
    fn samples(&self, PageKey(name): PageKey) -> bool {
        let others = (1 << self.sparse) - 1;
        let chosen = (name >> self.sparse).wrapping_mul(SPREAD) >> 40;
        (name ^ chosen) & others == 0
    }

    fn judge(&mut self, page: PageKey, how: Use) {
        let Some(last) = self.renew(page, how) else {
            self.judged.beyond += u64::from(how == Use::Read);
            return;
        };
        self.judged.reads += u64::from(how == Use::Read);
        // What is made again at no cost is let go when it is in the way of others, and then it had better go at once.
        if how != Use::Made && !self.keep_since(last) {
            self.judged.minimum += 1;
        }
    }

    /// Whether the best policy has had a frame left at all moments since `last`, and, if so, it has one less.
    fn keep_since(&mut self, last: u16) -> bool {
        let (now, ring) = (self.now, self.left.len() - 1);
        let between = now.wrapping_sub(last).saturating_sub(1);
        let places = (1..=between).map(move |ago| usize::from(now.wrapping_sub(ago)) & ring);
        let is_room = places.clone().all(|place| self.left[place] > 0);
        if is_room {
            places.for_each(|place| self.left[place] -= 1);
        }
        is_room
    }

    /// A page of the sample is used now. Returns when that was the last time, if it is within the window; whoever was not used for longest is
    /// forgotten for it.
    fn renew(&mut self, PageKey(name): PageKey, how: Use) -> Option<u16> {
        let hash = name.wrapping_mul(SPREAD);
        let (fingerprint, now) = ((hash >> 16) as u16 & !LastUse::CAME | 2, self.now);
        let set = ((hash >> 32) * self.sets.len() as u64) >> 32;
        let set = self.sets.get_mut(set as usize)?;
        let worth = |last: &LastUse| match last.fingerprint {
            0 => u32::MAX - 1,
            _ if last.is_of(fingerprint) => u32::MAX,
            _ => now.wrapping_sub(last.moment).into(),
        };
        let entry = set.iter_mut().max_by_key(|last| worth(last))?;
        let known = entry.is_of(fingerprint).then_some(*entry);
        if let Some(LastUse { moment, .. }) = known.filter(|last| last.fingerprint & LastUse::CAME != 0)
            && how == Use::Found
        {
            // The use that brought it: its A bit had not been taken in yet.
            *entry = LastUse { fingerprint, moment };
            return Some(now);
        }
        let came = if how == Use::Found { 0 } else { LastUse::CAME };
        *entry = LastUse { fingerprint: fingerprint | came, moment: now };
        known.map(|last| last.moment).filter(|last| usize::from(now.wrapping_sub(*last)) < self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PageKey = PageKey::new(1);
    const B: PageKey = PageKey::new(2);
    const C: PageKey = PageKey::new(3);

    /// One moment later, at which there are so many frames, these pages come or are used.
    fn pass(optimum: &mut Optimum, frames: usize, uses: &[(PageKey, Use)]) {
        optimum.note_eviction(|| frames);
        uses.iter().for_each(|(page, how)| optimum.note_use(*page, *how));
    }

    fn reads_and_minimum(optimum: &Optimum) -> (u64, u64) {
        (optimum.judged().reads, optimum.judged().minimum)
    }

    #[test]
    fn who_finds_no_frame_left_at_a_moment_in_between_has_to_be_read() {
        let mut optimum = Optimum::exact(10);
        let come: Vec<_> = [A, B, C].map(|page| (page, Use::Made)).into();
        pass(&mut optimum, 2, &come);
        pass(&mut optimum, 2, &[]);
        pass(&mut optimum, 2, &[(A, Use::Read)]);
        assert_eq!(reads_and_minimum(&optimum), (1, 0));
        pass(&mut optimum, 2, &[(B, Use::Read)]);
        assert_eq!(reads_and_minimum(&optimum), (2, 0));
        // A and B have had both frames in the moment after all came.
        pass(&mut optimum, 2, &[(C, Use::Read)]);
        assert_eq!(reads_and_minimum(&optimum), (3, 1));
    }

    #[test]
    fn pages_that_stay_take_frames_from_those_that_come_back() {
        let mut optimum = Optimum::exact(10);
        pass(&mut optimum, 1, &[(A, Use::Made), (B, Use::Made)]);
        // The first time it is found used says that it came, no more.
        pass(&mut optimum, 1, &[(A, Use::Found)]);
        pass(&mut optimum, 1, &[(A, Use::Found)]);
        pass(&mut optimum, 1, &[(B, Use::Read)]);
        assert_eq!(reads_and_minimum(&optimum), (1, 1));
        // Who is found used although no frame was left would have been read there.
        pass(&mut optimum, 0, &[]);
        pass(&mut optimum, 1, &[(A, Use::Found)]);
        assert_eq!(reads_and_minimum(&optimum), (1, 2));
    }

    #[test]
    fn pages_that_are_made_again_at_no_cost_take_no_frame_and_are_no_reads() {
        let mut optimum = Optimum::exact(10);
        pass(&mut optimum, 1, &[(A, Use::Made), (B, Use::Made)]);
        pass(&mut optimum, 1, &[]);
        pass(&mut optimum, 1, &[(A, Use::Made), (B, Use::Read)]);
        assert_eq!(reads_and_minimum(&optimum), (1, 0));
    }

    #[test]
    fn what_was_not_used_within_the_window_is_not_judged() {
        let mut optimum = Optimum::exact(10);
        pass(&mut optimum, 1, &[(A, Use::Made), (B, Use::Made)]);
        (1..LONGEST - 1).for_each(|_| pass(&mut optimum, 1, &[]));
        pass(&mut optimum, 1, &[(A, Use::Read)]);
        assert_eq!((reads_and_minimum(&optimum), optimum.judged().beyond), ((1, 0), 0));
        pass(&mut optimum, 1, &[(B, Use::Read)]);
        assert_eq!((reads_and_minimum(&optimum), optimum.judged().beyond), ((1, 0), 1));
        // Moments come round: whoever was used long ago is not taken for one that was used just now.
        (0..1 << 16).for_each(|_| pass(&mut optimum, 1, &[]));
        pass(&mut optimum, 1, &[(A, Use::Read)]);
        assert_eq!((reads_and_minimum(&optimum), optimum.judged().beyond), ((1, 0), 2));
    }

    #[test]
    fn of_each_block_of_neighbours_one_is_in_the_sample() {
        let optimum = Optimum::for_frames(1 << 14);
        assert_eq!(optimum.judged().one_in, 16);
        for block in 0..10_000 {
            let sampled = (0..16).filter(|page| optimum.samples(PageKey::new(block * 16 + page))).count();
            assert_eq!(sampled, 1, "{block}");
        }
        for stride in [2_u64, 16, 32, 48, 256, 512, 4096] {
            let sampled = (0..16_384).filter(|i| optimum.samples(PageKey::new(i * stride))).count();
            assert!((512..2048).contains(&sampled), "{sampled} of 16 384 pages {stride} apart");
        }
    }

    #[test]
    fn what_it_costs_is_small_and_does_not_grow_for_ever() {
        let size = |optimum: &Optimum| size_of_val(&*optimum.sets) + size_of_val(&*optimum.left);
        let [small, large, huge] = [1 << 14, 1 << 17, 1 << 24].map(|frames| size(&Optimum::for_frames(frames)));
        assert!(small <= (1 << 14) * 4096 / 1000, "{small}");
        assert!(large <= 50 << 10 && huge <= 50 << 10, "{large} {huge}");
    }

    #[test]
    fn without_memory_nothing_is_judged() {
        let mut optimum = Optimum { moment: 1, missing: 1, ..Optimum::default() };
        pass(&mut optimum, 1, &[(A, Use::Made)]);
        pass(&mut optimum, 1, &[(A, Use::Read)]);
        assert_eq!(reads_and_minimum(&optimum), (0, 0));
    }
}
