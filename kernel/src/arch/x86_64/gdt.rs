//! Segments: flat ones as the ABI of `syscall` orders them, and the task state segment for the trap stacks.
#![expect(unsafe_code, reason = "loads segment registers")]

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{self, load_tss};
use x86_64::structures::gdt::{Descriptor, Entry, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::{cpu, stack};
use crate::sync::Once;

/// Ring 0 code.
pub const KERNEL_CODE: u16 = 0x08;
/// Ring 0 data.
pub const KERNEL_DATA: u16 = 0x10;
/// Ring 3 data, with its privilege level: `sysret` wants it 8 below the code.
pub const USER_DATA: u16 = 0x1b;
/// Ring 3 code, with its privilege level.
pub const USER_CODE: u16 = 0x23;
const TASK_STATE: u16 = 0x28;

/// Index into the interrupt stack table, as the IDT wants it.
#[derive(Clone, Copy, Debug)]
pub enum TrapStack {
    /// Double fault.
    DoubleFault = 0,
    /// Non-maskable interrupt.
    Nmi = 1,
    /// Machine check.
    MachineCheck = 2,
}

static TABLE: Once<GlobalDescriptorTable> = Once::new();

/// The descriptors that the CPU uses now, as they are in memory; none if it uses another table than ours.
pub fn live() -> &'static [Entry] {
    let entries = TABLE.get().map_or(&[][..], GlobalDescriptorTable::entries);
    let base = tables::sgdt().base;
    if base == VirtAddr::from_ptr(entries.as_ptr()) { entries } else { &[] }
}

/// Loads the table and all segment registers.
pub fn init() {
    let tss = cpu::this().tss.get();
    let mut initial = TaskStateSegment::new();
    initial.interrupt_stack_table[TrapStack::DoubleFault as usize] = stack::DOUBLE_FAULT_STACK.top();
    initial.interrupt_stack_table[TrapStack::Nmi as usize] = stack::NMI_STACK.top();
    initial.interrupt_stack_table[TrapStack::MachineCheck as usize] = stack::MACHINE_CHECK_STACK.top();
    // SAFETY: at boot nothing has a reference to this CPU's segment, and the CPU does not use it yet.
    unsafe { tss.write(initial) };
    let table = TABLE.call_once(|| {
        let mut table = GlobalDescriptorTable::new();
        // SAFETY: the segment is in a static.
        let task_state = unsafe { Descriptor::tss_segment_unchecked(tss) };
        let selectors = [
            table.append(Descriptor::kernel_code_segment()),
            table.append(Descriptor::kernel_data_segment()),
            table.append(Descriptor::user_data_segment()),
            table.append(Descriptor::user_code_segment()),
            table.append(task_state),
        ];
        let expected = [KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE, TASK_STATE];
        assert_eq!(selectors.map(|selector| selector.0), expected);
        table
    });
    table.load();
    // SAFETY: the selectors are those of the table just loaded, with the kinds of segment the registers want.
    unsafe {
        CS::set_reg(SegmentSelector(KERNEL_CODE));
        SS::set_reg(SegmentSelector(KERNEL_DATA));
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(SegmentSelector(TASK_STATE));
    }
}
