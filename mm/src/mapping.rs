//! Entries of page tables: the one place that makes a page of a space refer to a frame, and the one that takes that back.
//!
//! Owns the bookkeeping that goes with an entry: the reverse map ([`crate::rmap`]) is told, the A and D bits of what is removed are
//! taken in, and page tables are put on the policy's lists and off them. Does not decide what is mapped with which rights: that is
//! [`crate::fault`], upwards, and [`crate::swapin`] for what comes along; nor what is unmapped: that is reclaim, the areas, and objects.

use crate::addr::Pfn;
use crate::frame::{FrameAllocator, FrameKind, Residence};
use crate::home::{Home, PackedPlace, Place};
use crate::manager::Core;
use crate::page::Record;
use crate::platform::{Mapping, NoTableFrame, PageTable, Platform, RetiredTables, Rights};
use crate::space::{CHUNK, Space};
use crate::stats::PageClass;

impl<P: Platform> Core<P> {
    /// Makes `page` of a space refer to `frame`, which it does not yet. Returns the frame of the last-level table, which reclaim may
    /// drop from now on, or `None` if there is no frame for a page table.
    pub fn map_page(
        &mut self,
        frames: &FrameAllocator<P::Lock>,
        place: Place,
        frame: Pfn,
        rights: Rights,
    ) -> Option<Pfn> {
        let s = self.spaces.get_mut(place.0)?;
        let leaf = match s.table.map(place.1, frame, rights, &mut || None) {
            Ok(leaf) => leaf,
            Err(NoTableFrame) => self.map_with_table(frames, place, frame, rights)?,
        };
        if frame != self.zero {
            self.note_mapped(frames, place, frame);
            self.count_object_mapping(place, frame, PageClass::Absent, PageClass::ObjectMapped);
        }
        Some(leaf)
    }

    /// As [`Self::map_page`], for a page of a space's own that has had neither record nor frame: it is counted, recorded and mapped. Fails
    /// if it could not be mapped; the rest is done all the same.
    #[inline(always)]
    pub fn map_new(
        &mut self,
        frames: &FrameAllocator<P::Lock>,
        place: Place,
        frame: Pfn,
        rights: Rights,
    ) -> Option<()> {
        let Self { spaces, table, pages, .. } = self;
        let s = spaces.get_mut(place.0)?;
        pages.shift(PageClass::Absent, PageClass::Dirty);
        s.shift(PageClass::Absent, PageClass::Dirty);
        s.index.set(place.1, Record::Resident(frame));
        match s.table.map(place.1, frame, rights, &mut || None) {
            Ok(_) => table.get_mut(frame).set_place(PackedPlace::new(place)),
            Err(NoTableFrame) => {
                self.map_with_table(frames, place, frame, rights)?;
                self.note_mapped(frames, place, frame);
            }
        }
        Some(())
    }

    /// The entry of a page whose last-level table is not there, and the table.
    #[inline(never)]
    fn map_with_table(
        &mut self,
        frames: &FrameAllocator<P::Lock>,
        place: Place,
        frame: Pfn,
        rights: Rights,
    ) -> Option<Pfn> {
        let s = self.spaces.get_mut(place.0)?;
        let (reserve, mut built) = (self.table_reserve, false);
        let mut source = || {
            built = true;
            (frames.free_frames() > reserve).then(|| frames.alloc_page(FrameKind::PageTable)).flatten()
        };
        let leaf = s.table.map(place.1, frame, rights, &mut source).ok()?;
        if built {
            self.table.get_mut(leaf).reset(Home::Private(place.0, place.1), Residence::Table);
            self.admit(leaf);
        }
        Some(leaf)
    }

    /// As [`Self::map_page`], if that takes no page table and the page is its space's alone. Nothing asked for it: the entry says that
    /// the page was neither read nor written.
    pub fn map_if_cheap(&mut self, frames: &FrameAllocator<P::Lock>, place: Place, frame: Pfn, rights: Rights) {
        debug_assert!(self.table.get(frame).home().is_private());
        let Some(s) = self.spaces.get_mut(place.0) else { return };
        if s.table.map(place.1, frame, rights, &mut || None).is_ok() {
            self.note_mapped(frames, place, frame);
        }
    }

