//! Write-back: dirty pages of files are written when somebody asks, when they are old, and when there are too many.
//!
//! Owns when. (Under pressure it is [`crate::reclaim`] that decides.) How a run of pages is written is [`super::file`]'s.
//!
//! The bound on dirty pages keeps a writer from filling RAM with what only a slow disk can take: at the bound, whoever would make one
//! more page dirty begins to write some, and waits. The age comes from whoever calls [`Mm::write_back_old`] from time to time: a page
//! that was dirty at one call and still is at the next is written.

use super::file::{FilePage, Hurdle};
use super::{ObjectError, ObjectId, ObjectPage};
use crate::addr::PageRange;
use crate::frame::Residence;
use crate::manager::{Core, Mm};
use crate::ops::OpKind;
use crate::page::Record;
use crate::platform::Platform;
use crate::shortage::Cause;
use crate::space::CHUNK;
use core::ops::Range;
use maitake_sync::wait_queue::Wait;

/// Records looked at in one poll: those that are not dirty cost next to nothing.
const GLANCES: usize = 16 * CHUNK;

/// Where the search for dirty pages goes on.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Broom {
    slot: usize,
    page: u64,
}

/// What a step of write-back came to.
enum Sweep<'a, P: Platform> {
    /// All was looked at.
    Done,
    /// Going on here.
    More(ObjectPage),
    /// Going on here, but later.
    Wait(ObjectPage, Wait<'a, P::Lock>),
}

/// Which dirty pages are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that were dirty the last time; the others are noted for the next.
    Old,
    /// Those that nobody holds. Who stores to several pages at once needs them all dirty, and would never get on if one were cleaned for the
    /// next.
    Unheld,
}

impl<P: Platform> Mm<P> {
    /// Writes the dirty pages of an object's range; when this returns `Ok`, what was stored before the call is where the store keeps it (its
    /// own caches aside), and nothing is being prepared that was begun before. An error that write-back met since the last call is told once.
    /// Memory that is no file's has no such place, so there is nothing to do.
    pub async fn sync_object(&self, id: ObjectId, range: Range<ObjectPage>) -> Result<(), ObjectError> {
        let is_file = self.core.with_lock(|core| core.objects.get_mut(id).map(|object| object.file().is_some()));
        if !is_file.ok_or(ObjectError::Gone)? {
            return Ok(());
        }
        self.sweep(id, range.clone(), Which::All).await;
        let begun = self.core.with_lock(|core| core.ops.begun());
        let changes = |kind| matches!(kind, OpKind::Clean | OpKind::Prepare);
        self.until_over(move |op| changes(op.kind) && op.serial <= begun && op.target.reaches(id, range.start)).await;
        let error = self.core.with_lock(|core| Some(core.objects.get_mut(id)?.write_error.take()));
        match error {
            None => Err(ObjectError::Gone),
            Some(Some(error)) => Err(error.into()),
            Some(None) => Ok(()),
        }
    }

    /// Begins to write the pages of files that were dirty at the last call and still are. To be called every few seconds.
    pub async fn write_back_old(&self) {
        let mut slot = 0;
        while let Some((at, id)) = self.core.with_lock(|core| core.objects.next_file(slot)) {
            self.sweep(id, ObjectPage::new(0)..ObjectPage::LAST, Which::Old).await;
            slot = at + 1;
        }
    }

    /// Waits until no operation is under way of which this is true.
    pub(super) async fn until_over(&self, which: impl Fn(&crate::ops::Op) -> bool) {
        loop {
            let wait = self.core.with_lock(|core| core.ops.find(&which).map(|op| self.op_waits[op.index()].wait()));
            let Some(wait) = wait else { return };
            let _woken = wait.await;
        }
    }

    async fn sweep(&self, id: ObjectId, range: Range<ObjectPage>, which: Which) {
        let mut next = range.start;
        loop {
            match self.core.with_lock(|core| self.sweep_chunk(core, id, next..range.end, which)) {
                Sweep::Done => return,
                Sweep::More(page) => {
                    next = page;
                    crate::yield_now().await;
                }
                Sweep::Wait(page, wait) => {
                    next = page;
                    let _woken = wait.await;
                }
            }
        }
    }

