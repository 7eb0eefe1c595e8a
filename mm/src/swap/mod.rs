//! Swap: slots of the store, and the audit of what they hold.
//!
//! Owns which slots are free ([`SlotMap`]), the open run that the next victims go to, the discards that wait to be sent, and the decision
//! how far to read ahead ([`readahead`]). Does
//! not own the device (that is [`crate::platform::BackingStore`]), nor the pages: their records carry slot and tag.

mod audit;
mod owners;
pub mod readahead;
mod slots;

pub use audit::{Audit, fill_pattern};
pub use slots::{SlotCounts, SlotMap, SlotRun};

use crate::group::GroupId;
use crate::manager::NoMemory;
use crate::platform::{CLUSTER, Discards, Slot};
use alloc::{vec, vec::Vec};
use owners::Owners;

/// Slots in a cluster, as a count of slots.
const CLUSTER_SLOTS: u32 = CLUSTER as u32;
/// Runs below this make it worth to empty sparse clusters.
const SHORT_RUN: u32 = CLUSTER_SLOTS / 2;
/// Slots in use in a cluster that is worth emptying.
const SPARSE: u32 = CLUSTER_SLOTS / 4;
/// Most slots in one discard: 256 MiB, well below what devices take at once.
const DISCARD_LIMIT: u32 = 1 << 16;
/// Writes that fail in a row before the disk as a whole is taken for the cause, and not one slot.
const FAILURES_OF_A_DISK: u32 = 8;

/// What a write that failed says about one of its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// It is bad.
    This,
    /// One of those written at once is.
    OneOfSeveral,
}

/// A set of clusters, one bit each, named by their first slot.
struct Clusters {
    words: Vec<u64>,
    /// How many are in it: whether there are any is asked at every completion.
    count: usize,
}

impl Clusters {
    /// The empty set of the clusters of a device.
    fn new(slots: u32) -> Self {
        Self { words: vec![0; (slots / CLUSTER_SLOTS) as usize / 64 + 1], count: 0 }
    }
    fn place(start: Slot) -> (usize, u64) {
        let index = start.as_u32() / CLUSTER_SLOTS;
        (index as usize / 64, 1 << (index % 64))
    }
    fn contains(&self, start: Slot) -> bool {
        let (word, bit) = Self::place(start);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }
    fn insert(&mut self, start: Slot) {
        let (word, bit) = Self::place(start);
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }
    fn remove(&mut self, start: Slot) {
        let (word, bit) = Self::place(start);
        self.count -= usize::from(self.words[word] & bit != 0);
        self.words[word] &= !bit;
    }
    fn clear(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }
    /// The clusters in the set, in order.
    fn starts(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let set = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        set.flat_map(|(index, word)| Self::in_word(index, *word))
    }
    fn in_word(index: usize, word: u64) -> impl Iterator<Item = Slot> {
        let set = (0..64).filter(move |bit| word >> bit & 1 == 1);
        set.map(move |bit| Slot::new((index as u32 * 64 + bit) * CLUSTER_SLOTS))
    }
}

/// State of the swap device's slots.
pub struct Swap {
    /// The bitmap.
    pub slots: SlotMap,
    /// Hashes pages.
    pub audit: Audit,
    /// What is left of the run that victims are being put into.
    run: Option<SlotRun>,
    /// Whole free clusters that are reserved until the device has discarded them.
    discards: Clusters,
    /// Clusters that were written since they were last discarded.
    written: Clusters,
    device: Discards,
    /// Clusters that are being emptied: those marked since the walk over all pages began its lap, and those marked in the lap before.
    marked: [Clusters; 2],
    /// Clusters in which a write of several slots failed. From then on they are written to one slot at a time, so that
    /// the bad one is found and the others are not lost with it.
    suspects: Clusters,
    /// Writes that failed since the last that did not.
    failures: u32,
    /// Length of the run opened last.
    last_run: u32,
    owners: Owners,
}

