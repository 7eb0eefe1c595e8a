//! The swap device of the simulated machine.
//!
//! Owns slots with their contents, and requests under way. It works in steps, each moving one request on; which one, and what goes
//! wrong, is up to the seed and [`DiskConfig`]. It keeps account of every page whose contents it lost ([`Loss`]), so that a test can
//! tell a loss that was injected from one that was not. Submitting and completing allocate nothing.
//!
//! ```text
//!   try_submit ──► Queued ── step: the first half moves ──► Begun ── step: the rest, or an error ──► done ──► poll_complete
//! ```

use super::memory::{Ram, Words};
use super::rng::SimRng;
use super::{Shared, SimLock};
use crate::addr::WORDS_PER_PAGE;
use crate::platform::{BackingStore, Discards, Slot, StoreCompletion, StoreError, StoreKind, StoreRequest};
use alloc::{boxed::Box, collections::BTreeMap, collections::VecDeque, sync::Arc, vec::Vec};
use core::task::{Context, Poll, Waker};
use mutex_traits::ConstInit;

/// A probability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerMille(pub u16);

/// What a disk is like.
#[derive(Clone, Copy, Debug)]
pub struct DiskConfig {
    /// Slots, the header's included.
    pub slots: u32,
    /// Requests it takes at a time.
    pub depth: usize,
    /// Whether requests overtake each other.
    pub reorders: bool,
    /// Whether it discards.
    pub discards: bool,
    /// Reads that fail.
    pub read_errors: PerMille,
    /// Writes that fail.
    pub write_errors: PerMille,
    /// Writes that store only a part of one page, and claim to have stored all.
    pub torn_writes: PerMille,
    /// Turns of a write that pass by without it getting on, as on a disk that is busy with something else.
    pub slow_writes: PerMille,
}

impl DiskConfig {
    /// A disk without faults of so many slots, which takes 16 requests and reorders them.
    pub const fn good(slots: u32) -> Self {
        let never = PerMille(0);
        Self {
            slots,
            depth: 16,
            reorders: true,
            discards: true,
            read_errors: never,
            write_errors: never,
            torn_writes: never,
            slow_writes: never,
        }
    }
}

/// What the disk was asked for and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Requests that were done, by kind; failed ones count.
    pub reads: u64,
    /// As `reads`.
    pub writes: u64,
    /// As `reads`.
    pub discards: u64,
    /// Pages moved.
    pub pages_read: u64,
    /// Pages moved.
    pub pages_written: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests it had no room for.
    pub refused: u64,
}

/// A page the disk lost for good: read twice with errors, or delivered with other contents than were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it was.
    pub slot: Slot,
    /// A word of what it should have held that is not zero; tests write words that say whose page it is.
    pub evidence: u64,
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Not looked at yet.
    Queued,
    /// Half done.
    Begun,
}

struct Active {
    request: StoreRequest,
    stage: Stage,
}

/// What a slot holds.
struct Held {
    words: Box<Words>,
    /// A word of what it should hold.
    evidence: u64,
    /// It does not hold what was written.
    spoiled: bool,
}

struct Disk {
    config: DiskConfig,
    rng: SimRng,
    slots: Vec<Held>,
    active: Vec<Active>,
    done: VecDeque<StoreCompletion>,
    pager: Option<Waker>,
    driver: Option<Waker>,
    stopped: bool,
    /// Slots that cannot be read, and how many attempts fail.
    unreadable: BTreeMap<u32, u32>,
    /// Slots that cannot be written.
    unwritable: BTreeMap<u32, u32>,
    /// Requests that touch this slot do not move.
    held: Option<u32>,
    /// Slots whose last read failed.
    failed_once: Vec<u32>,
    losses: Vec<Loss>,
    counts: DiskCounts,
}

/// The device; clones are the same one.
#[derive(Clone)]
pub struct SimStore {
    disk: Arc<Shared<Disk>>,
    ram: Arc<Ram>,
}

