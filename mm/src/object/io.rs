//! `read` and `write`: bytes between an object's pages and a program's, or the kernel's.
//!
//! Owns the order in which the two sides are made ready, which is where such copies deadlock: the program's pages are pinned first, all
//! that a piece of at most [`PIECE`] pages needs or none; only then is a page of the object waited for. Who finds no frame gives
//! every pin back before it waits. Pins come from a semaphore of an eighth of all frames, so however many copy at once, most of RAM can
//! be reclaimed; and a page of the object is copied under the manager's lock, so nobody ever holds one while waiting for anything.
//! So a `read` into a mapping of the very page that is read needs no care at all (design D4, D11).

use super::file::{FilePage, Hurdle};
use super::{MAX_OBJECT, ObjectError, ObjectId, ObjectPage};
use crate::addr::{PAGE_SIZE, Pfn, VirtAddr, Vpn};
use crate::fault::{Holds, MAX_HOLDS, Request, Step, Subject};
use crate::frame::Residence;
use crate::group::GroupId;
use crate::home::Home;
use crate::manager::{Core, Mm, Scarce};
use crate::page::{PageCopy, Record};
use crate::platform::{Access, PhysMemory, Platform, Rights};
use crate::shortage::{Cause, Waiter};
use crate::space::{SpaceId, access::KernelHolds};
use crate::stats::PageClass;
use crate::tier::Unloaded;
use arrayvec::ArrayVec;
use maitake_sync::wait_queue::Wait;

/// Most pages of a program that one copy has pinned: what it may hold while it faults them in, so that they are all there at once.
pub(crate) const PIECE: usize = MAX_HOLDS;

/// The other side of a copy.
enum Peer<'a> {
    /// Memory of a program, from this address on.
    User(VirtAddr, u64),
    /// A buffer of the kernel's that is filled.
    In(&'a mut [u8]),
    /// A buffer of the kernel's that is written to the object.
    Out(&'a [u8]),
}

impl Peer<'_> {
    fn len(&self) -> u64 {
        match self {
            Peer::User(_, len) => *len,
            Peer::In(bytes) => bytes.len() as u64,
            Peer::Out(bytes) => bytes.len() as u64,
        }
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the object.
    Read,
    /// To the object.
    Write,
}

impl Way {
    /// What is done to the object's pages.
    fn to_object(self) -> Access {
        if self == Way::Read { Access::Read } else { Access::Write }
    }
    /// What is done to the program's pages.
    fn to_user(self) -> Access {
        if self == Way::Read { Access::Write } else { Access::Read }
    }
}

/// A copy.
struct Job<'a> {
    id: ObjectId,
    offset: u64,
    /// Whose memory it is, or who is out of memory if there is none.
    space: SpaceId,
    peer: Peer<'a>,
    way: Way,
}

/// How a piece of a copy went.
enum Went<'a, P: Platform> {
    /// As far as it should.
    Done,
    /// To the end of the object.
    Ended,
    /// Others should have a turn.
    Later,
    /// Something is in the way.
    Wait(Wait<'a, P::Lock>, Cause),
    /// There is no frame, and where it is that there is none.
    NoFrame(Scarce),
    /// A page of the program is not there.
    Missing(VirtAddr),
    /// A page of the program is not what it was when it was pinned.
    Unpinned,
    Failed(ObjectError),
}

/// A pinned frame: as long as its page lives, reclaim leaves it alone.
struct Pin {
    frame: Pfn,
    generation: u8,
}

/// Pages of a program that stay where they are.
struct Pins<'a, P: Platform> {
    mm: &'a Mm<P>,
    frames: ArrayVec<Pin, PIECE>,
}

