//! PCI: reaching configuration space, finding devices, and setting up the ones we drive.
//!
//! Owns the two configuration ports and the order in which a virtio device is brought to life: registers found,
//! decoding and bus mastering on, MSI-X entry aimed ([`msix`]), which gives the transport ([`virtio`]). Does not assign
//! addresses (firmware has; facts §4.7), does not map registers (the kernel does, through `Hal::mmio_phys_to_virt`) and
//! does not know what interrupts mean. Neighbour: [`crate::virtio_blk`] takes the transport.
//!
//! MSI-X only: it needs neither ACPI nor an I/O APIC, and no register read per interrupt (facts §4.6).
#![expect(unsafe_code, reason = "reads and writes the configuration ports and device registers")]

pub mod msix;
pub mod virtio;

#[cfg(test)]
mod tests;

use crate::hal::DeviceMemory;
use crate::interrupt::Route;
use arrayvec::ArrayVec;
use thiserror::Error;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    CapabilityInfo, Command, ConfigurationAccess, DeviceFunctionInfo, HeaderType, PciRoot,
};
use virtio_drivers::transport::pci::{VirtioPciError, virtio_device_type};
use x86_64::instructions::port::Port;

pub use virtio::VirtioPci;
pub use virtio_drivers::transport::pci::bus::DeviceFunction;

/// The most disks looked for.
pub const MAX_DISKS: usize = 8;

/// Where primary and secondary bus numbers of a bridge are (PCI-to-PCI Bridge Specification 1.2 §3.2).
const BRIDGE_BUS_NUMBERS: u8 = 0x18;

/// Why a device cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PciError {
    /// The device has no MSI-X capability.
    #[error("the device at {0} has no MSI-X")]
    NoMsix(DeviceFunction),
    /// Firmware has given the BAR no address, or it is not memory.
    #[error("BAR {bar} of the device at {at} is not memory with an address")]
    NoBar {
        /// The device.
        at: DeviceFunction,
        /// Which BAR.
        bar: u8,
    },
    /// A structure reaches past the end of its BAR.
    #[error("a register block of the device at {0} lies outside its BAR")]
    OutsideBar(DeviceFunction),
    /// virtio-drivers does not accept the device.
    #[error("the virtio device cannot be used: {0}")]
    Virtio(#[from] VirtioPciError),
}

/// A way to read and write configuration space, one aligned double word at a time.
pub trait ConfigSpace {
    /// Reads the double word at `offset`.
    fn read(&self, at: DeviceFunction, offset: u8) -> u32;
    /// Writes the double word at `offset`.
    fn write(&self, at: DeviceFunction, offset: u8, value: u32);
}

/// Configuration mechanism #1: address to port 0xcf8, data through 0xcfc (PCI 3.0 §3.2.2.3.2).
pub struct ConfigPorts {
    /// Address and data belong together, so one access is never inside another.
    ports: spin::Mutex<(Port<u32>, Port<u32>)>,
}

impl ConfigPorts {
    /// Takes the ports.
    ///
    /// # Safety
    ///
    /// To be called in ring 0, and nobody else uses ports 0xcf8 to 0xcff.
    pub unsafe fn new() -> Self {
        Self { ports: spin::Mutex::new((Port::new(0xcf8), Port::new(0xcfc))) }
    }
}

fn port_address(at: DeviceFunction, offset: u8) -> u32 {
    let function = u32::from(at.bus) << 16 | u32::from(at.device) << 11 | u32::from(at.function) << 8;
    1 << 31 | function | u32::from(offset & 0xfc)
}

impl ConfigSpace for ConfigPorts {
    fn read(&self, at: DeviceFunction, offset: u8) -> u32 {
        let (address, data) = &mut *self.ports.lock();
        // SAFETY: these are the configuration ports, ours by the promise to `new`; reading configuration space has no
        // effect on memory.
        unsafe {
            address.write(port_address(at, offset));
            data.read()
        }
    }

    fn write(&self, at: DeviceFunction, offset: u8, value: u32) {
        let (address, data) = &mut *self.ports.lock();
        // SAFETY: the ports are ours. What this module writes are commands, BAR probes that are restored at once with
        // decoding off (`PciRoot::bar_info`), and MSI-X control.
        unsafe {
            address.write(port_address(at, offset));
            data.write(value);
        }
    }
}

/// Configuration space in the form virtio-drivers wants it.
struct Access<'a, S>(&'a S);

impl<S: ConfigSpace> ConfigurationAccess for Access<'_, S> {
    fn read_word(&self, at: DeviceFunction, offset: u8) -> u32 {
        self.0.read(at, offset)
    }

    fn write_word(&mut self, at: DeviceFunction, offset: u8, value: u32) {
        self.0.write(at, offset, value);
    }

    // SAFETY: (an `unsafe fn` whose caller has to take care) accesses are serialised inside `ConfigSpace`.
    unsafe fn unsafe_clone(&self) -> Self {
        Self(self.0)
    }
}

/// The PCI buses.
pub struct Pci<S> {
    space: S,
}

