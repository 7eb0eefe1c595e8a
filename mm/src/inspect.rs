//! Looking at pages and frames from outside: what `pagemap`, `smaps` and the owner map of `/proc` show, and `mincore` answers.
//!
//! Owns the view ([`Sight`], [`FrameSight`]), which says what is so and keeps nothing. Does not own any state, and changes none: a look
//! neither maps nor fills, and does not count as a use. Looks at so many pages under the lock and then says where to go on (design D3); what
//! changes in between is seen as it is then. Dirty means found dirty so far, see [`Mm::take_in_dirty_bits`].

use crate::addr::{PageRange, Pfn, Vpn};
use crate::frame::Residence;
use crate::home::Place;
use crate::manager::{Core, Mm};
use crate::page::{PageCopy, Record};
use crate::platform::{Platform, Slot};
use crate::space::{CHUNK, SpaceId, Vma};
use crate::stats::PageClass;
use arrayvec::ArrayVec;

/// Records taken out of an index at a time.
const BATCH: usize = 32;

/// What is seen of a page that somebody has touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// Read but never written: on the shared frame of zeroes, which is this.
    Zero(Pfn),
    /// In a frame.
    Resident(ResidentPage),
    /// Being read in.
    Filling,
    /// In a slot.
    Slot(Slot, Ownership),
    /// Nothing but a word, repeated.
    Word(Ownership),
    /// In the compressed tier.
    Compressed(Ownership),
    /// Lost.
    Lost,
}

/// A page in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResidentPage {
    /// Which.
    pub frame: Pfn,
    /// What the frame is going through.
    pub residence: Residence,
    /// Whose it is.
    pub ownership: Ownership,
    /// Page tables that refer to it, of whichever space.
    pub mappings: usize,
    /// Whether this space's page tables do.
    pub here: Presence,
}

impl ResidentPage {
    /// Among how many spaces the page is split. A page that is shared since a fork is in RAM for each of those who have it, mapped or not:
    /// page tables are a cache. Of an object's page a space has no record, so only those count who have it mapped (none while nobody has).
    pub fn sharers(&self) -> u64 {
        match self.ownership {
            Ownership::Private => 1,
            Ownership::Forked(spaces) => spaces.into(),
            Ownership::Object => self.mappings as u64,
        }
    }

    /// Whether the page is resident for the space that was looked at.
    pub fn counts(&self) -> bool {
        self.ownership != Ownership::Object || self.here == Presence::Mapped
    }
}

/// Whose page it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// This space's alone.
    Private,
    /// That of so many spaces since a fork.
    Forked(u32),
    /// An object's.
    Object,
}

/// Whether page tables refer to a page: they are a cache, and a page of one's own need not be in them to be resident.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// They do.
    Mapped,
    /// They do not.
    Unmapped,
}

/// Pages of objects in RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ObjectPages {
    /// Of shared memory.
    pub shared: u64,
    /// Of files.
    pub of_files: u64,
}

/// What a space has, in pages: what `VmSize`, `VmRSS` and `VmSwap` say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Of all its areas.
    pub mapped: u64,
    /// In RAM: its own, those it shares since a fork, and of objects those it has mapped.
    pub resident: u64,
    /// In swap, its own and those it shares since a fork.
    pub away: u64,
}

/// What is seen of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameSight {
    /// Nobody's.
    Free,
    /// A page's, or a last-level page table's.
    Page(Residence),
    /// The shared frame of zeroes.
    Zero,
    /// The kernel's, or no RAM.
    Other,
}

impl<P: Platform> Mm<P> {
    /// The first area that ends behind `page`.
    pub fn area_from(&self, space: SpaceId, page: Vpn) -> Option<Vma> {
        self.core.with_lock(|core| {
            let s = core.spaces.get_mut(space)?;
            let rest = PageRange { start: page, end: s.layout.bounds.end };
            s.vmas.overlapping(rest).next().copied()
        })
    }

    /// Shows the pages of `range` that somebody has touched, in order, after a look at `limit` of them at most. Says where to go on.
    pub fn look(
        &self,
        space: SpaceId,
        range: PageRange,
        limit: usize,
        show: &mut dyn FnMut(Vpn, Sight),
    ) -> Option<Vpn> {
        self.core.with_lock(|core| core.look(space, range, limit, show))
    }

    /// Shows the frames from `from` on, `limit` at most. Says where to go on.
    pub fn look_at_frames(&self, from: usize, limit: usize, show: &mut dyn FnMut(Pfn, FrameSight)) -> Option<usize> {
        self.core.with_lock(|core| {
            let end = core.table.len().min(from.saturating_add(limit));
            for index in from..end {
                let frame = Pfn::new(index as u32);
                let sight = match core.table.get(frame).residence() {
                    _ if frame == core.zero => FrameSight::Zero,
                    Residence::None if self.frames.is_free(frame) => FrameSight::Free,
                    Residence::None => FrameSight::Other,
                    residence => FrameSight::Page(residence),
                };
                show(frame, sight);
            }
            (end < core.table.len()).then_some(end)
        })
    }

    /// What a space has. Its own pages are counted as they change; those that it shares since a fork change without it, so they are looked
    /// up one by one, a chunk at a time. `None` if it is gone.
    pub async fn footprint(&self, space: SpaceId) -> Option<Footprint> {
        let begin = |core: &mut Core<P>| {
            let s = core.spaces.get_mut(space)?;
            let own = Footprint { mapped: s.vmas.pages(), resident: s.pages.resident(), away: s.pages.away() };
            Some((own, (s.pages.get(PageClass::Shared) > 0).then_some(s.layout.bounds.start)))
        };
        let (mut sum, mut next) = self.core.with_lock(begin)?;
        while let Some(start) = next {
            next = self.core.with_lock(|core| core.add_shared(space, start, &mut sum));
            if next.is_some() {
                crate::yield_now().await;
            }
        }
        Some(sum)
    }

