//! The machine as the memory manager sees it, and the one manager there is.
//!
//! Owns the [`Platform`] that ties `phys`, `address_space` and `storage` together, and the manager's place. Set up once at boot.
#![expect(unsafe_code, reason = "turns early memory into the table of frame descriptors")]

use core::mem::MaybeUninit;

use mm::frame::FrameDesc;
use mm::platform::Platform;
use mm::{Config, Mm, NoMemory};

use crate::address_space::UserTables;
use crate::compressor::Lz4;
use crate::file_store::Files;
use crate::heap;
use crate::phys::Memory;
use crate::storage::Storage;
use crate::sync::{IrqLock, Once};

/// This machine.
pub struct Machine;

impl Platform for Machine {
    type Lock = IrqLock;
    type Memory = Memory;
    type Table = UserTables;
    type Store = Storage;
    type Files = Files;
    type Compressor = Lz4;

    fn shrink_caches() -> usize {
        heap::shrink()
    }
}

static MM: Once<Mm<Machine>> = Once::new();

/// The memory manager.
pub fn mm() -> &'static Mm<Machine> {
    MM.get().expect("the memory manager is set up at boot")
}

/// The memory manager, if it is set up yet.
pub fn try_mm() -> Option<&'static Mm<Machine>> {
    MM.get()
}

/// Something to do for a CPU that has nothing else to do; `false` if there is no such thing.
pub fn idle_work() -> bool {
    MM.get().is_some_and(Mm::zero_in_advance)
}

/// Makes every descriptor say that its frame is of no interest yet.
pub fn descriptors(table: &'static mut [MaybeUninit<FrameDesc>]) -> &'static mut [FrameDesc] {
    for desc in table.iter_mut() {
        desc.write(FrameDesc::EMPTY);
    }
    // SAFETY: every element has just been written.
    unsafe { table.assume_init_mut() }
}

/// Sets the manager up and returns it. Fails if there is no memory for the compressed tier that it is to have.
pub fn init(
    config: Config,
    memory: Memory,
    descs: &'static mut [FrameDesc],
    store: Option<Storage>,
) -> Result<&'static Mm<Machine>, NoMemory> {
    // Made where it stays: it is too large to be moved over the stack.
    let mm = MM.call_once(|| Mm::new(config, memory, crate::frames::get(), descs, store).with_files(Files));
    mm.add_tier(Lz4::new())?;
    Ok(mm)
}
