//! Submaps: ranges of an address space in which only those are given memory who name them; and blocks, which are freed whole.
//!
//! Owns both books of a space. What is put anywhere, or near a wish, goes round every submap; what is put into a submap lies in it, or
//! nowhere, and goes round the submaps inside. A submap holds no area by itself: it is a promise about where areas may come to lie, and
//! costs nothing but its entry. Exact addresses (`MAP_FIXED`) are the program's own business, in a submap as anywhere.
//!
//! ```text
//!   space   |......[ submap A  .....[ submap B ]...[block] ]........[block]....|
//!            anywhere              B only       A only       anywhere
//! ```
//! A block is what one [`Mm::allocate`] gave out. [`Mm::free_block`] takes any address in it and unmaps all of it, and nothing that is
//! not a block: neither image nor stack nor what `mmap` has made.

use super::map::pages_of;
use super::vma::VmaMap;
use super::{Charge, Label, Liveness, Lock, MapError, SpaceId, Vma};
use crate::addr::{PageRange, VirtAddr, Vpn};
use crate::manager::{Core, Mm};
use crate::object::Backing;
use crate::platform::{Platform, Rights};
use arrayvec::ArrayVec;

/// Most submaps of a space.
pub const MAX_SUBMAPS: usize = 32;

/// Which part of a space: all of it that is in no submap, or a submap, by its first address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// What is in no submap.
    Space,
    /// A submap, without those inside.
    Submap(VirtAddr),
}

type Submaps = ArrayVec<PageRange, MAX_SUBMAPS>;

/// Submaps and blocks of a space.
pub(crate) struct Scopes {
    /// By first page, which no two have in common. Two either lie apart or one in the other.
    submaps: Submaps,
    /// Blocks as they were given out, each an area with the label [`Label::Block`]; what has become of them is in the space's areas.
    blocks: VmaMap,
}

fn contains(outer: PageRange, inner: PageRange) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl Scopes {
    /// None yet; at most so many blocks. They are counted by themselves: one that moves elsewhere is a block no more.
    pub fn with_most(blocks: usize) -> Self {
        Self { submaps: Submaps::new(), blocks: VmaMap::with_most(blocks) }
    }

    /// All submaps, for a child.
    pub fn submaps(&self) -> Submaps {
        self.submaps.clone()
    }

    /// Those of the parent, for a child that has none of its own.
    pub fn inherit(&mut self, submaps: Submaps) {
        self.submaps = submaps;
    }

    /// Blocks from `page` on, in order.
    pub fn blocks_from(&self, page: Vpn) -> impl Iterator<Item = &Vma> {
        self.blocks.iter_from(page)
    }

    /// Enters a block, in a gap: what is left there of others has been replaced in part, and the rest unmapped.
    pub fn enter(&mut self, block: Vma) -> Result<(), MapError> {
        while self.blocks.take_first(block.range).is_some() {}
        if self.blocks.is_full_for(1) || !self.blocks.make_room(1) {
            return Err(MapError::NoRoom);
        }
        self.blocks.insert(block);
        Ok(())
    }

    /// A block's pages at `page` are gone; if nothing of it is left among the areas, so is the block.
    pub fn leave(&mut self, areas: &VmaMap, page: Vpn) {
        let Some(Vma { range, .. }) = self.blocks.find(page) else { return };
        if !areas.overlapping(range).any(|area| area.label == Label::Block) {
            self.blocks.take_first(range);
        }
    }

    /// The submap that starts at a page.
    fn submap_at(&self, start: Vpn) -> Option<PageRange> {
        self.submaps.iter().find(|submap| submap.start == start).copied()
    }

    /// The innermost submap that a range lies in.
    fn innermost(&self, range: PageRange) -> Option<PageRange> {
        self.submaps.iter().rev().find(|submap| contains(**submap, range)).copied()
    }

    /// A submap in `outer` that shares a page with `range`; the highest.
    fn in_the_way(&self, outer: Option<PageRange>, range: PageRange) -> Option<PageRange> {
        let inside = |submap: &&PageRange| outer.is_none_or(|outer| contains(outer, **submap) && **submap != outer);
        self.submaps.iter().rev().filter(inside).find(|submap| submap.overlaps(range)).copied()
    }

    /// The highest gap of so many pages in `bounds` that is in no submap, but for those around `outer` and itself.
    pub fn find_gap(
        &self,
        areas: &VmaMap,
        outer: Option<PageRange>,
        pages: u64,
        mut bounds: PageRange,
    ) -> Option<PageRange> {
        loop {
            let gap = areas.find_gap(pages, bounds)?;
            match self.in_the_way(outer, gap) {
                None => return Some(gap),
                Some(submap) => bounds.end = submap.start,
            }
        }
    }

    /// Whether a range is for anybody.
    pub fn is_open(&self, range: PageRange) -> bool {
        self.in_the_way(None, range).is_none()
    }

    /// Whether an area may grow from `from` to what follows it, without leaving its submap or entering another.
    pub fn may_extend(&self, from: PageRange, more: PageRange) -> bool {
        let outer = self.innermost(from);
        outer.is_none_or(|outer| contains(outer, more)) && self.in_the_way(outer, more).is_none()
    }

    fn insert(&mut self, submap: PageRange) -> Result<(), MapError> {
        let at = self.submaps.iter().position(|other| other.start >= submap.start).unwrap_or(self.submaps.len());
        if self.submaps.get(at).is_some_and(|other| other.start == submap.start) {
            return Err(MapError::NoRoom);
        }
        self.submaps.try_insert(at, submap).map_err(|_| MapError::NoRoom)
    }
}

