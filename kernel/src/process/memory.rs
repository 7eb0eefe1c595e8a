//! The process side's way to `mm`: the only file of process, syscall and fs that calls the memory manager.
//!
//! Owns the translation between Linux's words and `mm`'s (errno, protection bits, placement) and the pages held for
//! a thread's progress. Kernel access to user memory is asynchronous: `mm` makes the pages resident and goes through
//! the direct map, so nothing here can fault (design D4). A copy that is refused a frame ends the process if it is the one to
//! end (`victims.rs`); otherwise it waits like any fault.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use mm::addr::{PageRange, Pfn, VirtAddr, Vpn};
use mm::fault::Holds;
use mm::inspect::{Footprint, FrameSight, ObjectPages, Sight};
use mm::object::{Backing, ObjectId, ObjectPage, Sharing};
use mm::platform;
use mm::space::{Charge, Label, MapError, MapRequest, Placement, SpaceId, Vma};
use mm::stats::{PageCounts, Snapshot};
use pin_project_lite::pin_project;

pub use mm::fault::{FaultError, FaultKind};

use super::futex::Word;
use super::limits::{Resource, UNLIMITED};
use super::process::Process;
use super::space::AddressSpace;
use crate::arch::user::Access;
use crate::load::Stall;
use crate::machine::Machine;
use crate::syscall::abi::{PAGE_SIZE, Pod, check_user_range};
use crate::syscall::errno::Errno;

/// The first thread's stack: `RLIMIT_STACK` as it is on Linux. Its pages are committed when they are touched.
pub const STACK_BYTES: u64 = 8 << 20;

/// Pages copied to user memory between two chances for others.
const PAGES_PER_POLL: usize = 64;

/// What a program asked to be allowed on a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Protection {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Protection {
    /// Everyday memory.
    pub const READ_WRITE: Self = Self { read: true, write: true, execute: false };

    pub(super) fn rights(self) -> platform::Rights {
        let Self { read, write, execute } = self;
        platform::Rights { access: (read || write || execute).into(), write: write.into(), execute: execute.into() }
    }
}

/// Where a mapping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Wherever there is room.
    Anywhere,
    /// Here if there is room, anywhere else if not.
    Near(u64),
    /// Here, in place of whatever is there.
    Fixed(u64),
    /// Here or not at all.
    FixedIfFree(u64),
}

/// A mapping to be made.
#[derive(Debug, Clone)]
pub struct MapWish {
    place: Place,
    len: u64,
    protection: Protection,
    label: Label,
    charge: Charge,
    /// What of an object it shows; boxed, because wishes wait in threads' futures, and most are for memory of their own.
    window: Option<Box<Backing>>,
}

impl MapWish {
    /// `MAP_NORESERVE`: the memory is not counted as promised.
    pub fn never_promised(self) -> Self {
        Self { charge: Charge::Never, ..self }
    }

    /// For mmap(2).
    pub fn anonymous(place: Place, len: u64, protection: Protection) -> Self {
        Self { place, len, protection, label: Label::Anonymous, charge: Charge::Uncounted, window: None }
    }

    /// For mmap(2) of a file or of shared memory, from a page on.
    pub fn object(
        place: Place,
        len: u64,
        protection: Protection,
        from: (ObjectId, ObjectPage),
        sharing: Sharing,
    ) -> Self {
        Self::anonymous(place, len, protection).window(from, sharing)
    }

    /// The same, as a window of an object from a page on.
    pub fn window(self, (object, first): (ObjectId, ObjectPage), sharing: Sharing) -> Self {
        Self { window: Some(Box::new(Backing::Object { object, first, sharing })), ..self }
    }

    /// For brk(2).
    pub fn heap(start: u64, len: u64) -> Self {
        let place = Place::FixedIfFree(start);
        Self {
            place,
            len,
            protection: Protection::READ_WRITE,
            label: Label::Heap,
            charge: Charge::Uncounted,
            window: None,
        }
    }

    /// For a program's segments.
    pub fn image(start: u64, len: u64, protection: Protection) -> Self {
        let place = Place::FixedIfFree(start);
        Self { place, len, protection, label: Label::Image, charge: Charge::Uncounted, window: None }
    }

    /// For the first thread's stack, which ends at `top`.
    pub fn stack(top: u64, len: u64, protection: Protection) -> Self {
        let place = Place::FixedIfFree(top - len);
        Self { place, len, protection, label: Label::Stack, charge: Charge::Uncounted, window: None }
    }
}

