//! Generations: most of memory is for pages that have shown their worth; what only passes through takes as little as proves enough.
//!
//! Owns four queues, their shares, and the contest for a place among the proven. Its parts are well known: the small queue in which new
//! pages have to show that they are used again is S3-FIFO's (Yang et al., SOSP 2023), the worth of a page that comes back soon is the
//! refault distance of Linux (mm/workingset.c), that a resident page goes only for one that is used at shorter distances is LIRS's (Jiang
//! and Zhang, SIGMETRICS 2002), and that those who come back say which queue is too short is ARC's (Megiddo and Modha, FAST 2003).
//! docs/decisions/replacement.md has the measurements.
//!
//! ```text
//!                 A bit cleared                idle: goes
//!   came ──► new ───────────────► cold ─────────────────────────────────►
//!             │                   │  ▲
//!             │ main has room, or │  │ the contest is lost
//!             │ came back soon    │  │
//!             └───── contest ◄────┘ used again
//!                        │
//!                        ▼        idle twice, if it was used again before: goes, for the winner of a contest
//!                       main ────────────────────────────────────────────►
//! ```
//! A contest: the challenger takes the place of the first idle page among a few of main's oldest. If all of those were used, it stays
//! outside. So a loop that is larger than memory keeps a part of itself resident instead of driving itself out, and a scan passes.
//!
//! How many are cold follows from those that come back almost at once: a page that was cold would have been found used again if a few more
//! had been, one that was main's would have stayed if a few less had been. A loop and a scan have nobody come back at once.

use super::{Arrival, PageList, Policy, Sample, Verdict};
use crate::addr::Pfn;
use crate::frame::{Links, Mark};
use crate::reclaim::{Absence, Distance};

/// With fewer pages all are main's, which is then a clock: the cold queue would be shorter than what reclaim frees at once, and a page
/// would have come, passed through it and gone before anybody could have used it again.
const FEWEST: usize = 512;
/// Of all pages, one in so many may be new: long enough that the accesses that belong to the first one are over.
const NEW_SHARE: usize = 128;
/// One in so many are cold at least, and at most: more keep less of a loop, fewer see later that a hot set has moved.
const LEAST_COLD: usize = 18;
const MOST_COLD: usize = 6;
/// A page has come back at once if it was away for at most one in so many evictions as there are pages.
const AT_ONCE: usize = 20;
/// By so many pages the cold are more or fewer if one comes back at once; if it comes back later, they are fewer by one. Where one in
/// `STEP` + 1 comes back at once the two balance: one page more among the cold catches as many as one in main that is used once while one
/// and a quarter as many come back as there are pages (`STEP` over [`AT_ONCE`]), whatever the size of memory.
const STEP: usize = 24;
/// Pages of main that a page challenges that came back.
const LOOKS_FOR_RETURNED: u8 = 1;
/// Of those that came back before three quarters as many had gone as there are pages: to a loop that is twice as large as memory none does.
const LOOKS_FOR_RETURNED_SOON: u8 = 2;
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
    /// New, and came back after it had gone.
    Returned = 4 + NEWCOMERS as isize,
    /// In main, and used again before it came there, or when it was last looked at.
    Proven = 4 + MAIN as isize,
    /// New, and came back soon after it had gone.
    ReturnedSoon = 8 + NEWCOMERS as isize,
}

impl Standing {
    const fn mark(self) -> Mark {
        Mark::new(self as u8)
    }

    fn of(mark: Mark) -> Self {
        let known = [Self::Doomed, Self::New, Self::Cold, Self::Main, Self::Returned, Self::ReturnedSoon];
        known.into_iter().find(|standing| standing.mark() == mark).unwrap_or(Self::Proven)
    }
}

