//! Address spaces: areas, the page index, and the page tables that cache it.
//!
//! Owns what a program has mapped and what each of its pages is. Does not own frames' contents or order of eviction. Everything is
//! behind the manager's lock; operations that may touch many pages run in chunks of [`CHUNK`] and give way between them.
//!
//! - [`vma`]: areas, pure. [`mod@map`]: map, unmap, protect, discard, teardown. [`remap`]: areas that move. [`advice`]: pages ahead of
//!   their use, or out of it. [`submap`]: ranges with memory of their own, and blocks. [`lock`]: pages that stay, and how much may be promised.
//! - [`mod@access`]: the kernel's access to user memory. [`mod@fork`]: copies of spaces. [`turns`]: areas stand still meanwhile.

pub(crate) mod access;
mod advice;
pub(crate) mod fork;
mod lock;
pub(crate) mod map;
mod remap;
mod submap;
mod turns;
mod userpager;
mod vma;

pub use access::CopyError;
pub use advice::{Cooling, Populate, PopulateError, Residency};
pub use lock::{Commit, LockLimit, Overcommit};
pub use map::{MapError, MapRequest, Placement};
pub use remap::Move;
use submap::Scopes;
pub use submap::{MAX_SUBMAPS, Scope};
use turns::Turns;
pub use userpager::{Contents, Question, UserPagerError, UserPagerId, Wake};
pub(crate) use userpager::{QUEUES, UserPagers};
pub use vma::{Charge, Label, Liveness, Lock, MAX_AREAS, Vma, VmaMap};

use crate::addr::{PageRange, Vpn};
use crate::arena::{Arena, Names};
use crate::group::GroupId;
use crate::index::PageIndex;
use crate::platform::PageTable;
use crate::stats::{PageClass, PageCounts};
use crate::swap::readahead::History;
use crate::victim::{Adjustment, Standing};

/// Pages handled in one poll.
pub(crate) const CHUNK: usize = 256;

/// Name of an address space: a slot and how often it was used before, so that an old name finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SpaceId(u32);

impl SpaceId {
    /// Bits of a name: it must fit beside a page number in 64 bits.
    pub(crate) const BITS: u32 = 28;
    const SLOT_BITS: u32 = 14;
    /// A name that no space ever has, as there are never so many at a time.
    pub(crate) const NOBODY: Self = Self((1 << Self::BITS) - 1);
    const NAMES: Names = Names {
        slots: (1 << Self::SLOT_BITS) - 1,
        generations: (1 << (Self::BITS - Self::SLOT_BITS)) - 1,
        name: |slot, generation| Self::of(slot, generation).0,
    };

    pub(crate) fn new(raw: u32) -> Self {
        Self(raw)
    }
    pub(crate) fn index(self) -> u32 {
        self.0
    }
    fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }
    fn of(slot: usize, generation: u32) -> Self {
        Self((generation << Self::SLOT_BITS | slot as u32) & ((1 << Self::BITS) - 1))
    }
}

/// Where a space's mappings may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLayout {
    /// Pages that may be mapped at all; the first is above page 0, always.
    pub bounds: PageRange,
    /// Where mappings without a wish are put: the highest gap below this page.
    pub mmap_top: Vpn,
}

/// One address space.
pub(crate) struct Space<T> {
    pub table: T,
    pub vmas: VmaMap,
    pub index: PageIndex,
    pub pages: PageCounts,
    pub layout: SpaceLayout,
    /// What its faults are charged to.
    pub group: GroupId,
    /// What may be locked.
    pub lock_limit: LockLimit,
    /// How areas are locked that are yet to come (`MCL_FUTURE`).
    pub lock_future: Lock,
    /// Its submaps and blocks.
    pub scopes: Scopes,
    /// Which pages were missing, and how those fared that were read ahead.
    pub ahead: History,
    /// Who may do what with the areas now.
    pub turns: Turns,
    /// What it is when somebody must end, and how much larger it counts than it is.
    pub standing: Standing,
    pub adjustment: Adjustment,
    /// A verdict names it: it gets no frame any more.
    pub condemned: bool,
    /// Being torn down: faults end, nothing new begins.
    pub dying: bool,
}

/// All address spaces.
pub(crate) struct Spaces<T> {
    arena: Arena<Space<T>>,
    /// Most areas each may have.
    most_areas: usize,
}

impl<T: PageTable> Spaces<T> {
    pub fn new(most_areas: usize) -> Self {
        Self { arena: Arena::default(), most_areas }
    }

    /// Adds a space; `None` if there are too many.
    pub fn insert(&mut self, table: T, layout: SpaceLayout) -> Option<SpaceId> {
        let (vmas, index, pages) = (VmaMap::with_most(self.most_areas), PageIndex::default(), PageCounts::default());
        let (group, lock_limit, lock_future) = (GroupId::ROOT, LockLimit::default(), Lock::Unlocked);
        let (ahead, scopes, turns) = (History::default(), Scopes::with_most(self.most_areas), Turns::default());
        let (standing, adjustment, condemned, dying) = (Standing::default(), Adjustment::default(), false, false);
        let space = Space {
            table,
            vmas,
            index,
            pages,
            layout,
            group,
            lock_limit,
            lock_future,
            scopes,
            ahead,
            turns,
            standing,
            adjustment,
            condemned,
            dying,
        };
        self.arena.insert(space, SpaceId::NAMES).map(|(slot, generation)| SpaceId::of(slot, generation))
    }

    /// The space of that name, dying ones included.
    pub fn get_mut(&mut self, id: SpaceId) -> Option<&mut Space<T>> {
        self.arena.named(id.slot(), id.0)
    }

    /// Forgets a space and gives back its page tables.
    pub fn remove(&mut self, id: SpaceId) -> Option<Space<T>> {
        self.get_mut(id)?;
        self.arena.remove(id.slot())
    }

    /// The first space in slot `from` or after it, and its slot: for walks over all spaces that stop in between.
    pub fn at_or_after(&mut self, from: usize) -> Option<(usize, SpaceId, &mut Space<T>)> {
        let slot = self.arena.values_from(from).next()?.0;
        let (generation, space) = self.arena.get_mut(slot)?;
        Some((slot, SpaceId::of(slot, generation), space))
    }

    /// All spaces.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SpaceId, &mut Space<T>)> {
        self.arena.iter_mut().map(|(slot, generation, space)| (SpaceId::of(slot, generation), space))
    }
}

impl<T> Space<T> {
    /// One page goes from one state to another.
    pub fn shift(&mut self, from: PageClass, to: PageClass) {
        self.pages.shift(from, to);
    }
}
