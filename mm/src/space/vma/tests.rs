//! Areas against a plain array of pages.

use super::*;
use alloc::{vec, vec::Vec};

fn area(start: u64, pages: u64, rights: Rights) -> Vma {
    let range = PageRange::new(Vpn::new(start), pages);
    Vma {
        range,
        rights,
        label: Label::Anonymous,
        liveness: Liveness::Live,
        backing: Backing::Anonymous,
        lock: Lock::Unlocked,
        charge: Charge::Counted,
        pager: None,
    }
}

/// What the model says: areas are maximal runs of equal pages.
fn runs(model: &[Option<Rights>]) -> Vec<(u64, u64, Rights)> {
    let mut out: Vec<(u64, u64, Rights)> = Vec::new();
    for (i, rights) in model.iter().enumerate() {
        let Some(rights) = rights else { continue };
        match out.last_mut() {
            Some((start, len, r)) if *start + *len == i as u64 && r == rights => *len += 1,
            _ => out.push((i as u64, 1, *rights)),
        }
    }
    out
}

#[test]
fn p5_p16_map_protect_and_unmap_follow_an_array_of_pages() {
    const PAGES: u64 = 128;
    let choices = [Rights::NONE, Rights::READ, Rights::READ_WRITE];
    let mut map = VmaMap::default();
    let mut model = vec![None; PAGES as usize];
    let mut x = 77u64;
    for _ in 0..20_000 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (start, rights) = ((x >> 33) % PAGES, choices[(x >> 50) as usize % 3]);
        let pages = 1 + (x >> 40) % (PAGES - start).min(20);
        let range = PageRange::new(Vpn::new(start), pages);
        let slice = &mut model[start as usize..(start + pages) as usize];
        match x >> 60 & 3 {
            0 => {
                let (before, splits) = (map.len(), map.would_split(range));
                while map.take_first(range).is_some() {}
                slice.fill(None);
                assert_eq!(map.len() > before, splits, "only a hole makes more areas");
            }
            1 => {
                let whole = map.iter().filter(|a| a.range.start < range.end && range.start < a.range.end);
                let outside = |a: &Vma| usize::from(a.range.start < range.start) + usize::from(a.range.end > range.end);
                assert_eq!(map.cuts(range), whole.map(outside).sum());
                map.change(range, |a| a.rights = rights);
                slice.iter_mut().flatten().for_each(|r| *r = rights);
            }
            _ => {
                assert_eq!(map.is_free(range), slice.iter().all(Option::is_none));
                if map.is_free(range) {
                    map.insert(area(start, pages, rights));
                    slice.fill(Some(rights));
                }
            }
        }
        let covered = model[start as usize..(start + pages) as usize].iter().all(Option::is_some);
        assert_eq!(map.covers(range), covered);
        let got: Vec<_> = map.iter().map(|a| (a.range.start.as_u64(), a.range.len(), a.rights)).collect();
        assert_eq!(got, runs(&model));
        assert_eq!(map.pages(), model.iter().flatten().count() as u64);
        let gap = map.find_gap(pages, PageRange::new(Vpn::new(8), PAGES - 16));
        let expected = (8..=PAGES - 8 - pages)
            .rev()
            .find(|&s| model[s as usize..(s + pages) as usize].iter().all(Option::is_none));
        assert_eq!(gap.map(|g| g.start.as_u64()), expected, "gap of {pages}");
    }
}

/// A generator that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What a search for a gap must find: the model looks at all areas, from above.
fn highest_gap(areas: &[(u64, u64)], pages: u64, bounds: PageRange) -> Option<u64> {
    let (low, mut end) = (bounds.start.as_u64(), bounds.end.as_u64());
    for &(start, len) in areas.iter().rev().filter(|area| area.0 < bounds.end.as_u64()) {
        if end.saturating_sub((start + len).max(low)) >= pages {
            break;
        }
        end = end.min(start);
    }
    end.checked_sub(pages).filter(|start| *start >= low)
}

