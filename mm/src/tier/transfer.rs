//! Into the compressed tier, back, and on to the device.
//!
//! Owns the steps, each whole under the lock: a victim is compressed ([`Mm::evict_to_tier`]), a page that is wanted is there again without
//! a wait ([`Mm::load`]), and the oldest pages are written in clusters when the tier is nearly full ([`Mm::write_back`]). Does not own
//! who goes ([`crate::reclaim`]) nor who wants ([`crate::fault`]).
//!
//! A page has its slot no sooner than it is written: so those that leave together lie together, however many of their neighbours were
//! wanted back. That is possible because an entry knows whose it is; what moves a record moves that with it (`Core::rehome`).

use super::worth::Worth;
use super::{Advice, Compression, Entry, EntryId, Tier, Writing};
use crate::addr::{PAGE_SIZE, Pfn};
use crate::frame::{Frame, FrameKind, Order, Residence};
use crate::group::GroupId;
use crate::home::Home;
use crate::manager::{Core, Mm, NoMemory, Scarce, class_of};
use crate::ops::{OpKind, Target};
use crate::page::{PageCopy, Record, Tag};
use crate::platform::{CLUSTER, IoFrames, Permission, PhysMemory, Platform, Slot, StoreError, StoreKind, StoreRequest};
use crate::reclaim::{Arrival, Fate};
use crate::stats::PageClass;
use crate::swap::{Blame, Swap};
use alloc::boxed::Box;
use arrayvec::ArrayVec;

/// Part of RAM that compressed pages may take unless told otherwise.
const SHARE_OF_RAM: usize = 5;
/// Frames that it has at most: 1 GiB. What the pool knows of them has to fit into a block of the heap, of which none has more than 4 MiB.
const MOST_FRAMES: usize = (1 << 30) / PAGE_SIZE;
/// Pages looked at in one go to see which leave the tier.
const GLANCES: usize = 256;

/// Why a page of the tier is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unloaded {
    /// No frame.
    Scarce(Scarce),
    /// It is not what had been put there.
    Lost,
}

impl<P: Platform> Mm<P> {
    /// Adds the compressed tier, if the manager is configured to have one and has a swap device behind it. Before anything is evicted.
    pub fn add_tier(&self, compressor: P::Compressor) -> Result<(), NoMemory> {
        if self.config.compression == Compression::Off || self.store.is_none() {
            return Ok(());
        }
        let limit = self.config.tier_frames.unwrap_or((self.frames.counts().total / SHARE_OF_RAM).min(MOST_FRAMES));
        let worth = (self.config.compression == Compression::Auto).then(Worth::default);
        let tier = Box::new(Tier::new(compressor, limit, worth).ok_or(NoMemory)?);
        self.core.with_lock(|core| core.tier = Some(tier));
        Ok(())
    }

    /// Steps 6 and 10 into the tier: a page that no page table refers to is compressed, and its frame is free, or the tier's. `None` if it
    /// is to go the usual way: there is no tier or no room in it, or the page does not get smaller.
    #[inline]
    pub(crate) fn evict_to_tier(&self, core: &mut Core<P>, frame: Pfn) -> Option<Fate> {
        let Core { tier, counters, total_frames, .. } = core;
        let tier = tier.as_mut()?;
        let read = counters.pswpin + counters.pgfilein;
        let advice = tier.advise(*total_frames as usize, read, &counters.more_memory);
        // One that rests is asked for each victim: that is to cost next to nothing.
        if advice == Advice::Pass && tier.has_nothing() { None } else { self.follow(core, frame, advice) }
    }

    /// Does with a victim what is advised, after what is due in the tier.
    #[inline(never)]
    fn follow(&self, core: &mut Core<P>, frame: Pfn, advice: Advice) -> Option<Fate> {
        self.write_back(core);
        let tier = core.tier.as_mut()?;
        match advice {
            Advice::Compress => {}
            Advice::Pass => return None,
            Advice::Try => {
                tier.try_out(&self.memory, frame);
                return None;
            }
        }
        // A frame for the heap must not be one that those need who cannot wait.
        let spare = Permission::from(self.frames.free_frames() > self.watermarks.min);
        if !tier.make_room(spare) {
            // Soon there is: a page that came later should not leave earlier. But one that has a copy leaves for nothing.
            let waits = tier.writing().is_some() && core.table.get(frame).residence() == Residence::Dirty;
            return waits.then(|| {
                core.admit_as(frame, Arrival::Stuck);
                Fate::Busy
            });
        }
        match tier.compress(&self.memory, frame) {
            Some(bytes) => self.put_into_tier(core, frame, bytes),
            None => {
                core.counters.tier_refused += 1;
                return None;
            }
        }
        Some(Fate::Freed)
    }

