//! The generations on strings of touches, and what each kind of arrival does to the queues.

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
        let away = self.evictions.checked_sub(self.left_at[page]).filter(|away| *away <= P::WINDOW * self.policy.len());
        self.policy.admit(&mut self.links, frame, away.map(Distance).map_or(Arrival::New, Arrival::Returned));
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
    // Some 900 stay: 300 are missed in each of nine turns.
    assert!(own < 1200 + 9 * 320, "{own} misses");
}

#[test]
fn who_won_its_place_is_not_lost_before_the_loop_comes_to_it() {
    let mut memory = Frames::<Generational>::new(FRAMES, 3000);
    (0..20_000).for_each(|i| memory.touch(i * 7 % 900));
    (0..20 * 1300).for_each(|i| memory.touch(1000 + i % 1300));
    let misses = memory.misses;
    // If all had to be used in main first, each would be looked at twice before that: 24 002.
    assert!(misses < 14_000, "{misses} misses");
}

/// A stencil, a merge, threads that each work through a page: all that is read is read once more a little later.
#[test]
fn a_scan_that_touches_its_pages_twice_passes_those_who_are_used_again() {
    for (apart, most) in [(8, 670), (14, 800)] {
        let mut memory = Frames::<Generational>::new(FRAMES, 600 + 20_000);
        let mut hot_misses = 0;
        for i in 0..60_000 {
            let before = memory.misses;
            memory.touch(if i % 2 == 0 {
                i / 2 * 7 % 600
            } else {
                600 + i / 4 - if i % 4 == 1 { 0 } else { apart.min(i / 4) }
            });
            hot_misses += if i % 2 == 0 { memory.misses - before } else { 0 };
        }
        assert!(hot_misses < most, "{hot_misses} misses of hot pages, {apart} apart");
    }
}

/// Pages that main has lost come back at once, and each would drive out the next one that is wanted.
#[test]
fn a_loop_that_almost_fits_does_not_drive_itself_out() {
    for pages in [1005, 1020, 1050, 1100] {
        let mut memory = Frames::<Generational>::new(FRAMES, pages);
        (0..10 * pages).for_each(|i| memory.touch(i % pages));
        let before = memory.misses;
        (0..5 * pages).for_each(|i| memory.touch(i % pages));
        let (misses, least) = ((memory.misses - before) / 5, pages - FRAMES);
        // An eleventh is cold.
        assert!(misses < least + 120, "{misses} misses in a turn of {pages}, {least} at least");
    }
}

#[test]
fn who_came_back_early_comes_into_main_with_its_second_life_and_who_was_away_for_longer_without() {
    let prize_of = |away: usize| {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; FRAMES].into_boxed_slice()));
        let mut policy = Generational::default();
        (0..FRAMES).for_each(|f| policy.admit(&mut links, Pfn::new(f as u32), Arrival::New));
        // Main is filled.
        for _ in 0..FRAMES {
            let frame = policy.candidate().expect("there are pages");
            assert_eq!(policy.judge(&mut links, frame, Sample::Used), Verdict::Keep);
        }
        let frame = policy.queues[COLD].first().expect("not all are main's");
        policy.forget(&mut links, frame);
        policy.admit(&mut links, frame, Arrival::Returned(Distance(away)));
        policy.judge(&mut links, frame, Sample::Used);
        policy.contest.expect("it has returned").prize
    };
    assert_eq!(prize_of((FRAMES - 1) / 2), Standing::Proven);
    assert_eq!(prize_of(FRAMES / 2), Standing::Main);
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
    // With eight of main's looked at instead of sixteen there are 7089.
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
        policy.admit(&mut links, gone, Arrival::BroughtAlong);
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
