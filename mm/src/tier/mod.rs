//! The compressed tier: pages that are away, but only as far as another part of RAM.
//!
//! Owns what is in it: entries ([`entries`]), their bytes ([`pool`]), the compressor and the memory it works in, and the request that is
//! being written. Takes no frame that somebody else could have had: victims' own become the pool's, and those that pages are written
//! from. Does not own records, frames or slots; what leads from those to here and back is in [`transfer`], and whether it is worth
//! it, in [`worth`]. With no tier nothing of this is there.
//!
//! ```text
//!   a victim ──compress──► the tier ──────────────fault: load──────────────► a frame again, no I/O
//!       │                     │ the oldest, when it is nearly full
//!       │ no room, or         ▼
//!       │ not smaller      frames kept for that ──a cluster of slots──► the device
//!       └─────────────────────────────────────────────────────────────────────┘
//! ```

mod entries;
mod pool;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod transfer;
mod worth;

pub use entries::EntryId;
pub(crate) use entries::{Entry, EntryState};
pub(crate) use transfer::Unloaded;

use crate::addr::{PAGE_SIZE, Pfn};
use crate::group::GroupId;
use crate::platform::{CLUSTER, Compressor, Corrupt, IoFrames, Permission, PhysMemory, Slot};
use crate::reclaim::MissCurve;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use entries::Entries;
use pool::Pool;
pub(crate) use worth::Advice;
use worth::{Size, Totals, Worth};

/// Bytes that a compressor may write before it is known that a page does not get smaller. LZ4's worst case is a 255th and 16 bytes more
/// than the page (`LZ4_compressBound`); lz4_flex wants a tenth and 20.
pub const COMPRESSED_ROOM: usize = PAGE_SIZE + PAGE_SIZE / 8 + GRACE;
const GRACE: usize = 64;
/// Pages there may be for each frame of the pool: pages that shrink to less than a fourth are few, and an entry has 48 bytes.
const PAGES_PER_FRAME: usize = 4;
/// Frames that pages are written from, as a part of the pool's limit, but no more than a request has.
const BOUNCE_SHARE: usize = 16;
/// Parts of the pool's limit: when fewer are left, pages are written to the device until twice as many are.
const SLACK: usize = 8;

const _: () = assert!(size_of::<Entry>() == 48);

/// Whether there is a compressed tier.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Compression {
    /// None.
    #[default]
    Off,
    /// Every victim that gets smaller.
    On,
    /// While it pays ([`worth`]).
    Auto,
}

/// What is in the tier.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TierCounts {
    /// Pages.
    pub pages: u64,
    /// Frames of the pool.
    pub frames: u64,
    /// Frames it may have.
    pub limit: u64,
    /// Frames that pages are written from.
    pub bounce: u64,
    /// Whether victims are put into it.
    pub state: TierState,
}

/// Whether victims are put into the tier.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TierState {
    /// It does not pay now: what is in it is on its way out.
    #[default]
    Resting,
    /// They are.
    Taking,
}

/// A request of pages that leave the tier for the device.
pub(crate) struct Writing {
    pub first: Slot,
    /// By slot; those are gone that were wanted meanwhile.
    pub ids: ArrayVec<Option<EntryId>, CLUSTER>,
}

/// See the module's head.
pub(crate) struct Tier<C> {
    compressor: C,
    pool: Pool,
    entries: Entries,
    page: Box<[u8; PAGE_SIZE]>,
    packed: Box<[u8; COMPRESSED_ROOM]>,
    bounce: ArrayVec<Pfn, CLUSTER>,
    writing: Option<Writing>,
    draining: bool,
    /// There was no memory for another entry since pages were written last.
    starved: bool,
    /// Victims so far, whether they came here or not.
    victims: u32,
    /// With [`Compression::Auto`].
    worth: Option<Worth>,
    /// What that is judged by and is counted here: `trying`, `tried`, `shrunk`, `bytes` and `saved`.
    totals: Totals,
}

impl<C: Compressor> Tier<C> {
    /// An empty tier of at most so many frames. `None` if there is no memory for its tables.
    pub fn new(compressor: C, limit: usize, worth: Option<Worth>) -> Option<Self> {
        Some(Self {
            compressor,
            pool: Pool::new(limit)?,
            entries: Entries::new(limit * PAGES_PER_FRAME)?,
            page: Box::new([0; PAGE_SIZE]),
            packed: Box::new([0; COMPRESSED_ROOM]),
            bounce: ArrayVec::new(),
            writing: None,
            draining: false,
            starved: false,
            victims: 0,
            worth,
            totals: Totals::default(),
        })
    }

