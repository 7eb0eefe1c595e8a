//! What every [`PageTable`] does, as one suite: the simulator's on the host and the kernel's on the machine keep the same contract.
//!
//! Owns a plain model of page tables and a random walk that holds a real one against it, operation by operation: what is mapped where,
//! with which rights and bits, which tables there are, and that every frame taken for a table comes back. Why this is part of the crate and not a
//! test: the kernel runs it too (`selftest=page-tables`), and what the host's tests show of `mm` is true of the machine as far as the
//! two page tables are alike.

use crate::addr::{Pfn, Vpn};
use crate::frame::Frame;
use crate::platform::{Mapping, NoTableFrame, PageTable, Permission, Rights};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// log2 of the pages that a table of each level covers, on x86 with four levels (SDM vol. 3A §4.5).
const COVERS: [u32; 3] = [9, 18, 27];

/// Where tables get their frames, and where they go.
pub trait TableFrames {
    /// A frame for a table, unless there is none now.
    fn take(&mut self) -> Option<Frame>;
    /// A table's frame that is not needed any more.
    fn give(&mut self, frame: Frame);
}

/// What was done.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Pages mapped.
    pub mapped: u64,
    /// Mappings refused for want of a frame.
    pub refused: u64,
    /// Pages unmapped, one by one or with their table.
    pub unmapped: u64,
    /// Tables that went.
    pub retired: u64,
}

/// A generator that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A page somewhere: close to others, in their table's neighbourhood, or far away.
fn page(random: &mut Random) -> Vpn {
    let far = random.below(3) << COVERS[2] | random.below(2) << COVERS[1] | random.below(3) << COVERS[0];
    Vpn::new(512 + far + random.below(12) * (1 + random.below(2) * 40))
}

/// Rights that entries have. Reading is part of all: what allows nothing has no entry.
const RIGHTS: [Rights; 4] = [
    Rights::READ,
    Rights::READ_WRITE,
    Rights::READ_EXECUTE,
    Rights { execute: Permission::Allowed, ..Rights::READ_WRITE },
];

/// What a table must say.
#[derive(Default)]
struct Model(BTreeMap<Vpn, (Pfn, Rights)>);

impl Model {
    /// Tables that there are if none is empty.
    fn tables(&self) -> usize {
        let parts = |shift: &u32| self.0.keys().map(|page| page.as_u64() >> shift).collect::<BTreeSet<_>>().len();
        COVERS.iter().map(parts).sum()
    }

    /// The pages that share a last-level table with `page`.
    fn beside(&self, page: Vpn) -> Vec<(Vpn, Pfn)> {
        let first = page.as_u64() >> COVERS[0] << COVERS[0];
        self.0
            .range(Vpn::new(first)..Vpn::new(first + (1 << COVERS[0])))
            .map(|(page, (frame, _))| (*page, *frame))
            .collect()
    }
}

/// Holds `table`, which must be empty, against a model for so many steps, then empties it. `targets` are frames to be mapped; nobody
/// writes to them or runs on the table.
///
/// # Panics
/// If the table does anything else than the model.
pub fn walk(
    table: &mut impl PageTable,
    frames: &mut impl TableFrames,
    targets: &[Pfn],
    steps: u64,
    seed: u64,
) -> Walked {
    let (mut random, mut model, mut done) = (Random(seed), Model::default(), Walked::default());
    for _ in 0..steps {
        let page = page(&mut random);
        let expected = model.0.get(&page).map(|(frame, _)| *frame);
        let rights = RIGHTS[random.below(RIGHTS.len() as u64) as usize];
        match random.below(8) {
            0..4 if expected.is_none() => {
                let frame = targets[random.below(targets.len() as u64) as usize];
                // Now and then there is no frame for a table: then nothing has changed.
                let mut left = if random.below(6) == 0 { random.below(3) } else { 3 };
                let mut take = || {
                    left = left.checked_sub(1)?;
                    frames.take()
                };
                match table.map(page, frame, rights, &mut take) {
                    Ok(_) => {
                        model.0.insert(page, (frame, rights));
                        done.mapped += 1;
                    }
                    Err(NoTableFrame) => done.refused += 1,
                }
            }
            0..4 => {
                let stale = table.protect(page, rights).expect("it is mapped");
                assert_clean(table.flush(stale), expected, page);
                model.0.entry(page).and_modify(|(_, allowed)| *allowed = rights);
            }
            4 | 5 => {
                let Some(stale) = table.unmap(page) else {
                    assert_eq!(expected, None, "{page:?} is mapped");
                    continue;
                };
                let (mapping, retired) = table.flush(stale);
                assert_clean(mapping, expected, page);
                model.0.remove(&page);
                done.unmapped += 1;
                retired.into_iter().for_each(|frame| {
                    done.retired += 1;
                    frames.give(frame);
                });
            }
            6 => {
                let harvested = table.harvest(page).map(|stale| table.flush(stale.unless_unused()).frame);
                assert_eq!(harvested, expected, "{page:?} harvested");
                let (mut seen, most) = (Vec::new(), 1 + random.below(20) as usize);
                table.each_mapping(page, &mut |page, mapping| {
                    seen.push((page, mapping.frame));
                    if seen.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                let mut beside = model.beside(page);
                beside.truncate(most);
                assert_eq!(seen, beside, "beside {page:?}");
            }
            _ => drop_table(table, frames, &mut model, page, &mut done),
        }
        let now = table.lookup(page).map(|mapping| mapping.frame).zip(table.rights(page));
        assert_eq!(now, model.0.get(&page).copied(), "{page:?}");
        assert_eq!(table.lookup(page).is_some(), table.rights(page).is_some(), "{page:?}");
        assert_eq!(table.tables(), model.tables(), "tables, with {} pages mapped", model.0.len());
    }
    // What is done to a page leaves the rights of all others alone.
    for (page, (_, rights)) in &model.0 {
        assert_eq!(table.rights(*page), Some(*rights), "{page:?}");
    }
    while let Some((&page, _)) = model.0.first_key_value() {
        drop_table(table, frames, &mut model, page, &mut done);
    }
    assert_eq!(table.tables(), 0, "nothing is mapped");
    done
}

fn drop_table(
    table: &mut impl PageTable,
    frames: &mut impl TableFrames,
    model: &mut Model,
    page: Vpn,
    done: &mut Walked,
) {
    let (mut seen, beside) = (Vec::new(), model.beside(page));
    let dropped = table.drop_table(page, &mut |page, mapping| seen.push((page, mapping.frame)));
    assert_eq!((dropped.is_some(), &seen), (!beside.is_empty(), &beside), "the table of {page:?}");
    let Some(stale) = dropped else { return };
    table.flush_region(stale).into_iter().for_each(|frame| {
        done.retired += 1;
        frames.give(frame);
    });
    done.unmapped += seen.len() as u64;
    model.0.retain(|page, _| !beside.iter().any(|(gone, _)| gone == page));
}

fn assert_clean(mapping: Mapping, frame: Option<Pfn>, page: Vpn) {
    assert_eq!(Some(mapping.frame), frame, "{page:?}");
    assert!(!mapping.dirty, "{page:?}: nobody has written to it");
}
