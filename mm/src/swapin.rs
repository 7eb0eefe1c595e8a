//! Swap-in: the page that is wanted, and pages that soon will be.
//!
//! Owns how a fill is begun ([`Mm::begin_swap_in`]): the window of [`readahead`](crate::swap::readahead), one request for each run
//! of slots in a row, and a frame for each page as long as nobody waits for one; and what becomes of pages that nobody asked for.
//! Those are mapped as soon as they are there, so that using one costs no fault; the A bit tells whether it was used. Only the herald
//! of a window is not: the fault on it has the next window read ([`Mm::read_on`]), and reclaim begin before that stops for want of
//! frames. Does not own what a request that comes back means ([`crate::pager`]), nor the wait of who wants a page ([`crate::fault`]).
//!
//! ```text
//!   read ahead ──► on probation ── its A bit, a fault on it, or a copy to or from it ──────► hit: a page like any other
//!                     │   ▲  └──── evicted, unmapped, or its read failed ─────────────────► waste
//!                     ▼   │ either can still happen
//!                  overdue: the next to leave
//! ```

use crate::addr::{PageRange, Pfn, Vpn};
use crate::anon::AnonTable;
use crate::frame::{Frame, Residence};
use crate::group::GroupId;
use crate::home::{Home, Place};
use crate::manager::{Core, Mm};
use crate::ops::{Op, OpId, OpKind, OpPage, Target};
use crate::page::{PageCopy, Record, Tag};
use crate::platform::{Access, CLUSTER, IoFrames, Platform, Slot, StoreKind, StoreRequest};
use crate::reclaim::{Use, Watermarks};
use crate::space::SpaceId;
use crate::stats::PageClass;
use crate::swap::readahead::{Course, WIDEST, Window};
use alloc::collections::VecDeque;
use arrayvec::ArrayVec;

/// Pages on probation at most; the oldest is judged to make room.
const PROBATION: usize = 256;
/// Requests for one fault at most: pages that lie in more pieces than that are not worth it.
const MAX_RUNS: usize = 8;
/// Pages to either side of a missing one among which those of the next slots are looked for.
const NEIGHBOURHOOD: u64 = 256;

/// What became of a page that was read ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was used.
    Hit,
    /// It is gone, and was not.
    Waste,
}

/// A page that was read ahead, and how many frames reclaim had taken by then.
#[derive(Clone, Copy)]
struct Probationer {
    frame: Pfn,
    generation: u8,
    taken: u64,
}

/// Pages that were read ahead and of which it is not known yet whether they will be used.
pub(crate) struct Probation {
    /// Oldest first; those that were judged meanwhile are still in here.
    queue: VecDeque<Probationer>,
    /// Frames that reclaim may take before a page must have been used.
    patience: u64,
    /// Frames with the mark, those being read included.
    pending: u64,
}

impl Probation {
    /// For a machine with so many frames.
    pub fn new(frames: usize) -> Self {
        let patience = (frames as u64 / 8).clamp(16, PROBATION as u64);
        Self { queue: VecDeque::with_capacity(PROBATION), patience, pending: 0 }
    }

    /// Pages that were read ahead and are neither hit nor waste yet.
    pub fn pending(&self) -> u64 {
        self.pending
    }
}

/// A page to be read.
struct Wanted {
    home: Home,
    slot: Slot,
    tag: Tag,
    frame: Frame,
}

/// A page that could be read: where its record stands, and what that says.
type Found = (Home, Slot, Tag);

impl<P: Platform> Mm<P> {
    /// Step 11: the page whose record stands at `home` gets this frame and an operation that fills it, because it is wanted at `place`;
    /// others may come with it. `None` if the operation table is full.
    pub(crate) fn begin_swap_in(
        &self,
        core: &mut Core<P>,
        place: Place,
        home: Home,
        frame: Frame,
        (slot, tag): (Slot, Tag),
    ) -> Option<OpId> {
        let room = core.ops.room(OpKind::Fill);
        if room == 0 {
            self.free_user(core, frame);
            return None;
        }
        let wanted = Wanted { home, slot, tag, frame };
        match self.decide(core, place, slot) {
            Window::Alone => self.read_run(core, slot, [wanted], |_| false),
            window => self.read_window(core, place, wanted, window),
        }
    }

