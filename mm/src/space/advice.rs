//! Pages ahead of their use, or out of it: populate, prefetch, cool, page out, and which pages are resident.
//!
//! Owns the walks; a page goes up by [`Mm::fault`] and down by reclaim's [`Mm::evict`], as ever. What is advised changes nothing that a
//! program can see but time: advice that cannot be followed now is forgotten.

use super::access::KernelHolds;
use super::map::range_at;
use super::{CHUNK, MapError, SpaceId};
use crate::addr::{PageRange, Pfn, VirtAddr, Vpn};
use crate::fault::FaultError;
use crate::home::Home;
use crate::manager::{Core, Mm};
use crate::object::Backing;
use crate::page::{PageCopy, Record};
use crate::platform::{Access, Platform};
use arrayvec::ArrayVec;

/// How pages are touched that nobody has touched yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Populate {
    /// As by a load (`MADV_POPULATE_READ`).
    Read,
    /// As by a store (`MADV_POPULATE_WRITE`).
    Write,
    /// As by a store where the program may write to memory of its own, else as by a load, and not at all where it may do neither
    /// (`MAP_POPULATE`, `mlock`).
    AsAllowed,
}

/// Why not all of a range could be populated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PopulateError {
    /// The range is none, or not all mapped.
    #[error(transparent)]
    Range(#[from] MapError),
    /// The area does not allow such an access: EINVAL.
    #[error("the mapping does not allow the access")]
    Forbidden,
    /// A page is lost, or past the end of its object: EFAULT.
    #[error("a page cannot be had")]
    BadPage,
    /// There is no memory.
    #[error("out of memory")]
    OutOfMemory,
}

/// Where pages go that are not needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cooling {
    /// They are the next that reclaim looks at (`MADV_COLD`).
    Cold,
    /// Away at once (`MADV_PAGEOUT`).
    Out,
}

/// Whether a page would be found without a major fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Residency {
    /// In RAM, or on the shared frame of zeroes.
    Resident,
    /// Not in RAM, or never touched.
    Absent,
}

impl<P: Platform> Mm<P> {
    /// Makes all pages of a range resident, one after the other; with more pages than frames the first are gone when the last come.
    pub async fn populate(&self, space: SpaceId, addr: VirtAddr, len: u64, how: Populate) -> Result<(), PopulateError> {
        let range = range_at(addr, len)?;
        let mut held = KernelHolds::new(self);
        let (mut page, mut done) = (range.start, 0);
        while page < range.end {
            let access = match self.core.with_lock(|core| Self::access_for(core, space, page, how))? {
                Ok(access) => access,
                Err(end) => {
                    page = end;
                    continue;
                }
            };
            match self.fault(space, page.addr(), access, page.addr().as_u64(), &mut held.holds).await {
                Ok(_) => {}
                Err(FaultError::OutOfMemory) => return Err(PopulateError::OutOfMemory),
                Err(FaultError::NotMapped) => return Err(MapError::NotMapped.into()),
                Err(FaultError::SpaceGone) => return Err(MapError::SpaceGone.into()),
                Err(FaultError::Forbidden) => return Err(PopulateError::Forbidden),
                Err(FaultError::BadPage) => return Err(PopulateError::BadPage),
            }
            page = page.offset(1);
            done += 1;
            if done % CHUNK == 0 {
                crate::yield_now().await;
            }
        }
        Ok(())
    }

    /// How a page is to be touched; or where to go on, if its area is to be left alone.
    fn access_for(
        core: &mut Core<P>,
        space: SpaceId,
        page: Vpn,
        how: Populate,
    ) -> Result<Result<Access, Vpn>, PopulateError> {
        let area = Self::live(core, space)?.vmas.find(page).ok_or(MapError::NotMapped)?;
        let shared = matches!(area.backing, Backing::Object { sharing, .. } if !sharing.is_private());
        let access = match how {
            Populate::Read => Access::Read,
            Populate::Write => Access::Write,
            Populate::AsAllowed if !area.rights.allow(Access::Read) => return Ok(Err(area.range.end)),
            Populate::AsAllowed if area.rights.allow(Access::Write) && !shared => Access::Write,
            Populate::AsAllowed => Access::Read,
        };
        if area.rights.allow(access) { Ok(Ok(access)) } else { Err(PopulateError::Forbidden) }
    }

