//! Areas that move or change their size: `mremap`.
//!
//! Owns the order of steps. Pages keep what they are: only their records go to another place of the same index, in chunks of
//! [`CHUNK`]. The old place is dying and the new one is not yet alive meanwhile, so nobody faults on either.

use super::map::range_at;
use super::{CHUNK, Charge, Liveness, Lock, MapError, SpaceId, Vma};
use crate::addr::{PageRange, VirtAddr, Vpn};
use crate::home::Home;
use crate::manager::{Core, Mm};
use crate::page::Record;
use crate::platform::Platform;
use arrayvec::ArrayVec;

/// Where an area may go that has no room to grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Nowhere.
    Forbidden,
    /// Anywhere (`MREMAP_MAYMOVE`).
    Allowed,
    /// There, whether it has room or not, in place of what is there (`MREMAP_FIXED`).
    To(VirtAddr),
}

impl<P: Platform> Mm<P> {
    /// Gives the mapping `addr..addr + old` the length `new`, and another place if need be. Returns where it is.
    pub async fn remap(
        &self,
        space: SpaceId,
        addr: VirtAddr,
        old: u64,
        new: u64,
        go: Move,
    ) -> Result<VirtAddr, MapError> {
        let (from, to) = (range_at(addr, old)?, range_at(addr, new)?);
        let _turn = self.begin_change(space).await?;
        if let Move::To(target) = go {
            return self.remap_to(space, from, target, to.len()).await;
        }
        self.core.with_lock(|core| Self::area_of(core, space, from).map(|_| ()))?;
        if to.len() <= from.len() {
            if to.len() < from.len() {
                self.unmap_range(space, PageRange { start: to.end, end: from.end }).await?;
            }
            return Ok(addr);
        }
        self.room_for_area().await?;
        if self.core.with_lock(|core| Self::grow_in_place(core, space, from, to))? {
            return Ok(addr);
        }
        if go == Move::Forbidden {
            return Err(MapError::NoRoom);
        }
        let target = self.core.with_lock(|core| {
            let target = Self::anywhere(core, space, to.len())?;
            Self::reserve(core, space, from, target).map(|()| target)
        })?;
        self.move_pages(space, from, target).await;
        Ok(target.start.addr())
    }

    async fn remap_to(&self, space: SpaceId, from: PageRange, to: VirtAddr, pages: u64) -> Result<VirtAddr, MapError> {
        let target = range_at(to, pages * crate::addr::PAGE_SIZE as u64)?;
        if target.overlaps(from) {
            return Err(MapError::Invalid);
        }
        self.core.with_lock(|core| {
            Self::fixed_range(core, space, to, target.len() * crate::addr::PAGE_SIZE as u64)?;
            Self::area_of(core, space, from).map(|_| ())
        })?;
        self.room_for_area().await?;
        self.unmap_range(space, target).await?;
        let kept = from.len().min(target.len());
        if kept < from.len() {
            self.unmap_range(space, PageRange { start: from.start.offset(kept), end: from.end }).await?;
        }
        let from = PageRange::new(from.start, kept);
        self.core.with_lock(|core| Self::reserve(core, space, from, target))?;
        self.move_pages(space, from, target).await;
        Ok(to)
    }

    /// The one area that a range lies in.
    fn area_of(core: &mut Core<P>, space: SpaceId, range: PageRange) -> Result<Vma, MapError> {
        let s = Self::live(core, space)?;
        let area = s.vmas.find(range.start).ok_or(MapError::NotOneArea)?;
        if range.end > area.range.end { Err(MapError::NotOneArea) } else { Ok(area) }
    }

    /// Makes an area longer if it ends where `from` does and what follows is free.
    fn grow_in_place(core: &mut Core<P>, space: SpaceId, from: PageRange, to: PageRange) -> Result<bool, MapError> {
        let area = Self::area_of(core, space, from)?;
        let more = PageRange { start: from.end, end: to.end };
        let s = Self::live(core, space)?;
        if area.range.end != from.end
            || more.end > s.layout.bounds.end
            || !s.vmas.is_free(more)
            || !s.scopes.may_extend(from, more)
        {
            return Ok(false);
        }
        if area.charge == Charge::Counted && !core.can_commit(more.len()) {
            return Err(MapError::NoRoom);
        }
        if area.lock != Lock::Unlocked {
            core.may_lock(space, more.len())?;
        }
        let backing = area.backing.after(area.range.len());
        core.insert_area(space, Vma { range: more, backing, ..area }).map(|()| true)
    }

    /// Prepares the new place of an area; the old one cannot be used any more.
    fn reserve(core: &mut Core<P>, space: SpaceId, from: PageRange, target: PageRange) -> Result<(), MapError> {
        let area = Self::area_of(core, space, from)?;
        let s = Self::live(core, space)?;
        if !s.vmas.is_free(target) {
            return Err(MapError::Exists);
        }
        if s.vmas.is_full_for(s.vmas.cuts(from) + 1) {
            return Err(MapError::NoRoom);
        }
        if area.charge == Charge::Counted && !core.can_commit(target.len().saturating_sub(from.len())) {
            return Err(MapError::NoRoom);
        }
        if area.lock != Lock::Unlocked {
            core.may_lock(space, target.len().saturating_sub(from.len()))?;
        }
        let backing = area.backing.after(from.start.as_u64() - area.range.start.as_u64());
        core.insert_area(space, Vma { range: target, backing, liveness: Liveness::Dying, ..area })?;
        if let Some(s) = core.spaces.get_mut(space) {
            s.vmas.change(from, |area| area.liveness = Liveness::Dying);
        }
        Ok(())
    }

    async fn move_pages(&self, space: SpaceId, from: PageRange, target: PageRange) {
        self.unmap_object_pages(space, from).await;
        let mut next = Some(from.start);
        while let Some(start) = next {
            let rest = PageRange { start, end: from.end };
            next = self.core.with_lock(|core| self.move_chunk(core, space, rest, (from.start, target.start)));
            crate::yield_now().await;
        }
        // Pages behind the end of their object did not go along.
        self.release_pages(space, from).await;
        self.core.with_lock(|core| {
            self.remove_area(core, space, from);
            if let Some(s) = core.spaces.get_mut(space) {
                s.vmas.change(target, |area| area.liveness = Liveness::Live);
            }
        });
    }

    /// Moves up to [`CHUNK`] records.
    fn move_chunk(&self, core: &mut Core<P>, space: SpaceId, rest: PageRange, (from, to): (Vpn, Vpn)) -> Option<Vpn> {
        let mut pages: ArrayVec<(Vpn, Record), CHUNK> = ArrayVec::new();
        let s = core.spaces.get_mut(space)?;
        let next = s.index.visit(rest, CHUNK, |page, record| {
            pages.push((page, record));
            record
        });
        let target = PageRange { start: to, end: to.offset(rest.end.as_u64() - from.as_u64()) };
        let area = s.vmas.first_dying(target)?;
        for (page, record) in pages {
            let place = to.offset(page.as_u64() - from.as_u64());
            // A cut that is under way may have been at the new place already, and would miss what comes there now.
            if core.is_behind_end(&area, place) {
                continue;
            }
            core.unmap_page(self.frames, (space, page));
            // The D bit that was taken in just now may have changed what the page is, but not its record.
            core.rehome(Home::Private(space, page), Home::Private(space, place), record);
            let s = core.spaces.get_mut(space)?;
            s.index.set(page, Record::Absent);
            s.index.set(place, record);
        }
        next
    }
}