impl SimStore {
    /// A disk for this memory.
    pub fn new(config: DiskConfig, ram: &Arc<Ram>, seed: u64) -> Self {
        let held = || Held { words: Box::new([0; WORDS_PER_PAGE]), evidence: 0, spoiled: false };
        let disk = Disk {
            config,
            rng: SimRng::new(seed),
            slots: (0..config.slots).map(|_| held()).collect(),
            active: Vec::with_capacity(config.depth),
            done: VecDeque::with_capacity(2 * config.depth),
            pager: None,
            driver: None,
            stopped: false,
            unreadable: BTreeMap::new(),
            unwritable: BTreeMap::new(),
            held: None,
            failed_once: Vec::with_capacity(64),
            losses: Vec::with_capacity(64),
            counts: DiskCounts::default(),
        };
        Self { disk: Arc::new(Shared::new_with_raw_mutex(disk, SimLock::INIT)), ram: ram.clone() }
    }

    /// Moves one request on. `false` if there is none, or the disk is stopped.
    pub fn step(&self) -> bool {
        let (moved, pager) = self.disk.with_lock(|disk| disk.step(&self.ram));
        if let Some(pager) = pager {
            pager.wake();
        }
        moved
    }

    /// Moves requests on until none is left.
    pub fn step_until_idle(&self) {
        while self.step() {}
    }

