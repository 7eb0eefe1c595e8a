//! Heaps that stand on each other: a list, a buddy, and slabs over a buddy over a list.
//!
//! Owns nothing but addresses. The kernel itself uses [`SlabHeap`](super::SlabHeap) over the frame allocator; these are here because
//! the choice was to be made by comparing, and so that anybody can compare again: [`Kind`] selects one by name.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;

use super::slab::{SlabHeader, SlabHeap, SlabId, SlabMemory};
use super::{Heap, Misuse, Request};
use crate::addr::PAGE_SIZE;
use crate::frame::Order;
use crate::range::{Block, Buddy, FreeBlocks, Span, SparseBlocks};

/// Which heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// [`ListHeap`].
    List,
    /// [`BuddyHeap`] over nothing.
    Buddy,
    /// Slabs over a buddy.
    Slab,
    /// Slabs over a buddy over a list: each takes what it is good at, and large blocks from below.
    Chain,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::List, Self::Buddy, Self::Slab, Self::Chain];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Buddy => "buddy",
            Self::Slab => "slab",
            Self::Chain => "chain",
        }
    }

    /// A heap of this kind over the addresses `space`.
    pub fn over(self, space: Span) -> Box<dyn Heap> {
        match self {
            Self::List => Box::new(ListHeap::new(space)),
            Self::Buddy => Box::new(BuddyHeap::over_everything(space)),
            Self::Slab => Box::new(SlabHeap::new(Below::new(BuddyHeap::over_everything(space)))),
            Self::Chain => Box::new(Chain::new(space)),
        }
    }
}

/// A list of pieces, free and used, in order of address; the first that is large enough is taken.
pub struct ListHeap {
    pieces: Vec<Piece>,
    first: usize,
    /// Pieces that are none any more.
    spare: Vec<usize>,
    steps: u64,
}

#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    len: u64,
    is_free: bool,
    previous: Option<usize>,
    next: Option<usize>,
}

impl ListHeap {
    /// A heap over `space`.
    pub fn new(space: Span) -> Self {
        let whole = Piece { start: space.start(), len: space.len(), is_free: true, previous: None, next: None };
        Self { pieces: alloc::vec![whole], first: 0, spare: Vec::new(), steps: 0 }
    }

    /// Cuts a piece in two at `len`; the second part is free.
    fn cut(&mut self, at: usize, len: u64) {
        let Piece { start, len: whole, next, .. } = self.pieces[at];
        if len == whole {
            return;
        }
        let rest = Piece { start: start + len, len: whole - len, is_free: true, previous: Some(at), next };
        let index = self.spare.pop().unwrap_or(self.pieces.len());
        if index == self.pieces.len() {
            self.pieces.push(rest)
        } else {
            self.pieces[index] = rest
        }
        if let Some(next) = next {
            self.pieces[next].previous = Some(index);
        }
        (self.pieces[at].len, self.pieces[at].next) = (len, Some(index));
    }

    /// Joins a piece with its next one, if both are free.
    fn join(&mut self, at: usize) {
        let Piece { is_free, next: Some(next), .. } = self.pieces[at] else { return };
        if is_free && self.pieces[next].is_free {
            self.pieces[at].len += self.pieces[next].len;
            self.pieces[at].next = self.pieces[next].next;
            if let Some(after) = self.pieces[next].next {
                self.pieces[after].previous = Some(at);
            }
            self.spare.push(next);
        }
    }

    fn find(&mut self, wanted: impl Fn(&Piece) -> bool) -> Option<usize> {
        let mut at = Some(self.first);
        while let Some(index) = at {
            self.steps += 1;
            if wanted(&self.pieces[index]) {
                return Some(index);
            }
            at = self.pieces[index].next;
        }
        None
    }
}

impl Heap for ListHeap {
    fn alloc(&mut self, request: Request) -> Option<u64> {
        let (len, align) = (request.size as u64, request.align as u64);
        let aligned = |piece: &Piece| piece.start.next_multiple_of(align);
        let fits = |piece: &Piece| piece.is_free && aligned(piece) + len <= piece.start + piece.len;
        let mut at = self.find(fits)?;
        let skipped = aligned(&self.pieces[at]) - self.pieces[at].start;
        if skipped > 0 {
            self.cut(at, skipped);
            at = self.pieces[at].next.expect("just cut off");
        }
        self.cut(at, len);
        self.pieces[at].is_free = false;
        Some(self.pieces[at].start)
    }

