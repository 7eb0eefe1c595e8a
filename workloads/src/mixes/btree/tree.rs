//! The tree: descent, insertion with splits on the way back, lookups, walks along the leaves.
//!
//! Records are numbered in the order of their insertion, and the number decides the key, by a bijection that looks
//! random: so the workload can name any record without a list of keys. A record holds its number, a version and words
//! that follow from both; whoever reads a record checks all of it.

use super::node::{Inner, Leaf, NodeId, RECORD};
use crate::failure::Failure;
use crate::mapping::{Mapping, WritablePage};
use crate::rng::mix;

const NUMBER: usize = 0;
const VERSION: usize = 1;

/// A node that came into being beside another one.
struct Split {
    key: u64,
    right: NodeId,
}

/// What [`Tree::walk`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records.
    pub records: u64,
    /// The sum of their versions.
    pub versions: u64,
    /// A checksum of their keys.
    pub sum: u64,
}

/// A B+ tree in anonymous memory.
pub struct Tree {
    nodes: Mapping,
    seed: u64,
    root: NodeId,
    /// Inner levels above the leaves.
    levels: u32,
    last: NodeId,
    records: u64,
}

impl Tree {
    /// A tree of one empty leaf, which may grow to the size of the mapping.
    pub fn new(nodes: Mapping, seed: u64) -> Self {
        Leaf::create(nodes.page_to_write(1), 1);
        Self { nodes, seed: mix(seed), root: 1, levels: 0, last: 1, records: 0 }
    }

    /// Pages in use.
    pub fn nodes(&self) -> u64 {
        self.last
    }

    /// Records inserted.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The key of a record.
    pub fn key(&self, number: u64) -> u64 {
        mix(number ^ self.seed)
    }

    fn page(&self, id: NodeId) -> &WritablePage {
        self.nodes.page_to_write(id as usize)
    }

    /// The page that a link names, which may be wrong.
    fn linked(&self, id: NodeId) -> Result<&WritablePage, Failure> {
        if (1..=self.last).contains(&id) {
            Ok(self.page(id))
        } else {
            Err(Failure::Wrong { what: "link to a node", at: id, expected: self.last, found: id })
        }
    }

