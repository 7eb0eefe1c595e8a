//! Counters, and the identities that tie them together.
//!
//! Owns the counts: events since boot ([`Counters`], with the names of Linux's `/proc/vmstat` where it has one) and how many pages are
//! in which state ([`PageCounts`]). All are behind the manager's lock. [`Snapshot::check`] asserts that the sums agree.

use crate::anon::AnonCounts;
use crate::frame::{FrameCounts, FrameKind};
use crate::ops::OpCounts;
use crate::reclaim::{Judged, MissCurve};
use crate::rmap::MapPoolCounts;
use crate::swap::SlotCounts;
use crate::tier::TierCounts;

/// Events since boot.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation: Linux's vmstat, or explained beside")]
pub struct Counters {
    /// Faults begun; at rest = minor + major + failed.
    pub pgfault: u64,
    /// Faults that were served without the store.
    pub pgminfault: u64,
    /// Faults that waited for the store.
    pub pgmajfault: u64,
    /// Faults that ended in an error, or whose thread was killed meanwhile.
    pub pgfailfault: u64,
    /// Pages read from the store, whether anybody still wants them by then or not: the store counts the same.
    pub pswpin: u64,
    /// Pages written to the store, likewise.
    pub pswpout: u64,
    /// Pieces of copies between a program and an object that found too few pins left for their pages, and waited.
    pub pin_waits: u64,
    /// Pages read ahead of one that was wanted.
    pub swap_ra: u64,
    /// Those of them that were used.
    pub swap_ra_hit: u64,
    /// Those of them that went without having been used.
    pub swap_ra_waste: u64,
    /// Pages that left as a repeated word, without I/O.
    pub swpout_zero: u64,
    /// Pages that came back from a repeated word.
    pub swpin_zero: u64,
    /// Pages that were put into the compressed tier, and bytes they came to there.
    pub tier_out: u64,
    pub tier_out_bytes: u64,
    /// Pages that came back from there.
    pub tier_in: u64,
    /// Pages that did not get smaller.
    pub tier_refused: u64,
    /// Pages that left it for the device, written or because a slot had them already.
    pub tier_written: u64,
    pub tier_shed: u64,
    /// Candidates looked at by reclaim.
    pub pgscan: u64,
    /// Frames freed by reclaim.
    pub pgsteal: u64,
    /// Pages evicted for free, because their copy was still good.
    pub pgdrop_clean: u64,
    /// Pages that came back while it was remembered that they had been here; those of them that came back soon enough to be worth more.
    pub workingset_refault: u64,
    pub workingset_activate: u64,
    /// Pages that were read back and would have stayed with more memory.
    pub more_memory: MissCurve,
    /// Victims touched before they were gone.
    pub pgrescued: u64,
    /// Frames given to pages.
    pub pgalloc: u64,
    /// Frames taken back from pages.
    pub pgfree: u64,
    /// Pages zeroed when they were needed.
    pub pgzeroed: u64,
    /// Pages that got a frame zeroed in advance.
    pub pgzero_pre: u64,
    /// Page tables dropped with live entries.
    pub ptdrop: u64,
    /// Pages read from files, and written to them.
    pub pgfilein: u64,
    pub pgfileout: u64,
    /// Requests to the store of files, by kind, when they are begun; those that came back; pages on which they failed.
    pub file_reads: u64,
    pub file_writes: u64,
    pub file_prepares: u64,
    pub file_completed: u64,
    pub file_read_err: u64,
    pub file_write_err: u64,
    /// Mappings given up because the pool of further mappings was empty.
    pub pgunmap_pool: u64,
    /// Pages copied because one of those who shared them wrote to them.
    pub pgcow: u64,
    /// Pages that a child was given by a fork.
    pub pgfork: u64,
    /// Times a fault waited for a free frame.
    pub allocstall: u64,
    /// Requests to the store, by kind, when they are begun.
    pub store_reads: u64,
    pub store_writes: u64,
    pub store_discards: u64,
    /// Requests that came back.
    pub store_completed: u64,
    /// Reads that failed twice.
    pub swap_read_err: u64,
    /// Pages whose write failed, each time.
    pub swap_write_err: u64,
    /// Pages that came back with other contents than they left with.
    pub swap_audit_err: u64,
    /// Clean copies given up because slots were scarce.
    pub swap_copy_dropped: u64,
    /// Pages that were away and moved, so that a cluster of slots becomes free as a whole.
    pub swap_rewritten: u64,
    /// Times memory ran out.
    pub oom_kill: u64,
}

