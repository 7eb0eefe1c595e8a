//! Generations: most of memory is for pages that have shown their worth, and what only passes through takes an eleventh.
//!
//! Owns four queues and the contest for a place among the proven. Its parts are well known: the small queue in which new pages have to
//! show that they are used again is S3-FIFO's (Yang et al., SOSP 2023), the worth of a page that comes back soon is the refault
//! distance of Linux (mm/workingset.c), and the idea that a resident page goes only for one that is used at shorter distances is
//! LIRS's (Jiang and Zhang, SIGMETRICS 2002). docs/decisions/replacement.md has the measurements.
//!
//! ```text
//!                 A bit cleared                idle: goes
//!   came ──► new ───────────────► cold ─────────────────────────────────►
//!             │                   │  ▲
//!             │ main has room, or │  │ the contest is lost
//!             │ came back soon    │  │
//!             └───── contest ◄────┘ used again
//!                        │
//!                        ▼        idle twice, if it was ever used there: goes, for the winner of a contest
//!                       main ────────────────────────────────────────────►
//! ```
//! A contest: the challenger takes the place of the first idle page among a few of main's oldest. If all of those were used, it stays
//! outside. So a loop that is larger than memory keeps a part of itself resident instead of driving itself out, and a scan passes.

use super::{Arrival, PageList, Policy, Sample, Verdict};
use crate::addr::Pfn;
use crate::frame::{Links, Mark};

/// With fewer pages all are main's, which is then a clock: a queue of an eleventh would be shorter than what reclaim frees at once, and a page
/// would have come, passed through it and gone before anybody could have used it again.
const FEWEST: usize = 512;
/// Of all pages, one in so many may be new: long enough that the accesses that belong to the first one are over.
const NEW_SHARE: usize = 128;
/// One in so many may be cold: more keep less of a loop, fewer see later that a hot set has moved (docs/decisions/replacement.md).
const COLD_SHARE: usize = 11;
/// Pages of main that a page challenges that came back.
const LOOKS_FOR_RETURNED: u8 = 1;
/// Of the pages that came back before they were wanted, because those beside them were, so many challenge one of main's together: each is
/// as good as one that was waited for, but in a loop there are more of them than pages in main, which would be looked at twice before
/// the loop comes to them.
const RETURNED_TOGETHER: u8 = 8;
/// Pages of main that a page challenges that was used again while it was cold.
const LOOKS_FOR_USED: u8 = 16;

/// The queues, by number.
const DOOMED: usize = 0;
const NEWCOMERS: usize = 1;
const COLD: usize = 2;
const MAIN: usize = 3;

/// Where a page stands. Kept with its links; the lower two bits are its queue, so that who leaves memory for good finds it at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Of no use: the next to go.
    Doomed = DOOMED as isize,
    New = NEWCOMERS as isize,
    Cold = COLD as isize,
    Main = MAIN as isize,
    /// New, and came back soon after it had gone.
    Returned = 4 + NEWCOMERS as isize,
    /// In main, and used there when it was last looked at.
    Proven = 4 + MAIN as isize,
}

impl Standing {
    const fn mark(self) -> Mark {
        Mark::new(self as u8)
    }

    fn of(mark: Mark) -> Self {
        let known = [Self::Doomed, Self::New, Self::Cold, Self::Main, Self::Returned];
        known.into_iter().find(|standing| standing.mark() == mark).unwrap_or(Self::Proven)
    }
}

#[inline(always)]
fn queue_of(mark: Mark) -> usize {
    usize::from(mark.get() & 3)
}

/// How many of `all` pages main has, if there are enough that are worth it.
fn main_share(all: usize) -> usize {
    if all < FEWEST { all } else { all - all / COLD_SHARE - all / NEW_SHARE }
}

/// While there are so many cold pages, main loses none without a contest, even if it has more than its share: reclaim works ahead, so
/// that there are fewer pages in all before each is replaced, and if main had its share of those at every moment, most would leave it.
fn fewest_cold(all: usize) -> usize {
    all / (2 * COLD_SHARE)
}

/// Who wants a place in main, and how many of main's pages it may still be compared with. It waits among the cold.
#[derive(Clone, Copy)]
struct Contest {
    challenger: Pfn,
    looks: u8,
}

/// The queues, and who wants to get into main.
#[derive(Default)]
pub struct Generational {
    queues: [PageList; 4],
    contest: Option<Contest>,
    /// Pages that came back before they were wanted, since the last of them that challenged.
    together: u8,
    /// Looks at main since one of its pages went.
    fruitless: usize,
    /// As many as there were before the last verdict, which may turn out to be one that cannot be carried out.
    fruitless_before: usize,
}