    fn free(&mut self, start: u64, request: Request) -> Result<(), Misuse> {
        let at = self.find(|piece| piece.start <= start && start < piece.start + piece.len).ok_or(Misuse::NotOurs)?;
        let piece = self.pieces[at];
        match () {
            () if piece.is_free => return Err(Misuse::DoubleFree),
            () if piece.start != start || piece.len != request.size as u64 => return Err(Misuse::NotAnObject),
            () => {}
        }
        self.pieces[at].is_free = true;
        self.join(at);
        if let Some(previous) = piece.previous {
            self.join(previous);
        }
        Ok(())
    }

    fn resize(&mut self, _: u64, old: Request, new: Request) -> bool {
        old.size == new.size
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    /// All up to the end of the last piece in use: gaps in between are of use to nobody else.
    fn footprint(&self) -> u64 {
        let in_use =
            self.pieces.iter().enumerate().filter(|(index, piece)| !piece.is_free && !self.spare.contains(index));
        let end = in_use.map(|(_, piece)| piece.start + piece.len).max();
        end.map_or(0, |end| end - self.pieces[self.first].start)
    }
}

/// Counts how often a store is asked.
struct Counting<F> {
    store: F,
    steps: Cell<u64>,
}

impl<F: FreeBlocks> FreeBlocks for Counting<F> {
    const MAX_ORDER: u32 = F::MAX_ORDER;

    fn has(&self, block: Block) -> bool {
        self.steps.update(|steps| steps + 1);
        self.store.has(block)
    }
    fn add(&mut self, block: Block) {
        self.steps.update(|steps| steps + 1);
        self.store.add(block);
    }
    fn remove(&mut self, block: Block) {
        self.steps.update(|steps| steps + 1);
        self.store.remove(block);
    }
    fn smallest(&self, order: u32) -> Option<Block> {
        self.steps.update(|steps| steps + 1);
        self.store.smallest(order)
    }
}

/// Blocks of powers of two; more of them from a heap below, if there is one.
pub struct BuddyHeap<B = Nothing> {
    buddy: Buddy<Counting<SparseBlocks>>,
    /// Order of what is given out, by address.
    given: BTreeMap<u64, u32>,
    below: B,
    footprint: u64,
}

/// The heap that has nothing to give.
pub struct Nothing;

impl Heap for Nothing {
    fn alloc(&mut self, _: Request) -> Option<u64> {
        None
    }
    fn free(&mut self, _: u64, _: Request) -> Result<(), Misuse> {
        Err(Misuse::NotOurs)
    }
    fn resize(&mut self, _: u64, _: Request, _: Request) -> bool {
        false
    }
    fn steps(&self) -> u64 {
        0
    }
    fn footprint(&self) -> u64 {
        0
    }
}

/// Smallest block: what a free one needs for its links in heaps that keep them inside.
const SMALLEST: usize = 16;
/// What a buddy takes from below, and most of what it gives.
const REGION: Request = Request { size: 256 << 10, align: 256 << 10 };

impl BuddyHeap {
    /// All of `space`, from the start.
    pub fn over_everything(space: Span) -> Self {
        let mut heap = Self::over(Nothing);
        heap.buddy.put_span(space);
        heap
    }
}

impl<B: Heap> BuddyHeap<B> {
    /// Nothing at first; regions from below as they are needed.
    pub fn over(below: B) -> Self {
        let buddy = Buddy::new(Counting { store: SparseBlocks::new(), steps: Cell::new(0) });
        Self { buddy, given: BTreeMap::new(), below, footprint: 0 }
    }

    fn order(request: Request) -> Option<u32> {
        request.size.max(request.align).max(SMALLEST).checked_next_power_of_two().map(usize::trailing_zeros)
    }
}

impl<B: Heap> Heap for BuddyHeap<B> {
    fn alloc(&mut self, request: Request) -> Option<u64> {
        let order = Self::order(request)?;
        let block = match self.buddy.take(order) {
            Some(block) => block,
            None if 1 << order <= REGION.size => {
                let start = self.below.alloc(REGION)?;
                self.buddy.put_span(Span::new(start, REGION.size as u64)?);
                self.buddy.take(order)?
            }
            None => return self.below.alloc(request),
        };
        self.given.insert(block.start, order);
        self.footprint += block.units();
        Some(block.start)
    }

