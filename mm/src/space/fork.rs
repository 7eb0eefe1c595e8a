//! Fork: another space gets a copy of all areas and pages, and nothing is copied before somebody writes.
//!
//! Owns how pages become shared ([`Core::share`]) and private again ([`Core::take_home`], [`Core::leave_shared`]). Does not own what a
//! fault does with them, the copy above all (that is [`crate::fault`]), nor the table of shared pages ([`crate::anon`]).
//!
//! ```text
//!                      fork: the record moves                        fork: one more
//!   private record ──────────────────────────► Shared(anon), refs 2 ◄──────────────► refs n
//!        ▲                                           │  refs − 1: written to (copied), unmapped, discarded, exit
//!        └───────────────────────────────────────────┘
//!          refs 1: the next fault of who is left takes it home
//! ```
//! A page with nothing to share (never written, or the same word throughout) is copied by copying its record. Every page is moved under
//! the lock, so whatever it goes through (being read in, written out, evicted) goes on; whoever comes from an operation finds its home.

use super::{CHUNK, Liveness, Lock, MapError, SpaceId, Vma};
use crate::addr::{PageRange, Vpn};
use crate::anon::AnonId;
use crate::frame::FrameAllocator;
use crate::home::{Home, Place};
use crate::manager::{Core, Mm, NoMemory, class_of, class_of_copy};
use crate::page::{PageCopy, Record};
use crate::platform::{PageTable, Platform};
use crate::stats::PageClass;
use crate::tier::EntryId;
use arrayvec::ArrayVec;

