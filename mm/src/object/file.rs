//! Pages of files: read in when they are touched, written only after their blocks are there, written out in runs.
//!
//! Owns the begin of each operation on a file. What becomes of it when it comes back is in [`super::complete`]. Does not know how
//! the store does it ([`crate::file_store`]).
//!
//! ```text
//!             touched                       first store: Prepare, then        sync, age, bound, pressure
//!   (absent) ─────────► Filling ─► Clean ─────────────────────────────► Dirty ──────────────────────────► Cleaning ─► Clean
//!                                    │ evicted: leaves for free           ▲                                  │
//!                                    ▼                                    └──────── stored to meanwhile ─────┘
//!                                 (absent)
//! ```
//! A page is mapped so that it can be written only while it is `Dirty` (or `Cleaning` and marked as written again), so the count of dirty
//! pages is exact without looking at D bits, and a page can never turn dirty for which the store has no block (design D11).

use super::{Object, ObjectId, ObjectPage, Sharing};
use crate::addr::{PAGE_SIZE, Pfn};
use crate::fault::{FaultError, Holds, Original, Step, Subject};
use crate::file_store::{FileError, FileIo, FileRequest};
use crate::frame::Residence;
use crate::group::GroupId;
use crate::home::Home;
use crate::manager::{Core, Mm, Scarce};
use crate::ops::{OpId, OpKind, OpPage, Target};
use crate::page::{Record, Tag};
use crate::platform::{Access, CLUSTER, IoFrames, PhysMemory, Platform};
use crate::shortage::Cause;
use crate::stats::PageClass;
use arrayvec::ArrayVec;
use maitake_sync::wait_queue::Wait;

/// Pages read at a time when somebody reads in order.
const AHEAD: usize = 16;

/// Pages of files have no tag of their contents. This one says that the page was counted as leaving.
pub(super) const LEAVING: Tag = Tag::new(1);

/// A page of a file.
pub(crate) type FilePage = (ObjectId, ObjectPage);

/// What stands between somebody and a page of a file.
pub(crate) enum Hurdle<'a, P: Platform> {
    /// The store could not do it.
    Failed(FileError),
    /// There is no frame, and where it is that there is none.
    NoFrame(Scarce),
    /// Something is under way.
    Wait(Wait<'a, P::Lock>, Cause),
}

