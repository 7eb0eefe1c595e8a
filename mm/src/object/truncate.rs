//! The end of an object: grown, it is followed by zeroes; shrunk, what was behind the end is gone everywhere.
//!
//! Owns [`Mm::truncate_object`]. The order is what counts (design D11): first the end is moved, so that nobody begins anything
//! behind it; then pages are unmapped and given up; then it waits for what was under way, so that when it returns the blocks may be freed.
//!
//! ```text
//!   whole ──the end moves forward──► cut short ──all behind it is gone, the tail is zero──► whole
//! ```
//! A cut that is dropped or fails half-way leaves the object cut short: what was behind the end may still be mapped, or in RAM, or in the
//! tail of the last block. That is as legal as while the cut was under way, as long as the end does not move back: so whoever makes a
//! longer object of it, by writing or by moving the end, brings the cut to its end first.

use super::file::{FilePage, Hurdle};
use super::{MAX_OBJECT, ObjectError, ObjectId, ObjectPage, Sharing};
use crate::addr::{PAGE_SIZE, PageRange, Pfn};
use crate::fault::Step;
use crate::file_store::FileError;
use crate::home::Home;
use crate::manager::{Core, Mm};
use crate::page::Record;
use crate::platform::{Access, Platform};
use crate::shortage::Waiter;
use crate::space::{SpaceId, access::KernelHolds};
use arrayvec::ArrayVec;

/// Areas handled at a time.
const AREAS: usize = 16;

impl<P: Platform> Mm<P> {
    /// Makes an object so many bytes long. What is behind the end is unmapped everywhere, copies in private areas included, and lost; a
    /// later access is [`crate::fault::FaultError::BadPage`]. When this returns, no request is under way for a page behind the end.
    ///
    /// Whoever keeps files lets nobody else write to the object through system calls meanwhile; threads may go on faulting on it.
    /// `space` is who is out of memory if there is none. Dropped half-way, or failed, the end is where it was asked to be, or where it was
    /// if a cut before this one could not be brought to its end; [`Self::object_is_cut_short`] says whether something is left to do.
    pub async fn truncate_object(&self, id: ObjectId, bytes: u64, space: SpaceId) -> Result<(), ObjectError> {
        if bytes > MAX_OBJECT {
            return Err(ObjectError::TooLarge);
        }
        if bytes > self.object_size(id).ok_or(ObjectError::Gone)? {
            self.complete_cut(id, Some(space)).await?;
        }
        self.core.with_lock(|core| self.set_end(core, id, bytes)).ok_or(ObjectError::Gone)?;
        self.complete_cut(id, Some(space)).await
    }

