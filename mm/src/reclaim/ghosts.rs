//! Ghosts: which pages left a short while ago, so that one that comes back can be told from one that is new.
//!
//! Owns a table of fixed size, four bytes per frame of RAM, and the clock of evictions by which distances are measured: a page that
//! comes back after `d` evictions would have stayed if there had been room for `d` more. Entries are a few bits of a hash; a wrong one
//! costs a page a place it has not earned, or counts as one more that came back, no more. Does not own what follows from an [`Absence`] (that is the policy's).

use super::Rank;
use crate::home::PackedHome;
use alloc::vec::Vec;

/// Pages of one hash.
const WAYS: usize = 4;
/// Ticks until an entry is dead. The epoch has eight bits, and every entry is looked at once in [`SWEEP`] ticks: the dead are made to have
/// died just now, so that none comes alive again.
const LIFE: u8 = 128;
/// In how many ticks the whole table is looked at.
const SWEEP: usize = 64;
/// From Knuth, TAOCP 3, 6.4: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which of those of its hash a page is, when it left, and as what, which is the lowest bit.
#[derive(Clone, Copy)]
struct Ghost {
    fingerprint: u8,
    epoch: u8,
}

impl Ghost {
    const MAIN: u8 = 1;

    fn new(fingerprint: u8, rank: Rank, now: u8) -> Self {
        let rank = match rank {
            Rank::Main => Self::MAIN,
            Rank::Passing => 0,
        };
        Self { fingerprint: fingerprint & !Self::MAIN | rank, epoch: now }
    }

    /// Whether it is this page, and still remembered.
    fn is(self, fingerprint: u8, now: u8) -> bool {
        (self.fingerprint ^ fingerprint) & !Self::MAIN == 0 && !self.is_dead(now)
    }

    fn rank(self) -> Rank {
        if self.fingerprint & Self::MAIN != 0 { Rank::Main } else { Rank::Passing }
    }

    /// Ticks since it left.
    fn age(self, now: u8) -> u8 {
        now.wrapping_sub(self.epoch)
    }

    fn is_dead(self, now: u8) -> bool {
        self.age(now) > LIFE
    }

    /// Nobody, or nobody any more.
    fn dead(now: u8) -> Self {
        Self { fingerprint: 0, epoch: now.wrapping_sub(LIFE + 1) }
    }
}

/// Steps of [`MissCurve`], in which RAM is doubled.
pub const CURVE_STEPS: usize = 16;

/// What more memory would have saved: pages that were read back from the store, by how much more memory would have kept them. Those that
/// not twice the memory would have kept are not in it. It is an estimate: with more memory other pages would have left, too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct MissCurve {
    /// Pages that so many [`CURVE_STEPS`]th parts of RAM more, the number of the entry plus one, would have kept, and one less would not.
    pub kept_by: [u64; CURVE_STEPS],
}

impl MissCurve {
    /// A page came back.
    pub fn note(&mut self, Distance(away): Distance, frames: usize) {
        if let Some(step) = self.kept_by.get_mut(away.saturating_sub(1) * CURVE_STEPS / frames.max(1)) {
            *step += 1;
        }
    }
}

impl MissCurve {
    /// Pages that so many more frames would have kept, on a machine of `ram`; within a step as if they were spread evenly.
    pub fn kept_by_more(&self, frames: usize, ram: usize) -> u64 {
        let (whole, part) = (frames * CURVE_STEPS / ram.max(1), frames * CURVE_STEPS % ram.max(1));
        let full: u64 = self.kept_by.iter().take(whole).sum();
        full + self.kept_by.get(whole).map_or(0, |step| step * part as u64 / ram.max(1) as u64)
    }
}

/// How many evictions a page was away for, to the granularity of the clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Distance(pub usize);

/// What is remembered of a page that comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absence {
    /// How long it was away, to the granularity of the clock.
    pub away: Distance,
    /// How long at most.
    pub within: Distance,
    /// As what it left.
    pub rank: Rank,
}

/// What left, and when.
#[derive(Default)]
pub struct Ghosts {
    sets: Vec<[Ghost; WAYS]>,
    /// Evictions in a tick of the clock, and how many are missing to the next.
    tick: usize,
    left: usize,
    epoch: u8,
    /// Where the search for dead entries goes on.
    hand: usize,
}

impl Ghosts {
    /// A table for as many evictions as twice the frames of RAM. Without the memory for it, nothing is remembered.
    pub fn for_frames(frames: usize) -> Self {
        let mut sets = Vec::new();
        let count = (2 * frames).div_ceil(WAYS);
        if sets.try_reserve_exact(count).is_ok() {
            sets.resize(count, [Ghost::dead(0); WAYS]);
        }
        let tick = (2 * frames / usize::from(LIFE)).max(1);
        Self { sets, tick, left: tick, epoch: 0, hand: 0 }
    }

    fn place(&self, home: PackedHome) -> (usize, u8) {
        let hash = home.raw().wrapping_mul(SPREAD);
        let set = ((hash >> 32) * self.sets.len() as u64) >> 32;
        (set as usize, (hash >> 16) as u8)
    }

