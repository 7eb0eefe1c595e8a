//! MSI-X: a device's interrupt as a memory write to a local APIC (PCI 3.0 §6.8.2; SDM 3A §11.11).
//!
//! Owns the capability and table layout. Uses entry 0 only: one queue, one vector; the others stay masked, as reset
//! leaves them.
#![expect(unsafe_code, reason = "writes the device's MSI-X table")]

use super::{ConfigSpace, DeviceFunction, Pci, PciError};
use crate::hal::DeviceMemory;
use crate::interrupt::Route;
use core::ptr::NonNull;

/// Capability id of MSI-X.
const CAP_MSIX: u8 = 0x11;
/// Message control, in the capability's first double word.
const ENABLE: u32 = 1 << 31;
const FUNCTION_MASK: u32 = 1 << 30;
/// The capability takes 12 of the 256 bytes.
const LAST_OFFSET: u8 = 0xf4;

/// The capability, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capability {
    /// Where it is in configuration space.
    pub(super) offset: u8,
    /// The BAR that holds the table.
    pub(super) bar: u8,
    /// The table's offset in that BAR.
    pub(super) table: u32,
    /// Number of entries.
    pub(super) entries: u16,
}

/// Finds the capability.
pub(super) fn find<S: ConfigSpace>(pci: &Pci<S>, at: DeviceFunction) -> Option<Capability> {
    let mut found = None;
    pci.capabilities(at, |cap| {
        // Where the capability is, is the device's word: what begins here must end inside configuration space.
        if cap.id == CAP_MSIX && found.is_none() && cap.offset <= LAST_OFFSET {
            let table = pci.space.read(at, cap.offset + 4);
            found = Some(Capability {
                offset: cap.offset,
                bar: (table & 7) as u8,
                table: table & !7,
                entries: (cap.private_header & 0x7ff) + 1,
            });
        }
    });
    found
}

/// What a table entry holds for this route: address low, address high, data, vector control (0 = not masked).
/// Fixed delivery, edge triggered, physical destination (SDM 3A §11.11.1, §11.11.2).
pub(super) fn entry(route: Route) -> [u32; 4] {
    let address = 0xfee0_0000 | (route.apic.0 & 0xff) << 12;
    [address, 0, u32::from(route.vector.0), 0]
}

/// A device's table, mapped.
pub(super) struct Table {
    at: DeviceFunction,
    capability: u8,
    entry_0: NonNull<u32>,
}

impl Table {
    /// Finds and maps the table.
    pub(super) fn find<H: DeviceMemory, S: ConfigSpace>(
        pci: &mut Pci<S>,
        at: DeviceFunction,
    ) -> Result<Self, PciError> {
        let cap = find(pci, at).ok_or(PciError::NoMsix(at))?;
        let entry_0 = pci.map::<H>(at, cap.bar, cap.table, 16)?.cast();
        Ok(Self { at, capability: cap.offset, entry_0 })
    }

    /// Aims entry 0 at `route` and turns MSI-X on. The device must be decoding its memory.
    pub(super) fn aim<S: ConfigSpace>(self, pci: &mut Pci<S>, route: Route) {
        let control = pci.space.read(self.at, self.capability) & !FUNCTION_MASK;
        // Masked as a whole while the entry is half written.
        pci.space.write(self.at, self.capability, control | ENABLE | FUNCTION_MASK);
        for (index, word) in entry(route).into_iter().enumerate() {
            // SAFETY: `find` checked that 16 bytes lie in the BAR; table offsets are multiples of 8; only the device
            // reads them.
            unsafe { self.entry_0.add(index).write_volatile(word) };
        }
        pci.space.write(self.at, self.capability, control | ENABLE);
    }
}
