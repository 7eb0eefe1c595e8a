//! Where everything is in an address space: the one table of regions.
//!
//! Owns: the bounds of every region, which the code takes from here, and the rights that each may have at most.
//! Pure: no other module of the kernel is used, so the `tests` crate includes this file and makes `docs/layout.md` of it.
//! Neighbours: `kernel_space` maps the upper half, `process/elf.rs` gives programs the lower one.

use core::fmt;

/// Where programs begin. Below nothing is ever mapped, so that small numbers taken for addresses fault.
pub const USER_START: u64 = 0x1_0000;
/// Where programs end: the last page of the lower half is left out, because the return address of a `syscall` instruction at
/// its end would not be canonical (SDM vol. 2, SYSRET).
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// Where physical address 0 appears; Limine puts its map there, too.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// How much RAM the direct map can hold: one top-level entry.
pub const DIRECT_MAP_LEN: u64 = TOP_LEVEL_SPAN;
/// Where the kernel maps what is not RAM, area by area.
pub const AREAS: u64 = 0xffff_c000_0000_0000;
/// Two top-level entries, both there from boot on: so an area may lie across their border.
pub const AREAS_LEN: u64 = 2 * TOP_LEVEL_SPAN;
/// The end of the areas: where blocks of the heap appear whose frames lie anywhere ([`super::scattered`]).
pub const SCATTERED: u64 = AREAS + AREAS_LEN - SCATTERED_LEN;
/// As long as that: what large objects of the heap are there at a time.
pub const SCATTERED_LEN: u64 = 64 << 20;
/// Where the kernel's image is linked: the last 2 GiB, as the code model wants.
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// What one top-level entry covers.
pub const TOP_LEVEL_SPAN: u64 = 1 << 39;

/// What may be mapped in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing, ever.
    Nothing,
    /// What the program asks for.
    Program,
    /// Pages that cannot be executed.
    Data,
    /// Pages that can be written or executed, not both.
    Image,
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "never mapped",
            Self::Program => "as its areas say",
            Self::Data => "never executable",
            Self::Image => "writable or executable, not both",
        })
    }
}

/// A region: `start..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
    /// What may be mapped there.
    pub holds: Holds,
    /// What it is.
    pub what: &'static str,
}

const fn region(start: u64, end: u64, holds: Holds, what: &'static str) -> Region {
    Region { start, last: end.wrapping_sub(1), holds, what }
}

/// All of the address space, in order and without gaps.
pub const REGIONS: [Region; 9] = [
    region(0, USER_START, Holds::Nothing, "null pointers"),
    region(USER_START, USER_END, Holds::Program, "the program"),
    region(USER_END, 1 << 47, Holds::Nothing, "guard"),
    region(1 << 47, DIRECT_MAP, Holds::Nothing, "no canonical addresses"),
    region(DIRECT_MAP, DIRECT_MAP + DIRECT_MAP_LEN, Holds::Data, "direct map of RAM"),
    region(DIRECT_MAP + DIRECT_MAP_LEN, AREAS, Holds::Nothing, "unused"),
    region(
        AREAS,
        AREAS + AREAS_LEN,
        Holds::Data,
        "kernel areas: device registers, firmware tables, scattered blocks of the heap",
    ),
    region(AREAS + AREAS_LEN, IMAGE, Holds::Nothing, "unused"),
    region(IMAGE, 0, Holds::Image, "the kernel's image"),
];

const _: () = {
    let mut index = 1;
    while index < REGIONS.len() {
        assert!(REGIONS[index].start == REGIONS[index - 1].last + 1, "regions without gaps");
        index += 1;
    }
};

impl Region {
    /// The region that an address lies in.
    pub fn of(address: u64) -> &'static Self {
        let found = REGIONS.iter().rfind(|region| region.start <= address);
        found.expect("the first region begins at 0")
    }
}

/// A row of `docs/layout.md`.
impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| `{:#018x}` | `{:#018x}` | {} | {} |", self.start, self.last, self.what, self.holds)
    }
}
