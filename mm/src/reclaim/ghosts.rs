//! Ghosts: which pages left a short while ago, so that one that comes back can be told from one that is new.
//!
//! Owns a table of fixed size, four bytes per frame of RAM, and the clock of evictions by which distances are measured: a page that
//! comes back after `d` evictions would have stayed if there had been room for `d` more. Entries are a few bits of a hash; a wrong one
//! costs a page a place it has not earned, no more. Does not own what follows from a distance (that is the policy's).

use crate::home::PackedHome;
use alloc::vec::Vec;

/// Pages of one hash.
const WAYS: usize = 4;
/// Ticks until an entry is dead. The epoch has eight bits, and every entry is looked at once in [`SWEEP`] ticks: none comes alive again.
const LIFE: u8 = 128;
/// In how many ticks the whole table is looked at.
const SWEEP: usize = 64;
/// From Knuth, TAOCP 3, 6.4: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which of those of its hash a page is, and when it left. No fingerprint is zero, so that zero is no entry.
#[derive(Clone, Copy, Default)]
struct Ghost {
    fingerprint: u8,
    epoch: u8,
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
            sets.resize(count, [Ghost::default(); WAYS]);
        }
        let tick = (2 * frames / usize::from(LIFE)).max(1);
        Self { sets, tick, left: tick, epoch: 0, hand: 0 }
    }

    fn place(&self, home: PackedHome) -> (usize, u8) {
        let hash = home.raw().wrapping_mul(SPREAD);
        let set = ((hash >> 32) * self.sets.len() as u64) >> 32;
        (set as usize, (hash >> 16) as u8 | 1)
    }

    /// A page leaves.
    pub fn remember(&mut self, home: PackedHome) {
        let ((set, fingerprint), epoch) = (self.place(home), self.epoch);
        let Some(set) = self.sets.get_mut(set) else { return };
        let worth = |ghost: &Ghost| match ghost.fingerprint {
            same if same == fingerprint => u16::MAX,
            0 => u16::MAX - 1,
            _ => u16::from(epoch.wrapping_sub(ghost.epoch)),
        };
        if let Some(oldest) = set.iter_mut().max_by_key(|ghost| worth(ghost)) {
            *oldest = Ghost { fingerprint, epoch };
        }
    }

    /// A page comes; if it left not too long ago, it is a ghost no more.
    pub fn recall(&mut self, home: PackedHome) -> Option<Distance> {
        let ((set, fingerprint), epoch) = (self.place(home), self.epoch);
        let ghost = self.sets.get_mut(set)?.iter_mut().find(|ghost| ghost.fingerprint == fingerprint)?;
        let age = epoch.wrapping_sub(core::mem::take(ghost).epoch);
        (age <= LIFE).then(|| Distance(usize::from(age) * self.tick))
    }

    /// A page was evicted, whether it is remembered or not: the clock goes on.
    pub fn count_eviction(&mut self) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        (self.left, self.epoch) = (self.tick, self.epoch.wrapping_add(1));
        for _ in 0..self.sets.len().div_ceil(SWEEP) {
            let dead = |ghost: &&mut Ghost| self.epoch.wrapping_sub(ghost.epoch) > LIFE;
            self.sets[self.hand].iter_mut().filter(dead).for_each(|ghost| *ghost = Ghost::default());
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
        ghosts.remember(home(7));
        (0..500).for_each(|_| ghosts.count_eviction());
        let Distance(away) = ghosts.recall(home(7)).expect("it left 500 evictions ago");
        assert!((484..=516).contains(&away), "{away}");
        assert_eq!(ghosts.recall(home(7)), None);
        assert_eq!(ghosts.recall(home(8)), None);
    }

    #[test]
    fn twice_as_many_as_there_are_frames_are_remembered_and_nobody_for_ever() {
        let mut ghosts = Ghosts::for_frames(1024);
        for page in 0..20_000 {
            ghosts.remember(home(page));
            ghosts.count_eviction();
        }
        let known = |ghosts: &mut Ghosts, pages: core::ops::Range<usize>| {
            pages.filter(|page| ghosts.recall(home(*page)).is_some()).count()
        };
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
            if let Some(distance) = ghosts.recall(home(access % LOOP)) {
                curve.note(distance, FRAMES);
            }
            if access >= FRAMES {
                ghosts.remember(home((access - FRAMES) % LOOP));
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
        ghosts.remember(home(1));
        ghosts.count_eviction();
        assert_eq!(ghosts.recall(home(1)), None);
    }
}
