//! Caching and segments, as the CPU has them.
#![expect(unsafe_code, reason = "ends a mapping")]

use x86_64::{PhysAddr, VirtAddr};

use crate::arch::areas::{self, Mapping, Writes};
use crate::arch::paging::{Entry, EntryFlags};
use crate::arch::pat::{self, Caching};
use crate::arch::{gdt, kernel_space};
use crate::boot::PhysRange;
use crate::boot::memory::PAGE;
use crate::frames;
use crate::machine::mm;

/// Where the frames of a VGA card's text and graphics have been since 1987: never RAM, whether there is a card or not.
const FRAMEBUFFER: PhysRange =
    PhysRange { start: PhysAddr::new_truncate(0xa_0000), end: PhysAddr::new_truncate(0xa_2000) };

/// Features A6, A8: one constant, and a table from kinds to indices and back.
pub(super) fn pat() {
    let register = pat::read();
    assert_eq!(register, pat::VALUE, "IA32_PAT");
    log::info!("selftest pat: IA32_PAT is {register:#018x} on each of 1 CPUs");
    for caching in
        [Caching::Uncached, Caching::WriteCombining, Caching::WriteThrough, Caching::WriteProtected, Caching::WriteBack]
    {
        let flags = caching.flags();
        // What the CPU does with these bits (SDM vol. 3A, table 12-11), without the table that made them.
        let bit = |flag, value| if flags.contains(flag) { value } else { 0 };
        let index = bit(EntryFlags::WRITE_THROUGH, 1) | bit(EntryFlags::NO_CACHE, 2) | bit(EntryFlags::ATTRIBUTE, 4);
        assert_eq!((register >> (8 * index)) as u8, caching as u8, "{caching:?} is index {index}");
        assert_eq!(Caching::of(flags), caching);
        log::info!("selftest pat: {caching:?} is index {index}");
    }
    with_scratch_mapping(FRAMEBUFFER, Caching::WriteCombining);
}

/// Feature P22: device registers are uncached, outside RAM, in no queue of reclaim, and an unmapped entry is zero.
pub(super) fn mmio() {
    let mut devices = 0;
    areas::each(&mut |start, Mapping { physical, caching, writes }| {
        let pages = physical.len() / PAGE;
        for page in 0..pages {
            let entry = live_entry(start + page * PAGE).expect("an area is mapped");
            assert_eq!(entry.address(), physical.start + page * PAGE);
            assert_eq!(Caching::of(entry.flags()), caching, "at {start:?}");
            assert!(entry.has(EntryFlags::NO_EXECUTE) && !entry.has(EntryFlags::USER), "at {start:?}");
            let writable = entry.has(EntryFlags::WRITABLE);
            assert_eq!(writable, writes == Writes::Allowed, "at {start:?}: only tables are read-only");
        }
        assert_eq!(live_entry(start + physical.len()), None, "the guard behind {start:?}");
        if caching == Caching::Uncached {
            devices += 1;
            let frame = frames::pfn(physical.start);
            assert!(!mm().is_page_frame(frame), "{physical:?} is registers and a page of a program's");
            assert!(!frames::get().is_free(frame), "{physical:?} is registers and a free frame");
        }
        log::info!("selftest mmio: {start:?} {pages} pages at {physical:?}: {caching:?}");
    });
    assert!(devices > 0, "there is no device to look at");
    with_scratch_mapping(FRAMEBUFFER, Caching::Uncached);
}

fn with_scratch_mapping(range: PhysRange, caching: Caching) {
    let mapped = areas::map(range, caching, &mut frames::kernel_table).expect("room for one more area");
    let start = VirtAddr::from_ptr(mapped.start.as_ptr());
    let entry = live_entry(start).expect("it is mapped");
    assert_eq!(Caching::of(entry.flags()), caching);
    // SAFETY: mapped above; nobody has been given its address.
    unsafe { areas::unmap(mapped) };
    let left = kernel_space::entry(kernel_space::root(), start);
    assert_eq!(left, Some(Entry::EMPTY), "an unmapped entry is zero, all of it");
    log::info!("selftest: {range:?} was {caching:?} at {start:?}, and its entry is 0 again");
}

/// The present entry that maps an address.
fn live_entry(address: VirtAddr) -> Option<Entry> {
    kernel_space::entry(kernel_space::root(), address).filter(|entry| entry.is_present())
}

/// Feature N7: segments do nothing; every code and data segment begins at 0.
pub(super) fn segments() {
    /// A code or data segment, not a gate or a task state (SDM vol. 3A, 3.4.5).
    const CODE_OR_DATA: u64 = 1 << 44;
    let entries = gdt::live();
    assert!(entries.len() > 1, "the CPU uses our table");
    let flat = entries.iter().map(|entry| entry.raw()).filter(|raw| raw & CODE_OR_DATA != 0);
    let mut count = 0;
    for raw in flat {
        let base = raw >> 16 & 0xff_ffff | raw >> 56 << 24;
        assert_eq!(base, 0, "the segment {raw:#x} does not begin at 0");
        count += 1;
    }
    assert_eq!(count, 4, "code and data, for the kernel and for programs");
    log::info!("selftest segments: {count} flat ones");
}
