//! The kernel's access to user memory.
//!
//! Owns the copies between kernel and user. The kernel never faults: a copy goes page by page through the direct map, under the lock,
//! where no page can be evicted; a page that is not there is faulted in first, like any other, without the lock. Nothing needs to stay
//! pinned across a wait, so copies cannot deadlock over pins (see `docs/decisions`).

use super::SpaceId;
use crate::addr::{PAGE_SIZE, Pfn, VirtAddr, Vpn};
use crate::fault::{FaultError, Holds};
use crate::frame::Residence;
use crate::manager::{Core, Mm};
use crate::page::Record;
use crate::platform::{Access, PhysMemory, Platform};

/// Pages copied under one taking of the lock.
const COPY_PAGES: usize = 16;

/// Why a copy stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CopyError {
    /// The program has no such memory, or not with those rights, or it is lost: EFAULT.
    #[error("bad address")]
    BadAddress,
    /// There is no memory for a page in between: the program is to be killed.
    #[error("out of memory")]
    OutOfMemory,
}

impl From<FaultError> for CopyError {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::OutOfMemory => Self::OutOfMemory,
            _ => Self::BadAddress,
        }
    }
}

/// The kernel's side of a copy.
pub(super) enum Buffer<'a> {
    /// Filled from user memory.
    In(&'a mut [u8]),
    /// Written to user memory.
    Out(&'a [u8]),
}

impl Buffer<'_> {
    fn len(&self) -> usize {
        match self {
            Buffer::In(bytes) => bytes.len(),
            Buffer::Out(bytes) => bytes.len(),
        }
    }
    fn access(&self) -> Access {
        match self {
            Buffer::In(_) => Access::Read,
            Buffer::Out(_) => Access::Write,
        }
    }
}

/// Holds of the kernel's own, ended whenever a copy is over or dropped.
pub(crate) struct KernelHolds<'a, P: Platform> {
    mm: &'a Mm<P>,
    pub holds: Holds,
}

impl<'a, P: Platform> KernelHolds<'a, P> {
    pub fn new(mm: &'a Mm<P>) -> Self {
        Self { mm, holds: Holds::default() }
    }
}

impl<P: Platform> Drop for KernelHolds<'_, P> {
    fn drop(&mut self) {
        self.mm.release_holds(&mut self.holds);
    }
}

impl<P: Platform> Mm<P> {
    /// Fills `out` from user memory at `addr`, waiting for pages that are away.
    pub async fn copy_in(&self, space: SpaceId, addr: VirtAddr, out: &mut [u8]) -> Result<(), CopyError> {
        self.copy(space, addr, Buffer::In(out)).await
    }

    /// Writes `data` to user memory at `addr`, waiting for pages that are away.
    pub async fn copy_out(&self, space: SpaceId, addr: VirtAddr, data: &[u8]) -> Result<(), CopyError> {
        self.copy(space, addr, Buffer::Out(data)).await
    }

    /// As [`Self::copy_in`] if all pages are resident; `None` if one is not.
    pub fn try_copy_in(&self, space: SpaceId, addr: VirtAddr, out: &mut [u8]) -> Option<()> {
        let len = out.len();
        let done = self.core.with_lock(|core| self.copy_resident(core, space, addr, &mut Buffer::In(out), 0));
        (done == len).then_some(())
    }

    /// As [`Self::copy_out`] if all pages are resident; `None` if one is not, and then some may be written already.
    pub fn try_copy_out(&self, space: SpaceId, addr: VirtAddr, data: &[u8]) -> Option<()> {
        let done = self.core.with_lock(|core| self.copy_resident(core, space, addr, &mut Buffer::Out(data), 0));
        (done == data.len()).then_some(())
    }

    async fn copy(&self, space: SpaceId, addr: VirtAddr, mut buffer: Buffer<'_>) -> Result<(), CopyError> {
        let (len, access) = (buffer.len(), buffer.access());
        addr.checked_add(len as u64).ok_or(CopyError::BadAddress)?;
        let mut done = 0;
        let mut held = KernelHolds::new(self);
        while done < len {
            let before = done;
            done = self.core.with_lock(|core| self.copy_resident(core, space, addr, &mut buffer, done));
            if done == len {
                break;
            }
            if done - before >= COPY_PAGES * PAGE_SIZE / 2 {
                crate::yield_now().await;
                continue;
            }
            let at = VirtAddr::new(addr.as_u64() + done as u64);
            // Each page is an instruction of its own: the hold on the one before ends here.
            self.fault(space, at, access, at.as_u64(), &mut held.holds).await?;
        }
        Ok(())
    }