impl<S: ConfigSpace> Pci<S> {
    /// The buses behind this configuration space.
    pub fn new(space: S) -> Self {
        Self { space }
    }

    fn root(&self) -> PciRoot<Access<'_, S>> {
        PciRoot::new(Access(&self.space))
    }

    /// Visits every function, bus 0 first, then the buses behind bridges as firmware has numbered them.
    pub fn for_each(&self, mut visit: impl FnMut(DeviceFunction, &DeviceFunctionInfo)) {
        let mut known = [false; 256];
        known[0] = true;
        let mut visited = [false; 256];
        while let Some(bus) = (0..=255u8).find(|&bus| known[usize::from(bus)] && !visited[usize::from(bus)]) {
            visited[usize::from(bus)] = true;
            self.for_each_on(bus, |at, info| {
                if info.header_type == HeaderType::PciPciBridge {
                    let secondary = (self.space.read(at, BRIDGE_BUS_NUMBERS) >> 8) as u8;
                    known[usize::from(secondary)] = true;
                }
                visit(at, info);
            });
        }
    }

    /// Visits one bus. Functions above 0 are probed only where function 0 says that there are some (PCI 3.0
    /// §3.2.2.3.4): every probe is two port accesses, each of which leaves the guest.
    fn for_each_on(&self, bus: u8, mut visit: impl FnMut(DeviceFunction, &DeviceFunctionInfo)) {
        for device in 0..32 {
            let mut functions = 1;
            let mut function = 0;
            while function < functions {
                let at = DeviceFunction { bus, device, function };
                if let Some((info, several)) = self.identify(at) {
                    functions = if several { 8 } else { functions };
                    visit(at, &info);
                }
                function += 1;
            }
        }
    }

    /// What is at `at`, and whether its device has several functions.
    fn identify(&self, at: DeviceFunction) -> Option<(DeviceFunctionInfo, bool)> {
        let id = self.space.read(at, 0);
        if id as u16 == 0xffff {
            return None;
        }
        let class = self.space.read(at, 8).to_be_bytes();
        let header = (self.space.read(at, 0xc) >> 16) as u8;
        let info = DeviceFunctionInfo {
            vendor_id: id as u16,
            device_id: (id >> 16) as u16,
            class: class[0],
            subclass: class[1],
            prog_if: class[2],
            revision: class[3],
            header_type: HeaderType::from(header & 0x7f),
        };
        Some((info, header & 0x80 != 0))
    }

    /// The virtio disks, in bus order: transitional (0x1001) and modern (0x1042) ones. More than [`MAX_DISKS`] are left
    /// out.
    pub fn virtio_disks(&self) -> ArrayVec<DeviceFunction, MAX_DISKS> {
        let mut disks = ArrayVec::new();
        self.for_each(|at, info| {
            if virtio_device_type(info) == Some(DeviceType::Block) && disks.try_push(at).is_err() {
                log::warn!("pci: the disk at {at} is one too many and is not used");
            }
        });
        disks
    }

    /// Sets up a virtio device: INTx off, registers found, memory decoding and bus mastering on, its first MSI-X entry
    /// aimed at `route`. The device itself starts with [`VirtioBlk::new`](crate::virtio_blk::VirtioBlk::new).
    pub fn open_virtio<H: DeviceMemory>(&mut self, at: DeviceFunction, route: Route) -> Result<VirtioPci, PciError> {
        // Decoding stays off while BARs are sized: otherwise each sizing would turn it off and on, and under QEMU each
        // of those turns rebuilds the machine's memory map, about a millisecond altogether.
        self.root().set_command(at, Command::INTERRUPT_DISABLE);
        let entries = msix::Table::find::<H, S>(self, at)?;
        let transport = VirtioPci::new::<H, S>(self, at)?;
        self.root().set_command(at, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE);
        entries.aim(self, route);
        Ok(transport)
    }

    fn capabilities(&self, at: DeviceFunction, mut visit: impl FnMut(CapabilityInfo)) {
        // The list is in the device's hands: it might be circular. It cannot have more entries than double words to
        // hold them.
        self.root().capabilities(at).take(48).for_each(&mut visit);
    }

    /// Maps `len` bytes at `offset` of a memory BAR.
    fn map<H: DeviceMemory>(
        &mut self,
        at: DeviceFunction,
        bar: u8,
        offset: u32,
        len: u32,
    ) -> Result<core::ptr::NonNull<u8>, PciError> {
        let no_bar = PciError::NoBar { at, bar };
        if bar > 5 {
            return Err(no_bar);
        }
        let info = self.root().bar_info(at, bar).map_err(|_| no_bar.clone())?;
        let (address, size) =
            info.and_then(|info| info.memory_address_size()).filter(|&(address, _)| address != 0).ok_or(no_bar)?;
        if u64::from(offset) + u64::from(len) > size {
            return Err(PciError::OutsideBar(at));
        }
        // SAFETY: a range inside a memory BAR that firmware has placed; `open_virtio` turns decoding on before anybody
        // uses it.
        Ok(unsafe { H::mmio_phys_to_virt(address + u64::from(offset), len as usize) })
    }
}
