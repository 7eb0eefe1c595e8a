//! The I/O interrupt controller, for the two serial ports: everything else of ours interrupts by message.
//!
//! Owns: its redirection entries. Assumes what holds on every PC: the first controller is at the usual address, and an ISA line
//! has the input of its number. Where nothing answers there, [`route`] says so, and input is looked for by the clock.
#![expect(unsafe_code, reason = "device registers")]

use drivers::interrupt::Route;

use super::areas::{self, Mapped};
use super::kernel_space::TableSource;
use super::pat::Caching;
use crate::boot::PhysRange;
use crate::sync::Mutex;

const ADDRESS: u64 = 0xfec0_0000;
const LEN: u64 = 0x20;
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u32 = 0x01;
const FIRST_ENTRY: u32 = 0x10;

static REGISTERS: Mutex<Option<Mapped>> = Mutex::new(None);

/// There is no controller, or not one with this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no I/O APIC for ISA line {0}")]
pub struct NoLine(pub u8);

/// Leads an ISA line (edge-triggered, active high) to a CPU.
pub fn route(line: u8, to: Route, source: &mut TableSource<'_>) -> Result<(), NoLine> {
    let mut registers = REGISTERS.lock();
    if registers.is_none() {
        let range = PhysRange::from_len(ADDRESS, LEN);
        *registers = areas::map(range, Caching::Uncached, source).ok();
    }
    let registers = registers.as_mut().ok_or(NoLine(line))?;
    let version = access(registers, VERSION, None);
    let inputs = (version >> 16 & 0xff) + 1;
    if version == u32::MAX || version == 0 || u32::from(line) >= inputs {
        return Err(NoLine(line));
    }
    let entry = FIRST_ENTRY + 2 * u32::from(line);
    access(registers, entry + 1, Some(to.apic.0 << 24));
    access(registers, entry, Some(u32::from(to.vector.0)));
    Ok(())
}

/// Writes a register if there is something to write, and reads it.
fn access(registers: &mut Mapped, register: u32, value: Option<u32>) -> u32 {
    let base = registers.start;
    // SAFETY: both registers are inside the mapped block, aligned; the lock keeps selection and access together.
    unsafe {
        base.byte_add(SELECT).cast::<u32>().write_volatile(register);
        let window = base.byte_add(WINDOW).cast::<u32>();
        if let Some(value) = value {
            window.write_volatile(value);
        }
        window.read_volatile()
    }
}