impl<P: Platform> Pins<'_, P> {
    /// Pins the pages that hold `len` bytes from `addr` on, all of them or none. Returns the first that must be faulted in.
    fn try_take(
        &mut self,
        core: &mut Core<P>,
        space: SpaceId,
        (addr, len): (VirtAddr, u64),
        access: Access,
    ) -> Result<(), VirtAddr> {
        let mut page = addr.page();
        while page.addr().as_u64() < addr.as_u64() + len {
            match core.record_for(space, page, access) {
                Record::Resident(frame) => self.take(core, frame),
                Record::Zero if access == Access::Read => {}
                _ => {
                    self.release(core);
                    return Err(page.addr().max(addr));
                }
            }
            page = page.offset(1);
        }
        Ok(())
    }

    fn take(&mut self, core: &mut Core<P>, frame: Pfn) {
        core.rescue(frame);
        let desc = core.table.get_mut(frame);
        let generation = desc.generation();
        if desc.add_hold() {
            core.held += 1;
            core.pinned += 1;
            self.frames.push(Pin { frame, generation });
        }
    }

    fn release(&mut self, core: &mut Core<P>) {
        for pin in self.frames.drain(..) {
            core.pinned -= 1;
            let desc = core.table.get_mut(pin.frame);
            if desc.generation() == pin.generation && desc.holds() > 0 {
                desc.drop_hold();
                core.held -= 1;
            }
        }
        if core::mem::take(&mut core.awaiting_release) {
            self.mm.frames.pressure().wake_all();
        }
    }
}

impl<P: Platform> Drop for Pins<'_, P> {
    fn drop(&mut self) {
        if !self.frames.is_empty() {
            self.mm.core.with_lock(|core| self.release(core));
        }
    }
}

impl<P: Platform> Mm<P> {
    /// Copies up to `len` bytes from an object to a program's memory; fewer at the object's end, or if the memory ends.
    pub async fn object_read(
        &self,
        id: ObjectId,
        offset: u64,
        space: SpaceId,
        addr: VirtAddr,
        len: u64,
    ) -> Result<u64, ObjectError> {
        self.object_copy(Job { id, offset, space, peer: Peer::User(addr, len), way: Way::Read }).await
    }

    /// Copies up to `len` bytes from a program's memory to an object, which grows if need be; fewer if the memory or the disk ends.
    pub async fn object_write(
        &self,
        id: ObjectId,
        offset: u64,
        space: SpaceId,
        addr: VirtAddr,
        len: u64,
    ) -> Result<u64, ObjectError> {
        self.object_copy(Job { id, offset, space, peer: Peer::User(addr, len), way: Way::Write }).await
    }

    /// As [`Self::object_read`], to the kernel, on behalf of `space`.
    pub async fn object_read_bytes(
        &self,
        id: ObjectId,
        offset: u64,
        space: SpaceId,
        out: &mut [u8],
    ) -> Result<u64, ObjectError> {
        self.object_copy(Job { id, offset, space, peer: Peer::In(out), way: Way::Read }).await
    }

    /// As [`Self::object_write`], from the kernel, on behalf of `space`.
    pub async fn object_write_bytes(
        &self,
        id: ObjectId,
        offset: u64,
        space: SpaceId,
        data: &[u8],
    ) -> Result<u64, ObjectError> {
        self.object_copy(Job { id, offset, space, peer: Peer::Out(data), way: Way::Write }).await
    }

    async fn object_copy(&self, mut job: Job<'_>) -> Result<u64, ObjectError> {
        let len = job.peer.len();
        let end = job.offset.checked_add(len).filter(|end| *end <= MAX_OBJECT).ok_or(ObjectError::TooLarge)?;
        if job.way == Way::Write && end > self.object_size(job.id).ok_or(ObjectError::Gone)? {
            // What is left behind the end must not come back as the object grows.
            self.complete_cut(job.id, Some(job.space)).await?;
        }
        let mut held = KernelHolds::new(self);
        let mut pins = Pins { mm: self, frames: ArrayVec::new() };
        let mut done = 0;
        while done < len {
            let left = match job.way {
                Way::Read => (len - done).min(self.bytes_behind(job.id, job.offset + done)?),
                Way::Write => len - done,
            };
            if left == 0 {
                break;
            }
            let Some(piece) = self.piece_from(&job, done, left) else { return short(done, ObjectError::BadAddress) };
            // Permits before pins: who has any has all that this piece needs. And who waits for them holds nothing.
            self.release_holds(&mut held.holds);
            let _permit = match piece.pages {
                0 => None,
                pages => {
                    if self.pins.available_permits() < pages {
                        self.core.with_lock(|core| core.counters.pin_waits += 1);
                    }
                    Some(self.pins.acquire(pages).await.map_err(|_| ObjectError::Gone)?)
                }
            };
            let before = done;
            match self.copy_pinned(&mut job, &mut done, &piece, &mut held.holds, &mut pins).await {
                Err(error) => return short(done, error),
                Ok(()) if done < before + piece.len => return Ok(done),
                Ok(()) => {}
            }
        }
        Ok(done)
    }