    /// A page that has just been compressed to so many bytes is in the tier from now on, which has room for it.
    fn put_into_tier(&self, core: &mut Core<P>, frame: Pfn, bytes: usize) {
        let (Some(tier), Some(swap)) = (&mut core.tier, &mut core.swap) else { unreachable!("it was compressed") };
        let desc = core.table.get(frame);
        let (home, group, from, copy) = (desc.home(), desc.group(), desc.residence(), desc.copy());
        let (tag, copy) = match copy {
            Some(PageCopy::Slot(slot, tag)) => (tag, Some(slot)),
            _ => (self.memory.tag(frame, &swap.audit), None),
        };
        if copy.is_none() {
            swap.charge_page(group);
        }
        let mut entry = Entry::new(home, tag, group, bytes);
        entry.copy = copy;
        let token = core.table.take_as(frame, from);
        core.table.get_mut(frame).set_residence(Residence::None);
        // Its contents are in the compressor's buffer: the frame can be the one that they are put into.
        let needed = tier.needs_frame(bytes);
        let id = tier.insert(&self.memory, entry, needed.then_some(frame));
        if needed || tier.add_bounce(frame) {
            self.give_to_tier(core, token);
        } else {
            self.free_user(core, token);
        }
        core.turn(home, class_of(from), PageClass::AwaySlot, Record::Away(PageCopy::Tier(id, tag)));
        core.counters.pgsteal += 1;
        core.counters.tier_out += 1;
        core.counters.tier_out_bytes += bytes as u64;
    }

    /// The tier keeps the frame of a victim.
    fn give_to_tier(&self, core: &mut Core<P>, token: Frame) {
        core.counters.pgfree += 1;
        self.uncharge(core, token.pfn());
        self.frames.leak(self.frames.convert(token, FrameKind::Tier));
    }

    /// Step 11 without I/O: a page of the tier gets a frame, which is no page table's yet, and leaves the tier.
    pub(crate) fn load(
        &self,
        core: &mut Core<P>,
        (home, group): (Home, GroupId),
        (id, tag): (EntryId, Tag),
    ) -> Result<Pfn, Unloaded> {
        let token = self.alloc_user(core, group).map_err(Unloaded::Scarce)?;
        let (Some(tier), Some(swap)) = (&mut core.tier, &core.swap) else { unreachable!("the page is in the tier") };
        tier.note_return(id);
        let unpacked = tier.unpack(&self.memory, id, token.pfn());
        let good = unpacked.is_ok() && self.memory.tag(token.pfn(), &swap.audit) == tag;
        let copy = self.take_out(core, id).copy;
        if !good {
            self.lose(core, home, copy);
            self.free_user(core, token);
            return Err(Unloaded::Lost);
        }
        core.counters.tier_in += 1;
        let residence = if copy.is_some() { Residence::Clean } else { Residence::Dirty };
        let frame = core.table.settle(token, home, residence);
        core.turn(home, PageClass::AwaySlot, class_of(residence), Record::Resident(frame));
        // Before it has its copy: a page that comes from a slot would count as one that more memory had saved a read.
        core.readmit(frame);
        core.table.get_mut(frame).set_copy(copy.map(|slot| PageCopy::Slot(slot, tag)));
        Ok(frame)
    }

    /// Gives up a page that is in the tier and that nobody has any more.
    pub(crate) fn drop_from_tier(&self, core: &mut Core<P>, id: EntryId) {
        if let Some(slot) = self.take_out(core, id).copy {
            self.release_slot(core, slot);
        }
    }

    /// Takes a page out of the tier; what becomes of its slot is the caller's to say.
    fn take_out(&self, core: &mut Core<P>, id: EntryId) -> Entry {
        let Some(tier) = &mut core.tier else { unreachable!("the page is in the tier") };
        let (entry, frame) = tier.remove(&self.memory, id);
        if let Some(frame) = frame {
            self.frames.free(self.frames.adopt(frame, FrameKind::Tier, Order::PAGE));
            core.shortage.relieve();
        }
        if let (None, Some(swap)) = (entry.copy, &mut core.swap) {
            swap.uncharge_pages(entry.group, 1);
        }
        entry
    }

    /// Step 14 for a page that has left the tier.
    fn lose(&self, core: &mut Core<P>, home: Home, copy: Option<Slot>) {
        log::warn!("{home} is lost: it was compressed");
        core.counters.swap_audit_err += 1;
        core.turn(home, PageClass::AwaySlot, PageClass::Failed, Record::Failed);
        if let (Some(slot), Some(swap)) = (copy, &mut core.swap) {
            swap.release(slot);
        }
    }

