//! The queue for frames: who has the next one that is freed.
//!
//! Owns the order in which those are woken who found no frame, how many frames are set aside for who was woken and has not run yet, and so
//! whether there is a frame for who asks ([`Mm::has_frame`]).
//! Does not own whether anybody waits at all ([`super`]), nor what a frame is for: who is woken asks again for all it needs.
//!
//! ```text
//!            no frame                        there is a frame                 runs
//!   asks ───────────────► waiting in a lane ──────────────────► woken ─────────────────► asks again, before anybody else can
//!                              │ dropped                          │ dropped
//!                              ▼                                  ▼
//!                          out of it                          the next in its lane is woken instead
//! ```
//! As many are woken as there are frames, who waited longest first, and those frames are theirs until they run: who comes meanwhile goes
//! to the back. Waking everybody for each frame would cost as many looks as there are waiters, and give it to any of them.
//!
//! **Two lanes.** An instruction may need several pages, and whoever would wait behind all others for its second would have lost its
//! first by then. So who has begun goes first. That bounds how many are half-way, too: nobody begins while one who has begun waits.
//! An instruction needs at most [`MAX_HOLDS`](crate::fault::MAX_HOLDS) pages; who asks for more at one address is a loop, and is new again.
//!
//! **Nobody is forgotten.** Whoever frees frames announces them, and so do reclaim, once a round, and whoever was woken, when it waits
//! again or is done: what it left is for the next. Somebody asleep beside a free frame would need all of them to have failed.

use crate::manager::{Core, Mm};
use crate::platform::Platform;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use maitake_sync::wait_queue::{Wait, WaitQueue};
use mutex_traits::{ConstInit, ScopedRawMutex};
use pin_project_lite::pin_project;

/// Who goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Those whose instruction has had something already, or was woken before, and calls into the kernel, which take no page.
    Begun,
    /// All others.
    New,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Begun, Self::New];
}

/// Where those wait who need a frame.
pub(crate) struct FrameQueue<L: ScopedRawMutex>([WaitQueue<L>; 2]);

impl<L: ScopedRawMutex + ConstInit> FrameQueue<L> {
    pub fn new() -> Self {
        Self(Lane::ALL.map(|_| WaitQueue::new_with_raw_mutex(L::INIT)))
    }
}

impl<L: ScopedRawMutex> FrameQueue<L> {
    /// A place at the back of a lane, once it is polled.
    pub fn wait(&self, lane: Lane) -> Wait<'_, L> {
        self.0[lane as usize].wait()
    }

    fn lane_of(&self, wait: &Wait<'_, L>) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| wait.waits_on(&self.0[*lane as usize]))
    }
}

/// How many there are in a lane.
#[derive(Default, Debug)]
struct Waiters {
    /// All, the woken ones among them.
    all: usize,
    /// Woken, and not run yet.
    woken: usize,
}

/// Whom a frame is set aside for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offer {
    /// The first in this lane, who is to be woken.
    Wake(Lane),
    /// Somebody who was woken for news of another kind, and runs soon.
    Awake,
    /// There is nobody.
    Nobody,
}

/// Who waits for frames, in numbers; behind the manager's lock. Only those are counted whose wait was polled: it is they that a wake-up
/// reaches. A wait is polled before anything else runs that could have news for it: there is one processor, and no interrupt wakes here.
#[derive(Debug)]
pub(crate) struct FrameWaiters {
    lanes: [Waiters; 2],
    /// Free frames that are for those who were woken.
    set_aside: usize,
    /// Those, and the reserve, which pages never get: more must be free for anybody else.
    floor: usize,
}

impl FrameWaiters {
    pub fn new(reserve: usize) -> Self {
        Self { lanes: Default::default(), set_aside: 0, floor: reserve }
    }

    fn set_aside(&mut self, frames: usize) {
        self.floor = self.floor - self.set_aside + frames;
        self.set_aside = frames;
    }

    fn woken(&self) -> usize {
        self.lanes.iter().map(|lane| lane.woken).sum()
    }

    fn enter(&mut self, lane: Lane) {
        self.lanes[lane as usize].all += 1;
    }

    /// One that was woken runs: the first frame that is set aside is no longer, and it may have it.
    fn take_turn(&mut self, lane: Lane) {
        let waiters = &mut self.lanes[lane as usize];
        debug_assert!(waiters.woken > 0, "nobody ends to wait who was not woken: {waiters:?}");
        waiters.all -= 1;
        waiters.woken = waiters.woken.saturating_sub(1);
        self.set_aside(self.set_aside.saturating_sub(1));
    }

