//! Reclaim: keeps frames free by taking them from pages that are not used.
//!
//! Owns the reclaim task, the choice of when to stop, and the cluster that victims are gathered in. [`policy`] says who goes, is told
//! through [`order`], [`ghosts`] remembers who left, and [`optimum`] knows how many would have had to; [`Mm::evict`] is the one place that
//! unmaps a page for reclaim, [`stranded`] keeps those that have nowhere to go, [`tables`] drops page tables, and [`rewrite`] keeps swap
//! in runs. It needs no memory: slots, operations and the request are there already. The pager finishes what is begun here.

mod ghosts;
mod optimum;
mod order;
mod policy;
mod rewrite;
mod stranded;
mod tables;
mod watermark;
mod within;

pub(crate) use ghosts::Ghosts;
pub use ghosts::{CURVE_STEPS, Distance, MissCurve};
pub use optimum::{Judged, Optimum, PageKey, Use};
pub use policy::{Arrival, Generational, Policy, Sample, SecondChance, Verdict};
pub(crate) use rewrite::Rewriting;
pub(crate) use stranded::Stranded;
pub use watermark::Watermarks;

use crate::addr::Pfn;
use crate::frame::Residence;
use crate::manager::{Core, Mm};
use crate::object::file::FilePage;
use crate::ops::{OpKind, OpPage, Target};
use crate::page::PageCopy;
use crate::platform::{CLUSTER, IoFrames, PhysMemory, Platform, Slot, StoreKind, StoreRequest};
use crate::space::CHUNK;
use crate::stats::PageClass;
use crate::swap::{Swap, fill_pattern};
use crate::swapin::Outcome;
use crate::victim::Scope;
use arrayvec::ArrayVec;
use rewrite::Pace;

/// The policy in use.
pub type Replacement = Generational;

/// Victims on their way into one request.
pub(crate) struct CleanBatch {
    slot: Option<Slot>,
    pages: ArrayVec<OpPage, CLUSTER>,
    frames: IoFrames,
}

impl CleanBatch {
    /// None yet; there is a place for their frames.
    pub fn new(frames: IoFrames) -> Self {
        Self { slot: None, pages: ArrayVec::new(), frames }
    }
    pub fn len(&self) -> usize {
        self.pages.len()
    }
    /// First slot, if there is a victim.
    #[cfg(feature = "sim")]
    pub fn slot(&self) -> Option<Slot> {
        self.slot
    }
    #[cfg(feature = "sim")]
    pub fn pages(&self) -> &[OpPage] {
        &self.pages
    }
}

/// Whether victims are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Refill {
    /// Until `high` frames are free or on their way.
    #[default]
    Begun,
    /// Enough are on their way: none before fewer than `low` are free or coming, or none is left for who asks, since what is coming may
    /// never come. If reclaim made up for each frame that is taken while
    /// writes are under way, it would write a page or two whenever any request completes, and never a cluster on a busy disk.
    Done,
}

/// How far reclaim is, and how long it has been getting nowhere.
#[derive(Default)]
pub(crate) struct Progress {
    refill: Refill,
    fruitless: usize,
    /// Whether to begin before fewer than `low` frames are free: a sequence is being read ahead, is two windows from there, and would come
    /// to a halt.
    early: bool,
}

/// How hard reclaim tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effort {
    /// What serves many pages stays.
    Usual,
    /// Nothing else is left: everything idle goes.
    Last,
}

impl Progress {
    /// Whether reclaim is to begin early from now on: until it looks for victims the next time.
    pub fn begin_early(&mut self) {
        self.early = true;
    }

    /// A table went. It is soon made again if its pages are used, and gets nobody any further then: it only makes up for as many looks
    /// as it has entries, or for one at each candidate. If each look at thousands of pages finds one table or two, memory has run out.
    fn note_table(&mut self, candidates: usize) {
        self.fruitless = self.fruitless.saturating_sub(candidates.min(tables::ENTRIES));
    }

    fn effort(&self, candidates: usize) -> Effort {
        if self.fruitless > Replacement::LOOKS * candidates + CHUNK { Effort::Last } else { Effort::Usual }
    }

    /// Whether all candidates were looked at as often as it takes until one goes that is not used, with each effort.
    fn is_hopeless(&self, candidates: usize) -> bool {
        self.fruitless > 2 * (Replacement::LOOKS * candidates + CHUNK)
    }
}

