//! Swap: slots of the store, and the audit of what they hold.
//!
//! Owns which slots are free ([`SlotMap`]), the open run that the next victims go to, and the discards that wait to be sent. Does
//! not own the device (that is [`crate::platform::BackingStore`]), nor the pages: their records carry slot and tag.

mod audit;
mod slots;

pub use audit::{Audit, fill_pattern};
pub use slots::{SlotCounts, SlotMap, SlotRun};

use crate::platform::Slot;
use arrayvec::ArrayVec;

/// Clusters that may wait to be discarded; more are freed without telling the device.
const DISCARDS: usize = 64;

/// State of the swap device's slots.
pub struct Swap {
    /// The bitmap.
    pub slots: SlotMap,
    /// Hashes pages.
    pub audit: Audit,
    /// What is left of the run that victims are being put into.
    run: Option<SlotRun>,
    /// Whole free clusters, reserved until the device has discarded them.
    discards: ArrayVec<Slot, DISCARDS>,
    can_discard: bool,
}

impl Swap {
    /// All slots of a device free but the first.
    pub fn new(slots: u32, can_discard: bool, key: u64) -> Self {
        Self { slots: SlotMap::new(slots), audit: Audit::new(key), run: None, discards: ArrayVec::new(), can_discard }
    }

    /// The next slot of the open run, opening one if need be; and whether it begins a new run.
    pub fn next_slot(&mut self) -> Option<(Slot, bool)> {
        let (run, fresh) = match self.run.take() {
            Some(run) => (run, false),
            None => (self.slots.take_run()?, true),
        };
        let rest = SlotRun { start: Slot::new(run.start.as_u32() + 1), len: run.len - 1 };
        self.run = (rest.len > 0).then_some(rest);
        Some((run.start, fresh))
    }

    /// Gives back what is left of the open run, which counts as used while it is open.
    pub fn close_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        for slot in run.start.as_u32()..run.start.as_u32() + run.len {
            self.release(Slot::new(slot));
        }
    }

    /// Whether a page could be written out now.
    pub fn has_room(&self) -> bool {
        self.run.is_some() || self.slots.counts().free > 0
    }

    /// Slots in the open run.
    pub fn open_slots(&self) -> u32 {
        self.run.map_or(0, |run| run.len)
    }

    /// Frees a slot.
    pub fn release(&mut self, slot: Slot) {
        let _whole = self.slots.release(slot);
    }

    /// Frees a slot whose page is gone for good, and queues its cluster for discarding if that is empty now. Slots that are freed
    /// because their page changed are not worth a request: they are soon written again.
    pub fn release_for_good(&mut self, slot: Slot) {
        let Some(cluster) = self.slots.release(slot) else {
            return;
        };
        if self.can_discard && !self.discards.is_full() && self.slots.reserve_cluster(cluster.start) {
            self.discards.push(cluster.start);
        }
    }

    /// Takes the longest run of adjacent clusters off the queue of discards: first slot and number of slots.
    pub fn take_discard(&mut self) -> Option<(Slot, u32)> {
        self.discards.sort_unstable();
        let last = *self.discards.last()?;
        let mut start = self.discards.pop()?.as_u32();
        while self.discards.last().is_some_and(|s| s.as_u32() + 64 == start) {
            start -= 64;
            self.discards.pop();
        }
        Some((Slot::new(start), last.as_u32() + 64 - start))
    }

    /// Slots that wait for or are under a discard count as used; this ends one.
    pub fn finish_discard(&mut self, slot: Slot, count: u32) {
        for slot in slot.as_u32()..slot.as_u32() + count {
            let _whole = self.slots.release(Slot::new(slot));
        }
    }

    /// Slots that count as used although nothing is in them: what is left of the open run, and what waits to be discarded.
    #[cfg(feature = "sim")]
    pub fn reserved(&self) -> impl Iterator<Item = Slot> {
        let run = self.run.iter().map(|run| (run.start, run.len));
        let discards = self.discards.iter().map(|start| (*start, 64));
        run.chain(discards).flat_map(|(start, len)| (start.as_u32()..start.as_u32() + len).map(Slot::new))
    }

    /// Whether clusters wait to be discarded.
    pub fn has_discards(&self) -> bool {
        !self.discards.is_empty()
    }
}