    /// How many of the [`resident`](crate::stats::PageCounts::resident) pages stand on their own, not in a space.
    pub fn objects_in_ram(&self) -> ObjectPages {
        self.core.with_lock(|core| {
            let mut sum = ObjectPages::default();
            for (_, object) in core.objects.iter_mut() {
                *if object.file().is_some() { &mut sum.of_files } else { &mut sum.shared } += object.pages.resident();
            }
            sum
        })
    }

    /// One past the last frame that [`Self::look_at_frames`] shows.
    pub fn frame_span(&self) -> usize {
        self.core.with_lock(|core| core.table.len())
    }
}

impl<P: Platform> Core<P> {
    fn look(
        &mut self,
        space: SpaceId,
        range: PageRange,
        limit: usize,
        show: &mut dyn FnMut(Vpn, Sight),
    ) -> Option<Vpn> {
        let (mut next, mut left) = (range.start, limit);
        while next < range.end {
            let rest = PageRange { start: next, end: range.end };
            let area = *self.spaces.get_mut(space)?.vmas.overlapping(rest).next()?;
            let part = PageRange { start: next.max(area.range.start), end: area.range.end.min(range.end) };
            if left == 0 {
                return Some(part.start);
            }
            let stopped = match area.object_page(part.start) {
                None => self.look_at_own(space, part, &mut left, show),
                Some(_) => self.look_at_object(space, &area, part, &mut left, show),
            };
            if stopped.is_some() {
                return stopped;
            }
            next = part.end;
        }
        None
    }

    /// In an area without an object: only pages with a record of their own are looked at, however far apart.
    fn look_at_own(
        &mut self,
        space: SpaceId,
        range: PageRange,
        left: &mut usize,
        show: &mut dyn FnMut(Vpn, Sight),
    ) -> Option<Vpn> {
        let mut next = Some(range.start);
        while let Some(start) = next {
            if *left == 0 {
                return Some(start);
            }
            // Collected first: what a record leads to is not the space's.
            let mut batch: ArrayVec<(Vpn, Record), BATCH> = ArrayVec::new();
            let s = self.spaces.get_mut(space)?;
            next = s.index.visit(PageRange { start, ..range }, BATCH.min(*left), |page, record| {
                batch.push((page, record));
                record
            });
            *left -= batch.len();
            for (page, record) in batch {
                if let Some(sight) = self.sight((space, page), Ownership::Private, record) {
                    show(page, sight);
                }
            }
        }
        None
    }

    /// In an area with an object: each page is the space's own, or the object's.
    fn look_at_object(
        &mut self,
        space: SpaceId,
        area: &Vma,
        range: PageRange,
        left: &mut usize,
        show: &mut dyn FnMut(Vpn, Sight),
    ) -> Option<Vpn> {
        for page in range.start.as_u64()..range.end.as_u64() {
            let page = Vpn::new(page);
            if *left == 0 {
                return Some(page);
            }
            *left -= 1;
            let own = self.spaces.get_mut(space)?.index.get(page);
            let (id, at, _) = area.object_page(page)?;
            let (ownership, record) = match own {
                Record::Absent => {
                    let object = self.objects.get_mut(id).filter(|object| at < object.end());
                    (Ownership::Object, object.map_or(Record::Absent, |object| object.index.get(at.key())))
                }
                own => (Ownership::Private, own),
            };
            if let Some(sight) = self.sight((space, page), ownership, record) {
                show(page, sight);
            }
        }
        None
    }

    /// Adds up to [`CHUNK`] pages from `start` on, of those that a space shares since a fork. Says where to go on.
    fn add_shared(&mut self, space: SpaceId, start: Vpn, sum: &mut Footprint) -> Option<Vpn> {
        let Self { spaces, anons, .. } = self;
        let s = spaces.get_mut(space)?;
        let range = PageRange { start, end: s.layout.bounds.end };
        s.index.visit(range, CHUNK, |_, record| {
            if let Record::Shared(anon) = record {
                match anons.record(anon) {
                    Record::Resident(_) => sum.resident += 1,
                    Record::Away(_) => sum.away += 1,
                    _ => {}
                }
            }
            record
        })
    }

    fn sight(&self, place: Place, ownership: Ownership, record: Record) -> Option<Sight> {
        Some(match record {
            // A page that is in a file only has no record.
            Record::Absent | Record::Away(PageCopy::File) => return None,
            Record::Zero => Sight::Zero(self.zero),
            Record::Filling(_) => Sight::Filling,
            Record::Away(PageCopy::Slot(slot, _)) => Sight::Slot(slot, ownership),
            Record::Away(PageCopy::Fill(_)) => Sight::Word(ownership),
            Record::Away(PageCopy::Tier(..)) => Sight::Compressed(ownership),
            Record::Failed => Sight::Lost,
            Record::Shared(anon) => {
                let ownership = Ownership::Forked(self.anons.refs(anon));
                return self.sight(place, ownership, self.anons.record(anon));
            }
            Record::Resident(frame) => {
                let (mut mappings, mut here) = (0, Presence::Unmapped);
                for mapped in self.mappings.places(&self.table, frame) {
                    mappings += 1;
                    if mapped == place {
                        here = Presence::Mapped;
                    }
                }
                let residence = self.table.get(frame).residence();
                Sight::Resident(ResidentPage { frame, residence, ownership, mappings, here })
            }
        })
    }
}
