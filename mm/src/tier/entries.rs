//! Which compressed pages there are, and in which order they came.
//!
//! Owns the table. It grows by a frame at a time while there is memory to spare, and is small again once nobody is in it: a tier that
//! rests costs next to nothing. An entry says whose page it is, where its bytes are ([`super::pool`]) and what is
//! known of it otherwise; those that wait are in a queue, oldest first. Does not own the page's record, which names the entry.
//!
//! ```text
//!                insert                    begin_write
//!   Vacant ──────────────────► Waiting ◄──────────────────► Writing(nth of the request)
//!      ▲                          │            failed            │
//!      └──────────────────────────┴──────────────────────────────┘  read back, given up, or written
//! ```

use super::pool::Chunk;
use crate::group::GroupId;
use crate::home::{Home, PackedHome};
use crate::page::Tag;
use crate::platform::Slot;
use alloc::vec::Vec;

/// Name of a compressed page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EntryId(u32);

impl EntryId {
    /// Entries are kept in 28 bits of a page's record: a TiB of pages.
    pub const LIMIT: u32 = 1 << 28;
    /// Entry `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// Entries in a piece of the table, which is a frame of the kernel's heap.
const PIECE: usize = 4096 / size_of::<Entry>();

const NIL: EntryId = EntryId(u32::MAX);

/// What an entry is going through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryState {
    /// Nobody's.
    Vacant,
    /// In the queue.
    Waiting,
    /// Being written to the device, as this page of the request.
    Writing(u8),
}

/// A compressed page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub home: PackedHome,
    /// What it must come back as.
    pub tag: Tag,
    pub chunk: Chunk,
    /// Bytes of the chunk.
    pub bytes: u16,
    /// Whom it is charged to.
    pub group: GroupId,
    pub state: EntryState,
    /// A slot that has the same contents.
    pub copy: Option<Slot>,
    /// How many victims there had been when it came.
    pub since: u32,
    before: EntryId,
    after: EntryId,
}

impl Entry {
    const VACANT: Self = Self {
        home: PackedHome::NONE,
        tag: Tag::new(0),
        chunk: Chunk::NONE,
        bytes: 0,
        group: GroupId::ROOT,
        state: EntryState::Vacant,
        copy: None,
        since: 0,
        before: NIL,
        after: NIL,
    };

    /// A page that has just been compressed to so many bytes.
    pub fn new(home: Home, tag: Tag, group: GroupId, bytes: usize) -> Self {
        Self { home: home.into(), tag, group, bytes: bytes as u16, state: EntryState::Waiting, ..Self::VACANT }
    }
}

/// See the module's head.
pub(crate) struct Entries {
    pieces: Vec<Vec<Entry>>,
    /// The first vacant one.
    vacant: EntryId,
    oldest: EntryId,
    youngest: EntryId,
    count: usize,
}

impl Entries {
    /// A table that can grow to about so many, with one piece to begin with.
    pub fn new(limit: usize) -> Option<Self> {
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(limit.min(EntryId::LIMIT as usize).div_ceil(PIECE)).ok()?;
        let mut entries = Self { pieces, vacant: NIL, oldest: NIL, youngest: NIL, count: 0 };
        entries.grow();
        Some(entries)
    }

    /// Adds a piece, if it may and there is memory for it.
    pub fn grow(&mut self) {
        let mut piece = Vec::new();
        if !self.can_grow() || piece.try_reserve_exact(PIECE).is_err() {
            return;
        }
        let (first, vacant) = (self.pieces.len() * PIECE, self.vacant);
        let next = |i: usize| if i + 1 < PIECE { EntryId((first + i) as u32 + 1) } else { vacant };
        piece.extend((0..PIECE).map(|i| Entry { after: next(i), ..Entry::VACANT }));
        self.pieces.push(piece);
        self.vacant = EntryId(first as u32);
    }

    /// Whether it has more than it begins with.
    pub fn has_grown(&self) -> bool {
        self.pieces.len() > 1
    }

