//! P20: whatever pages go to keeps the same contract: swap, files, a program, a fake in RAM, a fake that fails. One suite for all.
//!
//! The contract, of which the manager makes use: a request owns its frames until it comes back, with the same frames in the same order,
//! exactly once, in any order, also after an error; what was put is what is got, page by page, in runs of any length; a request that is
//! refused comes back unchanged and can be offered again; an error says so, and concerns nobody else.

#[path = "p20_pager_contract/user_program.rs"]
mod user_program;

use mm::addr::Pfn;
use mm::file_store::{FileId, FileIo, FileRequest, FileStore};
use mm::frame::{FrameAllocator, FrameKind};
use mm::object::ObjectPage;
use mm::ops::OpId;
use mm::platform::{BackingStore, CLUSTER, Discards, IoFrames, Slot, StoreCompletion, StoreKind, StoreRequest};
use mm::sim::{DiskConfig, FilesConfig, PerMille, Ram, SimFiles, SimLock, SimRng, SimStore};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use user_program::UserProgram;

/// Places that every pager has.
const PLACES: u32 = 300;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Io {
    /// Pages to frames.
    Get,
    /// Frames to pages.
    Put,
}

/// A request that came back.
struct Back {
    op: u16,
    frames: IoFrames,
    good: bool,
}

/// A pager, as the suite sees it: `has` all of [`PLACES`], `get`s and `put`s runs of them.
trait Pager {
    /// Begins; or gives the frames back if there is no room.
    fn begin(&mut self, op: u16, io: Io, first: u32, frames: IoFrames) -> Result<(), IoFrames>;
    /// What came back, if anything did.
    fn back(&mut self) -> Option<Back>;
    /// Lets it work for a moment.
    fn step(&mut self);
    /// Whether requests may fail for no reason.
    fn is_faulty(&self) -> bool {
        false
    }
}

fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Anything behind the seam for swap.
struct Swap<S> {
    store: S,
    step: fn(&S),
    faulty: bool,
}

impl<S: BackingStore> Pager for Swap<S> {
    fn begin(&mut self, op: u16, io: Io, first: u32, frames: IoFrames) -> Result<(), IoFrames> {
        let kind = if io == Io::Get { StoreKind::Read } else { StoreKind::Write };
        let (slot, count) = (Slot::new(first + 1), frames.len() as u32);
        let request = StoreRequest { op: OpId::new(op), kind, slot, count, frames };
        self.store.try_submit(request).map_err(|refused| {
            assert_eq!((refused.op, refused.kind, refused.slot, refused.count), (OpId::new(op), kind, slot, count));
            refused.frames
        })
    }
    fn back(&mut self) -> Option<Back> {
        let StoreCompletion { request, result } = now(|cx| self.store.poll_complete(cx))?;
        Some(Back { op: request.op.as_u16(), frames: request.frames, good: result.is_ok() })
    }
    fn step(&mut self) {
        (self.step)(&self.store);
    }
    fn is_faulty(&self) -> bool {
        self.faulty
    }
}

/// Anything behind the seam for files; blocks are there from the beginning.
struct Files {
    store: SimFiles,
    faulty: bool,
}

const FILE: FileId = FileId::new(1);

impl Pager for Files {
    fn begin(&mut self, op: u16, io: Io, first: u32, frames: IoFrames) -> Result<(), IoFrames> {
        let io = if io == Io::Get { FileIo::Read } else { FileIo::Write };
        let (page, count) = (ObjectPage::new(u64::from(first)), frames.len() as u32);
        let request = FileRequest { op: OpId::new(op), io, file: FILE, page, count, frames };
        self.store.try_submit(request).map_err(|refused| {
            assert_eq!((refused.op, refused.io, refused.page, refused.count), (OpId::new(op), io, page, count));
            refused.frames
        })
    }
    fn back(&mut self) -> Option<Back> {
        let done = now(|cx| self.store.poll_complete(cx))?;
        Some(Back { op: done.request.op.as_u16(), frames: done.request.frames, good: done.result.is_ok() })
    }
    fn step(&mut self) {
        self.store.step();
    }
    fn is_faulty(&self) -> bool {
        self.faulty
    }
}

/// A store that is a piece of RAM: three requests at a time, each done as soon as somebody asks.
struct RamFake {
    ram: Arc<Ram>,
    slots: Mutex<BTreeMap<u32, [u64; 512]>>,
    queue: Mutex<VecDeque<StoreRequest>>,
}