    /// A page leaves.
    pub fn remember(&mut self, home: PackedHome, rank: Rank) {
        let ((set, fingerprint), epoch) = (self.place(home), self.epoch);
        let Some(set) = self.sets.get_mut(set) else { return };
        let worth = |ghost: &Ghost| if ghost.is(fingerprint, epoch) { u8::MAX } else { ghost.age(epoch) };
        if let Some(oldest) = set.iter_mut().max_by_key(|ghost| worth(ghost)) {
            *oldest = Ghost::new(fingerprint, rank, epoch);
        }
    }

    /// A page comes; if it left not too long ago, it is a ghost no more.
    pub fn recall(&mut self, home: PackedHome) -> Option<Absence> {
        let ((set, fingerprint), epoch) = (self.place(home), self.epoch);
        let is_it = |ghost: &&mut Ghost| ghost.is(fingerprint, epoch);
        let ghost = core::mem::replace(self.sets.get_mut(set)?.iter_mut().find(is_it)?, Ghost::dead(epoch));
        let away = usize::from(ghost.age(epoch)) * self.tick;
        Some(Absence { away: Distance(away), within: Distance(away + self.tick), rank: ghost.rank() })
    }

    /// A page was evicted, whether it is remembered or not: the clock goes on.
    pub fn count_eviction(&mut self) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        (self.left, self.epoch) = (self.tick, self.epoch.wrapping_add(1));
        for _ in 0..self.sets.len().div_ceil(SWEEP) {
            let dead = |ghost: &&mut Ghost| ghost.is_dead(self.epoch);
            self.sets[self.hand].iter_mut().filter(dead).for_each(|ghost| *ghost = Ghost::dead(self.epoch));
            self.hand = (self.hand + 1) % self.sets.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Vpn;
    use crate::home::Home;
    use crate::space::SpaceId;

    fn home(page: usize) -> PackedHome {
        Home::Private(SpaceId::new(3), Vpn::new(page as u64 + 1)).into()
    }

    #[test]
    fn a_page_that_comes_back_is_known_by_its_distance_and_only_once() {
        let mut ghosts = Ghosts::for_frames(1024);
        ghosts.remember(home(7), Rank::Main);
        (0..500).for_each(|_| ghosts.count_eviction());
        let Absence { away, within, rank } = ghosts.recall(home(7)).expect("it left 500 evictions ago");
        assert!((484..=516).contains(&away.0), "{away:?}");
        assert!((500..=516).contains(&within.0), "{within:?}");
        assert_eq!(rank, Rank::Main);
        assert_eq!(ghosts.recall(home(7)), None);
        assert_eq!(ghosts.recall(home(8)), None);
    }

    #[test]
    fn twice_as_many_as_there_are_frames_are_remembered_and_nobody_for_ever() {
        let rank_of = |page: usize| if page.is_multiple_of(3) { Rank::Main } else { Rank::Passing };
        let mut ghosts = Ghosts::for_frames(1024);
        for page in 0..20_000 {
            ghosts.remember(home(page), rank_of(page));
            ghosts.count_eviction();
        }
        let known = |ghosts: &mut Ghosts, pages: core::ops::Range<usize>| {
            pages.filter(|page| ghosts.recall(home(*page)).is_some()).count()
        };
        let right = |page: &usize| ghosts.recall(home(*page)).is_some_and(|absence| absence.rank == rank_of(*page));
        assert!((18_000..19_000).filter(right).count() > 900, "with what was said of them when they left");
        assert!(known(&mut ghosts, 19_000..20_000) > 900, "of the last thousand most are known");
        // What is as old is known by accident only: four fingerprints of seven bits.
        assert!(known(&mut ghosts, 0..10_000) < 400, "who left long ago is forgotten");
        for _ in 0..100_000 {
            ghosts.count_eviction();
        }
        assert_eq!(known(&mut ghosts, 0..20_000), 0);
    }

    /// With least recently used, what more memory saves of a loop is all or nothing.
    #[test]
    fn u5_the_curve_says_how_much_more_memory_a_loop_needs() {
        const FRAMES: usize = 1024;
        const LOOP: usize = FRAMES * 5 / 4;
        let (mut ghosts, mut curve) = (Ghosts::for_frames(FRAMES), MissCurve::default());
        for access in 0..10 * LOOP {
            if let Some(absence) = ghosts.recall(home(access % LOOP)) {
                curve.note(absence.away, FRAMES);
            }
            if access >= FRAMES {
                ghosts.remember(home((access - FRAMES) % LOOP), Rank::Passing);
                ghosts.count_eviction();
            }
        }
        let misses = 9 * LOOP as u64;
        let kept_by = |steps: usize| curve.kept_by[..steps].iter().sum::<u64>();
        // A quarter more is all of it; the clock of evictions has 64 ticks for this memory.
        assert!(kept_by(CURVE_STEPS / 4 - 1) < misses / 20, "{curve:?}");
        assert!(kept_by(CURVE_STEPS / 4 + 1) > misses * 9 / 10, "{curve:?}");
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        let mut ghosts = Ghosts { tick: 1, left: 1, ..Ghosts::default() };
        ghosts.remember(home(1), Rank::Passing);
        ghosts.count_eviction();
        assert_eq!(ghosts.recall(home(1)), None);
    }
}
