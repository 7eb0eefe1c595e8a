//! User pagers: programs that supply the pages of ranges of an address space (userfaultfd(2)).
//!
//! Owns which pages each pager has been asked for, and the answers. A fault on a page that was never touched, in an area with a pager,
//! asks once and waits; whoever faults on the page meanwhile waits with it. Does not own who reads the questions (the kernel's open
//! files do), nor the wait itself ([`crate::fault`]). An area without a pager costs its faults one look at a field.
//!
//! ```text
//!             fault                       next_question                  answer, or wake
//!   (missing) ──────► Asked::Unread ─────────────────────► Asked::Read ─────────────────► (forgotten: who waits looks again)
//!                        └─────────── answer, wake, unmap, pager closed ──────────────────►┘
//! ```
//! Nobody trusts a pager. One that never answers keeps its clients waiting, who can be killed; one that answers twice is told that the page
//! exists; one that unmaps what others wait for sends them to find nothing mapped; one that is closed leaves memory that is zero.

use super::access::Buffer;
use super::map::range_at;
use super::{Liveness, SpaceId};
use crate::addr::{PAGE_SIZE, PageRange, VirtAddr, Vpn};
use crate::fault::{FaultError, Holds, Request, Step};
use crate::frame::Residence;
use crate::home::Home;
use crate::manager::{Core, Mm, NoMemory, Scarce};
use crate::object::Backing;
use crate::page::Record;
use crate::platform::{Access, PhysMemory, Platform};
use crate::shortage::{Cause, Waiter};
use crate::stats::PageClass;
use alloc::{collections::VecDeque, vec::Vec};
use core::num::NonZeroU32;
use core::task::Waker;
use maitake_sync::{WaitQueue, wait_queue::Wait};

/// Pages one pager may have been asked for and not have supplied: more than a process has threads. Beyond it faults fail, so that threads
/// that ask and are called away by signals cannot make the kernel keep ever more questions.
const MAX_ASKED: usize = 4096;
/// Queues that faulters wait in, by page: an answer wakes one page in so many, not all.
pub(crate) const QUEUES: usize = 16;

/// Name of a user pager: a place, and how often that was used before, so that the area of one that is closed finds none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserPagerId(NonZeroU32);

/// What a pager is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The page's first byte.
    pub addr: VirtAddr,
    /// What the first to want it wanted it for.
    pub access: Access,
}

/// Where the contents of a page come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// They are zero.
    Zero,
    /// They are copied from here.
    Memory(SpaceId, VirtAddr),
}

/// Whether those who wait for a page are woken now, or with [`Mm::wake_user_pages`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// At once.
    Now,
    /// When told so.
    Later,
}

/// Why a pager cannot do that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UserPagerError {
    /// Not a range of pages, or nothing there can have a pager: EINVAL.
    #[error("not a range of anonymous memory")]
    Invalid,
    /// Another pager has part of the range: EBUSY.
    #[error("the range has another pager")]
    Busy,
    /// The page is in no range of this pager: ENOENT.
    #[error("the page is in no range of this pager")]
    NotRegistered,
    /// The page is there already: EEXIST.
    #[error("the page exists")]
    Exists,
    /// The contents cannot be read: EFAULT.
    #[error("bad address")]
    BadAddress,
    /// There is no memory for it: ENOMEM.
    #[error("out of memory")]
    OutOfMemory,
    /// The address space is gone: ESRCH.
    #[error("the address space is gone")]
    SpaceGone,
}

/// Whether a question was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Unread,
    Read,
}

struct UserPager {
    space: SpaceId,
    asked: VecDeque<(Vpn, Access, Asked)>,
    /// Who waits for a question.
    readers: Vec<Waker>,
}

/// All user pagers.
#[derive(Default)]
pub(crate) struct UserPagers {
    slots: Vec<(u16, Option<UserPager>)>,
}

impl UserPagers {
    const SLOT_BITS: u32 = 16;

    fn get_mut(&mut self, id: UserPagerId) -> Option<&mut UserPager> {
        let raw = id.0.get();
        let (generation, pager) = self.slots.get_mut((raw & ((1 << Self::SLOT_BITS) - 1)) as usize)?;
        if u32::from(*generation) == raw >> Self::SLOT_BITS { pager.as_mut() } else { None }
    }