impl<P: Platform> Mm<P> {
    /// Sets a range of `len` bytes apart, in the space or in another submap, and returns where it begins, which is its name.
    pub fn create_submap(&self, space: SpaceId, within: Scope, len: u64) -> Result<VirtAddr, MapError> {
        let pages = pages_of(len)?;
        self.core.with_lock(|core| {
            let gap = Self::gap_in(core, space, within, pages)?;
            Self::live(core, space)?.scopes.insert(gap)?;
            Ok(gap.start.addr())
        })
    }

    /// Gives memory of a program's own in a part of the space, as a block.
    pub async fn allocate(
        &self,
        space: SpaceId,
        within: Scope,
        len: u64,
        rights: Rights,
    ) -> Result<VirtAddr, MapError> {
        let pages = pages_of(len)?;
        let _turn = self.begin_change(space).await?;
        self.room_for_area().await?;
        self.core.with_lock(|core| {
            let range = Self::gap_in(core, space, within, pages)?;
            let charge = Charge::Uncounted.with_rights(rights);
            if charge == Charge::Counted && !core.can_commit(pages) {
                return Err(MapError::NoRoom);
            }
            let s = Self::live(core, space)?;
            if s.vmas.is_full_for(1) {
                return Err(MapError::NoRoom);
            }
            let lock = s.lock_future;
            if lock != Lock::Unlocked {
                core.may_lock(space, pages)?;
            }
            let (label, liveness, backing) = (Label::Block, Liveness::Live, Backing::Anonymous);
            let block = Vma { range, rights, label, liveness, backing, lock, charge, pager: None };
            Self::live(core, space)?.scopes.enter(block)?;
            core.insert_area(space, block)?;
            Ok(range.start.addr())
        })
    }

    /// Unmaps the block that `addr` lies in, all of it. Fails if it is in none, or if something else has been mapped in its place.
    pub async fn free_block(&self, space: SpaceId, addr: VirtAddr) -> Result<(), MapError> {
        let _turn = self.begin_change(space).await?;
        let range = self.core.with_lock(|core| {
            let s = Self::live(core, space)?;
            let block = s.scopes.blocks.find(addr.page()).ok_or(MapError::Invalid)?.range;
            let is_block = |area: &Vma| area.label == Label::Block && contains(block, area.range);
            let all_is = s.vmas.overlapping(block).all(is_block);
            if s.vmas.find(addr.page()).is_none() || !all_is {
                return Err(MapError::Invalid);
            }
            s.scopes.blocks.take_first(block);
            Ok(block)
        })?;
        self.unmap_range(space, range).await
    }

    /// Ends a submap, with those inside, and unmaps all that lies in it.
    pub async fn remove_submap(&self, space: SpaceId, start: VirtAddr) -> Result<(), MapError> {
        let _turn = self.begin_change(space).await?;
        let submap = self.core.with_lock(|core| {
            let s = Self::live(core, space)?;
            s.scopes.submap_at(start.page()).filter(|_| start.is_page_aligned()).ok_or(MapError::Invalid)
        })?;
        self.unmap_range(space, submap).await?;
        self.core.with_lock(|core| {
            let s = Self::live(core, space)?;
            s.scopes.submaps.retain(|other| !contains(submap, *other));
            Ok(())
        })
    }

    /// Where so many pages may go in a part of the space.
    fn gap_in(core: &mut Core<P>, space: SpaceId, within: Scope, pages: u64) -> Result<PageRange, MapError> {
        let Scope::Submap(start) = within else { return Self::anywhere(core, space, pages) };
        let s = Self::live(core, space)?;
        let submap = s.scopes.submap_at(start.page()).filter(|_| start.is_page_aligned()).ok_or(MapError::Invalid)?;
        s.scopes.find_gap(&s.vmas, Some(submap), pages, submap).ok_or(MapError::NoRoom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Rights;
    use crate::space::{Charge, Label, Liveness, Lock};

    #[test]
    fn m10_there_may_be_only_so_many_blocks_whatever_has_become_of_them() {
        let block = |page| Vma {
            range: PageRange::new(Vpn::new(page), 1),
            rights: Rights::READ_WRITE,
            label: Label::Block,
            liveness: Liveness::Live,
            backing: Backing::Anonymous,
            lock: Lock::Unlocked,
            charge: Charge::Uncounted,
            pager: None,
        };
        let mut scopes = Scopes::with_most(2);
        assert_eq!([10, 20, 30].map(|page| scopes.enter(block(page)).is_ok()), [true, true, false]);
        assert!(scopes.enter(block(20)).is_ok(), "in place of one that was there");
    }
}
