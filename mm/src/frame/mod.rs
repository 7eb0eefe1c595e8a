//! Frames of RAM: the owned token, what a frame is used for, and who gives frames out.
//!
//! Owns which frames are free and how many serve each purpose ([`FrameAllocator`]), and one descriptor per frame ([`FrameTable`]).
//! Does not own what is *in* a frame (that is reached through [`crate::platform::PhysMemory`]) nor which page it backs.
//!
//! The allocator has a lock of its own, taken inside the kernel heap's and the manager's: heap growth and page tables need frames too.
//! [`Magazines`] are for machines with several processors: frames at hand for each, over the allocator.

mod allocator;
mod failures;
mod magazines;
mod roles;
mod table;

#[cfg(feature = "sim")]
pub use allocator::FrameWatcher;
pub use allocator::{Contents, FrameAllocator, FrameCounts, FrameOwner, FreeError, MAX_ORDER, Order};
pub use magazines::{Batch, FrameSource, Lock, Magazine, Magazines, Marks, ProcessorId};
pub use table::{FrameDesc, FrameTable, Link, Links, Mark, Residence};

use crate::addr::Pfn;

/// What a frame serves as while it is not free. Every frame is in one of these terms of the frame identity, or free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// A page of a program.
    User,
    /// A page table.
    PageTable,
    /// The kernel heap.
    Heap,
    /// Rings and request slots that devices read and write.
    Dma,
    /// The shared frame of zeroes.
    Zero,
    /// The boot module, until the program has been loaded from it.
    Module,
    /// Compressed pages, and what they are written from.
    Tier,
}

impl FrameKind {
    /// Number of kinds.
    pub const COUNT: usize = Self::ALL.len();
    /// All kinds, in order.
    pub const ALL: [Self; 7] =
        [Self::User, Self::PageTable, Self::Heap, Self::Dma, Self::Zero, Self::Module, Self::Tier];
    /// Name used in statistics.
    pub const NAMES: [&'static str; Self::COUNT] = ["user", "page_table", "heap", "dma", "zero", "module", "tier"];
}

/// A run of `2^order` frames that nobody maps and no device touches: whoever holds the token may use them, pass them on or free them.
///
/// There is no way to get a token for a frame that a page table still maps (see [`crate::platform::Stale`]) or a device still owns
/// (the token is inside the request until it completes). Not `Clone`; dropping one leaks its frames, which the frame identity shows.
#[must_use = "a dropped frame is a leaked frame"]
#[derive(PartialEq, Eq, Debug)]
pub struct Frame {
    pfn: Pfn,
    kind: FrameKind,
    order: Order,
}

/// A page's frame while a device reads or writes it: nobody can map, free or reuse it before it is returned with its request.
#[must_use = "a dropped frame is a leaked frame"]
#[derive(PartialEq, Eq, Debug)]
pub struct IoFrame(Pfn);

impl IoFrame {
    /// The frame's number, for the device's descriptors.
    pub fn pfn(&self) -> Pfn {
        self.0
    }
    /// The frame, now that the request is over: for whoever took it out of a completion.
    pub fn returned(self) -> Frame {
        Frame { pfn: self.0, kind: FrameKind::User, order: Order::PAGE }
    }
}

impl Frame {
    /// Gives a single frame to a request.
    pub fn lend(self) -> IoFrame {
        debug_assert!(matches!(self.kind, FrameKind::User | FrameKind::Tier) && self.order == Order::PAGE);
        IoFrame(self.pfn)
    }
    /// First frame of the run.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }
    /// What the run was allocated for.
    pub fn kind(&self) -> FrameKind {
        self.kind
    }
    /// Size of the run.
    pub fn order(&self) -> Order {
        self.order
    }
    /// Makes a token out of nothing: a planted double free, for the tests that show it is found.
    #[cfg(feature = "sim")]
    pub fn forge_for_test(pfn: Pfn, kind: FrameKind) -> Self {
        Self { pfn, kind, order: Order::PAGE }
    }
}