/// A fault that has begun.
pub type Fault<'a> = mm::fault::Fault<'a, Machine>;

/// Outcome of a copy that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyAttempt<T> {
    /// Done.
    Done(T),
    /// The page is not resident (any more), or not there at all: the waiting copy will say.
    WouldWait,
}

/// The pages a thread faulted on since it last got anywhere (design D4), given back when it goes.
#[derive(Debug, Default)]
pub struct HeldPages(Holds);

impl HeldPages {
    /// The thread has made progress: nothing needs to stay.
    pub fn release(&mut self) {
        if !self.0.is_empty() {
            crate::mm().release_holds(&mut self.0);
        }
    }

    /// As `release`, if the thread is not where it faulted.
    pub fn release_unless_at(&mut self, instruction: u64) {
        if self.0.outlived(instruction) {
            self.release();
        }
    }
}

impl Drop for HeldPages {
    fn drop(&mut self) {
        self.release();
    }
}

pin_project! {
    /// A fault, whose thread counts as stalled for want of memory from the first poll that must wait to its end.
    pub struct WhileStalled<F> {
        #[pin]
        fault: F,
        stall: Option<Stall>,
    }
}

impl<F> WhileStalled<F> {
    /// The same fault, counted.
    pub fn of(fault: F) -> Self {
        Self { fault, stall: None }
    }
}

impl<F: Future> Future for WhileStalled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.fault.poll(cx);
        if polled.is_pending() && this.stall.is_none() {
            *this.stall = Some(Stall::begin());
        }
        polled
    }
}

impl AddressSpace {
    /// Begins to serve a page fault of the instruction at `instruction`: most are over then. Others wait [`WhileStalled`].
    #[inline]
    pub fn fault<'a>(&self, address: u64, access: Access, instruction: u64, held: &'a mut HeldPages) -> Fault<'a> {
        let access = match access {
            Access::Read => platform::Access::Read,
            Access::Write => platform::Access::Write,
            Access::Execute => platform::Access::Execute,
        };
        crate::mm().fault(self.id, VirtAddr::new(address), access, instruction, &mut held.0)
    }
}

/// Runs `attempt` until it succeeds, making the pages of the range resident whenever it does not.
///
/// The attempt copies under `mm`'s lock, from or to the caller's stack: what is copied need not live in the thread's
/// future while a page is on its way.
async fn with_resident<R>(
    space: SpaceId,
    at: u64,
    len: usize,
    access: platform::Access,
    mut attempt: impl FnMut(SpaceId) -> Option<R>,
) -> Result<R, FaultError> {
    check_user_range(at, len as u64).map_err(|_| FaultError::NotMapped)?;
    let mut held = HeldPages::default();
    loop {
        if let Some(result) = attempt(space) {
            return Ok(result);
        }
        let mut page = at - at % PAGE_SIZE;
        while page < at + len as u64 {
            let address = VirtAddr::new(page);
            WhileStalled::of(crate::mm().fault(space, address, access, at, &mut held.0)).await?;
            page += PAGE_SIZE;
        }
    }
}

/// Copies to user memory, page by page.
async fn write_bytes(space: SpaceId, at: u64, data: &[u8]) -> Result<(), FaultError> {
    check_user_range(at, data.len() as u64).map_err(|_| FaultError::NotMapped)?;
    let (mut done, mut pages) = (0, 0_usize);
    while done < data.len() {
        let to = at + done as u64;
        let part = data.len().min(done + left_in_page(to)) - done;
        let source = &data[done..done + part];
        let attempt = |space| crate::mm().try_copy_out(space, VirtAddr::new(to), source);
        with_resident(space, to, part, platform::Access::Write, attempt).await?;
        done += part;
        // One poll must not copy a whole program (design D3).
        pages += 1;
        if pages % PAGES_PER_POLL == 0 {
            executor::yield_now().await;
        }
    }
    Ok(())
}

impl AddressSpace {
    /// Copies to memory that no program runs in yet.
    pub async fn write_bytes(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        write_bytes(self.id, at, data).await.map_err(|error| match error {
            FaultError::OutOfMemory => Errno::ENOMEM,
            _ => Errno::EFAULT,
        })
    }

    /// Makes an empty space a copy of this one (fork(2)): pages are shared until one of the two writes.
    pub async fn copy_to(&self, child: &Self) -> Result<(), Errno> {
        crate::mm().fork_space(self.id, child.id).await.map_err(|_| Errno::ENOMEM)
    }