impl BackingStore for RamFake {
    fn slots(&self) -> u32 {
        PLACES + 1
    }
    fn discards(&self) -> Discards {
        Discards::Ignored
    }
    fn try_submit(&self, request: StoreRequest) -> Result<(), StoreRequest> {
        let mut queue = self.queue.lock().unwrap();
        if queue.len() == 3 {
            return Err(request);
        }
        queue.push_back(request);
        Ok(())
    }
    fn poll_complete(&self, _: &mut Context<'_>) -> Poll<StoreCompletion> {
        let mut slots = self.slots.lock().unwrap();
        let Some(request) = self.queue.lock().unwrap().pop_front() else { return Poll::Pending };
        for (slot, frame) in (request.slot.as_u32()..).zip(&request.frames) {
            self.ram.with(frame.pfn(), |words| match request.kind {
                StoreKind::Write => {
                    slots.insert(slot, *words);
                }
                _ => *words = slots.get(&slot).copied().unwrap_or([0; 512]),
            });
        }
        Poll::Ready(StoreCompletion { request, result: Ok(()) })
    }
}

/// What the suite has begun and not got back.
struct Begun {
    io: Io,
    first: u32,
    frames: Vec<Pfn>,
}

struct Suite<'a> {
    pager: &'a mut dyn Pager,
    ram: Arc<Ram>,
    frames: &'static FrameAllocator<SimLock>,
    rng: SimRng,
    /// What each place holds, as far as it is known.
    model: BTreeMap<u32, u64>,
    begun: BTreeMap<u16, Begun>,
    next: u16,
    failed: u64,
    refused: u64,
}

impl Suite<'_> {
    fn word(place: u32, version: u64) -> u64 {
        version << 32 | u64::from(place) | 1 << 31
    }

    /// Begins a request for a run that no other request touches; `false` if it was refused.
    fn begin(&mut self, io: Io, first: u32, count: u32) -> bool {
        let place = |i: u32| first + i;
        let touched = |b: &Begun| (0..count).any(|i| (b.first..b.first + b.frames.len() as u32).contains(&place(i)));
        if self.begun.values().any(touched) {
            return true;
        }
        let version = self.rng.word() >> 33;
        let tokens: Vec<_> =
            (0..count).map(|_| self.frames.alloc_page(FrameKind::User).expect("there are many")).collect();
        for (i, token) in tokens.iter().enumerate() {
            let word = if io == Io::Put { Self::word(place(i as u32), version) } else { 7 };
            self.ram.with(token.pfn(), |words| {
                words.iter_mut().enumerate().for_each(|(at, w)| *w = word ^ (at as u64) << 48)
            });
        }
        let pfns: Vec<_> = tokens.iter().map(|token| token.pfn()).collect();
        let frames: IoFrames = tokens.into_iter().map(|token| token.lend()).collect();
        let op = self.next;
        self.next += 1;
        if let Err(mut frames) = self.pager.begin(op, io, first, frames) {
            assert_eq!(frames.iter().map(|f| f.pfn()).collect::<Vec<_>>(), pfns, "refused with its frames");
            frames.drain().for_each(|frame| self.frames.free(frame.returned()));
            self.refused += 1;
            return false;
        }
        if io == Io::Put {
            // Until it is over nobody knows what the places hold.
            self.model.retain(|at, _| !(first..first + count).contains(at));
        }
        self.begun.insert(op, Begun { io, first, frames: pfns });
        true
    }

    /// Takes in what came back; `false` if nothing did.
    fn take_back(&mut self) -> bool {
        let Some(Back { op, mut frames, good }) = self.pager.back() else { return false };
        let begun = self.begun.remove(&op).unwrap_or_else(|| panic!("{op} came back twice, or was never begun"));
        assert_eq!(
            frames.iter().map(|f| f.pfn()).collect::<Vec<_>>(),
            begun.frames,
            "the same frames in the same order"
        );
        assert!(good || self.pager.is_faulty(), "an error nobody injected");
        self.failed += u64::from(!good);
        for (i, frame) in frames.drain().enumerate() {
            let place = begun.first + i as u32;
            let word = self.ram.with(frame.pfn(), |words| {
                let first = words[0];
                let whole = words.iter().enumerate().all(|(at, w)| *w == first ^ (at as u64) << 48);
                (whole, first)
            });
            match (begun.io, good, self.model.get(&place)) {
                (Io::Put, true, _) => {
                    self.model.insert(place, word.1);
                }
                (Io::Get, true, Some(&known)) => assert_eq!(word, (true, known), "place {place}"),
                _ => {}
            }
            self.frames.free(frame.returned());
        }
        true
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.begun.is_empty() {
                return;
            }
            self.pager.step();
            while self.take_back() {}
        }
        panic!("requests never came back: {:?}", self.begun.keys());
    }
}