    fn insert(&mut self, pager: UserPager) -> Option<UserPagerId> {
        let vacant = self.slots.iter().position(|(_, pager)| pager.is_none());
        let slot = vacant.unwrap_or(self.slots.len());
        if slot >= 1 << Self::SLOT_BITS {
            return None;
        }
        if vacant.is_none() {
            self.slots.push((0, None));
        }
        let (generation, place) = &mut self.slots[slot];
        *generation = generation.wrapping_add(1).max(1);
        *place = Some(pager);
        NonZeroU32::new(u32::from(*generation) << Self::SLOT_BITS | slot as u32).map(UserPagerId)
    }

    fn remove(&mut self, id: UserPagerId) -> Option<UserPager> {
        self.get_mut(id)?;
        self.slots[(id.0.get() & ((1 << Self::SLOT_BITS) - 1)) as usize].1.take()
    }
}

impl UserPager {
    fn forget(&mut self, range: PageRange) {
        self.asked.retain(|(page, ..)| !range.contains(*page));
    }
}

/// What an attempt to answer came to.
enum Answered<'a, P: Platform> {
    Done,
    Failed(UserPagerError),
    /// The contents are not resident from here on.
    Absent(VirtAddr),
    /// There is no frame.
    Wait(Wait<'a, P::Lock>, Cause),
}

/// A copy's holds, ended however it ends.
struct AnswerHolds<'a, P: Platform> {
    mm: &'a Mm<P>,
    holds: Holds,
}

impl<P: Platform> Drop for AnswerHolds<'_, P> {
    fn drop(&mut self) {
        self.mm.release_holds(&mut self.holds);
    }
}

impl<P: Platform> Mm<P> {
    /// A pager for a space, with no ranges yet.
    pub fn create_user_pager(&self, space: SpaceId) -> Result<UserPagerId, NoMemory> {
        self.core.with_lock(|core| {
            core.spaces.get_mut(space).filter(|s| !s.dying).ok_or(NoMemory)?;
            let pager = UserPager { space, asked: VecDeque::new(), readers: Vec::new() };
            core.user_pagers.insert(pager).ok_or(NoMemory)
        })
    }

    /// Closes a pager: its ranges are memory like any other from now on, and who waits looks again.
    pub fn close_user_pager(&self, id: UserPagerId) {
        let closed = self.core.with_lock(|core| core.user_pagers.remove(id));
        self.wake_user_waits();
        // Wakers are dropped without the lock.
        drop(closed);
    }

    /// From now on `addr..addr + len` is the pager's: missing pages are asked of it.
    pub async fn register_user_pager(&self, id: UserPagerId, addr: VirtAddr, len: u64) -> Result<(), UserPagerError> {
        let range = range_at(addr, len).map_err(|_| UserPagerError::Invalid)?;
        self.room_for_area().await.map_err(|_| UserPagerError::OutOfMemory)?;
        self.change_user_pager(id, range, Some(id)).await
    }

    /// The range is memory like any other again, and who waits in it looks again.
    pub async fn unregister_user_pager(&self, id: UserPagerId, addr: VirtAddr, len: u64) -> Result<(), UserPagerError> {
        let range = range_at(addr, len).map_err(|_| UserPagerError::Invalid)?;
        self.room_for_area().await.map_err(|_| UserPagerError::OutOfMemory)?;
        self.change_user_pager(id, range, None).await?;
        self.wake_user_pages(id, range);
        Ok(())
    }

