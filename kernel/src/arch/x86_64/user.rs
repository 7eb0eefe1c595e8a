//! Ring 3: a user thread's machine state, and the way in and back.
//!
//! Owns: [`UserThread`] (all machine state of a thread, its registers being a [`UserContext`]), [`UserThread::enter`].
//! Does not own: what a trap means, address spaces, scheduling.
//! A thread's FPU state, FS and GS base stay in the registers until another thread is entered ([`Cpu::owner`]): kernel
//! code changes none of them (soft float, GS swapped), so a system call or a fault saves nothing but `UserContext`.
#![expect(unsafe_code, reason = "enters ring 3; the CPU writes to contexts through addresses it was told")]

use alloc::boxed::Box;
use core::arch::naked_asm;
use core::fmt;
use core::mem::offset_of;
use core::ptr::NonNull;

use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};
use x86_64::registers::segmentation::{FS, Segment64};
use x86_64::structures::idt::ExceptionVector;

use super::cpu::{self, Cpu, TRAP_STACK};
use super::fpu::FpuState;
use super::kernel_space;
use super::paging::SpaceRoot;
use super::syscall::SYSCALL_VECTOR;
use super::trap::FIRST_INTERRUPT;
use crate::irq::{self, InterruptKind};

pub use super::context::{Gpr, UserContext};

/// What the faulting instruction was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store, or read-modify-write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// Why a thread is back from ring 3.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Trap {
    /// It made a system call: see [`UserThread::syscall`].
    Syscall,
    /// It touched memory that its page tables do not allow it.
    PageFault {
        /// What it touched.
        address: u64,
        /// How.
        access: Access,
    },
    /// It did something that the CPU refuses.
    Exception {
        /// What.
        vector: ExceptionVector,
        /// The CPU's error code, or 0.
        error: u64,
    },
    /// It did nothing: an interrupt came, and has been handled. Others may have become ready to run.
    Interrupt(InterruptKind),
}

/// A system call's number and arguments, as the registers hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallRequest {
    /// rax.
    pub number: u64,
    /// rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
}

/// What a thread has in a CPU's registers while it is the owner of it.
#[repr(C)]
pub struct ThreadState {
    context: UserContext,
    fs_base: u64,
    gs_base: u64,
    fpu: FpuState,
}

/// A user thread's machine state. Behind a pointer of its own, because the CPU is told where it is.
pub struct UserThread {
    state: NonNull<ThreadState>,
}

// SAFETY: the state is owned like a box's content; a CPU that still holds parts of it in registers is the only one
// (design D15: with several, moving a thread must take them from there first).
unsafe impl Send for UserThread {}
// SAFETY: `&UserThread` only reads the state.
unsafe impl Sync for UserThread {}

impl UserThread {
    /// A thread that will begin at `entry`, with all other registers clear.
    pub fn new(entry: u64, stack: u64) -> Self {
        Self::from_state(ThreadState {
            context: UserContext::new(entry, stack),
            fs_base: 0,
            gs_base: 0,
            fpu: FpuState::new(),
        })
    }

    /// A thread with the same registers: what `clone` and `fork` begin with.
    pub fn duplicate(&self) -> Self {
        if cpu::this().owner.get() == self.state.as_ptr() {
            // SAFETY: this thread's state is in the registers, says the owner field.
            unsafe { save_registers(self.state.as_ptr()) };
        }
        let state = self.state();
        Self::from_state(ThreadState {
            context: state.context.clone(),
            fs_base: state.fs_base,
            gs_base: state.gs_base,
            fpu: state.fpu.duplicate(),
        })
    }

    fn from_state(state: ThreadState) -> Self {
        Self { state: NonNull::from(Box::leak(Box::new(state))) }
    }

    fn state(&self) -> &ThreadState {
        // SAFETY: made from a box in `from_state`, freed in `drop`; the CPU writes to it only during `enter`.
        unsafe { self.state.as_ref() }
    }

    fn state_mut(&mut self) -> &mut ThreadState {
        // SAFETY: as for `state`, borrowed mutably.
        unsafe { self.state.as_mut() }
    }

    /// The registers.
    pub fn context(&self) -> &UserContext {
        &self.state().context
    }

