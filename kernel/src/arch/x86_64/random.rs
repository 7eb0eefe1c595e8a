//! Random bytes, by RDRAND where the CPU has it.
//!
//! Owns nothing but a counter. Without RDRAND the bytes are unpredictable only as far as the time stamps of boot and call
//! are: good enough for stack canaries and hash seeds on such a machine, not for keys.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::random::RdRand;

use super::cpu;

/// RDRAND may fail for a moment when it is asked too often; the SDM recommends ten tries (vol. 1, 7.3.17.1).
const TRIES: usize = 10;

/// A key for a cipher; none without RDRAND.
pub fn key() -> Option<[u8; 32]> {
    let source = RdRand::new()?;
    let mut key = [0; 32];
    for chunk in key.chunks_exact_mut(size_of::<u64>()) {
        chunk.copy_from_slice(&(0..TRIES).find_map(|_| source.get_u64())?.to_le_bytes());
    }
    Some(key)
}

/// Fills `out`.
pub fn fill(out: &mut [u8]) {
    let source = RdRand::new();
    for chunk in out.chunks_mut(size_of::<u64>()) {
        let word = source.and_then(|source| (0..TRIES).find_map(|_| source.get_u64()));
        let bytes = word.unwrap_or_else(mixed).to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// A word from the time and from what this returned before: one step of splitmix64.
fn mixed() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let before = STATE.fetch_add(0x9e37_79b9_7f4a_7c15 ^ cpu::timestamp(), Ordering::Relaxed);
    let word = (before ^ before >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
