//! Memory groups: how much of the machine a set of programs may have (cgroup2's `memory.max` and `memory.swap.max`).
//!
//! Owns the limits, what is charged to each group, and what happens inside a group that is at its limit: it reclaims from its own pages,
//! and when none of them can go, one of its own programs ends. Does not own which process is in which group (the kernel knows), nor
//! frames and slots, which carry the name of the group they are charged to. Neighbours: [`crate::reclaim`], which frees pages for a
//! group as it does for the machine, and [`crate::shortage`], whose first decision is made once for the machine and once for each group.
//!
//! A frame is charged to the group of the program that faulted it in and stays charged until it is free, wherever that program goes
//! (Linux's rule, "Memory Ownership" in its `cgroup-v2.rst`). What is charged to nobody else is the root's; the root has no limit, and
//! nothing is counted for it, so a program in it pays one comparison for a frame.

use crate::addr::Pfn;
use crate::frame::Frame;
use crate::manager::{Core, Mm, NoMemory};
use crate::platform::Platform;
use crate::reclaim::{Policy, Replacement};
use crate::shortage::{FrameWaiters, Shortage};
use crate::space::SpaceId;
use crate::swap::Swap;
use crate::victim::Scope;
use alloc::boxed::Box;
use core::ops::ControlFlow;

/// Most groups beside the root: their names have four bits in a frame's descriptor.
pub const MAX_GROUPS: usize = 15;

/// Name of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupId(u8);

impl GroupId {
    /// Everybody who is in no other group.
    pub const ROOT: Self = Self(0);

    pub(crate) fn new(raw: u8) -> Self {
        debug_assert!(usize::from(raw) <= MAX_GROUPS);
        Self(raw)
    }
    pub(crate) fn raw(self) -> u8 {
        self.0
    }
    /// All but the root.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..=MAX_GROUPS as u8).map(Self)
    }
    /// Its place among those that are not the root.
    pub(crate) fn index(self) -> usize {
        debug_assert!(!self.is_root());
        usize::from(self.0) - 1
    }
    /// A number of its own, the root's being zero.
    pub fn number(self) -> u8 {
        self.0
    }
    /// Whether this is the root.
    pub fn is_root(self) -> bool {
        self == Self::ROOT
    }
}

/// What a group may have; `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupLimits {
    /// Frames of pages.
    pub frames: Option<u64>,
    /// Slots of swap.
    pub slots: Option<u64>,
}

/// What happened in a group since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are those of memory.events and memory.stat")]
pub struct GroupEvents {
    /// A page was to be charged and there was no room, or none that was not set aside for who had waited.
    pub max: u64,
    /// Nothing in the group could go.
    pub oom: u64,
    /// A program was ended because memory had run out, here or in the machine.
    pub oom_kill: u64,
    pub pgscan: u64,
    pub pgsteal: u64,
}

/// A group at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupStats {
    /// What it may have.
    pub limits: GroupLimits,
    /// Frames charged to it.
    pub frames: u64,
    /// The most there ever were.
    pub frames_peak: u64,
    /// Slots charged to it.
    pub slots: u64,
    /// What happened.
    pub events: GroupEvents,
}

/// What a group's reclaim is to bring about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Wish {
    /// Nobody has asked for anything.
    #[default]
    Nothing,
    /// It has more than it may have since its limit was set.
    Less,
    /// Somebody waits for room for a page. A limit of nothing never has any: then somebody ends.
    Room,
}

/// One group.
#[derive(Default)]
pub(crate) struct Group {
    limits: GroupLimits,
    charged: u64,
    peak: u64,
    /// Charged frames that are being written out so as to be freed.
    leaving: u64,
    /// The order in which its resident pages go.
    pub policy: Replacement,
    pub shortage: Shortage,
    wish: Wish,
    /// Candidates looked at since one went.
    fruitless: usize,
    pub events: GroupEvents,
    /// It is being removed: nothing more is charged to it, and it has no limits.
    going: bool,
}

/// How far below its limit a group is brought once it is at it: an eighth, but not much on the scale of one write.
const MOST_SLACK: u64 = 64;

impl Group {
    /// What it may have.
    pub fn limits(&self) -> GroupLimits {
        self.limits
    }

    /// Frames it has.
    #[cfg(feature = "sim")]
    pub fn charged(&self) -> u64 {
        self.charged
    }

    /// Frames that it may have beside those it has.
    fn room(&self) -> usize {
        self.limits.frames.map_or(usize::MAX, |most| most.saturating_sub(self.charged) as usize)
    }

    /// Nothing can go. `false` if somebody is on its way out already.
    pub fn declare(&mut self) -> bool {
        let declared = self.shortage.declare();
        self.events.oom += u64::from(declared);
        declared
    }