/// Runs the suite on a pager.
fn suite(name: &str, seed: u64, make: impl FnOnce(&Arc<Ram>) -> Box<dyn Pager>) {
    let words = FrameAllocator::<SimLock>::storage_words(1024);
    let frames: &'static _ =
        Box::leak(Box::new(FrameAllocator::new(Box::leak(vec![0; words].into_boxed_slice()), 1024)));
    let ram = Ram::new(1024);
    let watcher: Arc<dyn mm::frame::FrameWatcher> = ram.clone();
    frames.watch(Arc::downgrade(&watcher));
    frames.add_range(Pfn::new(0), Pfn::new(1024));
    let mut pager = make(&ram);
    let (model, begun) = (BTreeMap::new(), BTreeMap::new());
    let rng = SimRng::new(seed);
    let mut suite = Suite { pager: &mut *pager, ram, frames, rng, model, begun, next: 0, failed: 0, refused: 0 };
    // Runs of all lengths, alone.
    for count in [1, 2, 7, 33, CLUSTER as u32] {
        assert!(suite.begin(Io::Put, 5, count), "there is room for one");
        suite.settle();
        assert!(suite.begin(Io::Get, 5, count));
        suite.settle();
    }
    // Many at once, in any order.
    for _ in 0..3000 {
        let first = suite.rng.below(PLACES as usize) as u32;
        let most = if suite.rng.below(4) == 0 { CLUSTER } else { 6 };
        let count = (1 + suite.rng.below(most) as u32).min(PLACES - first);
        let io = if suite.rng.below(2) == 0 { Io::Get } else { Io::Put };
        if !suite.begin(io, first, count) {
            // Each completion is an occasion to try again.
            while !suite.take_back() {
                suite.pager.step();
            }
            assert!(suite.begin(io, first, count), "there is room now");
        }
        if suite.rng.below(3) == 0 {
            suite.pager.step();
            suite.take_back();
        }
    }
    suite.settle();
    // All that is known can be got; a pager that fails can be asked again.
    for place in 0..PLACES {
        suite.begin(Io::Get, place, 1);
        suite.settle();
    }
    let Suite { failed, refused, .. } = suite;
    println!("{name}: {} requests, {failed} failed, {refused} were refused", suite.next);
    assert!(refused > 0, "a bound that is never met");
    assert_eq!(failed > 0, suite.pager.is_faulty());
    assert_eq!(frames.free_frames(), 1024, "every frame came back");
}

fn disk(config: DiskConfig, ram: &Arc<Ram>, seed: u64) -> Box<dyn Pager> {
    let faulty = config.read_errors.0 > 0;
    let step = |store: &SimStore| {
        store.step();
    };
    Box::new(Swap { store: SimStore::new(config, ram, seed), step, faulty })
}

fn files(config: FilesConfig, ram: &Arc<Ram>, seed: u64) -> Box<dyn Pager> {
    let store = SimFiles::new(config, ram, seed);
    (0..PLACES).for_each(|page| store.put(FILE, u64::from(page), [0; 512]));
    Box::new(Files { store, faulty: config.read_errors.0 > 0 })
}

#[test]
fn p20_the_swap_device_keeps_the_contract() {
    (0..10).for_each(|seed| suite("swap", seed, |ram| disk(DiskConfig::good(PLACES + 1), ram, seed)));
}

#[test]
fn p20_the_store_of_files_keeps_the_contract() {
    (0..10).for_each(|seed| suite("files", seed, |ram| files(FilesConfig::good(PLACES as usize), ram, seed)));
}

#[test]
fn p20_x14_a_program_that_serves_pages_keeps_the_contract() {
    (0..3).for_each(|seed| suite("program", seed, |ram| Box::new(UserProgram::new(ram))));
}

#[test]
fn p20_a_fake_in_ram_keeps_the_contract() {
    (0..10).for_each(|seed| {
        suite("ram", seed, |ram| {
            let store = RamFake { ram: ram.clone(), slots: Mutex::default(), queue: Mutex::default() };
            Box::new(Swap { store, step: |_| (), faulty: false })
        });
    });
}

#[test]
fn p20_pagers_that_fail_keep_the_contract() {
    for seed in 0..10 {
        let (read_errors, write_errors) = (PerMille(150), PerMille(150));
        let config = DiskConfig { read_errors, write_errors, ..DiskConfig::good(PLACES + 1) };
        suite("faulty swap", seed, |ram| disk(config, ram, seed));
        let config = FilesConfig { read_errors, write_errors, ..FilesConfig::good(PLACES as usize) };
        suite("faulty files", seed, |ram| files(config, ram, seed));
    }
}