impl Generational {
    /// Whether there are so few pages that they are one queue.
    fn is_small(&self) -> bool {
        self.len() < FEWEST
    }

    /// Whether all of main was looked at, twice, and nothing went: it is held or locked, or there is no room for it in swap. Then the others
    /// go first, however few they are.
    fn main_is_stuck(&self) -> bool {
        self.fruitless > 2 * self.queues[MAIN].len
    }

    /// One of the others did not go either while main is stuck. When all of them were looked at twice, it is main's turn again: whatever it
    /// was stuck for, a lack of slots, or locks, may be over.
    fn note_kept(&mut self) {
        self.fruitless += 1;
        if self.fruitless > 2 * self.len() {
            self.fruitless = 0;
        }
    }

    #[inline(always)]
    fn push(&mut self, links: &mut impl Links, frame: Pfn, standing: Standing) {
        let mark = standing.mark();
        self.queues[queue_of(mark)].push_back(links, frame, mark);
    }

    #[inline(always)]
    fn remove(&mut self, links: &mut impl Links, frame: Pfn) {
        let queue = queue_of(links.mark(frame));
        self.queues[queue].remove(links, frame);
        // A challenger waits among the cold.
        if queue == COLD {
            self.end_contest_of(frame);
        }
    }

    /// The challenger is gone, or has got what it wanted.
    fn end_contest_of(&mut self, frame: Pfn) {
        if self.contest.is_some_and(|contest| contest.challenger == frame) {
            self.contest = None;
        }
    }

    /// Whether main has fewer pages than its share, while a page is being judged that is in no list.
    fn has_room(&self) -> bool {
        self.queues[MAIN].len < main_share(self.len() + 1)
    }

    /// A page wants to get into main.
    fn challenge(&mut self, links: &mut impl Links, frame: Pfn, looks: u8) {
        if self.has_room() {
            self.push(links, frame, Standing::Main);
        } else {
            self.push(links, frame, Standing::Cold);
            self.contest = Some(Contest { challenger: frame, looks });
        }
    }

    /// The oldest page of main was compared with the challenger, or too few are cold.
    fn judge_main(&mut self, links: &mut impl Links, frame: Pfn, standing: Standing, sample: Sample) -> Verdict {
        let stays = match (sample, standing) {
            (Sample::Idle, Standing::Proven) if !self.is_small() => Some(Standing::Main),
            (Sample::Idle, _) => None,
            (Sample::Used | Sample::FirstUse, _) => Some(Standing::Proven),
        };
        if let Some(standing) = stays {
            self.push(links, frame, standing);
            self.fruitless += 1;
            self.contest = self.contest.filter(|contest| contest.looks > 1);
            self.contest.iter_mut().for_each(|contest| contest.looks -= 1);
            return Verdict::Keep;
        }
        if let Some(Contest { challenger, .. }) = self.contest.take() {
            self.remove(links, challenger);
            self.push(links, challenger, Standing::Main);
        }
        self.fruitless_before = core::mem::take(&mut self.fruitless);
        Verdict::Evict
    }
}

impl Policy for Generational {
    /// Once when it is new, once when it is cold, and thrice in main.
    const LOOKS: usize = 5;
    const WINDOW: usize = 2;

    #[inline(always)]
    fn admit(&mut self, links: &mut impl Links, frame: Pfn, arrival: Arrival) {
        match arrival {
            // Out of the way of those that can go; once too few of those are left, it is looked at in turn.
            Arrival::Stuck => {
                self.push(links, frame, Standing::Main);
                self.fruitless = self.fruitless_before + 1;
            }
            Arrival::New => self.push(links, frame, Standing::New),
            Arrival::Returned => self.push(links, frame, Standing::Returned),
        }
    }

    fn demote(&mut self, links: &mut impl Links, frame: Pfn) {
        self.remove(links, frame);
        self.queues[DOOMED].push_front(links, frame, Standing::Doomed.mark());
    }

    #[inline(always)]
    fn forget(&mut self, links: &mut impl Links, frame: Pfn) {
        self.remove(links, frame);
    }