impl<P: Platform> Mm<P> {
    /// A fault on a page of a file that has this record.
    pub(super) fn serve_file<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        (id, page, sharing): (ObjectId, ObjectPage, Sharing),
        record: Record,
    ) -> Step<'a, P> {
        let home = Home::Object(id, page);
        let writes = subject.request.access == Access::Write;
        let frame = match self.file_frame(core, holds, subject.request.group, (id, page), record) {
            Ok(frame) => frame,
            Err(hurdle) => return self.step_of(core, subject, holds, hurdle),
        };
        if writes && sharing == Sharing::Private {
            return self.copy_on_write(core, subject, holds, Original::Frame(frame));
        }
        if writes && let Err(hurdle) = self.make_dirty(core, holds, (id, page), frame, 1) {
            return self.step_of(core, subject, holds, hurdle);
        }
        let dirty = core.table.get(frame).residence() == Residence::Dirty;
        let writable = sharing == Sharing::Shared && (writes || dirty);
        let rights = if writable { subject.rights } else { subject.rights.without_write() };
        self.map_resident(core, Subject { home, rights, ..subject }, frame, holds)
    }

    fn step_of<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        hurdle: Hurdle<'a, P>,
    ) -> Step<'a, P> {
        match hurdle {
            Hurdle::Failed(_) => Step::Failed(FaultError::BadPage),
            Hurdle::NoFrame(scarce) => self.no_frame(core, subject.request, holds, scarce),
            Hurdle::Wait(wait, cause) => Step::Wait(wait, cause),
        }
    }

    /// The frame of a page with this record, or what is in the way; then it is under way.
    pub(super) fn file_frame<'a>(
        &'a self,
        core: &mut Core<P>,
        holds: &mut Holds,
        group: GroupId,
        page: FilePage,
        record: Record,
    ) -> Result<Pfn, Hurdle<'a, P>> {
        match record {
            Record::Resident(frame) => Ok(frame),
            Record::Filling(op) => {
                if let Some(frame) = core.frame_under(op, Home::Object(page.0, page.1)) {
                    self.hold(core, frame, holds);
                }
                Err(self.hurdle_op(core, holds, op, Cause::Contents))
            }
            _ => match holds.take_awaited().and_then(|awaited| core.ops.error(awaited)) {
                Some(error) => Err(Hurdle::Failed(error)),
                None => Err(self.begin_file_fill(core, holds, group, page)),
            },
        }
    }

    /// Waits for an operation, whose error is this thread's.
    fn hurdle_op<'a>(&'a self, core: &Core<P>, holds: &mut Holds, op: OpId, cause: Cause) -> Hurdle<'a, P> {
        holds.await_op(core.ops.awaited(op));
        Hurdle::Wait(self.op_waits[op.index()].wait(), cause)
    }

    /// Begins to read a page, and those behind it if the one before it is there.
    fn begin_file_fill<'a>(
        &'a self,
        core: &mut Core<P>,
        holds: &mut Holds,
        group: GroupId,
        (id, page): FilePage,
    ) -> Hurdle<'a, P> {
        if core.objects.get_mut(id).is_some_and(|object| object.is_closed(page)) {
            return Hurdle::Wait(self.vacancies_over.wait(), Cause::Obstacle);
        }
        if !core.ops.has_room(OpKind::Fill) {
            return Hurdle::Wait(self.op_room.wait(), Cause::Obstacle);
        }
        let Some((file, count)) = core.objects.get_mut(id).and_then(|o| Some((o.file()?, o.run_to_read(page)))) else {
            return Hurdle::Failed(FileError::Io);
        };
        let (mut pages, mut frames) = (ArrayVec::<_, CLUSTER>::new(), core.ops.frames());
        for i in 0..count {
            // The page itself gets a frame as any page does; those ahead only while there are many.
            if i > 0 && self.frames.free_frames() <= self.watermarks.low {
                break;
            }
            let token = match self.alloc_user(core, group) {
                Ok(token) => token,
                Err(scarce) if i == 0 => {
                    core.ops.put_back_frames(frames);
                    return Hurdle::NoFrame(scarce);
                }
                Err(_) => break,
            };
            pages.push(OpPage { frame: token.pfn(), tag: Tag::new(0) });
            frames.push(token.lend());
        }
        let count = pages.len() as u32;
        let Some(op) = core.ops.begin(OpKind::Fill, Target::File(id, page, count), &pages) else {
            unreachable!("there is room")
        };
        for (i, frame) in frames.iter().enumerate() {
            let home = Home::Object(id, page.after(i as u64));
            core.table.get_mut(frame.pfn()).reset(home, Residence::Filling);
            core.turn(home, PageClass::Absent, PageClass::Filling, Record::Filling(op));
        }
        self.hold(core, frames[0].pfn(), holds);
        core.counters.file_reads += 1;
        self.submit_file(core, FileRequest { op, io: FileIo::Read, file, page, count, frames });
        self.hurdle_op(core, holds, op, Cause::Contents)
    }

    /// A resident page of a file is about to be stored to: from now on it is dirty. `ahead` pages from it on are about to be, too.
    pub(super) fn make_dirty<'a>(
        &'a self,
        core: &mut Core<P>,
        holds: &mut Holds,
        (id, page): FilePage,
        frame: Pfn,
        ahead: u32,
    ) -> Result<(), Hurdle<'a, P>> {
        let failed = holds.take_awaited().and_then(|awaited| core.ops.error(awaited));
        if core.table.get(frame).residence() == Residence::Dirty {
            return Ok(());
        }
        core.rescue(frame);
        let desc = core.table.get_mut(frame);
        if desc.residence() == Residence::Cleaning {
            desc.set_rewritten(true);
            return Ok(());
        }
        let known = core.objects.get_mut(id).is_some_and(|object| object.is_prepared(page));
        if !core.table.get(frame).prepared() && !known {
            self.hold(core, frame, holds);
            return Err(match failed {
                Some(error) => Hurdle::Failed(error),
                None => self.begin_prepare(core, holds, (id, page), ahead),
            });
        }
        // Of pages that are held none is cleaned for another, so they do not count: there is always one that can be.
        if core.objects.dirty() >= self.dirty_limit as u64 && core.objects.dirty() > core.held {
            self.hold(core, frame, holds);
            return Err(self.relieve_of_dirt(core));
        }
        core.table.get_mut(frame).set_prepared(true);
        core.became_dirty(frame);
        Ok(())
    }

    fn begin_prepare<'a>(
        &'a self,
        core: &mut Core<P>,
        holds: &mut Holds,
        (id, page): FilePage,
        count: u32,
    ) -> Hurdle<'a, P> {
        let under_way = core.ops.find(|op| op.kind == OpKind::Prepare && op.target.is_about(id, page));
        if let Some(op) = under_way {
            return self.hurdle_op(core, holds, op, Cause::Obstacle);
        }
        let Some((file, singly)) = core.objects.get_mut(id).and_then(|object| Some((object.file()?, object.singly)))
        else {
            return Hurdle::Failed(FileError::Io);
        };
        let count = if singly { 1 } else { count };
        let Some(op) = core.ops.begin(OpKind::Prepare, Target::File(id, page, count), &[]) else {
            return Hurdle::Wait(self.op_room.wait(), Cause::Obstacle);
        };
        core.counters.file_prepares += 1;
        let frames = IoFrames::none();
        self.submit_file(core, FileRequest { op, io: FileIo::Prepare, file, page, count, frames });
        self.hurdle_op(core, holds, op, Cause::Obstacle)
    }

    /// Begins to write a dirty page, and those behind it that are dirty too. The first goes on to be `first`: `Cleaning`, or `Evicting`.
    /// Returns how many pages; `None` if the operation table is full.
    pub(crate) fn begin_file_clean(&self, core: &mut Core<P>, (id, page): FilePage, first: Residence) -> Option<u32> {
        if !core.ops.has_room(OpKind::Clean) {
            return None;
        }
        let file = core.objects.get_mut(id)?.file()?;
        let (mut pages, mut frames) = (ArrayVec::<_, CLUSTER>::new(), core.ops.frames());
        for i in 0..CLUSTER as u64 {
            let Some(Record::Resident(frame)) = core.objects.get_mut(id).map(|o| o.index.get(page.after(i).key()))
            else {
                break;
            };
            if core.table.get(frame).residence() != Residence::Dirty {
                break;
            }
            // Later stores must fault, to be seen.
            core.unmap_everywhere(self.frames, frame);
            self.zero_tail(core, (id, page.after(i)), frame);
            core.forget(frame);
            let token = core.table.lend(frame);
            core.table.get_mut(frame).set_old(false);
            let leaves = i == 0 && first == Residence::Evicting;
            core.set_residence(frame, if leaves { first } else { Residence::Cleaning });
            core.count_leaving(frame, i64::from(leaves));
            pages.push(OpPage { frame, tag: if leaves { LEAVING } else { Tag::new(0) } });
            frames.push(token);
        }
        let count = pages.len() as u32;
        let Some(op) = core.ops.begin(OpKind::Clean, Target::File(id, page, count), &pages) else {
            unreachable!("there is room")
        };
        core.counters.file_writes += 1;
        self.submit_file(core, FileRequest { op, io: FileIo::Write, file, page, count, frames });
        Some(count)
    }

    /// The bytes of a file's last page that are behind its end are zero, whatever was stored there through a mapping.
    pub(super) fn zero_tail(&self, core: &mut Core<P>, (id, page): FilePage, frame: Pfn) {
        let Some(object) = core.objects.get_mut(id) else { return };
        let end = (object.bytes.saturating_sub(page.offset())).min(PAGE_SIZE as u64) as usize;
        const ZEROES: [u8; 512] = [0; 512];
        let mut at = end;
        while at < PAGE_SIZE {
            let count = ZEROES.len().min(PAGE_SIZE - at);
            self.memory.write(frame, at, &ZEROES[..count]);
            at += count;
        }
    }
}

impl Object {
    /// How many pages to read from `page` on: more than one if the page before it is there, as when somebody reads in order.
    fn run_to_read(&mut self, page: ObjectPage) -> usize {
        let absent = |index: &crate::index::PageIndex, at: ObjectPage| index.get(at.key()) == Record::Absent;
        let in_order = page.as_u64() > 0 && !absent(&self.index, ObjectPage::new(page.as_u64() - 1));
        if !in_order || self.singly {
            return 1;
        }
        let most = AHEAD.min((self.end().as_u64() - page.as_u64()) as usize);
        let is_in_the_way = |at: ObjectPage| !absent(&self.index, at) || self.is_closed(at);
        (1..most).find(|i| is_in_the_way(page.after(*i as u64))).unwrap_or(most)
    }
}
