//! The buddy against its promises: no overlap, full coalescing, and misuse found.

use super::*;
use alloc::{boxed::Box, vec, vec::Vec};
use maitake_sync::blocking::DefaultMutex;

pub(super) fn allocator(frames: usize) -> FrameAllocator<DefaultMutex> {
    let words = FrameAllocator::<DefaultMutex>::storage_words(frames);
    FrameAllocator::new(Box::leak(vec![0; words].into_boxed_slice()), frames)
}

#[test]
fn x2_blocks_never_overlap_and_coalesce_when_all_are_free() {
    let a = allocator(5000);
    a.add_range(Pfn::new(3), Pfn::new(2000));
    a.add_range(Pfn::new(2100), Pfn::new(5000));
    let at_start = a.free_blocks();
    let mut owned = vec![false; 5000];
    let mut held: Vec<Frame> = Vec::new();
    let mut x = 1u64;
    for _ in 0..20_000 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        if x >> 40 & 3 != 0 {
            let order = Order::new((x >> 50) as usize % 6).unwrap();
            let Some(frame) = a.alloc(FrameKind::User, order) else {
                continue;
            };
            let start = frame.pfn().index();
            assert_eq!(start % order.frames(), 0);
            for o in &mut owned[start..start + order.frames()] {
                assert!(!core::mem::replace(o, true));
            }
            held.push(frame);
        } else if !held.is_empty() {
            let frame = held.swap_remove((x >> 45) as usize % held.len());
            let start = frame.pfn().index();
            owned[start..start + frame.order().frames()].fill(false);
            a.free(frame);
        }
        let counts = a.counts();
        assert_eq!(counts.total, counts.free + counts.used.iter().sum::<usize>());
        assert_eq!(counts.free, a.free_frames());
    }
    held.drain(..).for_each(|f| a.free(f));
    assert_eq!(a.free_blocks(), at_start);
}

#[test]
#[should_panic(expected = "double free")]
fn a_double_free_is_named() {
    let a = allocator(64);
    a.add_range(Pfn::new(0), Pfn::new(64));
    let frame = a.alloc_page(FrameKind::User).unwrap();
    let again = a.adopt(frame.pfn(), FrameKind::User, Order::PAGE);
    a.free(frame);
    a.free(again);
}

#[test]
fn an_empty_allocator_says_so() {
    let a = allocator(8);
    assert!(a.alloc_page(FrameKind::User).is_none());
    a.add_range(Pfn::new(1), Pfn::new(2));
    let only = a.alloc_page(FrameKind::Heap).unwrap();
    assert_eq!(only.pfn(), Pfn::new(1));
    assert!(a.alloc(FrameKind::User, Order::new(1).unwrap()).is_none());
    a.free(only);
}
