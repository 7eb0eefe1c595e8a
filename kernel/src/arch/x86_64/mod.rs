//! x86_64: all assembly, privileged instructions and page-table formats.
//!
//! Owns: CPU set-up, descriptor tables, the ring 3 boundary ([`user`]), page tables ([`paging`] is the format,
//! [`kernel_space`] the kernel's own half, [`layout`] what is where), the interrupt controller, port and MSR access.
//! Does not own: what a trap means (process), what a page is (mm), what a device wants (drivers).
//! Invariants: kernel code runs with interrupts off, except in [`cpu::wait_for_interrupt`] and
//! [`cpu::interrupt_window`]; a trap taken in ring 0 is an interrupt in one of these two, or a bug.

pub mod apic;
pub mod areas;
mod context;
pub mod cpu;
pub mod direct_map;
pub mod fiber;
pub mod fpu;
pub mod gdt;
mod idt;
pub mod image;
pub mod ioapic;
pub mod kernel_space;
pub mod layout;
pub mod paging;
pub mod pat;
pub mod port;
pub mod random;
pub mod scattered;
pub mod stack;
mod syscall;
pub mod tlb;
pub mod trap;
pub mod user;
pub mod whole_page;

/// Sets up this CPU: control registers, segments, traps, system calls, FPU. Page tables come first.
pub fn init() {
    cpu::init();
    gdt::init();
    // Loading the segment registers has cleared the GS base.
    cpu::restore_gs();
    idt::init();
    syscall::init();
    fpu::init();
    whole_page::init();
}
