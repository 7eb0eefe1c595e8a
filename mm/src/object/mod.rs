//! Memory objects: pages that stand on their own and are mapped, whole or in part, in any number of address spaces.
//!
//! Owns the objects, by name; each has the records of its pages, so a page is in RAM once and on the disk once however many spaces
//! have it mapped. Does not own areas (they name an object and where they begin in it), nor mappings ([`crate::rmap`]).
//!
//! An object lives as long as somebody has a handle to it or an area that maps it. Then it is *doomed*: reclaim buries it, a chunk of
//! pages at a time, so that nobody who lets go of an object has to wait, and dropping a future half-way loses nothing.
//!
//! - [`mod@io`]: `read` and `write`. [`mod@truncate`]: the end of an object. [`mod@vacate`]: a hole in its middle.
//! - [`mod@file`]: pages of files, on their way in and out. [`mod@complete`]: when they have arrived. [`mod@sync`]: when they are written.
//! - [`mod@fault`]: how a fault is served from an object. [`mod@area`]: which areas map an object, and taking its pages out of them.

pub(crate) mod area;
pub(crate) mod complete;
mod fault;
pub(crate) mod file;
mod io;
pub(crate) mod sync;
mod truncate;
mod vacate;

pub use area::{Backing, Sharing};
pub use vacate::Vacant;

use crate::addr::{PAGE_SIZE, PageRange, Vpn};
use crate::arena::{Arena, Names};
use crate::fault::FaultError;
use crate::file_store::{FileError, FileId};
use crate::home::Home;
use crate::index::PageIndex;
use crate::manager::{Core, Mm, NoMemory};
use crate::ops::OpKind;
use crate::page::Record;
use crate::platform::Platform;
use crate::space::CHUNK;
use crate::stats::{PageClass, PageCounts};
use arrayvec::ArrayVec;
use core::ops::Range;

/// Name of an object: a slot and how often it was used before, so that an old name finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ObjectId(u32);

impl ObjectId {
    /// Bits of a name: it must fit beside a page number in 64 bits.
    pub(crate) const BITS: u32 = 26;
    const SLOT_BITS: u32 = 16;
    const NAMES: Names = Names {
        slots: 1 << Self::SLOT_BITS,
        generations: (1 << (Self::BITS - Self::SLOT_BITS)) - 1,
        name: |slot, generation| Self::of(slot, generation).0,
    };

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
    /// Behind the last page that an object can have.
    pub const LAST: Self = Self(1 << Self::BITS);

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

/// Why something could not be done to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ObjectError {
    /// The disk is full: ENOSPC.
    #[error("no room on the disk")]
    NoSpace,
    /// The disk failed: EIO.
    #[error("the disk failed")]
    Io,
    /// The program has no such memory, or not with those rights: EFAULT.
    #[error("bad address")]
    BadAddress,
    /// There is no memory for a page in between: the program is to be killed.
    #[error("out of memory")]
    OutOfMemory,
    /// There is no such object, or no such space: EBADF.
    #[error("the object is gone")]
    Gone,
    /// No object can be that large: EFBIG.
    #[error("too large for an object")]
    TooLarge,
}

impl From<FileError> for ObjectError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NoSpace => Self::NoSpace,
            FileError::Io => Self::Io,
        }
    }
}

impl From<FaultError> for ObjectError {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::OutOfMemory => Self::OutOfMemory,
            _ => Self::BadAddress,
        }
    }
}

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
    /// Of these, pages of areas through which it may be written to.
    open_to_stores: u64,
    /// The file that its pages come from and go to.
    file: Option<FileId>,
    /// Pages from the first to the second have blocks: what the store said last.
    prepared: (ObjectPage, ObjectPage),
    /// An error of write-back that nobody has been told of.
    pub write_error: Option<FileError>,
    /// A run of pages could not be read, or not be given blocks: until the file is cut, each is tried by itself.
    pub singly: bool,
    /// Pages that are being taken out: nobody gets one of them until that is over.
    closed: Option<vacate::Closed>,
    /// Something may be left of what was behind the end when it moved forward last.
    pub cut_short: bool,
    /// The next of those that are doomed.
    next_doomed: Option<ObjectId>,
}

impl Object {
    /// One past the last page.
    pub fn end(&self) -> ObjectPage {
        ObjectPage(self.bytes.div_ceil(PAGE_SIZE as u64))
    }

    /// Pages of all areas that map it, and of those through which it may be written to.
    #[cfg(feature = "sim")]
    pub fn mapped(&self) -> (u64, u64) {
        (self.mapped, self.open_to_stores)
    }