    /// The registers, to change them.
    pub fn context_mut(&mut self) -> &mut UserContext {
        &mut self.state_mut().context
    }

    /// What the thread asked for, after [`Trap::Syscall`].
    pub fn syscall(&self) -> SyscallRequest {
        let context = self.context();
        let args = [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9];
        SyscallRequest { number: context.rax, args }
    }

    /// What the thread will find in rax.
    pub fn set_syscall_result(&mut self, result: u64) {
        self.context_mut().rax = result;
    }

    /// Thread-local storage: the FS base.
    pub fn tls(&self) -> VirtAddr {
        if cpu::this().owner.get() == self.state.as_ptr() && cpu::features().fsgsbase {
            return FS::read_base();
        }
        VirtAddr::new_truncate(self.state().fs_base)
    }

    /// Sets the FS base.
    pub fn set_tls(&mut self, base: VirtAddr) {
        self.state_mut().fs_base = base.as_u64();
        if cpu::this().owner.get() == self.state.as_ptr() {
            FsBase::write(base);
        }
    }

    /// The GS base.
    pub fn gs(&mut self) -> VirtAddr {
        self.vacate();
        VirtAddr::new_truncate(self.state().gs_base)
    }

    /// Sets the GS base.
    pub fn set_gs(&mut self, base: VirtAddr) {
        self.vacate();
        self.state_mut().gs_base = base.as_u64();
    }

    /// The FPU state, in the format the CPU saves it in.
    pub fn fpu_image(&mut self) -> &[u8] {
        self.vacate();
        self.state().fpu.image()
    }

    /// Lets `change` overwrite the FPU state; what the CPU would not load is cleared afterwards.
    pub fn edit_fpu<R>(&mut self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        self.vacate();
        self.state_mut().fpu.edit(change)
    }

    /// Takes the state out of the registers, to be loaded again at the next entry.
    fn vacate(&mut self) {
        let owner = &cpu::this().owner;
        if owner.get() == self.state.as_ptr() {
            // SAFETY: this thread's state is in the registers, says the owner field.
            unsafe { save_registers(self.state.as_ptr()) };
            owner.set(core::ptr::null_mut());
        }
    }

    /// Runs the thread in the given address space until its next trap.
    #[inline]
    pub fn enter(&mut self, root: SpaceRoot) -> Trap {
        let cpu = cpu::this();
        if cpu.owner.get() != self.state.as_ptr() {
            self.take_over(cpu);
        }
        if cpu.root.get() != root {
            kernel_space::load(root);
        }
        // SAFETY: `take_over` told this CPU where the context is; contexts hold ring 3 segments and a canonical rip by
        // construction; the root's kernel half is the kernel's, see `SpaceRoot`.
        let vector = unsafe { run(&raw mut (*self.state.as_ptr()).context) };
        if vector == SYSCALL_VECTOR {
            return Trap::Syscall;
        }
        self.trap(vector as u8)
    }

    fn trap(&self, vector: u8) -> Trap {
        if vector >= FIRST_INTERRUPT {
            return Trap::Interrupt(irq::dispatch(vector));
        }
        let error = self.context().error;
        let vector = ExceptionVector::try_from(vector).expect("ring 3 raises only architectural exceptions");
        if vector != ExceptionVector::Page {
            return Trap::Exception { vector, error };
        }
        const WRITE: u64 = 1 << 1;
        const RESERVED_BIT: u64 = 1 << 3;
        const FETCH: u64 = 1 << 4;
        let address = Cr2::read_raw();
        assert_eq!(error & RESERVED_BIT, 0, "a page table entry for {address:#x} has a reserved bit set");
        let access = match error {
            error if error & FETCH != 0 => Access::Execute,
            error if error & WRITE != 0 => Access::Write,
            _ => Access::Read,
        };
        Trap::PageFault { address, access }
    }

