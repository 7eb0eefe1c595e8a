//! A hole in an object: pages in its middle are gone everywhere, and it ends where it ended.
//!
//! Owns [`Mm::vacate`] and the range of an object that is being emptied. As for a truncation the order is what counts: first the range is
//! closed, so that nobody begins anything in it; then its pages are unmapped and given up, dirty ones too; then it waits for what was
//! under way. From then until [`Vacant`] is dropped no request is under way for the range, and none begins: its blocks may be freed.
//!
//! ```text
//!   open ──(1)──► Closing: pages go, operations end ──(2)──► Vacant: whoever faults here waits ──(3)──► open
//!                    └──(4)──► Abandoned: until the operations are over ──(5)──► open
//! ```
//! 1, 2. [`Mm::vacate`]. 3. [`Vacant`] is dropped. 4. `vacate` is dropped half-way. 5. [`Mm::reopen`], by the end of an operation. A page that
//! was given up while it was being written must not be read before that is over: requests for one page never overlap.
//!
//! What private areas have copied stays: a hole in a file is none in its copies (fallocate(2); Linux's `truncate_pagecache_range`).

use super::{Object, ObjectError, ObjectId, ObjectPage};
use crate::manager::{Core, Mm};
use crate::ops::Op;
use crate::platform::Platform;
use core::ops::Range;
use maitake_sync::wait_queue::Wait;

/// A range of an object in which nobody begins anything.
pub(super) struct Closed {
    pages: Range<ObjectPage>,
    stage: Stage,
}

/// See the module's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Closing or vacant: somebody empties it.
    Kept,
    /// Whoever was to empty it is gone, and operations are not.
    Abandoned,
}

/// Pages of an object that nobody has: until this is dropped, whoever wants one of them waits.
#[must_use = "the range is open again when this is dropped"]
pub struct Vacant<'a, P: Platform> {
    mm: &'a Mm<P>,
    id: ObjectId,
}

impl<P: Platform> Drop for Vacant<'_, P> {
    fn drop(&mut self) {
        self.mm.core.with_lock(|core| {
            if let Some(closed) = core.objects.get_mut(self.id).and_then(|object| object.closed.as_mut()) {
                closed.stage = Stage::Abandoned; // step 4, or 3 if nothing is under way
                self.mm.reopen(core, self.id);
            }
        });
    }
}

impl<P: Platform> Mm<P> {
    /// Takes a range of pages out of an object, whatever was stored there, and keeps it closed as long as the result lives.
    ///
    /// Whoever keeps files lets nobody else write to the object through system calls meanwhile, nor change its end; threads may go on
    /// faulting on it. Dropped half-way, some pages may be as the store has them: stores to them are lost.
    pub async fn vacate(&self, id: ObjectId, pages: Range<ObjectPage>) -> Result<Vacant<'_, P>, ObjectError> {
        let (first, end) = (pages.start, pages.end);
        while let Some(wait) = self.close(id, first..end)? {
            // The queue is never closed.
            let _woken = wait.await;
        }
        let vacant = Vacant { mm: self, id };
        while self.core.with_lock(|core| self.release_object_pages(core, id, first..end)) {
            self.announce_frames();
            crate::yield_now().await;
        }
        self.announce_frames();
        self.until_over(move |op| op.target.overlaps(id, first, end)).await;
        Ok(vacant)
    }

    /// Step 1. What to wait for, if a range that was abandoned is not open yet.
    fn close(&self, id: ObjectId, pages: Range<ObjectPage>) -> Result<Option<Wait<'_, P::Lock>>, ObjectError> {
        self.core.with_lock(|core| {
            let object = core.objects.get_mut(id).ok_or(ObjectError::Gone)?;
            if let Some(closed) = &object.closed {
                debug_assert_eq!(closed.stage, Stage::Abandoned, "one hole at a time");
                return Ok(Some(self.vacancies_over.wait()));
            }
            object.closed = Some(Closed { pages, stage: Stage::Kept });
            object.forget_prepared();
            Ok(None)
        })
    }

    /// Opens the range of an object that nobody empties any more, if nothing is under way for it.
    pub(super) fn reopen(&self, core: &mut Core<P>, id: ObjectId) {
        let Core { objects, ops, .. } = core;
        let Some(object) = objects.get_mut(id) else { return };
        let is_over = |closed: &mut Closed| {
            let is_in_it = |op: &Op| op.target.overlaps(id, closed.pages.start, closed.pages.end);
            closed.stage == Stage::Abandoned && ops.find(is_in_it).is_none()
        };
        if object.closed.take_if(is_over).is_some() {
            // A prepare that was under way may have said that there are blocks, which are gone.
            object.forget_prepared();
            self.vacancies_over.wake_all();
        }
    }
}

impl Object {
    /// Whether a page is in a range that is being emptied.
    pub(super) fn is_closed(&self, page: ObjectPage) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.pages.contains(&page))
    }
}
