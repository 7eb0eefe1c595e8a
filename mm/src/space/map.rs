//! Map, unmap, protect, discard, teardown: what programs ask of their address space.
//!
//! Owns the order of those steps. Areas change first, then their pages follow, both in chunks of [`CHUNK`], between which others run:
//! a program may have 65 530 areas, and nobody is to wait for all of them. A range that is being unmapped stays in the area map as dying, so that nobody else gets its place too early.

use super::{CHUNK, Charge, Label, Liveness, Lock, Space, SpaceId, Vma, VmaMap};
use crate::addr::{PAGE_SIZE, PageRange, Pfn, VirtAddr, Vpn};
use crate::frame::{Frame, Residence};
use crate::group::GroupId;
use crate::home::{Home, Place};
use crate::manager::{Core, Mm, class_of, class_of_copy};
use crate::object::{Backing, MAX_OBJECT};
use crate::page::{PageCopy, Record};
use crate::platform::{PageTable, Platform, Rights};
use crate::stats::PageClass;
use crate::swapin::Outcome;
use crate::victim::Scope;
use arrayvec::ArrayVec;

/// Where a mapping is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Anywhere.
    Anywhere,
    /// There if it is free, else somewhere near.
    Hint(VirtAddr),
    /// There, replacing what is there (`MAP_FIXED`).
    Fixed(VirtAddr),
    /// There, or not at all (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(VirtAddr),
}

/// What to map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRequest {
    /// Where.
    pub placement: Placement,
    /// How many bytes; rounded up to pages.
    pub len: u64,
    /// What the program may do with it.
    pub rights: Rights,
    /// What it is for.
    pub label: Label,
    /// Where its pages come from.
    pub backing: Backing,
}

/// Why an address space cannot be changed like that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// Not a range of pages, or empty: EINVAL.
    #[error("not a range of pages")]
    Invalid,
    /// No gap is large enough, or there are too many areas: ENOMEM.
    #[error("no room in the address space")]
    NoRoom,
    /// Something is mapped there: EEXIST.
    #[error("something is mapped there")]
    Exists,
    /// Part of the range is not mapped: ENOMEM.
    #[error("part of the range is not mapped")]
    NotMapped,
    /// The object is gone, or that is not in it: EINVAL.
    #[error("there is no such part of an object")]
    NoObject,
    /// Below the first page that may be mapped: EPERM.
    #[error("too low in the address space")]
    TooLow,
    /// It is not all in one area: EFAULT.
    #[error("the range is not in one mapping")]
    NotOneArea,
    /// Part of it is locked: EINVAL.
    #[error("part of the range is locked")]
    Locked,
    /// Part of it shows an object that may only be looked at: EACCES.
    #[error("part of the range is for reading only")]
    Viewed,
    /// More than may be locked: ENOMEM, or EAGAIN where it is a new mapping.
    #[error("more than may be locked")]
    OverLimit,
    /// The address space is being torn down.
    #[error("the address space is gone")]
    SpaceGone,
}

/// Pages of one space that a chunk gives up, all of them clean or dirty: counted and freed together.
#[derive(Default)]
struct Gone {
    frames: ArrayVec<Frame, CHUNK>,
    clean: u64,
    dirty: u64,
}

impl Gone {
    #[inline(always)]
    fn push(&mut self, frame: Frame, residence: Residence) {
        self.frames.push(frame);
        *if residence == Residence::Clean { &mut self.clean } else { &mut self.dirty } += 1;
    }
}

pub(super) fn pages_of(len: u64) -> Result<u64, MapError> {
    if len == 0 {
        return Err(MapError::Invalid);
    }
    Ok(len.checked_add(PAGE_SIZE as u64 - 1).ok_or(MapError::NoRoom)? / PAGE_SIZE as u64)
}

/// The pages `addr..addr + len`, rounded up; `addr` must be the start of a page.
pub(super) fn range_at(addr: VirtAddr, len: u64) -> Result<PageRange, MapError> {
    let pages = pages_of(len)?;
    let end = addr.page().as_u64().checked_add(pages).filter(|end| *end <= 1 << 52);
    if !addr.is_page_aligned() || end.is_none() {
        return Err(MapError::Invalid);
    }
    Ok(PageRange::new(addr.page(), pages))
}

/// Finds the next area to be removed in a range.
type Choice = fn(&VmaMap, PageRange) -> Option<Vma>;

