//! The reverse map: which page tables refer to a frame.
//!
//! Owns the mappings of each frame. The first stands in the frame's descriptor; further ones take entries of a pool of fixed size, so
//! that mapping a page allocates nothing. A mapping is only a cache of what the index says, so when the pool is empty another mapping
//! of the same frame is given up for the new one; a fault brings it back. Does not own entries of page tables (that is
//! [`crate::platform::PageTable`]) nor what a page is; [`crate::reclaim`], write-back and truncation come here to unmap one everywhere.
//!
//! ```text
//!   FrameDesc { place, more } ──► pool entry { place, next } ──► pool entry { place, next } ──► nothing
//! ```

use crate::addr::Pfn;
use crate::frame::{FrameAllocator, FrameTable};
use crate::home::{PackedPlace, Place};
use crate::manager::Core;
use crate::platform::{Mapping, PageTable, Platform};
use alloc::vec::Vec;

/// The end of a chain.
pub(crate) const NO_ENTRY: u32 = u32::MAX;

/// A mapping beyond a frame's first.
#[derive(Clone, Copy)]
struct Entry {
    place: PackedPlace,
    /// The next entry of the same frame, or of the free list.
    next: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// Entries of the pool: `size = used + free`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MapPoolCounts {
    /// Entries there are.
    pub size: usize,
    /// Entries in use.
    pub used: usize,
    /// Entries that can be taken.
    pub free: usize,
}

/// Mappings beyond the first of each frame.
pub(crate) struct MapPool {
    entries: Vec<Entry>,
    vacant: u32,
    used: usize,
}

impl MapPool {
    /// A pool of `size` entries, all free.
    pub fn new(size: usize) -> Self {
        let next = |i: usize| if i + 1 == size { NO_ENTRY } else { i as u32 + 1 };
        let entries = (0..size).map(|i| Entry { place: PackedPlace::NONE, next: next(i) }).collect();
        Self { entries, vacant: if size == 0 { NO_ENTRY } else { 0 }, used: 0 }
    }

    /// Entries for a machine of so many frames: one for each four, within reason.
    pub fn size_for(frames: usize) -> usize {
        (frames / 4).clamp(16, 1 << 17)
    }

    pub fn counts(&self) -> MapPoolCounts {
        let mut free = 0;
        if cfg!(debug_assertions) {
            let mut at = self.vacant;
            while at != NO_ENTRY {
                free += 1;
                at = self.entries[at as usize].next;
            }
        } else {
            free = self.entries.len() - self.used;
        }
        MapPoolCounts { size: self.entries.len(), used: self.used, free }
    }

    /// Puts a place in front of the chain that begins at `next`: where it begins now, or `None` if the pool is empty.
    fn push(&mut self, place: PackedPlace, next: u32) -> Option<u32> {
        let at = self.vacant;
        let entry = self.entries.get_mut(at as usize)?;
        self.vacant = entry.next;
        *entry = Entry { place, next };
        self.used += 1;
        Some(at)
    }

    /// Gives an entry back; returns what it held, and what came after it.
    fn pop(&mut self, at: u32) -> (PackedPlace, u32) {
        let entry = &mut self.entries[at as usize];
        let held = (entry.place, entry.next);
        *entry = Entry { place: PackedPlace::NONE, next: self.vacant };
        self.vacant = at;
        self.used -= 1;
        held
    }

    /// Takes `place` out of the chain that begins at `first`: where that begins now, or `None` if it is not in there.
    fn remove(&mut self, first: u32, place: PackedPlace) -> Option<u32> {
        let (mut before, mut at) = (NO_ENTRY, first);
        while at != NO_ENTRY {
            let entry = self.entries[at as usize];
            if entry.place == place {
                let (_, next) = self.pop(at);
                if before == NO_ENTRY {
                    return Some(next);
                }
                self.entries[before as usize].next = next;
                return Some(first);
            }
            (before, at) = (at, entry.next);
        }
        None
    }

    /// The places of a frame.
    pub fn places(&self, table: &FrameTable, frame: Pfn) -> impl Iterator<Item = Place> {
        let desc = table.get(frame);
        let mut at = desc.more();
        let further = core::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            entry.place.get()
        });
        desc.place().get().into_iter().chain(further)
    }
}

impl<P: Platform> Core<P> {
    /// The page tables refer to `frame` at `place` from now on.
    #[inline(always)]
    pub fn note_mapped(&mut self, frames: &FrameAllocator<P::Lock>, place: Place, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        if desc.place() == PackedPlace::NONE {
            desc.set_place(PackedPlace::new(place));
        } else {
            self.note_mapped_again(frames, place, frame);
        }
    }

