//! Devices: what the PCI buses hold that we drive, and the memory they may reach.
//!
//! Owns: finding the disks, giving each its interrupt, the drivers' view of memory ([`DirectMap`]). Does not own: what is on a
//! disk (`storage`), how one works (`drivers`).
#![expect(unsafe_code, reason = "says which memory devices reach, and takes possession of the PCI ports")]

use alloc::boxed::Box;
use core::ptr::NonNull;

use arrayvec::ArrayVec;
use drivers::hal::DeviceMemory;
use drivers::pci::{ConfigPorts, DeviceFunction, MAX_DISKS, Pci, PciError, VirtioPci};
use drivers::virtio_blk::{InitError, VirtioBlk};
use mm::frame::{FrameKind, Order};
use virtio_drivers::{BufferDirection, Hal};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::areas;
use crate::arch::direct_map;
use crate::arch::pat::Caching;
use crate::boot::PhysRange;
use crate::boot::memory::PAGE;
use crate::frames;
use crate::irq::{DeviceVector, NoVector};
use crate::process::promptness;
use crate::storage::{self, DiskIo};

/// A virtio disk.
pub type Disk = VirtioBlk<DirectMap, VirtioPci, DiskIo>;
/// As many as there can be.
pub type Disks = ArrayVec<&'static Disk, MAX_DISKS>;

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The bus says no.
    #[error("{0}")]
    Pci(#[from] PciError),
    /// The device says no.
    #[error("{0}")]
    Init(#[from] InitError),
    /// There are too many devices.
    #[error("{0}")]
    Vector(#[from] NoVector),
}

/// Sets up the virtio disks, in bus order. They live as long as the kernel.
pub fn disks() -> Result<Disks, DiskError> {
    // SAFETY: ring 0, and nobody else uses the configuration ports: this is called once, at boot.
    let mut pci = Pci::new(unsafe { ConfigPorts::new() });
    pci.virtio_disks().into_iter().map(|at| open(&mut pci, at)).collect()
}

fn open(pci: &mut Pci<ConfigPorts>, at: DeviceFunction) -> Result<&'static Disk, DiskError> {
    let vector = DeviceVector::take()?;
    let transport = pci.open_virtio::<DirectMap>(at, vector.route())?;
    let disk: &'static Disk = Box::leak(Box::new(Disk::new(transport)?));
    vector.handle(Box::new(move || {
        // What the pager takes is the swap disk's; the data disk wakes a task of the kernel's own.
        if storage::is_swap(disk) {
            promptness::completion_announced();
        }
        disk.on_interrupt();
    }));
    log::info!("disk at {at}: {:?}", disk.info());
    Ok(disk)
}

/// Memory as devices see it: physical addresses, reached through the direct map. There is no IOMMU.
pub struct DirectMap;

// SAFETY: frames from the allocator are ours until given back and lie in the direct map; what is shared is heap or
// frame memory, which stays where it is; register blocks are mapped uncached for ever.
unsafe impl Hal for DirectMap {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (u64, NonNull<u8>) {
        let allocator = frames::get();
        let frame = Order::holding(pages).and_then(|order| allocator.alloc(FrameKind::Dma, order));
        // Physical address 0 is how this interface says "none".
        let Some(frame) = frame else { return (0, NonNull::dangling()) };
        let (order, first) = (frame.order(), allocator.leak(frame).phys());
        let memory = pointer(first);
        // SAFETY: a block of frames that is ours alone, in the direct map.
        unsafe { memory.cast::<u64>().write_bytes(0, order.frames() * PAGE as usize / 8) };
        (first, memory)
    }

    unsafe fn dma_dealloc(first: u64, _: NonNull<u8>, pages: usize) -> i32 {
        let allocator = frames::get();
        let order = Order::holding(pages).expect("allocated with this size");
        let released = allocator.release(frames::pfn(PhysAddr::new(first)), FrameKind::Dma, order);
        released.unwrap_or_else(|error| panic!("device memory at {first:#x}: {error}"));
        0
    }

    unsafe fn mmio_phys_to_virt(start: u64, size: usize) -> NonNull<u8> {
        let registers = PhysRange::from_len(start, size as u64);
        areas::map(registers, Caching::Uncached, &mut frames::kernel_table)
            .expect("devices are set up while there is memory for page tables")
            .start
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> u64 {
        direct_map::physical(VirtAddr::from_ptr(buffer.as_ptr().cast::<u8>()))
            .expect("devices reach only the heap and frames, which are in the direct map")
            .as_u64()
    }

    unsafe fn unshare(_: u64, _: NonNull<[u8]>, _: BufferDirection) {}
}

// SAFETY: there is no IOMMU, and devices reach all of RAM.
unsafe impl DeviceMemory for DirectMap {}

fn pointer(address: u64) -> NonNull<u8> {
    NonNull::new(direct_map::pointer(PhysAddr::new(address))).expect("the direct map is not at 0")
}