    /// If an object is cut short, takes away what is left behind its end, on behalf of a space, if of any. To be called while nobody
    /// writes to the object through system calls.
    pub async fn complete_cut(&self, id: ObjectId, whose: Option<SpaceId>) -> Result<(), ObjectError> {
        if !self.object_is_cut_short(id) {
            return Ok(());
        }
        let bytes = self.object_size(id).ok_or(ObjectError::Gone)?;
        let end = ObjectPage::holding(bytes + PAGE_SIZE as u64 - 1);
        while self.core.with_lock(|core| self.release_object_pages(core, id, end..ObjectPage::LAST)) {
            self.announce_frames();
            crate::yield_now().await;
        }
        self.announce_frames();
        self.release_copies(id, end).await;
        self.until_over(move |op| op.target.reaches(id, end)).await;
        // A prepare that was under way may have said meanwhile that there are blocks, which go now.
        self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.forget_prepared()));
        if !bytes.is_multiple_of(PAGE_SIZE as u64) {
            // The rest of the last page must be zero on the disk, too, or it would come back when the file grows.
            self.clear_tail((id, ObjectPage::holding(bytes)), whose.unwrap_or(SpaceId::NOBODY)).await?;
        }
        self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.cut_short = false));
        Ok(())
    }

    /// Takes everything out of an object that nobody can reach any more. When this returns, no request is under way for it.
    pub async fn empty_object(&self, id: ObjectId) {
        // Without a page that is cut through nothing is read, so nobody can be out of memory; an object that is gone is empty.
        let _done = self.truncate_object(id, 0, SpaceId::NOBODY).await;
    }

    /// Moves the end. `None` if the object is gone.
    pub(super) fn set_end(&self, core: &mut Core<P>, id: ObjectId, bytes: u64) -> Option<()> {
        let object = core.objects.get_mut(id)?;
        let old = object.bytes;
        let last = ObjectPage::holding(old);
        if bytes > old
            && !old.is_multiple_of(PAGE_SIZE as u64)
            && let Record::Resident(frame) = object.index.get(last.key())
        {
            // What was stored behind the old end through a mapping is no part of the file.
            self.drop_tail(core, (id, last), frame);
        }
        let object = core.objects.get_mut(id)?;
        object.bytes = bytes;
        if bytes < old {
            object.forget_prepared();
            object.cut_short = true;
        }
        Some(())
    }

    /// Zeroes what a page has behind the end. A page of memory may have a copy somewhere, which is no longer the same then; those of files
    /// are clean only with zeroes there.
    fn drop_tail(&self, core: &mut Core<P>, page: FilePage, frame: Pfn) {
        self.zero_tail(core, page, frame);
        if core.objects.get_mut(page.0).is_some_and(|object| object.file().is_none()) {
            core.written_directly(frame);
        }
    }

    /// A page of shared memory is about to leave RAM: what was stored in it behind the end does not come back. As no mapping refers to it
    /// now, nobody can store there any more, so the end may move back while the page is away.
    pub(crate) fn leave_tail(&self, core: &mut Core<P>, home: Home, frame: Pfn) {
        let Home::Object(id, page) = home else { return };
        if core.objects.get_mut(id).is_some_and(|object| object.bytes < page.after(1).offset()) {
            self.zero_tail(core, (id, page), frame);
        }
    }

    async fn clear_tail(&self, page: FilePage, space: SpaceId) -> Result<(), ObjectError> {
        let mut held = KernelHolds::new(self);
        let mut waiter = Waiter::new(self);
        loop {
            let wait = self.core.with_lock(|core| {
                let request = core.request_for(space, Access::Write);
                match self.object_frame(core, &mut held.holds, request, page, 1) {
                    Ok(frame) => {
                        if let Some(frame) = frame {
                            self.drop_tail(core, page, frame);
                        }
                        Ok(None)
                    }
                    // No block, so nothing but zeroes.
                    Err(Hurdle::Failed(FileError::NoSpace)) => Ok(None),
                    Err(Hurdle::Failed(error)) => Err(error.into()),
                    Err(Hurdle::Wait(wait, cause)) => Ok(Some((wait, cause))),
                    Err(Hurdle::NoFrame(scarce)) => match self.no_frame(core, request, &mut held.holds, scarce) {
                        Step::Wait(wait, cause) => Ok(Some((wait, cause))),
                        _ => Err(ObjectError::OutOfMemory),
                    },
                }
            })?;
            let Some((wait, cause)) = wait else { return Ok(()) };
            waiter.wait(wait, cause).await;
        }
    }

    /// Gives up what private areas have copied of pages behind the end.
    async fn release_copies(&self, id: ObjectId, end: ObjectPage) {
        let mut from = 0;
        while let Some((slot, space)) = self.core.with_lock(|core| core.spaces.at_or_after(from).map(|s| (s.0, s.1))) {
            from = slot + 1;
            let mut skip = 0;
            loop {
                let areas: ArrayVec<PageRange, AREAS> =
                    self.core.with_lock(|core| core.copies_behind(space, id, end, skip));
                skip += areas.len();
                let last = !areas.is_full();
                for range in areas {
                    self.release_pages(space, range).await;
                }
                if last {
                    break;
                }
            }
            crate::yield_now().await;
        }
    }
}

impl<P: Platform> Core<P> {
    /// Parts of a space's private areas that map an object from page `end` on, without the first `skip`.
    fn copies_behind(
        &mut self,
        space: SpaceId,
        id: ObjectId,
        end: ObjectPage,
        skip: usize,
    ) -> ArrayVec<PageRange, AREAS> {
        let Some(s) = self.spaces.get_mut(space) else { return ArrayVec::new() };
        let behind = s.vmas.iter().filter_map(|area| {
            let (object, first, sharing) = area.object_page(area.range.start)?;
            let kept = end.as_u64().saturating_sub(first.as_u64());
            let start = area.range.start.offset(kept);
            (object == id && sharing == Sharing::Private && start < area.range.end)
                .then_some(PageRange { start, end: area.range.end })
        });
        behind.skip(skip).take(AREAS).collect()
    }
}
