//! Whose turn it is with the areas of a space: a fork copies them as they stand still, and in between they change.
//!
//! Owns the two guards, [`Changing`] and [`Still`]; each is given up when it is dropped, so a future that is dropped half-way leaves
//! nobody waiting. Does not own what happens meanwhile. Faults ask for no turn: a page is moved under the lock, before or after.
//!
//! ```text
//!   Changed by n ──begin_change / drop of Changing──► Changed by n ± 1
//!   Changed by 0 ──stand_still──► Copied ──drop of Still──► Changed by 0
//! ```
//! Changes of several threads go on side by side, as each takes its pages under the lock; and a change that consists of others asks
//! again for each of them. So a change waits only while a copy is made, never for one that waits itself.

use super::{MapError, SpaceId};
use crate::manager::{Mm, NoMemory};
use crate::platform::Platform;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// That of so many who change areas.
    Changed(u32),
    /// A fork's.
    Copied,
}

/// While this lives no fork copies the space's areas.
#[must_use]
pub(crate) struct Changing<'a, P: Platform> {
    mm: &'a Mm<P>,
    space: SpaceId,
}

/// While this lives the space's areas stand still.
#[must_use]
pub(crate) struct Still<'a, P: Platform> {
    mm: &'a Mm<P>,
    space: SpaceId,
}

impl<P: Platform> Mm<P> {
    /// Waits until areas of a space may be changed.
    pub(super) async fn begin_change(&self, space: SpaceId) -> Result<Changing<'_, P>, MapError> {
        loop {
            let wait = self.core.with_lock(|core| {
                let s = Self::live(core, space)?;
                Ok(match s.turn {
                    Turn::Copied => Some(self.turns.wait()),
                    Turn::Changed(others) => {
                        s.turn = Turn::Changed(others + 1);
                        None
                    }
                })
            })?;
            let Some(wait) = wait else { return Ok(Changing { mm: self, space }) };
            // The queue is never closed.
            let _woken = wait.await;
        }
    }

    /// Waits until nobody changes areas of a space. Fails if it is gone.
    pub(super) async fn stand_still(&self, space: SpaceId) -> Result<Still<'_, P>, NoMemory> {
        loop {
            let wait = self.core.with_lock(|core| {
                let s = Self::live(core, space).map_err(|_| NoMemory)?;
                if s.turn != Turn::Changed(0) {
                    return Ok(Some(self.turns.wait()));
                }
                s.turn = Turn::Copied;
                Ok(None)
            })?;
            let Some(wait) = wait else { return Ok(Still { mm: self, space }) };
            let _woken = wait.await;
        }
    }

    fn end_turn(&self, space: SpaceId, after: impl FnOnce(Turn) -> Turn) {
        let is_free = self.core.with_lock(|core| {
            let Some(s) = core.spaces.get_mut(space) else { return false };
            s.turn = after(s.turn);
            s.turn == Turn::Changed(0)
        });
        if is_free {
            self.turns.wake_all();
        }
    }
}

impl<P: Platform> Drop for Changing<'_, P> {
    fn drop(&mut self) {
        self.mm.end_turn(self.space, |turn| match turn {
            Turn::Changed(count @ 1..) => Turn::Changed(count - 1),
            turn => unreachable!("{turn:?} while areas of {:?} were changed", self.space),
        });
    }
}

impl<P: Platform> Drop for Still<'_, P> {
    fn drop(&mut self) {
        self.mm.end_turn(self.space, |turn| {
            debug_assert_eq!(turn, Turn::Copied, "areas of {:?} changed while they were copied", self.space);
            Turn::Changed(0)
        });
    }
}
