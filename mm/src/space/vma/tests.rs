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
                map.remove(range);
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
