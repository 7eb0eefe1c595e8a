//! The kernel image in memory: where the linker script put its parts.
//!
//! Owns: the addresses of the segments. Neighbours: `kernel.ld` defines the symbols, `kernel_space` maps the
//! segments with their rights, `boot` tells where the image was loaded.
#![expect(unsafe_code, reason = "declares the linker script's symbols")]

use x86_64::VirtAddr;

use crate::boot::PhysRange;

/// Where PVH loads the image: the address in the program headers.
pub const LINKED_PHYSICAL: u64 = 0x20_0000;

// SAFETY: the linker script defines these; they are used for their addresses only.
unsafe extern "C" {
    safe static __image_start: u8;
    safe static __text_start: u8;
    safe static __text_end: u8;
    safe static __boot_only_start: u8;
    safe static __boot_only_end: u8;
    safe static __image_end: u8;
}

/// The rights that a part of the image needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Constants: read only.
    Constants,
    /// Code: read and execute.
    Code,
    /// Variables: read and write.
    Variables,
}

fn address(symbol: &'static u8) -> VirtAddr {
    VirtAddr::from_ptr(symbol)
}

/// The first address of the image.
pub fn start() -> VirtAddr {
    address(&__image_start)
}

/// Bytes from the first to the last page, `.bss` included.
pub fn len() -> u64 {
    address(&__image_end) - start()
}

/// The segments, in order and without gaps.
pub fn segments() -> [(Segment, core::ops::Range<VirtAddr>); 3] {
    [
        (Segment::Constants, start()..address(&__text_start)),
        (Segment::Code, address(&__text_start)..address(&__text_end)),
        (Segment::Variables, address(&__text_end)..address(&__image_end)),
    ]
}

/// Which part of a loaded image serves booting only.
pub fn boot_only(image: PhysRange) -> PhysRange {
    let offset = |symbol| address(symbol) - start();
    PhysRange::new(image.start + offset(&__boot_only_start), image.start + offset(&__boot_only_end))
}

/// Whether an address is in the kernel's code: what a backtrace may print.
pub fn is_code(candidate: u64) -> bool {
    (address(&__text_start).as_u64()..address(&__text_end).as_u64()).contains(&candidate)
}
