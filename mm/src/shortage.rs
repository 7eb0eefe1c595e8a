//! What happens when there is no frame: who may wait with pages in hand, and whether memory has run out.
//!
//! Owns two decisions, and no pages. Threads that wait for frames while they hold some could wait for each other for ever, so only one
//! may, the *keeper*, until its instruction is over (progress with 12 usable frames, design D4). And when nothing can be freed, the next
//! to ask has somebody chosen who ends ([`crate::victim`]); nobody else is chosen until that one is gone and what it had is free.
//!
//! ```text
//!            no frame                      nothing to be freed, nothing under way, and nobody holds pages but who waits
//!   running ──────────► waiting for a frame ──────────────────► exhausted ──who asks next──► awaiting the end of one ─┐
//!      ▲                    │ ▲ (with holds: keeper, or none any more)                                                │
//!      └────────────────────┘ └────────────────────────────────────────── its space is gone ──────────────────────────┘
//!        a frame was freed
//! ```

mod queue;

pub(crate) use queue::{Cause, FrameQueues, FrameWaiters, Lane, Line, Waiter};

use crate::group::GroupId;
use crate::manager::{Mm, NoMemory};
use crate::platform::Platform;
use crate::space::SpaceId;
use crate::victim::{Scope, Tried, Verdict};

/// State of the two decisions; behind the manager's lock.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    /// Reclaim found nothing to free, and no frame was freed since.
    exhausted: bool,
    /// Reclaim has come to its end but for pages that are being prepared, which needs memory: nobody else makes any.
    stalled: bool,
    /// Somebody found no frame since reclaim last looked.
    asked: bool,
    /// Whose memory is on its way back: it was chosen, or leaves anyway.
    awaited: Option<SpaceId>,
    /// Who was chosen, until somebody takes it on.
    verdict: Option<Verdict>,
    /// Whether somebody waits.
    waited_for: bool,
    /// What reclaim had done when the first of those began to wait who wait now, or waited last.
    began: Tried,
    /// Whether there is a keeper.
    kept: bool,
    /// How many pages the keeper holds while it waits for a frame; none otherwise.
    idle_holds: u64,
    /// How many of them are charged to its group.
    idle_in_group: u64,
    keeper_group: GroupId,
}

/// What a fault is to do that finds no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lot {
    /// Wait: there may be one later.
    Wait,
    /// Fail: memory has run out, and it is this program that ends.
    Fail,
}

impl Shortage {
    /// Nothing can be freed: the next to find no frame chooses. `false` if somebody's memory is on its way back.
    pub fn declare(&mut self) -> bool {
        self.exhausted = self.awaited.is_none();
        self.exhausted
    }

    /// A frame was freed.
    pub fn relieve(&mut self) {
        (self.exhausted, self.stalled) = (false, false);
    }

    /// Reclaim tries again.
    pub fn look_again(&mut self) {
        self.exhausted = false;
    }

    /// Reclaim found nothing to free, and whether all that is under way is preparing pages. Says whether that is news.
    pub fn stall(&mut self, by_preparing: bool) -> bool {
        !core::mem::replace(&mut self.stalled, by_preparing) && by_preparing
    }

    /// Somebody waits for a frame. There may be free ones: an allocation can fail for other reasons, and reclaim, which would
    /// announce them, may not have been listening.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether somebody has asked since the last call.
    pub fn take_asked(&mut self) -> bool {
        core::mem::take(&mut self.asked)
    }

    /// Whether memory is known to have run out, and the next to find no frame will choose.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// As [`Self::is_exhausted`], for the one who chooses.
    pub fn take_exhausted(&mut self) -> bool {
        core::mem::take(&mut self.exhausted)
    }

    /// Nobody is chosen before this space is gone.
    pub fn await_end(&mut self, space: SpaceId) {
        self.awaited = Some(space);
    }

    /// Somebody has been chosen. The one before is gone by now, so nothing is lost if nobody took that on.
    pub fn pass(&mut self, verdict: Verdict) {
        self.await_end(verdict.victim);
        self.verdict = Some(verdict);
    }

    /// Takes the verdict on, if there is one that is wanted.
    pub fn take_verdict(&mut self, is_wanted: impl Fn(&Verdict) -> bool) -> Option<Verdict> {
        self.verdict.take_if(|verdict| is_wanted(verdict))
    }

    /// A space is gone, with all it had.
    pub fn forget(&mut self, space: SpaceId) {
        self.awaited.take_if(|awaited| *awaited == space);
    }

    /// Somebody waits; this is what had been done by then.
    pub fn begin(&mut self, done: Tried) {
        if !core::mem::replace(&mut self.waited_for, true) {
            self.began = done;
        }
    }

    /// Nobody waits any more.
    pub fn end(&mut self) {
        self.waited_for = false;
    }