    #[cold]
    fn note_mapped_again(&mut self, frames: &FrameAllocator<P::Lock>, place: Place, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        if let Some(first) = self.mappings.push(PackedPlace::new(place), desc.more()) {
            desc.set_more(first);
            return;
        }
        // The pool is empty. If the frame has several mappings, this gives an entry back; if it has one, there is room for the new.
        self.counters.pgunmap_pool += 1;
        if let Some(victim) = desc.place().get() {
            self.unmap_page(frames, victim);
        }
        self.note_mapped(frames, place, frame);
    }

    /// The page tables do not refer to `frame` at `place` any more.
    #[inline]
    pub fn forget_mapping(&mut self, place: Place, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        let (packed, more) = (PackedPlace::new(place), desc.more());
        if desc.place() != packed {
            self.forget_further(place, frame);
        } else if more == NO_ENTRY {
            desc.set_place(PackedPlace::NONE);
        } else {
            let (next, rest) = self.mappings.pop(more);
            desc.set_place(next);
            desc.set_more(rest);
        }
    }

    /// As [`Self::forget_mapping`], for one beyond the first.
    #[cold]
    fn forget_further(&mut self, place: Place, frame: Pfn) {
        let desc = self.table.get_mut(frame);
        let first = self.mappings.remove(desc.more(), PackedPlace::new(place));
        desc.set_more(first.unwrap_or_else(|| panic!("{place:?} was mapped to {frame:?}, which knows nothing of it")));
    }

    /// Removes every mapping of a frame, flushes, and takes in the A and D bits: the one way to make a page leave all page tables.
    pub fn unmap_everywhere(&mut self, frames: &FrameAllocator<P::Lock>, frame: Pfn) {
        while let Some(place) = self.table.get(frame).place().get() {
            self.unmap_page(frames, place);
        }
    }

    /// Whether any mapping of a frame was used since the last time: its A bits, which are cleared.
    pub fn harvest_accessed(&mut self, frame: Pfn) -> bool {
        let Self { mappings, table, spaces, .. } = self;
        mappings.places(table, frame).fold(false, |used, (space, page)| {
            let Some(s) = spaces.get_mut(space) else { return used };
            let stale = s.table.harvest(page);
            used | stale.is_some_and(|stale| s.table.flush(stale.unless_unused()).accessed)
        })
    }

    /// Whether any mapping of a frame has its D bit set.
    pub fn written_by_mapping(&mut self, frame: Pfn) -> bool {
        self.any_mapping(frame, |mapping| mapping.dirty)
    }

    /// Whether any mapping of a frame has its A bit set, which stays.
    pub fn accessed_by_mapping(&mut self, frame: Pfn) -> bool {
        self.any_mapping(frame, |mapping| mapping.accessed)
    }

    fn any_mapping(&mut self, frame: Pfn, says: impl Fn(Mapping) -> bool) -> bool {
        let Self { mappings, table, spaces, .. } = self;
        mappings
            .places(table, frame)
            .any(|(space, page)| spaces.get_mut(space).and_then(|s| s.table.lookup(page)).is_some_and(&says))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Vpn;
    use crate::space::SpaceId;

    fn place(page: u64) -> PackedPlace {
        PackedPlace::new((SpaceId::new(1), Vpn::new(page)))
    }

    #[test]
    fn a_pool_gives_each_entry_once_and_takes_it_back() {
        let mut pool = MapPool::new(3);
        let mut first = NO_ENTRY;
        for page in 1..=3 {
            first = pool.push(place(page), first).expect("there is room");
        }
        assert_eq!(pool.push(place(4), first), None);
        assert_eq!(pool.counts(), MapPoolCounts { size: 3, used: 3, free: 0 });
        assert_eq!(pool.remove(first, place(9)), None);
        assert_eq!(pool.remove(first, place(2)), Some(first));
        let first = pool.remove(first, place(3)).expect("it is the first");
        assert_eq!(pool.pop(first), (place(1), NO_ENTRY));
        assert_eq!(pool.counts(), MapPoolCounts { size: 3, used: 0, free: 3 });
    }

    #[test]
    fn a_machine_may_have_no_pool() {
        let mut pool = MapPool::new(0);
        assert_eq!(pool.push(place(1), NO_ENTRY), None);
        assert_eq!(pool.counts(), MapPoolCounts::default());
    }
}