    /// The file that its pages come from and go to.
    pub fn file(&self) -> Option<FileId> {
        self.file
    }

    /// Whether the store is known to have a block for a page.
    fn is_prepared(&self, page: ObjectPage) -> bool {
        self.prepared.0 <= page && page < self.prepared.1
    }

    fn note_prepared(&mut self, first: ObjectPage, count: u32) {
        let end = first.after(u64::from(count));
        let (start, known) = self.prepared;
        self.prepared = if start <= first && first <= known { (start, known.max(end)) } else { (first, end) };
    }

    fn forget_prepared(&mut self) {
        self.prepared = (ObjectPage(0), ObjectPage(0));
        self.singly = false;
    }

    fn is_wanted(&self) -> bool {
        self.handles > 0 || self.mapped > 0
    }
}

/// All objects.
#[derive(Default)]
pub(crate) struct Objects {
    arena: Arena<Object>,
    /// The first of those that nobody wants and that still have pages, or a name at least. Dooming needs no memory.
    doomed: Option<ObjectId>,
    /// Pages with a record, of all objects.
    pages: u64,
    /// Pages of files that differ from what the store has.
    dirty: u64,
}

impl Objects {
    fn insert(&mut self, object: Object) -> Option<ObjectId> {
        let (slot, generation) = self.arena.insert(object, ObjectId::NAMES)?;
        Some(ObjectId::of(slot, generation))
    }

    /// Nobody wants this object any more. To be said once.
    fn doom(&mut self, id: ObjectId) {
        let before = self.doomed;
        if let Some(object) = self.get_mut(id) {
            object.next_doomed = before;
            self.doomed = Some(id);
        }
    }

    /// Forgets the first of those that are doomed: it has no pages left.
    fn bury(&mut self) {
        let Some(id) = self.doomed else { return };
        self.doomed = self.arena.remove(id.slot()).and_then(|object| object.next_doomed);
    }

    /// The object of that name, doomed ones included.
    #[inline]
    pub fn get_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        self.arena.named(id.slot(), id.0)
    }

    /// All objects.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ObjectId, &mut Object)> {
        self.arena.iter_mut().map(|(slot, generation, object)| (ObjectId::of(slot, generation), object))
    }

    /// Pages with a record, of all objects.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages of files that differ from what the store has, or are being written.
    pub fn dirty(&self) -> u64 {
        self.dirty
    }

    /// How many objects there may be by now.
    pub fn len(&self) -> usize {
        self.arena.len()
    }

    /// The first file from a slot on.
    pub fn next_file(&self, slot: usize) -> Option<(usize, ObjectId)> {
        let mut files = self.arena.values_from(slot).filter(|(_, _, object)| object.file.is_some());
        files.next().map(|(slot, generation, _)| (slot, ObjectId::of(slot, generation)))
    }

    /// Whether a page's record stands in the object of a file.
    pub fn is_file(&mut self, home: Home) -> Option<(ObjectId, ObjectPage)> {
        let Home::Object(id, page) = home else { return None };
        self.get_mut(id)?.file.map(|_| (id, page))
    }

    /// From now on each page of an object is read and prepared for by itself.
    pub fn go_singly(&mut self, id: ObjectId) {
        if let Some(object) = self.get_mut(id) {
            object.singly = true;
        }
    }

    /// Whether some objects wait to be buried.
    pub fn has_doomed(&self) -> bool {
        self.doomed.is_some()
    }

    /// A page of an object was counted as `from`, and is counted as `to`.
    pub fn shift(&mut self, id: ObjectId, from: PageClass, to: PageClass) {
        let absent = PageClass::Absent;
        self.pages = self.pages + u64::from(from == absent) - u64::from(to == absent);
        let Some(object) = self.get_mut(id) else { return };
        object.pages.shift(from, to);
        if object.file.is_some() {
            let is_dirty = |class| matches!(class, PageClass::Dirty | PageClass::Cleaning | PageClass::Evicting);
            self.dirty = self.dirty + u64::from(is_dirty(to)) - u64::from(is_dirty(from));
        }
    }
}

impl<P: Platform> Mm<P> {
    /// Makes an object of so many bytes, all zero, with one handle to it: memory that can be shared. Nothing is committed.
    pub fn create_object(&self, bytes: u64) -> Result<ObjectId, NoMemory> {
        self.new_object(None, bytes)
    }

    /// Makes an object of a file that is so many bytes long, with one handle to it. There must not be two of one file.
    pub fn create_file_object(&self, file: FileId, bytes: u64) -> Result<ObjectId, NoMemory> {
        self.new_object(Some(file), bytes)
    }