impl<P: Platform> Mm<P> {
    /// Maps memory, an object's or the space's own, and returns where. Nothing is committed before it is touched.
    pub async fn map(&self, space: SpaceId, request: MapRequest) -> Result<VirtAddr, MapError> {
        self.map_charged(space, request, Charge::Uncounted).await
    }

    /// As [`Self::map`]; says whether the memory counts as promised.
    pub async fn map_charged(&self, space: SpaceId, request: MapRequest, charge: Charge) -> Result<VirtAddr, MapError> {
        let private = !matches!(request.backing, Backing::Object { sharing, .. } if !sharing.is_private());
        let charge = if private { charge.with_rights(request.rights) } else { Charge::Never };
        let _turn = self.begin_change(space).await?;
        self.room_for_area().await?;
        loop {
            if let Placement::Fixed(addr) = request.placement {
                let range = self.core.with_lock(|core| Self::fixed_range(core, space, addr, request.len))?;
                self.unmap_range(space, range).await?;
            }
            match self.core.with_lock(|core| Self::try_map(core, space, request, charge)) {
                // Somebody else mapped there since it was unmapped; `MAP_FIXED` replaces that too.
                Err(MapError::Exists) if matches!(request.placement, Placement::Fixed(_)) => {}
                done => return done,
            }
        }
    }

    pub(super) fn live(core: &mut Core<P>, space: SpaceId) -> Result<&mut Space<P::Table>, MapError> {
        core.spaces.get_mut(space).filter(|s| !s.dying).ok_or(MapError::SpaceGone)
    }

    pub(super) fn fixed_range(
        core: &mut Core<P>,
        space: SpaceId,
        addr: VirtAddr,
        len: u64,
    ) -> Result<PageRange, MapError> {
        let bounds = Self::live(core, space)?.layout.bounds;
        let range = range_at(addr, len)?;
        if range.start < bounds.start {
            return Err(MapError::TooLow);
        }
        if range.end > bounds.end { Err(MapError::NoRoom) } else { Ok(range) }
    }

    fn try_map(core: &mut Core<P>, space: SpaceId, request: MapRequest, charge: Charge) -> Result<VirtAddr, MapError> {
        let range = match request.placement {
            Placement::Fixed(addr) | Placement::FixedNoReplace(addr) => {
                let range = Self::fixed_range(core, space, addr, request.len)?;
                if !Self::live(core, space)?.vmas.is_free(range) {
                    return Err(MapError::Exists);
                }
                range
            }
            Placement::Hint(addr) => Self::near(core, space, addr, pages_of(request.len)?)?,
            Placement::Anywhere => Self::anywhere(core, space, pages_of(request.len)?)?,
        };
        if let Backing::Object { first, .. } = request.backing
            && first.after(range.len()).as_u64() > MAX_OBJECT / PAGE_SIZE as u64
        {
            return Err(MapError::NoObject);
        }
        let s = Self::live(core, space)?;
        if s.vmas.is_full_for(1) {
            return Err(MapError::NoRoom);
        }
        if charge == Charge::Counted && !core.can_commit(range.len()) {
            return Err(MapError::NoRoom);
        }
        let MapRequest { rights, label, backing, .. } = request;
        let (liveness, lock) = (Liveness::Live, Self::live(core, space)?.lock_future);
        if lock != Lock::Unlocked {
            core.may_lock(space, range.len())?;
        }
        let area = Vma { range, rights, label, liveness, backing, lock, charge, pager: None };
        core.insert_area(space, area)?;
        Ok(range.start.addr())
    }

    /// Waits until an area may be added, if memory is so short that it would be taken from what nobody can refuse.
    pub(super) async fn room_for_area(&self) -> Result<(), MapError> {
        if self.frames.free_frames() > self.watermarks.areas() {
            return Ok(());
        }
        self.wait_for_frame().await.map_err(|_| MapError::NoRoom)
    }

    pub(super) fn anywhere(core: &mut Core<P>, space: SpaceId, pages: u64) -> Result<PageRange, MapError> {
        let s = Self::live(core, space)?;
        let below = PageRange { start: s.layout.bounds.start, end: s.layout.mmap_top };
        let gap = |bounds| s.scopes.find_gap(&s.vmas, None, pages, bounds);
        gap(below).or_else(|| gap(s.layout.bounds)).ok_or(MapError::NoRoom)
    }