    /// What the evidence says is worth reading with a page.
    fn decide(&self, core: &mut Core<P>, (space, page): Place, slot: Slot) -> Window {
        let most = self.spare_frames(core).map_or(0, |spare| spare.min(self.config.read_ahead));
        let Some(s) = core.spaces.get_mut(space) else { return Window::Alone };
        match s.vmas.find(page) {
            Some(area) if area.rights.allow(Access::Read) => s.ahead.decide(page, slot, most),
            _ => Window::Alone,
        }
    }

    /// Begins to read a page and those of its window; `None` if the operation table is full.
    #[inline(never)]
    fn read_window(&self, core: &mut Core<P>, place: Place, wanted: Wanted, window: Window) -> Option<OpId> {
        let home = wanted.home;
        let runs = MAX_RUNS.min(core.ops.room(OpKind::Fill));
        let found = find(core, place, window, Runs::with(wanted.slot, runs));
        let mut pages = ArrayVec::from_iter([wanted]);
        self.give_frames(core, place.0, found, &mut pages);
        self.read_runs(core, pages, Some(home), runs.saturating_sub(1))
    }

    /// Somebody has come to a page that was read ahead: perhaps the pages after its window are to be read now, so that they are there
    /// when they are wanted. Nobody waits for these.
    #[inline(never)]
    pub(crate) fn read_on(&self, core: &mut Core<P>, (space, page): Place) {
        let Some(spare) = self.spare_frames(core) else { return };
        let Some(s) = core.spaces.get_mut(space).filter(|s| s.ahead.is_herald(page)) else { return };
        let went_on = s.ahead.go_on(page, spare.min(self.config.read_ahead));
        // At two windows before `low`; at `high` and beyond, there is nothing to reclaim for.
        let Watermarks { low, high, .. } = self.watermarks;
        if spare < (2 * usize::from(WIDEST)).min(high - low) {
            core.progress.begin_early();
            self.frames.pressure().wake_all();
        }
        // One is for who wants a page now.
        let runs = MAX_RUNS.min(core.ops.room(OpKind::Fill).saturating_sub(1));
        let Some((last, course, count)) = went_on else { return };
        let Some(s) = core.spaces.get_mut(space) else { return };
        if !s.vmas.find(last).is_some_and(|area| area.rights.allow(Access::Read)) {
            return;
        }
        let found = along(core, (space, last), course, count, Runs::none(runs));
        let mut pages = ArrayVec::new();
        self.give_frames(core, space, found, &mut pages);
        self.read_runs(core, pages, None, runs);
    }

    /// Gives each page that was found a frame, as long as there are any.
    fn give_frames(
        &self,
        core: &mut Core<P>,
        space: SpaceId,
        found: ArrayVec<Found, { CLUSTER - 1 }>,
        pages: &mut ArrayVec<Wanted, CLUSTER>,
    ) {
        let group = core.spaces.get_mut(space).map_or(GroupId::ROOT, |s| s.group);
        for (home, slot, tag) in found {
            let Ok(frame) = self.alloc_user(core, group) else { break };
            pages.push(Wanted { home, slot, tag, frame });
        }
    }

