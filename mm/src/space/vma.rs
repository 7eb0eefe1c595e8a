//! The virtual memory areas of an address space: which ranges are mapped, with which rights.
//!
//! Owns the map of areas: split at the edges of what is asked for, merged with like neighbours, searched for gaps. Knows nothing of
//! pages: what happens to them is up to the callers in [`crate::space`]. The areas stand in a tree ([`tree`]) whose nodes stand in
//! blocks ([`arena`]): every question, and every change of one area, takes a number of steps that grows with the logarithm of the
//! number of areas. What may change many areas says where it stopped, so that its caller gives way in between.
//!
//! Room for areas is made before it is needed, and making it can fail ([`VmaMap::make_room`]). Whoever adds an area leaves room for
//! [`SPARE`] more: unmapping cuts areas at two places at most, so it needs no memory.

use crate::addr::{PageRange, Vpn};
use crate::object::Backing;
use crate::platform::Rights;
use crate::space::UserPagerId;
use core::cell::Cell;
use tree::AreaTree;

mod arena;
mod tree;

/// Areas for which there is room after one has been added.
pub(crate) const SPARE: usize = 2;

/// What an area is for; shown in `/proc/PID/maps`, and neighbours merge only if they agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// `mmap`.
    Anonymous,
    /// Loaded from the program's file.
    Image,
    /// `brk`.
    Heap,
    /// The first thread's stack.
    Stack,
    /// A block, or part of one: see [`super::Scope`]. It does not merge.
    Block,
}

/// Whether an area may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// In use.
    Live,
    /// Being unmapped: faults do not find it, and nobody else may have its place yet.
    Dying,
}

/// Whether the pages of an area may leave RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lock {
    /// They may.
    #[default]
    Unlocked,
    /// They may not, once they are there (`MLOCK_ONFAULT`).
    OnFault,
    /// They may not, and all of them are there (`mlock`).
    Now,
}

/// Whether the pages of an area count as promised: see [`super::Commit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Charge {
    /// Not yet: the program may not write to them.
    #[default]
    Uncounted,
    /// They do.
    Counted,
    /// They never do (`MAP_NORESERVE`).
    Never,
}

/// One area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vma {
    /// Its pages.
    pub range: PageRange,
    /// What programs may do with them.
    pub rights: Rights,
    /// What it is for.
    pub label: Label,
    /// Whether it is being unmapped.
    pub liveness: Liveness,
    /// Where its pages come from.
    pub backing: Backing,
    /// Whether its pages stay in RAM.
    pub lock: Lock,
    /// Whether they are promised.
    pub charge: Charge,
    /// The program that is asked for pages that are missing; one that is closed is none.
    pub pager: Option<UserPagerId>,
}

impl Vma {
    fn merges_with(&self, next: &Vma) -> bool {
        self.range.end == next.range.start
            && self.label != Label::Block
            && (self.rights, self.label, self.liveness) == (next.rights, next.label, next.liveness)
            && (self.lock, self.charge, self.pager) == (next.lock, next.charge, next.pager)
            && self.backing.after(self.range.len()) == next.backing
    }
}

/// Areas by first page; they never overlap.
pub struct VmaMap {
    areas: AreaTree,
    /// The area found last, until something changes: most faults are in the same one again.
    recent: Cell<Option<Vma>>,
    /// Most areas that whoever can be refused may have.
    most: usize,
}

/// Most areas an address space may have if nothing else is said: Linux's `vm.max_map_count`.
pub const MAX_AREAS: usize = 65_530;

impl Default for VmaMap {
    fn default() -> Self {
        Self::with_most(MAX_AREAS)
    }
}

impl VmaMap {
    /// An empty map for at most so many areas.
    pub fn with_most(most: usize) -> Self {
        Self { areas: AreaTree::default(), recent: Cell::new(None), most }
    }

    /// Whether there may not be so many areas more.
    pub fn is_full_for(&self, more: usize) -> bool {
        self.len() + more > self.most
    }

