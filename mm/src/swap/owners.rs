//! Which group each slot is charged to.
//!
//! Owns a byte per slot and the sums, from the moment the first group is made: a machine without groups pays nothing. A slot is charged
//! when a page is put into it and until it is free, even while the page is in RAM again (Linux counts its swap cache in the same way).

use crate::group::{GroupId, MAX_GROUPS};
use crate::manager::NoMemory;
use crate::platform::Slot;
use alloc::vec::Vec;

/// The owners of all slots.
#[derive(Default)]
pub(super) struct Owners {
    /// By slot; empty until there is a group.
    by_slot: Vec<u8>,
    charged: [u32; MAX_GROUPS + 1],
}

impl Owners {
    /// Begins to keep owners; what is in use so far is the root's.
    pub fn keep(&mut self, slots: u32) -> Result<(), NoMemory> {
        let missing = (slots as usize).saturating_sub(self.by_slot.len());
        self.by_slot.try_reserve_exact(missing).map_err(|_| NoMemory)?;
        self.by_slot.resize(slots as usize, GroupId::ROOT.raw());
        Ok(())
    }

    pub fn charged(&self, group: GroupId) -> u64 {
        u64::from(self.charged[usize::from(group.raw())])
    }

    pub fn of(&self, slot: Slot) -> GroupId {
        self.by_slot.get(slot.as_u32() as usize).map_or(GroupId::ROOT, |owner| GroupId::new(*owner))
    }

    pub fn charge(&mut self, slot: Slot, group: GroupId) {
        if let Some(owner) = self.by_slot.get_mut(slot.as_u32() as usize).filter(|_| !group.is_root()) {
            debug_assert_eq!(*owner, GroupId::ROOT.raw(), "{slot:?} is charged twice");
            *owner = group.raw();
            self.charged[usize::from(group.raw())] += 1;
        }
    }

    /// A page that would have a slot if it were not in the compressed tier.
    pub fn charge_page(&mut self, group: GroupId) {
        if !group.is_root() {
            self.charged[usize::from(group.raw())] += 1;
        }
    }

    /// So many such pages are gone.
    pub fn uncharge_pages(&mut self, group: GroupId, pages: u32) {
        if !group.is_root() {
            self.charged[usize::from(group.raw())] -= pages;
        }
    }

    /// A slot is free, or lost.
    pub fn uncharge(&mut self, slot: Slot) {
        if let Some(owner) = self.by_slot.get_mut(slot.as_u32() as usize).filter(|owner| **owner != 0) {
            self.charged[usize::from(*owner)] -= 1;
            *owner = GroupId::ROOT.raw();
        }
    }

    /// Makes the root the owner of what is `group`'s, for `count` slots from `start` on. Returns where to go on.
    pub fn disown(&mut self, group: GroupId, start: usize, count: usize) -> Option<usize> {
        let end = self.by_slot.len().min(start + count);
        for slot in start..end {
            if self.by_slot[slot] == group.raw() {
                self.uncharge(Slot::new(slot as u32));
            }
        }
        (end < self.by_slot.len()).then_some(end)
    }
}
