//! One CPU: what it can do, how it is set up, what it remembers, and the two places where it takes interrupts.
//!
//! Owns: control registers, feature detection, [`Cpu`] (all per-CPU state). Does not own: descriptor tables (`gdt`,
//! `idt`), the FPU's registers (`fpu`). With several CPUs, [`this`] reads the GS base; nothing else changes.
#![expect(unsafe_code, reason = "control registers, MSRs, interrupts on and off")]

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};

use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags, GsBase};
use x86_64::structures::tss::TaskStateSegment;

use super::context::UserContext;
use super::paging::SpaceRoot;
use super::pat;
use super::user::ThreadState;
use crate::sync::Once;

/// Everything that exists once per CPU. Only its own CPU touches it, with interrupts off, and no reference into it
/// is kept: hence cells. The assembly in `trap` and `user` reaches the first fields through the GS base.
#[repr(C)]
pub struct Cpu {
    /// The kernel stack pointer while a user thread runs.
    pub(super) kernel_stack: Cell<u64>,
    /// The user's stack pointer during the first instructions of a system call.
    pub(super) user_stack: Cell<u64>,
    /// Where the running user thread's registers go.
    pub(super) context: Cell<*mut UserContext>,
    /// Puts the one field of the segment that we change, at byte 4, on an 8-byte boundary.
    tss_alignment: u32,
    /// The segment that tells the CPU its stacks.
    pub(super) tss: UnsafeCell<TaskStateSegment>,
    /// The thread whose FPU state, FS and GS base are in the registers.
    pub(super) owner: Cell<*mut ThreadState>,
    /// What CR3 holds; reading the register is slow. Until the kernel has its own tables: no root at all.
    pub(super) root: Cell<SpaceRoot>,
}

/// Where the stack pointer for traps from ring 3 is, inside [`Cpu`].
pub(super) const TRAP_STACK: usize = core::mem::offset_of!(Cpu, tss) + 4;

// SAFETY: see the type: one CPU, interrupts off.
unsafe impl Sync for Cpu {}

static BOOT_CPU: Cpu = Cpu {
    kernel_stack: Cell::new(0),
    user_stack: Cell::new(0),
    context: Cell::new(core::ptr::null_mut()),
    tss_alignment: 0,
    tss: UnsafeCell::new(TaskStateSegment::new()),
    owner: Cell::new(core::ptr::null_mut()),
    root: Cell::new(SpaceRoot::NONE),
};

/// The CPU that runs this.
#[inline]
pub fn this() -> &'static Cpu {
    &BOOT_CPU
}

/// What the CPU offers of what we use when it is there.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
    /// FS and GS bases by instruction instead of MSR, from ring 3 too.
    pub fsgsbase: bool,
    /// Extended save and restore of FPU state.
    pub xsave: bool,
    /// XSAVEOPT.
    pub xsaveopt: bool,
    /// `rep stos` and `rep movs` are the fastest way to fill and to copy much (ERMS).
    pub fast_strings: bool,
    /// A round of AES on two blocks at once (VAES).
    pub vaes: bool,
}

static FEATURES: Once<Features> = Once::new();

/// What the CPU offers.
pub fn features() -> &'static Features {
    FEATURES.call_once(detect)
}

fn detect() -> Features {
    let id = raw_cpuid::CpuId::new();
    let basic = id.get_feature_info();
    let extended = id.get_extended_feature_info();
    let basic = |test: fn(&raw_cpuid::FeatureInfo) -> bool| basic.as_ref().is_some_and(test);
    let extended = |test: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(test);
    Features {
        smep: extended(|found| found.has_smep()),
        smap: extended(|found| found.has_smap()),
        umip: extended(|found| found.has_umip()),
        fsgsbase: extended(|found| found.has_fsgsbase()),
        fast_strings: extended(|found| found.has_rep_movsb_stosb()),
        vaes: extended(|found| found.has_vaes()),
        xsave: basic(|found| found.has_xsave()),
        xsaveopt: id.get_extended_state_info().is_some_and(|found| found.has_xsaveopt()),
    }
}

/// What programs are told of the CPU (getauxval(3)): `AT_HWCAP`, `AT_HWCAP2`.
pub fn hardware_capabilities() -> (u64, u64) {
    /// `HWCAP2_FSGSBASE`.
    const FSGSBASE: u64 = 1 << 1;
    let basic = raw_cpuid::native_cpuid::cpuid_count(1, 0);
    (basic.edx.into(), if features().fsgsbase { FSGSBASE } else { 0 })
}

/// Puts the control registers into the state that the kernel relies on (design D16). Page tables with NX come first.
pub fn init() {
    let found = features();
    let mut cr4 =
        Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::PAGE_GLOBAL | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, found.smep);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, found.smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, found.umip);
    cr4.set(Cr4Flags::FSGSBASE, found.fsgsbase);
    cr4.set(Cr4Flags::OSXSAVE, found.xsave);
    let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::PAGING;
    // SAFETY: long mode stays on; the kernel neither executes nor accesses user pages through user mappings, so
    // the preventions cost nothing; FPU emulation and task switching are off, as ring 3 needs.
    unsafe {
        Efer::write(Efer::read() | EferFlags::SYSTEM_CALL_EXTENSIONS | EferFlags::NO_EXECUTE_ENABLE);
        Cr4::write(cr4);
        Cr0::write(cr0);
    }
    pat::init();
    GsBase::write(VirtAddr::from_ptr(this()));
}

/// Makes GS point to this CPU again after a trap that may have come from anywhere.
pub(super) fn restore_gs() {
    GsBase::write(VirtAddr::from_ptr(this()));
}

/// The time-stamp counter.
#[inline]
pub fn timestamp() -> u64 {
    // SAFETY: every x86_64 CPU has it, and ring 0 may read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Where the caller is, for a backtrace.
#[inline(always)]
pub fn position() -> super::trap::Position {
    let (address, frame): (u64, u64);
    // SAFETY: reads two registers.
    unsafe { asm!("lea {}, [rip]", "mov {}, rbp", out(reg) address, out(reg) frame, options(nomem, nostack)) };
    super::trap::Position { address, frame }
}

/// Sleeps until an interrupt has been handled. One that is pending already is taken at once: `sti` delays
/// interrupts until after the `hlt` has begun.
pub fn wait_for_interrupt() {
    interrupts::enable_and_hlt();
    interrupts::disable();
}

/// Takes the interrupts that are pending, if any. The `nop` is where they happen: `sti` takes effect after the
/// instruction behind it. To the compiler this may change any memory: handlers do.
pub fn interrupt_window() {
    // SAFETY: the caller is between polls and holds nothing that a handler takes; handlers are prepared by `irq`.
    unsafe { asm!("sti", "nop", "cli") }
}

/// Stops for good.
pub fn halt_forever() -> ! {
    loop {
        interrupts::disable();
        x86_64::instructions::hlt();
    }
}
