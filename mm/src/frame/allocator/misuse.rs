//! Frees that are wrong: each is named, counted, and changes nothing.

use super::tests::allocator;
use super::*;
use alloc::collections::BTreeMap;

#[test]
fn a4_every_wrong_free_is_named_and_counted() {
    let frames = allocator(512);
    frames.reserve_range(Pfn::new(16), Pfn::new(64));
    frames.add_range(Pfn::new(64), Pfn::new(512));
    let two = Order::new(1).unwrap();
    let at = frames.leak(frames.alloc(FrameKind::Heap, two).unwrap());
    let page = frames.leak(frames.alloc_page(FrameKind::User).unwrap());
    let second = Pfn::new(at.as_u32() + 1);
    let cases = [
        (Pfn::new(3), FrameKind::Heap, Order::PAGE, FreeError::NotRam),
        (Pfn::new(100_000), FrameKind::User, Order::PAGE, FreeError::NotRam),
        (Pfn::new(20), FrameKind::Heap, Order::PAGE, FreeError::Reserved),
        (Pfn::new(300), FrameKind::User, Order::PAGE, FreeError::DoubleFree),
        (at, FrameKind::Heap, Order::PAGE, FreeError::OtherUse),
        (at, FrameKind::Dma, two, FreeError::OtherUse),
        (second, FrameKind::Heap, Order::PAGE, FreeError::OtherUse),
        (page, FrameKind::Heap, Order::PAGE, FreeError::OtherUse),
    ];
    let before = frames.counts();
    for (first, kind, order, error) in cases {
        assert_eq!(frames.release(first, kind, order), Err(error), "{first:?} {kind:?} {order:?}");
    }
    assert_eq!(frames.counts(), before);
    assert_eq!(frames.release(at, FrameKind::Heap, two), Ok(()));
    assert_eq!(frames.release(at, FrameKind::Heap, two), Err(FreeError::DoubleFree));
    assert_eq!(frames.release(page, FrameKind::User, Order::PAGE), Ok(()));
    let expected =
        [(FreeError::DoubleFree, 2), (FreeError::NotRam, 2), (FreeError::Reserved, 1), (FreeError::OtherUse, 4)];
    for (error, count) in expected {
        assert_eq!(frames.misuses()[error as usize], count, "{error:?}");
    }
}

#[test]
fn a4_a_million_random_frees_corrupt_nothing() {
    const FRAMES: u64 = 2048;
    let frames = allocator(FRAMES as usize);
    frames.reserve_range(Pfn::new(8), Pfn::new(40));
    frames.add_range(Pfn::new(40), Pfn::new(1000));
    frames.add_range(Pfn::new(1100), Pfn::new(2000));
    let at_start = frames.free_blocks();
    let mut held: BTreeMap<u32, (FrameKind, Order)> = BTreeMap::new();
    let mut x = 7u64;
    let mut random = |limit: u64| {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) % limit
    };
    let mut freed = 0;
    for _ in 0..1_000_000 {
        let kind = FrameKind::ALL[random(FrameKind::COUNT as u64) as usize];
        let order = Order::new(random(4) as usize).unwrap();
        if held.len() < 200
            && let Some(frame) = frames.alloc(kind, order)
        {
            held.insert(frames.leak(frame).as_u32(), (kind, order));
        }
        let first = random(FRAMES + 100) as u32;
        let is_right = held.get(&first) == Some(&(kind, order));
        assert_eq!(frames.release(Pfn::new(first), kind, order).is_ok(), is_right, "{first} {kind:?} {order:?}");
        if is_right {
            held.remove(&first);
            freed += 1;
        }
        let used: usize = held.values().map(|(_, order)| order.frames()).sum();
        debug_assert_eq!(frames.counts().used.iter().sum::<usize>(), used);
    }
    assert!(freed > 100, "{freed} of them were right by chance");
    let count: u32 = frames.misuses().iter().sum();
    assert_eq!(count, 1_000_000 - freed);
    for (first, (kind, order)) in held {
        assert_eq!(frames.release(Pfn::new(first), kind, order), Ok(()));
    }
    assert_eq!(frames.free_blocks(), at_start, "all is merged again");
}
