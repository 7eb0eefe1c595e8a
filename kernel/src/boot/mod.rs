//! How the machine comes to us: two ways in (PVH and the Limine protocol), one [`BootInfo`] out.
//!
//! Owns: the entry points, the boot page tables, the boot stack, the memory map as the kernel understands it.
//! Does not own: the kernel's own page tables (`arch::kernel_space`) and everything after them.
//! Neighbours: both entries end in [`crate::kernel_main`], on the kernel stack, interrupts off.

pub mod early;
pub mod limine;
pub mod memory;
pub mod pvh;

pub use early::EarlyMemory;
pub use memory::{MemoryMap, PhysRange, RegionKind};

use x86_64::PhysAddr;

/// Everything the kernel learns from whoever loaded it.
pub struct BootInfo {
    /// All RAM, by what may be done with it.
    pub memory: MemoryMap,
    /// What of RAM can be reached through the direct map before the kernel has its own tables.
    pub window: PhysRange,
    /// The kernel command line; lives in boot-only memory, so it must be parsed before that is reclaimed.
    pub command_line: &'static [u8],
    /// The first boot module, if any.
    pub module: Option<PhysRange>,
    /// Where the ACPI root pointer is, if the loader said.
    pub rsdp: Option<PhysAddr>,
    /// Where the image (`__image_start`) lies in physical memory.
    pub image: PhysRange,
    /// The time-stamp counter at the first instruction of ours that ran.
    pub entry_tsc: u64,
    /// Which way we came.
    pub loader: Loader,
}

/// Which boot protocol brought us here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// `qemu -kernel` and other PVH loaders.
    Pvh,
    /// Limine, BIOS or UEFI.
    Limine,
}

impl BootInfo {
    /// The boot self-check: what the loader told us, at debug level.
    pub fn log_memory(&self) {
        log::debug!("booted by {:?}, image at {:?}, module {:?}", self.loader, self.image, self.module);
        for region in self.memory.regions() {
            log::debug!("memory {:?} {:?}", region.range, region.kind);
        }
    }
}
