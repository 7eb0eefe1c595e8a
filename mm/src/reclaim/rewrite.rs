//! Keeps swap in runs: when they get short, what stands in the way of whole clusters is moved out of it (design D8).
//!
//! Owns the walk over the pages that looks for it. Victims that leave one slot here and two there cost a request each; so when the
//! last run was short, the emptiest clusters are marked to be emptied, and the walk visits pages, some for each page swapped out:
//!
//! - a clean page that has been written, says its D bit, gives up its copy: that costs nothing;
//! - a clean page whose copy is in a marked cluster gives it up: that costs one write later;
//! - a page that is away in a marked cluster is read in and leaves again at once, to where runs are: one read, a share of one write.
//!
//! Nothing is written into a marked cluster meanwhile. A lap over all pages ends with clusters that are whole, and marks others. No
//! work while runs are long; the work is bounded by what is swapped out: one page moved for [`PACE`], [`GLANCES`] looked at for each.
//! Also the last resort when no slot is left: [`Mm::give_up_copies`].

use crate::addr::{PageRange, Pfn, Vpn};
use crate::frame::Residence;
use crate::group::GroupId;
use crate::home::Home;
use crate::manager::{Core, Mm, Scarce};
use crate::ops::{OpKind, OpPage, Target};
use crate::page::{PageCopy, Record, Tag};
use crate::platform::{CLUSTER, Platform, Slot, StoreKind, StoreRequest};
use crate::space::CHUNK;
use crate::stats::PageClass;
use crate::swap::Swap;
use crate::swapin::Outcome;
use arrayvec::ArrayVec;
use core::ops::ControlFlow;

/// Pages swapped out for each that may be moved.
const PACE: u64 = 8;
/// Pages looked at for each that is swapped out.
const GLANCES: u64 = 6;
/// Reads under way at once, as a part of the operation table.
const SHARE_OF_TABLE: usize = 4;
/// Frames looked at in one poll for copies to give up: most need nothing done.
const FRAMES_PER_POLL: usize = 16 * CHUNK;

/// How far the walk has got.
#[derive(Default)]
pub(crate) struct Rewriting {
    /// Slot of the space, and the page, to go on with.
    next: Option<(usize, Vpn)>,
    /// Pages swapped out when the walk was last paid for.
    paid_until: u64,
    /// Pages that may be looked at.
    glances: u64,
    /// Pages that may be moved, times [`PACE`].
    moves: u64,
    /// Reads under way.
    in_flight: usize,
    /// Where [`Mm::give_up_copies`] goes on, and in clusters of how many used slots it looks.
    copies: (usize, u32),
}

impl<P: Platform> Core<P> {
    /// A clean page that has been written, says a D bit, loses its copy. Returns whether it still is clean.
    #[cold]
    pub fn settle_copy(&mut self, frame: Pfn) -> bool {
        let written = self.written_by_mapping(frame);
        if written {
            self.became_dirty(frame);
        }
        !written
    }
}

/// Whether there is more to do at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    Again,
    Enough,
}

impl Rewriting {
    /// Takes in what was swapped out since the last time. Credit is not saved up while there is nothing to do.
    fn earn(&mut self, swapped_out: u64) {
        let pages = (swapped_out - self.paid_until).min(16 * CHUNK as u64);
        self.paid_until = swapped_out;
        self.glances = (self.glances + pages * GLANCES).min(16 * CHUNK as u64);
        self.moves = (self.moves + pages).min(16 * CHUNK as u64);
    }

