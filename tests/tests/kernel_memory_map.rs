//! The kernel's memory map, tested on the host: the file is the kernel's own, and uses nothing else of it.

#[path = "../../kernel/src/boot/memory.rs"]
#[allow(dead_code, reason = "the kernel uses the rest")]
mod memory;

use std::collections::BTreeMap;

use memory::{MemoryMap, PAGE, PhysRange, RegionKind};
use proptest::prelude::*;

fn pages(first: u64, count: u64) -> PhysRange {
    PhysRange::from_len(first * PAGE, count * PAGE)
}

/// The map page by page.
fn flatten(map: &MemoryMap) -> BTreeMap<u64, RegionKind> {
    let mut flat = BTreeMap::new();
    for region in map.regions() {
        let (start, end) = (region.range.start.as_u64() / PAGE, region.range.end.as_u64() / PAGE);
        assert!(start < end, "an empty region");
        for page in start..end {
            assert!(flat.insert(page, region.kind).is_none(), "page {page} is in two regions");
        }
    }
    flat
}

#[test]
fn only_whole_pages_are_usable() {
    let mut map = MemoryMap::new();
    map.add(PhysRange::from_len(0x500, 0x9f800), RegionKind::Usable);
    assert_eq!(map.regions()[0].range, PhysRange::from_len(0x1000, 0x9e000));
    map.add(PhysRange::from_len(0x20_0800, 0x100), RegionKind::Usable);
    assert_eq!(map.regions().len(), 1, "less than a page is nothing");
}

#[test]
fn what_is_carved_is_not_usable_any_more_to_the_page() {
    let mut map = MemoryMap::new();
    map.add(pages(0x100, 0x100), RegionKind::Usable);
    map.carve(PhysRange::from_len(0x180 * PAGE + 1, 1), RegionKind::Module);
    let kinds: Vec<_> = map.regions().iter().map(|region| (region.range, region.kind)).collect();
    let expected = [
        (pages(0x100, 0x80), RegionKind::Usable),
        (pages(0x180, 1), RegionKind::Module),
        (pages(0x181, 0x7f), RegionKind::Usable),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(map.total(), 0x100 * PAGE);
    assert_eq!(map.runs().collect::<Vec<_>>(), [pages(0x100, 0x100)], "the direct map sees one run");
}

#[test]
fn carving_does_not_take_what_is_taken() {
    let mut map = MemoryMap::new();
    map.add(pages(0, 16), RegionKind::Usable);
    map.carve(pages(4, 4), RegionKind::Kernel);
    map.carve(pages(0, 16), RegionKind::BootOnly);
    assert_eq!(map.of_kind(RegionKind::Kernel).collect::<Vec<_>>(), [pages(4, 4)]);
    map.retire(RegionKind::BootOnly);
    assert_eq!(map.of_kind(RegionKind::Usable).map(PhysRange::len).sum::<u64>(), 12 * PAGE);
}

#[test]
fn a_map_with_too_many_regions_keeps_the_largest() {
    let mut map = MemoryMap::new();
    for index in 0..400 {
        map.add(pages(index * 1000, 1 + index), RegionKind::Usable);
    }
    assert_eq!(map.regions().len(), 128);
    assert!(map.regions().iter().all(|region| region.range.len() > 200 * PAGE));
}

#[test]
fn reports_beyond_the_direct_map_are_cut_off() {
    let mut map = MemoryMap::new();
    map.add(PhysRange::from_len(u64::MAX - 5, 100), RegionKind::Usable);
    map.add(PhysRange::from_len(0x1000, u64::MAX), RegionKind::Firmware);
    assert_eq!(map.top().as_u64(), memory::REACH, "RAM that the direct map does not reach is left alone");
}

fn kind() -> impl Strategy<Value = RegionKind> {
    use RegionKind::{BootOnly, Firmware, Kernel, Module, Usable};
    prop::sample::select(vec![Usable, BootOnly, Module, Kernel, Firmware])
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, u64, RegionKind),
    Carve(u64, u64, RegionKind),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..200u64, 0..40u64, kind()).prop_map(|(first, count, kind)| Step::Add(first, count, kind)),
        (0..200u64, 0..40u64, kind()).prop_map(|(first, count, kind)| Step::Carve(first, count, kind)),
    ]
}

proptest! {
    #[test]
    fn it_agrees_with_a_map_page_by_page(steps in prop::collection::vec(step(), 0..24)) {
        let mut map = MemoryMap::new();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Add(first, count, kind) => {
                    map.add(pages(first, count), kind);
                    for page in first..first + count {
                        model.entry(page).or_insert(kind);
                    }
                }
                Step::Carve(first, count, kind) => {
                    map.carve(pages(first, count), kind);
                    for (_, was) in model.range_mut(first..first + count) {
                        if matches!(was, RegionKind::Usable | RegionKind::BootOnly) {
                            *was = kind;
                        }
                    }
                }
            }
            prop_assert_eq!(&flatten(&map), &model);
            let regions = map.regions();
            prop_assert!(regions.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "not in order");
        }
        let in_runs: u64 = map.runs().map(PhysRange::len).sum();
        prop_assert_eq!(in_runs, map.total());
    }
}
