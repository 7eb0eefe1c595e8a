//! A heap of linked objects, larger than RAM, under a collector that marks and sweeps: what a language runtime does.
//!
//! The program keeps some hundred structures of objects, each held by one root: a random tree, some more links within
//! it, and in one of eight a link into another structure, which keeps a part of that one alive when its own root lets
//! go. Replacing a structure leaves garbage in many places, the next ones are built in the holes. When nothing fits any
//! more, everything that lives is visited in the order of its links, and then all memory in the order of addresses.
//!
//! `heap` is the allocator and collector, this file the program that uses it.

mod heap;

use std::io;

use super::options::Options;
use super::words::Words;
use crate::failure::Failure;
use crate::mapping::Charge;
use crate::phase::Phase;
use crate::rng::Rng;
use heap::{Heap, LEAST_WORDS, Link, Object};

/// Structures held at any time, unless the heap is small.
const MOST_STRUCTURES: usize = 256;
/// Words a structure has at least: several of the largest objects.
const LEAST_STRUCTURE: usize = 4096;
/// What they may fill of the heap, in percent; what other structures hold of them and garbage come on top.
const FILLED: usize = 60;
/// Sizes are spread over so many doublings of the least one.
const DOUBLINGS: u64 = 7;
/// Percent of the link places left over in a structure that get a link within it.
const INNER_LINKS: u64 = 12;
/// Percent of the structures that link to another one.
const OUTER_LINKS: u64 = 12;
/// Paths that the program follows between two replacements, and how long they are.
const PATHS: u64 = 16;
const PATH: u64 = 8;

/// The program.
struct Mutator {
    heap: Heap,
    /// One for each structure.
    roots: Vec<Link>,
    /// What a structure is made of.
    structure_words: usize,
    rng: Rng,
    sum: u64,
}

/// Fills the heap, replaces structures, checks what is left.
pub fn run(options: &Options) -> Result<(), Failure> {
    let name = options.kind.name();
    let words = Words::new(options.map(options.pages(), Charge::Committed)?);
    let mut mutator = Mutator::new(Heap::new(words, options.seed), Rng::new(options.seed));

    let phase = Phase::Populate.begin();
    for root in 0..mutator.roots.len() {
        mutator.build(root)?;
    }
    phase.end(name, mutator.heap.objects(), mutator.sum);

    let phase = Phase::Run.begin();
    for _ in 0..options.ops {
        let root = mutator.draw_root();
        mutator.build(root)?;
        for _ in 0..PATHS {
            mutator.follow_path()?;
        }
    }
    phase.end(name, options.ops, mutator.sum);

    let phase = Phase::Verify.begin();
    let objects = mutator.heap.objects();
    let (found, sum) = mutator.heap.check_all()?;
    Failure::unless_equal("objects", 0, objects, found)?;
    mutator.heap.collect(&mutator.roots)?;
    phase.end(name, objects, sum);
    Ok(())
}

impl Mutator {
    fn new(heap: Heap, rng: Rng) -> Self {
        let filled = heap.words() / 100 * FILLED;
        let structures = (filled / LEAST_STRUCTURE).min(MOST_STRUCTURES);
        Self { heap, roots: vec![Link::NONE; structures], structure_words: filled / structures, rng, sum: 0 }
    }

    fn draw_root(&mut self) -> usize {
        self.rng.below(self.roots.len() as u64) as usize
    }

    /// Lets a root go and builds a new structure in its place.
    fn build(&mut self, root: usize) -> Result<(), Failure> {
        self.roots[root] = Link::NONE;
        let mut words_left = self.structure_words;
        let mut members = Vec::new();
        let mut places: Vec<(Object, usize)> = Vec::new();
        loop {
            let object = self.allocate()?;
            if places.is_empty() {
                self.roots[root] = object.link();
            } else {
                // Reached from the root from now on, so a collection may come.
                let (parent, place) = self.draw(&mut places);
                self.heap.set(&parent, place, object.link());
            }
            members.push(object.link());
            places.extend((0..object.links()).map(|place| (object, place)));
            match words_left.checked_sub(object.words()) {
                Some(rest) => words_left = rest,
                None => break,
            }
        }
        if self.rng.percent(OUTER_LINKS) {
            let (from, place) = self.draw(&mut places);
            let other = self.draw_root();
            let to = self.walk(self.roots[other], PATH)?;
            self.heap.set(&from, place, to);
        }
        for (from, place) in places {
            if self.rng.percent(INNER_LINKS) {
                let to = members[self.rng.below(members.len() as u64) as usize];
                self.heap.set(&from, place, to);
            }
        }
        Ok(())
    }

    /// Takes a random place out of those that have no link yet; every object brings more than it takes.
    fn draw(&mut self, places: &mut Vec<(Object, usize)>) -> (Object, usize) {
        let index = self.rng.below(places.len() as u64) as usize;
        places.swap_remove(index)
    }

    fn allocate(&mut self) -> Result<Object, Failure> {
        let least = (LEAST_WORDS as u64) << self.rng.below(DOUBLINGS);
        let words = (least + self.rng.below(least)) as usize;
        let links = 2 + self.rng.below(3) as usize;
        if let Some(object) = self.heap.allocate(words, links)? {
            return Ok(object);
        }
        self.heap.collect(&self.roots)?;
        let full = || Failure::System("allocate", io::ErrorKind::OutOfMemory.into());
        self.heap.allocate(words, links)?.ok_or_else(full)
    }

    /// Follows random links for a while, reading the objects on the way in full. Returns the last one.
    fn walk(&mut self, from: Link, steps: u64) -> Result<Link, Failure> {
        let mut at = from;
        for _ in 0..steps {
            if at == Link::NONE {
                break;
            }
            let object = self.heap.open(at)?;
            self.sum = self.sum.wrapping_mul(31).wrapping_add(self.heap.check(&object)?);
            let next = self.heap.get(&object, self.rng.below(object.links() as u64) as usize);
            if next == Link::NONE {
                break;
            }
            at = next;
        }
        Ok(at)
    }

    fn follow_path(&mut self) -> Result<(), Failure> {
        let root = self.draw_root();
        self.walk(self.roots[root], PATH)?;
        Ok(())
    }
}