    /// Frees page tables that are left without an entry.
    #[inline(never)]
    pub fn free_tables(&mut self, frames: &FrameAllocator<P::Lock>, tables: RetiredTables) {
        for token in tables {
            let frame = token.pfn();
            if self.table.get(frame).residence() == Residence::Table {
                self.forget(frame);
                self.void_holds(frame);
                self.table.get_mut(frame).set_residence(Residence::None);
            }
            frames.free(token);
        }
    }

    /// Removes the mapping of a page, if there is one, flushes, and takes in its A and D bits.
    pub fn unmap_page(&mut self, frames: &FrameAllocator<P::Lock>, place: Place) {
        let Some(Space { table, .. }) = self.spaces.get_mut(place.0) else {
            return;
        };
        let Some(stale) = table.unmap(place.1) else {
            return;
        };
        let (mapping, tables) = table.flush(stale.unless_unused());
        if !tables.is_empty() {
            self.free_tables(frames, tables);
        }
        if mapping.frame != self.zero {
            self.note_unmapped(place, mapping);
        }
    }

    /// As [`Self::unmap_page`], for a page of the space's own that is given up, so that its D bit says nothing any more.
    #[inline(always)]
    pub fn unmap_for_good(&mut self, frames: &FrameAllocator<P::Lock>, place: Place) {
        let Self { spaces, table, .. } = self;
        let Some(Space { table: entries, .. }) = spaces.get_mut(place.0) else { return };
        let Some(stale) = entries.unmap(place.1) else { return };
        let (mapping, tables) = entries.flush(stale);
        let desc = table.get_mut(mapping.frame);
        if desc.is_mapped_only_at(place) {
            desc.set_place(PackedPlace::NONE);
            desc.set_young(desc.young() || mapping.accessed);
        } else {
            self.note_unmapped(place, mapping);
        }
        if !tables.is_empty() {
            self.free_tables(frames, tables);
        }
    }

    /// Takes in that a mapping was removed, and what it said.
    pub fn note_unmapped(&mut self, place: Place, mapping: Mapping) {
        self.forget_mapping(place, mapping.frame);
        self.count_object_mapping(place, mapping.frame, PageClass::ObjectMapped, PageClass::Absent);
        if mapping.accessed {
            self.table.get_mut(mapping.frame).set_young(true);
        }
        if mapping.dirty {
            self.note_dirty(mapping.frame);
        }
    }

    /// Counts a mapping of a space, if what it maps is an object's.
    #[inline]
    fn count_object_mapping(&mut self, place: Place, frame: Pfn, from: PageClass, to: PageClass) {
        if self.table.get(frame).home().is_object()
            && let Some(s) = self.spaces.get_mut(place.0)
        {
            s.shift(from, to);
        }
    }

    /// Takes in a D bit.
    pub fn note_dirty(&mut self, frame: Pfn) {
        match self.table.get(frame).residence() {
            Residence::Clean => self.became_dirty(frame),
            Residence::Cleaning | Residence::Evicting => self.table.get_mut(frame).set_rewritten(true),
            _ => {}
        }
    }

    /// Takes in D bits from frame `start` on, for as many pages as one poll may handle. Returns where to go on.
    pub fn take_in_dirty_bits(&mut self, start: usize) -> Option<usize> {
        /// Frames looked at in one poll: most need nothing done, but on a large machine there are millions.
        const GLANCES: usize = 16 * CHUNK;
        let mut left = CHUNK;
        for index in start..self.table.len() {
            if left == 0 || index - start == GLANCES {
                return Some(index);
            }
            let frame = Pfn::new(index as u32);
            let desc = self.table.get(frame);
            if desc.residence() != Residence::Clean || !desc.mapped() {
                continue;
            }
            left -= 1;
            if self.written_by_mapping(frame) {
                self.note_dirty(frame);
            }
        }
        None
    }
}
