//! Whose turn it is with the areas of a space: a fork copies them as they stand still, and in between they change.
//!
//! Owns the guard of a turn, [`Held`], and who waits for one; both are given up when they are dropped, so a future that is
//! dropped half-way leaves nobody waiting. Does not own what happens meanwhile. Faults ask for no turn: a page is moved under the lock,
//! before or after.
//!
//! ```text
//!   Changed by n ──begin_change / drop──► Changed by n ± 1
//!   Changed by 0 ──stand_still──► Copied ──drop──► Changed by 0
//! ```
//! Changes of several threads go on side by side, as each takes its pages under the lock. None is part of another, so a change that waits
//! for its turn holds none, and a fork that waits for changes waits for what goes on.
//!
//! Neither starves the other. A change waits behind the forks that wait already; and when a fork has ended, those changes go first that
//! have waited for it, however many forks have come since.

use super::{MapError, SpaceId};
use crate::manager::{Mm, NoMemory};
use crate::platform::Platform;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// That of so many who change areas.
    Changed(u32),
    /// A fork's.
    Copied,
}

/// Whose turn it is in a space, and who waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    turn: Turn,
    forks: u32,
    changes: u32,
    /// How many of the changes that wait go before the next fork.
    passes: u32,
}

impl Default for Turns {
    fn default() -> Self {
        Self { turn: Turn::Changed(0), forks: 0, changes: 0, passes: 0 }
    }
}

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Changes,
    Forks,
}

impl Turns {
    fn waiting(&mut self, side: Side) -> &mut u32 {
        match side {
            Side::Changes => &mut self.changes,
            Side::Forks => &mut self.forks,
        }
    }

    /// Takes a turn, if it is this side's, for one who `waits` for it already or has just come.
    fn try_take(&mut self, side: Side, waits: bool) -> bool {
        let next = match (side, self.turn) {
            (_, Turn::Copied) => None,
            (Side::Changes, Turn::Changed(others)) => {
                let goes_first = self.forks == 0 || (waits && self.passes > 0);
                goes_first.then_some(Turn::Changed(others + 1))
            }
            (Side::Forks, Turn::Changed(others)) => (others == 0 && self.passes == 0).then_some(Turn::Copied),
        };
        let Some(next) = next else { return false };
        self.turn = next;
        if side == Side::Changes && waits {
            self.passes = self.passes.saturating_sub(1);
        }
        true
    }

    /// Somebody waits no longer.
    fn leave(&mut self, side: Side) {
        *self.waiting(side) -= 1;
        self.passes = self.passes.min(self.changes);
    }

    /// A turn is over.
    fn end(&mut self) {
        self.turn = match self.turn {
            Turn::Copied => {
                self.passes = self.changes;
                Turn::Changed(0)
            }
            Turn::Changed(count @ 1..) => Turn::Changed(count - 1),
            Turn::Changed(0) => unreachable!("a turn ends that nobody has"),
        };
    }
}

/// Where somebody stands who wants a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Nobody has heard of it.
    Outside,
    Waiting,
    Taken,
}

/// A turn, or a place among those who wait for one. While a change has its turn no fork copies the space's areas; while a fork has, they
/// stand still.
#[must_use]
pub(crate) struct Held<'a, P: Platform> {
    mm: &'a Mm<P>,
    space: SpaceId,
    side: Side,
    stand: Stand,
}

impl<P: Platform> Mm<P> {
    /// Waits until areas of a space may be changed.
    pub(super) async fn begin_change(&self, space: SpaceId) -> Result<Held<'_, P>, MapError> {
        self.take_turn(space, Side::Changes).await
    }

    /// Waits until nobody changes areas of a space. Fails if it is gone.
    pub(super) async fn stand_still(&self, space: SpaceId) -> Result<Held<'_, P>, NoMemory> {
        self.take_turn(space, Side::Forks).await.map_err(|_| NoMemory)
    }

    async fn take_turn(&self, space: SpaceId, side: Side) -> Result<Held<'_, P>, MapError> {
        let mut held = Held { mm: self, space, side, stand: Stand::Outside };
        loop {
            let wait = self.core.with_lock(|core| {
                let turns = &mut Self::live(core, space)?.turns;
                if turns.try_take(side, held.stand == Stand::Waiting) {
                    if held.stand == Stand::Waiting {
                        turns.leave(side);
                    }
                    held.stand = Stand::Taken;
                    return Ok(None);
                }
                if held.stand == Stand::Outside {
                    *turns.waiting(side) += 1;
                    held.stand = Stand::Waiting;
                }
                Ok(Some(self.turns.wait()))
            })?;
            let Some(wait) = wait else { return Ok(held) };
            // The queue is never closed.
            let _woken = wait.await;
        }
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    fn drop(&mut self) {
        if self.stand == Stand::Outside {
            return;
        }
        let others_wait = self.mm.core.with_lock(|core| {
            let Some(s) = core.spaces.get_mut(self.space) else { return false };
            if self.stand == Stand::Waiting {
                s.turns.leave(self.side)
            } else {
                s.turns.end()
            }
            s.turns.forks + s.turns.changes > 0
        });
        if others_wait {
            self.mm.turns.wake_all();
        }
    }
}
