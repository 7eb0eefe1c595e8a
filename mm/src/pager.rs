//! The pager: drives operations to their end.
//!
//! Owns what happens when a request comes back ([`Mm::run_pager`]): pages of a fill become clean or failed, pages of a clean leave or
//! stay, and whoever waits is woken. It begins nothing but retries and discards; fills are begun by [`crate::swapin`], cleans by reclaim.

use crate::addr::Pfn;
use crate::file_store::{FileCompletion, FileStore};
use crate::frame::{Frame, IoFrame, Residence};
use crate::manager::{Core, Mm, class_of, class_of_copy};
use crate::ops::{Op, OpKind, Target};
use crate::page::{PageCopy, Record};
use crate::platform::{
    BackingStore, IoFrames, PhysMemory, Platform, Slot, StoreCompletion, StoreError, StoreKind, StoreRequest,
};
use crate::reclaim::Arrival;
use crate::stats::PageClass;
use crate::swap::{Blame, Swap};
use crate::swapin::Outcome;
use core::future::poll_fn;
use core::ops::ControlFlow;
use core::task::{Context, Poll};

/// What one of the stores has done.
enum Completion {
    Swap(StoreCompletion),
    File(FileCompletion),
}

impl<P: Platform> Mm<P> {
    /// The pager task. Each completion is one short piece of work; it never waits for anything but the store.
    pub async fn run_pager(&self) -> ! {
        loop {
            let completion = poll_fn(|cx| self.poll_complete(cx)).await;
            self.core.with_lock(|core| {
                let ended = match completion {
                    Completion::Swap(completion) => {
                        let op = completion.request.op;
                        self.complete(core, completion).map_break(|()| op)
                    }
                    Completion::File(completion) => self.complete_file(core, completion).map_continue(drop),
                };
                if let ControlFlow::Break(op) = ended {
                    if !self.loses_wakeups() {
                        self.op_waits[op.index()].wake_all();
                    }
                    self.op_room.wake_all();
                }
                self.store_progress.wake_all();
                self.announce_frames_with(core);
            });
        }
    }

    /// The next completion of either store. Swap is asked first: what waits for it is a fault, or a frame.
    fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<Completion> {
        if let Some(store) = &self.store
            && let Poll::Ready(completion) = store.poll_complete(cx)
        {
            return Poll::Ready(Completion::Swap(completion));
        }
        match &self.files {
            Some(files) => files.poll_complete(cx).map(Completion::File),
            None => Poll::Pending,
        }
    }

    /// A bug that tests plant to see it found.
    fn loses_wakeups(&self) -> bool {
        #[cfg(feature = "sim")]
        return self.config.plant == Some(crate::sim::Planted::LostWakeup);
        #[cfg(not(feature = "sim"))]
        false
    }

    /// `Continue` if the operation goes on (a retry), `Break` if it is over.
    fn complete(&self, core: &mut Core<P>, completion: StoreCompletion) -> ControlFlow<()> {
        let StoreCompletion { mut request, result } = completion;
        let Some(op) = core.ops.get_mut(request.op) else {
            panic!("completion of {:?}, which is not under way", request.op)
        };
        core.counters.store_completed += 1;
        let alone = op.kind == OpKind::Fill && op.pages.len() == 1;
        if alone && result.is_err() && !core::mem::replace(&mut op.retried, true) {
            core.counters.store_reads += 1;
            self.submit(core, request);
            // Each completion makes room, also one that is tried again.
            self.submit_pending(core);
            return ControlFlow::Continue(());
        }
        let Some(op) = core.ops.end(request.op) else { unreachable!("looked up above") };
        match op.kind {
            OpKind::Fill if result.is_err() && !alone => self.undo_fill(core, &op, &mut request.frames),
            OpKind::Fill => self.finish_fill(core, &op, &mut request.frames, result),
            OpKind::Clean => self.finish_clean(core, &op, &mut request.frames, result),
            OpKind::WriteBack => self.finish_write_back(core, &mut request.frames, result),
            OpKind::Prepare => unreachable!("only files are prepared for"),
            OpKind::Discard => {
                if let Some(swap) = &mut core.swap {
                    swap.finish_discard(request.slot, request.count);
                }
            }
        }
        core.ops.put_back(op, request.frames);
        self.begin_discards(core);
        self.submit_pending(core);
        ControlFlow::Break(())
    }

