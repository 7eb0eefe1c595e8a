//! Memory objects: pages that stand on their own and are mapped, whole or in part, in any number of address spaces.
//!
//! Owns the objects, by name; each has the records of its pages, so a page is in RAM once and on the disk once however many spaces
//! have it mapped. Does not own areas (they name an object and where they begin in it), nor mappings ([`crate::rmap`]).
//!
//! An object lives as long as somebody has a handle to it or an area that maps it. Then it is *doomed*: reclaim buries it, a chunk of
//! pages at a time, so that nobody who lets go of an object has to wait, and dropping a future half-way loses nothing.
//!
//! - [`mod@fault`]: how a fault is served from an object. [`mod@area`]: which areas map an object, and taking its pages out of them.

pub(crate) mod area;
mod fault;

pub use area::{Backing, Sharing};

use crate::addr::{PAGE_SIZE, PageRange, Vpn};
use crate::home::Home;
use crate::index::PageIndex;
use crate::manager::{Core, Mm, NoMemory};
use crate::page::Record;
use crate::platform::Platform;
use crate::space::CHUNK;
use crate::stats::PageCounts;
use alloc::{boxed::Box, vec::Vec};
use arrayvec::ArrayVec;

/// Name of an object: a slot and how often it was used before, so that an old name finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ObjectId(u32);

impl ObjectId {
    /// Bits of a name: it must fit beside a page number in 64 bits.
    pub(crate) const BITS: u32 = 26;
    const SLOT_BITS: u32 = 16;

    pub(crate) fn new(raw: u32) -> Self {
        Self(raw)
    }
    pub(crate) fn raw(self) -> u32 {
        self.0
    }
    fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }
    fn of(slot: usize, generation: u32) -> Self {
        Self((generation << Self::SLOT_BITS | slot as u32) & ((1 << Self::BITS) - 1))
    }
}

/// Number of a page in an object: its offset divided by the size of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ObjectPage(u64);

impl ObjectPage {
    /// Bits of a page number: objects of up to 256 TiB.
    pub(crate) const BITS: u32 = 36;

    /// Page number `raw`.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The page that holds the byte at `offset`.
    pub const fn holding(offset: u64) -> Self {
        Self(offset / PAGE_SIZE as u64)
    }
    /// The raw page number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
    /// Offset of the page's first byte.
    pub const fn offset(self) -> u64 {
        self.0 * PAGE_SIZE as u64
    }
    /// The page `pages` further on.
    pub const fn after(self, pages: u64) -> Self {
        Self(self.0 + pages)
    }
    /// As the key of its record.
    pub(crate) fn key(self) -> Vpn {
        Vpn::new(self.0)
    }
}

/// Most bytes in an object.
pub const MAX_OBJECT: u64 = (1 << ObjectPage::BITS) * PAGE_SIZE as u64;

/// One object.
pub(crate) struct Object {
    pub index: PageIndex,
    /// Pages by state.
    pub pages: PageCounts,
    /// Its size; pages past the end cannot be used.
    pub bytes: u64,
    /// Who may map it or change it later on.
    handles: u32,
    /// Pages of all areas that map it.
    mapped: u64,
}

impl Object {
    /// One past the last page.
    pub fn end(&self) -> ObjectPage {
        ObjectPage(self.bytes.div_ceil(PAGE_SIZE as u64))
    }

    /// Pages of all areas that map it.
    #[cfg(feature = "sim")]
    pub fn mapped(&self) -> u64 {
        self.mapped
    }

    fn is_wanted(&self) -> bool {
        self.handles > 0 || self.mapped > 0
    }
}

/// All objects.
#[derive(Default)]
pub(crate) struct Objects {
    slots: Vec<(u32, Option<Box<Object>>)>,
    /// Objects that nobody wants and that still have pages, or a name at least.
    doomed: Vec<ObjectId>,
    /// Pages with a record, of all objects.
    pages: u64,
}

impl Objects {
    fn insert(&mut self, object: Object) -> Option<ObjectId> {
        let vacant = self.slots.iter().position(|(_, object)| object.is_none());
        let slot = vacant.unwrap_or(self.slots.len());
        if slot >= 1 << ObjectId::SLOT_BITS {
            return None;
        }
        if vacant.is_none() {
            self.slots.push((0, None));
        }
        let (generation, place) = &mut self.slots[slot];
        *generation += 1;
        *place = Some(Box::new(object));
        let id = ObjectId::of(slot, *generation);
        // Each object is doomed once, and that must not need memory.
        self.doomed.reserve(self.slots.len() - self.doomed.len());
        Some(id)
    }