    /// Copies from `done` on until a page is not resident or enough was done; returns how far it got.
    pub(super) fn copy_resident(
        &self,
        core: &mut Core<P>,
        space: SpaceId,
        addr: VirtAddr,
        buffer: &mut Buffer<'_>,
        mut done: usize,
    ) -> usize {
        for _ in 0..COPY_PAGES {
            let left = buffer.len() - done;
            let Some(at) = addr.checked_add(done as u64) else {
                return done;
            };
            let count = left.min(PAGE_SIZE - at.page_offset());
            if count == 0
                || !self.copy_within_page(core, (space, at.page()), at.page_offset(), buffer, done..done + count)
            {
                return done;
            }
            done += count;
        }
        done
    }

    /// Copies a part of one page; `false` if the page must be faulted in first, or may not be accessed.
    fn copy_within_page(
        &self,
        core: &mut Core<P>,
        (space, page): (SpaceId, Vpn),
        offset: usize,
        buffer: &mut Buffer<'_>,
        part: core::ops::Range<usize>,
    ) -> bool {
        let Some(s) = core.spaces.get_mut(space).filter(|s| !s.dying) else {
            return false;
        };
        if !s.vmas.find(page).is_some_and(|area| area.rights.allow(buffer.access())) {
            return false;
        }
        match (core.record_for(space, page, buffer.access()), buffer) {
            (Record::Zero, Buffer::In(out)) => out[part].fill(0),
            (Record::Resident(frame), Buffer::In(out)) => {
                self.memory.read(frame, offset, &mut out[part]);
                core.table.get_mut(frame).set_young(true);
            }
            (Record::Resident(frame), Buffer::Out(data)) => {
                self.memory.write(frame, offset, &data[part]);
                core.written_directly(frame);
            }
            _ => return false,
        }
        true
    }
}

impl<P: Platform> Core<P> {
    /// The record of the page that an access of this kind would be to, in an area that allows it; [`Record::Absent`] if there is none
    /// yet, because nobody has touched it or because a write must copy it first.
    pub(crate) fn record_for(&mut self, space: SpaceId, page: Vpn, access: Access) -> Record {
        let Some(s) = self.spaces.get_mut(space) else { return Record::Absent };
        let object = s.vmas.find(page).and_then(|area| area.object_page(page));
        let own = s.index.get(page);
        let Some((id, page, sharing)) = object else { return self.shared_record_for(own, access) };
        let Some(object) = self.objects.get_mut(id).filter(|object| page < object.end()) else { return Record::Absent };
        match own {
            Record::Absent if !sharing.is_private() || access == Access::Read => {
                let (record, is_file) = (object.index.get(page.key()), object.file().is_some());
                let ready = |frame: Pfn| {
                    let desc = self.table.get(frame);
                    desc.residence() == Residence::Dirty
                        || (desc.residence() == Residence::Cleaning && desc.rewritten())
                };
                match record {
                    // A page of a file is written to only when that is provided for.
                    Record::Resident(frame) if is_file && access == Access::Write && !ready(frame) => Record::Absent,
                    record => record,
                }
            }
            own => self.shared_record_for(own, access),
        }
    }

    fn shared_record_for(&self, own: Record, access: Access) -> Record {
        match own {
            Record::Shared(anon) if access == Access::Read => self.anons.record(anon),
            Record::Shared(_) => Record::Absent,
            own => own,
        }
    }

    /// A page was written through the direct map, which no D bit shows.
    pub(crate) fn written_directly(&mut self, frame: Pfn) {
        match self.table.get(frame).residence() {
            Residence::Clean => self.became_dirty(frame),
            Residence::Evicting => {
                self.set_residence(frame, Residence::Cleaning); // step 7
                self.table.get_mut(frame).set_rewritten(true);
            }
            Residence::Cleaning => self.table.get_mut(frame).set_rewritten(true),
            _ => {}
        }
        self.table.get_mut(frame).set_young(true);
    }
}
