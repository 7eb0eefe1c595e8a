//! The kernel heap's algorithms, over addresses as numbers: no pointers, no memory of its own.
//!
//! - [`SlabHeap`] serves the kernel: slabs of one frame for small objects, blocks of frames for large ones. The kernel's `GlobalAlloc`
//!   is a thin layer over this very code (`kernel/src/heap.rs`); host tests run it over pretended memory.
//! - [`Heap`] is what heaps have in common; [`layers`] has three more of them, a list, a buddy and the chain of all three, so that
//!   they can be compared on one trace (`tests/tests/heap_model.rs` prints the table).
//! - [`Zone`] holds equal chunks of one type and never grows.
//!
//! Owns which addresses are in use. Does not own memory: frames come through [`SlabMemory`], from `frame` or from a layer below.

pub mod layers;
mod slab;
mod zone;

pub use slab::{
    CLASSES, ClassStats, HeapStats, KEPT_EMPTY, LARGEST, Misuse, SLAB_HEADER, SlabHeader, SlabHeap, SlabId, SlabMemory,
};
pub use zone::{Place, Zone};

/// A request: so many bytes, at a multiple of `align`, which is a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// How many bytes; at least 1.
    pub size: usize,
    /// Of which power of two the address is a multiple.
    pub align: usize,
}

impl Request {
    /// A request for `size` bytes without a wish for alignment.
    pub const fn bytes(size: usize) -> Self {
        Self { size, align: 1 }
    }
}

/// Something that gives out addresses.
pub trait Heap {
    /// An address with so much room behind it, or `None` if there is none.
    fn alloc(&mut self, request: Request) -> Option<u64>;
    /// Takes back what [`Heap::alloc`] gave for the same request.
    fn free(&mut self, at: u64, request: Request) -> Result<(), Misuse>;
    /// Whether what was given for `old` serves for `new` where it is; if so, it is `new`'s from now on.
    fn resize(&mut self, at: u64, old: Request, new: Request) -> bool;
    /// How many places have been looked at or changed in search of room, since the heap was made.
    fn steps(&self) -> u64;
    /// Bytes that the heap has taken from below and not given back.
    fn footprint(&self) -> u64;
}