#[test]
fn x3_among_100_000_areas_everything_is_found_in_a_few_dozen_steps() {
    const AREAS: u64 = 100_000;
    const STEPS: u64 = 60;
    let mut random = Random(12);
    let mut map = VmaMap::default();
    // In an order without order; gaps of 1 to 4 pages, and one in a thousand of up to 60.
    let mut areas: Vec<(u64, u64)> = Vec::new();
    let mut at = 100;
    for _ in 0..AREAS {
        let len = 1 + random.below(3);
        areas.push((at, len));
        at += len + if random.below(1000) == 0 { 10 + random.below(50) } else { 1 + random.below(4) };
    }
    let mut order: Vec<usize> = (0..areas.len()).collect();
    (1..order.len()).for_each(|i| order.swap(i, random.below(i as u64 + 1) as usize));
    let mut worst = 0;
    let mut counted = |map: &VmaMap, before: u64| worst = worst.max(map.looks() - before);
    for i in order {
        let before = map.looks();
        map.insert(area(areas[i].0, areas[i].1, Rights::READ));
        // Down and up again, with the rebalancing and four looks for neighbours to merge with.
        assert!(map.looks() - before < 12 * STEPS, "{} looks for an insertion", map.looks() - before);
    }
    assert_eq!(map.len(), areas.len());
    for _ in 0..20_000 {
        let pages = 1 + random.below(70);
        let edges = [random.below(at), random.below(at)];
        let bounds = PageRange { start: Vpn::new(edges[0].min(edges[1])), end: Vpn::new(edges[0].max(edges[1])) };
        let before = map.looks();
        let found = map.find_gap(pages, bounds);
        counted(&map, before);
        let expected = || highest_gap(&areas, pages, bounds);
        // The model is slow: it is asked now and then.
        if random.below(100) == 0 {
            assert_eq!(found.map(|gap| gap.start.as_u64()), expected(), "{pages} pages in {bounds:?}");
        }
        let before = map.looks();
        let area = map.find(bounds.start);
        counted(&map, before);
        assert_eq!(area.is_some(), map.overlapping(PageRange::new(bounds.start, 1)).next().is_some());
        let before = map.looks();
        let covered = map.covers(bounds);
        counted(&map, before);
        assert!(!covered || bounds.len() < 10);
    }
    // An AVL tree of 100 000 nodes has 24 levels at most; the edges of the bounds are two ways down.
    assert!(worst <= 3 * STEPS, "{worst} looks for one question");
}

#[test]
fn x3_the_tree_follows_a_plain_list_of_areas() {
    const PAGES: u64 = 4000;
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut map = VmaMap::default();
        let mut model: alloc::collections::BTreeMap<u64, u64> = alloc::collections::BTreeMap::new();
        for step in 0..6000 {
            let (start, pages) = (random.below(PAGES), 1 + random.below(12));
            let range = PageRange::new(Vpn::new(start), pages);
            if random.below(5) < 3 {
                // One page apart at least, so that nothing merges and the model need not.
                if map.is_free(PageRange { start: Vpn::new(start.saturating_sub(1)), end: range.end.offset(1) }) {
                    map.insert(area(start, pages, Rights::READ));
                    model.insert(start, pages);
                }
            } else {
                let inside: Vec<u64> =
                    model.range(..start + pages).filter(|a| a.0 + a.1 > start).map(|a| *a.0).collect();
                for first in &inside {
                    let len = model.remove(first).unwrap_or(0);
                    if *first < start {
                        model.insert(*first, start - first);
                    }
                    if first + len > start + pages {
                        model.insert(start + pages, first + len - start - pages);
                    }
                }
                let taken = core::iter::from_fn(|| map.take_first(range)).count();
                assert_eq!(taken, inside.len());
            }
            let areas: Vec<(u64, u64)> = model.iter().map(|a| (*a.0, *a.1)).collect();
            let bounds = PageRange::new(Vpn::new(random.below(PAGES / 2)), random.below(PAGES));
            let gap = map.find_gap(pages, bounds);
            assert_eq!(
                gap.map(|gap| gap.start.as_u64()),
                highest_gap(&areas, pages, bounds),
                "seed {seed} step {step}"
            );
            let counted: u64 = areas
                .iter()
                .map(|a| (a.0 + a.1).min(bounds.end.as_u64()).saturating_sub(a.0.max(bounds.start.as_u64())))
                .sum();
            assert_eq!(map.uncounted_in(bounds) + map.unlocked_in(bounds), counted, "seed {seed} step {step}");
            if step % 100 == 0 {
                let got: Vec<(u64, u64)> = map.iter().map(|a| (a.range.start.as_u64(), a.range.len())).collect();
                assert_eq!(got, areas, "seed {seed} step {step}");
            }
        }
    }
}