    /// At the hint if that is free, else in the highest gap that ends at or below the hinted end, else anywhere.
    fn near(core: &mut Core<P>, space: SpaceId, hint: VirtAddr, pages: u64) -> Result<PageRange, MapError> {
        let s = Self::live(core, space)?;
        let bounds = s.layout.bounds;
        let start = hint.page();
        let end = start.as_u64().saturating_add(pages);
        if start < bounds.start || end > bounds.end.as_u64() {
            return Self::anywhere(core, space, pages);
        }
        let wish = PageRange::new(start, pages);
        if s.vmas.is_free(wish) && s.scopes.is_open(wish) {
            return Ok(wish);
        }
        match s.scopes.find_gap(&s.vmas, None, pages, PageRange { start: bounds.start, end: wish.end }) {
            Some(gap) => Ok(gap),
            None => Self::anywhere(core, space, pages),
        }
    }

    /// Unmaps `addr..addr + len`, whatever is mapped there.
    pub async fn unmap(&self, space: SpaceId, addr: VirtAddr, len: u64) -> Result<(), MapError> {
        let range = range_at(addr, len)?;
        let _turn = self.begin_change(space).await?;
        self.unmap_range(space, range).await
    }

    pub(super) async fn unmap_range(&self, space: SpaceId, range: PageRange) -> Result<(), MapError> {
        // A hole in an area makes two of one; anything else that is unmapped makes none, and must not be refused.
        if self.core.with_lock(|core| Self::live(core, space).map(|s| s.vmas.lacks_room_to_cut(range)))? {
            self.room_for_area().await?;
        }
        self.core.with_lock(|core| {
            let s = Self::live(core, space)?;
            let too_many = s.vmas.is_full_for(2) && s.vmas.would_split(range);
            if too_many || !s.vmas.make_room_to_cut(range) { Err(MapError::NoRoom) } else { Ok(()) }
        })?;
        self.change_areas(space, range, |area| area.liveness = Liveness::Dying).await;
        self.end_questions(space, range);
        self.take_down(space, range, VmaMap::first_dying).await;
        Ok(())
    }

    /// Changes the areas of a range, [`CHUNK`] at a time. There must be room for two more areas.
    pub(super) async fn change_areas(&self, space: SpaceId, range: PageRange, change: impl Fn(&mut Vma)) {
        let mut next = Some(range.start);
        while let Some(start) = next {
            next = self.core.with_lock(|core| {
                let rest = PageRange { start, end: range.end };
                core.spaces.get_mut(space)?.vmas.change_some(rest, CHUNK, &change)
            });
            if next.is_some() {
                crate::yield_now().await;
            }
        }
    }

    /// Removes those areas of a range that `choose` finds, with all their pages. Others may map something where an area is gone already,
    /// which stays.
    async fn take_down(&self, space: SpaceId, range: PageRange, choose: Choice) {
        let mut next = Some(range.start);
        while let Some(start) = next {
            let rest = PageRange { start, end: range.end };
            next = self.core.with_lock(|core| self.take_down_chunk(core, space, rest, choose));
            self.announce_frames();
            if next.is_some() {
                crate::yield_now().await;
            }
        }
    }

    /// Takes down up to [`CHUNK`] areas and pages of their own; of objects' pages, those of one chunk. Says where to go on.
    fn take_down_chunk(&self, core: &mut Core<P>, space: SpaceId, range: PageRange, choose: Choice) -> Option<Vpn> {
        let (mut left, mut next) = (CHUNK, range.start);
        while left > 0 {
            let area = choose(&core.spaces.get_mut(space)?.vmas, PageRange { start: next, end: range.end })?;
            let mut part = PageRange { start: area.range.start.max(next), end: area.range.end.min(range.end) };
            if area.backing != Backing::Anonymous {
                part.end = self.unmap_object_chunk(core, space, part).unwrap_or(part.end);
                left = left.min(CHUNK / 4 + 1);
            }
            part.end = self.release_some(core, space, part, &mut left).unwrap_or(part.end);
            self.remove_area(core, space, part);
            next = part.end;
            left = left.saturating_sub(1);
        }
        Some(next)
    }