    pub fn counts(&self) -> TierCounts {
        let [pages, frames, limit, bounce] =
            [self.entries.len(), self.pool.frames(), self.pool.limit(), self.bounce.len()].map(|n| n as u64);
        let state = if self.is_on() { TierState::Taking } else { TierState::Resting };
        TierCounts { pages, frames, limit, bounce, state }
    }

    #[inline]
    fn is_on(&self) -> bool {
        self.worth.as_ref().is_none_or(Worth::is_on)
    }

    /// What to do with the next victim, of a machine with so much RAM that has read so many pages, and those of swap at such distances.
    pub fn advise(&mut self, ram: usize, reads: u64, curve: &MissCurve) -> Advice {
        self.victims = self.victims.wrapping_add(1);
        let Some(worth) = &mut self.worth else { return Advice::Compress };
        if worth.count_victim() {
            let (frames, pages) = (self.pool.limit(), self.entries.len() + self.entries.left());
            let size = Size { frames, pages, ram, frame_bytes: PAGE_SIZE };
            let now = Totals { spent: self.compressor.spent(), reads, curve: *curve, ..self.totals };
            worth.judge(now, size);
        }
        worth.advice()
    }

    /// Compresses what is in a frame only to see what that takes and gives.
    pub fn try_out(&mut self, memory: &impl PhysMemory, frame: Pfn) {
        let before = self.compressor.spent();
        if let Some(bytes) = self.compress(memory, frame) {
            let again = self.compressor.decompress(&self.packed[..bytes], &mut self.page);
            debug_assert_eq!(again, Ok(()), "a page comes back as it was compressed");
        }
        let after = self.compressor.spent();
        self.totals.trying += after.compressing - before.compressing + after.decompressing - before.decompressing;
    }

    /// A page is wanted back: without the tier it would have been read, if more victims came after it than there are frames here.
    pub fn note_return(&mut self, id: EntryId) {
        let age = self.victims.wrapping_sub(self.entries.get(id).since);
        self.totals.saved += u64::from(age as usize > self.pool.frames());
    }

    /// Whether any page could be put into it that gets smaller, if there is memory for its entry. Into one that rests, none is.
    pub fn has_room(&self) -> bool {
        self.is_on() && (!self.entries.is_full() || self.entries.can_grow()) && self.pool.takes_frame()
    }

    /// Sees to it that there is room for an entry: takes memory for more of them if there is none and the machine can `spare` it. `false`
    /// if there is none then.
    pub fn make_room(&mut self, spare: Permission) -> bool {
        if self.entries.is_full() && spare.is_allowed() {
            self.entries.grow();
        }
        self.starved |= self.entries.is_full();
        !self.entries.is_full() && self.pool.takes_frame()
    }

    /// Whether pages are to be written to the device.
    pub fn wants_drain(&mut self) -> bool {
        if !self.is_on() {
            return self.entries.len() > 0 && self.writing.is_none();
        }
        let slack = self.pool.limit().div_ceil(SLACK);
        // Small pages use up the entries first.
        let left = (self.pool.limit() - self.pool.frames()).min(self.entries.left() / PAGES_PER_FRAME);
        let enough = if self.draining { 2 * slack } else { slack };
        self.draining = left < enough || self.starved;
        self.draining && self.writing.is_none()
    }

    pub fn writing(&self) -> Option<&Writing> {
        self.writing.as_ref()
    }

    /// Compresses what is in a frame, and says to how many bytes. `None` if that is not worth keeping.
    pub fn compress(&mut self, memory: &impl PhysMemory, frame: Pfn) -> Option<usize> {
        memory.read(frame, 0, &mut self.page[..]);
        let bytes = self.compressor.compress(&self.page, &mut self.packed);
        let bytes = bytes.filter(|bytes| *bytes <= pool::MOST_BYTES);
        self.totals.tried += 1;
        self.totals.shrunk += u64::from(bytes.is_some());
        self.totals.bytes += bytes.unwrap_or(0) as u64;
        bytes
    }

    /// Whether so many bytes need another frame.
    pub fn needs_frame(&self, bytes: usize) -> bool {
        self.pool.needs_frame(bytes)
    }

    /// Puts away what was compressed last; with a frame if it needs one.
    ///
    /// # Panics
    /// If there is no room.
    pub fn insert(&mut self, memory: &impl PhysMemory, entry: Entry, frame: Option<Pfn>) -> EntryId {
        let bytes = usize::from(entry.bytes);
        let id = self.entries.insert(entry).expect("there is room for an entry");
        self.entries.get_mut(id).since = self.victims;
        self.entries.get_mut(id).chunk = self.pool.push(memory, id, &self.packed[..bytes], frame);
        id
    }

