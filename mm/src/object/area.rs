//! Areas that map objects: what an area says of its object, how objects know that areas want them, and taking pages out of areas.
//!
//! Owns [`Backing`]. Does not own the map of areas ([`crate::space::VmaMap`]), which splits and merges them; every area that comes
//! or goes passes [`Core::insert_area`] or [`Mm::remove_areas`], which keep the objects' counts.

use super::{ObjectId, ObjectPage};
use crate::addr::{PageRange, Vpn};
use crate::manager::{Core, Mm};
use crate::platform::Platform;
use crate::space::{CHUNK, SpaceId, Vma};
use arrayvec::ArrayVec;

/// Whether what is written in an area is written to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// It is: `MAP_SHARED`.
    Shared,
    /// It is not; a page that is written to becomes the space's own: `MAP_PRIVATE`.
    Private,
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

impl<P: Platform> Core<P> {
    /// Adds an area in a place that is free. `false` if its object is gone, or there is no such space.
    pub fn insert_area(&mut self, space: SpaceId, area: Vma) -> bool {
        let Some(s) = self.spaces.get_mut(space) else { return false };
        if let Backing::Object { object, .. } = area.backing {
            let Some(object) = self.objects.get_mut(object).filter(|object| object.is_wanted()) else { return false };
            object.mapped += area.range.len();
        }
        s.vmas.insert(area);
        true
    }
}

impl<P: Platform> Mm<P> {
    /// Removes the areas of a range, splitting those that stick out. Their pages are released already.
    pub(crate) fn remove_areas(&self, core: &mut Core<P>, space: SpaceId, range: PageRange) {
        let Core { spaces, objects, .. } = core;
        let Some(s) = spaces.get_mut(space) else { return };
        let mut orphaned: ArrayVec<ObjectId, CHUNK> = ArrayVec::new();
        for area in s.vmas.overlapping(range) {
            let Backing::Object { object: id, .. } = area.backing else { continue };
            let (start, end) = (area.range.start.max(range.start), area.range.end.min(range.end));
            let Some(object) = objects.get_mut(id) else { continue };
            object.mapped -= PageRange { start, end }.len();
            if !object.is_wanted() {
                objects.doom(id);
                let _full = orphaned.try_push(id);
            }
        }
        s.vmas.remove(range);
        if !orphaned.is_empty() {
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
    fn unmap_object_chunk(&self, core: &mut Core<P>, space: SpaceId, range: PageRange) -> Option<Vpn> {
        let s = core.spaces.get_mut(space)?;
        let area = *s.vmas.overlapping(range).find(|area| area.backing != Backing::Anonymous)?;
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