    fn candidate(&self) -> Option<Pfn> {
        let [doomed, new, cold, main] = self.queues.each_ref().map(|queue| queue.head.frame());
        let [_, new_len, cold_len, _] = self.queues.each_ref().map(|queue| queue.len);
        let all = self.len();
        if doomed.is_some() {
            return doomed;
        }
        if all < FEWEST || self.main_is_stuck() {
            return new.or(cold).or(main);
        }
        if self.contest.is_some() && main.is_some() {
            return main;
        }
        if new_len > all / NEW_SHARE {
            return new;
        }
        let first = if cold_len < fewest_cold(all) { main } else { cold };
        first.or(main).or(cold).or(new)
    }

    fn judge(&mut self, links: &mut impl Links, frame: Pfn, sample: Sample) -> Verdict {
        let standing = Standing::of(links.mark(frame));
        // If it is the challenger, main has been given up as a whole.
        self.remove(links, frame);
        match (standing, sample) {
            (Standing::Main | Standing::Proven, _) => return self.judge_main(links, frame, standing, sample),
            (Standing::Doomed, Sample::Idle) => {
                self.fruitless_before = self.fruitless;
                return Verdict::Evict;
            }
            (Standing::Cold, Sample::Idle) => {
                self.fruitless_before = self.fruitless;
                // One look at main for each that goes instead of one of main's: it may have come unstuck.
                self.fruitless = self.fruitless.min(2 * self.queues[MAIN].len + 1).saturating_sub(1);
                return Verdict::Evict;
            }
            (Standing::Cold, Sample::FirstUse) => self.push(links, frame, Standing::New),
            (Standing::Cold, Sample::Used) => self.challenge(links, frame, LOOKS_FOR_USED),
            (Standing::New | Standing::Returned, _) if self.has_room() => self.push(links, frame, Standing::Main),
            (Standing::Returned, Sample::Used) => self.challenge(links, frame, LOOKS_FOR_RETURNED),
            (Standing::Returned, Sample::FirstUse) if self.together + 1 == RETURNED_TOGETHER => {
                self.together = 0;
                self.challenge(links, frame, LOOKS_FOR_RETURNED);
            }
            (Standing::Returned, Sample::FirstUse) => {
                self.together += 1;
                self.push(links, frame, Standing::Cold);
            }
            (Standing::New | Standing::Returned | Standing::Doomed, _) => self.push(links, frame, Standing::Cold),
        }
        if self.main_is_stuck() {
            self.note_kept();
        }
        Verdict::Keep
    }

    fn each(&self, links: &impl Links, show: &mut dyn FnMut(Pfn)) {
        self.queues.iter().for_each(|queue| queue.each(links, show));
    }

