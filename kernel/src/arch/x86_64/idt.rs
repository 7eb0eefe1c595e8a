//! The interrupt descriptor table: 256 gates to the stubs of `trap`.
#![expect(unsafe_code, reason = "gives the CPU addresses to jump to")]

use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::gdt::TrapStack;
use super::trap;
use crate::sync::Once;

static TABLE: Once<InterruptDescriptorTable> = Once::new();

/// Fills the table and loads it. The GDT must be loaded: gates remember the code segment.
pub fn init() {
    TABLE.call_once(build).load();
}

fn build() -> InterruptDescriptorTable {
    let mut table = InterruptDescriptorTable::new();
    // SAFETY: each stub expects exactly the stack frame that its vector's gate pushes: with or without an error
    // code by its number, and on a stack of its own for the three that may strike on any stack.
    unsafe {
        table.divide_error.set_handler_addr(trap::stub(0));
        table.debug.set_handler_addr(trap::stub(1));
        table.non_maskable_interrupt.set_handler_addr(fatal(2)).set_stack_index(TrapStack::Nmi as u16);
        // The two traps that programs may raise by instruction.
        table.breakpoint.set_handler_addr(trap::stub(3)).set_privilege_level(PrivilegeLevel::Ring3);
        table.overflow.set_handler_addr(trap::stub(4)).set_privilege_level(PrivilegeLevel::Ring3);
        table.bound_range_exceeded.set_handler_addr(trap::stub(5));
        table.invalid_opcode.set_handler_addr(trap::stub(6));
        table.device_not_available.set_handler_addr(trap::stub(7));
        table.double_fault.set_handler_addr(fatal(8)).set_stack_index(TrapStack::DoubleFault as u16);
        table.invalid_tss.set_handler_addr(trap::stub(10));
        table.segment_not_present.set_handler_addr(trap::stub(11));
        table.stack_segment_fault.set_handler_addr(trap::stub(12));
        table.general_protection_fault.set_handler_addr(trap::stub(13));
        table.page_fault.set_handler_addr(trap::stub(14));
        table.x87_floating_point.set_handler_addr(trap::stub(16));
        table.alignment_check.set_handler_addr(trap::stub(17));
        table.machine_check.set_handler_addr(fatal(18)).set_stack_index(TrapStack::MachineCheck as u16);
        table.simd_floating_point.set_handler_addr(trap::stub(19));
        table.virtualization.set_handler_addr(trap::stub(20));
        table.cp_protection_exception.set_handler_addr(trap::stub(21));
        for vector in trap::FIRST_INTERRUPT..=u8::MAX {
            table[vector].set_handler_addr(trap::stub(vector));
        }
    }
    table
}

fn fatal(vector: u8) -> VirtAddr {
    trap::fatal_stub(vector)
}
