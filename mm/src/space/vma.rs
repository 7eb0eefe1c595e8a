//! The virtual memory areas of an address space: which ranges are mapped, with which rights.
//!
//! Owns the map of areas: split at the edges of what is asked for, merged with like neighbours, searched for gaps. Knows nothing of
//! pages: what happens to them is up to the callers in [`crate::space`].

use crate::addr::{PageRange, Vpn};
use crate::object::Backing;
use crate::platform::Rights;
use alloc::collections::BTreeMap;
use core::cell::Cell;
use core::ops::Bound;

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
}

impl Vma {
    fn merges_with(&self, next: &Vma) -> bool {
        self.range.end == next.range.start
            && (self.rights, self.label, self.liveness) == (next.rights, next.label, next.liveness)
            && (self.lock, self.charge) == (next.lock, next.charge)
            && self.backing.after(self.range.len()) == next.backing
    }
}

/// Areas by first page; they never overlap.
#[derive(Default)]
pub struct VmaMap {
    areas: BTreeMap<Vpn, Vma>,
    pages: u64,
    /// Pages of locked areas, and of those that count as promised.
    locked: u64,
    charged: u64,
    /// The area found last, until something changes: most faults are in the same one again.
    recent: Cell<Option<Vma>>,
}

impl VmaMap {
    /// The live area that holds `page`.
    #[inline]
    pub fn find(&self, page: Vpn) -> Option<Vma> {
        if let Some(area) = self.recent.get()
            && area.range.contains(page)
        {
            return Some(area);
        }
        let (_, &area) = self.areas.range(..=page).next_back()?;
        let found = (area.range.contains(page) && area.liveness == Liveness::Live).then_some(area);
        self.recent.set(found);
        found
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.areas.values()
    }

    /// Number of areas.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Pages in all areas.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages of locked areas.
    pub fn locked(&self) -> u64 {
        self.locked
    }

    /// Pages that count as promised.
    pub fn charged(&self) -> u64 {
        self.charged
    }

    /// Pages of a range that are mapped and not locked.
    pub fn unlocked_in(&self, range: PageRange) -> u64 {
        self.pages_in(range, |area| area.lock == Lock::Unlocked)
    }

    /// Pages of a range that would count as promised if they could be written to, and do not.
    pub fn uncounted_in(&self, range: PageRange) -> u64 {
        self.pages_in(range, |area| area.charge == Charge::Uncounted)
    }

    fn pages_in(&self, range: PageRange, wanted: impl Fn(&Vma) -> bool) -> u64 {
        let inside = |area: &Vma| {
            PageRange { start: area.range.start.max(range.start), end: area.range.end.min(range.end) }.len()
        };
        self.overlapping(range).filter(|area| wanted(area)).map(inside).sum()
    }

    fn count(&mut self, area: &Vma) {
        self.pages += area.range.len();
        self.locked += if area.lock == Lock::Unlocked { 0 } else { area.range.len() };
        self.charged += if area.charge == Charge::Counted { area.range.len() } else { 0 };
    }

    fn uncount(&mut self, area: &Vma) {
        self.pages -= area.range.len();
        self.locked -= if area.lock == Lock::Unlocked { 0 } else { area.range.len() };
        self.charged -= if area.charge == Charge::Counted { area.range.len() } else { 0 };
    }

    /// Areas that share a page with `range`, in order.
    pub fn overlapping(&self, range: PageRange) -> impl Iterator<Item = &Vma> {
        let first =
            self.areas.range(..range.start).next_back().map(|(_, area)| area).filter(|area| area.range.overlaps(range));
        first.into_iter().chain(self.areas.range(range.start..range.end).map(|(_, area)| area))
    }

    /// Whether live areas cover every page of `range`.
    pub fn covers(&self, range: PageRange) -> bool {
        let mut next = range.start;
        for area in self.overlapping(range) {
            if area.range.start > next || area.liveness == Liveness::Dying {
                return false;
            }
            next = area.range.end;
        }
        next >= range.end
    }

