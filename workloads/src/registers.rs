//! All vector registers at once, held across system calls and pre-emption.
//!
//! The compiler spills what is live across a call, so plain Rust cannot tell whether a kernel keeps a thread's registers.
//! Here one piece of assembly loads every register, computes with all of them, calls `sched_yield` between the rounds,
//! touches a new page now and then, and stores the registers only at the end. The same sums in scalar Rust say what
//! must come out.
#![expect(unsafe_code, reason = "inline assembly that uses every vector register")]

use core::arch::asm;

use crate::mapping::{Charge, Mapping};

/// Vector registers without AVX-512.
pub const REGISTERS: usize = 16;
/// 64-bit lanes of a 256-bit register.
const LANES: usize = 4;

/// The contents of all vector registers.
pub type Bank = [[u64; LANES]; REGISTERS];

/// How wide the registers are that a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// SSE2: the lower two lanes of each register.
    Bits128,
    /// AVX2: all four lanes.
    Bits256,
}

impl Width {
    /// The widest this CPU can do and this kernel switches (CPUID for AVX2, OSXSAVE and XGETBV for the kernel's consent).
    pub fn widest() -> Self {
        if is_x86_feature_detected!("avx2") { Self::Bits256 } else { Self::Bits128 }
    }

    fn lanes(self) -> usize {
        match self {
            Self::Bits128 => LANES / 2,
            Self::Bits256 => LANES,
        }
    }
}

/// What `rounds` rounds of `steps` steps make of `bank`, in scalar arithmetic.
pub fn model(width: Width, bank: &mut Bank, rounds: u32, steps: u32) {
    for _ in 0..u64::from(rounds) * u64::from(steps) {
        for register in 0..REGISTERS {
            let next = bank[(register + 1) % REGISTERS];
            for (lane, other) in bank[register].iter_mut().zip(next).take(width.lanes()) {
                *lane = lane.wrapping_add(other);
            }
        }
    }
}

/// Loads all registers, adds to each its successor `steps` times, yields, every 32nd time gives the page
/// up and writes to it again, does that `rounds` times, and stores them all. `$add` adds register `from` to register `to`.
macro_rules! hold {
    ($bank:ident, $page:ident, $rounds:ident, $steps:ident, $register:literal, $move:literal, $add:literal) => {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            concat!($move, " ", $register, "\\n, [{bank} + 32*\\n]"),
            ".endr",
            "2:",
            "mov {left:e}, {steps:e}",
            "3:",
            concat!(".macro ebb_add to, from\n", $add, "\n.endm"),
            "ebb_add 0, 1", "ebb_add 1, 2", "ebb_add 2, 3", "ebb_add 3, 4",
            "ebb_add 4, 5", "ebb_add 5, 6", "ebb_add 6, 7", "ebb_add 7, 8",
            "ebb_add 8, 9", "ebb_add 9, 10", "ebb_add 10, 11", "ebb_add 11, 12",
            "ebb_add 12, 13", "ebb_add 13, 14", "ebb_add 14, 15", "ebb_add 15, 0",
            ".purgem ebb_add",
            "dec {left:e}",
            "jnz 3b",
            "mov eax, {sched_yield}",
            "syscall",
            "test {rounds:e}, 31",
            "jnz 4f",
            "mov eax, {madvise}",
            "mov esi, 4096",
            "mov edx, {dontneed}",
            "syscall",
            "mov [rdi], rdi",
            "4:",
            "dec {rounds:e}",
            "jnz 2b",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            concat!($move, " [{bank} + 32*\\n], ", $register, "\\n"),
            ".endr",
            bank = in(reg) $bank.as_mut_ptr(),
            rounds = inout(reg) $rounds => _,
            steps = in(reg) $steps,
            left = out(reg) _,
            sched_yield = const libc::SYS_sched_yield,
            madvise = const libc::SYS_madvise,
            dontneed = const libc::MADV_DONTNEED,
            in("rdi") $page,
            out("rsi") _, out("rdx") _,
            out("rax") _, out("rcx") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        )
    };
}

/// Does the same as [`model`] inside the registers, yielding the CPU after every round.
///
/// # Panics
/// If `rounds` or `steps` is zero, or the CPU is not that wide.
pub fn hold(width: Width, bank: &mut Bank, rounds: u32, steps: u32) {
    assert!(rounds > 0 && steps > 0);
    let mapping = Mapping::anonymous(1, Charge::Committed).expect("a page");
    let page = mapping.address();
    match width {
        // SAFETY: accesses `bank` and the page only, which is nobody else's; SSE2 is part of x86_64; every register that changes is declared.
        Width::Bits128 => unsafe {
            hold!(bank, page, rounds, steps, "xmm", "movdqu", "paddq xmm\\to, xmm\\from");
        },
        Width::Bits256 => {
            assert_eq!(Width::widest(), Width::Bits256, "no AVX2");
            // SAFETY: as above, and AVX2 is there. The upper halves belong to the declared registers; `vzeroupper` is
            // left out on purpose, the ABI only asks for it as a matter of speed.
            unsafe {
                hold!(bank, page, rounds, steps, "ymm", "vmovdqu", "vpaddq ymm\\to, ymm\\to, ymm\\from");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_model_agree_and_a_wrong_lane_shows() {
        for width in [Width::Bits128, Width::widest()] {
            let start: Bank = std::array::from_fn(|r| std::array::from_fn(|l| (r * 31 + l) as u64 * 0x9e37_79b9));
            let (mut held, mut expected) = (start, start);
            hold(width, &mut held, 70, 5);
            model(width, &mut expected, 70, 5);
            assert_eq!(held, expected, "{width:?}");
            let mut flipped = start;
            flipped[15][width.lanes() - 1] ^= 1;
            model(width, &mut flipped, 70, 5);
            assert_ne!(held, flipped);
        }
    }
}