    /// Maps; says where.
    pub async fn map(&self, wish: MapWish) -> Result<u64, Errno> {
        let request = MapRequest {
            backing: wish.window.map_or(Backing::Anonymous, |window| *window),
            placement: match wish.place {
                Place::Anywhere => Placement::Anywhere,
                Place::Near(at) => Placement::Hint(VirtAddr::new(at)),
                Place::Fixed(at) => Placement::Fixed(VirtAddr::new(at)),
                Place::FixedIfFree(at) => Placement::FixedNoReplace(VirtAddr::new(at)),
            },
            len: wish.len,
            rights: wish.protection.rights(),
            label: wish.label,
        };
        let mapped = crate::mm().map_charged(self.id, request, wish.charge).await;
        mapped.map(VirtAddr::as_u64).map_err(map_errno)
    }

    /// What the word at an address is known by to those who wait on it: by its address, unless others may have it mapped elsewhere.
    pub fn word_at(&self, address: u64) -> Word {
        let page = VirtAddr::new(address).page();
        let area = crate::mm().area_from(self.id, page).filter(|area| area.range.contains(page));
        match area.and_then(|area| area.object_page(page)) {
            Some((object, page, sharing)) if !sharing.is_private() => {
                Word::Shared(object, page.offset() + address % PAGE_SIZE)
            }
            _ => Word::Own(address),
        }
    }

    /// Changes what may be done with the range.
    pub async fn protect(&self, start: u64, len: u64, to: Protection) -> Result<(), Errno> {
        let rights = to.rights();
        crate::mm().protect(self.id, VirtAddr::new(start), len, rights).await.map_err(map_errno)
    }
}

impl Process {
    /// As the function of that name; a copy that is refused a frame may end the process.
    async fn with_resident<R>(
        &self,
        at: u64,
        len: usize,
        access: platform::Access,
        attempt: impl FnMut(SpaceId) -> Option<R>,
    ) -> Result<R, Errno> {
        with_resident(self.space(), at, len, access, attempt).await.map_err(|error| self.copy_failed(error))
    }

    fn copy_failed(&self, error: FaultError) -> Errno {
        if error == FaultError::OutOfMemory {
            self.end_if_condemned();
        }
        Errno::EFAULT
    }

    /// Copies to user memory, page by page.
    pub async fn write_bytes(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        write_bytes(self.space(), at, data).await.map_err(|error| self.copy_failed(error))
    }

    /// Copies a structure from user memory. Structures are smaller than a page.
    pub fn read_object<T: Pod>(&self, at: u64) -> impl Future<Output = Result<T, Errno>> {
        const { assert!(size_of::<T>() as u64 <= PAGE_SIZE) };
        self.with_resident(at, size_of::<T>(), platform::Access::Read, move |space| {
            let mut object = T::new_zeroed();
            let from = VirtAddr::new(at);
            crate::mm().try_copy_in(space, from, object.as_mut_bytes()).map(|()| object)
        })
    }

    /// Copies a structure to user memory.
    pub fn write_object<T: Pod>(&self, at: u64, object: &T) -> impl Future<Output = Result<(), Errno>> {
        const { assert!(size_of::<T>() as u64 <= PAGE_SIZE) };
        self.with_resident(at, size_of::<T>(), platform::Access::Write, move |space| {
            crate::mm().try_copy_out(space, VirtAddr::new(at), object.as_bytes())
        })
    }