    /// Steps 13 and 14.
    fn finish_fill(&self, core: &mut Core<P>, op: &Op, frames: &mut IoFrames, result: Result<(), StoreError>) {
        for (i, (page, token)) in op.pages.iter().zip(frames.drain()).enumerate() {
            let moving = self.end_move(core, token.pfn());
            let Some(slot) = op.target.slot(i) else { unreachable!("files have completions of their own") };
            core.counters.pswpin += u64::from(result.is_ok());
            if self.reap_orphan(core, &token) {
                self.release_slot(core, slot);
                self.free_user(core, token.returned());
                continue;
            }
            let good = result.is_ok() && self.audit(core, token.pfn()) == Some(page.tag);
            if good {
                let frame = self.settle_filled(core, token, PageCopy::Slot(slot, page.tag));
                if moving {
                    self.move_on(core, frame);
                }
            } else {
                self.fail_page(core, token, slot, result);
            }
        }
    }

    /// Step 13: the page is as it left.
    fn settle_filled(&self, core: &mut Core<P>, token: IoFrame, copy: PageCopy) -> Pfn {
        let frame = core.table.keep(token);
        core.set_residence(frame, Residence::Clean);
        let desc = core.table.get_mut(frame);
        desc.set_copy(Some(copy));
        // Nobody waits for what is read to be moved.
        desc.set_young(!desc.ahead() && desc.holds() > 0);
        let home = desc.home();
        core.set_record(home, Record::Resident(frame));
        core.readmit(frame);
        if core.swap.as_ref().is_some_and(Swap::copies_are_dear) {
            core.counters.swap_copy_dropped += 1;
            core.judge_ahead(frame, Outcome::Waste);
            core.became_dirty(frame);
        }
        if core.table.get(frame).ahead() {
            self.begin_probation(core, frame);
        }
        frame
    }

    /// Step 14: its owners lose the page, nobody else loses anything. The slot is never used again.
    fn fail_page(&self, core: &mut Core<P>, token: IoFrame, slot: Slot, result: Result<(), StoreError>) {
        match result {
            Err(_) => core.counters.swap_read_err += 1,
            Ok(()) => core.counters.swap_audit_err += 1,
        }
        let home = core.table.get(token.pfn()).home();
        log::warn!("{home} is lost: slot {slot:?} {result:?}");
        core.turn(home, PageClass::Filling, PageClass::Failed, Record::Failed);
        if let Some(swap) = &mut core.swap {
            swap.retire(slot);
        }
        core.void_holds(token.pfn());
        core.judge_ahead(token.pfn(), Outcome::Waste);
        core.table.get_mut(token.pfn()).set_residence(Residence::None);
        self.free_user(core, token.returned());
    }

    /// Steps 8, 9 and 12.
    fn finish_clean(&self, core: &mut Core<P>, op: &Op, frames: &mut IoFrames, result: Result<(), StoreError>) {
        let blame = if op.pages.len() == 1 { Blame::This } else { Blame::OneOfSeveral };
        match (&mut core.swap, result) {
            (Some(swap), Ok(())) => swap.write_succeeded(),
            (Some(swap), Err(_)) => swap.write_failed(),
            (None, _) => {}
        }
        for (i, (page, token)) in op.pages.iter().zip(frames.drain()).enumerate() {
            core.count_leaving(token.pfn(), -1);
            core.counters.pswpout += u64::from(result.is_ok());
            let Some(slot) = op.target.slot(i) else { unreachable!("files have completions of their own") };
            if self.reap_orphan(core, &token) {
                self.release_slot(core, slot);
                self.free_user(core, token.returned());
            } else if result.is_err() {
                core.counters.swap_write_err += 1;
                if let Some(swap) = &mut core.swap {
                    swap.give_up(slot, blame);
                }
                self.stay(core, token, None);
            } else if core.table.get(token.pfn()).residence() == Residence::Evicting {
                self.leave(core, token.returned(), PageCopy::Slot(slot, page.tag));
            } else {
                self.stay(core, token, Some(PageCopy::Slot(slot, page.tag)));
            }
        }
    }

