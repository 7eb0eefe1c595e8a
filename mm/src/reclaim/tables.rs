//! Page tables as victims: they are a cache, and under shortage they go like pages.
//!
//! Owns what it takes to judge and drop a last-level table; those above it go with their last entry. A table stands in the policy's
//! lists with the pages, by its frame, so the oldest goes first; dropping it costs no I/O and no memory, and the pages stay where
//! they are. Without this a program that *reads* a page here and a page there would fill RAM with tables that nothing gives back:
//! what it reads is on the frame of zeroes, which is nobody's to evict.

use super::{Effort, Fate, Sample};
use crate::addr::{PageRange, Pfn, Vpn};
use crate::home::Home;
use crate::manager::{Core, Mm};
use crate::platform::{Mapping, PageTable, Platform};
use crate::space::SpaceId;
use arrayvec::ArrayVec;
use core::ops::ControlFlow;

/// Entries beyond which a table is worth more than its frame: it goes with the last of its pages, or when nothing else can.
const FEW: usize = 64;

/// Entries of a table.
pub(super) const ENTRIES: usize = 512;

impl<P: Platform> Mm<P> {
    /// Whether a table was used: the A bits of its entries, which are cleared and noted with their pages. A table counts as used while
    /// it is held, or maps a held page, or maps many; or a locked one: that a page is locked which several have, its mappings say.
    pub(super) fn sample_table(&self, core: &mut Core<P>, frame: Pfn) -> Sample {
        let desc = core.table.get(frame);
        let (Home::Private(space, page), held) = (desc.home(), desc.holds() > 0) else {
            unreachable!("a table is one space's")
        };
        let most = match core.progress.effort(core.candidates()) {
            _ if self.config.torture => ENTRIES,
            Effort::Usual => FEW,
            Effort::Last => ENTRIES,
        };
        let Core { spaces, table: descs, zero, locking, .. } = core;
        let Some(s) = spaces.get_mut(space) else { return Sample::Used };
        let first = Vpn::new(page.as_u64() & !(ENTRIES as u64 - 1));
        let mut accessed = [0u64; ENTRIES / 64];
        let locked = *locking && s.vmas.is_locked_in(PageRange::new(first, ENTRIES as u64));
        let (mut entries, mut needed) = (0, held || locked);
        s.table.each_mapping(page, &mut |page, mapping| {
            entries += 1;
            needed |= descs.get(mapping.frame).holds() > 0;
            let at = (page.as_u64() - first.as_u64()) as usize;
            accessed[at / 64] |= u64::from(mapping.accessed) << (at % 64);
            if needed || entries > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if needed || entries > most {
            return Sample::Used;
        }
        let used = (0..ENTRIES).filter(|at| accessed[at / 64] >> (at % 64) & 1 == 1);
        let mut sample = Sample::Idle;
        for at in used {
            let Some(stale) = s.table.harvest(first.offset(at as u64)) else { continue };
            let mapping = s.table.flush(stale);
            if mapping.frame != *zero {
                descs.get_mut(mapping.frame).set_young(true);
            }
            sample = Sample::Used;
        }
        if self.config.torture { Sample::Idle } else { sample }
    }

    /// Gives up a table that is on no list.
    pub(super) fn evict_table(&self, core: &mut Core<P>, frame: Pfn) -> Fate {
        let Home::Private(space, page) = core.table.get(frame).home() else { unreachable!("a table is one space's") };
        self.drop_table(core, space, page);
        Fate::TableFreed
    }

    /// Drops the last-level page table that covers a page of a space, live entries and all: it is only a cache.
    pub fn drop_page_table(&self, space: SpaceId, page: Vpn) {
        self.core.with_lock(|core| self.drop_table(core, space, page));
        self.announce_frames();
    }

    fn drop_table(&self, core: &mut Core<P>, space: SpaceId, page: Vpn) {
        let zero = core.zero;
        let Some(s) = core.spaces.get_mut(space) else {
            return;
        };
        let mut lost: ArrayVec<(Vpn, Mapping), ENTRIES> = ArrayVec::new();
        let Some(stale) = s.table.drop_table(page, &mut |page, mapping| {
            if mapping.frame != zero {
                lost.push((page, mapping));
            }
        }) else {
            return;
        };
        let tables = s.table.flush_region(stale);
        core.counters.ptdrop += 1;
        core.free_tables(self.frames, tables);
        lost.into_iter().for_each(|(page, was)| core.note_unmapped((space, page), was));
    }
}
