//! The local interrupt controller of this CPU.
//!
//! Owns: the choice between MSRs (x2APIC) and memory, masking the two legacy controllers. The registers are
//! `drivers::timer::lapic`'s; which deadline comes next is `time`'s business, device vectors are `irq`'s.
#![expect(unsafe_code, reason = "takes possession of the controller")]

use drivers::interrupt::Vector;
use drivers::timer::lapic::{Lapic, TimerMode};

use super::kernel_space::{self, Caching, OutOfTables, TableSource};
use super::{cpu, port};
use crate::boot::PhysRange;
use crate::sync::Once;

const REGISTER_PAGE_LEN: u64 = 4096;

static LAPIC: Once<Lapic> = Once::new();

/// Enables the controller. Everything stays masked but the timer, which stands still, and what comes by message.
pub fn init(spurious: Vector, timer: Vector, source: &mut TableSource<'_>) -> Result<(), OutOfTables> {
    for mask in port::PIC_MASKS {
        mask.write_u8(0xff);
    }
    let lapic = if cpu::features().x2apic {
        // SAFETY: the CPU has it, and nobody has mapped the register page.
        unsafe { Lapic::x2apic() }
    } else {
        // SAFETY: every x86_64 CPU has a local APIC.
        let page = PhysRange::from_len(unsafe { Lapic::register_page() }, REGISTER_PAGE_LEN);
        let mapped = kernel_space::map_device(page, Caching::Uncached, source)?;
        // SAFETY: the register page, mapped uncached for ever; x2APIC mode is off, for the CPU has none.
        unsafe { Lapic::from_page(mapped.start) }
    };
    lapic.enable(spurious);
    lapic.set_timer(timer, TimerMode::OneShot);
    LAPIC.call_once(|| lapic);
    Ok(())
}

/// The controller of the CPU that runs this.
#[inline]
pub fn get() -> &'static Lapic {
    LAPIC.get().expect("the interrupt controller is set up at boot")
}
