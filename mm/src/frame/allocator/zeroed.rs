//! Frames zeroed in advance: free like any other, and found by who wants zeroes.

use super::tests::allocator;
use super::*;
use alloc::vec::Vec;

#[test]
fn m13_frames_zeroed_in_advance_are_free_and_found() {
    let frames = allocator(64);
    frames.add_range(Pfn::new(0), Pfn::new(64));
    let at_start = (frames.counts(), frames.free_blocks());
    let zeroed: Vec<_> = (0..10).map(|_| frames.alloc_to_zero().unwrap()).collect();
    let numbers: Vec<_> = zeroed.iter().map(Frame::pfn).collect();
    zeroed.into_iter().for_each(|frame| frames.free_zeroed(frame));
    assert_eq!(frames.counts(), at_start.0, "they are free");
    assert!(numbers.iter().all(|frame| frames.is_free(*frame)));
    let (frame, contents) = frames.alloc_for_zeroes(FrameKind::User).unwrap();
    assert!(contents == Contents::Zeroes && numbers.contains(&frame.pfn()));
    frames.free(frame);
    // Who needs all frames gets these, too; and who needs a large block.
    let all: Vec<_> = (0..64).map(|_| frames.alloc_page(FrameKind::User).unwrap()).collect();
    assert!(frames.alloc_page(FrameKind::User).is_none());
    all.into_iter().for_each(|frame| frames.free(frame));
    frames.free_zeroed(frames.alloc_to_zero().unwrap());
    let whole = frames.alloc(FrameKind::Heap, Order::new(6).unwrap()).expect("all frames in one block");
    frames.free(whole);
    assert_eq!((frames.counts(), frames.free_blocks()), at_start);
}

#[test]
fn m13_so_many_are_kept_and_no_more() {
    let frames = allocator(4096);
    frames.add_range(Pfn::new(0), Pfn::new(4096));
    let zeroed =
        core::iter::from_fn(|| frames.alloc_to_zero()).take(200).map(|frame| frames.free_zeroed(frame)).count();
    assert_eq!(zeroed, ZEROED);
    let given: Vec<_> = (0..ZEROED + 1).map(|_| frames.alloc_for_zeroes(FrameKind::User).unwrap()).collect();
    let found = given.iter().filter(|(_, contents)| *contents == Contents::Zeroes).count();
    assert_eq!(found, ZEROED, "each is given once");
    given.into_iter().for_each(|(frame, _)| frames.free(frame));
}
