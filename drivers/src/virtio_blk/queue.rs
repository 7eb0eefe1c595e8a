//! The split virtqueue (VirtIO 1.2 §2.7): the descriptor table, the ring of what is available, the ring of what was used.
//!
//! Owns the memory of the three, and which descriptors are free. Does not own what a chain means ([`super::chain`]), whom it
//! belongs to or what its memory is ([`super::ring`]). Knows physical addresses only.
//!
//! A chain is begun, gets its runs one by one, and is submitted or abandoned; when the device has returned it, it is taken
//! back. The free descriptors are a list in our own memory, of which a chain is a piece: taking it back ties its end to the
//! beginning of the list, however long it is. Of what the device can write, only the used ring is read: its entries are for
//! the caller to doubt, its index says how many there are, and its flags cost a notification at most.
#![expect(unsafe_code, reason = "memory shared with the device, by address")]

use super::{InitError, MAX_SEGMENTS, QUEUE_SIZE};
use crate::hal::{DeviceMemory, PhysAddr};
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering, fence};
use virtio_drivers::transport::Transport;
use virtio_drivers::{BufferDirection, Error, PAGE_SIZE};

/// The only queue used.
pub(super) const QUEUE: u16 = 0;

/// `struct virtq_desc` (VirtIO 1.2 §2.7.5).
#[repr(C)]
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes here; otherwise it reads.
const WRITE: u16 = 2;

/// `struct virtq_avail` (§2.7.6), without the field that only EVENT_IDX uses.
#[repr(C)]
struct Available {
    flags: u16,
    index: AtomicU16,
    ring: [u16; QUEUE_SIZE],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct UsedElement {
    id: u32,
    length: u32,
}

/// `struct virtq_used` (§2.7.8), likewise.
#[repr(C)]
struct Used {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [UsedElement; QUEUE_SIZE],
}

/// The device does not want to be told (§2.7.7).
const NO_NOTIFY: u16 = 1;

/// All that is shared with the device: two pages.
#[repr(C, align(4096))]
struct Area {
    descriptors: [Descriptor; QUEUE_SIZE],
    available: Available,
    /// Where EVENT_IDX would have its fields; the device leaves them alone.
    unused: u16,
    used: Used,
}

const PAGES: usize = size_of::<Area>() / PAGE_SIZE;
const _: () = assert!(QUEUE_SIZE.is_power_of_two() && QUEUE_SIZE <= 1 << 8, "descriptors are counted in bytes below");
const _: () = assert!(MAX_SEGMENTS + 2 <= u8::MAX as usize, "the length of a chain is one of them");
const _: () = assert!(core::mem::offset_of!(Area, used).is_multiple_of(4));

/// Who touches a run of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The device reads it.
    ToDevice,
    /// The device writes it.
    FromDevice,
}

/// A chain of descriptors that are not free, but not the device's either: to be submitted or abandoned.
#[must_use = "its descriptors are lost"]
pub(super) struct Open {
    head: u16,
    /// Of the last run, and what its descriptor says.
    last: u16,
    last_flags: u16,
    length: u16,
}

/// A chain that is the device's.
#[derive(Debug)]
#[must_use = "its descriptors are lost"]
pub(super) struct Submitted {
    head: u8,
    last: u8,
    length: u8,
}

impl Submitted {
    /// Its first descriptor, by which the device names it.
    pub(super) fn head(&self) -> u16 {
        self.head.into()
    }
}

/// What the device says of a chain: not to be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned {
    /// Which chain.
    pub(super) head: u32,
    /// Bytes it has written.
    pub(super) written: u32,
}

/// The queue of one device.
pub(super) struct Queue<H: DeviceMemory> {
    area: NonNull<Area>,
    phys: u64,
    /// Our copy of what is chained to what; of free descriptors, the free list.
    next: [u16; QUEUE_SIZE],
    free: u16,
    free_count: u16,
    /// Chains ever submitted, and taken back, as the rings count them.
    submitted: u16,
    taken_back: u16,
    hal: PhantomData<fn() -> H>,
}

// SAFETY: the memory belongs to this value alone, which shares it with nobody but the device.
unsafe impl<H: DeviceMemory> Send for Queue<H> {}

impl<H: DeviceMemory> Queue<H> {
    /// Makes the queue known to a device that is being set up.
    pub(super) fn new(transport: &mut impl Transport) -> Result<Self, InitError> {
        if transport.queue_used(QUEUE) {
            return Err(Error::AlreadyUsed.into());
        }
        if transport.max_queue_size(QUEUE) < QUEUE_SIZE as u32 {
            return Err(Error::InvalidParam.into());
        }
        // Zeroed, which is how the rings begin.
        let (phys, memory) = H::dma_alloc(PAGES, BufferDirection::Both);
        if phys == 0 {
            return Err(InitError::NoMemory);
        }
        let at = |offset: usize| phys + offset as u64;
        transport.queue_set(
            QUEUE,
            QUEUE_SIZE as u32,
            at(core::mem::offset_of!(Area, descriptors)),
            at(core::mem::offset_of!(Area, available)),
            at(core::mem::offset_of!(Area, used)),
        );
        Ok(Self {
            area: memory.cast(),
            phys,
            next: core::array::from_fn(|index| (index as u16 + 1) % QUEUE_SIZE as u16),
            free: 0,
            free_count: QUEUE_SIZE as u16,
            submitted: 0,
            taken_back: 0,
            hal: PhantomData,
        })
    }

