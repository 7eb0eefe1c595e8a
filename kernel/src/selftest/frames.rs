//! Frames against the memory map that the loader gave.

use alloc::string::String;
use alloc::vec::Vec;

use mm::addr::{Pfn, WORDS_PER_PAGE};
use mm::frame::{Frame, FrameKind, FrameOwner};
use mm::platform::PhysMemory;
use mm::swap::Audit;
use x86_64::{PhysAddr, VirtAddr};

use crate::boot::RegionKind;
use crate::boot::memory::{MemoryMap, PAGE};
use crate::{arch, frames, heap, machine};

/// The kind of the region that a frame lies in.
fn region(memory: &MemoryMap, frame: Pfn) -> Option<RegionKind> {
    let address = PhysAddr::new(frame.phys());
    let lies_in = |range: &crate::boot::PhysRange| range.start <= address && address < range.end;
    memory.regions().iter().find(|region| lies_in(&region.range)).map(|region| region.kind)
}

/// Features N2, N3: takes every frame there is; none lies where it must not, and they are as many as the map says.
pub(super) fn memmap(memory: &MemoryMap) {
    let allocator = frames::get();
    let counts = allocator.counts();
    let usable: u64 = memory.of_kind(RegionKind::Usable).map(|range| range.len() / PAGE).sum();
    assert_eq!(counts.total as u64, usable, "frames there are, and frames the map has for us");
    // Room for all of them first: the heap must not take one meanwhile.
    let mut taken: Vec<Frame> = Vec::with_capacity(counts.free);
    let free = allocator.free_frames();
    while let Some(frame) = allocator.alloc_page(FrameKind::User) {
        assert_eq!(region(memory, frame.pfn()), Some(RegionKind::Usable), "{frame:?}");
        taken.push(frame);
    }
    assert_eq!((taken.len(), allocator.free_frames()), (free, 0), "every free frame can be had");
    let used: usize = allocator.counts().used.iter().sum();
    assert_eq!(used, counts.total, "and no other");
    taken.sort_unstable_by_key(Frame::pfn);
    assert!(taken.windows(2).all(|pair| pair[0].pfn() != pair[1].pfn()), "no frame twice");
    taken.into_iter().for_each(|frame| allocator.free(frame));
    log::info!("selftest memmap: {free} frames taken, of {usable} in usable RAM; all lie there");
}

/// The heap has blocks of several pages when no two free frames are neighbours, and gives their frames back.
pub(super) fn scattered() {
    const LEN: usize = 100_000;
    let allocator = frames::get();
    let mut taken: Vec<Frame> = Vec::with_capacity(allocator.free_frames());
    let before = (allocator.free_frames(), heap::stats());
    while let Some(frame) = allocator.alloc_page(FrameKind::User) {
        taken.push(frame);
    }
    let pieces =
        taken.extract_if(.., |frame| frame.pfn().as_u32().is_multiple_of(2)).map(|frame| allocator.free(frame)).count();
    let words = |seed: usize| (0..LEN / 8).map(move |word| (word * 7 + seed) as u64);
    let blocks: [Vec<u64>; 3] = core::array::from_fn(|seed| {
        let mut block = Vec::new();
        block.try_reserve_exact(LEN / 8).expect("frames there are");
        block.extend(words(seed));
        block
    });
    let is_scattered = |block: &Vec<u64>| arch::scattered::contains(VirtAddr::from_ptr(block.as_ptr()));
    assert!(blocks.iter().all(is_scattered), "no two free frames are neighbours");
    for (seed, block) in blocks.iter().enumerate() {
        assert!(block.iter().copied().eq(words(seed)), "block {seed} has other words");
    }
    let mut too_large: Vec<u8> = Vec::new();
    assert!(too_large.try_reserve_exact(pieces * PAGE as usize).is_err(), "more than there is");
    drop(blocks);
    taken.drain(..).for_each(|frame| allocator.free(frame));
    // The tables of the window stay, as those of all the kernel's half do.
    let tables = before.0 - allocator.free_frames();
    assert!(tables <= 3 && heap::stats() == before.1, "{tables} frames are gone, {:?}", heap::stats());
    log::info!("selftest scattered: three blocks of {LEN} bytes in {pieces} single frames");
}

