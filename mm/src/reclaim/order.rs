//! The way from the rest of `mm` to the policy: a frame's page comes onto the lists, leaves them, or is judged.
//!
//! Owns which lists are a frame's (those of the group it is charged to, unless it is [`super::stranded`]), the flag that says whether it is
//! on them, and what is made of the memory of a page that comes back; and the uses that Belady's minimum is asked about. Does not own the
//! order itself ([`super::policy`]), nor that memory ([`super::ghosts`]), nor what the minimum is ([`super::optimum`]).

use super::policy::{Arrival, Policy, Sample, Verdict};
use super::{Distance, Replacement, Use};
use crate::addr::Pfn;
use crate::frame::{FrameTable, Residence};
use crate::home::PackedHome;
use crate::manager::Core;
use crate::page::PageCopy;
use crate::platform::Platform;
use crate::stats::PageClass;

/// A candidate that may turn out to be unable to go, as it was before that was tried.
pub(super) struct Leaver {
    home: Option<PackedHome>,
    /// Whether Belady's minimum is asked about such pages.
    judged: bool,
}

impl<P: Platform> Core<P> {
    /// The policy of a frame's group acts on it.
    #[inline(always)]
    fn with_policy<R>(&mut self, frame: Pfn, act: impl FnOnce(&mut Replacement, &mut FrameTable) -> R) -> R {
        let Self { policy, groups, table, .. } = self;
        match groups.get_mut(table.get(frame).group()) {
            Some(group) => act(&mut group.policy, table),
            None => act(policy, table),
        }
    }

    /// Puts a page on the policy's lists of which nothing is known.
    #[inline(always)]
    pub fn admit(&mut self, frame: Pfn) {
        self.note_listed(frame);
        // Without a closure, which the compiler does not always inline: every new page comes this way.
        let Self { policy, groups, table, .. } = self;
        match groups.get_mut(table.get(frame).group()) {
            Some(group) => group.policy.admit(table, frame, Arrival::New),
            None => policy.admit(table, frame, Arrival::New),
        }
    }

    /// As [`Self::admit`], for a page whose contents were away: it may have left only a short while ago.
    pub fn readmit(&mut self, frame: Pfn) {
        let desc = self.table.get(frame);
        let distance = self.ghosts.recall(desc.packed_home());
        let file = desc.copy() == Some(PageCopy::File);
        let made = !file && !matches!(desc.copy(), Some(PageCopy::Slot(..)));
        let wanted = made || desc.holds() > 0;
        // What nobody waits for is not used yet; of files, whether what was read ahead proves useful is not told, so all counts.
        if wanted || file {
            self.note_use(frame, if made { Use::Made } else { Use::Read });
        }
        if let Some(distance) = distance
            && !made
        {
            self.counters.more_memory.note(distance, self.total_frames as usize);
        }
        let window = self.with_policy(frame, |policy, _| Distance(Replacement::WINDOW * policy.len()));
        let soon = distance.filter(|distance| *distance <= window);
        self.counters.workingset_refault += u64::from(distance.is_some());
        self.counters.workingset_activate += u64::from(soon.is_some());
        let arrival = match soon {
            None => Arrival::New,
            Some(distance) if wanted => Arrival::Returned(distance),
            Some(_) => Arrival::BroughtAlong,
        };
        self.admit_as(frame, arrival);
    }

    /// As [`Self::admit`], for a page of which something is known.
    pub fn admit_as(&mut self, frame: Pfn, arrival: Arrival) {
        self.note_listed(frame);
        self.with_policy(frame, |policy, table| policy.admit(table, frame, arrival));
    }

    #[inline(always)]
    pub(super) fn note_listed(&mut self, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        debug_assert!(!desc.listed());
        desc.set_listed(true);
    }

    /// Takes a page off the lists, if it is on any.
    #[inline(always)]
    pub fn forget(&mut self, frame: Pfn) {
        if self.table.get(frame).listed() {
            if self.is_stranded(frame) {
                self.stranded.remove(&mut self.table, frame);
            } else {
                self.with_policy(frame, |policy, table| policy.forget(table, frame));
            }
            self.table.get_mut(frame).set_listed(false);
        }
    }

    /// A page is of no use: if it is on the policy's lists, it is the next to be looked at.
    pub fn demote(&mut self, frame: Pfn) {
        if self.table.get(frame).listed() && !self.is_stranded(frame) {
            self.with_policy(frame, |policy, table| policy.demote(table, frame));
        }
    }

    /// The policy decides about its candidate. A page that is to go is on no list any more.
    pub(super) fn judge(&mut self, frame: Pfn, sample: Sample) -> Verdict {
        if sample != Sample::Idle && self.table.get(frame).residence() != Residence::Table {
            self.note_use(frame, Use::Found);
        }
        let verdict = self.with_policy(frame, |policy, table| policy.judge(table, frame, sample));
        if verdict == Verdict::Evict {
            self.table.get_mut(frame).set_listed(false);
        }
        verdict
    }

    /// What will have to be noted if this candidate can go.
    pub(super) fn leaver(&self, frame: Pfn) -> Leaver {
        let desc = self.table.get(frame);
        let home = (desc.residence() != Residence::Table).then(|| desc.packed_home());
        Leaver { home, judged: desc.group().is_root() }
    }

    /// It is gone, or on its way, while so many frames are free. Pages are remembered; tables have no home to be remembered by. What groups
    /// have is not the best policy's to use either.
    pub(super) fn note_gone(&mut self, Leaver { home, judged }: Leaver, free: usize) {
        let Self { optimum, ghosts, policy, stranded, pages, .. } = self;
        ghosts.count_eviction();
        if let Some(home) = home {
            ghosts.remember(home);
        }
        if judged {
            let under_way = [PageClass::Filling, PageClass::Cleaning, PageClass::Evicting];
            optimum.note_eviction(|| {
                free + under_way.iter().map(|class| pages.get(*class) as usize).sum::<usize>()
                    + policy.len()
                    + stranded.len()
            });
        }
    }

    /// A page of the machine's is known to be used now. The pages of groups are not judged: what a group may have keeps them from memory, not
    /// the policy.
    pub fn note_use(&mut self, frame: Pfn, how: Use) {
        let desc = self.table.get(frame);
        if desc.group().is_root() {
            self.optimum.note_use(desc.packed_home().into(), how);
        }
    }
}
