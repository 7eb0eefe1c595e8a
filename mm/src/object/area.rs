//! Areas that map objects: what an area says of its object, how objects know that areas want them, and taking pages out of areas.
//!
//! Owns [`Backing`]. Does not own the map of areas ([`crate::space::VmaMap`]), which splits and merges them; every area that comes
//! or goes passes [`Core::insert_area`] or [`Mm::remove_area`], which keep the objects' counts.

use super::{Object, ObjectId, ObjectPage};
use crate::addr::{PageRange, Vpn};
use crate::manager::{Core, Mm};
use crate::platform::Platform;
use crate::space::{CHUNK, Label, MapError, SpaceId, Vma};
use arrayvec::ArrayVec;

/// Whether what is written in an area is written to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// It is: `MAP_SHARED`.
    Shared,
    /// It shows what others write, and nobody may ever write through it: `MAP_SHARED` of a file that is open for reading only.
    Viewed,
    /// It is not; a page that is written to becomes the space's own: `MAP_PRIVATE`.
    Private,
}

impl Sharing {
    /// Whether stores make pages of the space's own.
    pub fn is_private(self) -> bool {
        self == Self::Private
    }
}

/// Where the pages of an area come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Nowhere: they begin as zeroes, and are the space's own.
    Anonymous,
    /// From an object.
    Object {
        /// Which.
        object: ObjectId,
        /// What the area's first page is in the object.
        first: ObjectPage,
        /// Whose they are.
        sharing: Sharing,
    },
}

impl Backing {
    /// What an area is backed by that begins `pages` later.
    pub(crate) fn after(self, pages: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Object { object, first, sharing } => Self::Object { object, first: first.after(pages), sharing },
        }
    }
}

impl Vma {
    /// What a page of the area is in the area's object, if it has one.
    pub fn object_page(&self, page: Vpn) -> Option<(ObjectId, ObjectPage, Sharing)> {
        let Backing::Object { object, first, sharing } = self.backing else { return None };
        Some((object, first.after(page.as_u64() - self.range.start.as_u64()), sharing))
    }
}

impl Object {
    /// What an area of so many pages has of the shared memory that is away: those who map it have equal parts.
    pub fn away_for(&self, pages: u64) -> u64 {
        if self.file.is_some() { 0 } else { self.pages.away() * pages / self.mapped.max(1) }
    }
}

impl<P: Platform> Core<P> {
    /// Whether a page of an area is behind the end of the area's object.
    pub fn is_behind_end(&mut self, area: &Vma, page: Vpn) -> bool {
        let Some((id, page, _)) = area.object_page(page) else { return false };
        self.objects.get_mut(id).is_none_or(|object| page >= object.end())
    }

    /// Adds an area in a place that is free, if there is memory for it and its object, if it has one, is still there.
    pub fn insert_area(&mut self, space: SpaceId, area: Vma) -> Result<(), MapError> {
        let s = self.spaces.get_mut(space).ok_or(MapError::SpaceGone)?;
        if !s.vmas.make_room(1) {
            return Err(MapError::NoRoom);
        }
        if let Backing::Object { object, sharing, .. } = area.backing {
            let object = self.objects.get_mut(object).filter(|object| object.is_wanted()).ok_or(MapError::NoObject)?;
            object.mapped += area.range.len();
            object.open_to_stores += if sharing == Sharing::Shared { area.range.len() } else { 0 };
        }
        s.vmas.insert(area);
        Ok(())
    }
}

impl<P: Platform> Mm<P> {
    /// Removes the first area of a range, or what it has of it. Its pages are released already.
    pub(crate) fn remove_area(&self, core: &mut Core<P>, space: SpaceId, range: PageRange) {
        let Core { spaces, objects, .. } = core;
        let Some(s) = spaces.get_mut(space) else { return };
        let Some(gone) = s.vmas.take_first(range) else { return };
        if gone.label == Label::Block {
            s.scopes.leave(&s.vmas, gone.range.start);
        }
        let Backing::Object { object: id, sharing, .. } = gone.backing else { return };
        let Some(object) = objects.get_mut(id) else { return };
        object.mapped -= gone.range.len();
        object.open_to_stores -= if sharing == Sharing::Shared { gone.range.len() } else { 0 };
        if !object.is_wanted() {
            objects.doom(id);
            self.frames.pressure().wake_all();
        }
    }

    /// Makes the page tables of a space forget the pages of objects in a range, giving way between chunks.
    pub(crate) async fn unmap_object_pages(&self, space: SpaceId, range: PageRange) {
        let mut next = Some(range.start);
        while let Some(start) = next {
            let rest = PageRange { start, end: range.end };
            next = self.core.with_lock(|core| self.unmap_object_chunk(core, space, rest));
            if next.is_some() {
                crate::yield_now().await;
            }
        }
    }

    /// Looks at up to [`CHUNK`] pages of the first area in the range that maps an object. Returns where to go on.
    pub(crate) fn unmap_object_chunk(&self, core: &mut Core<P>, space: SpaceId, range: PageRange) -> Option<Vpn> {
        let s = core.spaces.get_mut(space)?;
        let area = s.vmas.first_with_object(range)?;
        let (start, end) = (area.range.start.max(range.start), area.range.end.min(range.end));
        let (id, first, _) = area.object_page(start)?;
        let last = first.after(end.as_u64() - start.as_u64());
        let mut pages: ArrayVec<Vpn, CHUNK> = ArrayVec::new();
        let object = core.objects.get_mut(id)?;
        let more = object.index.visit(PageRange { start: first.key(), end: last.key() }, CHUNK, |page, record| {
            pages.push(start.offset(page.as_u64() - first.as_u64()));
            record
        });
        pages.into_iter().for_each(|page| core.unmap_page(self.frames, (space, page)));
        more.map_or((end < range.end).then_some(end), |page| Some(start.offset(page.as_u64() - first.as_u64())))
    }
}
