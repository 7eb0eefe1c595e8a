//! How memory is cached: the page attribute table, and its index in page-table entries.
//!
//! Owns: the table, one constant, which every CPU is programmed with once (SDM vol. 3A, 12.12), and the translation between a
//! [`Caching`] and the bits of an entry, which follows from it. The first four entries differ from those after a reset in one place
//! only: write-combining stands where a second kind of uncached was, which nobody uses.
#![expect(unsafe_code, reason = "a model-specific register")]

use x86_64::registers::model_specific::Msr;

use super::paging::EntryFlags;

/// IA32_PAT.
const REGISTER: u32 = 0x277;

/// How a mapping is cached; the values are the CPU's (SDM vol. 3A, table 12-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Caching {
    /// Not at all, in program order: device registers.
    Uncached = 0,
    /// Not cached, but writes are gathered: framebuffers.
    WriteCombining = 1,
    /// Writes go through to memory at once.
    WriteThrough = 4,
    /// Reads are cached, writes are not.
    WriteProtected = 5,
    /// As RAM.
    WriteBack = 6,
}

/// The table, by index.
const TABLE: [Caching; 8] = [
    Caching::WriteBack,
    Caching::WriteThrough,
    Caching::WriteCombining,
    Caching::Uncached,
    Caching::WriteBack,
    Caching::WriteThrough,
    Caching::WriteProtected,
    Caching::Uncached,
];

/// What the register holds on every CPU.
pub const VALUE: u64 = {
    let (mut value, mut index) = (0, 0);
    while index < TABLE.len() {
        value |= (TABLE[index] as u64) << (8 * index);
        index += 1;
    }
    value
};

const _: () = assert!(VALUE == 0x0005_0406_0001_0406);

/// The bits of an index, lowest first, in an entry that maps 4 KiB.
const INDEX_BITS: [EntryFlags; 3] = [EntryFlags::WRITE_THROUGH, EntryFlags::NO_CACHE, EntryFlags::ATTRIBUTE];

impl Caching {
    /// The bits of an entry for a 4 KiB page that is cached so.
    pub fn flags(self) -> EntryFlags {
        let index = TABLE.iter().position(|entry| *entry == self).expect("every kind is in the table");
        let set = |bit: &usize| index >> bit & 1 == 1;
        (0..INDEX_BITS.len()).filter(set).map(|bit| INDEX_BITS[bit]).collect()
    }

    /// How a 4 KiB page with these bits is cached.
    pub fn of(flags: EntryFlags) -> Self {
        let bits = INDEX_BITS.into_iter().enumerate();
        TABLE[bits.map(|(bit, flag)| usize::from(flags.contains(flag)) << bit).sum::<usize>()]
    }
}

/// The register as it is on this CPU.
pub fn read() -> u64 {
    // SAFETY: every x86_64 CPU has the register, and reading it changes nothing.
    unsafe { Msr::new(REGISTER).read() }
}

/// Programs this CPU. Nothing is mapped yet through an entry of the table that changes, so no cache line has a type that ends.
pub fn init() {
    // SAFETY: valid memory types only; see above for why caches and TLB may stay as they are.
    unsafe { Msr::new(REGISTER).write(VALUE) }
}