/// What one round of reclaim came to.
/// The most urgent last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Round {
    /// Enough frames are free, or on their way to be.
    Enough,
    /// Every page was looked at and none can go.
    Exhausted,
    /// Every page was looked at and none can go, but threads that are getting on hold some.
    Held,
    /// Nothing more can be begun until the store has finished something.
    Blocked,
    /// More is to be done.
    More,
}

/// What became of a candidate.
pub(crate) enum Fate {
    Freed,
    /// A page table went.
    TableFreed,
    Kept,
    /// It would have to be written, and there is no slot.
    NoSlot,
    /// The same, and it is no candidate until there is one.
    Stranded,
    /// It would have to be written, and the operation table is full.
    Busy,
}

impl<P: Platform> Mm<P> {
    /// The reclaim task.
    pub async fn run_reclaim(&self) -> ! {
        loop {
            // Made before looking: a wait ends with every signal since then.
            let pressure = self.frames.pressure().wait();
            let wanted = self
                .core
                .with_lock(|core| core.shortage.take_asked() || core.objects.has_doomed() || core.progress.early);
            if !self.frames.below_low() && !wanted && !self.groups_want() {
                let _woken = pressure.await;
            }
            if self.config.torture {
                self.torture();
            }
            if P::shrink_caches() > 0 {
                self.announce_frames();
            }
            self.reclaim_until_high().await;
        }
    }

    /// Evicts all that can be evicted now; faults signal pressure each time, so this runs at every opportunity.
    fn torture(&self) {
        self.core.with_lock(|core| {
            if !core::mem::take(&mut core.torture_due) {
                return;
            }
            self.look_for_places(core);
            for _ in 0..core.candidates().min(CHUNK) {
                let Some(frame) = core.next_candidate() else {
                    break;
                };
                if matches!(self.consider(core, frame), Fate::Busy) {
                    break;
                }
                if core.batch.len() == CLUSTER && !self.send_batch(core) {
                    break;
                }
            }
            self.send_batch(core);
        });
    }

    fn groups_want(&self) -> bool {
        self.core.with_lock(|core| core.groups.first_wanting().is_some())
    }

    async fn reclaim_until_high(&self) {
        // A group that thrashes must not drive its neighbours' pages out: the machine is only looked at when it is short.
        let mut short = false;
        loop {
            // Inside, because what is left of objects may be all there is, and that leaves no other way than this.
            self.bury_objects().await;
            short |= self.frames.below_low();
            let (progress, pressure) = (self.store_progress.wait(), self.frames.pressure().wait());
            let (round, machine) = self.core.with_lock(|core| {
                let own = self.reclaim_in_groups(core);
                short |= core.progress.early;
                let machine = if short { self.reclaim_round(core) } else { Round::Enough };
                let round = own.max(machine);
                // The next round goes on filling the cluster.
                (if round == Round::More || self.send_batch(core) { round } else { Round::Blocked }, machine)
            });
            // Whatever a group waits for: it may be for a thread that waits for this.
            if machine == Round::Exhausted {
                self.declare_exhausted();
            }
            self.core.with_lock(|core| {
                if round != Round::More {
                    // Pages may be written to while something is waited for.
                    core.stranded.end_lap();
                }
                if core.note_stall(round) {
                    // Who prepares may be waiting for a frame.
                    self.wake_waiters_in(core, Scope::Machine);
                }
            });
            self.announce_frames();
            match round {
                Round::Enough => break,
                Round::More => crate::yield_now().await,
                Round::Blocked => drop(progress.await),
                Round::Held => {
                    let _woken = pressure.await;
                    if !self.is_waited_for() {
                        self.rest(Self::is_waited_for).await;
                    }
                }
                // Whoever asks next would be told that there is nothing.
                Round::Exhausted => self.rest(|mm| mm.frames.free_frames() <= mm.watermarks.min).await,
            }
        }
        while self.core.with_lock(|core| self.rewrite_sparse_clusters(core)) == Pace::Again {
            crate::yield_now().await;
        }
    }