    /// What was tried since then.
    pub fn tried(&self, done: Tried) -> Tried {
        done.since(self.began)
    }

    /// A thread that holds pages wants to be the keeper. `false` if another one is.
    pub fn try_keep(&mut self) -> bool {
        !core::mem::replace(&mut self.kept, true)
    }

    /// The keeper is about to wait for a frame with so many pages in hand, and so many of them charged to its group.
    pub fn keeper_waits(&mut self, holds: u64, (group, in_group): (GroupId, u64)) {
        (self.idle_holds, self.idle_in_group, self.keeper_group) = (holds, in_group, group);
    }

    /// The keeper goes on.
    pub fn keeper_runs(&mut self) {
        (self.idle_holds, self.idle_in_group) = (0, 0);
    }

    /// The keeper has given up its pages.
    pub fn keeper_gone(&mut self) {
        self.kept = false;
        self.keeper_runs();
    }

    /// Pages of a group that the keeper holds while it waits.
    pub fn idle_holds_in(&self, group: GroupId) -> u64 {
        if self.keeper_group == group { self.idle_in_group } else { 0 }
    }

    /// Whether some of `held` pages are held by threads that are not waiting for a frame: they will get on, and let go.
    pub fn will_be_released(&self, held: u64) -> bool {
        held > self.idle_holds
    }
}

impl<P: Platform> Mm<P> {
    /// Waits until a page could have a frame: for a caller who is about to make the kernel keep something for a program. Fails if memory
    /// has run out; that is an answer to this caller, and makes nobody a victim.
    pub async fn wait_for_frame(&self) -> Result<(), NoMemory> {
        self.wait_unless(Shortage::is_exhausted).await
    }

    /// As [`Self::wait_for_frame`], for whoever prepares pages of files ([`FileIo::Prepare`]): fails as well if reclaim has nothing left
    /// to wait for but that. Whoever prepares has to do with what it has then.
    ///
    /// [`FileIo::Prepare`]: crate::file_store::FileIo::Prepare
    pub async fn wait_for_frame_to_prepare(&self) -> Result<(), NoMemory> {
        self.wait_unless(|shortage| shortage.exhausted || shortage.stalled).await
    }

    async fn wait_unless(&self, is_hopeless: impl Fn(&Shortage) -> bool) -> Result<(), NoMemory> {
        let mut waiter = Waiter::new(self);
        loop {
            let wait = self.core.with_lock(|core| {
                if self.has_frame(core) {
                    return Ok(None);
                }
                if is_hopeless(&core.shortage) {
                    return Err(NoMemory);
                }
                core.counters.allocstall += 1;
                let wait = self.queue_in(Line { scope: Scope::Machine, lane: Lane::Begun });
                self.frames.pressure().wake_all();
                Ok(Some(wait))
            })?;
            let Some((wait, cause)) = wait else { return Ok(()) };
            waiter.wait(wait, cause).await;
        }
    }

    /// From the `nth` frame allocation on all fail, as if no more were free than the kernel's heap is always left ([`Watermarks::areas`]),
    /// until [`Self::relent`]: for tests. What is freed meanwhile helps nobody.
    ///
    /// [`Watermarks::areas`]: crate::reclaim::Watermarks::areas
    pub fn fail_for_good(&self, nth: u32) {
        self.frames.fail_for_good(nth, self.watermarks.areas());
    }

    /// No frame allocation is made to fail any more. For those who wait it is as if all that was withheld had just been freed.
    pub fn relent(&self) {
        self.frames.relent();
        self.core.with_lock(|core| core.shortage.relieve());
        self.announce_frames();
        self.frames.pressure().wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_chosen_while_somebody_is_on_the_way_out() {
        let (a, b) = (SpaceId::new(1), SpaceId::new(2));
        let mut shortage = Shortage::default();
        assert!(!shortage.take_exhausted());
        assert!(shortage.declare() && shortage.is_exhausted());
        assert!(shortage.take_exhausted() && !shortage.take_exhausted(), "one chooses");
        shortage.await_end(a);
        assert!(!shortage.declare() && !shortage.take_exhausted());
        shortage.forget(b);
        assert!(!shortage.declare(), "somebody else is gone");
        shortage.forget(a);
        assert!(shortage.declare());
        shortage.relieve();
        assert!(!shortage.take_exhausted(), "something was freed meanwhile");
    }

    #[test]
    fn there_is_one_keeper_at_a_time() {
        let mut shortage = Shortage::default();
        assert!(shortage.try_keep() && !shortage.try_keep());
        shortage.keeper_waits(3, (GroupId::ROOT, 3));
        assert!(!shortage.will_be_released(3) && shortage.will_be_released(4));
        shortage.keeper_runs();
        assert!(shortage.will_be_released(3));
        shortage.keeper_gone();
        assert!(shortage.try_keep());
    }
}