    /// Waits until there is something to do: for the task that calls [`Self::step`].
    pub fn poll_busy(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.disk.with_lock(|disk| {
            if disk.can_move() {
                return Poll::Ready(());
            }
            disk.driver = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// From now on nothing moves, until [`Self::resume`].
    pub fn stop(&self) {
        self.disk.with_lock(|disk| disk.stopped = true);
    }

    /// Things move again.
    pub fn resume(&self) {
        let driver = self.disk.with_lock(|disk| {
            disk.stopped = false;
            disk.driver.take()
        });
        driver.into_iter().for_each(Waker::wake);
    }

    /// From now on requests that touch the slot do not move, until [`Self::let_go`]; all others do.
    pub fn hold(&self, slot: Slot) {
        self.disk.with_lock(|disk| disk.held = Some(slot.as_u32()));
    }

    /// What was held moves again.
    pub fn let_go(&self) {
        let driver = self.disk.with_lock(|disk| {
            disk.held = None;
            disk.driver.take()
        });
        driver.into_iter().for_each(Waker::wake);
    }

    /// What a slot holds.
    pub fn contents(&self, slot: Slot) -> Box<Words> {
        self.disk.with_lock(|disk| disk.slots[slot.as_u32() as usize].words.clone())
    }

    /// Puts something else into a slot, behind the manager's back.
    pub fn put(&self, slot: Slot, words: &Words) {
        self.disk.with_lock(|disk| {
            let held = &mut disk.slots[slot.as_u32() as usize];
            held.spoiled |= *held.words != *words;
            *held.words = *words;
        });
    }

    /// The next `times` reads of the slot fail.
    pub fn fail_reads(&self, slot: Slot, times: u32) {
        self.disk.with_lock(|disk| disk.unreadable.insert(slot.as_u32(), times));
    }

    /// The next `times` writes that touch the slot fail.
    pub fn fail_writes(&self, slot: Slot, times: u32) {
        self.disk.with_lock(|disk| disk.unwritable.insert(slot.as_u32(), times));
    }

    /// Flips a bit of a slot.
    pub fn alter(&self, slot: Slot) {
        self.disk.with_lock(|disk| disk.alter(slot.as_u32() as usize));
    }

    /// Flips a bit of some slot that holds something, as the seed has it.
    pub fn alter_any(&self) {
        self.disk.with_lock(|disk| {
            let from = disk.rng.below(disk.slots.len());
            let order = (from..disk.slots.len()).chain(0..from);
            if let Some(slot) = order.into_iter().find(|&i| disk.slots[i].evidence != 0) {
                disk.alter(slot);
            }
        });
    }

    /// Changes what the disk is like.
    pub fn reconfigure(&self, change: impl FnOnce(&mut DiskConfig)) {
        self.disk.with_lock(|disk| change(&mut disk.config));
    }

    /// Everything lost so far.
    pub fn losses(&self) -> Vec<Loss> {
        self.disk.with_lock(|disk| disk.losses.clone())
    }

    /// What was done so far.
    pub fn counts(&self) -> DiskCounts {
        self.disk.with_lock(|disk| disk.counts)
    }

    /// How many requests are under way.
    pub fn load(&self) -> usize {
        self.disk.with_lock(|disk| disk.active.len())
    }

    /// Requests under way: kind, first slot, number of slots.
    pub fn under_way(&self) -> Vec<(StoreKind, Slot, u32)> {
        let show = |a: &Active| (a.request.kind, a.request.slot, a.request.count);
        self.disk.with_lock(|disk| disk.active.iter().map(show).collect())
    }
}

impl BackingStore for SimStore {
    fn slots(&self) -> u32 {
        self.disk.with_lock(|disk| disk.config.slots)
    }

    fn discards(&self) -> Discards {
        self.disk.with_lock(|disk| if disk.config.discards { Discards::Wanted } else { Discards::Ignored })
    }

    fn try_submit(&self, request: StoreRequest) -> Result<(), StoreRequest> {
        let driver = self.disk.with_lock(|disk| {
            disk.check(&request);
            if disk.active.len() >= disk.config.depth {
                disk.counts.refused += 1;
                return Err(request);
            }
            disk.active.push(Active { request, stage: Stage::Queued });
            Ok(disk.driver.take())
        })?;
        driver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<StoreCompletion> {
        self.disk.with_lock(|disk| match disk.done.pop_front() {
            Some(completion) => Poll::Ready(completion),
            None => {
                disk.pager = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }
}

impl Disk {
    /// A request must make sense, and must not touch slots that another one is changing.
    fn check(&self, request: &StoreRequest) {
        let slots = |r: &StoreRequest| r.slot.as_u32()..r.slot.as_u32() + r.count;
        let own = slots(request);
        assert!(own.start > 0 && own.end <= self.config.slots && request.count > 0, "{own:?} is not on the disk");
        let frames = if request.kind == StoreKind::Discard { 0 } else { request.count as usize };
        assert_eq!(request.frames.len(), frames, "a frame for each slot");
        for other in &self.active {
            let theirs = slots(&other.request);
            let apart = own.end <= theirs.start || theirs.end <= own.start;
            let both_read = (request.kind, other.request.kind) == (StoreKind::Read, StoreKind::Read);
            assert!(apart || both_read, "{request:?} races with {:?}", other.request);
        }
    }

    fn is_held(&self, active: &Active) -> bool {
        let first = active.request.slot.as_u32();
        self.held.is_some_and(|held| (first..first + active.request.count).contains(&held))
    }

    /// Whether there is a request that moves.
    fn can_move(&self) -> bool {
        !self.stopped && self.active.iter().any(|active| !self.is_held(active))
    }

    fn chance(&mut self, p: PerMille) -> bool {
        p.0 > 0 && self.rng.below(1000) < usize::from(p.0)
    }

    fn alter(&mut self, slot: usize) {
        let (word, bit) = (self.rng.below(WORDS_PER_PAGE), self.rng.below(64));
        self.slots[slot].words[word] ^= 1 << bit;
        self.slots[slot].spoiled = true;
    }

    fn step(&mut self, ram: &Ram) -> (bool, Option<Waker>) {
        if !self.can_move() {
            return (false, None);
        }
        let movable = self.active.iter().filter(|active| !self.is_held(active)).count();
        let nth = if self.config.reorders { self.rng.below(movable) } else { 0 };
        let mut indices = (0..self.active.len()).filter(|&index| !self.is_held(&self.active[index]));
        let index = indices.nth(nth).expect("one of those that were counted");
        if self.active[index].stage == Stage::Queued {
            self.active[index].stage = Stage::Begun;
            self.begin(index, ram);
            return (true, None);
        }
        if self.active[index].request.kind == StoreKind::Write && self.chance(self.config.slow_writes) {
            return (true, None);
        }
        let Active { request, .. } =
            if self.config.reorders { self.active.swap_remove(index) } else { self.active.remove(index) };
        let result = match request.kind {
            StoreKind::Read => self.finish_read(&request, ram),
            StoreKind::Write => self.finish_write(&request, ram),
            StoreKind::Discard => self.finish_discard(&request),
        };
        self.counts.errors += u64::from(result.is_err());
        self.done.push_back(StoreCompletion { request, result });
        (true, self.pager.take())
    }

    /// The first half: a write takes half of each page, a read leaves rubbish in its frames.
    fn begin(&mut self, index: usize, ram: &Ram) {
        let Self { active, slots, rng, .. } = self;
        let request = &active[index].request;
        for (frame, slot) in request.frames.iter().zip(request.slot.as_u32() as usize..) {
            match request.kind {
                StoreKind::Write => {
                    let half = ..WORDS_PER_PAGE / 2;
                    ram.with(frame.pfn(), |words| slots[slot].words[half].copy_from_slice(&words[half]));
                    // Until it is done, nobody can say what the slot holds.
                    slots[slot].spoiled = true;
                }
                StoreKind::Read => ram.with(frame.pfn(), |words| words[rng.below(WORDS_PER_PAGE)] = rng.word()),
                StoreKind::Discard => {}
            }
        }
    }

    fn finish_read(&mut self, request: &StoreRequest, ram: &Ram) -> Result<(), StoreError> {
        self.counts.reads += 1;
        let named = take_one(&mut self.unreadable, request);
        let failed = self.chance(self.config.read_errors) || named;
        for (frame, slot) in request.frames.iter().zip(request.slot.as_u32()..) {
            let held = &self.slots[slot as usize];
            let loss = Loss { slot: Slot::new(slot), evidence: held.evidence };
            let before = self.failed_once.iter().position(|&s| s == slot);
            if let Some(at) = before {
                self.failed_once.swap_remove(at);
            }
            if failed && before.is_none() {
                self.failed_once.push(slot);
            } else if failed || held.spoiled {
                self.losses.push(loss);
            }
            if !failed {
                self.counts.pages_read += 1;
                ram.with(frame.pfn(), |words| *words = *held.words);
            }
        }
        if failed { Err(StoreError) } else { Ok(()) }
    }

    fn finish_write(&mut self, request: &StoreRequest, ram: &Ram) -> Result<(), StoreError> {
        self.counts.writes += 1;
        let named = take_one(&mut self.unwritable, request);
        if self.chance(self.config.write_errors) || named {
            return Err(StoreError);
        }
        let torn = self.chance(self.config.torn_writes).then(|| self.rng.below(request.frames.len()));
        for (i, frame) in request.frames.iter().enumerate() {
            let held = &mut self.slots[request.slot.as_u32() as usize + i];
            let half = WORDS_PER_PAGE / 2..;
            ram.with(frame.pfn(), |words| {
                if torn != Some(i) {
                    held.words[half.clone()].copy_from_slice(&words[half]);
                }
                // Torn, altered between the halves, or the page has changed; in that case nobody will ask for this slot again.
                held.spoiled = *held.words != *words;
                held.evidence = words.iter().copied().find(|&w| w != 0).unwrap_or(0);
            });
            self.counts.pages_written += 1;
        }
        Ok(())
    }

    fn finish_discard(&mut self, request: &StoreRequest) -> Result<(), StoreError> {
        self.counts.discards += 1;
        for slot in request.slot.as_u32()..request.slot.as_u32() + request.count {
            let held = &mut self.slots[slot as usize];
            held.words.fill(0);
            (held.evidence, held.spoiled) = (0, true);
        }
        Ok(())
    }
}

/// Whether an injected failure applies to the request; it is used up by one.
fn take_one(failures: &mut BTreeMap<u32, u32>, request: &StoreRequest) -> bool {
    let own = request.slot.as_u32()..request.slot.as_u32() + request.count;
    let Some((_, left)) = failures.range_mut(own).find(|(_, left)| **left > 0) else { return false };
    *left -= 1;
    true
}
