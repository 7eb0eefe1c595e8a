//! The local interrupt controller of this CPU.
//!
//! Owns: the choice between memory and MSRs (x2APIC), masking the two legacy controllers. The registers are
//! `drivers::timer::lapic`'s; which deadline comes next is `time`'s business, device vectors are `irq`'s.
//!
//! Memory, unless the firmware has switched to MSRs already: QEMU 10 ends with "Bad icount read" when the timer is written by
//! MSR under `-icount`, which every instruction count of ours needs, and ids beyond 255, what x2APIC is for, are for later.
#![expect(unsafe_code, reason = "takes possession of the controller")]

use drivers::interrupt::Vector;
use drivers::timer::lapic::{Lapic, TimerMode};
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags};

use super::areas;
use super::kernel_space::{OutOfTables, TableSource};
use super::pat::Caching;
use super::port;
use crate::boot::PhysRange;
use crate::sync::Once;

const REGISTER_PAGE_LEN: u64 = 4096;

static LAPIC: Once<Lapic> = Once::new();

/// Enables the controller. Everything stays masked but the timer, which stands still, and what comes by message.
pub fn init(spurious: Vector, timer: Vector, source: &mut TableSource<'_>) -> Result<(), OutOfTables> {
    for mask in port::PIC_MASKS {
        mask.write_u8(0xff);
    }
    let (page, mode) = ApicBase::read();
    let lapic = if mode.contains(ApicBaseFlags::X2APIC_ENABLE) {
        // SAFETY: the mode is on, so the CPU has it, and nobody has mapped the register page.
        unsafe { Lapic::x2apic() }
    } else {
        let page = PhysRange::from_len(page.start_address().as_u64(), REGISTER_PAGE_LEN);
        let mapped = areas::map(page, Caching::Uncached, source)?;
        // SAFETY: the register page, mapped uncached for ever; x2APIC mode is off.
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
