//! The whole state of the manager, checked against itself.
//!
//! Owns no state. The identities of [`crate::stats::Snapshot::check`] are sums; this looks at every page, frame and slot, and asks each whether the
//! others agree: record, descriptor, page-table entry, operation, slot. Slow, and only for tests.

use crate::addr::{PageRange, Pfn, Vpn};
use crate::anon::AnonId;
use crate::frame::Residence;
use crate::group::GroupId;
use crate::home::{Home, Place};
use crate::manager::{Core, Mm, class_of, class_of_copy};
use crate::object::{Backing, ObjectId, ObjectPage, Sharing};
use crate::ops::OpKind;
use crate::page::{PageCopy, Record};
use crate::platform::{PageTable, Platform, Slot};
use crate::space::{SpaceId, SpaceLayout};
use crate::stats::{PageClass, PageCounts};
use crate::tier::EntryState;
use alloc::{collections::BTreeMap, vec::Vec};

use super::{SimPlatform, SimTable};

/// The records of all pages, by where they stand.
type Records = BTreeMap<Home, Record>;

/// Everything that refers to a slot, to see that each has one user.
#[derive(Default)]
struct SlotUsers(BTreeMap<u32, &'static str>);

impl SlotUsers {
    fn add(&mut self, slot: Slot, who: &'static str) {
        if let Some(other) = self.0.insert(slot.as_u32(), who) {
            panic!("slot {slot:?} is used twice: {who} and {other}");
        }
    }
}

/// Asserts that records, descriptors, page tables, operations and slots agree.
pub(super) fn verify(mm: &Mm<SimPlatform>) {
    mm.core.with_lock(|core| {
        let records = all_records(core);
        verify_records(core, &records);
        verify_frames(core, &records);
        verify_tables(core, &records);
        verify_slots(core, &records);
        verify_tier(mm, core, &records);
    });
}

fn all_records<P: Platform>(core: &mut Core<P>) -> Records {
    let mut all = BTreeMap::new();
    all.extend(core.anons.iter().map(|(anon, record, _)| (Home::Anon(anon), record)));
    for (id, object) in core.objects.iter_mut() {
        let rest = object.index.visit(PageRange::new(Vpn::new(0), 1 << 36), usize::MAX, |page, record| {
            all.insert(Home::Object(id, ObjectPage::new(page.as_u64())), record);
            record
        });
        assert!(rest.is_none());
    }
    for (id, space) in core.spaces.iter_mut() {
        let SpaceLayout { bounds, .. } = space.layout;
        let mut pages = Vec::new();
        let rest = space.index.visit(bounds, usize::MAX, |page, record| {
            pages.push((page, record));
            record
        });
        assert!(rest.is_none());
        for (page, record) in pages {
            let area = PageRange::new(page, 1);
            assert!(space.vmas.overlapping(area).next().is_some(), "{page:?} is {record:?} in no area");
            all.insert(Home::Private(id, page), record);
        }
    }
    all
}

/// Each record's class is counted once, in its space and in all; a resident or filling record names a frame that names it back.
fn verify_records(core: &mut Core<SimPlatform>, records: &Records) {
    let mut total = PageCounts::default();
    let mut by_space: BTreeMap<SpaceId, PageCounts> = BTreeMap::new();
    let mut by_object: BTreeMap<ObjectId, PageCounts> = BTreeMap::new();
    let mut named: BTreeMap<AnonId, u32> = BTreeMap::new();
    for (&home, &record) in records {
        let class = match record {
            Record::Absent => unreachable!("absent pages have no record"),
            Record::Zero => PageClass::Zero,
            Record::Failed => PageClass::Failed,
            Record::Shared(anon) => {
                *named.entry(anon).or_default() += 1;
                PageClass::Shared
            }
            Record::Away(copy) => class_of_copy(copy),
            Record::Filling(op) => {
                let of_op = core.ops.get_mut(op).map(|op| (op.kind, op.pages.clone()));
                let (kind, pages) = of_op.unwrap_or_else(|| panic!("{home} waits for {op:?}, which is over"));
                let mine = pages.iter().any(|p| core.table.get(p.frame).home() == home);
                assert!(kind == OpKind::Fill && mine, "{home} is not filled by {op:?}");
                PageClass::Filling
            }
            Record::Resident(frame) => {
                let desc = core.table.get(frame);
                assert_eq!(desc.home(), home, "frame {frame:?} is another page's: {desc:?}");
                assert_ne!(class_of(desc.residence()), PageClass::Absent, "{home} in {desc:?}");
                class_of(desc.residence())
            }
        };
        total.shift(PageClass::Absent, class);
        match home {
            Home::Private(space, _) => by_space.entry(space).or_default().shift(PageClass::Absent, class),
            Home::Anon(_) => {}
            Home::Object(object, _) => by_object.entry(object).or_default().shift(PageClass::Absent, class),
        }
    }
    for index in 0..core.table.len() {
        let frame = Pfn::new(index as u32);
        if core.table.get(frame).home().is_object() {
            let mapped = core.mappings.places(&core.table, frame);
            mapped.for_each(|(space, _)| {
                by_space.entry(space).or_default().shift(PageClass::Absent, PageClass::ObjectMapped);
            });
        }
    }
    for (anon, _, refs) in core.anons.iter() {
        assert_eq!(named.get(&anon), Some(&refs), "how many have {anon:?}");
    }
    assert_eq!(total, core.pages, "pages by state");
    verify_objects(core, &by_object);
    for (id, space) in core.spaces.iter_mut() {
        let counted = by_space.get(&id).copied().unwrap_or_default();
        assert_eq!(space.pages, counted, "pages by state of {id:?}");
    }
}

/// What objects count is what there is: pages by state, and pages of areas that map them.
fn verify_objects(core: &mut Core<SimPlatform>, by_object: &BTreeMap<ObjectId, PageCounts>) {
    let mut mapped: BTreeMap<ObjectId, (u64, u64)> = BTreeMap::new();
    for (_, space) in core.spaces.iter_mut() {
        for area in space.vmas.iter() {
            if let Backing::Object { object, sharing, .. } = area.backing {
                let (all, open) = mapped.entry(object).or_default();
                *all += area.range.len();
                *open += if sharing == Sharing::Shared { area.range.len() } else { 0 };
                let is_writable = area.rights.write.is_allowed();
                assert!(!(is_writable && sharing == Sharing::Viewed), "{:?} is for reading only", area.range);
            }
        }
    }
    let mut dirty = 0;
    for (id, object) in core.objects.iter_mut() {
        if object.file().is_some() {
            dirty += [PageClass::Dirty, PageClass::Cleaning, PageClass::Evicting]
                .map(|c| object.pages.get(c))
                .iter()
                .sum::<u64>();
        }
        assert_eq!(object.pages, by_object.get(&id).copied().unwrap_or_default(), "pages by state of {id:?}");
        assert_eq!(object.mapped(), mapped.remove(&id).unwrap_or_default(), "pages of areas that map {id:?}");
    }
    assert_eq!(dirty, core.objects.dirty(), "dirty pages of files");
    assert!(mapped.is_empty(), "areas map objects that are gone: {mapped:?}");
}

/// Each descriptor is in a state that its flags, its copy, its record and the lists agree with.
fn verify_frames(core: &mut Core<SimPlatform>, records: &Records) {
    let mut lent: BTreeMap<Pfn, OpKind> = BTreeMap::new();
    let mut under_way: Vec<(Pfn, OpKind)> = Vec::new();
    core.ops.iter().for_each(|(_, op)| under_way.extend(op.pages.iter().map(|p| (p.frame, op.kind))));
    under_way.extend(core.batch.pages().iter().map(|p| (p.frame, OpKind::Clean)));
    for (frame, kind) in under_way {
        assert!(lent.insert(frame, kind).is_none(), "{frame:?} is in two requests");
    }
    let (mut held, mut listed, mut orphaned, mut further, mut ahead) = (0, 0, 0, 0, 0);
    for index in 0..core.table.len() {
        let frame = Pfn::new(index as u32);
        let desc = core.table.get(frame);
        let record = records.get(&desc.home()).copied();
        let resident = record == Some(Record::Resident(frame));
        let expected = match desc.residence() {
            Residence::None => (false, false, None, false),
            Residence::Table => (false, true, None, false),
            Residence::Filling => (false, false, Some(OpKind::Fill), false),
            Residence::Clean => (true, true, None, true),
            Residence::Dirty => (true, true, None, false),
            Residence::Cleaning | Residence::Evicting => (true, false, Some(OpKind::Clean), false),
            Residence::Orphaned => (false, false, lent.get(&frame).copied(), false),
        };
        let copied = desc.copy().is_some() && resident;
        let found = (resident, desc.listed(), lent.get(&frame).copied(), copied);
        assert_eq!(found, expected, "resident, listed, lent, copied of {frame:?}: {desc:?}, {record:?}");
        match desc.residence() {
            Residence::None | Residence::Filling | Residence::Evicting | Residence::Table => {
                assert!(!desc.mapped(), "{desc:?}")
            }
            Residence::Orphaned => {
                orphaned += 1;
                assert!(!desc.mapped() && lent.contains_key(&frame), "{desc:?}");
            }
            _ => {}
        }
        if desc.ahead() {
            ahead += 1;
            assert!(matches!(desc.residence(), Residence::Filling | Residence::Clean), "{desc:?}");
        }
        held += u64::from(desc.holds());
        listed += usize::from(desc.listed());
        let places: Vec<Place> = core.mappings.places(&core.table, frame).collect();
        assert!(places.is_empty() || resident, "{frame:?} is mapped at {places:?}: {record:?}");
        for (space, page) in places {
            further += 1;
            let entry = core.spaces.get_mut(space).and_then(|s| s.table.lookup(page)).map(|m| m.frame);
            assert_eq!(entry, Some(frame), "{frame:?} should be mapped at {page:?} of {space:?}");
        }
        further -= usize::from(core.table.get(frame).mapped());
    }
    assert_eq!(further, core.mappings.counts().used, "mappings beyond the first");
    assert_eq!(held, core.held, "holds");
    assert_eq!(listed, core.listed_pages(), "pages the policies know");
    verify_groups(core);
    assert_eq!(orphaned, core.orphaned_io, "orphans");
    assert_eq!(ahead, core.probation.pending(), "pages on probation");
}

/// Each group has the frames and slots that carry its name.
fn verify_groups(core: &mut Core<SimPlatform>) {
    let frames = |id| (0..core.table.len()).filter(|i| core.table.get(Pfn::new(*i as u32)).group() == id).count();
    for (id, group) in core.groups.iter() {
        assert_eq!(group.charged(), frames(id) as u64, "frames charged to {id:?}");
    }
    let free = core.table.len() - core.groups.iter().map(|(id, _)| frames(id)).sum::<usize>();
    assert_eq!(frames(GroupId::ROOT), free, "no frame is charged to a group that is not there");
}

/// Each page-table entry refers to the frame of its page, which knows of it, or of zeroes; and reclaim knows each last-level table.
fn verify_tables(core: &mut Core<SimPlatform>, records: &Records) {
    let Core { zero, spaces, mappings, table, objects, .. } = core;
    let (zero, mut leaves) = (*zero, 0);
    for (id, space) in spaces.iter_mut() {
        for (page, mapping) in SimTable::mappings(&space.table) {
            let mut record = records.get(&Home::Private(id, page)).copied();
            let object = space.vmas.find(page).and_then(|area| area.object_page(page));
            let is_copy_to_come = match (record, object) {
                (Some(Record::Shared(anon)), _) => {
                    record = records.get(&Home::Anon(anon)).copied();
                    true
                }
                (None, Some((object, page, sharing))) => {
                    record = records.get(&Home::Object(object, page)).copied();
                    sharing == Sharing::Private
                }
                _ => false,
            };
            let writable = space.table.rights(page).is_some_and(|rights| rights.write.is_allowed());
            assert!(!(writable && is_copy_to_come), "{page:?} of {id:?} is to be copied, and can be written");
            let desc = table.get(mapping.frame);
            let is_open = match desc.residence() {
                Residence::Cleaning => desc.rewritten(),
                residence => residence == Residence::Dirty,
            };
            let closed = objects.is_file(desc.home()).is_some() && !is_open;
            assert!(!(writable && closed), "{page:?} of {id:?} can be written, but {} is not dirty", desc.home());
            let known = mapping.frame == zero || mappings.places(table, mapping.frame).any(|place| place == (id, page));
            assert!(known, "{:?} does not know that {page:?} of {id:?} is mapped to it", mapping.frame);
            let expected = if mapping.frame == zero { Record::Zero } else { Record::Resident(mapping.frame) };
            assert_eq!(record, Some(expected), "{page:?} of {id:?} is mapped to {mapping:?}");
        }
        for (frame, first) in SimTable::leaves(&space.table) {
            let desc = table.get(frame);
            let Home::Private(owner, page) = desc.home() else { panic!("a table is one space's: {desc:?}") };
            let known =
                desc.residence() == Residence::Table && owner == id && page.as_u64() / 512 == first.as_u64() / 512;
            assert!(known, "the table of {first:?} of {id:?}: {desc:?}");
        }
        leaves += SimTable::leaves(&space.table).count();
    }
    let frames = (0..table.len()).map(|index| table.get(Pfn::new(index as u32)));
    assert_eq!(frames.filter(|desc| desc.residence() == Residence::Table).count(), leaves, "tables that reclaim knows");
}

/// Each slot in use is used by exactly one thing.
fn verify_slots(core: &mut Core<SimPlatform>, records: &Records) {
    let Some(swap) = &core.swap else { return };
    let mut users = SlotUsers::default();
    for record in records.values() {
        match record {
            Record::Away(PageCopy::Slot(slot, _)) => users.add(*slot, "a page that is away"),
            Record::Resident(frame) => {
                if let Some(slot) = core.table.get(*frame).copy().and_then(PageCopy::slot) {
                    users.add(slot, "a clean page");
                }
            }
            _ => {}
        }
    }
    let runs = core.ops.iter().filter(|(_, op)| op.kind != OpKind::Discard);
    for (_, op) in runs {
        (0..op.pages.len()).filter_map(|i| op.target.slot(i)).for_each(|slot| users.add(slot, "an operation"));
    }
    if let Some(first) = core.batch.slot() {
        (0..core.batch.len()).for_each(|i| users.add(Slot::new(first.as_u32() + i as u32), "the batch"));
    }
    for (_, entry) in core.tier.iter().flat_map(|tier| tier.iter()) {
        entry.copy.into_iter().for_each(|slot| users.add(slot, "a compressed page"));
    }
    if let Some(writing) = core.tier.as_ref().and_then(|tier| tier.writing()) {
        let slots = (writing.first.as_u32()..).zip(&writing.ids);
        slots.for_each(|(slot, _)| users.add(Slot::new(slot), "a page that leaves the tier"));
    }
    swap.reserved().for_each(|slot| users.add(slot, "the open run or a discard"));
    for slot in users.0.keys() {
        assert!(!swap.slots.is_free(Slot::new(*slot)), "slot {slot} is free, and {}", users.0[slot]);
    }
    // What a discard under way covers, only its request knows: whole clusters.
    let rest = swap.slots.counts().used.checked_sub(users.0.len() as u32).expect("slots with users are in use");
    let discards = core.ops.counts().discards as u32;
    let plausible = if discards == 0 { rest == 0 } else { rest >= discards * 64 && rest.is_multiple_of(64) };
    assert!(plausible, "{rest} slots are used by nothing, {discards} discards are under way");
}

/// Each page of the tier is named by its record, and comes to what that says; groups are charged for what they have there and in slots.
fn verify_tier(mm: &Mm<SimPlatform>, core: &mut Core<SimPlatform>, records: &Records) {
    let Core { tier: Some(tier), swap: Some(swap), groups, .. } = core else { return };
    let away = records.iter().filter_map(|(home, record)| match record {
        Record::Away(PageCopy::Tier(id, tag)) => Some((*id, (*home, *tag))),
        _ => None,
    });
    let mut away: BTreeMap<_, _> = away.collect();
    let mut charged: BTreeMap<u8, u64> = BTreeMap::new();
    let ids: Vec<_> = tier.iter().map(|(id, entry)| (id, *entry)).collect();
    for (id, entry) in &ids {
        let named = away.remove(id);
        assert_eq!(named, Some((entry.home.get(), entry.tag)), "{id:?} is {entry:?}");
        *charged.entry(entry.group.raw()).or_default() += u64::from(entry.copy.is_none());
        match entry.state {
            EntryState::Vacant => unreachable!("vacant entries are passed over"),
            EntryState::Waiting => {}
            EntryState::Writing(nth) => {
                let ids = tier.writing().map(|writing| writing.ids[usize::from(nth)]);
                assert_eq!(ids, Some(Some(*id)), "{entry:?}");
            }
        }
        let page = tier.peek(&mm.memory, *id).unwrap_or_else(|_| panic!("{entry:?} cannot be read"));
        let words = page.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let words: Vec<u64> = words.collect();
        let words = words.first_chunk().expect("a page of words");
        assert_eq!(swap.audit.tag(words), entry.tag, "what is in the tier of {}", entry.home.get());
    }
    assert!(away.is_empty(), "pages are away in a tier that does not have them: {away:?}");
    let waiting = core::iter::successors(tier.oldest(), |id| tier.younger(*id)).count();
    let written = tier.writing().map_or(0, |writing| writing.ids.iter().flatten().count());
    assert_eq!(waiting + written, ids.len(), "pages in the queue of the tier, and of its request");
    for (id, _) in groups.iter() {
        let slots = (0..swap.slots.counts().total + 1).filter(|slot| swap.owner(Slot::new(*slot)) == id).count();
        let pages = charged.remove(&id.raw()).unwrap_or(0);
        assert_eq!(swap.charged(id), slots as u64 + pages, "slots and compressed pages charged to {id:?}");
    }
    charged.remove(&GroupId::ROOT.raw());
    assert!(charged.is_empty(), "compressed pages are charged to groups that are not there: {charged:?}");
}

fn record<R>(
    mm: &Mm<SimPlatform>,
    (space, page): Place,
    look: impl FnOnce(&Core<SimPlatform>, Record) -> R,
) -> Option<R> {
    mm.core.with_lock(|core| {
        let (_, record) = core.resolve((space, page))?;
        Some(look(core, record))
    })
}

pub(super) fn frame_of(mm: &Mm<SimPlatform>, space: SpaceId, page: Vpn) -> Option<Pfn> {
    record(mm, (space, page), |_, record| match record {
        Record::Resident(frame) => Some(frame),
        _ => None,
    })?
}

pub(super) fn slot_of(mm: &Mm<SimPlatform>, space: SpaceId, page: Vpn) -> Option<Slot> {
    record(mm, (space, page), |core, record| match record {
        Record::Resident(frame) => core.table.get(frame).copy().and_then(PageCopy::slot),
        Record::Away(copy) => copy.slot(),
        _ => None,
    })?
}

pub(super) fn evict(mm: &Mm<SimPlatform>, space: SpaceId, range: PageRange) {
    mm.core.with_lock(|core| {
        for page in (range.start.as_u64()..range.end.as_u64()).map(Vpn::new) {
            let Some((_, Record::Resident(frame))) = core.resolve((space, page)) else { continue };
            if core.table.get(frame).listed() && core.table.get(frame).holds() == 0 {
                core.forget(frame);
                mm.evict_now(core, frame);
            }
        }
        mm.send_now(core);
    });
}

impl Mm<SimPlatform> {
    /// Areas looked at so far in a space: what its tree of areas costs, counted.
    pub fn area_looks(&self, space: SpaceId) -> u64 {
        self.core.with_lock(|core| core.spaces.get_mut(space).map_or(0, |s| s.vmas.looks()))
    }
}
