//! Whole pages of memory: filled, copied and hashed, which is a good part of what a page fault costs.
//!
//! Owns: the choice of instructions. Does not own: whose page it is (`phys`). Where the CPU has fast string operations
//! (ERMS, SDM vol. 1, 7.3.9.3) those are best. Where it has none, as in QEMU, each word of `rep stosq` is a step of its
//! own, and an AVX store does four of them: 131 instructions a page instead of 513, and no more time.
//!
//! The hash is of the AES instructions' making, where there are those for two blocks (VAES): one for 32 bytes;
//! what it finds is argued in `docs/decisions/swap-audit.md`.
//!
//! The registers used are a program's: they are put back right away, so that threads go on owning the FPU's registers
//! across a fault (`fpu`). A write to a YMM register clears the upper half of the ZMM register (SDM vol. 1, 14.1.4): not
//! where AVX-512 is enabled.
#![expect(unsafe_code, reason = "AVX instructions, which the compiler must not use in the kernel")]

use core::arch::asm;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::registers::xcontrol::XCr0Flags;

use super::{cpu, fpu};

/// 8-byte words in a page.
const WORDS: usize = 512;

/// Whether AVX stores are the better choice. Until [`init`]: no.
static BY_AVX: AtomicBool = AtomicBool::new(false);
/// Whether there is a hash. Until [`init`]: no.
static BY_VAES: AtomicBool = AtomicBool::new(false);

/// What a hash begins with: the four lanes, and what the last rounds add to two of them.
pub type Key = [u64; 12];

/// Makes the choice, once the FPU is set up.
pub(super) fn init() {
    let enabled = XCr0Flags::from_bits_truncate(fpu::components());
    let avx = enabled.contains(XCr0Flags::AVX) && !enabled.intersects(XCr0Flags::ZMM_HI256);
    BY_AVX.store(avx && !cpu::features().fast_strings, Ordering::Relaxed);
    BY_VAES.store(avx && cpu::features().vaes, Ordering::Relaxed);
}

/// Fills a page with a word.
///
/// # Safety
/// `page` is 4096 writable bytes, aligned to as many, that nothing refers to.
pub unsafe fn fill(page: *mut u64, word: u64) {
    // SAFETY: the caller's; `init` says whether there is AVX.
    unsafe { if BY_AVX.load(Ordering::Relaxed) { fill_by_avx(page, word) } else { fill_by_words(page, word) } }
}

/// Copies a page; to itself, if need be.
///
/// # Safety
/// Both are 4096 bytes, aligned to as many: the same page, or two that do not overlap. Both are readable and `to` is
/// writable; no reference to `to` exists, and none through which `from` could be written to.
pub unsafe fn copy(from: *const u64, to: *mut u64) {
    // SAFETY: the caller's; both ways bear that the two are one; `init` says whether there is AVX.
    unsafe { if BY_AVX.load(Ordering::Relaxed) { copy_by_avx(from, to) } else { ptr::copy(from, to, WORDS) } }
}

/// Hashes a page, if this CPU has what it takes; the answer is the same for as long as it runs.
///
/// # Safety
/// `page` is 4096 readable bytes, aligned to as many, that nobody changes meanwhile.
pub unsafe fn hash(page: *const u64, key: &Key) -> Option<[u64; 4]> {
    // SAFETY: the caller's; AVX and VAES are there.
    BY_VAES.load(Ordering::Relaxed).then(|| unsafe { hash_by_vaes(page, key) })
}

/// # Safety
/// As for [`fill`].
unsafe fn fill_by_words(page: *mut u64, word: u64) {
    // SAFETY: the caller's; the direction flag is clear (ABI). `rep stosb` would be ten times slower in QEMU.
    unsafe {
        asm!(
            "rep stosq",
            inout("rcx") WORDS => _,
            inout("rdi") page => _,
            in("rax") word,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`fill`], and AVX is enabled.
unsafe fn fill_by_avx(page: *mut u64, word: u64) {
    let mut saved = MaybeUninit::<[u64; 4]>::uninit();
    // SAFETY: the caller's; all stores are within the page; the register has at the end what it had at the beginning.
    unsafe {
        asm!(
            "vmovdqu [{saved}], ymm0",
            "vbroadcastsd ymm0, qword ptr [{word}]",
            ".set whole_page_at, 0",
            ".rept 128",
            "vmovdqa [{page} + whole_page_at], ymm0",
            ".set whole_page_at, whole_page_at + 32",
            ".endr",
            "vmovdqu ymm0, [{saved}]",
            saved = in(reg) saved.as_mut_ptr(),
            word = in(reg) &raw const word,
            page = in(reg) page,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`copy`], and AVX is enabled.
unsafe fn copy_by_avx(from: *const u64, to: *mut u64) {
    let mut saved = MaybeUninit::<[u64; 4]>::uninit();
    // SAFETY: the caller's; all loads are within one page and all stores within the other; each 32 bytes are loaded
    // before they are stored, so the pages may be one; the register has at the end what it had at the beginning.
    unsafe {
        asm!(
            "vmovdqu [{saved}], ymm0",
            ".set whole_page_at, 0",
            ".rept 128",
            "vmovdqa ymm0, [{from} + whole_page_at]",
            "vmovdqa [{to} + whole_page_at], ymm0",
            ".set whole_page_at, whole_page_at + 32",
            ".endr",
            "vmovdqu ymm0, [{saved}]",
            saved = in(reg) saved.as_mut_ptr(),
            from = in(reg) from,
            to = in(reg) to,
            options(nostack, preserves_flags),
        );
    }
}

/// Four lanes of 16 bytes. Each takes every fourth block of the page in, by a round of AES whose key is the block. At the end the
/// lanes go into each other, two of them after a round more than the others, so that no change has passed only one round in both;
/// and two rounds spread them.
///
/// # Safety
/// As for [`hash`], and AVX and VAES are there.
unsafe fn hash_by_vaes(page: *const u64, key: &Key) -> [u64; 4] {
    let mut saved = MaybeUninit::<[[u64; 4]; 2]>::uninit();
    let mut lanes = MaybeUninit::<[u64; 4]>::uninit();
    // SAFETY: the caller's; all loads are within the page and the key; the lanes are written whole; the registers have at
    // the end what they had at the beginning.
    unsafe {
        asm!(
            "vmovdqu [{saved}], ymm0",
            "vmovdqu [{saved} + 32], ymm1",
            "vmovdqu ymm0, [{key}]",
            "vmovdqu ymm1, [{key} + 32]",
            ".set whole_page_at, 0",
            ".rept 64",
            "vaesenc ymm0, ymm0, [{page} + whole_page_at]",
            "vaesenc ymm1, ymm1, [{page} + whole_page_at + 32]",
            ".set whole_page_at, whole_page_at + 64",
            ".endr",
            "vaesenc ymm1, ymm1, [{key} + 64]",
            "vaesenc ymm0, ymm0, ymm1",
            "vaesenc ymm0, ymm0, [{key} + 64]",
            "vaesenc ymm0, ymm0, [{key} + 64]",
            "vmovdqu [{lanes}], ymm0",
            "vmovdqu ymm0, [{saved}]",
            "vmovdqu ymm1, [{saved} + 32]",
            saved = in(reg) saved.as_mut_ptr(),
            key = in(reg) key.as_ptr(),
            page = in(reg) page,
            lanes = in(reg) lanes.as_mut_ptr(),
            options(nostack, preserves_flags),
        );
        lanes.assume_init()
    }
}