    /// Pays for a page that is moved, if there is credit.
    fn spend(&mut self) -> ControlFlow<()> {
        match self.moves.checked_sub(PACE) {
            Some(left) => self.moves = left,
            None => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }
}

impl<P: Platform> Mm<P> {
    /// Does a part of the work, if there is any and it has been earned.
    pub(super) fn rewrite_sparse_clusters(&self, core: &mut Core<P>) -> Pace {
        let swapped_out = core.counters.pswpout;
        core.rewriting.earn(swapped_out);
        let Some(swap) = &mut core.swap else { return Pace::Enough };
        if !swap.runs_are_short() {
            return Pace::Enough;
        }
        if core.rewriting.next.is_none() {
            swap.forget_old_marks();
        }
        // A lap looks at all pages; what it can move until it is round is what it may promise to empty.
        let pages: u64 = core.pages.framed() + core.pages.away();
        swap.mark_sparse_clusters((pages / (GLANCES * PACE)) as u32 + 1);
        let budget = core.rewriting.glances.min(CHUNK as u64) as usize;
        if budget == 0 {
            return Pace::Enough;
        }
        core.rewriting.glances -= budget as u64;
        let stopped = self.walk(core, budget).is_break();
        if core.rewriting.glances > 0 && core.rewriting.next.is_some() && !stopped { Pace::Again } else { Pace::Enough }
    }

    /// Visits pages from where the walk stopped, in one space. Breaks off where something is to be moved that cannot be moved now.
    fn walk(&self, core: &mut Core<P>, budget: usize) -> ControlFlow<()> {
        let (slot, from) = core.rewriting.next.unwrap_or((0, Vpn::new(0)));
        let Some((slot, id, space)) = core.spaces.at_or_after(slot) else {
            core.rewriting.next = None;
            return ControlFlow::Continue(());
        };
        let start = if core.rewriting.next.is_some_and(|next| next.0 == slot) { from } else { Vpn::new(0) };
        let range = PageRange { start: start.max(space.layout.bounds.start), end: space.layout.bounds.end };
        let mut found: ArrayVec<(Vpn, Record), CHUNK> = ArrayVec::new();
        let next = space.index.visit(range, budget, |page, record| {
            if matches!(record, Record::Resident(_) | Record::Away(PageCopy::Slot(..))) {
                found.push((page, record));
            }
            record
        });
        core.rewriting.next = Some(next.map_or((slot + 1, Vpn::new(0)), |page| (slot, page)));
        for (page, record) in found {
            let done = match record {
                Record::Resident(frame) => self.reconsider_copy(core, frame),
                Record::Away(PageCopy::Slot(slot, tag)) => {
                    self.move_away_page(core, Home::Private(id, page), slot, tag)
                }
                _ => ControlFlow::Continue(()),
            };
            if done.is_break() {
                core.rewriting.next = Some((slot, page));
                return done;
            }
        }
        ControlFlow::Continue(())
    }

    /// A clean page: keeps its copy if it still is one, and is in nobody's way.
    fn reconsider_copy(&self, core: &mut Core<P>, frame: Pfn) -> ControlFlow<()> {
        let desc = core.table.get(frame);
        let (Residence::Clean, Some(slot)) = (desc.residence(), desc.copy().and_then(PageCopy::slot)) else {
            return ControlFlow::Continue(());
        };
        if !core.settle_copy(frame) {
            return ControlFlow::Continue(());
        }
        if core.swap.as_ref().is_some_and(|s| s.is_marked(slot)) {
            core.rewriting.spend()?;
            core.judge_ahead(frame, Outcome::Waste);
            core.became_dirty(frame);
            core.counters.swap_copy_dropped += 1;
        }
        ControlFlow::Continue(())
    }

    /// A page that is away: if it is in the way it is read in, so as to leave for another place. Nobody waits for that.
    fn move_away_page(&self, core: &mut Core<P>, home: Home, slot: Slot, tag: Tag) -> ControlFlow<()> {
        if !core.swap.as_ref().is_some_and(|s| s.is_marked(slot)) {
            return ControlFlow::Continue(());
        }
        if core.rewriting.in_flight >= core.ops.size() / SHARE_OF_TABLE || self.frames.below_low() {
            return ControlFlow::Break(());
        }
        core.rewriting.spend()?;
        let frame = match self.begin_read(core, home, slot, tag) {
            Ok(frame) => frame,
            Err(Scarce::Machine) => return ControlFlow::Break(()),
            // There may be no room in it for long: its page stays where it is.
            Err(Scarce::Group) => return ControlFlow::Continue(()),
        };
        core.rewriting.in_flight += 1;
        core.table.get_mut(frame).set_moving(true);
        ControlFlow::Continue(())
    }