    fn leaf(&self, id: NodeId) -> Result<Leaf<'_>, Failure> {
        Leaf::open(self.linked(id)?, id)
    }

    fn inner(&self, id: NodeId) -> Result<Inner<'_>, Failure> {
        Inner::open(self.linked(id)?, id)
    }

    /// What each word of a record is.
    fn word(&self, number: u64, version: u64) -> impl FnMut(usize) -> u64 {
        let mut filler = self.key(number).wrapping_add(version);
        move |word| match word {
            NUMBER => number,
            VERSION => version,
            _ => {
                filler = filler.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(word as u64);
                filler
            }
        }
    }

    /// Reads and checks the record of an entry. Returns its number and version.
    fn read(&self, leaf: &Leaf<'_>, entry: usize) -> Result<(u64, u64), Failure> {
        let record = leaf.record(entry);
        let (number, version) = (record(NUMBER), record(VERSION));
        Failure::unless_equal("key", number, self.key(number), leaf.key(entry))?;
        let mut expected = self.word(number, version);
        for word in 0..RECORD {
            Failure::unless_equal("record", number, expected(word), record(word))?;
        }
        Ok((number, version))
    }

    /// The leaf in which a key is or would be.
    fn descend(&self, key: u64) -> Result<Leaf<'_>, Failure> {
        let mut id = self.root;
        for _ in 0..self.levels {
            let inner = self.inner(id)?;
            id = inner.child(inner.position(key));
        }
        self.leaf(id)
    }

    fn find(&self, number: u64) -> Result<(Leaf<'_>, usize, u64), Failure> {
        let key = self.key(number);
        let leaf = self.descend(key)?;
        let entry = leaf.position(key);
        if entry == leaf.count() {
            return Err(Failure::Wrong { what: "missing record", at: number, expected: key, found: 0 });
        }
        let (found, version) = self.read(&leaf, entry)?;
        Failure::unless_equal("record's number", number, number, found)?;
        Ok((leaf, entry, version))
    }

    /// Reads a record. Returns its version.
    pub fn look_up(&self, number: u64) -> Result<u64, Failure> {
        self.find(number).map(|(_, _, version)| version)
    }

    /// Writes a record's next version.
    pub fn change(&mut self, number: u64) -> Result<(), Failure> {
        let (leaf, entry, version) = self.find(number)?;
        leaf.write_record(entry, self.word(number, version + 1));
        Ok(())
    }

    /// Reads up to `most` records in the order of their keys, beginning with the first whose key is not below `from`.
    pub fn walk(&self, from: u64, most: u64) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        let mut leaf = self.descend(from)?;
        let mut entry = leaf.position(from);
        let mut least = from;
        while seen.records < most {
            if entry == leaf.count() {
                let Some(next) = leaf.next() else { break };
                (leaf, entry) = (self.leaf(next)?, 0);
                continue;
            }
            let key = leaf.key(entry);
            if key < least {
                return Err(Failure::Wrong { what: "order of keys", at: seen.records, expected: least, found: key });
            }
            // Keys differ; the greatest of all has nothing behind it.
            least = key.saturating_add(1);
            seen.versions += self.read(&leaf, entry)?.1;
            seen.records += 1;
            seen.sum = seen.sum.wrapping_mul(31).wrapping_add(key);
            entry += 1;
        }
        Ok(seen)
    }

    /// Inserts the next record.
    pub fn insert(&mut self) -> Result<(), Failure> {
        let number = self.records;
        let split = self.insert_below(self.root, self.levels, number)?;
        if let Some(Split { key, right }) = split {
            let root = self.new_node();
            Inner::create(self.page(root), root, self.root).insert(0, key, right);
            (self.root, self.levels) = (root, self.levels + 1);
        }
        self.records += 1;
        Ok(())
    }

    fn new_node(&mut self) -> NodeId {
        self.last += 1;
        self.last
    }

    fn insert_below(&mut self, id: NodeId, levels: u32, number: u64) -> Result<Option<Split>, Failure> {
        if levels == 0 {
            return self.insert_into_leaf(id, number);
        }
        let key = self.key(number);
        let (at, child) = {
            let inner = self.inner(id)?;
            let at = inner.position(key);
            (at, inner.child(at))
        };
        let Some(split) = self.insert_below(child, levels - 1, number)? else { return Ok(None) };
        if !self.inner(id)?.is_full() {
            self.inner(id)?.insert(at, split.key, split.right);
            return Ok(None);
        }
        let fresh = self.new_node();
        let mut left = self.inner(id)?;
        let (middle, mut right) = left.split(self.page(fresh), fresh);
        let half = if split.key < middle { &mut left } else { &mut right };
        half.insert(half.position(split.key), split.key, split.right);
        Ok(Some(Split { key: middle, right: fresh }))
    }

    fn insert_into_leaf(&mut self, id: NodeId, number: u64) -> Result<Option<Split>, Failure> {
        let key = self.key(number);
        if !self.leaf(id)?.is_full() {
            self.put(&mut self.leaf(id)?, number);
            return Ok(None);
        }
        let fresh = self.new_node();
        let mut left = self.leaf(id)?;
        let mut right = Leaf::create(self.page(fresh), fresh);
        let middle = left.split(&mut right);
        self.put(if key < middle { &mut left } else { &mut right }, number);
        Ok(Some(Split { key: middle, right: fresh }))
    }

    fn put(&self, leaf: &mut Leaf<'_>, number: u64) {
        let key = self.key(number);
        let entry = leaf.position(key);
        leaf.insert(entry, key);
        leaf.write_record(entry, self.word(number, 0));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mapping::Charge;
    use crate::rng::Rng;

    fn tree(pages: u64, seed: u64) -> Tree {
        Tree::new(Mapping::anonymous(pages, Charge::Reserved).expect("maps"), seed)
    }

    /// 60 000 records are some 5700 leaves: three levels, whose inner nodes have split too.
    #[test]
    fn it_holds_what_a_map_of_the_library_holds() {
        let mut tree = tree(12_000, 3);
        let mut model = BTreeMap::new();
        let mut rng = Rng::new(8);
        for number in 0..60_000 {
            tree.insert().expect("right");
            model.insert(tree.key(number), 0_u64);
            if number % 3 == 0 {
                let other = rng.below(number + 1);
                tree.change(other).expect("right");
                *model.get_mut(&tree.key(other)).expect("there") += 1;
            }
        }
        assert_eq!(tree.levels, 2);
        for number in 0..60_000 {
            assert_eq!(tree.look_up(number).expect("right"), model[&tree.key(number)]);
        }
        for _ in 0..200 {
            let (from, most) = (rng.word(), rng.below(100));
            let seen = tree.walk(from, most).expect("right");
            let expected = model.range(from..).take(most as usize);
            let (mut versions, mut records, mut sum) = (0, 0, 0_u64);
            for (key, version) in expected {
                (versions, records) = (versions + version, records + 1);
                sum = sum.wrapping_mul(31).wrapping_add(*key);
            }
            assert_eq!(seen, Seen { records, versions, sum });
        }
        assert_eq!(tree.walk(0, u64::MAX).expect("right").records, 60_000);
        assert!(tree.look_up(60_000).is_err(), "a record that was never inserted");
    }

    /// A full leaf has no word that nobody needs.
    #[test]
    fn a_flipped_bit_of_a_full_leaf_is_noticed_wherever_it_is() {
        let mut tree = tree(4, 1);
        (0..15).for_each(|_| tree.insert().expect("right"));
        let sound = tree.walk(0, u64::MAX).expect("right");
        assert_eq!((tree.nodes(), sound.records), (1, 15));
        for word in 0..crate::mapping::WORDS {
            for bit in [0, 3, 16, 31, 63] {
                let page = tree.page(1);
                let right = page.read(word);
                page.write(word, right ^ 1 << bit);
                assert_ne!(tree.walk(0, u64::MAX).ok(), Some(sound), "word {word} bit {bit}");
                page.write(word, right);
            }
        }
    }

    #[test]
    fn a_record_that_is_half_of_an_older_version_is_noticed() {
        let mut tree = tree(4, 1);
        tree.insert().expect("right");
        let last = 32 + RECORD - 1;
        let before = tree.page(1).read(last);
        tree.change(0).expect("right");
        assert_eq!(tree.look_up(0).expect("right"), 1);
        tree.page(1).write(last, before);
        assert!(tree.look_up(0).is_err());
    }

    #[test]
    fn a_leaf_in_anothers_place_is_noticed() {
        let mut tree = tree(200, 1);
        (0..600).for_each(|_| tree.insert().expect("right"));
        for word in 0..crate::mapping::WORDS {
            tree.page(2).write(word, tree.page(1).read(word));
        }
        let failure = tree.walk(0, u64::MAX).expect_err("a leaf twice");
        assert!(matches!(failure, Failure::Wrong { what: "node", at: 2, .. }), "{failure}");
    }
}