    async fn change_user_pager(
        &self,
        id: UserPagerId,
        range: PageRange,
        to: Option<UserPagerId>,
    ) -> Result<(), UserPagerError> {
        let space = self.core.with_lock(|core| core.user_pagers.get_mut(id).map(|pager| pager.space));
        let space = space.ok_or(UserPagerError::SpaceGone)?;
        let _turn = self.begin_change(space).await.map_err(|_| UserPagerError::SpaceGone)?;
        self.core.with_lock(|core| {
            let Core { user_pagers, spaces, .. } = core;
            user_pagers.get_mut(id).ok_or(UserPagerError::SpaceGone)?;
            let s = spaces.get_mut(space).filter(|s| !s.dying).ok_or(UserPagerError::SpaceGone)?;
            let mut areas = s.vmas.overlapping(range).peekable();
            areas.peek().ok_or(UserPagerError::Invalid)?;
            for area in areas {
                if area.liveness == Liveness::Dying || area.backing != Backing::Anonymous {
                    return Err(UserPagerError::Invalid);
                }
                if area.pager.is_some_and(|other| other != id && user_pagers.get_mut(other).is_some()) {
                    return Err(UserPagerError::Busy);
                }
            }
            let cuts = s.vmas.cuts(range);
            if s.vmas.is_full_for(cuts) || !s.vmas.make_room(cuts) {
                return Err(UserPagerError::OutOfMemory);
            }
            Ok(())
        })?;
        self.change_areas(space, range, |area| area.pager = to).await;
        Ok(())
    }

    /// The next question that was not read yet. An error if the pager is closed.
    pub fn next_question(&self, id: UserPagerId) -> Option<Question> {
        self.core.with_lock(|core| {
            let pager = core.user_pagers.get_mut(id)?;
            let (page, access, asked) = pager.asked.iter_mut().find(|(.., asked)| *asked == Asked::Unread)?;
            *asked = Asked::Read;
            Some(Question { addr: page.addr(), access: *access })
        })
    }

    /// Whether there is a question that was not read yet.
    pub fn has_question(&self, id: UserPagerId) -> bool {
        let unread = |pager: &mut UserPager| pager.asked.iter().any(|(.., asked)| *asked == Asked::Unread);
        self.core.with_lock(|core| core.user_pagers.get_mut(id).is_some_and(unread))
    }

    /// Has `waker` woken at the next question, once.
    pub fn await_question(&self, id: UserPagerId, waker: &Waker) {
        self.core.with_lock(|core| {
            let Some(pager) = core.user_pagers.get_mut(id) else { return };
            if !pager.readers.iter().any(|known| known.will_wake(waker)) {
                pager.readers.push(waker.clone());
            }
        });
    }

    /// Supplies the page at `addr`, which must be missing.
    pub async fn answer(
        &self,
        id: UserPagerId,
        addr: VirtAddr,
        contents: Contents,
        wake: Wake,
    ) -> Result<(), UserPagerError> {
        let mut held = AnswerHolds { mm: self, holds: Holds::default() };
        let mut waiter = Waiter::new(self);
        loop {
            let answered =
                self.core.with_lock(|core| self.try_answer(core, id, addr.page(), contents, &mut held.holds));
            match answered {
                Answered::Done => break,
                Answered::Failed(error) => return Err(error),
                Answered::Wait(wait, cause) => waiter.wait(wait, cause).await,
                Answered::Absent(from) => {
                    let Contents::Memory(space, start) = contents else { unreachable!("zeroes are always there") };
                    waiter.end_turn();
                    // One instruction, as it were: both pages it may lie in are held.
                    let there = self.fault(space, from, Access::Read, start.as_u64(), &mut held.holds).await;
                    there.map_err(|error| match error {
                        FaultError::OutOfMemory => UserPagerError::OutOfMemory,
                        _ => UserPagerError::BadAddress,
                    })?;
                }
            }
        }
        if wake == Wake::Now {
            self.wake_user_pages(id, PageRange::new(addr.page(), 1));
        }
        Ok(())
    }

