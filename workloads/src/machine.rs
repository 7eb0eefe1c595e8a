//! The single instructions that have no Rust spelling: the time-stamp counter, marks and bare system calls.
//!
//! Owns no state. A *mark* is a long NOP with a recognisable displacement: it does nothing on any CPU and needs no help
//! from any kernel, but a QEMU plugin that watches translated code sees it and can take a snapshot of its instruction
//! counters. Bare system calls are here because the null-system-call workload must not measure a C library.
#![expect(unsafe_code, reason = "inline assembly")]

use core::arch::asm;

/// The displacement of mark 0; the low byte of the displacement is the mark's number.
const MARK_BASE: u32 = 0x4b4d_5000;

/// Executes the mark with the number `ID`.
#[inline(always)]
pub fn mark<const ID: u8>() {
    // SAFETY: `0f 1f 80 disp32` is `nopl disp32(%rax)` (SDM vol. 2, NOP): it accesses neither memory nor registers. It is
    // not marked `nomem`, so that the work between two marks stays between them.
    unsafe {
        asm!(
            ".byte 0x0f, 0x1f, 0x80",
            ".long {displacement}",
            displacement = const MARK_BASE + ID as u32,
            options(nostack, preserves_flags),
        );
    }
}

/// The time-stamp counter.
#[inline(always)]
pub fn time_stamp() -> u64 {
    // SAFETY: every x86_64 CPU has RDTSC, and no kernel these programs are for forbids it to users (CR4.TSD).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The process's number, by a bare system call.
#[inline(always)]
pub fn getpid() -> i64 {
    // SAFETY: getpid takes no argument and touches no memory of the caller.
    unsafe { system_call(libc::SYS_getpid as u64, [0; 6]) }
}

/// Makes a system call; returns what the kernel left in `rax`, so errors are negative errno values.
///
/// # Safety
/// The call, with these arguments, must not break what Rust assumes about the caller's memory: for instance it must not
/// write to or unmap memory that a live reference covers.
#[inline(always)]
pub unsafe fn system_call(number: u64, arguments: [u64; 6]) -> i64 {
    let result;
    // SAFETY: the register assignment is the System V ABI's for Linux system calls (A.2.1): rcx and r11 are lost, all
    // others but rax are kept. What the call itself does is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
