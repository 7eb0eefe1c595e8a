//! Port I/O for the few fixed ports that the kernel itself drives.
#![expect(unsafe_code, reason = "in and out instructions")]

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};

/// A port of the PC platform whose accesses cannot break memory safety: no device behind it does DMA on command.
#[derive(Clone, Copy)]
pub struct SafePort(u16);

/// QEMU's `isa-debug-exit`.
pub const DEBUG_EXIT: SafePort = SafePort(0xf4);
/// The two legacy interrupt controllers' mask registers.
pub const PIC_MASKS: [SafePort; 2] = [SafePort(0x21), SafePort(0xa1)];

impl SafePort {
    /// A control register of ACPI's power management, where the FADT says it is: 16 bits that end the machine.
    pub fn power_management(port: u16) -> Self {
        Self(port)
    }

    /// Writes a byte.
    pub fn write_u8(self, value: u8) {
        // SAFETY: the constants above name every port there can be, see the type.
        unsafe { PortWriteOnly::new(self.0).write(value) }
    }

    /// Writes a word of 16 bits.
    pub fn write_u16(self, value: u16) {
        // SAFETY: as above.
        unsafe { PortWriteOnly::new(self.0).write(value) }
    }

    /// Writes a word of 32 bits.
    pub fn write_u32(self, value: u32) {
        // SAFETY: as above.
        unsafe { PortWriteOnly::new(self.0).write(value) }
    }

    /// Reads a word of 16 bits.
    pub fn read_u16(self) -> u16 {
        // SAFETY: as above.
        unsafe { PortReadOnly::new(self.0).read() }
    }
}