/// The states pages are counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PageClass {
    /// No record.
    Absent,
    /// On the shared frame of zeroes.
    Zero,
    /// Being read in.
    Filling,
    /// In a frame, equal to its copy.
    Clean,
    /// In a frame only.
    Dirty,
    /// Being written out, and wanted.
    Cleaning,
    /// Being written out to be evicted.
    Evicting,
    /// In a slot, or in the compressed tier, from which it goes to one.
    AwaySlot,
    /// A repeated word.
    AwayFill,
    /// Lost.
    Failed,
    /// In a space's index: shared, and counted by its state elsewhere. A page that n spaces have counts n times here.
    Shared,
    /// In a space's counts only: pages of objects that its page tables refer to.
    ObjectMapped,
}

/// Pages in each state.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct PageCounts {
    counts: [u64; 12],
}

impl PageCounts {
    /// Pages in a state.
    pub fn get(&self, class: PageClass) -> u64 {
        self.counts[class as usize]
    }
    /// One page goes from one state to another.
    pub(crate) fn shift(&mut self, from: PageClass, to: PageClass) {
        if from != PageClass::Absent {
            self.counts[from as usize] -= 1;
        }
        if to != PageClass::Absent {
            self.counts[to as usize] += 1;
        }
    }
    /// Many pages of one state are gone.
    pub(crate) fn remove(&mut self, from: PageClass, pages: u64) {
        self.counts[from as usize] -= pages;
    }
    /// Pages with a frame of their own, those being read in included.
    pub fn framed(&self) -> u64 {
        use PageClass::*;
        [Filling, Clean, Dirty, Cleaning, Evicting].map(|c| self.get(c)).iter().sum()
    }
    /// Pages in RAM: a space's own, and of objects those it has mapped. Of the pages that it shares since a fork these counts know only
    /// how many there are: see [`Mm::footprint`](crate::manager::Mm::footprint).
    pub fn resident(&self) -> u64 {
        use PageClass::*;
        [Clean, Dirty, Cleaning, Evicting, ObjectMapped].map(|c| self.get(c)).iter().sum()
    }
    /// Pages not in RAM.
    pub fn away(&self) -> u64 {
        self.get(PageClass::AwaySlot) + self.get(PageClass::AwayFill)
    }
    fn committed(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The four states of a page that the outside sees.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct VisiblePages {
    /// Mapped but never referenced.
    pub uncommitted: u64,
    /// In RAM, equal to a copy elsewhere or to zeroes.
    pub committed_clean: u64,
    /// In RAM only.
    pub committed_dirty: u64,
    /// Not in RAM.
    pub paged_out: u64,
}

impl VisiblePages {
    /// From pages mapped in all spaces, pages by state, and how many of those are not private.
    pub(crate) fn of(mapped: u64, pages: &PageCounts, shared: u64) -> Self {
        use PageClass::*;
        let get = |classes: &[PageClass]| classes.iter().map(|&c| pages.get(c)).sum();
        Self {
            uncommitted: mapped.saturating_sub(pages.committed() - shared),
            committed_clean: get(&[Zero, Clean]),
            committed_dirty: get(&[Dirty, Cleaning, Evicting]),
            paged_out: get(&[AwaySlot, AwayFill, Filling, Failed]),
        }
    }

    /// The larger of each count.
    pub fn max(self, other: Self) -> Self {
        Self {
            uncommitted: self.uncommitted.max(other.uncommitted),
            committed_clean: self.committed_clean.max(other.committed_clean),
            committed_dirty: self.committed_dirty.max(other.committed_dirty),
            paged_out: self.paged_out.max(other.paged_out),
        }
    }
}

/// Everything counted, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Events since boot.
    pub counters: Counters,
    /// Pages by state.
    pub pages: PageCounts,
    /// The four visible states.
    pub visible: VisiblePages,
    /// Largest of each visible count in any snapshot so far.
    pub peak: VisiblePages,
    /// Frames by use.
    pub frames: FrameCounts,
    /// Anonymous pages that several spaces have.
    pub anons: AnonCounts,
    /// Mappings beyond the first of each frame.
    pub mappings: MapPoolCounts,
    /// Frames whose page is gone while the device works on them.
    pub orphaned_io: u64,
    /// What was read and what had to be.
    pub judged: Judged,
    /// Frames held back from reclaim for threads that just faulted on them.
    pub held: u64,
    /// Of these, those that are pinned for a copy between a program and an object.
    pub pinned: u64,
    /// Pages of files that differ from what their store has.
    pub dirty_files: u64,
    /// Pages that were read ahead and are neither used nor gone yet.
    pub on_probation: u64,
    /// Swap slots; `None` without swap.
    pub slots: Option<SlotCounts>,
    /// The compressed tier, if there is one.
    pub tier: Option<TierCounts>,
    /// Slots of the run that is open for victims.
    pub open_slots: u32,
    /// Operations under way.
    pub ops: OpCounts,
    /// Frames given to operations that are not yet under way.
    pub batched: u64,
    /// Faults under way.
    pub faults_waiting: u64,
}

impl Snapshot {
    /// Asserts the identities of the design's `count-what-you-claim`.
    ///
    /// # Panics
    /// With the identity that does not hold.
    pub fn check(&self) {
        let c = &self.counters;
        let served = c.pgminfault + c.pgmajfault + c.pgfailfault;
        assert_eq!(c.pgfault, served + self.faults_waiting, "faults = minor + major + failed + waiting");
        let used: usize = self.frames.used.iter().sum();
        assert_eq!(self.frames.total, self.frames.free + used, "frames = free + used");
        let user = self.frames.used[FrameKind::User as usize] as u64;
        assert_eq!(
            user,
            self.pages.framed() + self.orphaned_io,
            "user frames = filling + clean + dirty + cleaning + evicting + orphaned"
        );
        assert_eq!(c.pgalloc - c.pgfree, user, "user frames = allocated - freed");
        assert_eq!(
            self.pages.get(PageClass::Shared),
            self.anons.refs,
            "records that say shared = references to shared pages"
        );
        assert!(self.anons.refs >= self.anons.pages, "nobody has a shared page");
        let judged = c.swap_ra_hit + c.swap_ra_waste;
        assert_eq!(c.swap_ra, judged + self.on_probation, "read ahead = used + wasted + on probation");
        let pool = self.mappings;
        assert_eq!(pool.size, pool.used + pool.free, "further mappings = used + free");
        let submitted = c.store_reads + c.store_writes + c.store_discards;
        let of_files = c.file_reads + c.file_writes + c.file_prepares;
        let in_flight = self.ops.total() as u64;
        let completed = c.store_completed + c.file_completed;
        assert_eq!(submitted + of_files, completed + in_flight, "requests = completed + in flight");
        assert!(self.pinned <= (self.frames.total as u64).div_ceil(8), "pins have a permit each");
        let tier = self.tier.unwrap_or_default();
        let of_tier = self.frames.used[FrameKind::Tier as usize] as u64;
        assert_eq!(of_tier, tier.frames + tier.bounce, "frames of the tier");
        assert!(tier.frames <= tier.limit, "the tier keeps to its limit");
        if let Some(slots) = self.slots {
            assert_eq!(slots.total, slots.free + slots.used + slots.bad, "slots = free + used + bad");
            assert!(
                u64::from(slots.used) + tier.pages >= self.pages.get(PageClass::AwaySlot) + u64::from(self.open_slots),
                "slots and the tier hold the pages away"
            );
        }
    }
}
