//! What threads of the storm do with the object that all programs share: windows of it that come and go.

use super::{ARENA_PAGES, SHARED, Stage, Thread};
use crate::mm::model::{Change, Key};
use crate::mm::{PAGE, ready, window, word};
use mm::addr::WORDS_PER_PAGE;
use mm::fault::{FaultError, Holds};
use mm::object::Sharing;
use mm::space::{MapError, Placement, SpaceId};

impl Stage {
    /// Each program begins with the object in an arena of its own.
    pub(super) fn map_shared(&self, spaces: &[SpaceId]) {
        let keys = (0..ARENA_PAGES).map(|page| Key { space: SHARED, arena: self.config.arenas, page });
        let mut model = self.model();
        for key in keys {
            model.page(key).begin(Change::Replace(mm::platform::Rights::READ_WRITE));
            model.page(key).finish();
        }
        let place = self.addr(Key { space: SHARED, arena: self.config.arenas, page: 0 }, 0);
        for &space in spaces {
            let whole = window(self.object, 0, ARENA_PAGES as u64, Sharing::Shared);
            let request = mm::space::MapRequest { placement: Placement::Fixed(place), ..whole };
            assert_eq!(ready(self.machine.mm().map(space, request)), Ok(place));
        }
    }
}

impl Thread {
    /// Maps a part of the object once more, looks at it, writes to it if that is nobody else's concern, and unmaps it.
    pub(super) async fn window(&mut self) {
        let keys = self.any_range(8);
        let keys: Vec<_> =
            keys.into_iter().map(|key| Key { space: SHARED, arena: self.stage.config.arenas, ..key }).collect();
        let sharing = if self.rng.below(2) == 0 { Sharing::Shared } else { Sharing::Private };
        let (machine, space, count) = (self.stage.machine.clone(), self.id(), keys.len() as u64);
        let request = window(self.stage.object, keys[0].page as u64, count, sharing);
        let mapped = machine.mm().map(space, request).await;
        if self.has_ended() {
            return;
        }
        let area = mapped.expect("there is room somewhere");
        let mut holds = Holds::default();
        for (page, &key) in keys.iter().enumerate() {
            let at = self.rng.below(WORDS_PER_PAGE as u64);
            let addr = word(area, page as u64, at);
            let loaded = machine.load(space, addr, &mut holds).await;
            if self.judge_window(key, at, loaded).await {
                break;
            }
            if sharing == Sharing::Private && loaded.is_ok() {
                let stored = machine.store(space, addr, !at, &mut holds).await;
                let again =
                    if stored.is_ok() { machine.load(space, addr, &mut holds).await } else { stored.map(|()| 0) };
                // A copy is the program's own, so nobody else writes there; but it may be lost.
                let lost = matches!(again, Err(FaultError::BadPage | FaultError::OutOfMemory | FaultError::SpaceGone));
                assert!(again == Ok(!at) || lost, "{again:?}");
                if again == Err(FaultError::OutOfMemory) {
                    self.failed(FaultError::OutOfMemory).await;
                }
            }
            if self.has_ended() {
                break;
            }
        }
        machine.mm().release_holds(&mut holds);
        if self.has_ended() {
            return;
        }
        let unmapped = machine.mm().unmap(space, area, count * PAGE).await;
        assert!(unmapped == Ok(()) || (self.has_ended() && unmapped == Err(MapError::SpaceGone)));
        self.stage.journal.note("window", count);
    }

    /// `true` if the program has ended.
    async fn judge_window(&mut self, key: Key, at: u64, loaded: Result<u64, FaultError>) -> bool {
        if let Err(error) = loaded {
            self.failed(error).await;
        }
        if self.has_ended() {
            return true;
        }
        let mut model = self.stage.model();
        match loaded {
            Ok(value) => model.page(key).read(at as u16, value),
            Err(error) => model.judge_error(key, mm::platform::Access::Read, error),
        }
        false
    }
}
