//! All RAM at one offset: how the kernel reaches memory that is not its own.
//!
//! Owns: the arithmetic. What is mapped there is decided by the boot page tables (at first a window) and then by
//! `kernel_space` (all RAM of the memory map, the image's code and constants read-only).

use x86_64::{PhysAddr, VirtAddr};

use super::layout;
use crate::boot::PhysRange;
use crate::boot::memory::REACH;

/// Where physical address 0 appears.
pub const BASE: u64 = layout::DIRECT_MAP;
/// RAM beyond is not in the memory map.
pub const SIZE: u64 = layout::DIRECT_MAP_LEN;
const _: () = assert!(SIZE == REACH);

/// Where a physical address appears. The pointer is valid only if the address is RAM of the memory map.
pub fn pointer(address: PhysAddr) -> *mut u8 {
    debug_assert!(address.as_u64() < SIZE, "outside the direct map: {address:?}");
    core::ptr::with_exposed_provenance_mut((BASE + address.as_u64()) as usize)
}

/// The physical address behind a pointer into the direct map; `None` for any other address.
pub fn physical(address: VirtAddr) -> Option<PhysAddr> {
    let offset = address.as_u64().checked_sub(BASE)?;
    (offset < SIZE).then(|| PhysAddr::new(offset))
}

/// Where a range of RAM appears.
pub fn range(range: PhysRange) -> core::ops::Range<VirtAddr> {
    VirtAddr::new(BASE + range.start.as_u64())..VirtAddr::new(BASE + range.end.as_u64())
}
