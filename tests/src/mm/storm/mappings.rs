//! What threads of the storm do with windows of objects with an end, shared and private ones, that every program has all its life: loads and
//! stores; and what changes the windows themselves.

use super::{FILE_PAGES, FILES, SHARED, Stage, Supply, Thread, advice::ELSEWHERE};
use crate::mm::model::Key;
use crate::mm::model::file::WORDS;
use crate::mm::{PAGE, pages, ready, window_at};
use executor::yield_now;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::object::Sharing;
use mm::platform::Rights;
use mm::space::{Cooling, Lock, MapError, Move, Populate, PopulateError, SpaceId};
use std::sync::Arc;

/// Objects of which programs have private windows, too.
const PRIVATE_OF: [usize; 2] = [0, FILES - 1];

/// Windows of each program.
pub(super) const LANES: usize = FILES + PRIVATE_OF.len();

/// Pages from one window to the next: all share page tables with the object that all programs share.
const APART: u64 = 64;

/// A window of an object with an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Stores go to the object of that number.
    Shared(usize),
    /// Stores stay; of which object is in [`PRIVATE_OF`].
    Private(usize),
}

impl Lane {
    fn number(self) -> usize {
        match self {
            Lane::Shared(file) => file,
            Lane::Private(number) => FILES + number,
        }
    }

    fn file(self) -> usize {
        match self {
            Lane::Shared(file) => file,
            Lane::Private(number) => PRIVATE_OF[number],
        }
    }

    fn sharing(self) -> Sharing {
        if matches!(self, Lane::Shared(_)) { Sharing::Shared } else { Sharing::Private }
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..FILES).map(Lane::Shared).chain((0..PRIVATE_OF.len()).map(Lane::Private))
    }
}

impl Stage {
    /// The number that a window has among a program's arenas.
    fn lane_arena(&self, lane: Lane) -> usize {
        self.config.arenas + 1 + lane.number()
    }

    /// The number of the private windows of an object.
    pub(super) fn private_arena(&self, file: usize) -> Option<usize> {
        let number = PRIVATE_OF.iter().position(|of| *of == file)?;
        Some(self.lane_arena(Lane::Private(number)))
    }

    /// Whose page it is that a word of an object is in.
    pub(super) fn file_key(&self, file: usize, at: u64) -> Key {
        Key { space: SHARED - 1 - file, arena: self.lane_arena(Lane::Shared(file)), page: (at / WORDS) as usize }
    }

    /// Where a word of an object is in a window.
    pub(super) fn file_addr(&self, lane: Lane, at: u64) -> VirtAddr {
        let first = self.addr(Key { space: 0, arena: self.config.arenas, page: 0 }, 0).as_u64();
        VirtAddr::new(first + APART * (1 + lane.number() as u64) * PAGE + at * 8)
    }

    /// Each program begins with all windows.
    pub(super) fn map_files(&self, spaces: &[SpaceId]) {
        for (space, lane) in spaces.iter().flat_map(|space| Lane::all().map(move |lane| (*space, lane))) {
            let place = self.file_addr(lane, 0);
            let request = window_at(place, self.files[lane.file()].object, 0, FILE_PAGES as u64, lane.sharing());
            assert_eq!(ready(self.machine.mm().map(space, request)), Ok(place));
        }
    }
}

impl Thread {
    fn any_lane(&mut self) -> Lane {
        let number = self.below(LANES);
        if number < FILES { Lane::Shared(number) } else { Lane::Private(number - FILES) }
    }

    fn lane_key(&self, lane: Lane, at: u64) -> Key {
        Key { space: self.space, arena: self.stage.lane_arena(lane), page: (at / WORDS) as usize }
    }

    pub(super) async fn load_file(&mut self) {
        let (lane, at, stage) = (self.any_lane(), self.any_file_word(), self.stage.clone());
        let (space, addr, polls) = (self.id(), stage.file_addr(lane, at), self.patience());
        let load = stage.machine.load(space, addr, &mut self.holds);
        let Some(loaded) = stage.patiently(polls, load).await else { return };
        if let Err(error) = loaded {
            self.failed(error).await;
        }
        if !self.has_ended() {
            self.judge_file_load(lane, at, loaded);
        }
        stage.journal.note("load file", loaded.unwrap_or_else(|error| error as u64));
    }

