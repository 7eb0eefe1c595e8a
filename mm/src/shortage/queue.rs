//! The queues for frames, one of the machine and one of each group: who has the next one that is freed.
//!
//! Owns the order in which those are woken who found no frame, or no room for one in their group, how many are set aside for who was woken
//! and has not run yet, and so whether there is a frame for who asks ([`Mm::has_frame`], [`Groups::has_room`](crate::group::Groups::has_room)).
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
//! again, asks for something else or is done: what it left is for the next. Somebody asleep beside a free frame would need all of them
//! to have failed. A group is reclaimed from because somebody asks for room, so it is asked in the name of those who wait on once nobody
//! is left who was woken and may yet have left some.

use crate::group::{GroupId, MAX_GROUPS};
use crate::manager::{Core, Mm};
use crate::platform::Platform;
use crate::victim::Scope;
use alloc::boxed::Box;
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

/// Whose frames somebody waits for, and in which lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub scope: Scope,
    pub lane: Lane,
}

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// What is in a page, from a store or a program that supplies it.
    Contents,
    /// The end of something that is in the way, or nothing yet.
    Obstacle,
    /// A frame.
    Frame(Line),
}

/// The queues of one scope, by lane.
type Lanes<L> = [WaitQueue<L>; 2];

/// Where those wait who need a frame.
pub(crate) struct FrameQueues<L: ScopedRawMutex> {
    machine: Lanes<L>,
    /// Frames of the machine are no news to these: who is woken for nothing asks again, and runs before whoever has given way, which may be
    /// the program that is being taken down to make room.
    groups: Box<[Lanes<L>]>,
}

impl<L: ScopedRawMutex + ConstInit> FrameQueues<L> {
    pub fn new() -> Self {
        let lanes = || Lane::ALL.map(|_| WaitQueue::new_with_raw_mutex(L::INIT));
        Self { machine: lanes(), groups: (0..MAX_GROUPS).map(|_| lanes()).collect() }
    }
}

impl<L: ScopedRawMutex> FrameQueues<L> {
    fn at(&self, Line { scope, lane }: Line) -> &WaitQueue<L> {
        let lanes = match scope {
            Scope::Machine => &self.machine,
            Scope::Group(id) => &self.groups[id.index()],
        };
        &lanes[lane as usize]
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
    /// Frames that are for those who were woken: free ones, or such as a group has room for.
    set_aside: usize,
    /// Those, and the machine's reserve, which pages never get: more must be free for anybody else.
    floor: usize,
}

impl FrameWaiters {
    pub fn new(reserve: usize) -> Self {
        Self { lanes: Default::default(), set_aside: 0, floor: reserve }
    }

    /// How many frames are not for who asks.
    #[inline(always)]
    pub fn floor(&self) -> usize {
        self.floor
    }

    /// Whether somebody was woken who has not run yet, and will say what is left or missing.
    pub fn are_woken(&self) -> bool {
        self.woken() > 0
    }

    /// Whether nobody waits.
    #[inline(always)]
    pub fn are_none(&self) -> bool {
        self.lanes.iter().all(|lane| lane.all == 0)
    }