    /// Gives up the contents of `addr..addr + len`: the pages are as if never touched (`MADV_DONTNEED`).
    pub async fn discard(&self, space: SpaceId, addr: VirtAddr, len: u64) -> Result<(), MapError> {
        let range = range_at(addr, len)?;
        let _turn = self.begin_change(space).await?;
        self.refuse_locked(space, range)?;
        let covered = self.core.with_lock(|core| Self::live(core, space).map(|s| s.vmas.covers(range)))?;
        self.release_pages(space, range).await;
        if covered { Ok(()) } else { Err(MapError::NotMapped) }
    }

    /// Changes what the program may do with `addr..addr + len`.
    pub async fn protect(&self, space: SpaceId, addr: VirtAddr, len: u64, rights: Rights) -> Result<(), MapError> {
        let range = range_at(addr, len)?;
        let _turn = self.begin_change(space).await?;
        self.room_for_area().await?;
        self.core.with_lock(|core| {
            let s = Self::live(core, space)?;
            if !s.vmas.covers(range) {
                return Err(MapError::NotMapped);
            }
            if rights.write.is_allowed() && s.vmas.is_viewed_in(range) {
                return Err(MapError::Viewed);
            }
            let cuts = s.vmas.cuts(range);
            if s.vmas.is_full_for(cuts) || !s.vmas.make_room(cuts) {
                return Err(MapError::NoRoom);
            }
            let more = if rights.write.is_allowed() { s.vmas.uncounted_in(range) } else { 0 };
            if more > 0 && !core.can_commit(more) { Err(MapError::NoRoom) } else { Ok(()) }
        })?;
        let change = |area: &mut Vma| {
            area.rights = rights;
            area.charge = area.charge.with_rights(rights);
        };
        self.change_areas(space, range, change).await;
        self.unmap_object_pages(space, range).await;
        let mut next = Some(range.start);
        while let Some(start) = next {
            next = self.core.with_lock(|core| self.protect_chunk(core, space, PageRange { start, end: range.end }));
            if next.is_some() {
                crate::yield_now().await;
            }
        }
        Ok(())
    }

    /// Makes the page tables forget up to [`CHUNK`] pages: faults map them again with the rights of the area.
    fn protect_chunk(&self, core: &mut Core<P>, space: SpaceId, range: PageRange) -> Option<Vpn> {
        let mut pages: ArrayVec<Vpn, CHUNK> = ArrayVec::new();
        let s = core.spaces.get_mut(space)?;
        let next = s.index.visit(range, CHUNK, |page, record| {
            if matches!(record, Record::Resident(_) | Record::Zero | Record::Shared(_)) {
                pages.push(page);
            }
            record
        });
        pages.into_iter().for_each(|page| core.unmap_page(self.frames, (space, page)));
        next
    }

    /// Gives up all pages of a range, giving way between chunks.
    pub(crate) async fn release_pages(&self, space: SpaceId, range: PageRange) {
        self.unmap_object_pages(space, range).await;
        let mut next = Some(range.start);
        while let Some(start) = next {
            let rest = PageRange { start, end: range.end };
            next = self.core.with_lock(|core| self.release_some(core, space, rest, &mut CHUNK.clone()));
            self.announce_frames();
            if next.is_some() {
                crate::yield_now().await;
            }
        }
    }

    /// Gives up the first `left` pages of a range, at most [`CHUNK`], and says where to go on.
    fn release_some(&self, core: &mut Core<P>, space: SpaceId, range: PageRange, left: &mut usize) -> Option<Vpn> {
        let mut pages: ArrayVec<(Vpn, Record), CHUNK> = ArrayVec::new();
        let s = core.spaces.get_mut(space)?;
        let next = s.index.visit(range, *left, |page, record| {
            pages.push((page, record));
            Record::Absent
        });
        *left -= pages.len();
        let mut gone = Gone::default();
        for &(page, record) in &pages {
            match record {
                Record::Resident(frame) => self.release_resident(core, (space, page), frame, &mut gone),
                record => self.release_page(core, (space, page), record),
            }
        }
        core.count_gone(space, PageClass::Clean, gone.clean);
        core.count_gone(space, PageClass::Dirty, gone.dirty);
        self.free_users(core, &mut gone.frames);
        self.begin_discards(core);
        next
    }

    /// Gives up a page of the space's own that is in a frame; its record is gone already. Counting and freeing it is left to the caller.
    #[inline(always)]
    fn release_resident(&self, core: &mut Core<P>, place: Place, frame: Pfn, gone: &mut Gone) {
        if core.table.get(frame).mapped() {
            core.unmap_for_good(self.frames, place);
        }
        match self.take_frame(core, frame) {
            Some((token, residence)) => gone.push(token, residence),
            None => self.orphan(core, frame),
        }
    }

