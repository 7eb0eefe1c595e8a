//! Areas whose pages stay in RAM (`mlock`), and how much memory the machine has promised (overcommit).
//!
//! Owns both limits. A locked page is one that reclaim does not take: it looks at the area ([`Core::is_locked`]). What may be locked is
//! limited twice: per space, by `RLIMIT_MEMLOCK`; and for all together by half of the frames, so that the machine never locks itself up.

use super::map::range_at;
use super::{Charge, Lock, MapError, Populate, PopulateError, SpaceId};
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::home::{Home, Place};
use crate::manager::{Core, Mm};
use crate::platform::{Platform, Rights};

/// Pages that a space may lock: `RLIMIT_MEMLOCK`, 8 MiB as on Linux unless it is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockLimit(pub u64);

impl Default for LockLimit {
    fn default() -> Self {
        Self(2048)
    }
}

/// Whether more memory may be promised than there is: Linux's `vm.overcommit_memory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overcommit {
    /// No single mapping larger than RAM and swap together (0).
    Guess,
    /// Anything (1).
    #[default]
    Always,
    /// No more than swap and this percentage of RAM, all together (2).
    Never {
        /// `vm.overcommit_ratio`.
        percent: u8,
    },
}

/// Promised memory, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Commit {
    /// Pages of all areas that count: `Committed_AS`.
    pub promised: u64,
    /// How many there may be if promises are kept to: `CommitLimit`.
    pub limit: u64,
}

impl Overcommit {
    fn percent(self) -> u64 {
        if let Self::Never { percent } = self { percent.into() } else { 50 }
    }
}

impl<P: Platform> Mm<P> {
    /// What has been promised.
    pub fn promised(&self) -> Commit {
        self.core.with_lock(|core| core.promised())
    }

    /// Sets the limit of what a space may lock; what is locked stays so.
    pub fn set_lock_limit(&self, space: SpaceId, limit: LockLimit) {
        self.core.with_lock(|core| {
            if let Some(s) = core.spaces.get_mut(space) {
                s.lock_limit = limit;
            }
        });
    }

    /// Says how areas are locked that are mapped from now on (`MCL_FUTURE`); making their pages resident is up to who maps them.
    pub fn set_lock_future(&self, space: SpaceId, lock: Lock) {
        self.core.with_lock(|core| {
            core.locking |= lock != Lock::Unlocked;
            if let Some(s) = core.spaces.get_mut(space) {
                s.lock_future = lock;
            }
        });
    }

    /// What [`Self::set_lock_future`] said.
    pub fn lock_future(&self, space: SpaceId) -> Lock {
        self.core.with_lock(|core| core.spaces.get_mut(space).map_or(Lock::Unlocked, |s| s.lock_future))
    }

    /// Pages of locked areas of all spaces.
    pub fn all_locked_pages(&self) -> u64 {
        self.core.with_lock(|core| core.spaces.iter_mut().map(|(_, s)| s.vmas.locked()).sum())
    }

    /// Pages of locked areas.
    pub fn locked_pages(&self, space: SpaceId) -> u64 {
        self.core.with_lock(|core| core.spaces.get_mut(space).map_or(0, |s| s.vmas.locked()))
    }

    /// Locks the pages of a range, and makes them resident unless that is for later faults to do; or unlocks them.
    pub async fn lock(&self, space: SpaceId, addr: VirtAddr, len: u64, lock: Lock) -> Result<(), PopulateError> {
        let range = range_at(addr, len)?;
        let turn = self.begin_change(space).await?;
        self.room_for_area().await?;
        self.core.with_lock(|core| Self::may_set_lock(core, space, range, lock))?;
        self.change_areas(space, range, |area| area.lock = lock).await;
        drop(turn);
        match lock {
            Lock::Now => self.populate(space, addr, len, Populate::AsAllowed).await,
            _ => Ok(()),
        }
    }