    /// One request for each run of slots in a row: the one with the page that is `wanted`, which is what is returned, and so many others.
    fn read_runs(
        &self,
        core: &mut Core<P>,
        mut pages: ArrayVec<Wanted, CLUSTER>,
        wanted: Option<Home>,
        mut others: usize,
    ) -> Option<OpId> {
        pages.sort_unstable_by_key(|page| page.slot);
        let mut begun = None;
        while let Some(slot) = pages.first().map(|first| first.slot) {
            let length = run_length(&pages);
            let has_it = pages[..length].iter().any(|page| Some(page.home) == wanted);
            if has_it || others > 0 {
                others -= usize::from(!has_it);
                let op = self.read_run(core, slot, pages.drain(..length), |home| Some(home) != wanted);
                begun = if has_it { op } else { begun };
            } else {
                pages.drain(..length).for_each(|page| self.free_user(core, page.frame));
            }
        }
        begun
    }

    /// Frames that are to spare for reading ahead: what is free beyond `low`, counting frames that reclaim is about to free, as long as
    /// those who wait for a frame find one. `None`: nothing is to be read ahead, as while slots are scarce, when a page that comes back
    /// loses its copy.
    fn spare_frames(&self, core: &Core<P>) -> Option<usize> {
        if self.config.read_ahead == 0 || core.swap.as_ref().is_none_or(|s| s.slots.scarce()) {
            return None;
        }
        let (free, marks) = (self.frames.free_frames(), self.watermarks);
        let waited_for = marks.min + (marks.low - marks.min) / 2;
        let beyond_low = (free + core.pages_leaving()).saturating_sub(marks.low);
        Some(free.saturating_sub(waited_for).min(beyond_low))
    }

    /// One request for pages whose slots are in a row from `slot` on. What `comes_ahead` was not asked for. `None` if the operation
    /// table is full; there is room if there was and no other has begun.
    #[inline(always)]
    fn read_run(
        &self,
        core: &mut Core<P>,
        slot: Slot,
        run: impl IntoIterator<Item = Wanted>,
        comes_ahead: impl Fn(Home) -> bool,
    ) -> Option<OpId> {
        let op = core.ops.begin(OpKind::Fill, Target::Slots(slot), &[])?;
        let mut frames = core.ops.frames();
        for Wanted { home, frame, tag, .. } in run {
            if let Some(op) = core.ops.get_mut(op) {
                op.pages.push(OpPage { frame: frame.pfn(), tag });
            }
            let desc = core.table.get_mut(frame.pfn());
            desc.reset(home, Residence::Filling);
            if comes_ahead(home) {
                desc.set_ahead(true);
                core.probation.pending += 1;
                core.counters.swap_ra += 1;
            }
            core.turn(home, PageClass::AwaySlot, PageClass::Filling, Record::Filling(op));
            frames.push(frame.lend());
        }
        core.counters.store_reads += 1;
        let count = frames.len() as u32;
        self.submit(core, StoreRequest { op, kind: StoreKind::Read, slot, count, frames });
        Some(op)
    }

    /// A read of several pages has failed, and nobody can say which was at fault: all are away as before, and whoever wants one has it read
    /// alone, so that a bad slot costs only its page.
    pub(crate) fn undo_fill(&self, core: &mut Core<P>, op: &Op, frames: &mut IoFrames) {
        for (i, (page, token)) in op.pages.iter().zip(frames.drain()).enumerate() {
            let Some(slot) = op.target.slot(i) else { unreachable!("files have completions of their own") };
            if self.reap_orphan(core, &token) {
                self.release_slot(core, slot);
            } else {
                let frame = token.pfn();
                core.void_holds(frame);
                core.judge_ahead(frame, Outcome::Waste);
                let desc = core.table.get_mut(frame);
                let home = desc.home();
                desc.set_residence(Residence::None);
                let copy = PageCopy::Slot(slot, page.tag);
                core.turn(home, PageClass::Filling, PageClass::AwaySlot, Record::Away(copy));
                if let Some((space, _)) = home.private()
                    && let Some(s) = core.spaces.get_mut(space)
                {
                    s.ahead.forget();
                }
            }
            self.free_user(core, token.returned());
        }
    }

