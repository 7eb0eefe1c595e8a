//! What the device sees of a request: header, data runs and status byte, in the order VirtIO 1.2 §5.2.6 prescribes.
//!
//! Owns the command memory (one 64-byte record per slot, allocated once for DMA; nothing of a request is ever on a
//! stack) and how a request becomes a chain of descriptors. Does not own the descriptors ([`super::queue`]).
#![expect(unsafe_code, reason = "reads and writes memory shared with the device, by address")]

use super::queue::{Direction, Open, Queue};
use super::slots::SlotIndex;
use super::{InitError, SLOTS};
use crate::block::{Buffers, Invalid, Kind, Request};
use crate::hal::{DeviceMemory, PhysAddr, PhysRange};
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use virtio_drivers::{BufferDirection, PAGE_SIZE};

/// What the status byte holds until the device has written it; no status has this value.
pub(super) const STATUS_UNWRITTEN: u8 = 0xff;

/// `struct virtio_blk_req` without its data, and one `virtio_blk_discard_write_zeroes`.
#[repr(C, align(64))]
struct Command {
    kind: u32,
    reserved: u32,
    sector: u64,
    range_sector: u64,
    range_sectors: u32,
    range_flags: u32,
    status: u8,
}

const HEADER: Range<usize> = 0..16;
const RANGE: Range<usize> = 16..32;
const STATUS: Range<usize> = 32..33;
const _: () = assert!(core::mem::offset_of!(Command, range_sector) == RANGE.start);
const _: () = assert!(core::mem::offset_of!(Command, status) == STATUS.start);

const PAGES: usize = (SLOTS * size_of::<Command>()).div_ceil(PAGE_SIZE);

/// The command records of all slots.
pub(super) struct Commands<H: DeviceMemory> {
    first: NonNull<Command>,
    phys: virtio_drivers::PhysAddr,
    hal: PhantomData<fn() -> H>,
}

// SAFETY: the memory belongs to this value alone, and it is reached only through `&mut self` or while the device has
// it.
unsafe impl<H: DeviceMemory> Send for Commands<H> {}

impl<H: DeviceMemory> Commands<H> {
    pub(super) fn new() -> Result<Self, InitError> {
        let (phys, memory) = H::dma_alloc(PAGES, BufferDirection::Both);
        if phys == 0 {
            return Err(InitError::NoMemory);
        }
        Ok(Self { first: memory.cast(), phys, hal: PhantomData })
    }

    fn at(&self, slot: SlotIndex) -> NonNull<Command> {
        debug_assert!(slot.get() < SLOTS, "there is no slot {slot:?}");
        // SAFETY: slot numbers are below SLOTS, and `new` allocated SLOTS records.
        unsafe { self.first.add(slot.get()) }
    }

    /// Fills in the record of a free slot.
    pub(super) fn write<B>(&mut self, slot: SlotIndex, request: &Request<B>) {
        let ranged = matches!(request.kind, Kind::Discard | Kind::WriteZeroes);
        let command = Command {
            kind: type_code(request.kind),
            reserved: 0,
            sector: if request.kind.moves_data() { request.sector.0 } else { 0 },
            range_sector: if ranged { request.sector.0 } else { 0 },
            range_sectors: if ranged { request.sectors.0 } else { 0 },
            range_flags: 0,
            status: STATUS_UNWRITTEN,
        };
        // SAFETY: `at` is in bounds and aligned (pages are); the slot is free, so the device does not use the record,
        // and `&mut self` excludes every other access.
        unsafe { self.at(slot).write(command) };
    }

    /// The status byte of a slot whose request the device has returned.
    pub(super) fn status(&self, slot: SlotIndex) -> u8 {
        // SAFETY: in bounds and initialised (zeroed by `dma_alloc`, then by `write`). Volatile, because the device
        // wrote it behind the compiler's back.
        unsafe { (&raw const (*self.at(slot).as_ptr()).status).read_volatile() }
    }

