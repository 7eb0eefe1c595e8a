//! Forgetting translations. One CPU: a flush here is a flush everywhere; a shoot-down will consume mm's flush tokens.

use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Forgets the translation of one page, in the loaded address space or the kernel half.
pub fn flush_page(address: VirtAddr) {
    tlb::flush(address);
}

/// Forgets every translation that is not global.
pub fn flush_user() {
    tlb::flush_all();
}
