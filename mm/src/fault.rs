//! The page-fault path: one way down, one way up, one re-check after each wait, one place that maps a user page.
//!
//! Owns [`Mm::fault`]. [`Mm::begin_fault`] is the whole path without a wait: look up the area, look up the page, and either map it or
//! say what to wait for. After any wait it runs again from the start, so whatever happened meanwhile (unmap, protect, exit, another
//! thread's fault) is seen, not assumed. Waits: for an operation, for room in the operation table, for a frame. Nothing else.

use crate::addr::{Pfn, VirtAddr, Vpn};
use crate::anon::AnonId;
use crate::frame::Residence;
use crate::group::GroupId;
use crate::home::Home;
use crate::manager::{Core, Mm, Scarce};
use crate::object::Backing;
use crate::ops::OpId;
use crate::page::{PageCopy, Record, Tag};
use crate::platform::{Access, PhysMemory, Platform, Rights, Slot};
use crate::shortage::{Cause, Line, Lot, Waiter};
use crate::space::{SpaceId, Vma};
use crate::stats::PageClass;
use crate::swapin::Outcome;
use crate::tier::{EntryId, Unloaded};
use crate::victim::Scope;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use maitake_sync::wait_queue::Wait;
use pin_project_lite::pin_project;

mod holds;

pub use holds::{Holds, MAX_HOLDS};

/// How a fault was served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    /// Without the store.
    Minor,
    /// After waiting for the store.
    Major,
}

impl FaultKind {
    /// What a wait makes of a fault.
    fn of(cause: Cause) -> Self {
        match cause {
            Cause::Contents => Self::Major,
            Cause::Obstacle | Cause::Frame(_) => Self::Minor,
        }
    }
}

/// Why a fault cannot be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    #[error("nothing is mapped there")]
    NotMapped,
    /// The area does not allow it: SIGSEGV, `SEGV_ACCERR`.
    #[error("the mapping does not allow the access")]
    Forbidden,
    /// The page's contents are lost: SIGBUS.
    #[error("the page could not be read back from swap")]
    BadPage,
    /// There is no memory, none can be made, and this program is the one that ends for it.
    #[error("out of memory")]
    OutOfMemory,
    /// The address space is being torn down.
    #[error("the address space is gone")]
    SpaceGone,
}

/// What the path without waits came to.
pub(crate) enum Step<'a, P: Platform> {
    Mapped,
    Failed(FaultError),
    /// For an operation, for room in the operation table, or for a frame.
    Wait(Wait<'a, P::Lock>, Cause),
}

/// Who faults on what.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub space: SpaceId,
    pub page: Vpn,
    pub access: Access,
    /// Of the space; known once that has been looked up.
    pub group: GroupId,
}

/// Which page a fault is about.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub request: Request,
    /// Where its record stands.
    pub home: Home,
    /// What its mapping may allow.
    pub rights: Rights,
}

/// What a copy is made of.
#[derive(Clone, Copy)]
pub(crate) enum Original {
    Frame(Pfn),
    Word(u32),
}

/// A page without a frame whose contents need no I/O.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blank {
    /// Never touched.
    Untouched,
    /// On the shared frame of zeroes.
    OnZero,
    /// Away, the same word throughout.
    Word(u32),
}

impl Blank {
    fn is_zero(self) -> bool {
        !matches!(self, Blank::Word(1..))
    }
    fn class(self) -> PageClass {
        match self {
            Blank::Untouched => PageClass::Absent,
            Blank::OnZero => PageClass::Zero,
            Blank::Word(_) => PageClass::AwayFill,
        }
    }
}

pin_project! {
    /// A fault that has begun.
    #[project = FaultState]
    #[allow(missing_docs, private_interfaces, reason = "a waiting fault is polled, not looked into")]
    #[must_use = "a fault that waits is served by polling it"]
    pub enum Fault<'a, P: Platform> {
        /// It is over.
        Over { result: Result<FaultKind, FaultError> },
        /// It waits. One wait, which takes the place of the one before: a fault is part of every thread's task (design D15).
        Waits {
            #[pin]
            wait: Wait<'a, P::Lock>,
            request: Request,
            holds: &'a mut Holds,
            over: Waiting<'a, P>,
        },
    }
}

