//! The page index of an address space: which page is in which state, 8 bytes a page.
//!
//! Owns the records. Pages are grouped in regions of 512 (what one last-level page table covers), kept as sparsely as they are used:
//! a lone page costs one slot of the tree, a full region 8 bytes a page. Does not interpret records.

use crate::addr::{PageRange, Vpn};
use crate::page::{PackedRecord, Record};
use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};
use core::cell::Cell;

/// Pages in a region.
const REGION: usize = 512;
/// Pages in a region beyond which it is kept as a plain array.
const FEW: usize = 64;

type Dense = Box<[PackedRecord; REGION]>;

/// The records of a region.
enum Region {
    /// A single page: no memory beyond the tree's own slot.
    One(u16, PackedRecord),
    /// Some pages, in order.
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the tree's slots at 16 bytes")]
    Few(Box<Vec<(u16, PackedRecord)>>),
    /// Many pages, and how many.
    Dense(u16, Dense),
    /// No region: the next such place.
    Vacant(Option<u32>),
}

const _: () = assert!(size_of::<Region>() == 16);

/// Records of the pages of one address space.
#[derive(Default)]
pub struct PageIndex {
    /// Where each region that has pages is in `regions`.
    order: BTreeMap<u64, u32>,
    regions: Slab,
    /// The region found last: most look-ups are in the same one again.
    recent: Cell<Option<(u64, u32)>>,
}

#[inline]
fn split(page: Vpn) -> (u64, u16) {
    (page.as_u64() / REGION as u64, (page.as_u64() % REGION as u64) as u16)
}

impl PageIndex {
    /// The record of a page.
    #[inline(always)]
    pub fn get(&self, page: Vpn) -> Record {
        let (key, at) = split(page);
        self.find(key).map_or(PackedRecord::ABSENT, |place| self.regions.get(place).get(at)).into()
    }

    /// Sets the record of a page. Never allocates if the page has a record already.
    #[inline(always)]
    pub fn set(&mut self, page: Vpn, record: Record) {
        let (key, at) = split(page);
        let packed = PackedRecord::from(record);
        if let Some((recent, place)) = self.recent.get()
            && recent == key
            && let Region::Dense(count, all) = self.regions.get_mut(place)
            && !packed.is_absent()
        {
            return set_dense(count, all, at, packed);
        }
        self.set_anywhere(key, at, packed);
    }

    #[inline(never)]
    fn set_anywhere(&mut self, key: u64, at: u16, packed: PackedRecord) {
        match self.find(key) {
            Some(place) => {
                let region = self.regions.get_mut(place);
                region.set(at, packed);
                if packed.is_absent() && region.is_empty() {
                    self.forget(key, place);
                }
            }
            None if packed.is_absent() => {}
            None => {
                let place = self.regions.insert(Region::One(at, packed));
                self.order.insert(key, place);
                self.recent.set(Some((key, place)));
            }
        }
    }

    /// Shows each page with a record in `range` to `visit`, which returns its new record, until `limit` pages were shown.
    /// Returns where to go on, if there may be more.
    pub fn visit(
        &mut self,
        range: PageRange,
        limit: usize,
        mut visit: impl FnMut(Vpn, Record) -> Record,
    ) -> Option<Vpn> {
        let mut left = limit;
        let mut next = range.start;
        while next < range.end {
            let (&key, &place) = self.order.range(split(next).0..).next()?;
            let base = key * REGION as u64;
            if base >= range.end.as_u64() {
                return None;
            }
            let from = next.as_u64().max(base) - base;
            let to = (range.end.as_u64() - base).min(REGION as u64);
            let region = self.regions.get_mut(place);
            let stopped = region.visit(from as u16..to as u16, &mut left, |at, record| {
                visit(Vpn::new(base + u64::from(at)), record.into()).into()
            });
            if region.is_empty() {
                self.forget(key, place);
            }
            if let Some(at) = stopped {
                return Some(Vpn::new(base + u64::from(at)));
            }
            next = Vpn::new(base + REGION as u64);
        }
        None
    }

    /// Whether no page has a record.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[inline(always)]
    fn find(&self, key: u64) -> Option<u32> {
        if let Some((recent, place)) = self.recent.get()
            && recent == key
        {
            return Some(place);
        }
        self.search(key)
    }

    #[inline(never)]
    fn search(&self, key: u64) -> Option<u32> {
        let place = *self.order.get(&key)?;
        self.recent.set(Some((key, place)));
        Some(place)
    }

    fn forget(&mut self, key: u64, place: u32) {
        self.order.remove(&key);
        self.recent.set(None);
        self.regions.remove(place);
    }
}

/// Regions in one piece of memory after another, so that they have a place of four bytes. Never allocates to remove one.
#[derive(Default)]
struct Slab {
    pieces: Vec<Vec<Region>>,
    vacant: Option<u32>,
    used: usize,
}

/// Regions in a piece: 4 KiB.
const PIECE: usize = 256;

impl Slab {
    #[inline(always)]
    fn get(&self, place: u32) -> &Region {
        &self.pieces[place as usize / PIECE][place as usize % PIECE]
    }

    #[inline(always)]
    fn get_mut(&mut self, place: u32) -> &mut Region {
        &mut self.pieces[place as usize / PIECE][place as usize % PIECE]
    }