    fn target(&self) -> u64 {
        self.limits.frames.map_or(u64::MAX, |most| most - (most / 8).clamp(1, MOST_SLACK).min(most))
    }

    /// Whether enough of it is free with so many pages.
    fn is_enough(&self, charged: u64) -> bool {
        charged <= self.target() && !(self.wish == Wish::Room && self.limits.frames == Some(0))
    }

    /// Whether enough of it is free.
    fn is_relieved(&self) -> bool {
        self.is_enough(self.charged)
    }

    /// Whether enough of it will be free if the writes under way come to their ends and nobody touches what is written.
    fn will_be_relieved(&self) -> bool {
        self.is_enough(self.charged - self.leaving)
    }

    /// Frames under I/O: all others are on the list.
    fn in_transit(&self) -> u64 {
        self.charged - self.policy.len() as u64
    }
}

/// All groups but the root.
pub(crate) struct Groups {
    slots: [Option<Box<Group>>; MAX_GROUPS],
    count: usize,
    /// Who waits for room in each. Not in the groups: who was woken as one went may run when there is another by its name.
    waiters: Box<[FrameWaiters]>,
    /// Whose turn it is when the whole machine reclaims, in pages.
    turn: usize,
    /// Who goes first when several groups are at their limits.
    served: usize,
}

impl Groups {
    pub fn new() -> Self {
        let waiters = (0..MAX_GROUPS).map(|_| FrameWaiters::new(0)).collect();
        Self { slots: Default::default(), count: 0, waiters, turn: 0, served: 0 }
    }

    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.slots.get(usize::from(id.0).checked_sub(1)?)?.as_deref()
    }
    pub fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slots.get_mut(usize::from(id.0).checked_sub(1)?)?.as_deref_mut()
    }
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.slots.iter().enumerate().filter_map(|(i, group)| Some((GroupId(i as u8 + 1), group.as_deref()?)))
    }
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.slots.iter_mut().filter_map(|group| group.as_deref_mut())
    }
    fn add(&mut self, group: Box<Group>) -> Option<GroupId> {
        let place = self.slots.iter().position(Option::is_none)?;
        self.slots[place] = Some(group);
        self.count += 1;
        Some(GroupId(place as u8 + 1))
    }

    /// Whose turn it is of those that reclaim is to look into.
    pub fn first_wanting(&self) -> Option<GroupId> {
        if self.count == 0 {
            return None;
        }
        let turn = |id: GroupId| (usize::from(id.0) + MAX_GROUPS - self.served) % MAX_GROUPS;
        self.iter().filter(|(_, group)| group.wish > Wish::Nothing).map(|(id, _)| id).min_by_key(|id| turn(*id))
    }

    /// It was a group's turn.
    pub fn set_served(&mut self, id: GroupId) {
        self.served = usize::from(id.0) % MAX_GROUPS + 1;
    }

    /// Somebody waits for room in `id`.
    pub fn want(&mut self, id: GroupId) {
        if let Some(group) = self.get_mut(id) {
            group.wish = Wish::Room;
        }
    }

    /// Who waits for room in a group.
    pub fn waiters(&mut self, id: GroupId) -> &mut FrameWaiters {
        &mut self.waiters[id.index()]
    }

    /// Frames that who asks now may have of a group: not those that are set aside. The root has any number.
    pub fn room(&self, id: GroupId) -> usize {
        self.get(id).map_or(usize::MAX, |group| group.room().saturating_sub(self.waiters[id.index()].floor()))
    }

    /// Whether there is room for who asks now.
    pub fn has_room(&self, id: GroupId) -> bool {
        self.room(id) > 0
    }

    /// Whether a group may have another slot.
    pub fn may_swap(&self, id: GroupId, swap: &Swap) -> bool {
        let most = self.get(id).and_then(|group| group.limits.slots);
        most.is_none_or(|most| swap.charged(id) < most)
    }

    /// The list that the machine looks at next: each for as many pages as it has.
    fn next_list<'a>(&'a mut self, root: &'a Replacement) -> Option<&'a Replacement> {
        if self.count == 0 {
            return Some(root);
        }
        let lists = || core::iter::once(root).chain(self.slots.iter().flatten().map(|group| &group.policy));
        let total: usize = lists().map(Policy::len).sum();
        let mut at = self.turn.checked_rem(total)?;
        self.turn = at + 1;
        lists().find(|list| {
            let here = at < list.len();
            at = at.saturating_sub(list.len());
            here
        })
    }
}

