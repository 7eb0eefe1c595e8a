//! A heap of objects with links: allocation from segregated free lists, marking, sweeping.
//!
//! The heap is one run of blocks without gaps. A block is free or an object:
//!
//! ```text
//!   object   0: header (words, links, ALLOCATED, MARKED)   1: identity   2..: links   then filler, to the end
//!   free     0: header (words)                             1: next free block of its class, 0: none
//! ```
//!
//! Marks are in the objects, as in early collectors: marking writes to every page that something lives in. A link has
//! the low half of its object's identity beside the address, so that a link to what was freed, moved or lost is noticed
//! by whoever follows it.

use super::super::words::Words;
use crate::failure::Failure;
use crate::rng::mix;

const HEADER: usize = 0;
const IDENTITY: usize = 1;
const LINKS: usize = 2;
const NEXT: usize = 1;

const ALLOCATED: u64 = 1 << 40;
const MARKED: u64 = 1 << 41;

/// Words of the smallest block.
pub const LEAST_WORDS: usize = 8;
/// Address 0 means no object.
const START: usize = LEAST_WORDS;
/// Blocks of its own class that an allocation looks at; the blocks of greater classes all fit.
const PROBES: usize = 8;

/// A link to an object, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(u64);

impl Link {
    /// No object.
    pub const NONE: Self = Self(0);

    fn address(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// An object that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    address: usize,
    words: usize,
    links: usize,
    identity: u64,
}

impl Object {
    /// How many links it has room for.
    pub fn links(&self) -> usize {
        self.links
    }

    /// Its size.
    pub fn words(&self) -> usize {
        self.words
    }

    /// A link to it.
    pub fn link(&self) -> Link {
        Link(self.identity << 32 | self.address as u64)
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Objects that live on.
    pub survivors: u64,
    /// Objects whose memory is free now.
    pub freed: u64,
}

/// Free blocks by the logarithm of their size, oldest first.
#[derive(Clone, Copy, Default)]
struct List {
    first: usize,
    last: usize,
}

/// A heap.
pub struct Heap {
    words: Words,
    free: [List; 33],
    seed: u64,
    identities: u64,
    objects: u64,
}

impl Heap {
    /// An empty heap; its contents follow from the seed.
    ///
    /// # Panics
    /// If an address does not fit into 32 bits.
    pub fn new(words: Words, seed: u64) -> Self {
        assert!(words.len() <= 1 << 32, "a heap of {} words", words.len());
        let mut heap = Self { words, free: [List::default(); 33], seed, identities: 0, objects: 0 };
        heap.add_free(START, heap.words.len() - START);
        heap
    }

    /// Its size.
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// Objects that were allocated and not freed, dead ones included.
    pub fn objects(&self) -> u64 {
        self.objects
    }

    fn add_free(&mut self, address: usize, words: usize) {
        let list = &mut self.free[words.ilog2() as usize];
        self.words.set(address + HEADER, words as u64);
        self.words.set(address + NEXT, 0);
        if list.last == 0 {
            list.first = address;
        } else {
            self.words.set(list.last + NEXT, address as u64);
        }
        list.last = address;
    }

    /// Takes a block of at least `words` words out of its list.
    fn take_free(&mut self, words: usize) -> Result<Option<(usize, usize)>, Failure> {
        for class in words.ilog2() as usize..self.free.len() {
            let (mut before, mut address) = (0, self.free[class].first);
            for _ in 0..PROBES {
                if address == 0 {
                    break;
                }
                let (header, next) = (self.words.get(address + HEADER), self.words.get(address + NEXT) as usize);
                self.expect_free(address, header, next)?;
                if header as usize >= words {
                    self.unlink(class, before, address, next);
                    return Ok(Some((address, header as usize)));
                }
                (before, address) = (address, next);
            }
        }
        Ok(None)
    }

    fn expect_free(&self, address: usize, header: u64, next: usize) -> Result<(), Failure> {
        let room = self.words.len() - address;
        if header < LEAST_WORDS as u64 || header > room as u64 || next >= self.words.len() {
            return Err(Failure::Wrong {
                what: "free block",
                at: address as u64,
                expected: room as u64,
                found: header,
            });
        }
        Ok(())
    }

    fn unlink(&mut self, class: usize, before: usize, address: usize, next: usize) {
        let list = &mut self.free[class];
        if before == 0 {
            list.first = next;
        } else {
            self.words.set(before + NEXT, next as u64);
        }
        if list.last == address {
            list.last = before;
        }
    }

    /// A new object of at least `words` words, without any link yet; none if there is no room.
    ///
    /// # Panics
    /// If the links leave no room, or the size is below the smallest.
    pub fn allocate(&mut self, words: usize, links: usize) -> Result<Option<Object>, Failure> {
        assert!(words >= LEAST_WORDS && links <= words - LINKS, "{words} words with {links} links");
        let Some((address, mut found)) = self.take_free(words)? else { return Ok(None) };
        if found - words >= LEAST_WORDS {
            self.add_free(address + words, found - words);
            found = words;
        }
        self.identities += 1;
        self.objects += 1;
        let object = Object { address, words: found, links, identity: self.identities };
        self.words.set(address + HEADER, ALLOCATED | (links as u64) << 32 | found as u64);
        self.words.set(address + IDENTITY, object.identity);
        for link in 0..links {
            self.set(&object, link, Link::NONE);
        }
        self.each_filler(&object, |index, word| {
            self.words.set(index, word);
            Ok(())
        })?;
        Ok(Some(object))
    }