    fn try_answer<'a>(
        &'a self,
        core: &mut Core<P>,
        id: UserPagerId,
        page: Vpn,
        contents: Contents,
        holds: &mut Holds,
    ) -> Answered<'a, P> {
        let Some(space) = core.user_pagers.get_mut(id).map(|pager| pager.space) else {
            return Answered::Failed(UserPagerError::SpaceGone);
        };
        let Some(s) = core.spaces.get_mut(space).filter(|s| !s.dying) else {
            return Answered::Failed(UserPagerError::SpaceGone);
        };
        if s.vmas.find(page).is_none_or(|area| area.pager != Some(id)) {
            return Answered::Failed(UserPagerError::NotRegistered);
        }
        if s.index.get(page) != Record::Absent {
            return Answered::Failed(UserPagerError::Exists);
        }
        let home = Home::Private(space, page);
        let request = Request { space, page, access: Access::Write, group: s.group };
        let Contents::Memory(from, start) = contents else {
            // The first record of a page may need a frame for the index.
            if self.frames.free_frames() <= self.watermarks.tables() {
                return self.answer_later(core, request, holds, Scarce::Machine);
            }
            core.turn(home, PageClass::Absent, PageClass::Zero, Record::Zero);
            return Answered::Done;
        };
        let mut bytes = [0; PAGE_SIZE];
        let there = self.copy_resident(core, from, start, &mut Buffer::In(&mut bytes), 0);
        if there < PAGE_SIZE {
            return match start.checked_add(there as u64) {
                Some(missing) => Answered::Absent(missing),
                None => Answered::Failed(UserPagerError::BadAddress),
            };
        }
        let token = match self.alloc_user(core, request.group) {
            Ok(token) => token,
            Err(scarce) => return self.answer_later(core, request, holds, scarce),
        };
        self.memory.write(token.pfn(), 0, &bytes);
        let frame = core.table.settle(token, home, Residence::Dirty);
        core.turn(home, PageClass::Absent, PageClass::Dirty, Record::Resident(frame));
        core.admit(frame);
        Answered::Done
    }

    /// No frame for an answer: as if the one who asked had found none.
    fn answer_later<'a>(
        &'a self,
        core: &mut Core<P>,
        request: Request,
        holds: &mut Holds,
        scarce: Scarce,
    ) -> Answered<'a, P> {
        match self.no_frame(core, request, holds, scarce) {
            Step::Wait(wait, cause) => Answered::Wait(wait, cause),
            _ => Answered::Failed(UserPagerError::OutOfMemory),
        }
    }

    /// Who waits for a page of the range looks again, and asks again if it is still missing.
    pub fn wake_user_pages(&self, id: UserPagerId, range: PageRange) {
        self.core.with_lock(|core| {
            if let Some(pager) = core.user_pagers.get_mut(id) {
                pager.forget(range);
            }
        });
        if range.len() == 1 { self.user_waits[queue_of(range.start)].wake_all() } else { self.wake_user_waits() }
    }

    /// The pages of a range are gone, and what was asked about them with them.
    pub(crate) fn end_questions(&self, space: SpaceId, range: PageRange) {
        let asked = self.core.with_lock(|core| {
            let pagers = core.user_pagers.slots.iter_mut().filter_map(|(_, pager)| pager.as_mut());
            pagers.filter(|pager| pager.space == space).map(|pager| pager.forget(range)).count()
        });
        if asked > 0 {
            self.wake_user_waits();
        }
    }

    /// Everybody who waits for a user pager looks again.
    pub(crate) fn wake_user_waits(&self) {
        self.user_waits.iter().for_each(WaitQueue::wake_all);
    }

    /// A fault on a missing page in an area that has this pager: asks, unless somebody did, and waits. `None` if the pager is closed.
    #[cold]
    pub(crate) fn ask_user_pager<'a>(
        &'a self,
        core: &mut Core<P>,
        request: Request,
        holds: &mut Holds,
        id: UserPagerId,
    ) -> Option<Step<'a, P>> {
        // An area keeps the name of a pager that is closed, and names come back after many others.
        let pager = core.user_pagers.get_mut(id).filter(|pager| pager.space == request.space)?;
        if !pager.asked.iter().any(|(page, ..)| *page == request.page) {
            if pager.asked.len() >= MAX_ASKED {
                return Some(Step::Failed(FaultError::BadPage));
            }
            if pager.asked.try_reserve(1).is_err() {
                return Some(self.no_frame(core, request, holds, Scarce::Machine));
            }
            pager.asked.push_back((request.page, request.access, Asked::Unread));
            pager.readers.drain(..).for_each(Waker::wake);
        }
        // A program may take for ever: nothing is kept from reclaim meanwhile.
        self.end_holds(core, holds);
        Some(Step::Wait(self.user_waits[queue_of(request.page)].wait(), Cause::Contents))
    }
}

fn queue_of(page: Vpn) -> usize {
    page.as_u64() as usize % QUEUES
}
