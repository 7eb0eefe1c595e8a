//! Frames in magazines by processor (row N4), by two means: a few steps of two or three processors in every order that their locks
//! allow, with loom's locks in place of the kernel's; and very many steps of real threads over the real allocator.
//!
//! The kernel runs on one processor, so this is where magazines are shown.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use maitake_sync::blocking::DefaultMutex;
use mm::addr::Pfn;
use mm::frame::{
    Batch, Frame, FrameAllocator, FrameKind, FrameSource, Lock, Magazine, Magazines, Marks, Order, ProcessorId,
};

struct LoomLock<T>(loom::sync::Mutex<T>);

impl<T> Lock<T> for LoomLock<T> {
    fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().expect("nobody panicked"))
    }
}

struct StdLock<T>(Mutex<T>);

impl<T> Lock<T> for StdLock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().expect("nobody panicked"))
    }
}

/// A frame of a few, by its number. Not `Clone`.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Few(u32);

/// A source of a few frames behind any lock.
struct FewFrames<L> {
    frames: L,
    is_short: bool,
}

impl<L: Lock<Vec<Few>>> FewFrames<L> {
    fn new(count: u32) -> Self {
        Self { frames: L::new((0..count).map(Few).collect()), is_short: false }
    }
    fn short(count: u32) -> Self {
        Self { is_short: true, ..Self::new(count) }
    }
    fn all(&self) -> BTreeSet<u32> {
        self.frames.with(|frames| {
            let all: BTreeSet<_> = frames.iter().map(|frame| frame.0).collect();
            assert_eq!(all.len(), frames.len(), "a frame is there twice: {frames:?}");
            all
        })
    }
}

impl<L: Lock<Vec<Few>>> FrameSource for FewFrames<L> {
    type Frame = Few;

    fn take(&self, batch: &mut Batch<Few>, count: usize) {
        self.frames.with(|frames| batch.extend(frames.drain(frames.len().saturating_sub(count)..)));
    }
    fn give(&self, batch: &mut Batch<Few>) {
        self.frames.with(|frames| frames.extend(batch.drain(..)));
    }
    fn is_short(&self) -> bool {
        self.is_short
    }
}

type Modelled<const N: usize> = Magazines<FewFrames<LoomLock<Vec<Few>>>, LoomLock<Magazine<Few>>, N>;

/// Runs `work` in every order of its threads' steps; with a bound on how often one is interrupted, if three are too many for all.
fn in_every_order(interruptions: Option<usize>, work: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions;
    model.check(work);
}

fn processor(number: usize) -> ProcessorId {
    ProcessorId::new(number)
}

fn marks(low: usize, high: usize) -> Marks {
    Marks::new(low, high).expect("marks in order")
}

/// Takes `turns` frames, one after another, and gives each back.
fn take_and_give<const N: usize>(magazines: &Modelled<N>, at: usize, turns: usize) {
    for turn in 0..turns {
        let frame = magazines.take(processor(at));
        let frame =
            frame.unwrap_or_else(|| panic!("processor {at}, turn {turn}: no frame, and there was one all the time"));
        magazines.give(processor(at), frame);
    }
}

fn assert_all_come_back<const N: usize>(magazines: &Modelled<N>, count: u32) {
    magazines.drain();
    assert_eq!(magazines.held(), 0);
    assert_eq!(magazines.source().all(), (0..count).collect());
}

/// As many frames as processors, each of which has one at most: nobody may be refused, wherever the frames are meanwhile.
#[test]
fn n4_whoever_asks_finds_the_last_frame_wherever_it_is() {
    in_every_order(None, || {
        let magazines = loom::sync::Arc::new(Modelled::<2>::new(FewFrames::new(2), marks(2, 3)));
        let other = magazines.clone();
        let thread = loom::thread::spawn(move || take_and_give(&other, 1, 2));
        take_and_give(&magazines, 0, 2);
        thread.join().expect("the other processor got its frames");
        assert_all_come_back(&magazines, 2);
    });
}

/// The other processor has all frames, gives them up and gets them again: they go behind the back of whoever looks at one place after
/// another, and are always somewhere.
#[test]
fn n4_a_frame_that_moves_meanwhile_is_not_missed() {
    in_every_order(None, || {
        let magazines = loom::sync::Arc::new(Modelled::<2>::new(FewFrames::new(2), marks(2, 3)));
        let other = magazines.clone();
        let thread = loom::thread::spawn(move || {
            take_and_give(&other, 1, 1);
            other.drain();
            take_and_give(&other, 1, 1);
        });
        take_and_give(&magazines, 0, 1);
        thread.join().expect("the other processor got its frames");
        assert_all_come_back(&magazines, 2);
    });
}