    /// A page that was read ahead is there: it goes on probation, mapped if it is the space's alone and that takes no page table. What an
    /// object's page or a shared one may be mapped with is for a fault to find out.
    pub(crate) fn begin_probation(&self, core: &mut Core<P>, frame: Pfn) {
        let generation = core.table.get(frame).generation();
        if core.probation.queue.len() == PROBATION {
            core.end_oldest_probation();
        }
        core.probation.queue.push_back(Probationer { frame, generation, taken: core.counters.pgsteal });
        let Some((space, page)) = core.table.get(frame).home().private() else { return };
        let Some(s) = core.spaces.get_mut(space).filter(|s| !s.dying && !s.ahead.is_herald(page)) else { return };
        let Some(area) = s.vmas.find(page).filter(|area| area.rights.allow(Access::Read)) else { return };
        if area.object_page(page).is_some() {
            return;
        }
        let rights = area.rights;
        core.map_if_cheap(self.frames, (space, page), frame, rights);
    }
}

impl<P: Platform> Core<P> {
    /// Settles what became of a page, if it was read ahead and that is not known yet.
    #[inline]
    pub fn judge_ahead(&mut self, frame: Pfn, outcome: Outcome) {
        if self.table.get(frame).ahead() {
            self.settle_ahead(frame, outcome);
        }
    }

    #[cold]
    fn settle_ahead(&mut self, frame: Pfn, outcome: Outcome) {
        let desc = self.table.get_mut(frame);
        desc.set_ahead(false);
        // A page whose A bit was taken in meanwhile was used, whatever becomes of it.
        let outcome = if desc.young() { Outcome::Hit } else { outcome };
        let (home, is_there) = (desc.home(), desc.residence() != Residence::Filling);
        if outcome == Outcome::Hit && is_there {
            self.note_use(frame, Use::Read);
        }
        self.probation.pending -= 1;
        match outcome {
            Outcome::Hit => self.counters.swap_ra_hit += 1,
            Outcome::Waste => self.counters.swap_ra_waste += 1,
        }
        let Some(s) = home.private().and_then(|(space, _)| self.spaces.get_mut(space)) else { return };
        match outcome {
            Outcome::Hit => s.ahead.hit(),
            Outcome::Waste => s.ahead.waste(),
        }
    }

    /// Judges those that had their time: reclaim took as many frames as it may before they must have been used.
    pub fn end_probations(&mut self) {
        let now = self.counters.pgsteal;
        while self.probation.queue.front().is_some_and(|oldest| oldest.taken + self.probation.patience <= now) {
            self.end_oldest_probation();
        }
    }

    /// Used: a page like any other. Not used: the next to leave.
    fn end_oldest_probation(&mut self) {
        let Some(Probationer { frame, generation, .. }) = self.probation.queue.pop_front() else { return };
        let desc = self.table.get(frame);
        if !desc.ahead() || desc.generation() != generation {
            return;
        }
        if desc.young() || self.accessed_by_mapping(frame) {
            self.table.get_mut(frame).set_young(true);
            self.judge_ahead(frame, Outcome::Hit);
        } else {
            self.demote(frame);
        }
    }
}

/// The pieces of the disk that the pages of a window lie in.
struct Runs {
    slots: ArrayVec<u32, CLUSTER>,
    count: usize,
    /// Not more than this.
    most: usize,
}

impl Runs {
    fn none(most: usize) -> Self {
        Self { slots: ArrayVec::new(), count: 0, most }
    }

    /// What is read in any case.
    fn with(slot: Slot, most: usize) -> Self {
        Self { slots: ArrayVec::from_iter([slot.as_u32()]), count: 1, most }
    }

    /// Another page, if it does not take one piece too many.
    fn admit(&mut self, slot: Slot) -> bool {
        let slot = slot.as_u32();
        let beside = self.slots.iter().filter(|other| other.abs_diff(slot) == 1).count();
        let count = self.count + 1 - beside;
        if count > self.most || self.slots.is_full() {
            return false;
        }
        self.count = count;
        self.slots.push(slot);
        true
    }
}