    /// Adds an area in a place that is free.
    pub fn insert(&mut self, area: Vma) {
        debug_assert!(self.overlapping(area.range).next().is_none());
        self.recent.set(None);
        self.count(&area);
        self.areas.insert(area.range.start, area);
        self.merge_around(area.range.start);
    }

    /// Changes the areas of `range` by `change`, splitting those that stick out. Gaps stay gaps.
    pub fn change(&mut self, range: PageRange, change: impl Fn(&mut Vma)) {
        self.recent.set(None);
        self.split_at(range.start);
        self.split_at(range.end);
        let mut next = range.start;
        while let Some((&start, area)) = self.areas.range_mut(next..range.end).next() {
            let before = *area;
            change(area);
            let after = *area;
            self.uncount(&before);
            self.count(&after);
            next = start.offset(1);
        }
        let mut start = range.start;
        loop {
            self.merge_around(start);
            match self.areas.range((Bound::Excluded(start), Bound::Included(range.end))).next() {
                Some((next, _)) => start = *next,
                None => return,
            }
        }
    }

    /// Removes the areas of `range`, splitting those that stick out.
    pub fn remove(&mut self, range: PageRange) {
        self.recent.set(None);
        self.split_at(range.start);
        self.split_at(range.end);
        while let Some((&start, &area)) = self.areas.range(range.start..range.end).next() {
            self.uncount(&area);
            self.areas.remove(&start);
        }
    }

    /// A gap of `pages` pages within `bounds`: the one nearest below the end, so that mappings grow downwards as on Linux.
    pub fn find_gap(&self, pages: u64, bounds: PageRange) -> Option<PageRange> {
        let mut end = bounds.end;
        for area in self.areas.range(..bounds.end).rev().map(|(_, area)| area) {
            if area.range.end < end && end.as_u64() - area.range.end.as_u64() >= pages {
                break;
            }
            end = end.min(area.range.start);
            if end <= bounds.start {
                return None;
            }
        }
        let start = end.as_u64().checked_sub(pages)?;
        (start >= bounds.start.as_u64()).then(|| PageRange::new(Vpn::new(start), pages))
    }

    /// Whether no area lies in `range`.
    pub fn is_free(&self, range: PageRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Whether `range` lies inside one area with something left on both sides.
    pub fn would_split(&self, range: PageRange) -> bool {
        self.areas.range(..range.start).next_back().is_some_and(|(_, area)| area.range.end > range.end)
    }

    /// How many areas more there are when `range` is cut out of those it lies in, before any are merged or removed.
    pub fn cuts(&self, range: PageRange) -> usize {
        let is_inside = |page: Vpn| self.areas.range(..page).next_back().is_some_and(|(_, area)| area.range.end > page);
        usize::from(is_inside(range.start)) + usize::from(is_inside(range.end))
    }

    fn split_at(&mut self, page: Vpn) {
        let Some((_, area)) = self.areas.range_mut(..page).next_back() else {
            return;
        };
        if area.range.end <= page {
            return;
        }
        let mut tail = *area;
        area.range.end = page;
        tail.range.start = page;
        tail.backing = area.backing.after(area.range.len());
        self.areas.insert(page, tail);
    }

    /// Merges the area that starts at `start` with its neighbours if they are alike.
    fn merge_around(&mut self, start: Vpn) {
        let Some(&area) = self.areas.get(&start) else {
            return;
        };
        let mut merged = area;
        if let Some((&next, following)) = self.areas.range(area.range.end..).next()
            && merged.merges_with(following)
        {
            merged.range.end = following.range.end;
            self.areas.remove(&next);
        }
        if let Some((_, before)) = self.areas.range_mut(..start).next_back()
            && before.merges_with(&merged)
        {
            before.range.end = merged.range.end;
            self.areas.remove(&start);
        } else {
            self.areas.insert(start, merged);
        }
    }
}

#[cfg(test)]
mod tests;