    fn sweep_chunk<'a>(
        &'a self,
        core: &mut Core<P>,
        id: ObjectId,
        range: Range<ObjectPage>,
        which: Which,
    ) -> Sweep<'a, P> {
        let mut next = range.start;
        for _ in 0..CHUNK / crate::platform::CLUSTER {
            let (found, more) = core.next_dirty((id, next), range.end, which);
            let Some((page, residence)) = found else { return more.map_or(Sweep::Done, Sweep::More) };
            if residence != Residence::Dirty {
                // It is being written and was stored to since; it has to be written once more, after that.
                let under_way = core.ops.find(|op| op.kind == OpKind::Clean && op.target.is_about(id, page));
                let Some(op) = under_way else { unreachable!("a page is cleaned by an operation") };
                return Sweep::Wait(page, self.op_waits[op.index()].wait());
            }
            match self.begin_file_clean(core, (id, page), Residence::Cleaning) {
                Some(count) => next = page.after(u64::from(count)),
                None => return Sweep::Wait(page, self.op_room.wait()),
            }
        }
        Sweep::More(next)
    }

    /// There are as many dirty pages as there may be: begins to write some. The caller waits for one.
    pub(super) fn relieve_of_dirt<'a>(&'a self, core: &mut Core<P>) -> Hurdle<'a, P> {
        let wait = self.store_progress.wait();
        let begun =
            core.find_dirt().is_some_and(|page| self.begin_file_clean(core, page, Residence::Cleaning).is_some());
        if !begun && core.ops.counts().cleans == 0 {
            // The search has further to go: it goes on at once, after others had their turn.
            self.store_progress.wake_all();
        }
        Hurdle::Wait(wait, Cause::Obstacle)
    }
}

impl<P: Platform> Core<P> {
    /// The next page to be written in a range, or being written and stored to since; else where to go on, if there is more to look at.
    fn next_dirty(
        &mut self,
        (id, first): FilePage,
        end: ObjectPage,
        which: Which,
    ) -> (Option<(ObjectPage, Residence)>, Option<ObjectPage>) {
        let Self { objects, table, .. } = self;
        let Some(object) = objects.get_mut(id) else { return (None, None) };
        let mut found = None;
        let mut left = GLANCES;
        let mut start = first.key();
        while left > 0 && found.is_none() {
            let step = left.min(CHUNK);
            left -= step;
            let range = PageRange { start, end: end.key() };
            let more = object.index.visit(range, step, |page, record| {
                if let Record::Resident(frame) = record
                    && found.is_none()
                {
                    let desc = table.get_mut(frame);
                    let again = desc.residence() == Residence::Cleaning && desc.rewritten();
                    let young = which == Which::Old && !desc.old();
                    let held = which == Which::Unheld && desc.holds() > 0;
                    if desc.residence() == Residence::Dirty && young {
                        desc.set_old(true);
                    } else if (desc.residence() == Residence::Dirty && !held) || (again && which == Which::All) {
                        found = Some((ObjectPage::new(page.as_u64()), desc.residence()));
                    }
                }
                record
            });
            match more {
                Some(next) => start = next,
                None => return (found, None),
            }
        }
        (found, Some(ObjectPage::new(start.as_u64())))
    }

    /// A dirty page of any file that nobody holds, from where the last search ended; `None` if there was none among those looked at.
    fn find_dirt(&mut self) -> Option<FilePage> {
        for _ in 0..=self.objects.len() {
            let Broom { slot, page } = self.broom;
            let Some((at, id)) = self.objects.next_file(slot) else {
                self.broom = Broom::default();
                continue;
            };
            let first = if at == slot { page } else { 0 };
            let (found, more) = self.next_dirty((id, ObjectPage::new(first)), ObjectPage::LAST, Which::Unheld);
            if let Some((page, Residence::Dirty)) = found {
                self.broom = Broom { slot: at, page: page.as_u64() + 1 };
                return Some((id, page));
            }
            let next = found.map(|(page, _)| page.after(1)).or(more);
            self.broom = next.map_or(Broom { slot: at + 1, page: 0 }, |page| Broom { slot: at, page: page.as_u64() });
        }
        None
    }
}