/// The pages of a window that can be read, nearest first.
fn find<P: Platform>(core: &mut Core<P>, place: Place, window: Window, runs: Runs) -> ArrayVec<Found, { CLUSTER - 1 }> {
    match window {
        Window::Alone => ArrayVec::new(),
        Window::Pages(course, count) => along(core, place, course, count, runs),
        Window::Slots(count) => beside(core, place, runs.slots[0], count),
    }
}

/// Of so many pages next to one, of its area, those that can be read; not as many if its group has no room, or they lie in too many pieces.
fn along<P: Platform>(
    core: &mut Core<P>,
    (space, page): Place,
    course: Course,
    count: u16,
    mut runs: Runs,
) -> ArrayVec<Found, { CLUSTER - 1 }> {
    let mut found = ArrayVec::new();
    let Core { spaces, anons, objects, groups, .. } = core;
    let Some(s) = spaces.get_mut(space) else { return found };
    let Some(area) = s.vmas.find(page) else { return found };
    let room = groups.room(s.group);
    let mut herald = None;
    let mut covered = 0;
    for steps in 1..=u64::from(count) {
        let Some(next) = course.step(page, steps).filter(|next| area.range.contains(*next)) else { break };
        let away = match (s.index.get(next), area.object_page(next)) {
            (Record::Absent, Some((object, page, _))) => {
                let record = objects.get_mut(object).map(|object| object.index.get(page.key()));
                record.and_then(|record| in_slot(Home::Object(object, page), record))
            }
            (record, _) => stored(anons, (space, next), record),
        };
        if let Some(away) = away {
            if found.len() == room || !runs.admit(away.1) {
                break;
            }
            found.push(away);
            herald = herald.or(Some(next));
        }
        covered = steps;
    }
    s.ahead.covered_pages(covered, herald);
    found
}

/// The pages of the so many slots after one, if they are in a page's neighbourhood.
fn beside<P: Platform>(
    core: &mut Core<P>,
    (space, page): Place,
    slot: u32,
    count: u16,
) -> ArrayVec<Found, { CLUSTER - 1 }> {
    let mut found = ArrayVec::new();
    let Core { spaces, anons, .. } = core;
    let Some(s) = spaces.get_mut(space) else { return found };
    let Some(area) = s.vmas.find(page) else { return found };
    let slots = slot + 1..=slot + u32::from(count);
    s.index.visit(around(page, area.range), usize::MAX, |page, record| {
        let wanted = |(_, slot, _): &Found| slots.contains(&slot.as_u32());
        found.extend(stored(anons, (space, page), record).filter(wanted));
        record
    });
    s.ahead.covered_slots(count.into());
    found
}

/// A page of a space that can be read, if it is in a slot.
fn stored(anons: &AnonTable, (space, page): Place, record: Record) -> Option<Found> {
    match record {
        Record::Shared(anon) => in_slot(Home::Anon(anon), anons.record(anon)),
        record => in_slot(Home::Private(space, page), record),
    }
}

/// A page that can be read, if it is in a slot.
fn in_slot(home: Home, record: Record) -> Option<Found> {
    match record {
        Record::Away(PageCopy::Slot(slot, tag)) => Some((home, slot, tag)),
        _ => None,
    }
}

/// How many of the pages, which are in order of their slots, have slots in a row from the first on.
fn run_length(pages: &[Wanted]) -> usize {
    let in_a_row = |pair: &&[Wanted]| pair[0].slot.as_u32() + 1 == pair[1].slot.as_u32();
    1 + pages.windows(2).take_while(in_a_row).count()
}

/// The neighbourhood of a page within its area.
fn around(page: Vpn, area: PageRange) -> PageRange {
    let (from, to) = (page.as_u64().saturating_sub(NEIGHBOURHOOD), page.as_u64() + NEIGHBOURHOOD);
    PageRange { start: area.start.max(Vpn::new(from)), end: area.end.min(Vpn::new(to)) }
}