#[inline(always)]
fn queue_of(mark: Mark) -> usize {
    usize::from(mark.get() & 3)
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
    /// How many were to be cold when a page last came back.
    share_of_cold: usize,
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

    /// How many of `all` pages are to be cold.
    fn cold_share(&self, all: usize) -> usize {
        self.share_of_cold.clamp(all / LEAST_COLD, all / MOST_COLD)
    }

    /// A page that left comes back: it says which queue should have been longer.
    fn learn(&mut self, Absence { away: Distance(away), favoured }: Absence) {
        let all = self.len();
        let share = self.cold_share(all);
        self.share_of_cold = match away <= all / AT_ONCE {
            true if !favoured => share + STEP,
            true => share.saturating_sub(STEP),
            false => share.saturating_sub(1),
        };
    }

    /// How many of `all` pages main has, if there are enough that are worth it.
    fn main_share(&self, all: usize) -> usize {
        if all < FEWEST { all } else { all - self.cold_share(all) - all / NEW_SHARE }
    }

    /// While there are so many cold pages, main loses none without a contest, even if it has more than its share: reclaim works ahead, so
    /// that there are fewer pages in all before each is replaced, and if main had its share of those at every moment, most would leave it.
    fn fewest_cold(&self, all: usize) -> usize {
        self.cold_share(all) / 2
    }

    /// Whether main has fewer pages than its share, while a page is being judged that is in no list.
    fn has_room(&self) -> bool {
        self.queues[MAIN].len < self.main_share(self.len() + 1)
    }

    /// A page wants to get into main.
    fn challenge(&mut self, links: &mut impl Links, frame: Pfn, looks: u8) {
        if self.has_room() {
            self.push(links, frame, Standing::Proven);
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
            self.push(links, challenger, Standing::Proven);
        }
        self.fruitless_before = core::mem::take(&mut self.fruitless);
        Verdict::Evict { favoured: true }
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
            Arrival::Returned(absence) => {
                self.learn(absence);
                let soon = absence.away <= Distance(self.len() / 4 * 3);
                self.push(links, frame, if soon { Standing::ReturnedSoon } else { Standing::Returned });
            }
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
        let first = if cold_len < self.fewest_cold(all) { main } else { cold };
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
                return Verdict::Evict { favoured: false };
            }
            (Standing::Cold, Sample::Idle) => {
                self.fruitless_before = self.fruitless;
                // One look at main for each that goes instead of one of main's: it may have come unstuck.
                self.fruitless = self.fruitless.min(2 * self.queues[MAIN].len + 1).saturating_sub(1);
                return Verdict::Evict { favoured: false };
            }
            (Standing::Cold, Sample::FirstUse) => self.push(links, frame, Standing::New),
            (Standing::Cold, Sample::Used) => self.challenge(links, frame, LOOKS_FOR_USED),
            (Standing::Returned, Sample::Used) => self.challenge(links, frame, LOOKS_FOR_RETURNED),
            (Standing::ReturnedSoon, Sample::Used) => self.challenge(links, frame, LOOKS_FOR_RETURNED_SOON),
            (Standing::Returned | Standing::ReturnedSoon, Sample::FirstUse)
                if self.has_room() || self.together + 1 == RETURNED_TOGETHER =>
            {
                self.together = 0;
                self.challenge(links, frame, LOOKS_FOR_RETURNED);
            }
            (Standing::Returned | Standing::ReturnedSoon, Sample::FirstUse) => {
                self.together += 1;
                self.push(links, frame, Standing::Cold);
            }
            (Standing::New | Standing::Returned | Standing::ReturnedSoon, _) if self.has_room() => {
                self.push(links, frame, Standing::Main);
            }
            (Standing::New | Standing::Returned | Standing::ReturnedSoon | Standing::Doomed, _) => {
                self.push(links, frame, Standing::Cold);
            }
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
        left_at: Vec<(usize, bool)>,
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
                left_at: vec![(usize::MAX, false); pages],
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
                if let Verdict::Evict { favoured } = self.policy.judge(&mut self.links, frame, sample) {
                    let page = self.page_in[frame.index()];
                    self.evictions += 1;
                    self.frame_of[page] = None;
                    self.left_at[page] = (self.evictions, favoured);
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
            let (left_at, favoured) = self.left_at[page];
            let away = self.evictions.checked_sub(left_at).filter(|away| *away <= P::WINDOW * self.policy.len());
            let absence = away.map(|away| Absence { away: Distance(away), favoured });
            self.policy.admit(&mut self.links, frame, absence.map_or(Arrival::New, Arrival::Returned));
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
        // With one in eleven cold, some 880 stay, and 320 are missed in each of nine turns; with an eighteenth, 262.
        assert!(own < 1200 + 9 * 290, "{own} misses");
    }

    #[test]
    fn who_won_its_place_is_not_lost_before_the_loop_comes_to_it() {
        let mut memory = Frames::<Generational>::new(FRAMES, 3000);
        (0..20_000).for_each(|i| memory.touch(i * 7 % 900));
        (0..20 * 1500).for_each(|i| memory.touch(1000 + i % 1500));
        let misses = memory.misses;
        // If they had to be used in main first, each would be looked at twice before that: 28 806.
        assert!(misses < 15_000, "{misses} misses");
    }

    #[test]
    fn who_comes_back_soon_is_compared_with_two_of_mains_and_who_was_away_for_longer_with_one() {
        let looks_after = |away: usize| {
            let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; FRAMES].into_boxed_slice()));
            let mut policy = Generational::default();
            let absence = Absence { away: Distance(away), favoured: false };
            (0..FRAMES).for_each(|f| policy.admit(&mut links, Pfn::new(f as u32), Arrival::New));
            // Main is filled.
            for _ in 0..FRAMES {
                let frame = policy.candidate().expect("there are pages");
                assert_eq!(policy.judge(&mut links, frame, Sample::Used), Verdict::Keep);
            }
            let frame = policy.queues[COLD].first().expect("not all are main's");
            policy.forget(&mut links, frame);
            policy.admit(&mut links, frame, Arrival::Returned(absence));
            policy.judge(&mut links, frame, Sample::Used);
            policy.contest.map(|contest| contest.looks)
        };
        assert_eq!(looks_after(FRAMES / 2), Some(LOOKS_FOR_RETURNED_SOON));
        assert_eq!(looks_after(FRAMES), Some(LOOKS_FOR_RETURNED));
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
        // With an eighteenth of the pages cold, whoever comes back, there are 7504.
        assert!(misses < 6400, "{misses} misses");
    }

    #[test]
    fn who_comes_back_at_once_says_which_queue_is_too_short_and_who_comes_back_later_that_the_cold_are_too_many() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; FRAMES].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..FRAMES).for_each(|f| policy.admit(&mut links, Pfn::new(f as u32), Arrival::New));
        let mut share_after = |times: usize, away: usize, favoured: bool| {
            for _ in 0..times {
                policy.forget(&mut links, Pfn::new(0));
                policy.admit(&mut links, Pfn::new(0), Arrival::Returned(Absence { away: Distance(away), favoured }));
            }
            policy.cold_share(FRAMES)
        };
        let least = FRAMES / LEAST_COLD;
        let soon = (FRAMES - 1) / AT_ONCE;
        assert_eq!(share_after(0, 0, false), least);
        assert_eq!(share_after(3, soon, false), least + 3 * STEP);
        assert_eq!(share_after(1, soon, true), least + 2 * STEP, "main lost it too early");
        assert_eq!(
            share_after(STEP, soon + 1, false),
            least + STEP,
            "so far away that more among the cold do not help"
        );
        assert_eq!(share_after(9, soon, false), FRAMES / MOST_COLD);
        assert_eq!(share_after(1, soon, true), FRAMES / MOST_COLD - STEP, "more than may be cold are not counted");
        assert_eq!(share_after(9, soon, true), least);
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
                if policy.judge(&mut links, frame, sample) != Verdict::Keep {
                    break frame;
                }
            };
            idle[gone.index()] = false;
            let long_ago = Absence { away: Distance(FRAMES), favoured: false };
            policy.admit(&mut links, gone, Arrival::Returned(long_ago));
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
        assert_ne!(policy.judge(&mut links, challenger, Sample::Idle), Verdict::Keep);
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
        assert_ne!(policy.judge(&mut links, Pfn::new(3), Sample::Idle), Verdict::Keep);
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
                let goes = policy.judge(&mut links, frame, sample) != Verdict::Keep;
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
                Verdict::Evict { .. } if can_go => gone += 1,
                Verdict::Evict { .. } => policy.admit(&mut links, frame, Arrival::Stuck),
                Verdict::Keep => {}
            }
        }
    }
}