impl Swap {
    /// All slots of a device free but the first.
    pub fn new(slots: u32, device: Discards, key: u64) -> Self {
        let set = || Clusters::new(slots);
        let (discards, written, marked, last_run) = (set(), set(), [set(), set()], CLUSTER_SLOTS);
        let (suspects, failures) = (set(), 0);
        Self {
            slots: SlotMap::new(slots),
            audit: Audit::new(key),
            run: None,
            discards,
            written,
            device,
            marked,
            suspects,
            failures,
            last_run,
            owners: Owners::default(),
        }
    }

    /// The next slot of the open run, opening one if need be; and whether it begins a new run.
    pub fn next_slot(&mut self) -> Option<(Slot, bool)> {
        let (run, fresh) = match self.run.take() {
            Some(run) => (run, false),
            None => (self.take_run()?, true),
        };
        let rest = SlotRun { start: Slot::new(run.start.as_u32() + 1), len: run.len - 1 };
        self.run = (rest.len > 0).then_some(rest);
        Some((run.start, fresh))
    }

    /// Takes a run of slots, from which the caller gives back what is not needed.
    pub fn take_run(&mut self) -> Option<SlotRun> {
        let mut run = self.slots.take_run(|cluster| self.marked.iter().any(|set| set.contains(cluster)))?;
        self.last_run = run.len;
        if self.suspects.contains(run.start) {
            for rest in 1..core::mem::replace(&mut run.len, 1) {
                let _first_is_taken = self.slots.release(Slot::new(run.start.as_u32() + rest));
            }
        }
        // It was empty, or the last there is: in use again, either way.
        self.marked.iter_mut().for_each(|set| set.remove(run.start));
        self.written.insert(run.start);
        Some(run)
    }

    /// Whether the last run was not worth its request.
    pub fn runs_are_short(&self) -> bool {
        self.last_run < SHORT_RUN && self.slots.whole_clusters() == 0 && self.takes_writes()
    }

    /// Whether the device is worth writing to. If not, a page that has a copy keeps it: it has no other way out.
    pub fn takes_writes(&self) -> bool {
        self.failures < FAILURES_OF_A_DISK
    }

    /// Whether a page gives up its copy when it comes in (design D8).
    pub fn copies_are_dear(&self) -> bool {
        self.slots.scarce() && self.takes_writes()
    }

    /// Marks the emptiest clusters to be emptied until about `pages` slots are in use in those marked in this lap.
    pub fn mark_sparse_clusters(&mut self, pages: u32) {
        let [fresh, old] = &mut self.marked;
        let in_use = fresh.starts().map(|start| self.slots.cluster_use(start)).sum();
        let mut left = pages.saturating_sub(in_use);
        for most in [SPARSE / 4, SPARSE / 2, SPARSE] {
            if left == 0 {
                return;
            }
            for start in self.slots.sparse_clusters(most) {
                let used = self.slots.cluster_use(start);
                if used <= left && !fresh.contains(start) && !old.contains(start) {
                    left -= used;
                    fresh.insert(start);
                }
            }
        }
    }

    /// A lap is round: what was marked before it has been seen by all of it.
    pub fn forget_old_marks(&mut self) {
        self.marked.swap(0, 1);
        self.marked[0].clear();
    }

    /// Whether the cluster of a slot is being emptied.
    pub fn is_marked(&self, slot: Slot) -> bool {
        self.marked.iter().any(|set| set.contains(slot))
    }

    /// Begins to keep which group each slot is charged to.
    pub fn keep_owners(&mut self) -> Result<(), NoMemory> {
        self.owners.keep(self.slots.counts().total + 1)
    }

    /// Charges a slot that a page is put into.
    pub fn charge(&mut self, slot: Slot, group: GroupId) {
        self.owners.charge(slot, group);
    }

    /// Charges a page of the compressed tier, as if it were in a slot.
    pub fn charge_page(&mut self, group: GroupId) {
        self.owners.charge_page(group);
    }

