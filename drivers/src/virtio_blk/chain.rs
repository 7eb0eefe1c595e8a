//! What the device sees of a request: header, data runs and status byte, in the order VirtIO 1.2 §5.2.6 prescribes.
//!
//! Owns the command memory (one 64-byte record per slot, allocated once for DMA; nothing of a request is ever on a
//! stack) and the only place where physical runs become slices. Does not own the ring. The same chain is built twice,
//! for `add` and for `pop_used`.
#![expect(unsafe_code, reason = "forms slices of memory shared with the device, by address")]

use super::slots::SlotIndex;
use super::{InitError, MAX_SEGMENTS, SLOTS};
use crate::block::{Buffers, Invalid, Kind, Request};
use crate::hal::{DeviceMemory, PhysRange};
use arrayvec::ArrayVec;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
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

const HEADER: core::ops::Range<usize> = 0..16;
const RANGE: core::ops::Range<usize> = 16..32;
const STATUS: core::ops::Range<usize> = 32..33;
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

    fn part(&self, slot: SlotIndex, part: core::ops::Range<usize>) -> NonNull<[u8]> {
        // SAFETY: every `part` is a constant range inside one record.
        let start = unsafe { self.at(slot).cast::<u8>().add(part.start) };
        NonNull::slice_from_raw_parts(start, part.len())
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

/// The parts of one request as slices: what the device reads, then what it writes.
///
/// `ManuallyDrop`, because `pop_used` borrows the lists for exactly the lifetime of their elements, and a list with
/// drop glue may not be borrowed that long; references need no dropping.
pub(super) struct Chain<'a> {
    pub(super) inputs: ManuallyDrop<ArrayVec<&'a [u8], { MAX_SEGMENTS + 1 }>>,
    pub(super) outputs: ManuallyDrop<ArrayVec<&'a mut [u8], { MAX_SEGMENTS + 1 }>>,
    /// Bytes of data, header and status not counted.
    pub(super) data_bytes: u64,
}

impl Chain<'_> {
    /// Descriptors it takes.
    pub(super) fn len(&self) -> usize {
        self.inputs.len() + self.outputs.len()
    }

    /// An empty chain, to be [`build`](Self::build)t in place: at two kilobytes it must not be moved about.
    pub(super) const fn new() -> Self {
        Self {
            inputs: ManuallyDrop::new(ArrayVec::new_const()),
            outputs: ManuallyDrop::new(ArrayVec::new_const()),
            data_bytes: 0,
        }
    }

    /// Builds the chain of a request. Runs that are adjacent in memory share a descriptor.
    ///
    /// # Safety
    ///
    /// The slices must be used only for `VirtQueue::add` and `pop_used` of this request, which take addresses from
    /// them, and be gone before anything else touches the slot's record or the request's memory.
    pub(super) unsafe fn build<H: DeviceMemory, B: Buffers>(
        &mut self,
        commands: &Commands<H>,
        slot: SlotIndex,
        request: &Request<B>,
        max_segments: usize,
    ) -> Result<(), Invalid> {
        // SAFETY: part of the slot's record; the caller promises that nothing else touches it meanwhile.
        self.inputs.push(unsafe { commands.part(slot, HEADER).as_ref() });
        match request.kind {
            Kind::Read | Kind::Write => {
                // SAFETY: passed on from the caller.
                unsafe { self.gather::<H, B>(request, max_segments)? };
            }
            // SAFETY: as for the header.
            Kind::Discard | Kind::WriteZeroes => self.inputs.push(unsafe { commands.part(slot, RANGE).as_ref() }),
            Kind::Flush => {}
        }
        // SAFETY: as for the header, and no other slice covers the status byte.
        self.outputs.push(unsafe { commands.part(slot, STATUS).as_mut() });
        Ok(())
    }

    /// Appends the data runs.
    ///
    /// # Safety
    ///
    /// As for [`build`](Self::build).
    unsafe fn gather<H: DeviceMemory, B: Buffers>(
        &mut self,
        request: &Request<B>,
        max_segments: usize,
    ) -> Result<(), Invalid> {
        let mut segments = 0;
        let mut run: Option<PhysRange> = None;
        for next in request.buffers.segments() {
            if next.len == 0 {
                return Err(Invalid::WrongLength);
            }
            self.data_bytes += u64::from(next.len);
            match &mut run {
                Some(run) if run.end() == next.start && run.len.checked_add(next.len).is_some() => run.len += next.len,
                _ => {
                    if segments == max_segments {
                        return Err(Invalid::TooManySegments);
                    }
                    segments += 1;
                    if let Some(finished) = run.replace(next) {
                        // SAFETY: passed on from the caller.
                        unsafe { self.push::<H>(request.kind, finished) };
                    }
                }
            }
        }
        if let Some(last) = run {
            // SAFETY: passed on from the caller.
            unsafe { self.push::<H>(request.kind, last) };
        }
        if self.data_bytes == request.sectors.bytes() { Ok(()) } else { Err(Invalid::WrongLength) }
    }

    /// Appends one data run.
    ///
    /// # Safety
    ///
    /// As for [`build`](Self::build); and `run` must come from the request's [`Buffers`].
    unsafe fn push<H: DeviceMemory>(&mut self, kind: Kind, run: PhysRange) {
        let bytes = H::bytes_of(run);
        if kind == Kind::Read {
            // SAFETY: `bytes_of` gives valid memory, which the request owns (`Buffers`), and which no Rust code touches
            // while the device writes it. Slices of two overlapping runs could only come from a `Buffers` that breaks
            // its contract.
            self.outputs.push(unsafe { &mut *bytes.as_ptr() });
        } else {
            // SAFETY: as above, but the device only reads.
            self.inputs.push(unsafe { &*bytes.as_ptr() });
        }
    }
}