    /// Fills a frame with a page of the tier, which stays there.
    pub fn unpack(&mut self, memory: &impl PhysMemory, id: EntryId, to: Pfn) -> Result<(), Corrupt> {
        self.read_into_page(memory, id)?;
        memory.write(to, 0, &self.page[..]);
        Ok(())
    }

    fn read_into_page(&mut self, memory: &impl PhysMemory, id: EntryId) -> Result<(), Corrupt> {
        let entry = self.entries.get(id);
        let packed = &mut self.packed[..usize::from(entry.bytes)];
        self.pool.read(memory, entry.chunk, packed);
        self.compressor.decompress(packed, &mut self.page)
    }

    /// Gives a page up. Returns what was known of it, and a frame that the pool has no use for any more.
    pub fn remove(&mut self, memory: &impl PhysMemory, id: EntryId) -> (Entry, Option<Pfn>) {
        let entry = self.entries.remove(id);
        if let (EntryState::Writing(nth), Some(writing)) = (entry.state, &mut self.writing) {
            writing.ids[usize::from(nth)] = None;
        }
        let removed = self.pool.remove(memory, entry.chunk, entry.bytes.into(), &mut self.packed[..]);
        if let Some((other, chunk)) = removed.moved {
            self.entries.get_mut(other).chunk = chunk;
        }
        (entry, removed.frame)
    }

    pub fn entry(&self, id: EntryId) -> &Entry {
        self.entries.get(id)
    }

    pub fn entry_mut(&mut self, id: EntryId) -> &mut Entry {
        self.entries.get_mut(id)
    }

    /// The page that has been here longest, of those that are not being written.
    pub fn oldest(&self) -> Option<EntryId> {
        self.entries.oldest()
    }

    /// The page that came here after this one.
    pub fn younger(&self, id: EntryId) -> Option<EntryId> {
        self.entries.younger(id)
    }

    /// What pages are written from: as many as a request can have.
    pub fn bounce_frames(&self) -> &[Pfn] {
        &self.bounce
    }

    /// Takes a frame to write pages from, if it has not as many as it wants; `false` if it has.
    pub fn add_bounce(&mut self, frame: Pfn) -> bool {
        let wants = self.bounce.len() < (self.pool.limit() / BOUNCE_SHARE).clamp(1, CLUSTER);
        if wants {
            self.bounce.push(frame);
        }
        wants
    }

    /// Whether no page is in it, and no more memory than it begins with.
    #[inline]
    pub fn has_nothing(&self) -> bool {
        // While a request is under way there are the frames that it is written from.
        self.entries.len() == 0 && self.bounce.is_empty() && !self.entries.has_grown()
    }

    /// Gives up all that it has no use for while it rests and nothing is in it.
    pub fn dismantle(&mut self) -> ArrayVec<Pfn, CLUSTER> {
        if self.has_nothing() || self.is_on() || self.entries.len() > 0 || self.writing.is_some() {
            return ArrayVec::new();
        }
        self.entries.shrink();
        core::mem::take(&mut self.bounce)
    }

    /// A request is about to be begun with these pages.
    pub fn begin_write(&mut self, writing: Writing) {
        debug_assert!(self.writing.is_none());
        self.starved = false;
        for (nth, id) in writing.ids.iter().enumerate() {
            id.iter().for_each(|id| self.entries.begin_write(*id, nth));
        }
        self.writing = Some(writing);
    }

    /// The request is over. Its pages are in it still.
    pub fn end_write(&mut self, frames: &mut IoFrames) -> Option<Writing> {
        // They are the tier's own, by number.
        let same = frames.drain().zip(&self.bounce).fold(true, |same, (frame, bounce)| same && frame.pfn() == *bounce);
        debug_assert!(same, "the tier's frames come back as they went");
        self.writing.take()
    }

    /// A page could not be written.
    pub fn put_back(&mut self, id: EntryId) {
        self.entries.put_back(id);
    }

    /// Makes the root the owner of a group's pages, in the `nth` piece of the table. Returns how many were charged to it here, and not by
    /// their slot; `None` if there is no such piece.
    pub fn disown(&mut self, group: GroupId, nth: usize) -> Option<u32> {
        let mut charged = 0;
        for entry in self.entries.piece_mut(nth)?.filter(|entry| entry.group == group) {
            entry.group = GroupId::ROOT;
            charged += u32::from(entry.copy.is_none());
        }
        Some(charged)
    }

    /// What a page of the tier is: for checks.
    #[cfg(feature = "sim")]
    pub fn peek(&mut self, memory: &impl PhysMemory, id: EntryId) -> Result<&[u8; PAGE_SIZE], Corrupt> {
        self.read_into_page(memory, id)?;
        Ok(&self.page)
    }

    #[cfg(feature = "sim")]
    pub fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        self.entries.iter()
    }
}