    fn insert(&mut self, region: Region) -> u32 {
        self.used += 1;
        if let Some(place) = self.vacant {
            if let Region::Vacant(next) = core::mem::replace(self.get_mut(place), region) {
                self.vacant = next;
            }
            return place;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let last = self.pieces.len() - 1;
        self.pieces[last].push(region);
        (last * PIECE + self.pieces[last].len() - 1) as u32
    }

    fn remove(&mut self, place: u32) {
        *self.get_mut(place) = Region::Vacant(self.vacant);
        self.vacant = Some(place);
        self.used -= 1;
        if self.used == 0 {
            *self = Self::default();
        }
    }
}

impl Region {
    #[inline(always)]
    fn get(&self, at: u16) -> PackedRecord {
        if let Region::Dense(_, all) = self { all[usize::from(at)] } else { self.get_few(at) }
    }

    #[inline(never)]
    fn get_few(&self, at: u16) -> PackedRecord {
        match self {
            Region::One(only, record) if *only == at => *record,
            Region::One(..) => PackedRecord::ABSENT,
            Region::Few(few) => few.binary_search_by_key(&at, |e| e.0).map_or(PackedRecord::ABSENT, |i| few[i].1),
            Region::Dense(_, all) => all[usize::from(at)],
            Region::Vacant(_) => PackedRecord::ABSENT,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Region::One(_, record) => record.is_absent(),
            Region::Few(few) => few.is_empty(),
            Region::Dense(count, _) => *count == 0,
            Region::Vacant(_) => true,
        }
    }

    fn set(&mut self, at: u16, record: PackedRecord) {
        match self {
            Region::One(only, slot) if *only == at || slot.is_absent() => *self = Region::One(at, record),
            Region::One(..) if record.is_absent() => {}
            Region::One(only, slot) => {
                let mut few = vec![(*only, *slot), (at, record)];
                few.sort_unstable_by_key(|e| e.0);
                *self = Region::Few(Box::new(few));
            }
            Region::Few(few) => match few.binary_search_by_key(&at, |e| e.0) {
                Ok(i) if record.is_absent() => drop(few.remove(i)),
                Ok(i) => few[i].1 = record,
                Err(_) if record.is_absent() => {}
                Err(i) if few.len() < FEW => few.insert(i, (at, record)),
                Err(_) => {
                    let mut dense = dense(few);
                    dense[usize::from(at)] = record;
                    *self = Region::Dense(FEW as u16 + 1, dense);
                }
            },
            Region::Dense(count, all) => set_dense(count, all, at, record),
            Region::Vacant(_) => unreachable!("no key leads here"),
        }
    }

    /// Visits the present records in `range`; returns the first position not visited if `left` ran out.
    fn visit(
        &mut self,
        range: core::ops::Range<u16>,
        left: &mut usize,
        mut visit: impl FnMut(u16, PackedRecord) -> PackedRecord,
    ) -> Option<u16> {
        let mut each = |at: u16, slot: &mut PackedRecord| {
            if *left == 0 {
                return Some(at);
            }
            *left -= 1;
            *slot = visit(at, *slot);
            None
        };
        match self {
            Region::One(at, slot) if range.contains(at) && !slot.is_absent() => each(*at, slot),
            Region::One(..) => None,
            Region::Few(few) => {
                let stopped = few.iter_mut().filter(|e| range.contains(&e.0)).find_map(|e| each(e.0, &mut e.1));
                few.retain(|e| !e.1.is_absent());
                stopped
            }
            Region::Dense(count, all) => {
                let slots = all[usize::from(range.start)..usize::from(range.end)].iter_mut();
                let present = slots.enumerate().filter(|(_, slot)| !slot.is_absent());
                let mut stopped = None;
                for (i, slot) in present {
                    stopped = each(range.start + i as u16, slot);
                    if stopped.is_some() {
                        break;
                    }
                    *count -= u16::from(slot.is_absent());
                }
                stopped
            }
            Region::Vacant(_) => None,
        }
    }
}

#[inline(always)]
fn set_dense(count: &mut u16, all: &mut Dense, at: u16, record: PackedRecord) {
    let slot = &mut all[usize::from(at)];
    *count = *count + u16::from(!record.is_absent()) - u16::from(!slot.is_absent());
    *slot = record;
}

fn dense(few: &[(u16, PackedRecord)]) -> Dense {
    let mut all: Dense =
        vec![PackedRecord::ABSENT; REGION].into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!());
    few.iter().for_each(|e| all[usize::from(e.0)] = e.1);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Pfn;

    #[test]
    fn follows_a_plain_map() {
        let mut index = PageIndex::default();
        let mut model = BTreeMap::new();
        let mut x = 3u64;
        for step in 0..60_000u64 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let page = Vpn::new((x >> 33) % if step % 3 == 0 { 1 << 20 } else { 2048 });
            let record = if x >> 32 & 3 == 0 { Record::Absent } else { Record::Resident(Pfn::new(step as u32)) };
            index.set(page, record);
            if record == Record::Absent {
                model.remove(&page);
            } else {
                model.insert(page, record);
            }
            assert_eq!(index.get(page), record);
            if step % 1000 == 0 {
                let start = Vpn::new((x >> 20) % 4096);
                let range = PageRange::new(start, (x >> 40) % 3000);
                let mut seen = Vec::new();
                let mut at = Some(range.start);
                while let Some(from) = at {
                    let rest = PageRange { start: from, end: range.end };
                    at = index.visit(rest, 100, |page, record| {
                        seen.push((page, record));
                        if page.as_u64().is_multiple_of(2) { Record::Absent } else { record }
                    });
                }
                let expected: Vec<_> = model.range(range.start..range.end).map(|(p, r)| (*p, *r)).collect();
                assert_eq!(seen, expected);
                model.retain(|p, _| !(range.contains(*p) && p.as_u64().is_multiple_of(2)));
            }
        }
        index.visit(PageRange::new(Vpn::new(0), 1 << 36), usize::MAX, |_, _| Record::Absent);
        assert!(index.is_empty());
    }
}