    /// Puts this thread's state into the registers, after saving what is there.
    #[cold]
    fn take_over(&mut self, cpu: &Cpu) {
        let old = cpu.owner.replace(self.state.as_ptr());
        // SAFETY: an owner is alive (`drop` ends ownership), its state is in the registers; ours is alive and in none.
        unsafe {
            if !old.is_null() {
                save_registers(old);
            }
            load_registers(self.state.as_ptr());
            let context = &raw mut (*self.state.as_ptr()).context;
            cpu.context.set(context);
            // The stub's pushes must end at the context's first field, so they start after its last.
            let trap_stack = core::ptr::from_ref(cpu).byte_add(TRAP_STACK).cast_mut().cast::<u64>();
            trap_stack.write(context.add(1) as u64);
        }
    }
}

impl Drop for UserThread {
    fn drop(&mut self) {
        let owner = &cpu::this().owner;
        if owner.get() == self.state.as_ptr() {
            owner.set(core::ptr::null_mut());
        }
        // SAFETY: made by `Box::leak`, and no CPU will save registers to it any more.
        drop(unsafe { Box::from_raw(self.state.as_ptr()) });
    }
}

impl fmt::Debug for UserThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserThread({})", self.context())
    }
}

/// # Safety
/// The state is alive and is the one in this CPU's registers.
unsafe fn save_registers(state: *mut ThreadState) {
    // SAFETY: alive, says the caller, and nobody else has a reference into it: its thread is not running.
    let state = unsafe { &mut *state };
    // Without these instructions ring 3 cannot change the bases behind our back.
    if cpu::features().fsgsbase {
        state.fs_base = FS::read_base().as_u64();
        state.gs_base = KernelGsBase::read().as_u64();
    }
    state.fpu.save();
}

/// # Safety
/// The state is alive.
unsafe fn load_registers(state: *mut ThreadState) {
    // SAFETY: alive, says the caller.
    let state = unsafe { &*state };
    FsBase::write(VirtAddr::new_truncate(state.fs_base));
    KernelGsBase::write(VirtAddr::new_truncate(state.gs_base));
    state.fpu.load();
}

/// Enters ring 3 and returns the vector of the next trap (see `trap_entry` and `syscall_entry`, which do the returning).
///
/// # Safety
/// The context is the one this CPU was told of, with ring 3 segments and a canonical rip; GS is the kernel's.
#[unsafe(naked)]
unsafe extern "C" fn run(context: *mut UserContext) -> u32 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov gs:[{kernel_stack}], rsp",
        "cmp dword ptr [rdi + {vector}], {syscall}",
        "jne 2f",
        // After a system call at the last address below the hole rip is 2^47, the only non-canonical value it can have:
        // sysret would fault in ring 0 on the user's stack, and iret would fault in ring 0, too. So the thread goes back
        // by iret to the sign-extended address, and faults in ring 3.
        "mov rcx, [rdi + {rip}]",
        "bt rcx, 47",
        "jc 3f",
        "mov r11, [rdi + {rflags}]",
        "mov r15, [rdi + {r15}]",
        "mov r14, [rdi + {r14}]",
        "mov r13, [rdi + {r13}]",
        "mov r12, [rdi + {r12}]",
        "mov rbp, [rdi + {rbp}]",
        "mov rbx, [rdi + {rbx}]",
        "mov r10, [rdi + {r10}]",
        "mov r9, [rdi + {r9}]",
        "mov r8, [rdi + {r8}]",
        "mov rax, [rdi + {rax}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rsp, [rdi + {rsp}]",
        "mov rdi, [rdi + {rdi}]",
        "swapgs",
        "sysretq",
        "3:",
        "shl rcx, 16",
        "sar rcx, 16",
        "mov [rdi + {rip}], rcx",
        "mov [rdi + {rcx}], rcx",
        "mov rax, [rdi + {rflags}]",
        "mov [rdi + {r11}], rax",
        "2:",
        "mov rsp, rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rax",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "add rsp, 16",
        "swapgs",
        "iretq",
        kernel_stack = const offset_of!(Cpu, kernel_stack),
        syscall = const SYSCALL_VECTOR,
        vector = const offset_of!(UserContext, vector),
        rip = const offset_of!(UserContext, rip),
        rflags = const offset_of!(UserContext, rflags),
        rsp = const offset_of!(UserContext, rsp),
        rcx = const offset_of!(UserContext, rcx),
        r11 = const offset_of!(UserContext, r11),
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
    )
}