    /// Copies a piece; less of it only at the object's end.
    async fn copy_pinned(
        &self,
        job: &mut Job<'_>,
        done: &mut u64,
        piece: &Piece,
        holds: &mut Holds,
        pins: &mut Pins<'_, P>,
    ) -> Result<(), ObjectError> {
        let (space, access, until) = (job.space, job.way.to_user(), *done + piece.len);
        let mut waiter = Waiter::new(self);
        loop {
            let went = self.core.with_lock(|core| {
                if let Some(at) = piece.addr
                    && pins.frames.is_empty()
                    && let Err(missing) = pins.try_take(core, space, (at, piece.len), access)
                {
                    return Went::Missing(missing);
                }
                let went = self.copy_piece(core, job, done, until, holds);
                if !matches!(went, Went::Later | Went::Wait(..)) {
                    pins.release(core);
                }
                match went {
                    Went::NoFrame(scarce) => {
                        let request = core.request_for(space, access);
                        match self.no_frame(core, request, holds, scarce) {
                            Step::Wait(wait, cause) => Went::Wait(wait, cause),
                            _ => Went::Failed(ObjectError::OutOfMemory),
                        }
                    }
                    went => went,
                }
            });
            match went {
                Went::Done | Went::Ended => return Ok(()),
                Went::Failed(error) => return Err(error),
                Went::Missing(addr) => {
                    waiter.end_turn();
                    let anchor = piece.addr.map_or(0, VirtAddr::as_u64);
                    let _kind = self.fault(space, addr, access, anchor, holds).await?;
                }
                Went::Unpinned | Went::NoFrame(_) => {}
                Went::Later => {
                    waiter.end_turn();
                    crate::yield_now().await;
                }
                Went::Wait(wait, cause) => waiter.wait(wait, cause).await,
            }
        }
    }

    /// How many bytes an object has from an offset on.
    fn bytes_behind(&self, id: ObjectId, offset: u64) -> Result<u64, ObjectError> {
        self.object_size(id).map(|bytes| bytes.saturating_sub(offset)).ok_or(ObjectError::Gone)
    }

    /// The next piece of a copy of `left` bytes more: at most [`PIECE`] pages of the program's. `None` past the end of the address space.
    fn piece_from(&self, job: &Job<'_>, done: u64, left: u64) -> Option<Piece> {
        let most = PIECE.min(self.pin_limit()) as u64;
        let Peer::User(addr, _) = job.peer else {
            return Some(Piece { addr: None, len: left.min(most * PAGE_SIZE as u64), pages: 0 });
        };
        let at = addr.checked_add(done)?;
        let offset = at.page_offset() as u64;
        let len = left.min(most * PAGE_SIZE as u64 - offset);
        at.checked_add(len)?;
        let pages = (offset + len).div_ceil(PAGE_SIZE as u64) as usize;
        Some(Piece { addr: Some(at), len, pages })
    }