    /// Step 12: the page is away and its frame is free.
    pub(crate) fn leave(&self, core: &mut Core<P>, token: Frame, copy: PageCopy) {
        let desc = core.table.get_mut(token.pfn());
        let (home, from) = (desc.home(), class_of(desc.residence()));
        desc.set_residence(Residence::None);
        let record = if copy == PageCopy::File { Record::Absent } else { Record::Away(copy) };
        core.turn(home, from, class_of_copy(copy), record);
        core.counters.pgsteal += 1;
        self.free_user(core, token);
    }

    /// Steps 8 and 9: the page was touched while it was written out; it stays, clean if it was not changed.
    pub(crate) fn stay(&self, core: &mut Core<P>, token: IoFrame, copy: Option<PageCopy>) {
        let frame = core.table.keep(token);
        let mapped_dirty = core.written_by_mapping(frame);
        let desc = core.table.get_mut(frame);
        let rewritten = desc.rewritten() || mapped_dirty;
        desc.set_rewritten(false);
        let kept = copy.filter(|_| !rewritten);
        desc.set_copy(kept);
        core.set_residence(frame, if kept.is_some() { Residence::Clean } else { Residence::Dirty });
        if kept.is_none() {
            core.release_copy(copy);
        }
        core.table.get_mut(frame).set_young(true);
        core.admit_as(frame, Arrival::Rescued);
    }

    /// Whether the page of a frame that came back is gone; the frame is then to be freed.
    pub(crate) fn reap_orphan(&self, core: &mut Core<P>, token: &IoFrame) -> bool {
        let desc = core.table.get_mut(token.pfn());
        let orphaned = desc.residence() == Residence::Orphaned;
        if orphaned {
            desc.set_residence(Residence::None);
            core.orphaned_io -= 1;
        }
        orphaned
    }

    pub(crate) fn release_slot(&self, core: &mut Core<P>, slot: Slot) {
        if let Some(swap) = &mut core.swap {
            swap.release_for_good(slot);
        }
    }

    fn audit(&self, core: &Core<P>, frame: Pfn) -> Option<crate::page::Tag> {
        let swap = core.swap.as_ref()?;
        Some(self.memory.tag(frame, &swap.audit))
    }

    /// Tells the device about clusters that became free: one discard at a time, so that those freed meanwhile go together.
    pub(crate) fn begin_discards(&self, core: &mut Core<P>) {
        if core.ops.counts().discards > 0 || !core.swap.as_ref().is_some_and(Swap::has_discards) {
            return;
        }
        let Some(op) = core.ops.begin(OpKind::Discard, Target::Slots(Slot::new(0)), &[]) else {
            return;
        };
        let Some((slot, count)) = core.swap.as_mut().and_then(Swap::take_discard) else {
            unreachable!("has_discards");
        };
        core.counters.store_discards += 1;
        self.submit(core, StoreRequest { op, kind: StoreKind::Discard, slot, count, frames: IoFrames::none() });
    }

    /// Waits until the device has forgotten all that is gone for good.
    pub async fn discards_done(&self) {
        loop {
            let progress = self.store_progress.wait();
            let busy = self.core.with_lock(|core| {
                self.begin_discards(core);
                core.ops.counts().discards > 0
            });
            if !busy {
                return;
            }
            let _woken = progress.await;
        }
    }
}
