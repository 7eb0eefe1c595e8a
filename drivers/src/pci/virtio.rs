//! The virtio transport over PCI, with what virtio-drivers' own leaves out: an interrupt vector and a cheap doorbell.
//!
//! Owns a second view of two register blocks that `PciTransport` keeps private: the common configuration, for the
//! queue's MSI-X vector (facts §4.6), and the doorbell of queue 0. A notification is then one register write instead of
//! three accesses (facts §5.6). Everything else is `PciTransport`'s.
#![expect(unsafe_code, reason = "writes virtio registers through its own mapping")]

use super::{ConfigSpace, DeviceFunction, Pci, PciError};
use crate::hal::DeviceMemory;
use crate::virtio_blk::{BlockTransport, InitError};
use core::ptr::NonNull;
use virtio_drivers::transport::pci::bus::PCI_CAP_ID_VNDR;
use virtio_drivers::transport::pci::{
    PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG, VirtioPciError,
};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Offsets in the common configuration (VirtIO 1.2 §4.1.4.3).
mod common {
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub(super) const LEN: u32 = 0x38;
}

/// The MSI-X entry that `msix::enable` has aimed.
const ENTRY: u16 = 0;

/// A structure that a vendor capability points to (VirtIO 1.2 §4.1.4).
#[derive(Clone, Copy)]
struct Block {
    bar: u8,
    offset: u32,
    len: u32,
    /// Only of the notification capability.
    multiplier: u32,
}

/// virtio over PCI with an MSI-X vector for queue 0.
pub struct VirtioPci {
    inner: PciTransport,
    common: NonNull<u8>,
    doorbells: NonNull<u8>,
    doorbells_len: u32,
    multiplier: u32,
    /// Doorbell of queue 0, known once the queue is set up.
    doorbell: Option<NonNull<u16>>,
}

// SAFETY: registers may be accessed from any CPU; `&mut self` serialises the accesses.
unsafe impl Send for VirtioPci {}

impl VirtioPci {
    pub(super) fn new<H: DeviceMemory, S: ConfigSpace>(
        pci: &mut Pci<S>,
        at: DeviceFunction,
    ) -> core::result::Result<Self, PciError> {
        let common = find(pci, at, VIRTIO_PCI_CAP_COMMON_CFG).ok_or(VirtioPciError::MissingCommonConfig)?;
        let notify = find(pci, at, VIRTIO_PCI_CAP_NOTIFY_CFG).ok_or(VirtioPciError::MissingNotifyConfig)?;
        let inner = PciTransport::new::<H, _>(&mut pci.root(), at)?;
        Ok(Self {
            inner,
            common: pci.map::<H>(at, common.bar, common.offset, common::LEN)?,
            doorbells: pci.map::<H>(at, notify.bar, notify.offset, notify.len)?,
            doorbells_len: notify.len,
            multiplier: notify.multiplier,
            doorbell: None,
        })
    }

    fn read_common(&self, offset: usize) -> u16 {
        // SAFETY: a 16-bit register inside the common configuration, whose length `new` has checked against the BAR.
        unsafe { self.common.add(offset).cast::<u16>().read_volatile() }
    }

    fn write_common(&mut self, offset: usize, value: u16) {
        // SAFETY: as in `read_common`; selecting a queue and giving it a vector touches no memory.
        unsafe { self.common.add(offset).cast::<u16>().write_volatile(value) };
    }

    /// Where queue `queue` is notified (VirtIO 1.2 §4.1.4.4).
    fn find_doorbell(&mut self, queue: u16) -> Option<NonNull<u16>> {
        self.write_common(common::QUEUE_SELECT, queue);
        let offset = u64::from(self.read_common(common::QUEUE_NOTIFY_OFF)) * u64::from(self.multiplier);
        let inside = offset + 2 <= u64::from(self.doorbells_len) && offset.is_multiple_of(2);
        // SAFETY: only used if the two bytes lie inside the mapped block.
        inside.then(|| unsafe { self.doorbells.add(offset as usize) }.cast())
    }
}

fn find<S: ConfigSpace>(pci: &Pci<S>, at: DeviceFunction, kind: u8) -> Option<Block> {
    let mut found = None;
    pci.capabilities(at, |cap| {
        let (len, cfg_type) = (cap.private_header as u8, (cap.private_header >> 8) as u8);
        let wanted = cap.id == PCI_CAP_ID_VNDR && cfg_type == kind && len >= 16;
        if !wanted || found.is_some() || cap.offset > 0xec {
            return;
        }
        let word = |offset| pci.space.read(at, cap.offset + offset);
        found = Some(Block {
            bar: word(4) as u8,
            offset: word(8),
            len: word(12),
            multiplier: if len >= 20 { word(16) } else { 0 },
        });
    });
    found
}

impl BlockTransport for VirtioPci {
    fn bind_interrupt(&mut self) -> core::result::Result<(), InitError> {
        self.write_common(common::QUEUE_SELECT, 0);
        self.write_common(common::QUEUE_MSIX_VECTOR, ENTRY);
        // A device that has no resources for the vector answers 0xffff (VirtIO 1.2 §4.1.5.1.2.2).
        if self.read_common(common::QUEUE_MSIX_VECTOR) == ENTRY { Ok(()) } else { Err(InitError::InterruptRefused) }
    }
}

impl Transport for VirtioPci {
    fn notify(&mut self, queue: u16) {
        match self.doorbell {
            // SAFETY: a doorbell inside the mapped notification block; the device reads rings that are set up.
            Some(doorbell) if queue == 0 => unsafe { doorbell.write_volatile(queue) },
            _ => self.inner.notify(queue),
        }
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.inner.queue_set(queue, size, descriptors, driver_area, device_area);
        if queue == 0 {
            self.doorbell = self.find_doorbell(queue);
        }
    }

    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }

    fn read_device_features(&mut self) -> u64 {
        self.inner.read_device_features()
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.inner.write_driver_features(driver_features);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.inner.max_queue_size(queue)
    }

    fn get_status(&self) -> DeviceStatus {
        self.inner.get_status()
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.inner.set_status(status);
    }

    fn set_guest_page_size(&mut self, guest_page_size: u32) {
        self.inner.set_guest_page_size(guest_page_size);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.inner.requires_legacy_layout()
    }

    fn queue_unset(&mut self, queue: u16) {
        self.inner.queue_unset(queue);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.inner.queue_used(queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.inner.ack_interrupt()
    }

    fn read_config_generation(&self) -> u32 {
        self.inner.read_config_generation()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        self.inner.read_config_space(offset)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<()> {
        self.inner.write_config_space(offset, value)
    }
}