    /// So many pages of the tier are gone.
    pub fn uncharge_pages(&mut self, group: GroupId, pages: u32) {
        self.owners.uncharge_pages(group, pages);
    }

    /// The group that a slot is charged to.
    pub fn owner(&self, slot: Slot) -> GroupId {
        self.owners.of(slot)
    }

    /// Slots charged to a group.
    pub fn charged(&self, group: GroupId) -> u64 {
        self.owners.charged(group)
    }

    /// Makes the root the owner of a group's slots, `count` of all at a time. Returns where to go on.
    pub fn disown(&mut self, group: GroupId, start: usize, count: usize) -> Option<usize> {
        self.owners.disown(group, start, count)
    }

    /// A write has been done.
    pub fn write_succeeded(&mut self) {
        self.failures = 0;
    }

    /// A write has failed, once for all its slots.
    pub fn write_failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Gives up a slot of a write that failed: for ever if it is to blame, or if the disk fails all the time; else its
    /// cluster is suspect.
    pub fn give_up(&mut self, slot: Slot, blame: Blame) {
        if blame == Blame::This || !self.takes_writes() {
            return self.retire(slot);
        }
        self.suspects.insert(slot);
        self.release(slot);
    }

    /// Never uses a slot again: the device could not read or write it.
    pub fn retire(&mut self, slot: Slot) {
        self.owners.uncharge(slot);
        self.slots.retire(slot);
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
        self.room() > 0
    }

    /// How many could.
    pub fn room(&self) -> usize {
        (self.open_slots() + self.slots.counts().free) as usize
    }

    /// Slots in the open run.
    pub fn open_slots(&self) -> u32 {
        self.run.map_or(0, |run| run.len)
    }

    /// Frees a slot.
    pub fn release(&mut self, slot: Slot) {
        self.owners.uncharge(slot);
        let _whole = self.slots.release(slot);
    }

    /// Frees a slot whose page is gone for good, and queues its cluster for discarding if that is empty now. Slots that are freed
    /// because their page changed are not worth a request: they are soon written again.
    pub fn release_for_good(&mut self, slot: Slot) {
        self.owners.uncharge(slot);
        if let Some(cluster) = self.slots.release(slot) {
            self.queue_discard(cluster.start);
        }
    }

    /// Queues every free cluster that the device still has contents of: a program has ended, and what it left behind is over.
    pub fn discard_all_free(&mut self) {
        for index in 0..self.written.words.len() {
            // Clusters of one word at a time, by value: the queue changes the set.
            for start in Clusters::in_word(index, self.written.words[index]) {
                if self.slots.is_cluster_free(start) {
                    self.queue_discard(start);
                }
            }
        }
    }

    fn queue_discard(&mut self, start: Slot) {
        if self.device == Discards::Wanted && self.slots.reserve_cluster(start) {
            self.written.remove(start);
            self.discards.insert(start);
        }
    }

    /// Takes the first run of adjacent clusters that wait to be discarded: first slot and number of slots.
    pub fn take_discard(&mut self) -> Option<(Slot, u32)> {
        let start = self.discards.starts().next()?;
        let mut end = start;
        while self.discards.contains(end) && end.as_u32() - start.as_u32() < DISCARD_LIMIT {
            self.discards.remove(end);
            end = Slot::new(end.as_u32() + CLUSTER_SLOTS);
        }
        Some((start, end.as_u32() - start.as_u32()))
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
        let discards = self.discards.starts().map(|start| (start, CLUSTER_SLOTS));
        run.chain(discards).flat_map(|(start, len)| (start.as_u32()..start.as_u32() + len).map(Slot::new))
    }

    /// Whether clusters wait to be discarded.
    pub fn has_discards(&self) -> bool {
        debug_assert_eq!(self.discards.count, self.discards.starts().count());
        self.discards.count > 0
    }
}
