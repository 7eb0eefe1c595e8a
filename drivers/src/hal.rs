//! What the drivers need of the machine: memory a device can reach, and how to get at it.
//!
//! Owns the types for physical memory and the [`DeviceMemory`] contract, which the kernel implements over its direct
//! map and the tests over an arena that notices every forgotten hand-back. Does not own any memory. Neighbours:
//! [`crate::block::Buffers`] names memory in these types; `virtio_blk` translates it; `pci` maps registers through the
//! same trait.
#![expect(unsafe_code, reason = "declares the unsafe trait the kernel implements")]

use core::fmt;

/// A physical address: what a device sees when there is no IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysAddr({:#x})", self.0)
    }
}

/// A run of physical memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PhysRange {
    /// The first byte.
    pub start: PhysAddr,
    /// Length in bytes.
    pub len: u32,
}

impl PhysRange {
    /// The run of `len` bytes at `start`.
    pub const fn new(start: PhysAddr, len: u32) -> Self {
        Self { start, len }
    }

    /// The first byte after the run.
    pub const fn end(self) -> PhysAddr {
        PhysAddr(self.start.0 + self.len as u64)
    }
}

/// Memory that a device can reach: virtio-drivers' [`Hal`](virtio_drivers::Hal), where there is no IOMMU.
///
/// # Safety
///
/// The device is told physical addresses as they are: those of the runs that a [`Buffers`](crate::block::Buffers) value
/// names, and those that `Hal::dma_alloc` returns. It must reach exactly those bytes there.
pub unsafe trait DeviceMemory: virtio_drivers::Hal + 'static {}