    fn may_set_lock(core: &mut Core<P>, space: SpaceId, range: PageRange, lock: Lock) -> Result<(), MapError> {
        let s = Self::live(core, space)?;
        if !s.vmas.covers(range) {
            return Err(MapError::NotMapped);
        }
        let cuts = s.vmas.cuts(range);
        if s.vmas.is_full_for(cuts) || !s.vmas.make_room(cuts) {
            return Err(MapError::NoRoom);
        }
        if lock != Lock::Unlocked {
            let more = s.vmas.unlocked_in(range);
            core.may_lock(space, more)?;
            core.locking = true;
        }
        Ok(())
    }

    /// Locks or unlocks all there is (`mlockall` of what is mapped, `munlockall`). Returns the first error, if any.
    pub async fn lock_all(&self, space: SpaceId, lock: Lock) -> Result<(), PopulateError> {
        let bounds = self.core.with_lock(|core| {
            let s = Self::live(core, space)?;
            let wanted = s.vmas.pages();
            if lock != Lock::Unlocked && wanted > s.lock_limit.0 {
                Err(MapError::OverLimit)
            } else {
                Ok(s.layout.bounds)
            }
        })?;
        let mut from = bounds.start;
        loop {
            let rest = PageRange { start: from, end: bounds.end };
            let area = self.core.with_lock(|core| {
                Self::live(core, space).map(|s| s.vmas.overlapping(rest).find(|area| area.lock != lock).copied())
            })?;
            let Some(area) = area else { return Ok(()) };
            let bytes = area.range.len() * crate::addr::PAGE_SIZE as u64;
            // What others unmap meanwhile needs no locking.
            match self.lock(space, area.range.start.addr(), bytes, lock).await {
                Ok(()) | Err(PopulateError::Range(MapError::NotMapped)) => {}
                Err(error) => return Err(error),
            }
            from = area.range.end;
        }
    }
}

impl<P: Platform> Core<P> {
    /// Whether a space may lock so many pages more.
    pub(super) fn may_lock(&mut self, space: SpaceId, pages: u64) -> Result<(), MapError> {
        let all: u64 = self.spaces.iter_mut().map(|(_, s)| s.vmas.locked()).sum();
        let s = self.spaces.get_mut(space).ok_or(MapError::SpaceGone)?;
        let over = s.vmas.locked() + pages > s.lock_limit.0 || all + pages > self.total_frames / 2;
        if over { Err(MapError::OverLimit) } else { Ok(()) }
    }

    /// Whether a page must stay in RAM: an area that has it is locked.
    #[inline]
    pub fn is_locked(&mut self, frame: Pfn) -> bool {
        self.locking && self.has_locked_area(frame)
    }

    #[cold]
    fn has_locked_area(&mut self, frame: Pfn) -> bool {
        let Self { mappings, table, spaces, .. } = self;
        let mut locked = |(space, page): Place| {
            let area = spaces.get_mut(space).and_then(|s| s.vmas.find(page));
            area.is_some_and(|area| area.lock != Lock::Unlocked)
        };
        match table.get(frame).home() {
            Home::Private(space, page) => locked((space, page)),
            // Of pages that several have, those are known that have it mapped.
            _ => mappings.places(table, frame).any(&mut locked),
        }
    }

    /// What has been promised, and how much there is.
    pub fn promised(&mut self) -> Commit {
        let promised = self.spaces.iter_mut().map(|(_, s)| s.vmas.charged()).sum();
        let ram = self.total_frames * self.overcommit.percent() / 100;
        Commit { promised, limit: ram + self.swap_pages() }
    }

    pub(crate) fn swap_pages(&self) -> u64 {
        self.swap.as_ref().map_or(0, |swap| swap.slots.counts().total.into())
    }

    /// Whether so many pages more may be promised.
    pub fn can_commit(&mut self, pages: u64) -> bool {
        match self.overcommit {
            Overcommit::Always => true,
            Overcommit::Guess => pages <= self.total_frames + self.swap_pages(),
            Overcommit::Never { .. } => {
                let Commit { promised, limit } = self.promised();
                promised + pages <= limit
            }
        }
    }
}

impl Charge {
    /// How an area counts once it has these rights.
    pub(super) fn with_rights(self, rights: Rights) -> Self {
        if self == Self::Uncounted && rights.write.is_allowed() { Self::Counted } else { self }
    }
}