    /// Begins to write the oldest pages of a tier that is nearly full, if none are being written. Those that a slot has already just go.
    pub(crate) fn write_back(&self, core: &mut Core<P>) {
        let Some(tier) = &mut core.tier else { return };
        if !tier.wants_drain() {
            return self.dismantle(core);
        }
        self.shed(core);
        let Core { tier: Some(tier), swap: Some(swap), ops, .. } = core else { return };
        let (none, nowhere) = (tier.oldest().is_none(), tier.bounce_frames().is_empty() || !swap.takes_writes());
        if none || nowhere || !ops.has_room(OpKind::WriteBack) {
            return;
        }
        let Some(run) = swap.take_run() else {
            // Where there is no slot for the oldest, others may have theirs.
            return self.shed_any(core);
        };
        let (mut writing, mut frames) = (Writing { first: run.start, ids: ArrayVec::new() }, ops.frames());
        let most = tier.bounce_frames().len().min(run.len as usize);
        let mut next = tier.oldest();
        for _ in 0..GLANCES {
            let Some(id) = next.filter(|_| writing.ids.len() < most) else { break };
            next = tier.younger(id);
            let to = tier.bounce_frames()[writing.ids.len()];
            // What cannot be read, or need not be written, is for who comes to it otherwise.
            if tier.entry(id).copy.is_none() && tier.unpack(&self.memory, id, to).is_ok() {
                writing.ids.push(Some(id));
                frames.push(self.frames.adopt(to, FrameKind::Tier, Order::PAGE).lend());
            }
        }
        let (slot, count) = (run.start, writing.ids.len() as u32);
        for rest in count..run.len {
            swap.release(Slot::new(slot.as_u32() + rest));
        }
        if count == 0 {
            return ops.put_back_frames(frames);
        }
        let Some(op) = ops.begin(OpKind::WriteBack, Target::Slots(slot), &[]) else { unreachable!("there was room") };
        tier.begin_write(writing);
        core.counters.store_writes += 1;
        self.submit(core, StoreRequest { op, kind: StoreKind::Write, slot, count, frames });
    }

    /// A tier that rests and is empty gives back what it has.
    fn dismantle(&self, core: &mut Core<P>) {
        let Some(tier) = &mut core.tier else { return };
        for frame in tier.dismantle() {
            self.frames.free(self.frames.adopt(frame, FrameKind::Tier, Order::PAGE));
            core.shortage.relieve();
        }
    }

    /// The oldest pages leave for the slots they have.
    fn shed(&self, core: &mut Core<P>) {
        for _ in 0..GLANCES {
            let Some(tier) = &core.tier else { return };
            let Some((id, slot)) = tier.oldest().and_then(|id| Some((id, tier.entry(id).copy?))) else { return };
            self.leave_for(core, id, slot);
        }
    }

    /// Of the oldest pages those leave that have slots.
    fn shed_any(&self, core: &mut Core<P>) {
        let mut next = core.tier.as_ref().and_then(|tier| tier.oldest());
        for _ in 0..GLANCES {
            let (Some(id), Some(tier)) = (next, &core.tier) else { return };
            next = tier.younger(id);
            if let Some(slot) = tier.entry(id).copy {
                self.leave_for(core, id, slot);
            }
        }
    }

    /// A page leaves for the slot it has.
    fn leave_for(&self, core: &mut Core<P>, id: EntryId, slot: Slot) {
        let Entry { home, tag, .. } = self.take_out(core, id);
        core.set_record(home.get(), Record::Away(PageCopy::Slot(slot, tag)));
        core.counters.tier_shed += 1;
    }

    /// A request of the tier's is over: its pages are in their slots, but those that were wanted, or given up, meanwhile.
    pub(crate) fn finish_write_back(&self, core: &mut Core<P>, frames: &mut IoFrames, result: Result<(), StoreError>) {
        let (Some(tier), Some(swap)) = (&mut core.tier, &mut core.swap) else { unreachable!("it was begun") };
        let Some(Writing { first, ids }) = tier.end_write(frames) else { unreachable!("it was begun") };
        let blame = if ids.len() == 1 { Blame::This } else { Blame::OneOfSeveral };
        match result {
            Ok(()) => swap.write_succeeded(),
            Err(_) => swap.write_failed(),
        }
        for (slot, id) in (first.as_u32()..).map(Slot::new).zip(ids) {
            core.counters.pswpout += u64::from(result.is_ok());
            core.counters.swap_write_err += u64::from(result.is_err());
            let Core { tier: Some(tier), swap: Some(swap), .. } = core else { unreachable!("looked at above") };
            match (id, result) {
                (Some(id), Ok(())) => {
                    let Entry { home, tag, group, .. } = self.take_out(core, id);
                    let record = Record::Away(PageCopy::Slot(slot, tag));
                    core.set_record(home.get(), record);
                    core.counters.tier_written += 1;
                    core.swap.iter_mut().for_each(|swap: &mut Swap| swap.charge(slot, group));
                }
                (None, Ok(())) => swap.release(slot),
                (id, Err(_)) => {
                    swap.give_up(slot, blame);
                    id.into_iter().for_each(|id| tier.put_back(id));
                }
            }
        }
        self.write_back(core);
    }
}

const _: () = assert!(CLUSTER <= u8::MAX as usize && PAGE_SIZE <= u16::MAX as usize);