    /// Whether somebody waits, and nobody was woken.
    fn are_left_alone(&self) -> bool {
        !self.are_woken() && !self.are_none()
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

impl<P: Platform> Core<P> {
    fn waiters_in(&mut self, scope: Scope) -> &mut FrameWaiters {
        match scope {
            Scope::Machine => &mut self.waiters,
            Scope::Group(id) => self.groups.waiters(id),
        }
    }
}

impl<P: Platform> Mm<P> {
    /// Whether there is a frame for who asks now. The one place that says so for pages.
    #[inline(always)]
    pub(crate) fn has_frame(&self, core: &Core<P>) -> bool {
        self.frames.free_frames() > core.waiters.floor()
    }

    /// A wait for a frame.
    pub(crate) fn queue_in(&self, line: Line) -> (Wait<'_, P::Lock>, Cause) {
        (self.frame_queues.at(line).wait(), Cause::Frame(line))
    }

    /// Wakes as many of those who wait for a frame of the machine as there are frames for.
    pub(crate) fn announce_frames(&self) {
        self.core.with_lock(|core| self.announce_frames_with(core));
    }

    /// As [`Self::announce_frames`], for who has the lock.
    #[inline(always)]
    pub(crate) fn announce_frames_with(&self, core: &mut Core<P>) {
        if !core.waiters.are_none() {
            self.offer_frames(core, Scope::Machine);
        }
    }

    /// As [`Self::announce_frames`], for those who wait for room in a group; asks for some if nobody else will.
    pub(crate) fn announce_room(&self, core: &mut Core<P>, id: GroupId) {
        self.offer_frames(core, Scope::Group(id));
        if core.groups.waiters(id).are_left_alone() {
            core.groups.want(id);
            self.frames.pressure().wake_all();
        }
    }

    fn offer_frames(&self, core: &mut Core<P>, scope: Scope) {
        let is_left = |core: &mut Core<P>| match scope {
            Scope::Machine => self.has_frame(core),
            Scope::Group(id) => core.groups.has_room(id),
        };
        while is_left(core) {
            match core.waiters_in(scope).offer() {
                Offer::Wake(lane) => self.frame_queues.at(Line { scope, lane }).wake(),
                Offer::Awake => {}
                Offer::Nobody => break,
            }
        }
    }

    /// Somebody who was woken is done with its turn, or waits again.
    fn announce_in(&self, scope: Scope) {
        match scope {
            Scope::Machine => self.announce_frames(),
            Scope::Group(id) => self.core.with_lock(|core| self.announce_room(core, id)),
        }
    }

    /// Everybody who waits in a scope looks again, for there is news of another kind.
    pub(crate) fn wake_waiters_in(&self, core: &mut Core<P>, scope: Scope) {
        while let Some(lane) = core.waiters_in(scope).next() {
            self.frame_queues.at(Line { scope, lane }).wake();
        }
    }

    /// As [`Self::wake_waiters_in`], wherever they wait.
    pub(crate) fn wake_waiters(&self, core: &mut Core<P>) {
        self.wake_waiters_in(core, Scope::Machine);
        GroupId::all().for_each(|id| self.wake_waiters_in(core, Scope::Group(id)));
    }
}

/// Somebody who waits, now and then, for frames among other things.
pub(crate) struct Waiter<'a, P: Platform> {
    pub mm: &'a Mm<P>,
    /// What the next wait is for, or the one it is in.
    cause: Cause,
    /// Whether it is counted among those who wait for that.
    entered: bool,
    /// It was woken here, and what it has not taken is for the next once its turn ends.
    had_turn: Option<Scope>,
}

impl<'a, P: Platform> Waiter<'a, P> {
    pub fn new(mm: &'a Mm<P>) -> Self {
        Self::turned_to(mm, Cause::Obstacle)
    }

    /// Somebody whose first wait is for this.
    pub fn turned_to(mm: &'a Mm<P>, cause: Cause) -> Self {
        Self { mm, cause, entered: false, had_turn: None }
    }

    /// The next wait is for this.
    pub fn turn_to(&mut self, cause: Cause) {
        debug_assert!(!self.entered, "one wait at a time");
        self.cause = cause;
    }

    /// It has what it was woken for, or will not take it: for who goes on to wait by other means.
    pub fn end_turn(&mut self) {
        if let Some(scope) = self.had_turn.take() {
            self.mm.announce_in(scope);
        }
    }

    /// Waits for anything at all.
    pub fn wait(&mut self, wait: Wait<'a, P::Lock>, cause: Cause) -> Waiting<'a, '_, P> {
        self.turn_to(cause);
        Waiting { wait, waiter: self }
    }

    /// As [`Self::wait`].
    pub fn poll(&mut self, wait: Pin<&mut Wait<'a, P::Lock>>, cx: &mut Context<'_>) -> Poll<()> {
        self.end_turn();
        // The queues are never closed, so a wait cannot fail.
        let polled = wait.poll(cx);
        let Cause::Frame(line) = self.cause else { return polled.map(drop) };
        if polled.is_pending() && !self.entered {
            self.entered = true;
            self.mm.core.with_lock(|core| core.waiters_in(line.scope).enter(line.lane));
        }
        let _woken = ready!(polled);
        if core::mem::take(&mut self.entered) {
            self.mm.core.with_lock(|core| core.waiters_in(line.scope).take_turn(line.lane));
            self.had_turn = Some(line.scope);
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
        if let Cause::Frame(line) = self.cause
            && self.entered
        {
            self.mm.core.with_lock(|core| core.waiters_in(line.scope).leave(line.lane));
            self.mm.announce_in(line.scope);
        }
        self.end_turn();
    }
}