    /// Nothing can be freed: looks away until things have changed enough to look again, or, once somebody has taken a frame or found none,
    /// there are so few.
    async fn rest(&self, are_few: impl Fn(&Self) -> bool) {
        let level = self.frames.free_frames();
        let step = (self.watermarks.low - self.watermarks.min) / 4;
        loop {
            let pressure = self.frames.pressure().wait();
            let free = self.frames.free_frames();
            let wanted = self.core.with_lock(|core| core.objects.has_doomed()) || self.groups_want();
            if free.abs_diff(level) > step || wanted {
                return;
            }
            let _woken = pressure.await;
            if are_few(self) {
                return;
            }
            // Somebody may have found no frame although there are some.
            self.announce_frames();
        }
    }

    /// Whether somebody waits for a frame, and there is none. Page tables are made of what pages do not get: to look at all pages for
    /// each of those, and take those that are in use, would leave who holds pages no time to get on.
    fn is_waited_for(&self) -> bool {
        self.core.with_lock(|core| self.somebody_waits(core))
    }

    fn somebody_waits(&self, core: &Core<P>) -> bool {
        self.frames.free_frames() <= self.watermarks.min && !core.waiters.are_none()
    }

    /// Nothing can be freed. If somebody needs a frame right now, memory has run out: the next to ask has somebody chosen who ends.
    fn declare_exhausted(&self) {
        let short = self.frames.free_frames() <= self.watermarks.min;
        if short {
            self.core.with_lock(|core| {
                if core.stranded.were_all_looked_at() && core.shortage.declare() {
                    self.wake_waiters_in(core, Scope::Machine);
                }
            });
        }
    }

    /// Looks at up to [`CHUNK`] candidates, takes at most [`CLUSTER`] of them, and sends what it has gathered if there is no more.
    fn reclaim_round(&self, core: &mut Core<P>) -> Round {
        core.shortage.look_again();
        let round = self.look_for_victims(core);
        // The next round goes on filling the cluster.
        if round == Round::More || self.send_batch(core) { round } else { Round::Blocked }
    }

    fn look_for_victims(&self, core: &mut Core<P>) -> Round {
        let Watermarks { min, low, high } = self.watermarks;
        core.end_probations();
        let free = self.frames.free_frames();
        let early = core::mem::take(&mut core.progress.early);
        if early || free <= min || free + core.pages_leaving() < low {
            core.progress.refill = Refill::Begun;
        } else if core.progress.refill == Refill::Done {
            return if free >= low { Round::Enough } else { Round::Blocked };
        }
        self.look_for_places(core);
        let mut copies_asked_for = false;
        let mut freed = 0;
        for _ in 0..CHUNK {
            let coming = core.pages_leaving();
            let free = self.frames.free_frames();
            if free + coming >= high {
                core.progress = Progress { refill: Refill::Done, ..Progress::default() };
                core.stranded.end_lap();
                return if free >= low { Round::Enough } else { Round::Blocked };
            }
            let hopeless = core.progress.is_hopeless(core.candidates());
            let Some(frame) = core.next_candidate().filter(|_| !hopeless) else {
                core.progress.fruitless = 0;
                return match core.nothing_found() {
                    Round::Held | Round::Exhausted if self.look_once_more(core) => Round::More,
                    round => round,
                };
            };
            let fate = self.consider(core, frame);
            match fate {
                Fate::Freed => {
                    core.progress.fruitless = 0;
                    core.stranded.end_lap();
                    freed += 1;
                    if freed == CLUSTER {
                        return Round::More;
                    }
                }
                Fate::TableFreed => {
                    let candidates = core.candidates();
                    core.progress.note_table(candidates);
                }
                Fate::Kept => core.progress.fruitless += 1,
                Fate::NoSlot | Fate::Stranded => {
                    // Who is stranded is one candidate less.
                    core.progress.fruitless += usize::from(matches!(fate, Fate::NoSlot));
                    if !core::mem::replace(&mut copies_asked_for, true) {
                        self.give_up_copies(core);
                    }
                }
                Fate::Busy => return Round::Blocked,
            }
        }
        Round::More
    }

    /// Judges one candidate and evicts it if the policy says so.
    fn consider(&self, core: &mut Core<P>, frame: Pfn) -> Fate {
        core.counters.pgscan += 1;
        let is_table = core.table.get(frame).residence() == Residence::Table;
        let sample = if is_table { self.sample_table(core, frame) } else { self.sample(core, frame) };
        if core.judge(frame, sample) == Verdict::Keep {
            return Fate::Kept;
        }
        let leaver = core.leaver(frame);
        let fate = if is_table { self.evict_table(core, frame) } else { self.evict(core, frame) };
        if matches!(fate, Fate::Freed | Fate::TableFreed) {
            core.note_gone(leaver, self.frames.free_frames());
        }
        fate
    }

