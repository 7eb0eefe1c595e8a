//! A hole in an object: pages in its middle are gone everywhere, and it ends where it ended.
//!
//! Owns [`Mm::vacate`] and the range of an object that is being emptied. As for a truncation the order is what counts: first the range is
//! closed, so that nobody begins anything in it; then its pages are unmapped and given up, dirty ones too; then it waits for what was
//! under way. From then until [`Vacant`] is dropped no request is under way for the range, and none begins: its blocks may be freed.
//!
//! ```text
//!   open ── vacate ──► closed: pages go, operations end ──► Vacant: whoever faults here waits ── drop ──► open
//! ```
//! What private areas have copied stays: a hole in a file is none in its copies (fallocate(2); Linux's `truncate_pagecache_range`).

use super::{Object, ObjectError, ObjectId, ObjectPage};
use crate::manager::Mm;
use crate::platform::Platform;
use core::ops::Range;

/// Pages of an object that nobody has: until this is dropped, whoever wants one of them waits.
#[must_use = "the range is open again when this is dropped"]
pub struct Vacant<'a, P: Platform> {
    mm: &'a Mm<P>,
    id: ObjectId,
}

impl<P: Platform> Drop for Vacant<'_, P> {
    fn drop(&mut self) {
        self.mm.core.with_lock(|core| {
            if let Some(object) = core.objects.get_mut(self.id) {
                object.closed = None;
                // A prepare that was under way may have said that there are blocks, which are gone.
                object.forget_prepared();
            }
        });
        self.mm.vacancies_over.wake_all();
    }
}

impl<P: Platform> Mm<P> {
    /// Takes a range of pages out of an object, whatever was stored there, and keeps it closed as long as the result lives.
    ///
    /// Whoever keeps files lets nobody else write to the object through system calls meanwhile, nor change its end; threads may go on
    /// faulting on it. Dropped half-way, some pages may be as the store has them: stores to them are lost.
    pub async fn vacate(&self, id: ObjectId, pages: Range<ObjectPage>) -> Result<Vacant<'_, P>, ObjectError> {
        let (first, end) = (pages.start, pages.end);
        let found = self.core.with_lock(|core| {
            let object = core.objects.get_mut(id)?;
            debug_assert!(object.closed.is_none(), "one hole at a time");
            object.closed = Some(pages);
            object.forget_prepared();
            Some(())
        });
        found.ok_or(ObjectError::Gone)?;
        let vacant = Vacant { mm: self, id };
        while self.core.with_lock(|core| self.release_object_pages(core, id, first..end)) {
            self.announce_frames();
            crate::yield_now().await;
        }
        self.announce_frames();
        self.until_over(move |op| op.target.overlaps(id, first, end)).await;
        Ok(vacant)
    }
}

impl Object {
    /// Whether a page is in a range that is being emptied.
    pub(super) fn is_closed(&self, page: ObjectPage) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.contains(&page))
    }
}