    /// As [`Self::write_object`], for what is not written where nothing can be: only memory that has run out is an error, ENOMEM. One
    /// is the program's own choice, the other is not.
    pub async fn write_if_possible<T: Pod>(&self, at: u64, object: &T) -> Result<(), Errno> {
        let attempt = |space| crate::mm().try_copy_out(space, VirtAddr::new(at), object.as_bytes());
        match with_resident(self.space(), at, size_of::<T>(), platform::Access::Write, attempt).await {
            Err(FaultError::OutOfMemory) => {
                self.end_if_condemned();
                Err(Errno::ENOMEM)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Copies a structure to user memory that is made when it is needed: it may be made twice.
    pub fn write_made<T: Pod>(&self, at: u64, mut make: impl FnMut() -> T) -> impl Future<Output = Result<(), Errno>> {
        const { assert!(size_of::<T>() as u64 <= PAGE_SIZE) };
        self.with_resident(at, size_of::<T>(), platform::Access::Write, move |space| {
            crate::mm().try_copy_out(space, VirtAddr::new(at), make().as_bytes())
        })
    }

    /// As `read_object`, where a null pointer means "none".
    pub async fn read_optional<T: Pod>(&self, at: u64) -> Result<Option<T>, Errno> {
        if at == 0 { Ok(None) } else { self.read_object(at).await.map(Some) }
    }

    /// As `write_object`, where a null pointer means "do not bother".
    pub async fn write_optional<T: Pod>(&self, at: u64, object: &T) -> Result<(), Errno> {
        if at == 0 { Ok(()) } else { self.write_object(at, object).await }
    }

    /// Copies in a string up to its zero byte or the end of `out`; says how long it is without the zero byte.
    pub async fn read_string(&self, at: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < out.len() {
            // Not across a page boundary: the string may end just before an unmapped page.
            let from = at.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let part = out.len().min(done + left_in_page(from)) - done;
            let target = &mut out[done..done + part];
            let attempt = |space| {
                crate::mm().try_copy_in(space, VirtAddr::new(from), target)?;
                Some(target.iter().position(|byte| *byte == 0))
            };
            let end = self.with_resident(from, part, platform::Access::Read, attempt).await?;
            if let Some(len) = end {
                return Ok(done + len);
            }
            done += part;
        }
        Ok(done)
    }

    /// Runs `attempt`, which copies from the range, until it succeeds.
    pub fn read_with<R>(
        &self,
        at: u64,
        len: usize,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> impl Future<Output = Result<R, Errno>> {
        self.with_resident(at, len, platform::Access::Read, move |_| attempt())
    }

    /// Runs `attempt`, which copies to the range, until it succeeds.
    pub fn write_with<R>(
        &self,
        at: u64,
        len: usize,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> impl Future<Output = Result<R, Errno>> {
        self.with_resident(at, len, platform::Access::Write, move |_| attempt())
    }

    /// Copies to user memory if the pages are resident. The range must have been checked.
    pub fn try_write_bytes(&self, at: u64, data: &[u8]) -> Option<()> {
        crate::mm().try_copy_out(self.space(), VirtAddr::new(at), data)
    }

    /// Copies from user memory if the pages are resident. The range must have been checked.
    pub fn try_read_bytes(&self, at: u64, out: &mut [u8]) -> Option<()> {
        crate::mm().try_copy_in(self.space(), VirtAddr::new(at), out)
    }

    /// Copies from the memory of another process, through a page of the kernel's. Faults are the other's, and so is what they come
    /// to.
    pub async fn read_from_other(&self, other: &Self, at: u64, out: &mut [u8]) -> Result<(), Errno> {
        let len = out.len();
        let attempt = |space| crate::mm().try_copy_in(space, VirtAddr::new(at), out);
        with_resident(other.space(), at, len, platform::Access::Read, attempt).await.map_err(|e| other.copy_failed(e))
    }

    /// Copies to the memory of another process, likewise.
    pub async fn write_to_other(&self, other: &Self, at: u64, data: &[u8]) -> Result<(), Errno> {
        write_bytes(other.space(), at, data).await.map_err(|error| other.copy_failed(error))
    }

    /// Reads a word if its page is resident.
    pub fn try_read_u32(&self, at: u64) -> CopyAttempt<u32> {
        let mut word = [0; 4];
        match crate::mm().try_copy_in(self.space(), VirtAddr::new(at), &mut word) {
            Some(()) => CopyAttempt::Done(u32::from_le_bytes(word)),
            None => CopyAttempt::WouldWait,
        }
    }

    /// Maps, within the process's limits; says where.
    pub async fn map(&self, wish: MapWish) -> Result<u64, Errno> {
        self.check_limits(&wish)?;
        self.address_space().map(wish).await
    }

    /// RLIMIT_AS and RLIMIT_DATA: how much address space there may be in all, and of memory of its own to write to.
    pub(super) fn check_limits(&self, wish: &MapWish) -> Result<(), Errno> {
        let (space, data) = {
            let limits = &self.inherited.lock().limits;
            (limits.get(Resource::AS).current, limits.get(Resource::DATA).current)
        };
        if (space, data) == (UNLIMITED, UNLIMITED) {
            return Ok(());
        }
        let (mut mapped, mut writable) = (wish.len, wish.len);
        self.each_mapping(&mut |area| {
            let bytes = area.range.len() * PAGE_SIZE;
            mapped += bytes;
            // The stack has a limit of its own.
            if area.rights.write.is_allowed() && area.label != Label::Stack {
                writable += bytes;
            }
        });
        let is_over = mapped > space || (wish.protection.write && writable > data);
        if is_over { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Unmaps whatever is in the range.
    pub async fn unmap(&self, start: u64, len: u64) -> Result<(), Errno> {
        crate::mm().unmap(self.space(), VirtAddr::new(start), len).await.map_err(map_errno)
    }

    /// Changes what may be done with the range.
    pub async fn protect(&self, start: u64, len: u64, to: Protection) -> Result<(), Errno> {
        self.address_space().protect(start, len, to).await
    }

    /// Shows its mappings in order.
    pub fn each_mapping(&self, show: &mut dyn FnMut(&Vma)) {
        crate::mm().vmas(self.space(), show);
    }

    /// The first area that ends behind a page.
    pub fn area_from(&self, page: Vpn) -> Option<Vma> {
        crate::mm().area_from(self.space(), page)
    }

    /// Shows the pages of a range that somebody has touched, in order, and lets others run in between.
    pub async fn look(&self, range: PageRange, mut show: impl FnMut(Vpn, Sight)) {
        let mut next = Some(range.start);
        while let Some(start) = next {
            next = crate::mm().look(self.space(), PageRange { start, ..range }, PAGES_PER_POLL, &mut show);
            if next.is_some() {
                executor::yield_now().await;
            }
        }
    }

    /// What it has, with what it shares since a fork.
    pub async fn footprint(&self) -> Footprint {
        crate::mm().footprint(self.space()).await.unwrap_or_default()
    }

    /// Its pages: mapped, and by state.
    pub fn page_counts(&self) -> (u64, PageCounts) {
        crate::mm().space_pages(self.space()).unwrap_or_default()
    }
}

fn left_in_page(address: u64) -> usize {
    (PAGE_SIZE - address % PAGE_SIZE) as usize
}

pub(super) fn map_errno(error: MapError) -> Errno {
    match error {
        MapError::Invalid | MapError::NoObject | MapError::Locked => Errno::EINVAL,
        MapError::NoRoom | MapError::NotMapped => Errno::ENOMEM,
        MapError::OverLimit => Errno::EAGAIN,
        MapError::NotOneArea => Errno::EFAULT,
        MapError::Viewed => Errno::EACCES,
        MapError::Exists => Errno::EEXIST,
        MapError::TooLow => Errno::EPERM,
        // Only its own threads ask, and they are about to stop.
        MapError::SpaceGone => Errno::EINTR,
    }
}

/// Makes the next [`snapshot`] right to the page: takes in what the page tables know.
pub async fn settle_counts() {
    crate::mm().take_in_dirty_bits().await;
}

/// Waits until there is memory for something that a program makes the kernel keep: what the heap needs must never be what runs out.
pub async fn wait_for_room() -> Result<(), Errno> {
    crate::mm().wait_for_frame().await.map_err(|_| Errno::EAGAIN)
}

/// Whether a block of so many bytes would leave the heap what it needs for smaller things.
pub fn has_room(bytes: usize) -> bool {
    let mm = crate::mm();
    mm.frames().free_frames() > mm.watermarks().areas() + bytes.div_ceil(PAGE_SIZE as usize).next_power_of_two()
}

/// Pages of objects that are in RAM.
pub fn objects_in_ram() -> ObjectPages {
    crate::mm().objects_in_ram()
}

/// The inode of the file that an object is of.
pub fn file_of(object: ObjectId) -> Option<u64> {
    crate::mm().object_file(object).map(|file| file.as_u64())
}

/// One past the last frame of RAM.
pub fn frame_span() -> usize {
    crate::mm().frame_span()
}

/// Shows `count` frames from `first` on.
pub fn look_at_frames(first: usize, count: usize, show: &mut dyn FnMut(Pfn, FrameSight)) {
    crate::mm().look_at_frames(first, count, show);
}

/// Everything `mm` counts, at this moment.
pub fn snapshot() -> Snapshot {
    crate::mm().snapshot()
}

/// RAM and swap as `sysinfo` and `/proc/meminfo` tell them.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Usage {
    pub ram_bytes: u64,
    pub free_bytes: u64,
    pub swap_bytes: u64,
    pub swap_free_bytes: u64,
}

impl Usage {
    /// From a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let slots = |count: Option<u32>| count.map_or(0, u64::from) * PAGE_SIZE;
        Self {
            ram_bytes: snapshot.frames.total as u64 * PAGE_SIZE,
            free_bytes: snapshot.frames.free as u64 * PAGE_SIZE,
            swap_bytes: slots(snapshot.slots.map(|s| s.total)),
            swap_free_bytes: slots(snapshot.slots.map(|s| s.free)),
        }
    }
}
