//! Anonymous pages that several address spaces have since a fork: one record each, and how many have it.
//!
//! Owns the table of them. After a fork a page is *shared*: the index of each space names an entry here ([`crate::page::Record::Shared`]),
//! and the entry has the record. Whoever writes first copies the page and leaves; the last one takes it home ([`crate::space::fork`]).
//! So a page costs the same to fault on after two hundred forks as after one: there are no chains (Cranor, UVM, 1998, calls it an anon).
//! Does not own frames or slots: the record names them, as a private page's does.

use crate::page::{PackedRecord, Record};
use alloc::{boxed::Box, vec::Vec};

/// Name of a shared anonymous page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AnonId(u32);

impl AnonId {
    /// Page `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// The end of the list of vacant entries.
const NIL: u32 = u32::MAX;

/// One page.
#[derive(Clone, Copy)]
struct Entry {
    record: PackedRecord,
    /// How many spaces have the page; 0 for an entry that is vacant.
    refs: u32,
    /// The next vacant entry.
    next: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// Entries in a piece: 4 KiB, so that the table grows a frame at a time and nothing is moved.
const PIECE: usize = 256;

/// Counts: spaces that have a shared page, summed over all pages, are `refs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AnonCounts {
    /// Shared pages.
    pub pages: u64,
    /// How many records of spaces name them.
    pub refs: u64,
}

/// All shared anonymous pages.
pub(crate) struct AnonTable {
    pieces: Vec<Box<[Entry; PIECE]>>,
    vacant: u32,
    counts: AnonCounts,
}

impl AnonTable {
    pub const fn new() -> Self {
        Self { pieces: Vec::new(), vacant: NIL, counts: AnonCounts { pages: 0, refs: 0 } }
    }

    pub fn counts(&self) -> AnonCounts {
        self.counts
    }

    fn entry(&self, id: AnonId) -> &Entry {
        &self.pieces[id.0 as usize / PIECE][id.0 as usize % PIECE]
    }

    fn entry_mut(&mut self, id: AnonId) -> &mut Entry {
        &mut self.pieces[id.0 as usize / PIECE][id.0 as usize % PIECE]
    }

    /// Adds a page that one space has. Allocates now and then.
    pub fn insert(&mut self, record: Record) -> AnonId {
        if self.vacant == NIL {
            self.grow();
        }
        let id = AnonId(self.vacant);
        let entry = self.entry_mut(id);
        let next = entry.next;
        *entry = Entry { record: record.into(), refs: 1, next: NIL };
        self.vacant = next;
        self.counts.pages += 1;
        self.counts.refs += 1;
        id
    }

    fn grow(&mut self) {
        let first = (self.pieces.len() * PIECE) as u32;
        let next = |i: usize| if i + 1 == PIECE { NIL } else { first + i as u32 + 1 };
        let entry = |i: usize| Entry { record: PackedRecord::ABSENT, refs: 0, next: next(i) };
        self.pieces.push(Box::new(core::array::from_fn(entry)));
        self.vacant = first;
    }

    /// The record of a page.
    pub fn record(&self, id: AnonId) -> Record {
        debug_assert!(self.entry(id).refs > 0, "{id:?} is nobody's");
        self.entry(id).record.into()
    }

    /// Sets the record of a page.
    pub fn set_record(&mut self, id: AnonId, record: Record) {
        debug_assert!(self.entry(id).refs > 0, "{id:?} is nobody's");
        self.entry_mut(id).record = record.into();
    }

    /// How many spaces have the page.
    pub fn refs(&self, id: AnonId) -> u32 {
        self.entry(id).refs
    }

    /// One more space has the page.
    pub fn add_ref(&mut self, id: AnonId) {
        self.entry_mut(id).refs += 1;
        self.counts.refs += 1;
    }

    /// A space does not have the page any more. Returns its record if that was the last, and forgets it.
    pub fn drop_ref(&mut self, id: AnonId) -> Option<Record> {
        let vacant = self.vacant;
        let entry = self.entry_mut(id);
        entry.refs -= 1;
        let record = entry.record;
        let last = entry.refs == 0;
        if last {
            *entry = Entry { record: PackedRecord::ABSENT, refs: 0, next: vacant };
            self.vacant = id.0;
            self.counts.pages -= 1;
        }
        self.counts.refs -= 1;
        if self.counts.pages == 0 {
            *self = Self::new();
        }
        last.then(|| record.into())
    }

    /// Every page: name, record, how many have it.
    #[cfg(feature = "sim")]
    pub fn iter(&self) -> impl Iterator<Item = (AnonId, Record, u32)> {
        let all = self.pieces.iter().flat_map(|piece| piece.iter()).enumerate();
        all.filter(|(_, e)| e.refs > 0).map(|(i, e)| (AnonId(i as u32), e.record.into(), e.refs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Pfn;

    #[test]
    fn the_last_one_gets_the_record_and_the_entry_is_used_again() {
        let mut table = AnonTable::new();
        let ids: Vec<_> = (0..600).map(|i| table.insert(Record::Resident(Pfn::new(i)))).collect();
        ids.iter().for_each(|&id| table.add_ref(id));
        assert_eq!(table.counts(), AnonCounts { pages: 600, refs: 1200 });
        assert_eq!(table.drop_ref(ids[17]), None);
        assert_eq!(table.refs(ids[17]), 1);
        assert_eq!(table.drop_ref(ids[17]), Some(Record::Resident(Pfn::new(17))));
        assert_eq!(table.insert(Record::Failed), ids[17]);
        assert_eq!(table.record(ids[17]), Record::Failed);
        assert_eq!(table.drop_ref(ids[17]), Some(Record::Failed));
        for (i, &id) in ids.iter().enumerate().filter(|(i, _)| *i != 17) {
            assert_eq!(table.drop_ref(id), None);
            assert_eq!(table.drop_ref(id), Some(Record::Resident(Pfn::new(i as u32))));
        }
        assert_eq!(table.counts(), AnonCounts::default());
        assert!(table.pieces.is_empty(), "with the last page the memory goes");
    }
}
