//! Names for where interrupts go. Owns nothing; `pci` and `timer::lapic` program them, the kernel hands them out.

/// An interrupt vector, 32 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector(pub u8);

/// A CPU, by its local APIC's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicId(pub u32);

/// Where a device's interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The CPU; an MSI reaches ids up to 255 (SDM 3A §11.11.1).
    pub apic: ApicId,
    /// What it is told.
    pub vector: Vector,
}
