//! A user thread's registers in memory.
//!
//! Owns: [`UserContext`], laid out as the trap stubs (`trap`, `syscall`) push it and `user` restores it, and its invariants: ring 3
//! segments, a canonical rip, flags that ring 3 may have. Whoever changes a context goes through its methods, which keep them.

use core::fmt;

use x86_64::VirtAddr;
use x86_64::registers::rflags::RFlags;

use super::gdt;
use super::syscall::SYSCALL_VECTOR;

/// A user thread's registers: what the trap stubs push, from the last to the first; then what the CPU pushes.
///
/// `vector` also says how to go back: [`SYSCALL_VECTOR`] by `sysret`, with rip in rcx and rflags in r11, as `syscall` left them,
/// so their own fields are not stored; anything else by `iret`, which restores everything. 176 bytes; aligned because the CPU aligns the stack it pushes to.
#[derive(Clone)]
#[repr(C, align(16))]
pub struct UserContext {
    pub(super) r15: u64,
    pub(super) r14: u64,
    pub(super) r13: u64,
    pub(super) r12: u64,
    pub(super) rbp: u64,
    pub(super) rbx: u64,
    pub(super) r11: u64,
    pub(super) r10: u64,
    pub(super) r9: u64,
    pub(super) r8: u64,
    pub(super) rax: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
    pub(super) ss: u64,
}

const _: () = assert!(size_of::<UserContext>() == 176);

/// Not a trap: everything has to be restored.
const NO_VECTOR: u64 = 0;

/// The general registers, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpr {
    /// Return value of a call; number and result of a system call.
    Rax,
    /// Callee-saved.
    Rbx,
    /// Lost by a system call.
    Rcx,
    /// Third argument.
    Rdx,
    /// Second argument.
    Rsi,
    /// First argument.
    Rdi,
    /// Frame pointer.
    Rbp,
    /// Fifth argument.
    R8,
    /// Sixth argument.
    R9,
    /// Fourth argument of a system call.
    R10,
    /// Lost by a system call.
    R11,
    /// Callee-saved.
    R12,
    /// Callee-saved.
    R13,
    /// Callee-saved.
    R14,
    /// Callee-saved.
    R15,
}

impl UserContext {
    /// The registers of a program's first instruction.
    pub fn new(entry: u64, stack: u64) -> Self {
        let mut context = Self {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            vector: NO_VECTOR,
            error: 0,
            rip: 0,
            cs: gdt::USER_CODE.into(),
            rflags: 0,
            rsp: stack,
            ss: gdt::USER_DATA.into(),
        };
        context.set_ip(entry);
        context.set_flags(0);
        context
    }

    /// The instruction pointer.
    pub fn ip(&self) -> u64 {
        self.rip
    }

    /// Sets the instruction pointer. A non-canonical one is made canonical: `iret` would fault on it in ring 0, while
    /// any canonical one faults in ring 3, where it belongs.
    pub fn set_ip(&mut self, ip: u64) {
        self.restore_all();
        self.rip = VirtAddr::new_truncate(ip).as_u64();
    }

    /// Goes back by `iret` next time, because something is going to differ from what `sysret` restores.
    fn restore_all(&mut self) {
        if self.vector == u64::from(SYSCALL_VECTOR) {
            self.rcx = self.rip;
            self.r11 = self.rflags;
        }
        self.vector = NO_VECTOR;
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.rsp
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: u64) {
        self.rsp = sp;
    }

    /// Whether the registers are a program's: the privilege level stands in the code segment's low bits (SDM vol. 3A, 5.5).
    pub fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// The frame pointer.
    pub fn frame_pointer(&self) -> u64 {
        self.rbp
    }

    /// The flags.
    pub fn flags(&self) -> u64 {
        self.rflags
    }

    /// Sets the flags that ring 3 may set; interrupts are on whatever is asked.
    pub fn set_flags(&mut self, flags: u64) {
        let user = RFlags::CARRY_FLAG
            | RFlags::PARITY_FLAG
            | RFlags::AUXILIARY_CARRY_FLAG
            | RFlags::ZERO_FLAG
            | RFlags::SIGN_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::OVERFLOW_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::ID;
        self.restore_all();
        self.rflags = flags & user.bits() | RFlags::INTERRUPT_FLAG.bits() | 2;
    }

    /// A general register.
    pub fn gpr(&self, name: Gpr) -> u64 {
        let after_syscall = self.vector == u64::from(SYSCALL_VECTOR);
        match name {
            Gpr::Rcx if after_syscall => self.rip,
            Gpr::R11 if after_syscall => self.rflags,
            Gpr::Rax => self.rax,
            Gpr::Rbx => self.rbx,
            Gpr::Rcx => self.rcx,
            Gpr::Rdx => self.rdx,
            Gpr::Rsi => self.rsi,
            Gpr::Rdi => self.rdi,
            Gpr::Rbp => self.rbp,
            Gpr::R8 => self.r8,
            Gpr::R9 => self.r9,
            Gpr::R10 => self.r10,
            Gpr::R11 => self.r11,
            Gpr::R12 => self.r12,
            Gpr::R13 => self.r13,
            Gpr::R14 => self.r14,
            Gpr::R15 => self.r15,
        }
    }

    /// Sets a general register.
    pub fn set_gpr(&mut self, name: Gpr, value: u64) {
        if matches!(name, Gpr::Rcx | Gpr::R11) {
            self.restore_all();
        }
        let register = match name {
            Gpr::Rax => &mut self.rax,
            Gpr::Rbx => &mut self.rbx,
            Gpr::Rcx => &mut self.rcx,
            Gpr::Rdx => &mut self.rdx,
            Gpr::Rsi => &mut self.rsi,
            Gpr::Rdi => &mut self.rdi,
            Gpr::Rbp => &mut self.rbp,
            Gpr::R8 => &mut self.r8,
            Gpr::R9 => &mut self.r9,
            Gpr::R10 => &mut self.r10,
            Gpr::R11 => &mut self.r11,
            Gpr::R12 => &mut self.r12,
            Gpr::R13 => &mut self.r13,
            Gpr::R14 => &mut self.r14,
            Gpr::R15 => &mut self.r15,
        };
        *register = value;
    }

    pub(super) fn trap_vector(&self) -> u8 {
        self.vector as u8
    }

    pub(super) fn error_code(&self) -> u64 {
        self.error
    }
}

impl fmt::Display for UserContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rip={:#x} cs={:#x} rflags={:#x} rsp={:#x}", self.rip, self.cs, self.rflags, self.rsp)?;
        write!(f, " rax={:#x} rbx={:#x} rcx={:#x} rdx={:#x}", self.rax, self.rbx, self.rcx, self.rdx)?;
        write!(f, " rsi={:#x} rdi={:#x} rbp={:#x} r8={:#x}", self.rsi, self.rdi, self.rbp, self.r8)?;
        write!(f, " r9={:#x} r10={:#x} r11={:#x} r12={:#x}", self.r9, self.r10, self.r11, self.r12)?;
        write!(f, " r13={:#x} r14={:#x} r15={:#x}", self.r13, self.r14, self.r15)
    }
}
