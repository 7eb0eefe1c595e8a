//! Calling a signal handler and coming back from it.
//!
//! Owns the signal frame: what is written on the program's stack and what is believed of it on return. Which
//! signal and which handler is `thread.rs`'s and `signal.rs`'s matter. Everything read back is the program's to
//! forge, so only what a program could set by itself anyway is taken over: general registers, the arithmetic
//! flags, an instruction pointer in user space, a cleaned FPU image. Selectors are never read.
//!
//! Frame, from the handler's first stack pointer up (Linux arch/x86/kernel/signal_64.c; psABI §3.4 for alignment):
//! ```text
//!   rsp ─► return address (the restorer) │ ucontext │ siginfo │ … │ FPU image, 64-aligned │ magic
//! ```

use zerocopy::FromZeros;

use super::signal::{AltStack, Origin, SigInfo, SignalSet};
use super::thread::Thread;
use crate::arch::fpu;
use crate::arch::user::Gpr;
use crate::syscall::abi::{RtSigFrame, SigContext, SigInfoRaw, UContext, USER_END, check_user_range};
use crate::syscall::errno::Errno;

/// Bytes below the stack pointer that a leaf function may use without moving it (psABI §3.2.2).
const RED_ZONE: u64 = 128;
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;
/// Where Linux describes the XSAVE area, inside the bytes FXSAVE leaves to software (SDM vol. 1 §10.5.1).
const SOFTWARE_BYTES: u64 = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// The legacy part, all there is without XSAVE.
const FXSAVE_BYTES: u32 = 512;

/// Bytes a frame takes at most, for `AT_MINSIGSTKSZ`.
pub fn frame_bytes(fpu_bytes: usize) -> u64 {
    (size_of::<RtSigFrame>() + fpu_bytes + 64 + 16 + size_of::<u32>()) as u64 + RED_ZONE
}

impl Thread {
    /// Makes the thread run the handler of its `delivery` next. On error the frame could not be written.
    pub async fn deliver(&mut self) -> Result<(), Errno> {
        let Some((info, handler)) = self.delivery.take() else { return Ok(()) };
        let stack_pointer = self.machine.context().sp();
        let fpu_bytes = self.machine.fpu_image().len() as u64;
        let stack_top = match self.alt_stack.top() {
            Some(top) if handler.wants_alternate_stack() && !self.alt_stack.holds(stack_pointer) => top,
            _ => stack_pointer.wrapping_sub(RED_ZONE),
        };
        let below = |from: u64, bytes: u64| from.checked_sub(bytes).ok_or(Errno::EFAULT);
        let fpu_at = below(stack_top, fpu_bytes + size_of::<u32>() as u64)? & !63;
        let frame_at = below(fpu_at, size_of::<RtSigFrame>() as u64 + 8)? & !15;
        // The handler starts as if called: 8 below a 16-byte boundary.
        let frame_at = below(frame_at, 8)?;
        check_user_range(frame_at, stack_top - frame_at)?;

        self.write_fpu_image(fpu_at).await?;
        let during = self.state.blocked();
        // A call that changed the mask for its own time only: what the handler comes back to is the mask before it.
        let before = self.mask_to_restore.take().unwrap_or(during);
        let frame = || RtSigFrame {
            pretcode: handler.restorer,
            uc: self.ucontext(&info, before, fpu_at),
            info: raw_info(&info),
        };
        self.process.write_made(frame_at, frame).await?;

        self.state.set_blocked(handler.mask_while_running(info.signal, during));
        let offset_of_uc = core::mem::offset_of!(RtSigFrame, uc) as u64;
        let offset_of_info = core::mem::offset_of!(RtSigFrame, info) as u64;
        let context = self.machine.context_mut();
        context.set_gpr(Gpr::Rdi, info.signal.number().into());
        context.set_gpr(Gpr::Rsi, frame_at + offset_of_info);
        context.set_gpr(Gpr::Rdx, frame_at + offset_of_uc);
        context.set_gpr(Gpr::Rax, 0);
        context.set_sp(frame_at);
        context.set_ip(handler.entry.min(USER_END));
        // A handler starts with the direction flag clear (psABI §3.2.1) and is not single-stepped.
        context.set_flags(context.flags() & !(FLAG_DF | FLAG_TF));
        Ok(())
    }

    async fn write_fpu_image(&mut self, at: u64) -> Result<(), Errno> {
        let features = fpu::components();
        let image = self.machine.fpu_image();
        let size = image.len() as u32;
        self.process.write_bytes(at, image).await?;
        let (magic, extended) = if features == 0 { (0, FXSAVE_BYTES) } else { (MAGIC1, size + 4) };
        let mut software = [0; 48];
        software[0..4].copy_from_slice(&magic.to_le_bytes());
        software[4..8].copy_from_slice(&extended.to_le_bytes());
        software[8..16].copy_from_slice(&features.to_le_bytes());
        software[16..20].copy_from_slice(&size.to_le_bytes());
        self.process.write_bytes(at + SOFTWARE_BYTES, &software).await?;
        if features != 0 {
            self.process.write_bytes(at + u64::from(size), &MAGIC2.to_le_bytes()).await?;
        }
        Ok(())
    }