impl<P: Platform> Future for Fault<'_, P> {
    type Output = Result<FaultKind, FaultError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut wait, request, holds, over) = match self.project() {
            FaultState::Over { result } => return Poll::Ready(*result),
            FaultState::Waits { wait, request, holds, over } => (wait, *request, holds, over),
        };
        loop {
            ready!(over.waiter.poll(wait.as_mut(), cx));
            match over.waiter.mm.resume_fault(request, holds) {
                Step::Mapped => {
                    over.served = true;
                    return Poll::Ready(Ok(over.kind));
                }
                Step::Failed(error) => return Poll::Ready(Err(error)),
                Step::Wait(again, cause) => {
                    wait.set(again);
                    over.waiter.turn_to(cause);
                    over.kind = over.kind.max(FaultKind::of(cause));
                }
            }
        }
    }
}

/// Counts a fault as waiting until it is over, however it ends.
struct Waiting<'a, P: Platform> {
    waiter: Waiter<'a, P>,
    kind: FaultKind,
    served: bool,
}

impl<P: Platform> Drop for Waiting<'_, P> {
    // Apart, so that a fault that never waited is dropped for a comparison.
    #[inline(never)]
    fn drop(&mut self) {
        self.waiter.mm.core.with_lock(|core| {
            core.faults_waiting -= 1;
            if core.faults_waiting == 0 {
                core.shortage.end();
            }
            *match (self.served, self.kind) {
                (true, FaultKind::Minor) => &mut core.counters.pgminfault,
                (true, FaultKind::Major) => &mut core.counters.pgmajfault,
                (false, _) => &mut core.counters.pgfailfault,
            } += 1;
        });
    }
}