/// What reclaim within a group came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GroupState {
    /// Enough is free.
    Relieved,
    /// Look at this one next.
    Candidate(Pfn),
    /// Nothing more before some I/O is done: enough is on its way out, or nothing else is left to look at.
    InTransit,
    /// Its pages are held by threads that are getting on.
    Held,
    /// None of its pages can go, but somebody was woken who will say whether that matters.
    Woken,
    /// None of its pages can go.
    Exhausted,
}

impl<P: Platform> Core<P> {
    /// Compressed pages of a group that goes are the root's from now on: those in one piece of their table.
    fn disown_compressed(&mut self, id: GroupId, piece: usize) -> ControlFlow<()> {
        let (Some(tier), Some(swap)) = (&mut self.tier, &mut self.swap) else { return ControlFlow::Break(()) };
        let Some(pages) = tier.disown(id, piece) else { return ControlFlow::Break(()) };
        swap.uncharge_pages(id, pages);
        ControlFlow::Continue(())
    }

    /// Pages on lists: those that policies know, and those that have nowhere to go.
    #[cfg(feature = "sim")]
    pub fn listed_pages(&self) -> usize {
        self.candidates() + self.stranded.len()
    }

    /// Pages that policies know.
    pub fn candidates(&self) -> usize {
        if self.groups.count == 0 {
            return self.policy.len();
        }
        self.policy.len() + self.groups.iter().map(|(_, group)| group.policy.len()).sum::<usize>()
    }

    /// The page to look at next when the machine is short of frames.
    pub fn next_candidate(&mut self) -> Option<Pfn> {
        let Self { policy, groups, .. } = self;
        groups.next_list(policy)?.candidate()
    }

    /// Whether a group may be charged for a frame; counts it if not.
    pub fn may_charge(&mut self, id: GroupId) -> bool {
        let has_room = self.groups.has_room(id);
        if let Some(group) = self.groups.get_mut(id) {
            group.events.max += u64::from(!has_room);
        }
        has_room
    }

    pub fn charge(&mut self, frame: &Frame, id: GroupId) {
        let Some(group) = self.groups.get_mut(id).filter(|group| !group.going) else { return };
        group.charged += 1;
        group.peak = group.peak.max(group.charged);
        self.table.get_mut(frame.pfn()).set_group(id);
    }

    /// A frame of a group is free, or is the root's from now on. Who frees it, or dissolves the group, tells who waits.
    fn uncharge(&mut self, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        let id = desc.group();
        desc.set_group(GroupId::ROOT);
        if let Some(group) = self.groups.get_mut(id) {
            group.charged -= 1;
            group.shortage.relieve();
        }
    }

    /// A frame is being written out to be freed, or that is over.
    pub fn count_leaving(&mut self, frame: Pfn, change: i64) {
        if let Some(group) = self.groups.get_mut(self.table.get(frame).group()) {
            group.leaving = group.leaving.wrapping_add_signed(change);
        }
    }

    /// What to do next for a group in which somebody waits.
    pub fn look_into(&mut self, id: GroupId) -> GroupState {
        let idle = self.shortage.idle_holds_in(id);
        let Some(group) = self.groups.get_mut(id) else { return GroupState::Relieved };
        if group.is_relieved() {
            group.wish = Wish::Nothing;
            return GroupState::Relieved;
        }
        // To be looked at again: a page that is touched on its way out stays, and whoever waits for its frame would wait for ever.
        if group.will_be_relieved() {
            return GroupState::InTransit;
        }
        // Which looks those are, the policy says: what was used is looked at again.
        let exhausted = group.fruitless >= Replacement::LOOKS * group.policy.len();
        if let Some(frame) = group.policy.candidate().filter(|_| !exhausted) {
            return GroupState::Candidate(frame);
        }
        group.fruitless = 0;
        if group.in_transit() > 0 {
            return GroupState::InTransit;
        }
        // Only now: it is a walk over the whole group, which the looks before it have paid for.
        let mut held = 0;
        group.policy.each(&self.table, &mut |frame| held += u64::from(self.table.get(frame).holds() > 0));
        if held > idle {
            return GroupState::Held;
        }
        group.wish = Wish::Nothing;
        if self.groups.waiters(id).are_woken() { GroupState::Woken } else { GroupState::Exhausted }
    }

    /// A candidate of a group went, or stayed.
    pub fn note_fate(&mut self, id: GroupId, went: bool) {
        let Some(group) = self.groups.get_mut(id) else { return };
        group.events.pgscan += 1;
        if went {
            group.events.pgsteal += 1;
            group.fruitless = 0;
        } else {
            group.fruitless += 1;
        }
    }
}