/// Three who find nothing anywhere look into each other's magazines in all directions. Loom names a deadlock if there is one.
#[test]
fn n4_those_who_steal_from_each_other_do_not_wait_for_each_other() {
    in_every_order(Some(3), || {
        let magazines = loom::sync::Arc::new(Modelled::<3>::new(FewFrames::new(0), marks(1, 2)));
        let other = |at| {
            let magazines = magazines.clone();
            loom::thread::spawn(move || magazines.take(processor(at)))
        };
        let others = [other(1), other(2)];
        assert_eq!(magazines.take(processor(0)), None);
        assert!(others.into_iter().all(|other| other.join().expect("no deadlock").is_none()));
    });
}

/// More processors than frames: some are refused, and what is given out is given out once.
#[test]
fn n4_three_processors_never_hold_the_same_frame() {
    in_every_order(Some(2), || {
        let magazines = loom::sync::Arc::new(Modelled::<3>::new(FewFrames::new(2), marks(1, 2)));
        let takers: Vec<_> = (1..3)
            .map(|at| {
                let magazines = magazines.clone();
                loom::thread::spawn(move || magazines.take(processor(at)))
            })
            .collect();
        let mine = magazines.take(processor(0));
        let others = takers.into_iter().map(|taker| taker.join().expect("no panic"));
        let taken: Vec<_> = others.chain([mine]).flatten().collect();
        assert_eq!(taken.len(), 2, "all frames are given out: {taken:?}");
        assert_ne!(taken[0], taken[1]);
        taken.into_iter().for_each(|frame| magazines.give(processor(0), frame));
        assert_all_come_back(&magazines, 2);
    });
}

/// Frames are given back above the high mark while another takes them away.
#[test]
fn n4_giving_back_and_stealing_lose_no_frame() {
    in_every_order(None, || {
        let magazines = loom::sync::Arc::new(Modelled::<2>::new(FewFrames::new(4), marks(1, 2)));
        let mine: Vec<_> = (0..4).map(|_| magazines.take(processor(0)).expect("four frames")).collect();
        let thief = magazines.clone();
        let stolen = loom::thread::spawn(move || thief.take(processor(1)));
        mine.into_iter().for_each(|frame| magazines.give(processor(0), frame));
        let stolen = stolen.join().expect("no panic");
        assert!(magazines.held() <= 3, "a magazine has more than its high mark");
        stolen.into_iter().for_each(|frame| magazines.give(processor(1), frame));
        assert_all_come_back(&magazines, 4);
    });
}

type Few2 = Magazines<FewFrames<StdLock<Vec<Few>>>, StdLock<Magazine<Few>>, 2>;

#[test]
fn n4_the_last_asker_gets_the_frames_of_all_magazines() {
    let magazines = Few2::new(FewFrames::new(64), marks(8, 16));
    let far: Vec<_> = (0..16).map(|_| magazines.take(processor(1)).expect("a frame")).collect();
    far.into_iter().for_each(|frame| magazines.give(processor(1), frame));
    assert_eq!(magazines.held(), 16);
    let mut all = BTreeSet::new();
    while let Some(Few(frame)) = magazines.take(processor(0)) {
        assert!(all.insert(frame), "frame {frame} is given out twice");
    }
    assert_eq!((all.len(), magazines.held()), (64, 0));
}

#[test]
fn n4_under_pressure_magazines_are_empty_and_stay_so() {
    let magazines = Few2::new(FewFrames::new(8), marks(2, 4));
    let frame = magazines.take(processor(0)).expect("a frame");
    magazines.give(processor(0), frame);
    assert_eq!((magazines.held(), magazines.drain(), magazines.held()), (2, 2, 0));

    let magazines = Few2::new(FewFrames::short(8), marks(2, 4));
    let frames: Vec<_> = (0..8).map(|_| magazines.take(processor(0)).expect("a frame")).collect();
    assert_eq!(magazines.held(), 0, "one is taken at a time");
    frames.into_iter().for_each(|frame| magazines.give(processor(1), frame));
    assert_eq!(magazines.held(), 0, "and none is kept");
    assert_eq!(magazines.source().all().len(), 8);
}

/// The allocator, and how often its lock is taken.
struct Counted {
    frames: FrameAllocator<DefaultMutex>,
    visits: AtomicU64,
}

impl Counted {
    fn new(frames: usize) -> Self {
        let words = FrameAllocator::<DefaultMutex>::storage_words(frames);
        let allocator = FrameAllocator::new(Box::leak(vec![0; words].into_boxed_slice()), frames);
        allocator.add_range(Pfn::new(0), Pfn::new(frames as u32));
        Self { frames: allocator, visits: AtomicU64::new(0) }
    }
    fn visits(&self) -> u64 {
        self.visits.load(Ordering::Relaxed)
    }
}

impl FrameSource for Counted {
    type Frame = Frame;

    fn take(&self, batch: &mut Batch<Frame>, count: usize) {
        self.visits.fetch_add(1, Ordering::Relaxed);
        self.frames.take(batch, count);
    }
    fn give(&self, batch: &mut Batch<Frame>) {
        self.visits.fetch_add(1, Ordering::Relaxed);
        self.frames.give(batch);
    }
    fn is_short(&self) -> bool {
        self.frames.is_short()
    }
}

