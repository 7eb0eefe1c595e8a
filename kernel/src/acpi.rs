//! Powering off by ACPI: the little of it that this takes.
//!
//! Owns: the way from the root pointer to the power-management port and the `\_S5_` package (ACPI 6.5, 5.2.5, 5.2.9, 7.4.2).
//! The DSDT is not interpreted: the package's two constants are found by its name, as firmware has written it everywhere.
//! At boot the tables are found and mapped; the search is left to the end, because at boot every instruction counts.
#![expect(unsafe_code, reason = "reads firmware tables in physical memory")]

use x86_64::PhysAddr;

use crate::arch::areas::{self, Mapped};
use crate::arch::kernel_space::TableSource;
use crate::arch::pat::Caching;
use crate::arch::port::SafePort;
use crate::boot::PhysRange;
use crate::sync::Once;

/// Larger tables are damaged ones.
const MAX_TABLE: u32 = 4 << 20;
const HEADER: u64 = 36;
const SLEEP_ENABLE: u16 = 1 << 13;

struct PowerOff {
    control_a: SafePort,
    control_b: Option<SafePort>,
    /// The DSDT's code.
    code: &'static [u8],
}

static POWER_OFF: Once<PowerOff> = Once::new();

/// Finds the tables. Without them [`power_off`] does nothing.
pub fn init(rsdp: Option<PhysAddr>, source: &mut TableSource<'_>) {
    if let Some(found) = rsdp.and_then(|rsdp| find(rsdp, source)) {
        POWER_OFF.call_once(|| found);
    }
}

/// Powers off, if the firmware said how.
pub fn power_off() {
    let Some(PowerOff { control_a, control_b, code }) = POWER_OFF.get() else { return };
    let Some((type_a, type_b)) = sleep_types(code) else { return };
    write_sleep(*control_a, type_a);
    if let Some(control_b) = control_b {
        write_sleep(*control_b, type_b);
    }
}

fn write_sleep(control: SafePort, sleep_type: u8) {
    /// The bits that are not ours: SCI enable, bus-master reload, global release.
    const KEPT: u16 = 0x0203;
    let kept = control.read_u16() & KEPT;
    control.write_u16(kept | u16::from(sleep_type & 7) << 10 | SLEEP_ENABLE);
}

fn find(rsdp: PhysAddr, source: &mut TableSource<'_>) -> Option<PowerOff> {
    let root = Window::open(rsdp, 36, source)?;
    let root = root.bytes();
    if root.get(..8)? != b"RSD PTR " {
        return None;
    }
    // Revision 2 has a table of 64-bit addresses beside the old one of 32-bit ones.
    let extended = *root.get(15)? >= 2;
    let (directory, entry) = if extended { (u64_at(root, 24)?, 8) } else { (u32_at(root, 16)?.into(), 4) };
    let directory = Window::on_table(PhysAddr::new_truncate(directory), source)?;
    let entries = directory.bytes().get(HEADER as usize..)?.chunks_exact(entry);
    for address in entries {
        let address = if extended { u64_at(address, 0)? } else { u32_at(address, 0)?.into() };
        let Some(found) = Window::on_table(PhysAddr::new_truncate(address), source) else { continue };
        if found.bytes().starts_with(b"FACP") {
            return from_fadt(found.bytes(), source);
        }
    }
    None
}

fn from_fadt(fadt: &[u8], source: &mut TableSource<'_>) -> Option<PowerOff> {
    let dsdt = match u64_at(fadt, 140) {
        Some(address) if address != 0 => address,
        _ => u32_at(fadt, 40)?.into(),
    };
    let control = |at| u32_at(fadt, at).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
    let code = Window::on_table(PhysAddr::new_truncate(dsdt), source)?.keep().get(HEADER as usize..)?;
    Some(PowerOff {
        control_a: SafePort::power_management(control(64)?),
        control_b: control(68).map(SafePort::power_management),
        code,
    })
}

/// The sleep types for both control ports: `Name (_S5, Package () {a, b, …})` in its byte code.
fn sleep_types(code: &[u8]) -> Option<(u8, u8)> {
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0a;
    let name = code.windows(4).position(|window| window == b"_S5_")?;
    let package = code.get(name + 4..)?;
    let (PACKAGE, lead) = (*package.first()?, *package.get(1)?) else { return None };
    // The package's length takes 1 + the two top bits of its first byte; the number of elements follows.
    let mut rest = package.get(2 + usize::from(lead >> 6) + 1..)?;
    let mut constant = || {
        let prefixed = *rest.first()? == BYTE_PREFIX;
        let value = *rest.get(usize::from(prefixed))?;
        rest = rest.get(1 + usize::from(prefixed)..)?;
        // 0 and 1 are op codes that stand for themselves; without a prefix nothing else is a number.
        (prefixed || value <= 1).then_some(value)
    };
    Some((constant()?, constant()?))
}

/// Firmware tables in sight, until it is dropped.
struct Window(Mapped);

impl Window {
    /// So many bytes from an address on.
    fn open(at: PhysAddr, len: u64, source: &mut TableSource<'_>) -> Option<Self> {
        if at.is_null() {
            return None;
        }
        areas::map(PhysRange::from_len(at.as_u64(), len), Caching::WriteBack, source).ok().map(Self)
    }

    /// A whole table: its header says how long it is.
    fn on_table(at: PhysAddr, source: &mut TableSource<'_>) -> Option<Self> {
        let len = u32_at(Self::open(at, HEADER, source)?.bytes(), 4)?;
        if !(HEADER as u32..=MAX_TABLE).contains(&len) {
            return None;
        }
        Self::open(at, len.into(), source)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped read-only over the length as long as `self` is there; firmware tables are in memory that is never
        // ours (`RegionKind::Firmware`, or not in the memory map at all), so nobody writes them.
        unsafe { core::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len as usize) }
    }

    /// Leaves it open for ever.
    fn keep(self) -> &'static [u8] {
        let Self(mapped) = *core::mem::ManuallyDrop::new(self);
        // SAFETY: as for `bytes`, and it is never unmapped.
        unsafe { core::slice::from_raw_parts(mapped.start.as_ptr(), mapped.len as usize) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`; what was borrowed from the window has ended with it.
        unsafe { areas::unmap(self.0) }
    }
}

fn u32_at(table: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*table.get(at..)?.first_chunk()?))
}

fn u64_at(table: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*table.get(at..)?.first_chunk()?))
}