    fn ucontext(&self, info: &SigInfo, blocked: SignalSet, fpu_at: u64) -> UContext {
        let context = self.machine.context();
        let gpr = |register| context.gpr(register);
        let (cr2, trapno, err) = match info.origin {
            Origin::Fault { address, trap, error } => (address, trap, error),
            Origin::Sent { .. } | Origin::Child { .. } => (0, 0, 0),
        };
        let xstate = if fpu::components() == 0 { 0 } else { UC_FP_XSTATE };
        UContext {
            uc_flags: xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            uc_link: 0,
            uc_stack: self.alt_stack.to_raw(context.sp()),
            uc_mcontext: SigContext {
                r8: gpr(Gpr::R8),
                r9: gpr(Gpr::R9),
                r10: gpr(Gpr::R10),
                r11: gpr(Gpr::R11),
                r12: gpr(Gpr::R12),
                r13: gpr(Gpr::R13),
                r14: gpr(Gpr::R14),
                r15: gpr(Gpr::R15),
                rdi: gpr(Gpr::Rdi),
                rsi: gpr(Gpr::Rsi),
                rbp: gpr(Gpr::Rbp),
                rbx: gpr(Gpr::Rbx),
                rdx: gpr(Gpr::Rdx),
                rax: gpr(Gpr::Rax),
                rcx: gpr(Gpr::Rcx),
                rsp: context.sp(),
                rip: context.ip(),
                eflags: context.flags(),
                cs: USER_CS,
                gs: 0,
                fs: 0,
                ss: USER_SS,
                err,
                trapno,
                oldmask: blocked.bits(),
                cr2,
                fpstate: fpu_at,
                reserved: [0; 8],
            },
            uc_sigmask: blocked.bits(),
        }
    }

    /// `rt_sigreturn`: the frame lies where the handler's `ret` left the stack pointer. On error the program has
    /// lost its way back and must end.
    pub async fn sigreturn(&mut self) -> Result<(), Errno> {
        let uc_at = self.machine.context().sp();
        let uc: UContext = self.process.read_object(uc_at).await?;
        let saved = &uc.uc_mcontext;
        if saved.rip >= USER_END {
            return Err(Errno::EFAULT);
        }
        if saved.fpstate != 0 {
            self.restore_fpu(saved.fpstate).await?;
        }
        self.state.set_blocked(SignalSet::from_mask(uc.uc_sigmask));
        if let Ok(stack) = AltStack::from_raw(&uc.uc_stack) {
            self.alt_stack = stack;
        }
        self.restore_registers(saved);
        Ok(())
    }

    async fn restore_fpu(&mut self, at: u64) -> Result<(), Errno> {
        let Self { machine, process, .. } = self;
        let len = machine.fpu_image().len();
        // Whatever is left behind when a page is missing has been cleaned and will be overwritten by the next attempt.
        process.read_with(at, len, || machine.edit_fpu(|image| process.try_read_bytes(at, image))).await
    }

    fn restore_registers(&mut self, saved: &SigContext) {
        let context = self.machine.context_mut();
        let registers = [
            (Gpr::R8, saved.r8),
            (Gpr::R9, saved.r9),
            (Gpr::R10, saved.r10),
            (Gpr::R11, saved.r11),
            (Gpr::R12, saved.r12),
            (Gpr::R13, saved.r13),
            (Gpr::R14, saved.r14),
            (Gpr::R15, saved.r15),
            (Gpr::Rdi, saved.rdi),
            (Gpr::Rsi, saved.rsi),
            (Gpr::Rbp, saved.rbp),
            (Gpr::Rbx, saved.rbx),
            (Gpr::Rdx, saved.rdx),
            (Gpr::Rax, saved.rax),
            (Gpr::Rcx, saved.rcx),
        ];
        for (register, value) in registers {
            context.set_gpr(register, value);
        }
        context.set_sp(saved.rsp);
        context.set_ip(saved.rip);
        context.set_flags(saved.eflags);
    }
}

const FLAG_TF: u64 = 1 << 8;
const FLAG_DF: u64 = 1 << 10;

/// As programs see it (sigaction(2)); everybody's user number is 0.
pub fn raw_info(info: &SigInfo) -> SigInfoRaw {
    let mut raw = SigInfoRaw::new_zeroed();
    raw.si_signo = info.signal.number().into();
    raw.si_code = info.code;
    match info.origin {
        Origin::Fault { address, .. } => raw.fields[0] = address,
        Origin::Sent { pid, value } => (raw.fields[0], raw.fields[1]) = (pid.into(), value),
        Origin::Child { pid, status } => {
            (raw.fields[0], raw.fields[1]) = (pid.into(), u64::from(status.cast_unsigned()));
        }
    }
    raw
}