    /// The live area that holds `page`.
    #[inline(always)]
    pub fn find(&self, page: Vpn) -> Option<Vma> {
        if let Some(area) = self.recent.get()
            && area.range.contains(page)
        {
            return Some(area);
        }
        self.search(page)
    }

    #[inline(never)]
    fn search(&self, page: Vpn) -> Option<Vma> {
        let &area = self.areas.at_or_before(page)?;
        let found = (area.range.contains(page) && area.liveness == Liveness::Live).then_some(area);
        self.recent.set(found);
        found
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.areas.from(Vpn::new(0))
    }

    /// The areas that end behind `page`, in order.
    pub fn iter_from(&self, page: Vpn) -> impl Iterator<Item = &Vma> {
        self.areas.from(page)
    }

    /// Number of areas.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pages in all areas.
    pub fn pages(&self) -> u64 {
        self.areas.sums().pages
    }

    /// Pages of locked areas.
    pub fn locked(&self) -> u64 {
        self.areas.sums().locked
    }

    /// Pages that count as promised.
    pub fn charged(&self) -> u64 {
        self.areas.sums().charged
    }

    /// Pages of a range that are mapped and not locked.
    pub fn unlocked_in(&self, range: PageRange) -> u64 {
        let sums = self.areas.sums_in(range);
        sums.pages - sums.locked
    }

    /// Whether a page of a range is locked.
    pub fn is_locked_in(&self, range: PageRange) -> bool {
        self.areas.sums_in(range).locked > 0
    }

    /// Whether part of a range may only ever be looked at.
    pub fn is_viewed_in(&self, range: PageRange) -> bool {
        self.areas.sums_in(range).viewed
    }

    /// Pages of a range that would count as promised if they could be written to, and do not.
    pub fn uncounted_in(&self, range: PageRange) -> u64 {
        self.areas.sums_in(range).uncounted
    }

    /// Areas that share a page with `range`, in order.
    pub fn overlapping(&self, range: PageRange) -> impl Iterator<Item = &Vma> {
        self.areas.from(range.start).take_while(move |area| area.range.start < range.end)
    }

    /// The first area of a range that is being unmapped.
    pub fn first_dying(&self, range: PageRange) -> Option<Vma> {
        self.areas.first_where(range, |sums| sums.dying).copied()
    }

    /// The first area of a range that maps an object.
    pub fn first_with_object(&self, range: PageRange) -> Option<Vma> {
        self.areas.first_where(range, |sums| sums.objects).copied()
    }

    /// Whether live areas cover every page of `range`.
    pub fn covers(&self, range: PageRange) -> bool {
        let sums = self.areas.sums_in(range);
        sums.pages == range.len() && !sums.dying
    }

    /// Makes room in memory for so many areas more, and [`SPARE`]. `false` if there is none.
    #[must_use]
    pub fn make_room(&mut self, more: usize) -> bool {
        self.areas.make_room(more + SPARE)
    }

    /// As that, for cutting areas that are then removed: the spare room is there for it.
    #[must_use]
    pub fn make_room_to_cut(&mut self, range: PageRange) -> bool {
        if self.would_split(range) { self.make_room(1) } else { self.areas.make_room(self.cuts(range)) }
    }

    /// Whether [`Self::make_room_to_cut`] would take memory.
    pub fn lacks_room_to_cut(&self, range: PageRange) -> bool {
        let needed = if self.would_split(range) { 1 + SPARE } else { self.cuts(range) };
        self.areas.room() < needed
    }

    /// Adds an area in a place that is free; there must be room for it in memory.
    pub fn insert(&mut self, area: Vma) {
        debug_assert!(self.is_free(area.range));
        self.recent.set(None);
        self.areas.insert(area);
        self.merge_at(area.range.end);
        self.merge_at(area.range.start);
    }

    /// Changes the areas of `range` by `change`, splitting those that stick out. Gaps stay gaps.
    pub fn change(&mut self, range: PageRange, change: impl Fn(&mut Vma)) {
        let rest = self.change_some(range, usize::MAX, change);
        debug_assert_eq!(rest, None);
    }