    /// Where the device finds a part of a record.
    fn part(&self, slot: SlotIndex, part: Range<usize>) -> PhysRange {
        let start = self.phys + (slot.get() * size_of::<Command>() + part.start) as u64;
        PhysRange::new(PhysAddr(start), part.len() as u32)
    }
}

impl<H: DeviceMemory> Drop for Commands<H> {
    fn drop(&mut self) {
        // SAFETY: from `dma_alloc` in `new` with the same number of pages, and not given back since. The ring has reset
        // the device before it drops its parts.
        let result = unsafe { H::dma_dealloc(self.phys, self.first.cast(), PAGES) };
        debug_assert_eq!(result, 0, "the command memory at {:#x} cannot be given back", self.phys);
    }
}

/// Request types of VirtIO 1.2 §5.2.6.
const fn type_code(kind: Kind) -> u32 {
    match kind {
        Kind::Read => 0,
        Kind::Write => 1,
        Kind::Flush => 4,
        Kind::Discard => 11,
        Kind::WriteZeroes => 13,
    }
}

/// Why a request has no chain.
pub(super) enum NoChain {
    /// Too few descriptors are free.
    Full,
    /// It can never have one.
    Invalid(Invalid),
}

/// Makes the chain of a request whose record is written: what the device reads, then what it writes. Runs that are adjacent in
/// memory share a descriptor.
#[inline]
pub(super) fn describe<H: DeviceMemory, B: Buffers>(
    queue: &mut Queue<H>,
    commands: &Commands<H>,
    slot: SlotIndex,
    request: &Request<B>,
    max_segments: usize,
) -> Result<Open, NoChain> {
    let mut chain = queue.begin();
    match append_all(queue, &mut chain, commands, slot, request, max_segments) {
        Ok(()) => Ok(chain),
        Err(why) => {
            queue.abandon(chain);
            Err(why)
        }
    }
}

#[inline]
fn append_all<H: DeviceMemory, B: Buffers>(
    queue: &mut Queue<H>,
    chain: &mut Open,
    commands: &Commands<H>,
    slot: SlotIndex,
    request: &Request<B>,
    max_segments: usize,
) -> Result<(), NoChain> {
    let mut append = |run: PhysRange, direction| {
        if queue.append(chain, run.start, run.len, direction) { Ok(()) } else { Err(NoChain::Full) }
    };
    append(commands.part(slot, HEADER), Direction::ToDevice)?;
    match request.kind {
        Kind::Read => gather(request, max_segments, |run| append(run, Direction::FromDevice))?,
        Kind::Write => gather(request, max_segments, |run| append(run, Direction::ToDevice))?,
        Kind::Discard | Kind::WriteZeroes => append(commands.part(slot, RANGE), Direction::ToDevice)?,
        Kind::Flush => {}
    }
    append(commands.part(slot, STATUS), Direction::FromDevice)
}

/// Appends the data runs.
#[inline]
fn gather<B: Buffers>(
    request: &Request<B>,
    max_segments: usize,
    mut append: impl FnMut(PhysRange) -> Result<(), NoChain>,
) -> Result<(), NoChain> {
    let (mut segments, mut bytes) = (0, 0);
    let mut run: Option<PhysRange> = None;
    request.buffers.segments().try_for_each(|next| {
        if next.len == 0 {
            return Err(NoChain::Invalid(Invalid::WrongLength));
        }
        bytes += u64::from(next.len);
        match &mut run {
            Some(run) if run.end() == next.start && run.len.checked_add(next.len).is_some() => run.len += next.len,
            _ => {
                if segments == max_segments {
                    return Err(NoChain::Invalid(Invalid::TooManySegments));
                }
                segments += 1;
                if let Some(finished) = run.replace(next) {
                    append(finished)?;
                }
            }
        }
        Ok(())
    })?;
    if bytes != request.sectors.bytes() {
        return Err(NoChain::Invalid(Invalid::WrongLength));
    }
    run.map_or(Ok(()), append)
}
