//! What the kernel checks of itself when it is told to: `selftest=NAME`.
//!
//! Each check looks at the live machine, logs what it found, and fails by a panic, which is how a run learns of it. They are for
//! what only the machine can show; everything else is tested on the host. Owns nothing, and leaves nothing behind.
//! Neighbours: `cmdline` has the names, `tests/tests/machine_selftests.rs` asks for them.

mod frames;
mod hardware;
mod space;
mod tables;

use crate::boot::memory::MemoryMap;
use crate::cmdline::SelfTest;

/// Runs checks, one after the other. Nothing else runs meanwhile.
pub fn run(tests: &[SelfTest], memory: &MemoryMap) {
    for test in tests {
        match test {
            SelfTest::Pat => hardware::pat(),
            SelfTest::Mmio => hardware::mmio(),
            SelfTest::Segments => hardware::segments(),
            SelfTest::Layout => space::layout(),
            SelfTest::UpperHalf => space::upper_half(),
            SelfTest::MemMap => frames::memmap(memory),
            SelfTest::Pages => frames::pages(memory),
            SelfTest::PageTables => tables::contract(),
            SelfTest::Scattered => frames::scattered(),
        }
        log::info!("selftest {}: ok", test.name());
    }
}
