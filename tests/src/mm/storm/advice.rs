//! What threads of the storm advise about their memory, and what moves it: madvise, mlock, mremap.

use super::{Stage, Thread};
use crate::mm::PAGE;
use crate::mm::model::Change;
use executor::yield_now;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::space::{Cooling, Lock, Move, Populate, PopulateError};

/// Where arenas are moved to for a while: as far from their places as all arenas together.
pub(super) const ELSEWHERE: u64 = 1 << 40;

impl Thread {
    /// Moves a range somewhere else and back, if it is one area; what is in it stays the same.
    pub(super) async fn remap(&mut self) {
        let keys = self.own_range(12);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let elsewhere = VirtAddr::new(addr.as_u64() + ELSEWHERE);
        self.begin(&keys, Change::Move);
        let stage: std::sync::Arc<Stage> = self.stage.clone();
        let moved = stage.machine.mm().remap(self.id(), addr, len, len, Move::To(elsewhere)).await;
        if moved.is_ok() {
            yield_now().await;
            let back = stage.machine.mm().remap(self.id(), elsewhere, len, len, Move::To(addr)).await;
            if self.has_ended() {
                return;
            }
            assert_eq!(back, Ok(addr));
        }
        if !self.has_ended() {
            self.finish(&keys);
        }
        self.stage.journal.note("remap", u64::from(moved.is_ok()));
    }

    /// Advice changes nothing that can be seen.
    pub(super) async fn advise(&mut self) {
        let keys = self.own_range(8);
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let (stage, space) = (self.stage.clone(), self.id());
        let mm = stage.machine.mm();
        let choice = self.rng.below(5);
        let done = match choice {
            0 => mm.cool(space, addr, len, Cooling::Cold).await.map_err(PopulateError::from),
            1 => mm.cool(space, addr, len, Cooling::Out).await.map_err(PopulateError::from),
            2 => mm.prefetch(space, addr, len).await.map_err(PopulateError::from),
            3 => mm.populate(space, addr, len, Populate::AsAllowed).await,
            _ => self.lock_a_page().await,
        };
        if done == Err(PopulateError::OutOfMemory) {
            self.failed(FaultError::OutOfMemory).await;
        }
        self.stage.journal.note("advise", choice);
    }

    /// Locks a page, uses some others, and unlocks it. One at a time: the machine is small.
    async fn lock_a_page(&mut self) -> Result<(), PopulateError> {
        let key = self.own_range(1)[0];
        let Some(_claim) = self.claim(key.arena) else { return Ok(()) };
        let (stage, space, addr) = (self.stage.clone(), self.id(), self.stage.addr(key, 0));
        let mm = stage.machine.mm();
        let locked = mm.lock(space, addr, PAGE, Lock::Now).await;
        yield_now().await;
        // It may be locked although the page is lost.
        let unlocked = mm.lock(space, addr, PAGE, Lock::Unlocked).await;
        locked.and(unlocked)
    }
}