    fn judge_file_load(&self, lane: Lane, at: u64, loaded: Result<u64, FaultError>) {
        let (key, mut model) = (self.lane_key(lane, at), self.stage.model());
        if matches!(loaded, Err(FaultError::NotMapped | FaultError::Forbidden)) {
            return assert!(model.unsteady.contains(&(key.space, key.arena)), "{key:?}: {loaded:?}");
        }
        let excused = self.is_excused(&model);
        match lane {
            Lane::Shared(file) => model.files[file].load(at, loaded, excused),
            Lane::Private(_) => model.load_private(key, (lane.file(), at), loaded, excused),
        }
    }

    pub(super) async fn store_file(&mut self) {
        let (lane, at) = (self.any_lane(), self.any_file_word());
        match lane {
            Lane::Shared(file) => self.store_shared(file, at).await,
            Lane::Private(_) => self.store_private(lane, at).await,
        }
    }

    async fn store_shared(&mut self, file: usize, at: u64) {
        let (stage, lane, value) = (self.stage.clone(), Lane::Shared(file), self.fresh_file_word(file, at));
        let (space, addr, polls) = (self.id(), stage.file_addr(lane, at), self.patience());
        let store = stage.machine.store(space, addr, value, &mut self.holds);
        let Some(stored) = stage.patiently(polls, store).await else { return };
        match stored {
            // Others see it, whatever has become of this program.
            Ok(()) => stage.model().files[file].store(at, value, Ok(()), false),
            Err(error) => {
                self.failed(error).await;
                if !self.has_ended() {
                    self.judge_file_load(lane, at, Err(error));
                }
            }
        }
        stage.journal.note("store file", value);
    }

    async fn store_private(&mut self, lane: Lane, at: u64) {
        let (key, stage) = (self.lane_key(lane, at), self.stage.clone());
        let Some(_claim) = self.claim(key.arena) else { return };
        let (value, polls) = (stage.model().fresh_word(key), self.patience());
        stage.model().begin_private_store(key, lane.file());
        let store = stage.machine.store(self.id(), stage.file_addr(lane, at), value, &mut self.holds);
        let stored = stage.patiently(polls, store).await;
        if let Some(Err(error)) = stored
            && !self.has_ended()
            && error != FaultError::OutOfMemory
        {
            assert_eq!(error, FaultError::BadPage, "{key:?}: nobody else changes the window");
            self.judge_file_load(lane, at, Err(error));
        }
        let word = stored.and_then(|stored| stored.ok()).map(|()| value);
        let unclear = stage.model().finish_private_store(key, (lane.file(), at), word);
        if let Some(Err(error)) = stored {
            self.failed(error).await;
        }
        if unclear && !self.has_ended() {
            stage.machine.mm().release_holds(&mut self.holds);
            self.give_up(lane, key.page, 1).await;
        }
        stage.journal.note("store private", value);
    }

    /// `MADV_DONTNEED`: what is private goes, what is shared stays.
    async fn give_up(&mut self, lane: Lane, first: usize, count: usize) {
        let (stage, addr) = (self.stage.clone(), self.stage.file_addr(lane, first as u64 * WORDS));
        let keys = self.begin_giving_up(lane, first..first + count);
        let done = stage.machine.mm().discard(self.id(), addr, count as u64 * PAGE).await;
        if !self.has_ended() {
            assert_eq!(done, Ok(()));
            stage.model().finish_giving_up(&keys);
        }
    }

    fn begin_giving_up(&self, lane: Lane, pages: core::ops::Range<usize>) -> Vec<Key> {
        let private = matches!(lane, Lane::Private(_));
        let keys = pages.filter(|_| private).map(|page| Key { page, ..self.lane_key(lane, 0) });
        let keys: Vec<Key> = keys.collect();
        self.stage.model().begin_giving_up(&keys);
        keys
    }

