//! The kernel's half of the address space, as the page tables have it.
#![expect(unsafe_code, reason = "makes address spaces, and reads what is mapped in them")]

use alloc::vec::Vec;

use mm::frame::{Frame, FrameKind, Order};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::areas::{self, Place};
use crate::arch::layout::{AREAS, Holds, REGIONS, Region, TOP_LEVEL_SPAN};
use crate::arch::paging::{Entry, EntryFlags, SpaceRoot};
use crate::arch::pat::Caching;
use crate::arch::{direct_map, kernel_space};
use crate::boot::PhysRange;
use crate::boot::memory::PAGE;
use crate::frames;

/// Feature P18: every page that is mapped lies in a region that may hold it; logs the table of the documentation.
pub(super) fn layout() {
    let mut mapped = [0; REGIONS.len()];
    kernel_space::each_mapping(&mut |address, len, entry| {
        let region = Region::of(address);
        let (writable, executable) = (entry.has(EntryFlags::WRITABLE), !entry.has(EntryFlags::NO_EXECUTE));
        let allowed = match region.holds {
            Holds::Nothing | Holds::Program => false,
            Holds::Data => !executable,
            Holds::Image => !(writable && executable),
        };
        assert!(allowed && !entry.has(EntryFlags::USER), "{address:#x}: {entry:?} in {region}");
        assert!(len - 1 <= region.last - address, "{address:#x}: a page across the end of {region}");
        let index = REGIONS.iter().position(|candidate| candidate == region).expect("it is in the table");
        mapped[index] += len;
    });
    for (region, mapped) in REGIONS.iter().zip(mapped) {
        let used = matches!(region.holds, Holds::Data | Holds::Image);
        assert_eq!(mapped > 0, used, "{region}");
        log::info!("selftest layout: {region}");
        log::info!("selftest layout: mapped there: {} KiB", mapped / 1024);
    }
}

/// How many address spaces look.
const SPACES: usize = 100;
/// What the two pages begin with.
const PATTERNS: [u64; 2] = [0x5eed_0f5e_ed00_ff00, !0x5eed_0f5e_ed00_ff00];

/// Feature A9: a region mapped after 100 address spaces were made, across the border of two top-level entries, is the same from each.
pub(super) fn upper_half() {
    let allocator = frames::get();
    let take = |order| allocator.alloc(FrameKind::PageTable, order).expect("memory for a check");
    // SAFETY: frames of our own; the roots are not used after the frames are free.
    let root_in = |frame: &Frame| unsafe { SpaceRoot::new(PhysAddr::new(frame.pfn().phys())) };
    let spaces: Vec<_> = (0..SPACES).map(|_| take(Order::PAGE)).map(|frame| (root_in(&frame), frame)).collect();
    let block = take(Order::new(1).expect("two frames make a block"));
    let physical = PhysRange::from_len(block.pfn().phys(), 2 * PAGE);
    for (page, pattern) in PATTERNS.into_iter().enumerate() {
        let word = direct_map::pointer(physical.start + page as u64 * PAGE).cast::<u64>();
        // SAFETY: a frame of our own, in the direct map.
        unsafe { word.write_volatile(pattern) };
    }
    let border = VirtAddr::new(AREAS + TOP_LEVEL_SPAN);
    let pages = [border - PAGE, border];
    let place = Place::At(pages[0]);
    let mapped = areas::map_at(place, physical, Caching::WriteBack, &mut frames::kernel_table).expect("room there");
    for (root, _) in &spaces {
        let read = kernel_space::running_on(*root, || {
            // SAFETY: mapped for reading just now; that this root has it too is what is being checked, and a fault is a panic.
            pages.map(|page| unsafe { page.as_ptr::<u64>().read_volatile() })
        });
        assert_eq!(read, PATTERNS, "read while running on {root:?}");
        for (page, frame) in pages.into_iter().zip([physical.start, physical.start + PAGE]) {
            let seen = kernel_space::entry(*root, page).filter(|entry| entry.is_present());
            assert_eq!(seen.map(|entry| entry.address()), Some(frame), "{page:?} seen from {root:?}");
        }
    }
    log::info!("selftest upper-half: {SPACES} address spaces see two pages mapped later at {:?}", pages[0]);
    // SAFETY: mapped above; nobody else has been given its address.
    unsafe { areas::unmap(mapped) };
    for (root, frame) in spaces {
        for page in pages {
            assert_eq!(kernel_space::entry(root, page), Some(Entry::EMPTY), "{page:?} is left in {root:?}");
        }
        allocator.free(frame);
    }
    allocator.free(block);
}
