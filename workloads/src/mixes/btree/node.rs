//! Nodes of the tree: how a page is a leaf or an inner node.
//!
//! ```text
//!   leaf    0: header   1: next leaf (0: none)   2..32: 15 × (key, slot), by key   32..512: 15 records of 32 words
//!   inner   0: header   1..255: keys, ascending  256..511: children, one more than keys
//! ```
//!
//! A record stays in its slot while entries are moved about before it, as databases do with records of any size. The
//! header says which page this is, so that a page in another's place is noticed. Owns the layout; what keys and records
//! mean is the tree's.

use crate::failure::Failure;
use crate::mapping::{Page, WritablePage};

/// Entries of a leaf.
pub const LEAF_ENTRIES: usize = 15;
/// Keys of an inner node.
pub const INNER_KEYS: usize = 254;
/// Words of a record.
pub const RECORD: usize = 32;

const HEADER: usize = 0;
const NEXT: usize = 1;
const ENTRIES: usize = 2;
const RECORDS: usize = ENTRIES + 2 * LEAF_ENTRIES;
const KEYS: usize = 1;
const CHILDREN: usize = 256;

/// The number of a node's page; 0 is never a node.
pub type NodeId = u64;

/// What a header says besides the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Leaf = 1,
    Inner = 2,
}

fn header(sort: Sort, id: NodeId, count: usize) -> u64 {
    (sort as u64) << 56 | id << 16 | count as u64
}

fn check(page: &Page, sort: Sort, id: NodeId, most: usize) -> Result<usize, Failure> {
    let found = page.read(HEADER);
    let count = (found & 0xffff) as usize;
    Failure::unless_equal("node", id, header(sort, id, count.min(most)), found)?;
    Ok(count)
}

/// The number of leading entries for which `before` holds; it holds for a prefix.
#[inline]
fn prefix(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// A leaf. The count is kept beside the page and written through.
pub struct Leaf<'a> {
    page: &'a WritablePage,
    id: NodeId,
    count: usize,
}

impl<'a> Leaf<'a> {
    /// The leaf that is in a page.
    pub fn open(page: &'a WritablePage, id: NodeId) -> Result<Self, Failure> {
        Ok(Self { page, id, count: check(page, Sort::Leaf, id, LEAF_ENTRIES)? })
    }

    /// An empty leaf in a fresh page.
    pub fn create(page: &'a WritablePage, id: NodeId) -> Self {
        page.write(HEADER, header(Sort::Leaf, id, 0));
        Self { page, id, count: 0 }
    }

    fn set_count(&mut self, count: usize) {
        self.count = count;
        self.page.write(HEADER, header(Sort::Leaf, self.id, count));
    }

    /// Entries in use.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether another entry has no room.
    pub fn is_full(&self) -> bool {
        self.count == LEAF_ENTRIES
    }

    /// The leaf with the next keys.
    pub fn next(&self) -> Option<NodeId> {
        Some(self.page.read(NEXT)).filter(|&next| next != 0)
    }

    /// The key of an entry.
    #[inline]
    pub fn key(&self, entry: usize) -> u64 {
        self.page.read(ENTRIES + 2 * entry)
    }

    /// Where an entry's record is; a wrong slot leads to a wrong record, which is noticed.
    fn slot(&self, entry: usize) -> usize {
        self.page.read(ENTRIES + 2 * entry + 1) as usize % LEAF_ENTRIES
    }

    fn set_entry(&self, entry: usize, key: u64, slot: usize) {
        self.page.write(ENTRIES + 2 * entry, key);
        self.page.write(ENTRIES + 2 * entry + 1, slot as u64);
    }

    /// The first entry whose key is not below `key`.
    #[inline]
    pub fn position(&self, key: u64) -> usize {
        prefix(self.count, |entry| self.key(entry) < key)
    }

    /// A word of an entry's record.
    #[inline]
    pub fn record(&self, entry: usize) -> impl Fn(usize) -> u64 {
        let start = RECORDS + RECORD * self.slot(entry);
        move |word| self.page.read(start + word)
    }