    /// Begins a chain.
    #[inline]
    pub(super) fn begin(&self) -> Open {
        Open { head: self.free, last: self.free, last_flags: 0, length: 0 }
    }

    /// Appends a run, unless no descriptor is free. The device sees nothing of it before the chain is submitted.
    #[inline]
    #[must_use]
    pub(super) fn append(&mut self, chain: &mut Open, start: PhysAddr, length: u32, direction: Direction) -> bool {
        if self.free_count == chain.length {
            return false;
        }
        let at = usize::from(self.free) % QUEUE_SIZE;
        let next = self.next[at];
        let flags = if direction == Direction::FromDevice { WRITE | NEXT } else { NEXT };
        let descriptor = Descriptor { address: start.0, length, flags, next };
        // SAFETY: in bounds of the table, which is ours; this descriptor is free, so the device does not look at it.
        unsafe { (&raw mut (*self.area.as_ptr()).descriptors[at]).write(descriptor) };
        (chain.last, chain.last_flags, self.free) = (self.free, flags, next);
        chain.length += 1;
        true
    }

    /// Gives the descriptors of a chain up.
    pub(super) fn abandon(&mut self, chain: Open) {
        self.free = chain.head;
    }

    /// Gives a chain, which has at least one run, to the device, which may start at once if it is looking anyway.
    ///
    /// # Safety
    ///
    /// All runs of it stay memory that the device may touch, until it is taken back or the device is reset.
    #[inline]
    pub(super) unsafe fn submit(&mut self, chain: Open) -> Submitted {
        let Open { head, last, last_flags, length } = chain;
        debug_assert!(length > 0, "a chain without a run");
        self.free_count -= length;
        let at = usize::from(self.submitted) % QUEUE_SIZE;
        let area = self.area.as_ptr();
        // SAFETY: in bounds; the descriptor is not the device's before its head is in the ring, and the entry not before the
        // index says so. Only we write either.
        unsafe {
            (&raw mut (*area).descriptors[usize::from(last) % QUEUE_SIZE].flags).write(last_flags & !NEXT);
            (&raw mut (*area).available.ring[at]).write(head);
        }
        self.submitted = self.submitted.wrapping_add(1);
        // Release: descriptors and entry are there before the index says so (§2.7.13.2).
        // SAFETY: in bounds, and an atomic for both sides.
        unsafe { &(*area).available.index }.store(self.submitted, Ordering::Release);
        Submitted { head: head as u8, last: last as u8, length: length as u8 }
    }

    /// Whether the device wants to be told of what was submitted.
    pub(super) fn should_notify(&self) -> bool {
        // The new index must be visible before the device's wish is read, or both sides may wait for each other
        // (§2.7.13.4.1).
        fence(Ordering::SeqCst);
        // SAFETY: in bounds, and an atomic for both sides.
        let flags = unsafe { &(*self.area.as_ptr()).used.flags };
        flags.load(Ordering::Acquire) & NO_NOTIFY == 0
    }

    /// What the device has returned first of what was not taken back.
    #[inline]
    pub(super) fn returned(&self) -> Option<Returned> {
        let area = self.area.as_ptr();
        // SAFETY: in bounds, and an atomic for both sides.
        let index = unsafe { &(*area).used.index };
        // Acquire: the entry, and all that the device wrote for it, is read after the index.
        if index.load(Ordering::Acquire) == self.taken_back {
            return None;
        }
        let at = usize::from(self.taken_back) % QUEUE_SIZE;
        // SAFETY: in bounds; volatile, because the device writes it behind the compiler's back.
        let UsedElement { id, length } = unsafe { (&raw const (*area).used.ring[at]).read_volatile() };
        Some(Returned { head: id, written: length })
    }

    /// Takes back the chain that [`returned`](Self::returned) named.
    #[inline]
    pub(super) fn take_back(&mut self, chain: Submitted) {
        self.taken_back = self.taken_back.wrapping_add(1);
        self.next[usize::from(chain.last)] = self.free;
        self.free = chain.head.into();
        self.free_count += u16::from(chain.length);
    }
}

impl<H: DeviceMemory> Drop for Queue<H> {
    fn drop(&mut self) {
        // SAFETY: from `dma_alloc` in `new` with the same number of pages, and not given back since. The ring has reset the
        // device before it drops its parts.
        let result = unsafe { H::dma_dealloc(self.phys, self.area.cast(), PAGES) };
        debug_assert_eq!(result, 0, "the memory of the queue at {:#x} cannot be given back", self.phys);
    }
}