    fn new_object(&self, file: Option<FileId>, bytes: u64) -> Result<ObjectId, NoMemory> {
        if bytes > MAX_OBJECT || (file.is_some() && self.files.is_none()) {
            return Err(NoMemory);
        }
        let object = Object {
            index: PageIndex::default(),
            pages: PageCounts::default(),
            bytes,
            handles: 1,
            mapped: 0,
            open_to_stores: 0,
            file,
            prepared: (ObjectPage(0), ObjectPage(0)),
            write_error: None,
            singly: false,
            closed: None,
            cut_short: false,
            next_doomed: None,
        };
        self.core.with_lock(|core| core.objects.insert(object)).ok_or(NoMemory)
    }

    /// Gives up a handle. With the last handle and the last area that maps it the object goes, and all that is in it; what of a file is
    /// not written by then is lost, so [`Self::sync_object`] comes first.
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

    /// What was prepared behind an object's end, for stores that did not come, is not prepared any more: its store takes the blocks
    /// back. Nothing is being prepared there when this returns. To be called while nobody writes to the object through system calls.
    pub async fn forget_prepared(&self, id: ObjectId) {
        let Some(end) = self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.end())) else { return };
        self.until_over(move |op| op.kind == OpKind::Prepare && op.target.reaches(id, end)).await;
        // Pages there are blank and clean, but say themselves that they were prepared for.
        while self.core.with_lock(|core| self.release_object_pages(core, id, end..ObjectPage::LAST)) {
            self.announce_frames();
            crate::yield_now().await;
        }
        self.announce_frames();
        self.core.with_lock(|core| {
            if let Some(object) = core.objects.get_mut(id) {
                object.forget_prepared();
            }
        });
    }

    /// Whether a cut of an object is under way, or was given up or failed before it came to its end. Whoever keeps files has it cut once
    /// more, at the end that it has, and frees the blocks behind that, before the object may grow.
    pub fn object_is_cut_short(&self, id: ObjectId) -> bool {
        self.core.with_lock(|core| core.objects.get_mut(id).is_some_and(|object| object.cut_short))
    }

    /// Whether any area maps an object: whoever keeps a file waits with its last close until none does.
    pub fn object_is_mapped(&self, id: ObjectId) -> bool {
        self.core.with_lock(|core| core.objects.get_mut(id).is_some_and(|object| object.mapped > 0))
    }

    /// Whether nobody maps an object, its pages are as its store has them, and nothing is under way: it can be closed, and lose nothing.
    pub fn object_is_idle(&self, id: ObjectId) -> bool {
        self.core.with_lock(|core| {
            let busy = core.ops.find(|op| op.target.reaches(id, ObjectPage(0))).is_some();
            let object = core.objects.get_mut(id);
            !busy && object.is_some_and(|object| object.mapped == 0 && object.pages.get(PageClass::Dirty) == 0)
        })
    }

    /// Whether programs may write to an object through areas, whatever handles there are.
    pub fn object_is_stored_to(&self, id: ObjectId) -> bool {
        self.core.with_lock(|core| core.objects.get_mut(id).is_some_and(|object| object.open_to_stores > 0))
    }

    /// The file that an object is of, if it is one's.
    pub fn object_file(&self, id: ObjectId) -> Option<FileId> {
        self.core.with_lock(|core| core.objects.get_mut(id).and_then(|object| object.file))
    }

    /// The pages of an object by state.
    pub fn object_pages(&self, id: ObjectId) -> Option<PageCounts> {
        self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.pages))
    }

    pub(crate) fn doom_if_unwanted(&self, core: &mut Core<P>, id: ObjectId) {
        if core.objects.get_mut(id).is_some_and(|object| !object.is_wanted()) {
            core.objects.doom(id);
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
        let Some(id) = core.objects.doomed else { return false };
        if !self.release_object_pages(core, id, ObjectPage(0)..ObjectPage::LAST) {
            core.objects.bury();
        }
        true
    }

    /// Gives up to [`CHUNK`] pages of a range up, and takes them out of all page tables. `false` if there are no more.
    fn release_object_pages(&self, core: &mut Core<P>, id: ObjectId, range: Range<ObjectPage>) -> bool {
        let mut pages: ArrayVec<(ObjectPage, Record), CHUNK> = ArrayVec::new();
        let Some(object) = core.objects.get_mut(id) else { return false };
        let range = PageRange { start: range.start.key(), end: range.end.key() };
        let more = object.index.visit(range, CHUNK, |page, record| {
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