    /// Whether a page was used: its A bit, which is cleared, or what is known otherwise. Held pages count as used.
    fn sample(&self, core: &mut Core<P>, frame: Pfn) -> Sample {
        let desc = core.table.get_mut(frame);
        let (held, young) = (desc.holds() > 0, desc.young());
        desc.set_young(false);
        let used = core.harvest_accessed(frame) || held || young;
        let first_use = used && core.table.get(frame).ahead();
        if first_use {
            core.judge_ahead(frame, Outcome::Hit);
        }
        match () {
            () if held || core.is_locked(frame) => Sample::Used,
            () if !used || self.config.torture => Sample::Idle,
            () if first_use => Sample::FirstUse,
            () => Sample::Used,
        }
    }

    /// The one place that unmaps a page for reclaim. The page is on no list; it leaves, is put into the batch, or goes back on.
    pub(crate) fn evict(&self, core: &mut Core<P>, frame: Pfn) -> Fate {
        let home = core.table.get(frame).home();
        if let Some(page) = core.objects.is_file(home) {
            return self.evict_file(core, page, frame);
        }
        if !self.has_a_way_out(core, frame) {
            // Where there are slots, it is its group that may have no more: nobody's copies help there.
            let has_room = core.swap.as_ref().is_some_and(Swap::has_room);
            if !has_room && core.table.get(frame).group().is_root() {
                core.strand(frame);
                return Fate::Stranded;
            }
            core.admit_as(frame, Arrival::Stuck);
            return if has_room { Fate::Kept } else { Fate::NoSlot };
        }
        if core.table.get(frame).mapped() {
            self.unmap_victim(core, frame);
        }
        core.judge_ahead(frame, Outcome::Waste);
        if core.table.get(frame).residence() == Residence::Clean
            && let Some(copy) = core.table.get(frame).copy()
        {
            if let PageCopy::Slot(..) = copy
                && core.tier.is_some()
                && let Some(fate) = self.evict_to_tier(core, frame)
            {
                return fate;
            }
            let token = core.table.take_as(frame, Residence::Clean);
            self.leave(core, token, copy); // step 10
            core.counters.pgdrop_clean += 1;
            return Fate::Freed;
        }
        self.leave_tail(core, home, frame);
        if let Some(word) = self.memory.with_words(frame, fill_pattern) {
            let token = core.table.take_as(frame, Residence::Dirty);
            self.leave(core, token, PageCopy::Fill(word)); // step 6, without I/O
            core.counters.swpout_zero += 1;
            return Fate::Freed;
        }
        // A machine without a tier has not even the call.
        if core.tier.is_some()
            && let Some(fate) = self.evict_to_tier(core, frame)
        {
            return fate;
        }
        let fate = self.add_to_batch(core, frame);
        if !matches!(fate, Fate::Freed) {
            core.admit_as(frame, Arrival::Stuck);
        }
        fate
    }

    /// A page of a file leaves for free, or is written where it belongs, with those behind it.
    fn evict_file(&self, core: &mut Core<P>, page: FilePage, frame: Pfn) -> Fate {
        core.unmap_everywhere(self.frames, frame);
        core.table.get_mut(frame).set_young(false);
        if core.table.get(frame).residence() == Residence::Clean {
            let token = core.table.take_as(frame, Residence::Clean);
            self.leave(core, token, PageCopy::File); // step 10
            core.counters.pgdrop_clean += 1;
            return Fate::Freed;
        }
        match self.begin_file_clean(core, page, Residence::Evicting) {
            Some(_) => Fate::Freed,
            None => {
                core.admit_as(frame, Arrival::Stuck);
                Fate::Busy
            }
        }
    }

    /// Whether a page could leave: to a free slot, to the copy it has, or as a repeated word.
    fn has_a_way_out(&self, core: &mut Core<P>, frame: Pfn) -> bool {
        let desc = core.table.get(frame);
        let Core { tier, groups, .. } = &*core;
        let room = |swap: &Swap| swap.has_room() || tier.as_ref().is_some_and(|tier| tier.has_room());
        if core.swap.as_ref().is_some_and(|swap| room(swap) && groups.may_swap(desc.group(), swap)) {
            return true;
        }
        let clean = desc.residence() == Residence::Clean && desc.copy().is_some();
        (clean && !core.written_by_mapping(frame)) || self.memory.with_words(frame, fill_pattern).is_some()
    }