impl<P: Platform> Mm<P> {
    /// Serves a fault: when this comes to `Ok`, the page was mapped with the rights of its area, and stays a while (`holds`).
    ///
    /// `anchor` is the faulting instruction's address. Begins at once: a fault on a resident page is [`Fault::Over`] without
    /// allocating and without being polled.
    #[inline(never)]
    pub fn fault<'a>(
        &'a self,
        space: SpaceId,
        addr: VirtAddr,
        access: Access,
        anchor: u64,
        holds: &'a mut Holds,
    ) -> Fault<'a, P> {
        let request = Request { space, page: addr.page(), access, group: GroupId::ROOT };
        match self.enter_fault(request, anchor, holds) {
            Step::Mapped => Fault::Over { result: Ok(FaultKind::Minor) },
            Step::Failed(error) => Fault::Over { result: Err(error) },
            Step::Wait(wait, cause) => {
                let over =
                    Waiting { waiter: Waiter::turned_to(self, cause), kind: FaultKind::of(cause), served: false };
                Fault::Waits { wait, request, holds, over }
            }
        }
    }

    #[inline(always)]
    fn enter_fault<'a>(&'a self, request: Request, anchor: u64, holds: &mut Holds) -> Step<'a, P> {
        self.core.with_lock(|core| {
            core.counters.pgfault += 1;
            self.turn_holds(core, anchor, holds);
            holds.await_op(None);
            let step = self.begin_fault(core, request, holds);
            match &step {
                Step::Mapped => core.counters.pgminfault += 1,
                Step::Failed(_) => core.counters.pgfailfault += 1,
                Step::Wait(..) => core.faults_waiting += 1,
            }
            if self.config.torture && core.counters.pgfault.is_multiple_of(self.config.torture_every) {
                core.torture_due = true;
                self.frames.pressure().wake_all();
            }
            step
        })
    }

    /// The path without waits, after one.
    #[inline(never)]
    fn resume_fault<'a>(&'a self, request: Request, holds: &mut Holds) -> Step<'a, P> {
        self.core.with_lock(|core| self.begin_fault(core, request, holds))
    }

    /// The path without waits. Nearly all faults by number are first writes to memory of their space's own: for them everything that
    /// is done is in this one function, once it is compiled (docs/fault-path.md).
    #[inline(always)]
    fn begin_fault<'a>(&'a self, core: &mut Core<P>, request: Request, holds: &mut Holds) -> Step<'a, P> {
        let Some(space) = core.spaces.get_mut(request.space).filter(|s| !s.dying) else {
            return Step::Failed(FaultError::SpaceGone);
        };
        let Some(area) = space.vmas.find(request.page) else {
            return Step::Failed(FaultError::NotMapped);
        };
        if !area.rights.allow(request.access) {
            return Step::Failed(FaultError::Forbidden);
        }
        let (rights, request) = (area.rights, Request { group: space.group, ..request });
        if holds.is_keeper() {
            core.shortage.keeper_runs();
        }
        let record = space.index.get(request.page);
        let fresh = record == Record::Absent && matches!(area.backing, Backing::Anonymous) && area.pager.is_none();
        if fresh && request.access == Access::Write {
            return self.first_write(core, request, rights, holds);
        }
        self.serve_known(core, (request, record), &area, holds)
    }

    /// A page that has a record, or an object or a program behind it, or is only read.
    #[inline(never)]
    fn serve_known<'a>(
        &'a self,
        core: &mut Core<P>,
        (request, record): (Request, Record),
        area: &Vma,
        holds: &mut Holds,
    ) -> Step<'a, P> {
        let home = Home::Private(request.space, request.page);
        let subject = Subject { request, home, rights: area.rights };
        if let Some(page) = area.object_page(request.page) {
            return self.serve_object(core, subject, holds, record, page);
        }
        if let (Some(pager), Record::Absent) = (area.pager, record)
            && let Some(step) = self.ask_user_pager(core, request, holds, pager)
        {
            return step;
        }
        match record {
            Record::Shared(anon) => self.serve_shared(core, subject, holds, anon),
            record => self.serve(core, subject, holds, record),
        }
    }

    /// Step 1 for a page of the space's own. Does what [`Self::commit`] and [`Self::map_resident`] do, in fewer steps, because nothing
    /// was there before.
    #[inline(always)]
    fn first_write<'a>(
        &'a self,
        core: &mut Core<P>,
        request: Request,
        rights: Rights,
        holds: &mut Holds,
    ) -> Step<'a, P> {
        let token = match self.alloc_zeroed(core, request.group) {
            Ok(token) => token,
            Err(scarce) => return self.no_frame(core, request, holds, scarce),
        };
        let place = (request.space, request.page);
        let frame = core.table.settle(token, Home::Private(place.0, place.1), Residence::Dirty);
        core.admit(frame);
        if core.map_new(self.frames, place, frame, rights).is_none() {
            return self.no_table(core, request, frame, holds);
        }
        self.hold(core, frame, holds);
        Step::Mapped
    }

    /// A page whose record stands where `subject` says.
    #[inline(never)]
    pub(crate) fn serve<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        record: Record,
    ) -> Step<'a, P> {
        match record {
            Record::Resident(frame) => self.map_resident(core, subject, frame, holds),
            Record::Absent => self.commit(core, subject, holds, Blank::Untouched),
            Record::Zero => self.commit(core, subject, holds, Blank::OnZero),
            Record::Away(PageCopy::Fill(word)) => self.commit(core, subject, holds, Blank::Word(word)),
            Record::Away(PageCopy::Slot(slot, tag)) => self.begin_fill(core, subject, holds, (slot, tag)),
            Record::Away(PageCopy::Tier(id, tag)) => self.serve_from_tier(core, subject, holds, (id, tag)),
            Record::Away(PageCopy::File) => unreachable!("such a page has no record"),
            Record::Filling(op) => self.join_fill(core, subject, holds, op),
            Record::Failed => Step::Failed(FaultError::BadPage),
            Record::Shared(_) => unreachable!("shared pages are served elsewhere"),
        }
    }

    /// An anonymous page that several spaces have since a fork: to be read it is mapped where it is; who writes gets a copy, made as
    /// soon as the page is there; the last one who has it takes it home.
    #[cold]
    pub(crate) fn serve_shared<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        anon: AnonId,
    ) -> Step<'a, P> {
        let place = (subject.request.space, subject.request.page);
        if core.anons.refs(anon) == 1 {
            let record = core.take_home(place, anon);
            return self.serve(core, subject, holds, record);
        }
        let shared = Subject { home: Home::Anon(anon), rights: subject.rights.without_write(), ..subject };
        match core.anons.record(anon) {
            Record::Resident(frame) if subject.request.access == Access::Write => {
                self.copy_on_write(core, subject, holds, Original::Frame(frame))
            }
            Record::Away(PageCopy::Fill(word)) if subject.request.access == Access::Write => {
                self.copy_on_write(core, subject, holds, Original::Word(word))
            }
            Record::Away(PageCopy::Tier(id, tag)) if subject.request.access == Access::Write => {
                self.copy_from_tier(core, (subject, shared.home), holds, (id, tag))
            }
            record => self.serve(core, shared, holds, record),
        }
    }

    /// A page of the tier is there again, and mapped.
    #[cold]
    #[inline(never)]
    fn serve_from_tier<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        copy: (EntryId, Tag),
    ) -> Step<'a, P> {
        match self.load_held(core, subject, holds, copy) {
            Ok(frame) => self.map_resident(core, subject, frame, holds),
            Err(step) => step,
        }
    }

    /// A page of the tier that is not the space's alone is written to: it is there again, and copied.
    #[cold]
    pub(crate) fn copy_from_tier<'a>(
        &'a self,
        core: &mut Core<P>,
        (subject, home): (Subject, Home),
        holds: &mut Holds,
        copy: (EntryId, Tag),
    ) -> Step<'a, P> {
        match self.load_held(core, Subject { home, ..subject }, holds, copy) {
            Ok(frame) => self.copy_on_write(core, subject, holds, Original::Frame(frame)),
            Err(step) => step,
        }
    }

    /// Step 11 without I/O. The page is held: there may be no frame yet for a table, or for a copy of it.
    #[cold]
    fn load_held<'a>(
        &'a self,
        core: &mut Core<P>,
        Subject { request, home, .. }: Subject,
        holds: &mut Holds,
        copy: (EntryId, Tag),
    ) -> Result<Pfn, Step<'a, P>> {
        match self.load(core, (home, request.group), copy) {
            Ok(frame) => {
                self.hold(core, frame, holds);
                Ok(frame)
            }
            Err(Unloaded::Scarce(scarce)) => Err(self.no_frame(core, request, holds, scarce)),
            Err(Unloaded::Lost) => Err(Step::Failed(FaultError::BadPage)),
        }
    }

    /// A page that is not the space's alone is written to: the space gets a page of its own instead.
    pub(crate) fn copy_on_write<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        original: Original,
    ) -> Step<'a, P> {
        let place = (subject.request.space, subject.request.page);
        let token = match self.alloc_user(core, subject.request.group) {
            Ok(token) => token,
            Err(scarce) => return self.no_frame(core, subject.request, holds, scarce),
        };
        match original {
            Original::Frame(frame) => {
                core.judge_ahead(frame, Outcome::Hit);
                self.memory.copy(frame, token.pfn());
                self.let_go(core, frame, holds);
            }
            Original::Word(word) => self.memory.fill(token.pfn(), word),
        }
        let class = core.leave_original(self.frames, place);
        let frame = core.table.settle(token, subject.home, Residence::Dirty);
        core.turn(subject.home, class, PageClass::Dirty, Record::Resident(frame));
        core.admit(frame);
        core.counters.pgcow += 1;
        self.map_resident(core, subject, frame, holds)
    }

    fn wait_op<'a>(&'a self, op: OpId) -> Step<'a, P> {
        Step::Wait(self.op_waits[op.index()].wait(), Cause::Contents)
    }

    /// A page under way: held as soon as it is there, so that it is still there when its thread runs.
    #[inline(never)]
    fn join_fill<'a>(&'a self, core: &mut Core<P>, subject: Subject, holds: &mut Holds, op: OpId) -> Step<'a, P> {
        if let Some(frame) = core.frame_under(op, subject.home) {
            self.come_to(core, subject.request, frame);
            self.hold(core, frame, holds);
        }
        self.wait_op(op)
    }

    /// No frame: wait for one, unless memory has run out and it is this program that ends.
    #[cold]
    pub(crate) fn no_frame<'a>(
        &'a self,
        core: &mut Core<P>,
        request: Request,
        holds: &mut Holds,
        scarce: Scarce,
    ) -> Step<'a, P> {
        let Request { space, group, .. } = request;
        let scope = if scarce == Scarce::Group { Scope::Group(group) } else { Scope::Machine };
        if self.lot(core, scope, space) == Lot::Fail {
            return Step::Failed(FaultError::OutOfMemory);
        }
        let lane = holds.take_place();
        self.wait_modestly(core, holds, group);
        core.note_wait();
        match scope {
            Scope::Group(group) => core.groups.want(group),
            Scope::Machine => core.shortage.ask(),
        }
        self.frames.pressure().wake_all();
        let (wait, cause) = self.queue_in(Line { scope, lane });
        Step::Wait(wait, cause)
    }

    /// A page is resident, and there is no frame for a table to map it by. It is held while its thread waits for one: the two are one need,
    /// and nothing would be gained if the page left again, unused, for its table.
    #[cold]
    #[inline(never)]
    fn no_table<'a>(&'a self, core: &mut Core<P>, request: Request, frame: Pfn, holds: &mut Holds) -> Step<'a, P> {
        core.rescue(frame);
        self.hold(core, frame, holds);
        self.no_frame(core, request, holds, Scarce::Machine)
    }

    /// A resident page: map it, whatever it is going through. The one place that maps a page for who wants it;
    /// those read ahead are mapped by [`Mm::begin_probation`].
    pub(crate) fn map_resident<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        frame: Pfn,
        holds: &mut Holds,
    ) -> Step<'a, P> {
        let Subject { request, rights, .. } = subject;
        let page = (request.space, request.page);
        if core.table.get(frame).mapped() {
            // Another thread was faster, or the rights have changed: make the entry say what the area says now.
            core.unmap_page(self.frames, page);
        }
        if core.map_page(self.frames, page, frame, rights).is_none() {
            return self.no_table(core, request, frame, holds);
        }
        self.come_to(core, request, frame);
        match core.table.get(frame).residence() {
            Residence::Evicting => core.rescue(frame),
            Residence::Clean if request.access == Access::Write => core.became_dirty(frame), // step 5
            _ => {}
        }
        self.hold(core, frame, holds);
        Step::Mapped
    }

    /// A page that may have been read ahead is wanted.
    #[inline(always)]
    fn come_to(&self, core: &mut Core<P>, request: Request, frame: Pfn) {
        if core.table.get(frame).ahead() {
            core.judge_ahead(frame, Outcome::Hit);
            self.read_on(core, (request.space, request.page));
        }
    }

    /// A page whose contents need no I/O. Steps 1 and 3: a frame of its own. Step 2: zeroes that are only read are the shared frame.
    fn commit<'a>(&'a self, core: &mut Core<P>, subject: Subject, holds: &mut Holds, blank: Blank) -> Step<'a, P> {
        let Subject { request, home, .. } = subject;
        if request.access != Access::Write && blank.is_zero() && home.is_private() {
            return self.map_zero(core, subject, holds, blank);
        }
        let token = match blank {
            Blank::Untouched | Blank::OnZero => self.alloc_zeroed(core, request.group),
            Blank::Word(_) => self.alloc_user(core, request.group),
        };
        let token = match token {
            Ok(token) => token,
            Err(scarce) => return self.no_frame(core, request, holds, scarce),
        };
        let (residence, class) = match blank {
            Blank::Untouched | Blank::OnZero => (Residence::Dirty, PageClass::Dirty),
            Blank::Word(_) => (Residence::Clean, PageClass::Clean),
        };
        let frame = core.table.settle(token, home, residence);
        match blank {
            Blank::Untouched => {}
            Blank::OnZero => core.unmap_page(self.frames, (request.space, request.page)),
            Blank::Word(word) => {
                self.memory.fill(frame, word);
                core.counters.swpin_zero += 1;
                core.table.get_mut(frame).set_copy(Some(PageCopy::Fill(word)));
            }
        }
        core.turn(home, blank.class(), class, Record::Resident(frame));
        match blank {
            Blank::Word(_) => core.readmit(frame),
            Blank::Untouched | Blank::OnZero => core.admit(frame),
        }
        self.map_resident(core, subject, frame, holds)
    }

    #[inline(never)]
    fn map_zero<'a>(
        &'a self,
        core: &mut Core<P>,
        Subject { request, home, rights }: Subject,
        holds: &mut Holds,
        blank: Blank,
    ) -> Step<'a, P> {
        let page = (request.space, request.page);
        // The first record of a page may need a frame for the index.
        if blank == Blank::Untouched && self.frames.free_frames() <= self.watermarks.tables() {
            return self.no_frame(core, request, holds, Scarce::Machine);
        }
        core.unmap_page(self.frames, page);
        let zero = core.zero;
        let Some(leaf) = core.map_page(self.frames, page, zero, rights.without_write()) else {
            return self.no_frame(core, request, holds, Scarce::Machine);
        };
        core.turn(home, blank.class(), PageClass::Zero, Record::Zero);
        // The frame of zeroes goes nowhere, but the table does: it is what the instruction needs to stay.
        self.hold(core, leaf, holds);
        Step::Mapped
    }

    /// Step 11: a page in a slot gets a frame and an operation that fills it.
    #[inline(never)]
    fn begin_fill<'a>(
        &'a self,
        core: &mut Core<P>,
        Subject { request, home, .. }: Subject,
        holds: &mut Holds,
        copy: (Slot, Tag),
    ) -> Step<'a, P> {
        let token = match self.alloc_user(core, request.group) {
            Ok(token) => token,
            Err(scarce) => return self.no_frame(core, request, holds, scarce),
        };
        let frame = token.pfn();
        let Some(op) = self.begin_swap_in(core, (request.space, request.page), home, token, copy) else {
            return Step::Wait(self.op_room.wait(), Cause::Obstacle);
        };
        self.hold(core, frame, holds);
        self.wait_op(op)
    }
}

impl<P: Platform> Core<P> {
    /// Step 7: a page that is on its way out is wanted after all. Whoever maps, holds or pins a page's frame sees to this first.
    pub(crate) fn rescue(&mut self, frame: Pfn) {
        if self.table.get(frame).residence() == Residence::Evicting {
            self.set_residence(frame, Residence::Cleaning);
            self.counters.pgrescued += 1;
        }
    }
}