    /// Says of up to [`CHUNK`] pages from `first` on which are resident; returns how many it told of. Fails if one of them is not mapped.
    pub fn residency(&self, space: SpaceId, first: Vpn, tell: &mut [Residency]) -> Result<usize, MapError> {
        let count = tell.len().min(CHUNK);
        self.core.with_lock(|core| {
            if !Self::live(core, space)?.vmas.covers(PageRange::new(first, count as u64)) {
                return Err(MapError::NotMapped);
            }
            for (i, told) in tell[..count].iter_mut().enumerate() {
                let record = core.record_of(space, first.offset(i as u64));
                let resident = matches!(record, Record::Resident(_) | Record::Zero);
                *told = if resident { Residency::Resident } else { Residency::Absent };
            }
            Ok(count)
        })
    }

    /// Fails if part of a range is not mapped.
    pub fn check_mapped(&self, space: SpaceId, addr: VirtAddr, len: u64) -> Result<(), MapError> {
        let range = range_at(addr, len)?;
        let covered = self.core.with_lock(|core| Self::live(core, space).map(|s| s.vmas.covers(range)))?;
        if covered { Ok(()) } else { Err(MapError::NotMapped) }
    }

    /// Begins to read in what is away of a range, as far as there is room, and waits for nothing (`MADV_WILLNEED`).
    pub async fn prefetch(&self, space: SpaceId, addr: VirtAddr, len: u64) -> Result<(), MapError> {
        self.walk_pages(space, range_at(addr, len)?, |mm, core, page, record| {
            if let Record::Away(PageCopy::Slot(slot, tag)) = record
                && !mm.frames.below_low()
            {
                let _begun = mm.begin_read(core, Home::Private(space, page), slot, tag);
            }
        })
        .await
    }

    /// Makes the pages of a range the next to go, or lets them go now.
    pub async fn cool(&self, space: SpaceId, addr: VirtAddr, len: u64, how: Cooling) -> Result<(), MapError> {
        let range = range_at(addr, len)?;
        self.refuse_locked(space, range)?;
        let walked = self.walk_pages(space, range, |mm, core, _, record| {
            if let Record::Resident(frame) = record {
                mm.cool_page(core, frame, how);
            }
        });
        let walked = walked.await;
        if how == Cooling::Out {
            self.core.with_lock(|core| self.send_batch(core));
            self.announce_frames();
        }
        walked
    }

    fn cool_page(&self, core: &mut Core<P>, frame: Pfn, how: Cooling) {
        let desc = core.table.get(frame);
        if !desc.listed() || desc.holds() > 0 {
            return;
        }
        core.harvest_accessed(frame);
        core.table.get_mut(frame).set_young(false);
        match how {
            Cooling::Out => {
                core.forget(frame);
                let _gone_or_not = self.evict(core, frame);
            }
            Cooling::Cold => core.demote(frame),
        }
    }

    /// Fails if part of a range is locked: EINVAL.
    pub(super) fn refuse_locked(&self, space: SpaceId, range: PageRange) -> Result<(), MapError> {
        self.core.with_lock(|core| {
            if Self::live(core, space)?.vmas.is_locked_in(range) { Err(MapError::Locked) } else { Ok(()) }
        })
    }

    /// Shows the private pages of a range, giving way between chunks. What is mapped of it is done, also if not all is.
    async fn walk_pages(
        &self,
        space: SpaceId,
        range: PageRange,
        mut each: impl FnMut(&Self, &mut Core<P>, Vpn, Record),
    ) -> Result<(), MapError> {
        let covered = self.core.with_lock(|core| Self::live(core, space).map(|s| s.vmas.covers(range)))?;
        let mut next = Some(range.start);
        while let Some(start) = next {
            next = self.core.with_lock(|core| {
                let mut pages: ArrayVec<(Vpn, Record), CHUNK> = ArrayVec::new();
                let s = core.spaces.get_mut(space)?;
                let next = s.index.visit(PageRange { start, end: range.end }, CHUNK, |page, record| {
                    pages.push((page, record));
                    record
                });
                pages.into_iter().for_each(|(page, record)| each(self, core, page, record));
                next
            });
            if next.is_some() {
                crate::yield_now().await;
            }
        }
        if covered { Ok(()) } else { Err(MapError::NotMapped) }
    }
}

impl<P: Platform> Core<P> {
    /// The record of a page that a space has, wherever it stands.
    fn record_of(&mut self, space: SpaceId, page: Vpn) -> Record {
        let Some(s) = self.spaces.get_mut(space) else { return Record::Absent };
        let object = s.vmas.find(page).and_then(|area| area.object_page(page));
        match (s.index.get(page), object) {
            (Record::Shared(anon), _) => self.anons.record(anon),
            (Record::Absent, Some((id, page, _))) => {
                self.objects.get_mut(id).map_or(Record::Absent, |object| object.index.get(page.key()))
            }
            (record, _) => record,
        }
    }
}
