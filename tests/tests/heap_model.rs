//! The kernel heap's code, on the host: against a model, under misuse, and beside three other heaps on one trace.
//!
//! The slabs here are those of the kernel (`mm::heap::SlabHeap`); only the memory below is pretended.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mm::heap::layers::{Below, BuddyHeap, Kind};
use mm::heap::{CLASSES, Heap, KEPT_EMPTY, Misuse, Request, SlabHeap};
use mm::range::Span;
use tests::harness::seed;

/// A number of addresses that begins behind address 0, which is nobody's.
fn space(bytes: u64) -> Span {
    Span::new(bytes, bytes).expect("a space")
}

type Slabs = SlabHeap<Below<BuddyHeap>>;

fn slabs() -> Slabs {
    SlabHeap::new(Below::new(BuddyHeap::over_everything(space(1 << 34))))
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
    /// Small sizes often, large ones seldom, as kernels ask.
    fn request(&mut self) -> Request {
        let [sizes, alignments] = if self.below(64) == 0 { [14, 13] } else { [8, 5] };
        let most = 1 << (3 + self.below(sizes));
        let align = 1 << self.below(alignments);
        Request { size: 1 + self.below(most) as usize, align }
    }
}

/// What is given out, by address.
#[derive(Default)]
struct Model {
    given: BTreeMap<u64, Request>,
    bytes: usize,
}

impl Model {
    fn give(&mut self, at: u64, request: Request) {
        assert_eq!(at % request.align as u64, 0, "{request:?} at {at:#x}");
        let end = at + request.size as u64;
        if let Some((below, its)) = self.given.range(..end).next_back() {
            assert!(below + its.size as u64 <= at, "{request:?} at {at:#x} overlaps {its:?} at {below:#x}");
        }
        self.given.insert(at, request);
        self.bytes += request.size;
    }
    fn take(&mut self, at: u64) -> Request {
        let request = self.given.remove(&at).expect("given out");
        self.bytes -= request.size;
        request
    }
    fn any(&self, random: &mut Random) -> Option<u64> {
        let from = random.below(1 << 34);
        self.given.range(from..).chain(&self.given).next().map(|(at, _)| *at)
    }
}

/// One random step.
fn step(heap: &mut dyn Heap, model: &mut Model, random: &mut Random) {
    let request = random.request();
    match (random.below(8), model.any(random)) {
        (0..=1, Some(at)) => {
            let old = model.take(at);
            let new = Request { size: request.size, align: old.align };
            if heap.resize(at, old, new) {
                return model.give(at, new);
            }
            let moved = heap.alloc(new).expect("there is room");
            heap.free(at, old).expect("it was given out");
            model.give(moved, new);
        }
        (2..=3, Some(at)) => heap.free(at, model.take(at)).expect("it was given out"),
        _ if model.given.len() < 4000 => model.give(heap.alloc(request).expect("there is room"), request),
        (_, Some(at)) => heap.free(at, model.take(at)).expect("it was given out"),
        _ => {}
    }
}

#[test]
fn p1_a7_a11_a_million_random_requests_never_overlap_and_leak_nothing() {
    let seed = seed();
    println!("seed {seed}");
    let (mut heap, mut model, mut random) = (slabs(), Model::default(), Random(seed));
    for count in 0..1_000_000u32 {
        step(&mut heap, &mut model, &mut random);
        assert_eq!(heap.stats().bytes_in_use, model.bytes, "seed {seed}");
        if count.is_multiple_of(10_000) {
            let objects: usize = heap.class_stats().iter().map(|class| class.objects).sum();
            assert!(objects <= model.given.len() && heap.stats().empty_slabs <= KEPT_EMPTY, "seed {seed}");
        }
    }
    for (at, request) in std::mem::take(&mut model.given) {
        heap.free(at, request).expect("it was given out");
    }
    heap.shrink();
    let stats = heap.stats();
    assert_eq!((stats.bytes_in_use, stats.slab_frames, stats.large_frames), (0, 0, 0), "seed {seed}");
    assert_eq!(heap.memory().heap().footprint(), 0, "seed {seed}: frames are leaked");
}

#[test]
fn p4_x8_few_empty_slabs_are_kept_and_none_when_asked() {
    let mut heap = slabs();
    let request = |index: usize| Request::bytes(CLASSES[index % CLASSES.len()].into());
    let given: Vec<_> = (0..20_000).map(|index| (heap.alloc(request(index)).unwrap(), request(index))).collect();
    let (full, mut most) = (heap.stats().slab_frames, 0);
    for (at, request) in given {
        heap.free(at, request).unwrap();
        most = most.max(heap.stats().empty_slabs);
    }
    let stats = heap.stats();
    assert!(full > 1000 && most == KEPT_EMPTY, "{most} were empty at once");
    assert!(stats.slab_frames == stats.empty_slabs && (1..=KEPT_EMPTY).contains(&stats.empty_slabs), "{stats:?}");
    assert_eq!(heap.shrink(), stats.empty_slabs);
    assert_eq!((heap.stats().slab_frames, heap.memory().heap().footprint()), (0, 0));
    assert_eq!(heap.shrink(), 0, "there is nothing more to give");
}