    /// One is dropped while it waits. If it was woken, that goes to the next in its lane ([`WaitQueue`]), or to nobody if there is none.
    fn leave(&mut self, lane: Lane) {
        let waiters = &mut self.lanes[lane as usize];
        waiters.all -= 1;
        waiters.woken = waiters.woken.min(waiters.all);
        self.set_aside(self.set_aside.min(self.woken()));
    }

    /// The lane whose first is to be woken.
    fn next(&mut self) -> Option<Lane> {
        let lane = Lane::ALL.into_iter().find(|lane| {
            let Waiters { all, woken } = self.lanes[*lane as usize];
            woken < all
        })?;
        self.lanes[lane as usize].woken += 1;
        Some(lane)
    }

    /// There is a frame that is not set aside: sets it aside, if there is somebody for it.
    fn offer(&mut self) -> Offer {
        let offer =
            if self.woken() > self.set_aside { Offer::Awake } else { self.next().map_or(Offer::Nobody, Offer::Wake) };
        self.set_aside(self.set_aside + usize::from(offer != Offer::Nobody));
        offer
    }
}

impl<P: Platform> Mm<P> {
    /// Whether there is a frame for who asks now. The one place that says so for pages.
    #[inline(always)]
    pub(crate) fn has_frame(&self, core: &Core<P>) -> bool {
        self.frames.free_frames() > core.waiters.floor
    }

    /// Wakes as many of those who wait for a frame as there are frames for.
    pub(crate) fn announce_frames(&self) {
        if self.frames.free_frames() <= self.watermarks.min {
            return;
        }
        self.core.with_lock(|core| {
            while self.has_frame(core) {
                match core.waiters.offer() {
                    Offer::Wake(lane) => self.frame_queue.0[lane as usize].wake(),
                    Offer::Awake => {}
                    Offer::Nobody => break,
                }
            }
        });
    }

    /// Everybody who waits for a frame looks again, for there is news of another kind.
    pub(crate) fn wake_frame_waiters(&self, waiters: &mut FrameWaiters) {
        while let Some(lane) = waiters.next() {
            self.frame_queue.0[lane as usize].wake();
        }
    }
}

/// Somebody who waits, now and then, for frames among other things.
pub(crate) struct Waiter<'a, P: Platform> {
    pub mm: &'a Mm<P>,
    /// Where it waits for a frame.
    lane: Option<Lane>,
    /// It was woken for a frame, and has asked for what it needs by the next time it is here.
    had_turn: bool,
}

impl<'a, P: Platform> Waiter<'a, P> {
    pub fn new(mm: &'a Mm<P>) -> Self {
        Self { mm, lane: None, had_turn: false }
    }

    /// Waits for anything at all.
    pub fn wait(&mut self, wait: Wait<'a, P::Lock>) -> Waiting<'a, '_, P> {
        Waiting { wait, waiter: self }
    }

    /// As [`Self::wait`].
    pub fn poll(&mut self, mut wait: Pin<&mut Wait<'a, P::Lock>>, cx: &mut Context<'_>) -> Poll<()> {
        if core::mem::take(&mut self.had_turn) {
            self.mm.announce_frames();
        }
        // The queues are never closed, so a wait cannot fail.
        let polled = wait.as_mut().poll(cx);
        if polled.is_pending() && self.lane.is_none() {
            self.lane = self.mm.frame_queue.lane_of(&wait);
            if let Some(lane) = self.lane {
                self.mm.core.with_lock(|core| core.waiters.enter(lane));
            }
        }
        let _woken = ready!(polled);
        if let Some(lane) = self.lane.take() {
            self.mm.core.with_lock(|core| core.waiters.take_turn(lane));
            self.had_turn = true;
        }
        Poll::Ready(())
    }
}

pin_project! {
    /// See [`Waiter::wait`]. Written out, because the future of a function would keep the wait twice.
    pub(crate) struct Waiting<'a, 'w, P: Platform> {
        #[pin]
        wait: Wait<'a, P::Lock>,
        waiter: &'w mut Waiter<'a, P>,
    }
}

impl<P: Platform> Future for Waiting<'_, '_, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.waiter.poll(this.wait, cx)
    }
}

impl<P: Platform> Drop for Waiter<'_, P> {
    #[inline(never)]
    fn drop(&mut self) {
        if let Some(lane) = self.lane {
            self.mm.core.with_lock(|core| core.waiters.leave(lane));
        }
        if self.lane.is_some() || self.had_turn {
            self.mm.announce_frames();
        }
    }
}