type Real<const N: usize> = Magazines<Counted, StdLock<Magazine<Frame>>, N>;

/// Knuth's generator of MMIX: enough to mix takes and gives.
struct Dice(Cell<u64>);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        self.0.set(self.0.get().wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
        (self.0.get() >> 33) % bound
    }
}

/// A processor's part: takes and gives at random, now and then empties all magazines, and in the end gives all back. `owned` says
/// which frames are somebody's.
fn take_and_give_at_random<const N: usize>(
    magazines: &Real<N>,
    at: usize,
    seed: u64,
    owned: &[AtomicBool],
    most: usize,
) {
    let dice = Dice(Cell::new(seed));
    let mut held: Vec<Frame> = Vec::new();
    let give = |frame: Frame| {
        assert!(owned[frame.pfn().index()].swap(false, Ordering::Relaxed), "nobody had {:?}", frame.pfn());
        magazines.give(processor(at), frame);
    };
    for _ in 0..100_000 {
        match dice.below(64) {
            0 if dice.below(16) == 0 => drop(magazines.drain()),
            ..32 if held.len() < most => {
                let frame = magazines.take(processor(at)).expect("no processor may have more than its share");
                assert!(
                    !owned[frame.pfn().index()].swap(true, Ordering::Relaxed),
                    "{:?} is given out twice",
                    frame.pfn()
                );
                held.push(frame);
            }
            _ if !held.is_empty() => give(held.swap_remove(dice.below(held.len() as u64) as usize)),
            _ => {}
        }
    }
    held.into_iter().for_each(give);
}

/// Four threads that may together have exactly as many frames as there are: each must always find one while it has less than its share.
#[test]
fn n4_threads_that_share_all_frames_lose_none_and_are_never_refused_one() {
    const PROCESSORS: usize = 4;
    for (frames, seed) in [(PROCESSORS, 1), (3 * PROCESSORS, 2), (100 * PROCESSORS, 3)] {
        println!("{frames} frames, seed {seed}");
        let magazines = Real::<PROCESSORS>::new(Counted::new(frames), marks(4, 8));
        let owned: Vec<_> = (0..frames).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            for at in 0..PROCESSORS {
                let (magazines, owned) = (&magazines, &owned);
                let seed = seed << 8 | at as u64;
                scope.spawn(move || take_and_give_at_random(magazines, at, seed, owned, frames / PROCESSORS));
            }
        });
        let counts = magazines.source().frames.counts();
        assert_eq!(counts.used[FrameKind::User as usize], magazines.held(), "what is nobody's is in a magazine");
        assert_eq!(counts.free + magazines.drain(), frames);
        assert_eq!(magazines.source().frames.free_frames(), frames);
        // Nothing is left in between: the largest runs are whole again.
        let order = Order::holding(frames.next_power_of_two() / 2).expect("few frames");
        assert!(magazines.source().frames.alloc(FrameKind::Heap, order).is_some());
    }
}

/// Visits to the allocator per 1000 takes, and as many gives, of `work`.
fn visits_per_1000(work: impl Fn(&Real<1>)) -> u64 {
    let magazines = Real::<1>::new(Counted::new(65536), Marks::USUAL);
    work(&magazines);
    magazines.source().visits() * 1000 / TAKES
}

const TAKES: u64 = 100_000;

/// A program that takes `burst` frames one by one and then gives them back, again and again, `keep` of them held throughout.
fn bursts(magazines: &Real<1>, burst: u64, keep: u64) {
    let take = |count| (0..count).map(|_| magazines.take(processor(0)).expect("a frame")).collect::<Vec<_>>();
    let kept = take(keep);
    for _ in 0..TAKES / burst {
        take(burst).into_iter().for_each(|frame| magazines.give(processor(0), frame));
    }
    kept.into_iter().for_each(|frame| magazines.give(processor(0), frame));
}

/// What magazines save: without them each take and each give locks the allocator, 2000 times per 1000 takes. No pattern of takes and
/// gives may cost more than one visit per 32 of them.
#[test]
fn n4_the_shared_lock_is_taken_once_in_32_requests_at_most() {
    for (burst, most) in [(1, 0), (16, 0), (32, 0), (64, 32), (1000, 63), (10_000, 63)] {
        let visits = visits_per_1000(|magazines| bursts(magazines, burst, 0));
        println!(
            "bursts of {burst}: the shared lock is taken {visits} times per 1000 takes and gives, instead of 2000"
        );
        assert!(visits <= most, "bursts of {burst} need {visits}");
    }
    // Wherever in a magazine the pattern begins, it is never at an edge for long.
    for keep in 0..96 {
        let visits = visits_per_1000(|magazines| bursts(magazines, 2, keep));
        assert_eq!(visits, 0, "with {keep} frames held");
    }
}