impl<P: Platform> Mm<P> {
    /// Makes a group without limits and without members.
    pub fn create_group(&self) -> Result<GroupId, NoMemory> {
        let group = Box::new(Group::default());
        self.core.with_lock(|core| {
            if let Some(swap) = &mut core.swap {
                swap.keep_owners()?;
            }
            core.groups.add(group).ok_or(NoMemory)
        })
    }

    /// Dissolves a group: who is still in it, and what is charged to it, is the root's from now on.
    pub async fn remove_group(&self, id: GroupId) {
        /// Descriptors or slots looked at in one poll.
        const GLANCES: usize = 4096;
        self.core.with_lock(|core| {
            let Some(group) = core.groups.get_mut(id) else { return };
            // Before the look at what is charged: slots that are its own still would have their pages charged to it as they come back.
            group.going = true;
            (group.limits, group.wish) = (GroupLimits::default(), Wish::Nothing);
            // A program that is being loaded is in it, and is none of its processes yet.
            let members = core.spaces.iter_mut().filter(|(_, space)| space.group == id);
            members.for_each(|(_, space)| space.group = GroupId::ROOT);
            self.wake_waiters_in(core, Scope::Group(id));
        });
        for start in (0..self.core.with_lock(|core| core.table.len())).step_by(GLANCES) {
            self.core.with_lock(|core| {
                let end = core.table.len().min(start + GLANCES);
                (start..end).map(|index| Pfn::new(index as u32)).for_each(|frame| core.bequeath(frame, id));
            });
            crate::yield_now().await;
        }
        let mut piece = 0;
        while self.core.with_lock(|core| core.disown_compressed(id, piece)).is_continue() {
            piece += 1;
            crate::yield_now().await;
        }
        let mut next = Some(0);
        while let Some(start) = next {
            next = self.core.with_lock(|core| core.swap.as_mut().and_then(|swap| swap.disown(id, start, GLANCES)));
            crate::yield_now().await;
        }
        let gone = self.core.with_lock(|core| {
            let gone = core.groups.slots[usize::from(id.0) - 1].take();
            core.groups.count -= usize::from(gone.is_some());
            gone
        });
        debug_assert!(gone.is_none_or(|group| group.charged == 0), "a group goes with nothing charged to it");
    }

    /// Sets what a group may have. If it has more, reclaim brings it down.
    pub fn set_group_limits(&self, id: GroupId, limits: GroupLimits) {
        self.core.with_lock(|core| {
            let Some(group) = core.groups.get_mut(id).filter(|group| !group.going) else { return };
            group.limits = limits;
            group.shortage.relieve();
            if limits.frames.is_some_and(|most| group.charged > most) {
                group.wish = group.wish.max(Wish::Less);
            }
            self.announce_room(core, id);
        });
        self.frames.pressure().wake_all();
    }

    /// A frame is free: its group has room for another, which is for who waited longest.
    #[inline(always)]
    pub(crate) fn uncharge(&self, core: &mut Core<P>, frame: Pfn) {
        let id = core.table.get(frame).group();
        if !id.is_root() {
            self.make_room(core, frame, id);
        }
    }

    #[inline(never)]
    fn make_room(&self, core: &mut Core<P>, frame: Pfn, id: GroupId) {
        core.uncharge(frame);
        self.announce_room(core, id);
    }

    /// A group at this moment; `None` if it is the root or not there.
    pub fn group_stats(&self, id: GroupId) -> Option<GroupStats> {
        self.core.with_lock(|core| {
            let slots = core.swap.as_ref().map_or(0, |swap| swap.charged(id));
            let group = core.groups.get(id)?;
            let Group { limits, charged, peak, events, .. } = *group;
            Some(GroupStats { limits, frames: charged, frames_peak: peak, slots, events })
        })
    }

    /// From now on, what a space faults in is charged to this group.
    pub fn set_space_group(&self, space: SpaceId, group: GroupId) {
        self.core.with_lock(|core| {
            let Some(space) = core.spaces.get_mut(space) else { return };
            let before = core::mem::replace(&mut space.group, group);
            if before != group && !before.is_root() {
                self.wake_waiters_in(core, Scope::Group(before));
            }
        });
    }

    /// The group that a space's faults are charged to.
    pub fn space_group(&self, space: SpaceId) -> GroupId {
        self.core.with_lock(|core| core.spaces.get_mut(space).map_or(GroupId::ROOT, |space| space.group))
    }
}

impl<P: Platform> Core<P> {
    /// Makes a frame the root's if it is charged to `id`.
    fn bequeath(&mut self, frame: Pfn, id: GroupId) {
        let desc = self.table.get(frame);
        if desc.group() != id {
            return;
        }
        let listed = desc.listed();
        if listed {
            self.forget(frame);
        }
        self.uncharge(frame);
        if listed {
            self.admit(frame);
        }
    }
}