    fn free(&mut self, at: u64, request: Request) -> Result<(), Misuse> {
        let order = Self::order(request).ok_or(Misuse::NotOurs)?;
        match self.given.get(&at) {
            Some(given) if *given == order => {
                self.given.remove(&at);
                self.footprint -= 1 << order;
                self.buddy.put(Block { start: at, order });
                // A region that is whole again goes back, unless it was ours from the start.
                let region = Block { start: at - at % REGION.size as u64, order: REGION.size.trailing_zeros() };
                if self.buddy.free().has(region) && self.below.free(region.start, REGION).is_ok() {
                    let taken = self.buddy.take_at(region);
                    debug_assert!(taken, "it was free");
                }
                Ok(())
            }
            Some(_) => Err(Misuse::NotAnObject),
            None => match self.below.free(at, request) {
                Err(Misuse::NotOurs) if self.buddy.is_free(Block { start: at, order: 0 }) => Err(Misuse::DoubleFree),
                result => result,
            },
        }
    }

    fn resize(&mut self, at: u64, old: Request, new: Request) -> bool {
        match (Self::order(old), Self::order(new)) {
            (Some(before), Some(after)) if self.given.contains_key(&at) => before == after,
            _ => self.below.resize(at, old, new),
        }
    }
    fn steps(&self) -> u64 {
        self.buddy.free().steps.get() + self.below.steps()
    }
    fn footprint(&self) -> u64 {
        self.footprint.max(self.below.footprint())
    }
}

/// A heap as the memory of slabs; their headers are kept aside, because the addresses are only numbers.
pub struct Below<H> {
    heap: H,
    headers: BTreeMap<u64, SlabHeader>,
}

impl<H: Heap> Below<H> {
    /// Frames out of `heap`.
    pub fn new(heap: H) -> Self {
        Self { heap, headers: BTreeMap::new() }
    }

    /// The heap.
    pub fn heap(&self) -> &H {
        &self.heap
    }

    fn request(order: Order) -> Request {
        let size = order.frames() * PAGE_SIZE;
        Request { size, align: size }
    }
}

impl<H: Heap> SlabMemory for Below<H> {
    fn take(&mut self, order: Order) -> Option<u64> {
        self.heap.alloc(Self::request(order))
    }
    fn give(&mut self, at: u64, order: Order) {
        self.headers.remove(&at);
        self.heap.free(at, Self::request(order)).expect("slabs give back what they took");
    }
    fn make_header(&mut self, slab: SlabId, header: SlabHeader) {
        self.headers.insert(slab.address(), header);
    }
    fn header(&mut self, slab: SlabId) -> &mut SlabHeader {
        self.headers.get_mut(&slab.address()).expect("a slab of ours")
    }
}

/// Slabs for small objects, a buddy for what is larger, a list for what is larger than a buddy's region.
pub struct Chain {
    slabs: SlabHeap<Below<BuddyHeap<ListHeap>>>,
    list: ListHeap,
}

impl Chain {
    /// A chain over `space`: one half for regions, the other for what is larger than a region.
    fn new(space: Span) -> Self {
        let middle = space.start() + space.len() / 2;
        let half = |start, end| ListHeap::new(Span::between(start, end).expect("a space of some size"));
        let buddy = BuddyHeap::over(half(space.start(), middle));
        Self { slabs: SlabHeap::new(Below::new(buddy)), list: half(middle, space.end()) }
    }

    fn is_large(request: Request) -> bool {
        request.size.max(request.align) > REGION.size
    }
}

impl Heap for Chain {
    fn alloc(&mut self, request: Request) -> Option<u64> {
        if Self::is_large(request) { self.list.alloc(request) } else { self.slabs.alloc(request) }
    }
    fn free(&mut self, at: u64, request: Request) -> Result<(), Misuse> {
        if Self::is_large(request) { self.list.free(at, request) } else { self.slabs.free(at, request) }
    }
    fn resize(&mut self, at: u64, old: Request, new: Request) -> bool {
        match (Self::is_large(old), Self::is_large(new)) {
            (false, false) => self.slabs.resize(at, old, new),
            (true, true) => self.list.resize(at, old, new),
            _ => false,
        }
    }
    fn steps(&self) -> u64 {
        self.slabs.steps() + self.slabs.memory().heap().steps() + self.list.steps()
    }
    fn footprint(&self) -> u64 {
        self.slabs.memory().heap().footprint() + self.list.footprint()
    }
}