    /// The object of that name, doomed ones included.
    #[inline]
    pub fn get_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        let (generation, object) = self.slots.get_mut(id.slot())?;
        if ObjectId::of(id.slot(), *generation) != id {
            return None;
        }
        object.as_deref_mut()
    }

    /// All objects, for checks.
    #[cfg(feature = "sim")]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ObjectId, &mut Object)> {
        let named = self.slots.iter_mut().enumerate();
        named.filter_map(|(slot, (generation, object))| Some((ObjectId::of(slot, *generation), object.as_deref_mut()?)))
    }

    /// Pages with a record, of all objects.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether some objects wait to be buried.
    pub fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// A page of an object was counted as `from`, and is counted as `to`.
    pub fn shift(&mut self, id: ObjectId, from: crate::stats::PageClass, to: crate::stats::PageClass) {
        use crate::stats::PageClass::Absent;
        self.pages = self.pages + u64::from(from == Absent) - u64::from(to == Absent);
        if let Some(object) = self.get_mut(id) {
            object.pages.shift(from, to);
        }
    }
}

impl<P: Platform> Mm<P> {
    /// Makes an object of so many bytes, all zero, with one handle to it: memory that can be shared. Nothing is committed.
    pub fn create_object(&self, bytes: u64) -> Result<ObjectId, NoMemory> {
        if bytes > MAX_OBJECT {
            return Err(NoMemory);
        }
        let (index, pages) = (PageIndex::default(), PageCounts::default());
        let object = Object { index, pages, bytes, handles: 1, mapped: 0 };
        self.core.with_lock(|core| core.objects.insert(object)).ok_or(NoMemory)
    }

    /// Gives up a handle. With the last handle and the last area that maps it the object goes, and all that is in it.
    pub fn close_object(&self, id: ObjectId) {
        self.core.with_lock(|core| {
            let Some(object) = core.objects.get_mut(id) else { return };
            object.handles -= 1;
            self.doom_if_unwanted(core, id);
        });
    }

    /// The size of an object in bytes.
    pub fn object_size(&self, id: ObjectId) -> Option<u64> {
        self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.bytes))
    }

    /// The pages of an object by state.
    pub fn object_pages(&self, id: ObjectId) -> Option<PageCounts> {
        self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.pages))
    }

    pub(crate) fn doom_if_unwanted(&self, core: &mut Core<P>, id: ObjectId) {
        if core.objects.get_mut(id).is_some_and(|object| !object.is_wanted()) {
            core.objects.doomed.push(id);
            self.frames.pressure().wake_all();
        }
    }

    /// Buries doomed objects, giving way between chunks.
    pub(crate) async fn bury_objects(&self) {
        while self.core.with_lock(|core| self.bury_chunk(core)) {
            self.announce_frames();
            crate::yield_now().await;
        }
        self.announce_frames();
    }

    /// Gives up to [`CHUNK`] pages of a doomed object up. `false` if nothing is doomed.
    fn bury_chunk(&self, core: &mut Core<P>) -> bool {
        let Some(&id) = core.objects.doomed.last() else { return false };
        if !self.release_object_pages(core, id, ObjectPage(0)) {
            core.objects.doomed.pop();
            core.objects.slots[id.slot()].1 = None;
        }
        true
    }

    /// Gives up to [`CHUNK`] pages from `first` on up, and takes them out of all page tables. `false` if there are no more.
    fn release_object_pages(&self, core: &mut Core<P>, id: ObjectId, first: ObjectPage) -> bool {
        let mut pages: ArrayVec<(ObjectPage, Record), CHUNK> = ArrayVec::new();
        let Some(object) = core.objects.get_mut(id) else { return false };
        let rest = PageRange { start: first.key(), end: Vpn::new(1 << ObjectPage::BITS) };
        let more = object.index.visit(rest, CHUNK, |page, record| {
            pages.push((ObjectPage(page.as_u64()), record));
            Record::Absent
        });
        for (page, record) in pages {
            if let Record::Resident(frame) = record {
                core.unmap_everywhere(self.frames, frame);
            }
            self.release_record(core, Home::Object(id, page), record);
        }
        self.begin_discards(core);
        more.is_some()
    }
}