    /// How many there is room for, in this table or one that has grown as far as it may.
    pub fn left(&self) -> usize {
        self.pieces.capacity() * PIECE - self.count
    }

    /// Whether it has not grown as far as it may.
    pub fn can_grow(&self) -> bool {
        self.pieces.len() < self.pieces.capacity()
    }

    /// Gives up all pieces but one.
    ///
    /// # Panics
    /// If there are any entries.
    pub fn shrink(&mut self) {
        assert_eq!(self.count, 0, "the table is in use");
        if self.has_grown() {
            self.pieces.clear();
            self.vacant = NIL;
            self.grow();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_full(&self) -> bool {
        self.vacant == NIL
    }

    /// Adds one as the youngest. `None` if the table is full.
    pub fn insert(&mut self, entry: Entry) -> Option<EntryId> {
        let id = self.vacant;
        let place = self.find(id)?;
        let next = core::mem::replace(place, entry).after;
        self.vacant = next;
        self.count += 1;
        self.enqueue(id);
        Some(id)
    }

    pub fn get(&self, id: EntryId) -> &Entry {
        let entry = &self.pieces[id.0 as usize / PIECE][id.0 as usize % PIECE];
        debug_assert!(entry.state != EntryState::Vacant, "{id:?} is nobody's");
        entry
    }

    pub fn get_mut(&mut self, id: EntryId) -> &mut Entry {
        &mut self.pieces[id.0 as usize / PIECE][id.0 as usize % PIECE]
    }

    /// An entry, whatever state it is in; `None` for the end of a list.
    fn find(&mut self, id: EntryId) -> Option<&mut Entry> {
        (id != NIL).then(|| self.get_mut(id))
    }

    /// Gives an entry up. Returns what it was.
    pub fn remove(&mut self, id: EntryId) -> Entry {
        let entry = *self.get(id);
        if entry.state == EntryState::Waiting {
            self.unlink(id);
        }
        *self.get_mut(id) = Entry { after: self.vacant, ..Entry::VACANT };
        self.vacant = id;
        self.count -= 1;
        entry
    }

    /// The one that has waited longest.
    pub fn oldest(&self) -> Option<EntryId> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// The one that began to wait after this one, which waits.
    pub fn younger(&self, id: EntryId) -> Option<EntryId> {
        let after = self.get(id).after;
        (after != NIL).then_some(after)
    }

    /// Takes an entry from the queue, to be written as this page of a request.
    pub fn begin_write(&mut self, id: EntryId, nth: usize) {
        self.unlink(id);
        self.get_mut(id).state = EntryState::Writing(nth as u8);
    }

    /// It could not be written: it waits again, as the youngest, so that the others get their turn.
    pub fn put_back(&mut self, id: EntryId) {
        self.get_mut(id).state = EntryState::Waiting;
        self.enqueue(id);
    }

    /// Every entry of a piece of the table, to be changed; `None` if there is no such piece.
    pub fn piece_mut(&mut self, nth: usize) -> Option<impl Iterator<Item = &mut Entry>> {
        Some(self.pieces.get_mut(nth)?.iter_mut().filter(|entry| entry.state != EntryState::Vacant))
    }

    /// Every entry.
    #[cfg(any(test, feature = "sim"))]
    pub fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        let all = self.pieces.iter().flatten().enumerate().map(|(i, entry)| (EntryId(i as u32), entry));
        all.filter(|(_, entry)| entry.state != EntryState::Vacant)
    }

    fn enqueue(&mut self, id: EntryId) {
        let before = core::mem::replace(&mut self.youngest, id);
        let entry = self.get_mut(id);
        (entry.before, entry.after) = (before, NIL);
        match self.find(before) {
            Some(before) => before.after = id,
            None => self.oldest = id,
        }
    }

    fn unlink(&mut self, id: EntryId) {
        let Entry { before, after, .. } = *self.get(id);
        match self.find(before) {
            Some(before) => before.after = after,
            None => self.oldest = after,
        }
        match self.find(after) {
            Some(after) => after.before = before,
            None => self.youngest = before,
        }
    }
}