/// Frames in a line of the map.
const LINE: u32 = 64;

/// Feature X1: prints whose each frame is, and adds up.
pub(super) fn pages(memory: &MemoryMap) {
    let allocator = frames::get();
    let (mut free, mut used) = (0, [0; FrameKind::COUNT]);
    let mut last = String::new();
    for first in (0..frames::span(memory) as u32).step_by(LINE as usize) {
        let mut line = String::with_capacity(LINE as usize);
        for frame in (first..first + LINE).map(Pfn::new) {
            let owner = allocator.owner(frame);
            match owner {
                FrameOwner::Free => free += 1,
                FrameOwner::Used(kind) => used[kind as usize] += 1,
                FrameOwner::Reserved | FrameOwner::NotRam => {}
            }
            let is_ours = matches!(owner, FrameOwner::Free | FrameOwner::Used(_));
            assert_eq!(is_ours, region(memory, frame) == Some(RegionKind::Usable), "{frame:?} is {owner:?}");
            line.push(letter(owner));
        }
        // Lines like the one before are left out.
        if line != last {
            log::info!("selftest pages: {:#012x} {line}", Pfn::new(first).phys());
            last = line;
        }
    }
    let counts = allocator.counts();
    // The map itself is on the heap, in a slab that was there or was not.
    assert_eq!((free, used), (counts.free, counts.used), "what the frames say, and what is counted");
    log::info!("selftest pages: {free} free, {:?} used as {:?}", used, FrameKind::NAMES);
    tags();
}

/// Feature D10: the tag of a page is of all its words, and of where they stand.
fn tags() {
    let frame = frames::get().alloc_page(FrameKind::User).expect("a frame");
    let (page, memory) = (frame.pfn(), machine::mm().memory());
    let audit = Audit::new(7);
    for index in 0..WORDS_PER_PAGE as u64 {
        memory.write(page, index as usize * 8, &index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    let tag = memory.tag(page, &audit);
    let word = |index: usize| {
        let mut bytes = [0; 8];
        memory.read(page, index * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    for bit in 0..WORDS_PER_PAGE * 64 {
        let flipped = word(bit / 64) ^ 1 << (bit % 64);
        memory.write(page, bit / 64 * 8, &flipped.to_le_bytes());
        assert_ne!(memory.tag(page, &audit), tag, "bit {bit}");
        let back = flipped ^ 1 << (bit % 64);
        memory.write(page, bit / 64 * 8, &back.to_le_bytes());
    }
    for (one, other) in [(0, 1), (0, 2), (0, 8), (8, 16), (0, 256), (503, 511)] {
        let (first, second) = (word(one), word(other));
        memory.write(page, one * 8, &second.to_le_bytes());
        memory.write(page, other * 8, &first.to_le_bytes());
        assert_ne!(memory.tag(page, &audit), tag, "words {one} and {other} changed places");
        memory.write(page, one * 8, &first.to_le_bytes());
        memory.write(page, other * 8, &second.to_le_bytes());
    }
    assert_eq!(memory.tag(page, &audit), tag, "the same contents");
    assert_ne!(memory.tag(page, &Audit::new(8)), tag, "another key");
    frames::get().free(frame);
    log::info!("selftest pages: each of {} bits is in the tag", WORDS_PER_PAGE * 64);
}

fn letter(owner: FrameOwner) -> char {
    match owner {
        FrameOwner::NotRam => 'x',
        FrameOwner::Reserved => 'K',
        FrameOwner::Free => '.',
        FrameOwner::Used(FrameKind::User) => 'U',
        FrameOwner::Used(FrameKind::PageTable) => 'P',
        FrameOwner::Used(FrameKind::Heap) => 'H',
        FrameOwner::Used(FrameKind::Dma) => 'D',
        FrameOwner::Used(FrameKind::Zero) => 'Z',
        FrameOwner::Used(FrameKind::Module) => 'M',
        FrameOwner::Used(FrameKind::Tier) => 'C',
    }
}