    /// Writes an entry's record, word by word.
    pub fn write_record(&self, entry: usize, mut word: impl FnMut(usize) -> u64) {
        let start = RECORDS + RECORD * self.slot(entry);
        for index in 0..RECORD {
            self.page.write(start + index, word(index));
        }
    }

    /// Makes room for an entry; its record is still to be written.
    ///
    /// # Panics
    /// If the leaf is full.
    pub fn insert(&mut self, at: usize, key: u64) {
        let used = (0..self.count).fold(0_u32, |used, entry| used | 1 << self.slot(entry));
        let free = used.trailing_ones() as usize;
        assert!(free < LEAF_ENTRIES, "leaf {} is full", self.id);
        for entry in (at..self.count).rev() {
            self.set_entry(entry + 1, self.key(entry), self.slot(entry));
        }
        self.set_entry(at, key, free);
        self.set_count(self.count + 1);
    }

    /// Moves the upper half into an empty leaf, which follows this one from now on. Returns its first key.
    pub fn split(&mut self, right: &mut Self) -> u64 {
        let half = self.count / 2;
        for entry in half..self.count {
            right.set_entry(entry - half, self.key(entry), entry - half);
            right.write_record(entry - half, self.record(entry));
        }
        right.set_count(self.count - half);
        right.page.write(NEXT, self.page.read(NEXT));
        self.page.write(NEXT, right.id);
        self.set_count(half);
        right.key(0)
    }
}

/// An inner node.
pub struct Inner<'a> {
    page: &'a WritablePage,
    id: NodeId,
    keys: usize,
}

impl<'a> Inner<'a> {
    /// The inner node that is in a page.
    pub fn open(page: &'a WritablePage, id: NodeId) -> Result<Self, Failure> {
        Ok(Self { page, id, keys: check(page, Sort::Inner, id, INNER_KEYS)? })
    }

    /// An inner node without keys, with one child.
    pub fn create(page: &'a WritablePage, id: NodeId, child: NodeId) -> Self {
        page.write(HEADER, header(Sort::Inner, id, 0));
        page.write(CHILDREN, child);
        Self { page, id, keys: 0 }
    }

    fn set_keys(&mut self, keys: usize) {
        self.keys = keys;
        self.page.write(HEADER, header(Sort::Inner, self.id, keys));
    }

    /// Whether another key has no room.
    pub fn is_full(&self) -> bool {
        self.keys == INNER_KEYS
    }

    #[inline]
    fn key(&self, index: usize) -> u64 {
        self.page.read(KEYS + index)
    }

    /// A child.
    pub fn child(&self, index: usize) -> NodeId {
        self.page.read(CHILDREN + index)
    }

    /// Which child has a key.
    #[inline]
    pub fn position(&self, key: u64) -> usize {
        prefix(self.keys, |index| self.key(index) <= key)
    }

    /// Puts a key and the child with the keys from there on behind the child `at`.
    ///
    /// # Panics
    /// If the node is full.
    pub fn insert(&mut self, at: usize, key: u64, child: NodeId) {
        assert!(!self.is_full(), "inner node {} is full", self.id);
        for index in (at..self.keys).rev() {
            self.page.write(KEYS + index + 1, self.key(index));
            self.page.write(CHILDREN + index + 2, self.child(index + 1));
        }
        self.page.write(KEYS + at, key);
        self.page.write(CHILDREN + at + 1, child);
        self.set_keys(self.keys + 1);
    }

    /// Moves the upper half into a fresh page. Returns the key between the halves, which is in neither.
    pub fn split(&mut self, page: &'a WritablePage, id: NodeId) -> (u64, Self) {
        let half = self.keys / 2;
        let mut right = Self::create(page, id, self.child(half + 1));
        for index in half + 1..self.keys {
            let moved = index - half - 1;
            page.write(KEYS + moved, self.key(index));
            page.write(CHILDREN + moved + 1, self.child(index + 1));
        }
        right.set_keys(self.keys - half - 1);
        self.set_keys(half);
        (self.key(half), right)
    }
}