impl<P: Platform> Mm<P> {
    /// Gives `child`, which is empty and laid out as `parent` is, a copy of all that `parent` has mapped.
    ///
    /// Other threads of the parent may run meanwhile: the child gets each page as it is at some moment during the call. The parent's areas
    /// stand still: who would change them waits, and those who are about to are waited for. Whoever made the child destroys it, also if this fails, or is dropped half-way: what it has by then is as legal as anything.
    ///
    /// Fails if memory has run out, or the parent is gone.
    pub async fn fork_space(&self, parent: SpaceId, child: SpaceId) -> Result<(), NoMemory> {
        let _still = self.stand_still(parent).await?;
        let bounds =
            self.core.with_lock(|core| core.spaces.get_mut(parent).map(|s| s.layout.bounds)).ok_or(NoMemory)?;
        self.set_space_group(child, self.space_group(parent));
        for step in [Self::fork_areas as Copying<P>, Self::fork_scopes, Self::fork_pages] {
            let mut next = Some(bounds.start);
            while let Some(start) = next {
                // The child's index, its areas and the shared pages' table grow by a few frames at most in each step.
                self.wait_for_frame().await?;
                let rest = PageRange { start, end: bounds.end };
                next = self.core.with_lock(|core| step(self, core, Family { parent, child }, rest))?;
                if next.is_some() {
                    crate::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Copies up to [`CHUNK`] areas.
    fn fork_areas(&self, core: &mut Core<P>, family: Family, range: PageRange) -> Result<Option<Vpn>, NoMemory> {
        let parent = core.spaces.get_mut(family.parent).filter(|s| !s.dying).ok_or(NoMemory)?;
        let areas: ArrayVec<Vma, CHUNK> = parent
            .vmas
            .overlapping(range)
            .filter(|area| area.range.start >= range.start)
            .take(CHUNK)
            .copied()
            .collect();
        let next = if areas.is_full() { areas.last().map(|area| area.range.end) } else { None };
        core.spaces.get_mut(family.child).filter(|s| !s.dying).ok_or(NoMemory)?;
        for area in areas.into_iter().filter(|area| area.liveness == Liveness::Live) {
            // Nobody serves the child's copy: its missing pages are zero (userfaultfd(2), without UFFD_EVENT_FORK).
            match core.insert_area(family.child, Vma { lock: Lock::Unlocked, pager: None, ..area }) {
                // An object that is gone by now has been unmapped in the parent, too.
                Ok(()) | Err(MapError::NoObject) => {}
                Err(_) => return Err(NoMemory),
            }
        }
        Ok(next)
    }

    /// Copies the submaps, which are few, and up to [`CHUNK`] blocks.
    fn fork_scopes(&self, core: &mut Core<P>, family: Family, range: PageRange) -> Result<Option<Vpn>, NoMemory> {
        let parent = core.spaces.get_mut(family.parent).filter(|s| !s.dying).ok_or(NoMemory)?;
        let blocks: ArrayVec<Vma, CHUNK> = parent.scopes.blocks_from(range.start).take(CHUNK).copied().collect();
        let submaps = parent.scopes.submaps();
        let child = core.spaces.get_mut(family.child).filter(|s| !s.dying).ok_or(NoMemory)?;
        child.scopes.inherit(submaps);
        let next = if blocks.is_full() { blocks.last().map(|block| block.range.end) } else { None };
        blocks.into_iter().try_for_each(|block| child.scopes.enter(block)).map_err(|_| NoMemory)?;
        Ok(next)
    }

    /// Shares up to [`CHUNK`] pages.
    fn fork_pages(&self, core: &mut Core<P>, family: Family, range: PageRange) -> Result<Option<Vpn>, NoMemory> {
        let mut pages: ArrayVec<(Vpn, Record), CHUNK> = ArrayVec::new();
        let parent = core.spaces.get_mut(family.parent).filter(|s| !s.dying).ok_or(NoMemory)?;
        let next = parent.index.visit(range, CHUNK, |page, record| {
            pages.push((page, record));
            record
        });
        core.spaces.get_mut(family.child).filter(|s| !s.dying).ok_or(NoMemory)?;
        for (page, record) in pages {
            self.fork_page(core, family, page, record);
        }
        Ok(next)
    }

    fn fork_page(&self, core: &mut Core<P>, Family { parent, child }: Family, page: Vpn, record: Record) {
        let Some(Some(area)) = core.spaces.get_mut(child).map(|s| s.vmas.find(page)) else { return };
        // A cut that is under way may have been at the child's areas already, and would miss what comes there now.
        if core.is_behind_end(&area, page) {
            return;
        }
        let (twin, class) = match record {
            Record::Absent => return,
            Record::Zero => (record, PageClass::Zero),
            Record::Away(PageCopy::Fill(_)) => (record, PageClass::AwayFill),
            Record::Failed => (record, PageClass::Failed),
            Record::Resident(_) | Record::Filling(_) | Record::Away(_) => {
                core.write_protect((parent, page));
                (Record::Shared(core.share((parent, page), record)), PageClass::Shared)
            }
            Record::Shared(_) => (record, PageClass::Shared),
        };
        if let Record::Shared(anon) = twin {
            core.anons.add_ref(anon);
        }
        core.turn(Home::Private(child, page), PageClass::Absent, class, twin);
        core.counters.pgfork += 1;
    }
}

/// A part of a fork that copies some of what lies in a range, and says where to go on.
type Copying<P> = fn(&Mm<P>, &mut Core<P>, Family, PageRange) -> Result<Option<Vpn>, NoMemory>;

/// Who forks.
#[derive(Clone, Copy)]
struct Family {
    parent: SpaceId,
    child: SpaceId,
}

impl<P: Platform> Core<P> {
    /// Where the record of a page stands that a space has, and what it says: for tests.
    #[cfg(feature = "sim")]
    pub fn resolve(&mut self, (space, page): Place) -> Option<(Home, Record)> {
        let s = self.spaces.get_mut(space)?;
        let object = s.vmas.find(page).and_then(|area| area.object_page(page));
        Some(match (s.index.get(page), object) {
            (Record::Shared(anon), _) => (Home::Anon(anon), self.anons.record(anon)),
            (Record::Absent, Some((id, page, _))) => {
                (Home::Object(id, page), self.objects.get_mut(id)?.index.get(page.key()))
            }
            (record, _) => (Home::Private(space, page), record),
        })
    }

    /// A private page can be shared from now on; one space has it so far.
    fn share(&mut self, place: Place, record: Record) -> AnonId {
        let class = self.class_of_record(record);
        let anon = self.anons.insert(record);
        self.rehome(Home::Private(place.0, place.1), Home::Anon(anon), record);
        self.pages.shift(PageClass::Absent, PageClass::Shared);
        if let Some(s) = self.spaces.get_mut(place.0) {
            s.shift(class, PageClass::Shared);
            s.index.set(place.1, Record::Shared(anon));
        }
        anon
    }

    /// The only space that has a shared page takes it as its own. Returns its record.
    pub fn take_home(&mut self, place: Place, anon: AnonId) -> Record {
        let Some(record) = self.anons.drop_ref(anon) else { unreachable!("somebody else has it, too") };
        let class = self.class_of_record(record);
        self.rehome(Home::Anon(anon), Home::Private(place.0, place.1), record);
        self.pages.shift(PageClass::Shared, PageClass::Absent);
        if let Some(s) = self.spaces.get_mut(place.0) {
            s.shift(PageClass::Shared, class);
            s.index.set(place.1, record);
        }
        record
    }

    /// A space gives a shared page up: it has copied it, or does not want it. Its record and the counts are the caller's. Returns the
    /// page's record if nobody has it now.
    pub fn leave_shared(&mut self, frames: &FrameAllocator<P::Lock>, place: Place, anon: AnonId) -> Option<Record> {
        self.unmap_page(frames, place);
        self.anons.drop_ref(anon)
    }

    /// A space is about to have a page of its own where it had a copy to come: what it has there so far is no longer its. Returns how that
    /// was counted.
    pub fn leave_original(&mut self, frames: &FrameAllocator<P::Lock>, place: Place) -> PageClass {
        let own = self.spaces.get_mut(place.0).map(|s| s.index.get(place.1));
        let Some(Record::Shared(anon)) = own else {
            self.unmap_page(frames, place);
            return PageClass::Absent;
        };
        let last = self.leave_shared(frames, place, anon);
        debug_assert!(last.is_none(), "the last one takes it home");
        PageClass::Shared
    }

    /// The page's record stands somewhere else from now on, and its frame says so.
    pub(super) fn rehome(&mut self, from: Home, to: Home, record: Record) {
        let frame = match record {
            Record::Resident(frame) => Some(frame),
            Record::Filling(op) => self.frame_under(op, from),
            Record::Away(PageCopy::Tier(id, _)) => return self.rehome_in_tier(id, to),
            _ => None,
        };
        let Some(frame) = frame else { return };
        self.table.get_mut(frame).set_home(to);
    }

    fn rehome_in_tier(&mut self, id: EntryId, to: Home) {
        if let Some(tier) = &mut self.tier {
            tier.entry_mut(id).home = to.into();
        }
    }

    /// How a page with this record is counted.
    pub fn class_of_record(&self, record: Record) -> PageClass {
        match record {
            Record::Absent => PageClass::Absent,
            Record::Zero => PageClass::Zero,
            Record::Resident(frame) => class_of(self.table.get(frame).residence()),
            Record::Filling(_) => PageClass::Filling,
            Record::Away(copy) => class_of_copy(copy),
            Record::Failed => PageClass::Failed,
            Record::Shared(_) => PageClass::Shared,
        }
    }

    /// From now on a store to the page at `place` faults. Takes in its D bit.
    fn write_protect(&mut self, (space, page): Place) {
        let Some(s) = self.spaces.get_mut(space) else { return };
        // An area that allows no access has no mappings.
        let Some(area) = s.vmas.find(page) else { return };
        if let Some(stale) = s.table.protect(page, area.rights.without_write()) {
            let mapping = s.table.flush(stale);
            if mapping.frame != self.zero && mapping.dirty {
                self.note_dirty(mapping.frame);
            }
        }
    }
}
