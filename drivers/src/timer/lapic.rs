//! The local APIC: end of interrupt, and the CPU's own timer (SDM 3A §11.4, §11.5.4, §11.12).
//!
//! Owns the registers of the CPU it is used on, by memory (xAPIC) or by MSR (x2APIC). Does not own vectors or
//! deadlines. Under TCG the timer runs at 1 GHz with divisor 1 (facts §4.5), elsewhere its rate must be learnt like the
//! TSC's.
#![expect(unsafe_code, reason = "reads and writes APIC registers and MSRs")]

use crate::interrupt::{ApicId, Vector};
use core::ptr::NonNull;
use x86_64::registers::model_specific::Msr;

/// Register offsets in the memory page; the x2APIC MSR is 0x800 + offset / 16.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x020,
    EndOfInterrupt = 0x0b0,
    Spurious = 0x0f0,
    Timer = 0x320,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    Divide = 0x3e0,
}

const IA32_APIC_BASE: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const SPURIOUS_APIC_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const TIMER_PERIODIC: u32 = 1 << 17;
/// Divide configuration: 1 (SDM 3A figure 11-10).
const DIVIDE_BY_1: u32 = 0b1011;

/// What the timer does when it reaches zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerMode {
    /// Interrupts once.
    OneShot,
    /// Interrupts and starts again.
    Periodic,
}

/// Ticks of the APIC timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerTicks(pub u32);

enum Access {
    Memory(NonNull<u32>),
    Msr,
}

/// The local APIC of the CPU that runs.
pub struct Lapic {
    access: Access,
}

// SAFETY: each CPU reaches its own APIC through the same address or MSRs; the value holds no state of a CPU.
unsafe impl Send for Lapic {}
// SAFETY: every register access is one instruction; configuration is the caller's to serialise, which interrupts-off
// code does.
unsafe impl Sync for Lapic {}

impl Lapic {
    /// The physical address of the register page, from `IA32_APIC_BASE`.
    ///
    /// # Safety
    ///
    /// To be called in ring 0 on a CPU that has an APIC.
    pub unsafe fn register_page() -> u64 {
        // SAFETY: the MSR exists on every CPU with an APIC.
        unsafe { Msr::new(IA32_APIC_BASE).read() & 0x000f_ffff_ffff_f000 }
    }

    /// The APIC through its register page.
    ///
    /// # Safety
    ///
    /// `page` is the register page, mapped uncached for ever, and the APIC is not in x2APIC mode.
    pub unsafe fn from_page(page: NonNull<u8>) -> Self {
        Self { access: Access::Memory(page.cast()) }
    }

    /// The APIC through MSRs; switches this CPU to x2APIC mode.
    ///
    /// # Safety
    ///
    /// To be called in ring 0 on a CPU that has x2APIC (CPUID 1 ECX bit 21); nobody uses the register page from then
    /// on.
    pub unsafe fn x2apic() -> Self {
        let mut base = Msr::new(IA32_APIC_BASE);
        // SAFETY: the caller has checked that the mode exists. Disabled to x2APIC must go by way of enabled (SDM 3A
        // §11.12.5).
        unsafe {
            let enabled = base.read() | BASE_ENABLE;
            base.write(enabled);
            base.write(enabled | BASE_X2APIC);
        }
        Self { access: Access::Msr }
    }

    /// Lets interrupts through; spurious ones arrive at `spurious` and need no end of interrupt.
    pub fn enable(&self, spurious: Vector) {
        self.write(Register::Spurious, SPURIOUS_APIC_ENABLE | u32::from(spurious.0));
    }

    /// This CPU's APIC id.
    pub fn id(&self) -> ApicId {
        ApicId(match self.access {
            Access::Memory(_) => self.read(Register::Id) >> 24,
            Access::Msr => self.read(Register::Id),
        })
    }

    /// The interrupt in service is handled.
    pub fn end_of_interrupt(&self) {
        self.write(Register::EndOfInterrupt, 0);
    }

    /// Chooses vector and mode of the timer, and counts at full rate; it stands still until
    /// [`start_timer`](Self::start_timer).
    pub fn set_timer(&self, vector: Vector, mode: TimerMode) {
        self.write(Register::InitialCount, 0);
        self.write(Register::Divide, DIVIDE_BY_1);
        let periodic = if mode == TimerMode::Periodic { TIMER_PERIODIC } else { 0 };
        self.write(Register::Timer, periodic | u32::from(vector.0));
    }

    /// Counts down from `ticks`; replaces what was being counted. Zero would stop the timer, so at least one tick is
    /// counted.
    pub fn start_timer(&self, ticks: TimerTicks) {
        self.write(Register::InitialCount, ticks.0.max(1));
    }

    /// Stops the timer without an interrupt. One that is already pending still arrives.
    pub fn stop_timer(&self) {
        self.write(Register::InitialCount, 0);
    }

    /// Masks the timer's interrupt.
    pub fn mask_timer(&self) {
        self.write(Register::Timer, self.read(Register::Timer) | LVT_MASKED);
    }

    /// What is left to count.
    pub fn timer_left(&self) -> TimerTicks {
        TimerTicks(self.read(Register::CurrentCount))
    }

    fn read(&self, register: Register) -> u32 {
        match self.access {
            // SAFETY: an aligned register in the page promised to `from_page`; the registers read here have no read
            // side effects.
            Access::Memory(page) => unsafe { page.byte_add(register as usize).read_volatile() },
            // SAFETY: x2APIC mode is on, and the register exists in it.
            Access::Msr => unsafe { msr(register).read() as u32 },
        }
    }

    fn write(&self, register: Register, value: u32) {
        match self.access {
            // SAFETY: as in `read`. The values written are an interrupt vector and counts: no memory is involved.
            Access::Memory(page) => unsafe { page.byte_add(register as usize).write_volatile(value) },
            // SAFETY: as in `read`.
            Access::Msr => unsafe { msr(register).write(u64::from(value)) },
        }
    }
}

const fn msr(register: Register) -> Msr {
    Msr::new(0x800 + (register as u32 >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_programmed_through_the_page() {
        let mut page = [0u32; 1024];
        // SAFETY: a plain array of a page's size that outlives the value.
        let lapic = unsafe { Lapic::from_page(NonNull::from(&mut page).cast()) };
        lapic.enable(Vector(0xff));
        lapic.set_timer(Vector(0x20), TimerMode::Periodic);
        lapic.start_timer(TimerTicks(0));
        assert_eq!(page[0xf0 / 4], 0x1ff);
        assert_eq!(page[0x320 / 4], 0x2_0020);
        assert_eq!(page[0x3e0 / 4], 0b1011);
        assert_eq!(page[0x380 / 4], 1);
    }
}
