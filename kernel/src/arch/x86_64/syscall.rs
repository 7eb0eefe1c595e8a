//! The `syscall` instruction: where it leads, and the entry code.
//!
//! Owns: the MSRs (SDM vol. 3A, 5.8.8) and the entry, which does by hand what a gate does for a trap: it stores the
//! registers into the running thread's context, then continues like `trap_entry`.

use core::arch::naked_asm;
use core::mem::offset_of;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::gdt::SegmentSelector;

use super::context::UserContext;
use super::cpu::Cpu;
use super::gdt;

/// The value in a context's vector field after a system call: beyond the vectors.
pub const SYSCALL_VECTOR: u32 = 256;

/// Programs the MSRs.
pub fn init() {
    let selectors = [gdt::USER_CODE, gdt::USER_DATA, gdt::KERNEL_CODE, gdt::KERNEL_DATA];
    let [user_code, user_data, kernel_code, kernel_data] = selectors.map(SegmentSelector);
    Star::write(user_code, user_data, kernel_code, kernel_data).expect("the GDT is in the order of syscall");
    LStar::write(VirtAddr::from_ptr(syscall_entry as *const ()));
    // Interrupts off; no single-stepping, backward strings, SMAP override; and NT, with which `iretq` faults.
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::NESTED_TASK
            | RFlags::IOPL_LOW
            | RFlags::IOPL_HIGH,
    );
}

/// On entry: rcx = user rip, r11 = user rflags, rsp still the user's; the first two are stored once, see `UserContext`. The code and stack segments in the context are
/// always ring 3's and stay as they are.
#[unsafe(naked)]
extern "C" fn syscall_entry() -> ! {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_stack}], rsp",
        "mov rsp, gs:[{context}]",
        "mov [rsp + {r15}], r15",
        "mov [rsp + {r14}], r14",
        "mov [rsp + {r13}], r13",
        "mov [rsp + {r12}], r12",
        "mov [rsp + {rbp}], rbp",
        "mov [rsp + {rbx}], rbx",
        "mov [rsp + {r10}], r10",
        "mov [rsp + {r9}], r9",
        "mov [rsp + {r8}], r8",
        "mov [rsp + {rax}], rax",
        "mov [rsp + {rdx}], rdx",
        "mov [rsp + {rsi}], rsi",
        "mov [rsp + {rdi}], rdi",
        "mov [rsp + {rip}], rcx",
        "mov [rsp + {rflags}], r11",
        "mov rcx, gs:[{user_stack}]",
        "mov [rsp + {user_rsp}], rcx",
        "mov eax, {syscall}",
        "mov [rsp + {vector}], rax",
        "mov rsp, gs:[{kernel_stack}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        user_stack = const offset_of!(Cpu, user_stack),
        context = const offset_of!(Cpu, context),
        kernel_stack = const offset_of!(Cpu, kernel_stack),
        r15 = const offset_of!(UserContext, r15),
        r14 = const offset_of!(UserContext, r14),
        r13 = const offset_of!(UserContext, r13),
        r12 = const offset_of!(UserContext, r12),
        rbp = const offset_of!(UserContext, rbp),
        rbx = const offset_of!(UserContext, rbx),
        r10 = const offset_of!(UserContext, r10),
        r9 = const offset_of!(UserContext, r9),
        r8 = const offset_of!(UserContext, r8),
        rax = const offset_of!(UserContext, rax),
        rdx = const offset_of!(UserContext, rdx),
        rsi = const offset_of!(UserContext, rsi),
        rdi = const offset_of!(UserContext, rdi),
        rip = const offset_of!(UserContext, rip),
        rflags = const offset_of!(UserContext, rflags),
        user_rsp = const offset_of!(UserContext, rsp),
        vector = const offset_of!(UserContext, vector),
        syscall = const SYSCALL_VECTOR,
    )
}