    fn unmap_victim(&self, core: &mut Core<P>, frame: Pfn) {
        #[cfg(feature = "sim")]
        if self.config.plant == Some(crate::sim::Planted::SkippedFlush) {
            use crate::platform::PageTable;
            while let Some(place) = core.table.get(frame).place().get() {
                let Some(stale) = core.spaces.get_mut(place.0).and_then(|s| s.table.unmap(place.1)) else { return };
                let (mapping, tables) = stale.into_flushed();
                core.free_tables(self.frames, tables);
                core.note_unmapped(place, mapping);
            }
            return;
        }
        core.unmap_everywhere(self.frames, frame);
        core.judge_ahead(frame, Outcome::Waste);
        core.table.get_mut(frame).set_young(false);
    }

    /// Step 6: a dirty page goes into the open cluster.
    fn add_to_batch(&self, core: &mut Core<P>, frame: Pfn) -> Fate {
        if core.batch.len() == CLUSTER && !self.send_batch(core) {
            return Fate::Busy;
        }
        let Some(swap) = &mut core.swap else {
            return Fate::NoSlot;
        };
        let Some((slot, fresh)) = swap.next_slot() else {
            return Fate::NoSlot;
        };
        if fresh && core.batch.len() > 0 && !self.send_batch(core) {
            self.give_back(core, slot);
            return Fate::Busy;
        }
        let Some(swap) = &mut core.swap else {
            return Fate::NoSlot;
        };
        swap.charge(slot, core.table.get(frame).group());
        let tag = self.memory.tag(frame, &swap.audit);
        let token = core.table.lend(frame);
        core.set_residence(frame, Residence::Evicting);
        core.count_leaving(frame, 1);
        core.batch.slot.get_or_insert(slot);
        core.batch.pages.push(OpPage { frame, tag });
        core.batch.frames.push(token);
        Fate::Freed
    }

    fn give_back(&self, core: &mut Core<P>, slot: Slot) {
        if let Some(swap) = &mut core.swap {
            swap.close_run();
            swap.release(slot);
        }
    }

    /// Sends the gathered cluster, if there is one. `false` if the operation table is full.
    pub(crate) fn send_batch(&self, core: &mut Core<P>) -> bool {
        let Some(slot) = core.batch.slot else {
            return true;
        };
        let count = core.batch.len() as u32;
        let Some(op) = core.ops.begin(OpKind::Clean, Target::Slots(slot), &core.batch.pages) else {
            return false;
        };
        let frames = core::mem::replace(&mut core.batch.frames, core.ops.frames());
        core.batch.pages.clear();
        core.batch.slot = None;
        core.counters.store_writes += 1;
        self.submit(core, StoreRequest { op, kind: StoreKind::Write, slot, count, frames });
        true
    }

    /// Evicts a page that is on no list, and that nobody holds, without asking the policy: for tests that need one page out.
    #[cfg(feature = "sim")]
    pub(crate) fn evict_now(&self, core: &mut Core<P>, frame: Pfn) {
        self.evict(core, frame);
    }

    /// Sends the gathered victims off: for tests.
    #[cfg(feature = "sim")]
    pub(crate) fn send_now(&self, core: &mut Core<P>) {
        self.send_batch(core);
    }
}

impl<P: Platform> Core<P> {
    /// No page can go. What is under way will free slots or frames or bring pages that can; holds will end; else this is the end.
    fn nothing_found(&mut self) -> Round {
        if self.batch.len() > 0 || self.ops.counts().any() {
            return Round::Blocked;
        }
        let will_end = self.shortage.will_be_released(self.held);
        self.awaiting_release |= will_end;
        if will_end { Round::Held } else { Round::Exhausted }
    }

    /// Whether reclaim waits for pages that are being prepared and for nothing else: says so once.
    fn note_stall(&mut self, round: Round) -> bool {
        let counts = self.ops.counts();
        let others = counts.total() - counts.prepares + self.batch.len();
        let waits = matches!(round, Round::Blocked | Round::Held);
        self.shortage.stall(waits && others == 0 && counts.prepares > 0)
    }

    /// Frames that will be free once the writes under way are done.
    pub fn pages_leaving(&self) -> usize {
        self.pages.get(PageClass::Evicting) as usize
    }
}