    /// Changes the first `limit` areas of `range`, splitting those that stick out, and says where to go on. There must be room for two
    /// more areas.
    pub fn change_some(&mut self, range: PageRange, limit: usize, change: impl Fn(&mut Vma)) -> Option<Vpn> {
        self.recent.set(None);
        self.split_at(range.start);
        let mut next = range.start;
        for done in 0.. {
            let area = self.areas.from(next).next().copied().filter(|area| area.range.start < range.end);
            let Some(area) = area else { break };
            if done == limit {
                return Some(area.range.start);
            }
            if area.range.end > range.end {
                self.split_at(range.end);
            }
            self.areas.update(area.range.start, &change);
            self.merge_at(area.range.start);
            next = area.range.end.min(range.end);
        }
        self.merge_at(range.end);
        None
    }

    /// Removes what the first area of `range` has of it, and returns that. Cutting a hole needs room for one more area.
    pub fn take_first(&mut self, range: PageRange) -> Option<Vma> {
        let area = *self.overlapping(range).next()?;
        self.recent.set(None);
        let part = PageRange { start: area.range.start.max(range.start), end: area.range.end.min(range.end) };
        let starts_before = area.range.start < part.start;
        let backing_at = |page: Vpn| area.backing.after(page.as_u64() - area.range.start.as_u64());
        let tail =
            Vma { range: PageRange { start: part.end, end: area.range.end }, backing: backing_at(part.end), ..area };
        match (starts_before, tail.range.is_empty()) {
            (false, true) => drop(self.areas.remove(area.range.start)),
            (false, false) => self.areas.update(area.range.start, |whole| *whole = tail),
            (true, _) => self.areas.update(area.range.start, |whole| whole.range.end = part.start),
        }
        if starts_before && !tail.range.is_empty() {
            self.areas.insert(tail);
        }
        Some(Vma { range: part, backing: backing_at(part.start), ..area })
    }

    /// A gap of `pages` pages within `bounds`: the one nearest below the end, so that mappings grow downwards as on Linux.
    pub fn find_gap(&self, pages: u64, bounds: PageRange) -> Option<PageRange> {
        let end = self.areas.highest_gap(pages, bounds)?;
        Some(PageRange::new(Vpn::new(end.as_u64() - pages), pages))
    }

    /// Whether no area lies in `range`.
    pub fn is_free(&self, range: PageRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Whether `range` lies inside one area with something left on both sides.
    pub fn would_split(&self, range: PageRange) -> bool {
        self.before(range.start).is_some_and(|area| area.range.end > range.end)
    }

    /// How many areas more there are when `range` is cut out of those it lies in, before any are merged or removed.
    pub fn cuts(&self, range: PageRange) -> usize {
        let is_inside = |page: Vpn| self.before(page).is_some_and(|area| area.range.end > page);
        usize::from(is_inside(range.start)) + usize::from(is_inside(range.end))
    }

    /// The last area that starts before `page`.
    fn before(&self, page: Vpn) -> Option<&Vma> {
        self.areas.at_or_before(Vpn::new(page.as_u64().checked_sub(1)?))
    }

    fn split_at(&mut self, page: Vpn) {
        let Some(&area) = self.before(page).filter(|area| area.range.end > page) else { return };
        let backing = area.backing.after(page.as_u64() - area.range.start.as_u64());
        self.areas.update(area.range.start, |head| head.range.end = page);
        self.areas.insert(Vma { range: PageRange { start: page, end: area.range.end }, backing, ..area });
    }

    /// Merges the area that starts at `start`, if there is one, with the one before it if they are alike.
    fn merge_at(&mut self, start: Vpn) {
        let Some(&before) = self.before(start) else { return };
        let Some(&after) = self.areas.at_or_before(start).filter(|after| before.merges_with(after)) else { return };
        self.areas.remove(after.range.start);
        self.areas.update(before.range.start, |whole| whole.range.end = after.range.end);
    }

    /// Nodes of the tree looked at so far: a measure of work that is the same on every machine.
    #[cfg(any(test, feature = "sim"))]
    pub fn looks(&self) -> u64 {
        self.areas.looks()
    }
}

#[cfg(test)]
mod tests;