    /// Step 11 for a page that nobody waits for. Fails if there is no frame, or no room in the operation table.
    pub(crate) fn begin_read(&self, core: &mut Core<P>, home: Home, slot: Slot, tag: Tag) -> Result<Pfn, Scarce> {
        let group = core.swap.as_ref().map_or(GroupId::ROOT, |swap| swap.owner(slot));
        let token = self.alloc_user(core, group)?;
        let frame = token.pfn();
        let Some(op) = core.ops.begin(OpKind::Fill, Target::Slots(slot), &[OpPage { frame, tag }]) else {
            self.free_user(core, token);
            return Err(Scarce::Machine);
        };
        core.table.get_mut(frame).reset(home, Residence::Filling);
        core.turn(home, PageClass::AwaySlot, PageClass::Filling, Record::Filling(op));
        core.counters.store_reads += 1;
        let mut frames = core.ops.frames();
        frames.push(token.lend());
        self.submit(core, StoreRequest { op, kind: StoreKind::Read, slot, count: 1, frames });
        Ok(frame)
    }

    /// A frame that was read into comes back, whatever became of it. Returns whether its page was on the move.
    pub(crate) fn end_move(&self, core: &mut Core<P>, frame: Pfn) -> bool {
        let moving = core.table.get(frame).moving();
        if moving {
            core.table.get_mut(frame).set_moving(false);
            core.rewriting.in_flight -= 1;
        }
        moving
    }

    /// A page on the move has been read in: it leaves again, unless somebody came to want it. It goes with the next victims: a request
    /// of its own would be the short run that this is to avoid.
    pub(crate) fn move_on(&self, core: &mut Core<P>, frame: Pfn) {
        if core.table.get(frame).residence() == Residence::Clean {
            core.became_dirty(frame);
        }
        core.counters.swap_rewritten += 1;
        if core.table.get(frame).holds() == 0 {
            core.forget(frame);
            self.evict(core, frame);
        }
    }

    /// No slot is left: clean resident pages give up their copies, those in the emptiest clusters first, until some clusters are whole.
    /// Each call looks at so many frames, from where the last one stopped.
    pub(super) fn give_up_copies(&self, core: &mut Core<P>) {
        if core.pages.get(PageClass::Clean) == 0 || !core.swap.as_ref().is_some_and(Swap::takes_writes) {
            return;
        }
        let (start, most) = core.rewriting.copies;
        let most = most.max(CLUSTER as u32 / 4);
        let end = core.table.len().min(start + FRAMES_PER_POLL);
        let mut given = 0;
        for index in start..end {
            let frame = Pfn::new(index as u32);
            let desc = core.table.get(frame);
            let (Residence::Clean, Some(slot)) = (desc.residence(), desc.copy().and_then(PageCopy::slot)) else {
                continue;
            };
            if core.swap.as_ref().is_some_and(|s| s.slots.cluster_use(slot) <= most) {
                core.judge_ahead(frame, Outcome::Waste);
                core.became_dirty(frame);
                core.counters.swap_copy_dropped += 1;
                given += 1;
                if given == CHUNK {
                    core.rewriting.copies = (index + 1, most);
                    return;
                }
            }
        }
        core.rewriting.copies = match () {
            () if end < core.table.len() => (end, most),
            // Round, and those are not enough: fuller clusters, too.
            () if most < CLUSTER as u32 => (0, most * 2),
            () => (0, 0),
        };
    }
}