    /// Gives up what another page has; its record is gone already.
    #[inline(never)]
    fn release_page(&self, core: &mut Core<P>, page: Place, record: Record) {
        let home = Home::Private(page.0, page.1);
        let Record::Shared(anon) = record else {
            if record == Record::Zero {
                core.unmap_page(self.frames, page);
            }
            return self.release_record(core, home, record);
        };
        core.reclass(home, PageClass::Shared, PageClass::Absent);
        if let Some(record) = core.leave_shared(self.frames, page, anon) {
            self.release_record(core, Home::Anon(anon), record);
        }
    }

    /// Gives up what a page has that nobody has any more. No page table refers to it.
    pub(crate) fn release_record(&self, core: &mut Core<P>, home: Home, record: Record) {
        match record {
            Record::Absent | Record::Shared(_) => {}
            Record::Zero => {
                core.reclass(home, PageClass::Zero, PageClass::Absent);
            }
            Record::Resident(frame) => self.release_frame(core, frame),
            Record::Filling(op) => {
                if let Some(frame) = core.frame_under(op, home) {
                    self.orphan(core, frame);
                }
            }
            Record::Away(copy) => {
                match copy {
                    PageCopy::Tier(id, _) => self.drop_from_tier(core, id),
                    copy => core.release_copy_for_good(Some(copy)),
                }
                core.reclass(home, class_of_copy(copy), PageClass::Absent);
            }
            Record::Failed => core.reclass(home, PageClass::Failed, PageClass::Absent),
        }
    }

    fn release_frame(&self, core: &mut Core<P>, frame: Pfn) {
        let home = core.table.get(frame).home();
        let Some((token, residence)) = self.take_frame(core, frame) else { return self.orphan(core, frame) };
        core.reclass(home, class_of(residence), PageClass::Absent);
        self.free_user(core, token);
    }

    /// Takes a frame from the page in it, which is given up with its copy, and says how that counted; unless a device works on it.
    #[inline(always)]
    fn take_frame(&self, core: &mut Core<P>, frame: Pfn) -> Option<(Frame, Residence)> {
        let residence = core.table.get(frame).residence();
        if !matches!(residence, Residence::Clean | Residence::Dirty) {
            return None;
        }
        core.void_holds(frame);
        core.judge_ahead(frame, Outcome::Waste);
        core.forget(frame);
        if core.table.get(frame).has_copy() {
            let copy = core.table.get(frame).copy();
            core.release_copy_for_good(copy);
        }
        Some((core.table.take(frame), residence))
    }

    /// The page is gone, but the device still works on its frame: it is freed when the request comes back.
    fn orphan(&self, core: &mut Core<P>, frame: Pfn) {
        core.void_holds(frame);
        core.judge_ahead(frame, Outcome::Waste);
        core.set_residence(frame, Residence::Orphaned);
        core.orphaned_io += 1;
    }

    /// Tears a space down: ends its faults, gives up all it has, then its page tables. Frames and slots under I/O follow when that is done.
    pub async fn destroy_space(&self, space: SpaceId) {
        let bounds = self.core.with_lock(|core| {
            let s = core.spaces.get_mut(space)?;
            s.dying = true;
            Some(s.layout.bounds)
        });
        let Some(bounds) = bounds else { return };
        self.core.with_lock(|core| self.wake_waiters(core));
        self.op_room.wake_all();
        self.wake_user_waits();
        self.turns.wake_all();
        self.take_down(space, bounds, |areas, rest| areas.overlapping(rest).next().copied()).await;
        self.core.with_lock(|core| {
            if let Some(s) = core.spaces.remove(space) {
                debug_assert!(s.index.is_empty() && s.table.tables() == 0, "a space is torn down to nothing");
                self.frames.free(s.table.into_root());
            }
            core.shortage.forget(space);
            core.groups.iter_mut().for_each(|group| group.shortage.forget(space));
            if let Some(swap) = &mut core.swap {
                swap.discard_all_free();
            }
            self.begin_discards(core);
            // Who still waits in a group now may be the next to be told that there is no room.
            GroupId::all().for_each(|id| self.wake_waiters_in(core, Scope::Group(id)));
        });
        self.announce_frames();
        self.frames.pressure().wake_all();
    }
}
