//! What threads of the storm do to areas: map, unmap, protect, discard; and programs that come and go.

use super::{ARENA_PAGES, LANES, Stage, Supply, Thread};
use crate::mm::model::{Change, Key};
use crate::mm::{PAGE, anonymous, word};
use mm::fault::{FaultError, Holds};
use mm::object::Backing;
use mm::platform::Rights;
use mm::space::{Label, MapError, MapRequest, Placement};
use std::sync::Arc;

/// The right to change an arena.
pub(super) struct Claim {
    stage: Arc<Stage>,
    index: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(mut busy) = self.stage.busy.lock() {
            busy[self.index] = false;
        }
    }
}

impl Thread {
    /// Takes the right to change an arena; nobody else changes it meanwhile, but everybody goes on using it.
    pub(super) fn claim(&self, arena: usize) -> Option<Claim> {
        let index = self.space * (self.stage.config.arenas + 1 + LANES) + arena;
        let mut busy = self.stage.busy.lock().expect("nobody panicked");
        (!core::mem::replace(&mut busy[index], true)).then(|| Claim { stage: self.stage.clone(), index })
    }

    pub(super) fn any_rights(&mut self) -> Rights {
        match self.rng.below(8) {
            0 => Rights::NONE,
            1 => Rights::READ,
            2 => Rights::READ_EXECUTE,
            _ => Rights::READ_WRITE,
        }
    }

    pub(super) async fn map(&mut self) {
        let most = if self.rng.below(8) == 0 { ARENA_PAGES } else { 8 };
        let keys = self.own_range(most);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let (rights, addr) = (self.any_rights(), self.stage.addr(keys[0], 0));
        let free = !keys.iter().any(|&key| self.stage.model().page(key).is_mapped());
        let choice = self.rng.below(3);
        let placement = match choice {
            0 => Placement::Fixed(addr),
            1 => Placement::FixedNoReplace(addr),
            _ => Placement::Hint(addr),
        };
        let there = choice == 0 || free;
        if there {
            self.begin(&keys, Change::Replace(rights));
        }
        let request = MapRequest {
            placement,
            len: keys.len() as u64 * PAGE,
            rights,
            label: Label::Anonymous,
            backing: Backing::Anonymous,
        };
        let mapped = self.stage.machine.mm().map(self.id(), request).await;
        if self.has_ended() {
            return;
        }
        if there {
            assert_eq!(mapped, Ok(addr));
            self.finish(&keys);
        } else if choice == 1 {
            assert_eq!(mapped, Err(MapError::Exists));
        } else {
            let elsewhere = mapped.expect("there is room somewhere");
            let unmapped = self.stage.machine.mm().unmap(self.id(), elsewhere, request.len).await;
            if self.has_ended() {
                return;
            }
            assert_eq!(unmapped, Ok(()), "mapped at {elsewhere:?} instead of {addr:?}");
        }
        self.stage.journal.note("map", keys.len() as u64);
    }

    /// Programs begin with all arenas mapped.
    pub(super) async fn map_arena(&mut self, arena: usize) {
        let keys: Vec<_> = (0..ARENA_PAGES).map(|page| Key { space: self.space, arena, page }).collect();
        let Some(_claim) = self.claim(arena) else { return };
        if self.stage.model().page(keys[0]).is_mapped() {
            return;
        }
        self.begin(&keys, Change::Replace(Rights::READ_WRITE));
        let request = anonymous(Placement::Fixed(self.stage.addr(keys[0], 0)), ARENA_PAGES as u64);
        let mapped = self.stage.machine.mm().map(self.id(), request).await;
        if !self.has_ended() {
            mapped.expect("the arenas fit");
            self.finish(&keys);
        }
    }

    pub(super) async fn unmap(&mut self) {
        let keys = self.own_range(8);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        self.begin(&keys, Change::Unmap);
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let unmapped = self.stage.machine.mm().unmap(self.id(), addr, len).await;
        if self.has_ended() {
            return;
        }
        assert_eq!(unmapped, Ok(()));
        self.finish(&keys);
        self.stage.journal.note("unmap", keys.len() as u64);
    }

    pub(super) async fn protect(&mut self) {
        let keys = self.own_range(8);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let rights = self.any_rights();
        let mapped = keys.iter().all(|&key| self.stage.model().page(key).is_mapped());
        if mapped {
            self.begin(&keys, Change::Protect(rights));
        }
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let protected = self.stage.machine.mm().protect(self.id(), addr, len, rights).await;
        if self.has_ended() {
            return;
        }
        assert_eq!(protected, if mapped { Ok(()) } else { Err(MapError::NotMapped) });
        if mapped {
            self.finish(&keys);
        }
        self.stage.journal.note("protect", keys.len() as u64);
    }

    pub(super) async fn discard(&mut self) {
        let keys = self.own_range(8);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let all = keys.iter().all(|&key| self.stage.model().page(key).is_mapped());
        self.begin(&keys, Change::Discard);
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let discarded = self.stage.machine.mm().discard(self.id(), addr, len).await;
        if self.has_ended() {
            return;
        }
        assert_eq!(discarded, if all { Ok(()) } else { Err(MapError::NotMapped) });
        self.finish(&keys);
        self.stage.journal.note("discard", keys.len() as u64);
    }

    pub(super) fn begin(&self, keys: &[Key], change: Change) {
        let mut model = self.stage.model();
        keys.iter().for_each(|&key| model.page(key).begin(change));
    }

    pub(super) fn finish(&self, keys: &[Key]) {
        let mut model = self.stage.model();
        keys.iter().for_each(|&key| model.page(key).finish());
    }

    pub(super) fn drop_table(&mut self) {
        let key = self.any_page();
        self.stage.machine.mm().drop_page_table(self.id(), self.stage.addr(key, 0).page());
        self.stage.journal.note("drop_table", key.arena as u64);
    }

    /// A program that writes some pages and is gone, whatever is under way for it.
    pub(super) async fn short_lived_space(&mut self) {
        let machine = self.stage.machine.clone();
        let Some(space) = machine.create_space() else { return };
        let pages = 1 + self.rng.below(12);
        let tight = self.stage.config.supply == Supply::Tight;
        let Ok(area) = machine.mm().map(space, anonymous(Placement::Anywhere, pages)).await else {
            assert!(tight, "it is empty");
            machine.mm().destroy_space(space).await;
            return;
        };
        let mut holds = Holds::default();
        for page in 0..pages {
            let stored = machine.store(space, word(area, page, page), page + 1, &mut holds).await;
            let chosen = |end| tight && matches!(end, Some(FaultError::OutOfMemory | FaultError::SpaceGone));
            assert!(stored.is_ok() || chosen(stored.err()), "{stored:?}");
            if stored.is_ok() && self.rng.below(2) == 0 {
                // With a disk that fails, a page may be lost.
                let loaded = machine.load(space, word(area, page, page), &mut holds).await;
                let excused = loaded == Err(FaultError::BadPage) || chosen(loaded.err());
                assert!(loaded == Ok(page + 1) || excused, "{loaded:?}");
            }
        }
        machine.mm().release_holds(&mut holds);
        machine.mm().destroy_space(space).await;
    }
}