#[test]
fn p4_going_to_and_fro_over_the_limit_takes_no_frame_each_time() {
    let mut heap = slabs();
    let request = Request::bytes(2016);
    let mut given: Vec<_> = (0..100).map(|_| heap.alloc(request).unwrap()).collect();
    while heap.stats().empty_slabs < KEPT_EMPTY {
        heap.free(given.pop().unwrap(), request).unwrap();
    }
    let frames = |heap: &Slabs| heap.stats().slab_frames;
    // One more empty slab: half of what is kept stays, and a few objects more or less change nothing.
    for _ in 0..2 {
        heap.free(given.pop().unwrap(), request).unwrap();
    }
    let before = frames(&heap);
    for _ in 0..100 {
        let more: Vec<_> = (0..4).map(|_| heap.alloc(request).unwrap()).collect();
        more.into_iter().for_each(|at| heap.free(at, request).unwrap());
        assert_eq!(frames(&heap), before);
    }
}

#[test]
fn p3_single_objects_make_no_slabs() {
    let caches = |heap: &Slabs| heap.class_stats().iter().filter(|class| class.slabs > 0).count();
    let odd = (0..15).map(|index| Request::bytes(usize::from(CLASSES[index]) - 3)).collect::<Vec<_>>();
    let mut heap = slabs();
    let single: Vec<_> = odd.iter().map(|request| (heap.alloc_single(*request).unwrap(), *request)).collect();
    assert_eq!(caches(&heap), 0, "with the hint no size gets slabs of its own");
    assert_eq!(heap.stats().large_frames, single.len());
    for request in &odd {
        heap.alloc(*request).unwrap();
    }
    assert_eq!(caches(&heap), odd.len(), "without it each does");
    for (at, request) in single {
        heap.free_single(at, request).unwrap();
    }
    assert_eq!(heap.stats().large_frames, 0);
}

#[test]
fn a4_a_wrong_free_is_named_and_changes_nothing() {
    let mut heap = slabs();
    let (small, large) = (Request::bytes(100), Request::bytes(300));
    let at = heap.alloc(small).unwrap();
    let other = heap.alloc(small).unwrap();
    let before = heap.stats();
    assert_eq!(heap.free(at, large), Err(Misuse::NotAnObject), "of another size");
    assert_eq!(heap.free(at + 8, small), Err(Misuse::NotAnObject), "inside an object");
    assert_eq!(heap.stats(), before);
    heap.free(at, small).unwrap();
    assert_eq!(heap.free(at, small), Err(Misuse::DoubleFree));
    heap.free(other, small).unwrap();
    assert_eq!(heap.stats().bytes_in_use, 0);
}

/// What a heap was like on a trace.
struct Figures {
    kind: Kind,
    steps_per_request: f64,
    worst: u64,
    overhead_percent: f64,
}

fn run_trace(kind: Kind) -> Figures {
    let mut heap = kind.over(space(1 << 34));
    let (mut model, mut random) = (Model::default(), Random(2026));
    let (mut worst, mut overhead, mut samples) = (0, 0.0, 0.0);
    const STEPS: u32 = 60_000;
    for count in 0..STEPS {
        let before = heap.steps();
        step(&mut *heap, &mut model, &mut random);
        worst = worst.max(heap.steps() - before);
        if count >= STEPS / 2 && count.is_multiple_of(100) {
            overhead += heap.footprint() as f64 / model.bytes as f64 - 1.0;
            samples += 1.0;
        }
    }
    let steps_per_request = heap.steps() as f64 / f64::from(STEPS);
    for (at, request) in model.given {
        heap.free(at, request).expect("it was given out");
    }
    Figures { kind, steps_per_request, worst, overhead_percent: 100.0 * overhead / samples }
}

const TABLE: &str = "\
| heap | steps a request | at worst | memory beyond what was asked for |
|---|---|---|---|
";

#[test]
fn n10_heaps_on_one_trace() {
    let figures = Kind::ALL.map(run_trace);
    let mut table = TABLE.to_owned();
    for Figures { kind, steps_per_request, worst, overhead_percent } in &figures {
        writeln!(table, "| {} | {steps_per_request:.1} | {worst} | {overhead_percent:.0} % |", kind.name()).unwrap();
    }
    println!("{table}");
    let page = std::fs::read_to_string(tests::source::root().join("docs/decisions/kernel-heap.md")).expect("the page");
    assert!(page.contains(&table), "docs/decisions/kernel-heap.md has another table than\n{table}");
    let [list, buddy, slab, chain] = &figures;
    assert!(list.steps_per_request > 10.0 * slab.steps_per_request, "the list slows down");
    assert!(buddy.overhead_percent > 10.0 * list.overhead_percent, "the buddy wastes by rounding up");
    assert!(chain.steps_per_request < list.steps_per_request / 10.0, "the chain searches no list of small things");
}

#[test]
fn n11_requests_from_a_byte_to_a_gibibyte() {
    for kind in Kind::ALL {
        let mut heap = kind.over(space(1 << 34));
        let mut model = Model::default();
        for power in 0..=30 {
            for size in [(1usize << power) - 1, 1 << power, (1 << power) + 1] {
                let request = Request::bytes(size.clamp(1, 1 << 30));
                // Slabs take whole blocks of frames from below, and a block has 4 MiB at most.
                if kind == Kind::Slab && request.size > 4 << 20 {
                    assert_eq!(heap.alloc(request), None, "refused, not wrong");
                    continue;
                }
                let at = heap.alloc(request).unwrap_or_else(|| panic!("{}: {request:?}", kind.name()));
                model.give(at, request);
            }
        }
        for (at, request) in model.given {
            heap.free(at, request).unwrap_or_else(|error| panic!("{}: {request:?} {error}", kind.name()));
        }
    }
}