    /// Copies until `until`, or until something is in the way.
    fn copy_piece<'a>(
        &'a self,
        core: &mut Core<P>,
        job: &mut Job<'_>,
        done: &mut u64,
        until: u64,
        holds: &mut Holds,
    ) -> Went<'a, P> {
        for _ in 0..2 * PIECE {
            if *done == until {
                return Went::Done;
            }
            let (at, way) = (job.offset + *done, job.way);
            let Some(object) = core.objects.get_mut(job.id) else { return Went::Failed(ObjectError::Gone) };
            let mut count = (until - *done).min(PAGE_SIZE as u64 - at % PAGE_SIZE as u64);
            if way == Way::Read {
                count = count.min(object.bytes.saturating_sub(at));
            }
            if count == 0 {
                return Went::Ended;
            }
            // Before the object's page is touched: one behind the end is dirty only once the end has moved, or it would be written to blocks
            // that its store may take back.
            if !core.has_user_side(job, *done) {
                return Went::Unpinned;
            }
            let page = (job.id, ObjectPage::holding(at));
            let ahead = (at + until - *done).div_ceil(PAGE_SIZE as u64) - page.1.as_u64();
            let request = core.request_for(job.space, way.to_object());
            let frame = match self.object_frame(core, holds, request, page, ahead as u32) {
                Ok(frame) => frame,
                Err(Hurdle::Failed(error)) => return Went::Failed(error.into()),
                Err(Hurdle::NoFrame(scarce)) => return Went::NoFrame(scarce),
                Err(Hurdle::Wait(wait, cause)) => return Went::Wait(wait, cause),
            };
            match self.copy_bytes(core, job, *done, (frame, at), count) {
                Some(copied) => *done += copied,
                None => return Went::Unpinned,
            }
        }
        Went::Later
    }

    /// Copies up to `count` bytes of one page of the object, within one page of the program. `None` if that is not there.
    fn copy_bytes(
        &self,
        core: &mut Core<P>,
        job: &mut Job<'_>,
        done: u64,
        (frame, at): (Option<Pfn>, u64),
        count: u64,
    ) -> Option<u64> {
        let (id, offset, way) = (job.id, (at % PAGE_SIZE as u64) as usize, job.way);
        let (user, count) = match &job.peer {
            Peer::User(addr, _) => {
                let addr = VirtAddr::new(addr.as_u64() + done);
                let record = core.record_for(job.space, addr.page(), way.to_user());
                let user = match record {
                    Record::Resident(user) => Some(user),
                    Record::Zero if way == Way::Write => None,
                    _ => return None,
                };
                (Some((user, addr.page_offset())), count.min((PAGE_SIZE - addr.page_offset()) as u64))
            }
            _ => (None, count),
        };
        if way == Way::Write && core.objects.get_mut(id)?.bytes < at + count {
            self.set_end(core, id, at + count);
        }
        let mut buffer = [0u8; 512];
        let mut moved = 0;
        while moved < count as usize {
            let part = buffer.len().min(count as usize - moved);
            let bytes = &mut buffer[..part];
            bytes.fill(0);
            let here = done as usize + moved;
            match (way, user, &mut job.peer) {
                (Way::Read, user, peer) => {
                    frame.into_iter().for_each(|frame| self.memory.read(frame, offset + moved, bytes));
                    match (user, peer) {
                        (Some((Some(user), at)), _) => self.memory.write(user, at + moved, bytes),
                        (_, Peer::In(out)) => out[here..here + part].copy_from_slice(bytes),
                        _ => return None,
                    }
                }
                (Way::Write, user, peer) => {
                    match (user, peer) {
                        (Some((Some(user), at)), _) => self.memory.read(user, at + moved, bytes),
                        (_, Peer::Out(data)) => bytes.copy_from_slice(&data[here..here + part]),
                        _ => {}
                    }
                    self.memory.write(frame?, offset + moved, bytes);
                }
            }
            moved += part;
        }
        let written = if way == Way::Read { user.and_then(|(user, _)| user) } else { frame };
        written.into_iter().for_each(|frame| core.written_directly(frame));
        Some(count)
    }

    /// The frame of an object's page, ready to be read, or to be written to; `None` for a page that reads as zeroes and is not written to.
    pub(super) fn object_frame<'a>(
        &'a self,
        core: &mut Core<P>,
        holds: &mut Holds,
        request: Request,
        (id, page): FilePage,
        ahead: u32,
    ) -> Result<Option<Pfn>, Hurdle<'a, P>> {
        let Some(object) = core.objects.get_mut(id) else {
            return Err(Hurdle::Failed(crate::file_store::FileError::Io));
        };
        let (record, inside, is_file) = (object.index.get(page.key()), page < object.end(), object.file().is_some());
        if is_file {
            let frame = match record {
                // Behind the end there is nothing to read.
                Record::Absent if !inside => {
                    let copy = Some(PageCopy::File);
                    self.blank_frame(core, request.group, (id, page), 0, copy).map_err(Hurdle::NoFrame)?
                }
                record => self.file_frame(core, holds, request.group, (id, page), record)?,
            };
            if request.access == Access::Write {
                self.make_dirty(core, holds, (id, page), frame, ahead)?;
            }
            return Ok(Some(frame));
        }
        let subject = Subject { request, home: Home::Object(id, page), rights: Rights::READ_WRITE };
        let step = match record {
            Record::Resident(frame) => return Ok(Some(frame)),
            Record::Absent if request.access == Access::Read => return Ok(None),
            Record::Absent => {
                return self.blank_frame(core, request.group, (id, page), 0, None).map(Some).map_err(Hurdle::NoFrame);
            }
            Record::Away(PageCopy::Fill(word)) => {
                let copy = Some(PageCopy::Fill(word));
                return self
                    .blank_frame(core, request.group, (id, page), word, copy)
                    .map(Some)
                    .map_err(Hurdle::NoFrame);
            }
            Record::Away(PageCopy::Tier(entry, tag)) => {
                return match self.load(core, (subject.home, request.group), (entry, tag)) {
                    Ok(frame) => Ok(Some(frame)),
                    Err(Unloaded::Scarce(scarce)) => Err(Hurdle::NoFrame(scarce)),
                    Err(Unloaded::Lost) => Err(Hurdle::Failed(crate::file_store::FileError::Io)),
                };
            }
            // Looked at beforehand, because the pins must be given back before there is a wait for a frame.
            Record::Away(_) if !self.has_frame(core) => {
                return Err(Hurdle::NoFrame(Scarce::Machine));
            }
            Record::Away(_) if !core.may_charge(request.group) => return Err(Hurdle::NoFrame(Scarce::Group)),
            record => self.serve(core, subject, holds, record),
        };
        match step {
            Step::Wait(wait, cause) => Err(Hurdle::Wait(wait, cause)),
            Step::Failed(_) | Step::Mapped => Err(Hurdle::Failed(crate::file_store::FileError::Io)),
        }
    }

    /// A frame full of a word for a page that has none.
    fn blank_frame(
        &self,
        core: &mut Core<P>,
        group: GroupId,
        (id, page): FilePage,
        word: u32,
        copy: Option<PageCopy>,
    ) -> Result<Pfn, Scarce> {
        let token = self.alloc_user(core, group)?;
        self.memory.fill(token.pfn(), word);
        let (home, residence) =
            (Home::Object(id, page), if copy.is_some() { Residence::Clean } else { Residence::Dirty });
        let was = core.objects.get_mut(id).map_or(Record::Absent, |object| object.index.get(page.key()));
        let from = core.class_of_record(was);
        let frame = core.table.settle(token, home, residence);
        core.table.get_mut(frame).set_copy(copy);
        let class = if copy.is_some() { PageClass::Clean } else { PageClass::Dirty };
        core.turn(home, from, class, Record::Resident(frame));
        core.admit(frame);
        Ok(frame)
    }
}

impl<P: Platform> Core<P> {
    /// Whether the program's page that a copy has come to is there, if it has one.
    fn has_user_side(&mut self, job: &Job<'_>, done: u64) -> bool {
        let Peer::User(addr, _) = job.peer else { return true };
        let page = VirtAddr::new(addr.as_u64() + done).page();
        let record = self.record_for(job.space, page, job.way.to_user());
        matches!(record, Record::Resident(_)) || (record == Record::Zero && job.way == Way::Write)
    }

    /// Who asks for a page of an object that is not about any page of a space.
    pub(super) fn request_for(&mut self, space: SpaceId, access: Access) -> Request {
        let group = self.spaces.get_mut(space).map_or(GroupId::ROOT, |s| s.group);
        Request { space, page: Vpn::new(0), access, group }
    }
}

/// A piece of a copy.
struct Piece {
    /// Where it is in the program's memory, if it is there.
    addr: Option<VirtAddr>,
    len: u64,
    /// Pages of the program's that it needs.
    pages: usize,
}

/// What was copied counts, if anything was.
fn short(done: u64, error: ObjectError) -> Result<u64, ObjectError> {
    if done > 0 { Ok(done) } else { Err(error) }
}
