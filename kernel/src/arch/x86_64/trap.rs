//! Traps: the stubs that the IDT points to, and what happens to a trap from ring 0.
//!
//! A trap from ring 3 finds its stack pointer at the end of the running thread's [`UserContext`], so the CPU and the
//! stub push the registers to where they are kept; then the stub takes up the kernel stack where
//! [`user::run`](super::user) left it and returns from that function. One kernel stack, nothing copied.
//!
//! A trap from ring 0 is an interrupt in one of `cpu`'s two windows, or a bug: the kernel never faults (design D4).
//! NMI, double fault and machine check have stacks of their own and always end in a panic.
#![expect(unsafe_code, reason = "stubs in assembly; walks the stack")]

use core::arch::global_asm;
use core::fmt;

use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

use super::context::UserContext;
use super::cpu::{self, Cpu};
use super::{image, stack};
use crate::irq;

/// The vectors below are the CPU's own exceptions.
pub const FIRST_INTERRUPT: u8 = 32;

const STUB_SIZE: u64 = 16;

// The stubs with a hardware error code are those of SDM vol. 3A, table 6-1. `push 2; popf` clears the direction flag
// that Rust code relies on, and AC, which would let the kernel through SMAP, on every CPU model by the same two instructions.
// The order of the pushes is that of `UserContext`.
global_asm!(
    r#"
    .macro PUSH_REGISTERS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    .endm

    .macro POP_REGISTERS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    .endm

    .balign 16
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push 0
    .endif
    push vector
    jmp trap_entry
    .set vector, vector + 1
    .endr

    .balign 16
fatal_stubs:
    .set vector, 0
    .rept 19
    .balign 16
    .if (vector == 8)
    .else
    push 0
    .endif
    push vector
    jmp fatal_entry
    .set vector, vector + 1
    .endr

trap_entry:
    test byte ptr [rsp + 24], 3
    jz trap_from_kernel
    PUSH_REGISTERS
    swapgs
    mov eax, [rsp + {vector}]
    mov rsp, gs:[{kernel_stack}]
    push 2
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

trap_from_kernel:
    PUSH_REGISTERS
    cld
    mov rdi, rsp
    mov rbx, rsp
    and rsp, -16
    call {kernel_trap}
    mov rsp, rbx
    POP_REGISTERS
    add rsp, 16
    iretq

fatal_entry:
    PUSH_REGISTERS
    cld
    mov rdi, rsp
    and rsp, -16
    call {fatal_trap}
    ud2
"#,
    vector = const core::mem::offset_of!(UserContext, vector),
    kernel_stack = const core::mem::offset_of!(Cpu, kernel_stack),
    kernel_trap = sym kernel_trap,
    fatal_trap = sym fatal_trap,
);

// SAFETY: defined in the assembly above; used for their addresses only.
unsafe extern "C" {
    safe static trap_stubs: u8;
    safe static fatal_stubs: u8;
}

/// The stub that leads a vector to whoever was interrupted.
pub(super) fn stub(vector: u8) -> VirtAddr {
    VirtAddr::from_ptr(&trap_stubs) + STUB_SIZE * u64::from(vector)
}

/// The stub that leads a vector to a panic.
pub(super) fn fatal_stub(vector: u8) -> VirtAddr {
    VirtAddr::from_ptr(&fatal_stubs) + STUB_SIZE * u64::from(vector)
}

extern "C" fn kernel_trap(registers: &UserContext) {
    match registers.trap_vector() {
        vector @ FIRST_INTERRUPT.. => {
            irq::dispatch(vector);
        }
        vector => panic_on(vector, registers),
    }
}

extern "C" fn fatal_trap(registers: &UserContext) -> ! {
    // The trap may have struck between a swapgs and its counterpart.
    cpu::restore_gs();
    panic_on(registers.trap_vector(), registers)
}

fn panic_on(vector: u8, registers: &UserContext) -> ! {
    crate::panic::trap(&KernelTrap { vector, registers })
}

/// A trap that the kernel does not survive.
pub struct KernelTrap<'a> {
    vector: u8,
    registers: &'a UserContext,
}

impl KernelTrap<'_> {
    /// Where the interrupted kernel code was. A program's registers lead nowhere, and so does what the kernel has of
    /// them in its first instructions after a trap; then it is where the kernel is now that says anything.
    pub fn position(&self) -> Position {
        let interrupted = Position { address: self.registers.ip(), frame: self.registers.frame_pointer() };
        if self.registers.is_user() || stack::caller(interrupted.frame).is_none() {
            return cpu::position();
        }
        interrupted
    }
}

impl fmt::Display for KernelTrap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trap {} ({}), error code {:#x}", self.vector, name(self.vector), self.registers.error_code())?;
        if self.vector == 14 {
            write!(f, ", address {:#x}", Cr2::read_raw())?;
        }
        write!(f, "; {}", self.registers)
    }
}

fn name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        2 => "non-maskable interrupt",
        6 => "invalid opcode",
        8 => "double fault",
        12 => "stack segment",
        13 => "general protection",
        14 => "page fault",
        18 => "machine check",
        _ => "exception",
    }
}

/// Where code is: an instruction and its function's frame.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// The instruction's address.
    pub address: u64,
    /// The frame pointer.
    pub frame: u64,
}

/// The addresses of a position and its callers, by frame pointers; ends at the first that is not kernel code on a kernel stack.
pub fn backtrace(from: Position) -> impl Iterator<Item = u64> {
    let mut next = Some(from);
    core::iter::from_fn(move || {
        let Position { address, frame } = next.filter(|position| image::is_code(position.address))?;
        next = stack::caller(frame);
        Some(address)
    })
}