    /// Does something to a window that leaves it as it was, or as it was in the beginning.
    pub(super) async fn change_window(&mut self) {
        let (lane, stage) = (self.any_lane(), self.stage.clone());
        let (key, addr) = (self.lane_key(lane, 0), stage.file_addr(lane, 0));
        let Some(_claim) = self.claim(key.arena) else { return };
        let choice = self.rng.below(8);
        let done = match choice {
            0..4 => {
                stage.model().unsteady.insert((key.space, key.arena));
                let done = self.move_window(choice, lane, addr).await;
                if !self.has_ended() {
                    stage.model().unsteady.remove(&(key.space, key.arena));
                }
                done
            }
            4 => {
                let (first, count) = (self.below(FILE_PAGES), 1 + self.below(8));
                self.give_up(lane, first, count.min(FILE_PAGES - first)).await;
                Ok(())
            }
            _ => self.advise_window(choice, lane).await,
        };
        match done {
            Err(PopulateError::OutOfMemory | PopulateError::Range(MapError::NoRoom | MapError::OverLimit)) => {
                let full = matches!(done, Err(PopulateError::Range(MapError::OverLimit)));
                if !self.has_ended() && !full {
                    self.failed(FaultError::OutOfMemory).await;
                }
            }
            Ok(()) | Err(PopulateError::BadPage) => {}
            done => assert!(self.has_ended(), "{lane:?}, {choice}: {done:?}"),
        }
        stage.journal.note("change window", choice);
    }

    /// Maps a window anew, forbids stores for a while, or moves it away and back.
    async fn move_window(&mut self, choice: u64, lane: Lane, addr: VirtAddr) -> Result<(), PopulateError> {
        let (stage, space, len) = (self.stage.clone(), self.id(), FILE_PAGES as u64 * PAGE);
        let mm = stage.machine.mm();
        match choice {
            0 | 1 => {
                let keys = self.begin_giving_up(lane, 0..FILE_PAGES);
                if choice == 1 {
                    mm.unmap(space, addr, len).await?;
                    yield_now().await;
                }
                let object = stage.files[lane.file()].object;
                let request = window_at(addr, object, 0, FILE_PAGES as u64, lane.sharing());
                mm.map(space, request).await?;
                if !self.has_ended() {
                    stage.model().finish_giving_up(&keys);
                }
            }
            2 => {
                mm.protect(space, addr, len, Rights::READ).await?;
                yield_now().await;
                mm.protect(space, addr, len, Rights::READ_WRITE).await?;
            }
            _ => {
                let elsewhere = VirtAddr::new(addr.as_u64() + ELSEWHERE);
                mm.remap(space, addr, len, len, Move::To(elsewhere)).await?;
                yield_now().await;
                mm.remap(space, elsewhere, len, len, Move::To(addr)).await?;
            }
        }
        Ok(())
    }

    /// Advice changes nothing that can be seen.
    async fn advise_window(&mut self, choice: u64, lane: Lane) -> Result<(), PopulateError> {
        let (stage, space): (Arc<Stage>, _) = (self.stage.clone(), self.id());
        let (mm, first) = (stage.machine.mm(), self.below(FILE_PAGES));
        let count = (1 + self.below(8)).min(FILE_PAGES - first) as u64;
        let (addr, len) = (stage.file_addr(lane, first as u64 * WORDS), count * PAGE);
        match (choice, lane) {
            (5, _) => {
                let how = if self.rng.below(2) == 0 { Cooling::Cold } else { Cooling::Out };
                mm.cool(space, addr, len, how).await?;
                mm.prefetch(space, addr, len).await.map_err(PopulateError::from)
            }
            (6, Lane::Shared(_)) => {
                let locked = mm.lock(space, addr, PAGE, Lock::Now).await;
                yield_now().await;
                locked.and(mm.lock(space, addr, PAGE, Lock::Unlocked).await)
            }
            (6, Lane::Private(_)) => {
                stage.machine.evict(space, pages(addr, count));
                Ok(())
            }
            _ => {
                let populate = mm.populate(space, addr, len, Populate::Read);
                self.patiently(populate).await.unwrap_or(Ok(()))
            }
        }
    }

    /// Whether an error of memory is one of this storm's.
    pub(super) fn is_tight(&self) -> bool {
        self.stage.config.supply == Supply::Tight
    }
}