    #[inline]
    fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameDesc, FrameTable};
    use alloc::{boxed::Box, vec, vec::Vec};

    /// Memory of so many frames under a policy: pages by number, and which of them were used since they were looked at.
    struct Frames<P> {
        links: FrameTable,
        policy: P,
        frame_of: Vec<Option<Pfn>>,
        page_in: Vec<usize>,
        used: Vec<bool>,
        left_at: Vec<usize>,
        free: Vec<Pfn>,
        evictions: usize,
        misses: usize,
    }

    impl<P: Policy> Frames<P> {
        fn new(frames: usize, pages: usize) -> Self {
            Self {
                links: FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; frames].into_boxed_slice())),
                policy: P::default(),
                frame_of: vec![None; pages],
                page_in: vec![usize::MAX; frames],
                used: vec![false; frames],
                left_at: vec![usize::MAX; pages],
                free: (0..frames as u32).map(Pfn::new).rev().collect(),
                evictions: 0,
                misses: 0,
            }
        }

        fn evict(&mut self) -> Pfn {
            for _ in 0..P::LOOKS * self.used.len() {
                let frame = self.policy.candidate().expect("a candidate while there are pages");
                let used = core::mem::take(&mut self.used[frame.index()]);
                let sample = if used { Sample::Used } else { Sample::Idle };
                if self.policy.judge(&mut self.links, frame, sample) == Verdict::Evict {
                    let page = self.page_in[frame.index()];
                    self.evictions += 1;
                    self.frame_of[page] = None;
                    self.left_at[page] = self.evictions;
                    return frame;
                }
            }
            panic!("every page was looked at {} times, and none went", P::LOOKS);
        }

        fn touch(&mut self, page: usize) {
            if let Some(frame) = self.frame_of[page] {
                self.used[frame.index()] = true;
                return;
            }
            self.misses += 1;
            if self.free.is_empty() {
                self.free = (0..AHEAD).map(|_| self.evict()).collect();
            }
            let frame = self.free.pop().expect("just filled");
            self.page_in[frame.index()] = page;
            self.frame_of[page] = Some(frame);
            self.used[frame.index()] = true;
            let away = self.evictions.checked_sub(self.left_at[page]);
            let soon = away.is_some_and(|away| away <= P::WINDOW * self.policy.len());
            self.policy.admit(&mut self.links, frame, if soon { Arrival::Returned } else { Arrival::New });
        }

        fn misses_of(mut self, pages: impl IntoIterator<Item = usize>) -> usize {
            pages.into_iter().for_each(|page| self.touch(page));
            self.misses
        }
    }

    const FRAMES: usize = 1000;
    /// Frames that are freed at once, as reclaim does between its watermarks.
    const AHEAD: usize = 20;

    #[test]
    fn a_loop_larger_than_memory_keeps_most_of_memory_instead_of_driving_itself_out() {
        let sweeps = || (0..10 * 1200).map(|i| i % 1200);
        let own = Frames::<Generational>::new(FRAMES, 1200).misses_of(sweeps());
        let clock = Frames::<super::super::SecondChance>::new(FRAMES, 1200).misses_of(sweeps());
        assert_eq!(clock, 12_000, "the loop drives itself out of a clock");
        // Some 880 stay: 320 are missed in each of nine turns.
        assert!(own < 1200 + 9 * 400, "{own} misses");
    }

    #[test]
    fn a_scan_passes_those_who_are_used_again() {
        let hot = |i: usize| i * 7 % 600;
        let mixed = (0..40_000).map(|i| if i % 2 == 0 { hot(i / 2) } else { 1000 + i / 2 % 5000 });
        let misses = Frames::<Generational>::new(FRAMES, 6000).misses_of(mixed);
        // 20 000 touches of the scan miss whatever one does, and the hot pages once.
        assert!(misses < 20_000 + 600 + 600, "{misses} misses");
    }

    #[test]
    fn what_is_hot_now_drives_out_what_was_hot_before() {
        let mut memory = Frames::<Generational>::new(FRAMES, 2000);
        (0..20_000).for_each(|i| memory.touch(i * 7 % 900));
        (0..40_000).for_each(|i| memory.touch(1000 + i * 7 % 900));
        let before = memory.misses;
        (0..9_000).for_each(|i| memory.touch(1000 + i * 7 % 900));
        assert!(memory.misses - before < 900, "{} misses in ten turns", memory.misses - before);
    }

    /// Nine in ten touches go to a hot set that moves on by a fifth of itself again and again: main is full of pages that were hot until now.
    #[test]
    fn a_hot_set_that_moves_finds_those_of_main_that_it_has_left() {
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((state >> 33) * bound) >> 31
        };
        let mut next = |i: u64| {
            let page = if below(10) < 9 { i / 2400 * 120 + below(600) } else { below(2200) };
            (page % 2200) as usize
        };
        let misses = Frames::<Generational>::new(FRAMES, 2200).misses_of((0..48_000).map(&mut next));
        // With eight of main's looked at instead of sixteen there are 7065.
        assert!(misses < 6850, "{misses} misses");
    }

    /// One program has memory that it does not use, another reads its own in sequences, over and over.
    #[test]
    fn pages_that_come_back_together_take_the_place_of_idle_ones_by_and_by() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; FRAMES].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..FRAMES).for_each(|f| policy.admit(&mut links, Pfn::new(f as u32), Arrival::New));
        let mut idle = vec![true; FRAMES];
        for _ in 0..4000 {
            let gone = loop {
                let frame = policy.candidate().expect("there are pages");
                let returned = Standing::of(links.mark(frame)) == Standing::Returned;
                let sample = if returned { Sample::FirstUse } else { Sample::Idle };
                if policy.judge(&mut links, frame, sample) == Verdict::Evict {
                    break frame;
                }
            };
            idle[gone.index()] = false;
            policy.admit(&mut links, gone, Arrival::Returned);
        }
        let left = idle.into_iter().filter(|idle| *idle).count();
        // A hundred were not of main, and an eighth of 4000 challenged.
        assert!((350..450).contains(&left), "{left} of {FRAMES} idle pages are left");
    }

    #[test]
    fn a_demoted_page_is_next_and_a_challenger_can_be_forgotten() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; 600].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..600).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
        policy.demote(&mut links, Pfn::new(9));
        assert_eq!(policy.candidate(), Some(Pfn::new(9)));
        // Until there is a contest, everything is used.
        while policy.contest.is_none() {
            let frame = policy.candidate().expect("600 pages");
            assert_eq!(policy.judge(&mut links, frame, Sample::Used), Verdict::Keep);
        }
        let challenger = policy.contest.expect("just looked").challenger;
        policy.forget(&mut links, challenger);
        let (mut seen, mut evicted) = (0, 0);
        policy.each(&links, &mut |frame| seen += usize::from(frame != challenger));
        while let Some(frame) = policy.candidate() {
            assert_ne!(frame, challenger);
            evicted += usize::from(policy.judge(&mut links, frame, Sample::Idle) != Verdict::Keep);
        }
        assert_eq!((seen, evicted, policy.len()), (599, 599, 0));
    }

    #[test]
    fn a_challenger_that_is_looked_at_itself_no_longer_challenges() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; 600].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..600).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
        while policy.contest.is_none() {
            let frame = policy.candidate().expect("600 pages");
            policy.judge(&mut links, frame, Sample::Used);
        }
        // A program ends that has all but this page: there is nobody left to contest with.
        let challenger = policy.contest.expect("just looked").challenger;
        let others = (0..600).map(Pfn::new).filter(|frame| *frame != challenger);
        others.for_each(|frame| policy.forget(&mut links, frame));
        assert_eq!(policy.candidate(), Some(challenger));
        assert_eq!(policy.judge(&mut links, challenger, Sample::Used), Verdict::Keep);
        assert_eq!(policy.candidate(), Some(challenger));
        assert_eq!(policy.judge(&mut links, challenger, Sample::Idle), Verdict::Evict);
        assert_eq!((policy.candidate(), policy.len()), (None, 0));
    }

    #[test]
    fn a_page_of_no_use_that_cannot_go_is_one_look_more_in_vain() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; 600].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..600).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
        policy.fruitless = 7;
        policy.demote(&mut links, Pfn::new(3));
        assert_eq!(policy.candidate(), Some(Pfn::new(3)));
        assert_eq!(policy.judge(&mut links, Pfn::new(3), Sample::Idle), Verdict::Evict);
        policy.admit(&mut links, Pfn::new(3), Arrival::Stuck);
        assert_eq!(policy.fruitless, 8);
    }

    #[test]
    fn with_few_pages_it_is_a_clock() {
        let touches = || (0..5000).map(|i| i * i % 117);
        let own = Frames::<Generational>::new(100, 117).misses_of(touches());
        assert_eq!(own, Frames::<super::super::SecondChance>::new(100, 117).misses_of(touches()));
    }

    /// Slots were used up, and main was stuck; they are free again, but all that is not main's has been locked meanwhile.
    #[test]
    fn pages_that_came_unstuck_are_not_hidden_by_others_that_cannot_go() {
        const ALL: u32 = 1000;
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; ALL as usize].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..ALL).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
        let is_locked = |frame: Pfn| frame.index() >= 600;
        let mut one_goes = |can_go: bool, looks: usize| {
            (0..looks).any(|_| {
                let frame = policy.candidate().expect("there are pages");
                let sample = if is_locked(frame) { Sample::Used } else { Sample::Idle };
                let goes = policy.judge(&mut links, frame, sample) == Verdict::Evict;
                if goes && !can_go {
                    policy.admit(&mut links, frame, Arrival::Stuck);
                }
                goes && can_go
            })
        };
        assert!(!one_goes(false, 20 * ALL as usize));
        assert!(one_goes(true, Generational::LOOKS * ALL as usize), "not in as many looks as a policy may take");
    }

    #[test]
    fn pages_that_cannot_go_do_not_hide_those_that_can() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; 2000].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..2000).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
        // Only every hundredth page is of use to who wants frames; the others have no place to go to, or are held.
        let (mut gone, mut looks) = (0, 0);
        while gone < 20 {
            looks += 1;
            assert!(looks < 4 * Generational::LOOKS * 2000, "{gone} of 20 went");
            let frame = policy.candidate().expect("2000 pages");
            let (can_go, is_held) = (frame.index().is_multiple_of(100), frame.index() % 2 == 1);
            let sample = if is_held { Sample::Used } else { Sample::Idle };
            match policy.judge(&mut links, frame, sample) {
                Verdict::Evict if can_go => gone += 1,
                Verdict::Evict => policy.admit(&mut links, frame, Arrival::Stuck),
                Verdict::Keep => {}
            }
        }
    }
}