    fn each_filler(
        &self,
        object: &Object,
        mut each: impl FnMut(usize, u64) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut word = mix(self.seed ^ object.identity);
        for index in object.address + LINKS + object.links..object.address + object.words {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            each(index, word)?;
        }
        Ok(())
    }

    /// The object at an address, whichever it is.
    fn object_at(&self, address: usize) -> Result<(Object, u64), Failure> {
        let header = self.words.get(address + HEADER);
        let (words, links) = ((header & 0xffff_ffff) as usize, (header >> 32 & 0xff) as usize);
        let fits = words >= LEAST_WORDS && words <= self.words.len() - address && links <= words - LINKS;
        if !fits || header & !(ALLOCATED | MARKED) != (links as u64) << 32 | words as u64 {
            return Err(Failure::Wrong { what: "header", at: address as u64, expected: ALLOCATED, found: header });
        }
        let identity = if header & ALLOCATED == 0 { 0 } else { self.words.get(address + IDENTITY) };
        Ok((Object { address, words, links, identity }, header))
    }

    fn follow(&self, link: Link) -> Result<(Object, u64), Failure> {
        let address = link.address();
        if address < START || address > self.words.len() - LEAST_WORDS {
            let end = self.words.len() as u64;
            return Err(Failure::Wrong { what: "link to an object", at: address as u64, expected: end, found: link.0 });
        }
        let (object, header) = self.object_at(address)?;
        let found = if header & ALLOCATED == 0 { 0 } else { object.link().0 };
        Failure::unless_equal("linked object", address as u64, link.0, found)?;
        Ok((object, header))
    }

    /// The object that a link leads to.
    pub fn open(&self, link: Link) -> Result<Object, Failure> {
        self.follow(link).map(|(object, _)| object)
    }

    /// A link of an object.
    pub fn get(&self, object: &Object, link: usize) -> Link {
        Link(self.words.get(object.address + LINKS + link))
    }

    /// Sets a link of an object.
    pub fn set(&self, object: &Object, link: usize, to: Link) {
        self.words.set(object.address + LINKS + link, to.0);
    }

    /// Checks every word that an object had from its allocation on. Returns the last one.
    pub fn check(&self, object: &Object) -> Result<u64, Failure> {
        let mut last = 0;
        self.each_filler(object, |index, word| {
            last = word;
            Failure::unless_equal("object's word", index as u64, word, self.words.get(index))
        })?;
        Ok(last)
    }

    /// Marks everything that can be reached. Returns how many objects that are.
    fn mark(&self, roots: &[Link]) -> Result<u64, Failure> {
        let mut marked = 0;
        let mut grey: Vec<Link> = roots.iter().copied().filter(|&root| root != Link::NONE).collect();
        while let Some(link) = grey.pop() {
            let (object, header) = self.follow(link)?;
            if header & MARKED != 0 {
                continue;
            }
            self.words.set(object.address + HEADER, header | MARKED);
            marked += 1;
            grey.extend((0..object.links).map(|index| self.get(&object, index)).filter(|&next| next != Link::NONE));
        }
        Ok(marked)
    }

    /// Frees what is not marked, joins free neighbours, and takes the marks away.
    fn sweep(&mut self) -> Result<Collected, Failure> {
        let mut collected = Collected { survivors: 0, freed: 0 };
        self.free = [List::default(); 33];
        let (mut free_from, mut address) = (START, START);
        while address < self.words.len() {
            let (object, header) = self.object_at(address)?;
            if header & MARKED != 0 {
                self.words.set(address + HEADER, header & !MARKED);
                collected.survivors += 1;
                if free_from < address {
                    self.add_free(free_from, address - free_from);
                }
                free_from = address + object.words;
            } else if header & ALLOCATED != 0 {
                // So that a link to it is wrong even where this word ends up inside a greater block.
                self.words.set(address + HEADER, object.words as u64);
                collected.freed += 1;
            }
            address += object.words;
        }
        if free_from < address {
            self.add_free(free_from, address - free_from);
        }
        Ok(collected)
    }

    /// Frees what cannot be reached from the roots.
    pub fn collect(&mut self, roots: &[Link]) -> Result<Collected, Failure> {
        let marked = self.mark(roots)?;
        let collected = self.sweep()?;
        Failure::unless_equal("survivors", 0, marked, collected.survivors)?;
        Failure::unless_equal("objects", 0, self.objects, collected.survivors + collected.freed)?;
        self.objects = collected.survivors;
        Ok(collected)
    }

    /// Checks every word of every object, in the order of addresses. Returns how many there are, and a checksum.
    pub fn check_all(&self) -> Result<(u64, u64), Failure> {
        let (mut objects, mut sum, mut address) = (0, 0_u64, START);
        while address < self.words.len() {
            let (object, header) = self.object_at(address)?;
            if header & ALLOCATED != 0 {
                objects += 1;
                sum = sum.wrapping_mul(31).wrapping_add(self.check(&object)?);
            }
            address += object.words;
        }
        Ok((objects, sum))
    }
}

#[cfg(test)]
mod tests;
