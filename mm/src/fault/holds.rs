//! The pages a thread faulted on since it last got anywhere: who may have how many, for how long, and what becomes of them at a wait.
//!
//! Owns [`Holds`] and how they begin and end. Does not own what a hold protects a page from ([`crate::reclaim`]), nor who decides that a
//! thread may wait with pages in hand ([`crate::shortage`]).

use crate::addr::Pfn;
use crate::frame::Residence;
use crate::group::GroupId;
use crate::manager::{Core, Mm};
use crate::ops::Awaited;
use crate::platform::Platform;
use crate::shortage::Lane;
use arrayvec::ArrayVec;

/// A frame that reclaim leaves alone for a thread that faulted on it.
#[derive(Clone, Copy, Debug)]
struct Hold {
    frame: Pfn,
    generation: u8,
}

/// Pages an instruction may need at once: code 2, two operands 2 each, stack 2 (a `movs` across page boundaries, and what is below it).
pub const MAX_HOLDS: usize = 8;

/// The pages a thread faulted on since it last got anywhere: reclaim leaves them alone until it does (design D4).
///
/// Kept by the thread; `anchor` is its instruction pointer. When that has moved, the holds end. A `Holds` must be given back by
/// [`Mm::release_holds`] before it is dropped, or its frames stay held; and before its thread waits for anything but a fault, such as
/// a system call or a copy: when nothing else can be freed, reclaim waits for threads with holds to get on.
#[derive(Debug, Default)]
pub struct Holds {
    anchor: u64,
    /// A ring once it is full: the oldest is then at `oldest`.
    frames: ArrayVec<Hold, MAX_HOLDS>,
    oldest: u8,
    /// This thread may wait for a frame without giving these up: see [`crate::shortage`].
    keeper: bool,
    /// How often the thread has waited for a frame since it last got anywhere.
    waits: u8,
    /// The operation on a file that the thread waits for, to be told if it fails.
    awaited: Option<Awaited>,
}

impl Holds {
    /// From now on the thread waits for this operation on a file.
    pub(crate) fn await_op(&mut self, awaited: Option<Awaited>) {
        self.awaited = awaited;
    }
    /// The operation on a file that the thread has waited for.
    pub(crate) fn take_awaited(&mut self) -> Option<Awaited> {
        self.awaited.take()
    }
    /// Whether this thread may wait for a frame with pages in hand.
    pub(super) fn is_keeper(&self) -> bool {
        self.keeper
    }
    /// Where the thread is to wait for a frame: whether it had something before, or was woken before and came too late.
    pub(super) fn take_place(&mut self) -> Lane {
        let begun = self.waits > 0 || !self.frames.is_empty();
        if begun && usize::from(self.waits) < MAX_HOLDS {
            self.waits += 1;
            Lane::Begun
        } else {
            self.waits = 1;
            Lane::New
        }
    }
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
    /// Whether holds of another instruction are kept, which should be given back now that the thread is at `anchor`.
    pub fn outlived(&self, anchor: u64) -> bool {
        !self.frames.is_empty() && self.anchor != anchor
    }
}

impl<P: Platform> Mm<P> {
    /// Gives up what a thread holds.
    pub fn release_holds(&self, holds: &mut Holds) {
        if !holds.is_empty() {
            self.core.with_lock(|core| self.end_holds(core, holds));
        }
    }

    pub(super) fn turn_holds(&self, core: &mut Core<P>, anchor: u64, holds: &mut Holds) {
        if holds.anchor != anchor {
            self.end_holds(core, holds);
            (holds.anchor, holds.waits) = (anchor, 0);
        }
    }

    pub(crate) fn end_holds(&self, core: &mut Core<P>, holds: &mut Holds) {
        holds.oldest = 0;
        for hold in holds.frames.drain(..) {
            core.let_go(hold);
        }
        if core::mem::take(&mut holds.keeper) {
            core.shortage.keeper_gone();
        }
        if core::mem::take(&mut core.awaiting_release) {
            self.frames.pressure().wake_all();
        }
    }

    /// Holds a frame for a thread: the last [`MAX_HOLDS`] that it faulted on, each once.
    #[inline(always)]
    pub(crate) fn hold(&self, core: &mut Core<P>, frame: Pfn, holds: &mut Holds) {
        let desc = core.table.get_mut(frame);
        let generation = desc.generation();
        let own = |hold: &Hold| (hold.frame, hold.generation) == (frame, generation);
        if desc.holds() > 0 && holds.frames.iter().any(own) || !desc.add_hold() {
            return;
        }
        core.held += 1;
        let hold = Hold { frame, generation };
        if holds.frames.is_full() {
            let oldest = core::mem::replace(&mut holds.frames[usize::from(holds.oldest)], hold);
            holds.oldest = (holds.oldest + 1) % MAX_HOLDS as u8;
            core.let_go(oldest);
        } else {
            holds.frames.push(hold);
        }
    }

    /// Lets go of a frame that the thread needs no more, if it holds it.
    pub(super) fn let_go(&self, core: &mut Core<P>, frame: Pfn, holds: &mut Holds) {
        let Some(at) = holds.frames.iter().position(|hold| hold.frame == frame) else { return };
        let hold = holds.frames.remove(at);
        let desc = core.table.get_mut(frame);
        if desc.generation() == hold.generation && desc.holds() > 0 {
            desc.drop_hold();
            core.held -= 1;
        }
    }

    /// Before a thread waits for a frame: it gives up what it holds, or becomes the keeper.
    pub(super) fn wait_modestly(&self, core: &mut Core<P>, holds: &mut Holds, group: GroupId) {
        if holds.frames.is_empty() {
            return;
        }
        holds.keeper = holds.keeper || core.shortage.try_keep();
        if !holds.keeper {
            return self.end_holds(core, holds);
        }
        let live = |hold: &&Hold| core.table.get(hold.frame).generation() == hold.generation;
        let (mut kept, mut in_group) = (0, 0);
        for hold in holds.frames.iter().filter(live) {
            kept += 1;
            in_group += u64::from(core.table.get(hold.frame).group() == group);
        }
        core.shortage.keeper_waits(kept, (group, in_group));
    }
}

impl<P: Platform> Core<P> {
    /// Ends a hold, unless its frame has become another page's.
    #[inline(always)]
    fn let_go(&mut self, hold: Hold) {
        let desc = self.table.get_mut(hold.frame);
        if desc.generation() != hold.generation || desc.holds() == 0 {
            return;
        }
        desc.drop_hold();
        self.held -= 1;
        // A page that was read in is often written right after. When slots are needed, its copy ends here, and not at its eviction.
        if desc.residence() == Residence::Clean && self.swap.as_ref().is_some_and(|s| s.runs_are_short()) {
            self.settle_copy(hold.frame);
        }
    }
}
