//! Random traces against a plain array of owners.

use super::*;
use crate::range::Block;
use alloc::vec::Vec;

const START: u64 = 37;
const LEN: u64 = 3000;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// One owner a unit: 0 is nobody's.
struct Model {
    owner: Vec<u32>,
    areas: Vec<(Span, u32)>,
}

impl Model {
    fn owners(&self, span: Span) -> &[u32] {
        &self.owner[(span.start() - START) as usize..(span.end() - START) as usize]
    }
    fn set(&mut self, span: Span, owner: u32) {
        self.owner[(span.start() - START) as usize..(span.end() - START) as usize].fill(owner);
    }
    fn has_gap(&self, len: u64, align: u32) -> bool {
        let mut run = 0;
        (START..START + LEN).any(|unit| {
            let free = self.owner[(unit - START) as usize] == 0;
            run = if !free {
                0
            } else if run > 0 || unit.is_multiple_of(1 << align) {
                run + 1
            } else {
                0
            };
            run >= len
        })
    }
    fn gives(&mut self, span: Span, owner: u32) {
        assert!(self.owners(span).iter().all(|unit| *unit == 0), "{span:?} overlaps");
        self.set(span, owner);
        self.areas.push((span, owner));
    }
}

/// Reservations have odd numbers, allocations even ones.
fn check_lookup(map: &RangeMap<u32>, model: &Model, unit: u64) {
    let found = map.lookup(unit);
    let owner = model.owner[(unit - START) as usize];
    match found {
        None => assert_eq!(owner, 0, "{unit} is {owner}'s"),
        Some(Found { span, area }) => {
            assert!(model.areas.contains(&(span, owner)), "{unit} is in no area {span:?}");
            assert_eq!(*area, if owner.is_multiple_of(2) { Area::Allocated(owner) } else { Area::Reserved });
        }
    }
}

fn blocks(map: &RangeMap<u32>) -> Vec<Block> {
    map.free_blocks().collect()
}

#[test]
fn p7_buddy_props_hold_on_random_traces() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut map = RangeMap::new(Span::new(START, LEN).unwrap());
        let at_start = blocks(&map);
        let mut model = Model { owner: alloc::vec![0; LEN as usize], areas: Vec::new() };
        for step in 0..4000u32 {
            let (allocated, reserved) = (2 * step + 2, 2 * step + 1);
            let longest = if random.below(8) == 0 { 500 } else { 40 };
            let len = 1 + random.below(longest);
            match random.below(6) {
                0 | 1 => {
                    let align = random.below(6) as u32;
                    match map.alloc(len, align, allocated) {
                        Ok(span) => {
                            assert_eq!((span.len(), span.start() % (1 << align)), (len, 0));
                            model.gives(span, allocated);
                        }
                        // Not only when no single block is large enough: when there is no such gap at all.
                        Err(error) => {
                            assert_eq!(error, RangeError::NoRoom);
                            assert!(!model.has_gap(len, align), "seed {seed}: {len} units do fit");
                        }
                    }
                }
                kind @ (2 | 3) => {
                    let span = Span::new(START + random.below(LEN), len).unwrap();
                    let outside = span.end() > START + LEN;
                    let expected = match () {
                        () if outside => Err(RangeError::OutOfBounds),
                        () if model.owners(span).iter().any(|owner| *owner != 0) => Err(RangeError::Taken),
                        () => Ok(()),
                    };
                    assert_eq!(!outside && map.is_free(span), expected.is_ok());
                    if kind == 2 {
                        assert_eq!(map.alloc_fixed(span, allocated), expected);
                    } else {
                        assert_eq!(map.reserve(span), expected);
                    }
                    if expected.is_ok() {
                        model.gives(span, if kind == 2 { allocated } else { reserved });
                    }
                }
                _ if model.areas.is_empty() => {}
                _ => {
                    let (span, owner) = model.areas.swap_remove(random.below(model.areas.len() as u64) as usize);
                    model.set(span, 0);
                    if owner.is_multiple_of(2) {
                        assert_eq!(map.unreserve(span.start()), Err(RangeError::NoSuchArea));
                        assert_eq!(map.free(span.start()), Ok((span, owner)));
                    } else {
                        assert_eq!(map.free(span.start()), Err(RangeError::NoSuchArea));
                        assert_eq!(map.unreserve(span.start()), Ok(span));
                    }
                    assert_eq!(map.free(span.start()), Err(RangeError::NoSuchArea), "freed twice");
                }
            }
            check_lookup(&map, &model, START + random.below(LEN));
            assert_eq!(map.free_units(), model.owner.iter().filter(|owner| **owner == 0).count() as u64);
        }
        for (span, owner) in model.areas {
            let freed = if owner.is_multiple_of(2) {
                map.free(span.start()).map(|_| ())
            } else {
                map.unreserve(span.start()).map(|_| ())
            };
            assert_eq!(freed, Ok(()));
        }
        assert_eq!(blocks(&map), at_start, "seed {seed}: not all free space is merged");
    }
}

#[test]
fn p7_an_area_of_odd_length_is_a_chain_of_blocks() {
    let mut map = RangeMap::new(Span::new(0, 1 << 40).unwrap());
    let area = map.alloc(13, 0, 'a').unwrap();
    let chain: Vec<_> = Blocks::of::<SparseBlocks>(area).map(Block::units).collect();
    assert_eq!(chain, [8, 4, 1]);
    // What is left of the block of 16 is given out next, to who needs no more.
    assert_eq!(map.alloc(2, 0, 'b').unwrap(), Span::new(14, 2).unwrap());
    assert_eq!(map.alloc(1, 0, 'c').unwrap(), Span::new(13, 1).unwrap());
    assert_eq!(map.lookup(12).unwrap().span, area);
    assert_eq!(map.lookup(12).unwrap().area, &Area::Allocated('a'));
    assert_eq!(map.lookup(16), None);
}

#[test]
fn p7_a_map_inside_a_map_stays_inside() {
    let mut parent = RangeMap::new(Span::new(0x1000, 0x10_0000).unwrap());
    let inner = parent.alloc(300, 0, "child").unwrap();
    let mut child = RangeMap::new(inner);
    while let Ok(span) = child.alloc(7, 0, "grandchild") {
        assert!(inner.covers(span));
    }
    // Blocks of 8, of which one unit each is left over: 37 of them in 300 units.
    assert_eq!((child.areas().count(), child.free_units()), (37, 300 - 37 * 7));
    assert!(parent.alloc(300, 0, "another").is_ok());
}

#[test]
fn p17_a_reserved_hole_is_never_given() {
    let mut map = RangeMap::new(Span::new(0, 1 << 16).unwrap());
    let hole = Span::new(1000, 77).unwrap();
    map.reserve(hole).unwrap();
    let mut given = 0;
    for len in (1..9).cycle().take(10_000) {
        let Ok(span) = map.alloc(len, 0, ()) else { break };
        assert!(span.end() <= hole.start() || span.start() >= hole.end());
        given += 1;
    }
    assert_eq!(given, 10_000);
    assert_eq!(map.unreserve(1000), Ok(hole));
    assert!(map.alloc_fixed(hole, ()).is_ok());
}
