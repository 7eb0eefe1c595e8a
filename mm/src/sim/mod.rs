//! The machine the manager runs on in tests: memory, page tables with a TLB, a swap device, and threads that load and store.
//!
//! Owns a model of what hardware may do to the manager, as unkind as the manuals allow: frames are full of poison whenever they are
//! nobody's, the TLB keeps every translation it was not told to forget, the disk reorders, fails, tears and loses. Does not own time or
//! order: whoever drives a simulation polls the tasks and calls [`SimStore::step`]. No chance but seeded chance.
//!
//! - [`machine`]: all of it together, and user accesses. [`memory`]: frames. [`table`]: page tables. [`tlb`]: what the CPU remembers.
//! - [`compressor`]: what the compressed tier is tried with. [`store`]: the disk for swap. [`files`]: the one for files. [`inspect`]: the whole state of the manager checked against itself.

mod compressor;
pub mod files;
mod inspect;
pub mod machine;
pub mod memory;
mod rng;
pub mod store;
pub mod table;
mod tlb;

pub use compressor::{SimCompressor, SimPrices};
pub use files::{FilesConfig, FilesCounts, SimFiles};
pub use machine::{SimConfig, SimMachine, SimPlatform, Trap};
pub use memory::{Ram, SimMemory};
pub use rng::SimRng;
pub use store::{DiskConfig, DiskCounts, Loss, PerMille, SimStore, Stage};
pub use table::SimTable;

/// The lock of simulated machines. Nobody ever waits for it: a simulation is one thread.
pub type SimLock = maitake_sync::spin::Spinlock;

/// A value of the simulated machine that several of its parts reach.
type Shared<T> = maitake_sync::blocking::Mutex<T, SimLock>;

/// Bugs that tests plant, to see them found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// A victim's translation is not flushed.
    SkippedFlush,
    /// The pager does not wake those who wait for the operation that has ended.
    LostWakeup,
}
