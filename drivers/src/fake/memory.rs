//! Physical memory of the fake machine, one per test thread.
//!
//! Owns the frames and knows who may touch them: a frame that was given up is poisoned, and a device that touches it
//! fails the test.
#![expect(unsafe_code, reason = "hands out raw memory as a machine does")]

use crate::block::Buffers;
use crate::hal::{DeviceMemory, PhysAddr, PhysRange};
use core::cell::RefCell;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE};

/// Frames of the fake machine.
const FRAMES: usize = 2048;
const RAM: u64 = 0x10_0000;
const DMA: u64 = 0x4000_0000;
const POISON: u8 = 0xdd;

struct Block {
    memory: NonNull<u8>,
    len: usize,
}

impl Block {
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, PAGE_SIZE).expect("a multiple of the page size")
    }

    fn new(len: usize) -> Self {
        // SAFETY: the length is not zero.
        let memory = unsafe { alloc_zeroed(Self::layout(len)) };
        Self { memory: NonNull::new(memory).expect("the host has memory"), len }
    }

    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset + len <= self.len, "{offset:#x}+{len:#x} is outside a block of {:#x}", self.len);
        // SAFETY: inside the allocation, as just checked.
        unsafe { self.memory.add(offset) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.len)) };
    }
}

struct Machine {
    ram: Block,
    free: Vec<usize>,
    owned: Vec<bool>,
    dma: BTreeMap<u64, Block>,
    next_dma: u64,
}

std::thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::new(Machine {
        ram: Block::new(FRAMES * PAGE_SIZE),
        // Odd frames first: consecutive allocations are not adjacent.
        free: (0..FRAMES).step_by(2).chain((1..FRAMES).step_by(2)).rev().collect(),
        owned: vec![false; FRAMES],
        dma: BTreeMap::new(),
        next_dma: DMA,
    });
}

fn machine<R>(f: impl FnOnce(&mut Machine) -> R) -> R {
    MACHINE.with_borrow_mut(f)
}

impl Machine {
    /// The host address of device address `start`, if the device may use `len` bytes there.
    fn for_device(&mut self, start: u64, len: usize) -> NonNull<u8> {
        if start >= DMA {
            let (base, block) = self.dma.range(..=start).next_back().expect("DMA memory");
            block.at((start - base) as usize, len)
        } else {
            let memory = self.ram.at((start - RAM) as usize, len);
            self.check_owned(memory);
            memory
        }
    }

    /// RAM that the device uses must have an owner.
    fn check_owned(&self, memory: NonNull<u8>) {
        let offset = (memory.as_ptr() as usize).wrapping_sub(self.ram.memory.as_ptr() as usize);
        if offset < self.ram.len {
            let frame = offset / PAGE_SIZE;
            assert!(self.owned[frame], "the device touches frame {frame}, which was freed");
        }
    }

    fn device_address(&self, memory: NonNull<u8>) -> u64 {
        let within = |block: &Block| {
            let offset = (memory.as_ptr() as usize).wrapping_sub(block.memory.as_ptr() as usize);
            (offset < block.len).then_some(offset as u64)
        };
        let dma = || self.dma.iter().find_map(|(base, block)| Some(base + within(block)?));
        within(&self.ram).map(|offset| RAM + offset).or_else(dma).expect("memory of the machine")
    }
}

/// DMA blocks not given back.
pub(crate) fn leaks() -> usize {
    machine(|machine| machine.dma.len())
}

/// Frames that somebody owns.
pub(crate) fn frames_owned() -> usize {
    machine(|machine| FRAMES - machine.free.len())
}

/// The device reads memory.
pub(crate) fn device_read(start: u64, out: &mut [u8]) {
    let memory = machine(|machine| machine.for_device(start, out.len()));
    // SAFETY: valid for this many bytes; nothing else runs on this thread, and the machine belongs to it.
    out.copy_from_slice(unsafe { NonNull::slice_from_raw_parts(memory, out.len()).as_ref() });
}

/// The device writes memory.
pub(crate) fn device_write(start: u64, data: &[u8]) {
    let memory = machine(|machine| machine.for_device(start, data.len()));
    // SAFETY: as in `device_read`.
    unsafe { memory.copy_from_nonoverlapping(NonNull::from(data).cast(), data.len()) };
}

/// Frames owned by whoever holds this value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frames(Vec<usize>);

impl Frames {
    /// No memory, for requests without data.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// `count` frames, no two adjacent.
    pub(crate) fn scattered(count: usize) -> Self {
        Self((0..count).map(|_| Self::take(|_| true)).collect())
    }

    /// `count` frames in a row.
    pub(crate) fn adjacent(count: usize) -> Self {
        let free = |frame: usize| machine(|machine| !machine.owned[frame]);
        let first = (0..FRAMES - count).find(|&first| (first..first + count).all(free));
        let first = first.expect("a run of free frames");
        Self((first..first + count).map(|frame| Self::take(|free| free == frame)).collect())
    }

    fn take(wanted: impl Fn(usize) -> bool) -> usize {
        machine(|machine| {
            let place = machine.free.iter().rposition(|&frame| wanted(frame)).expect("a free frame");
            let frame = machine.free.remove(place);
            machine.owned[frame] = true;
            frame
        })
    }

    fn memory(frame: usize) -> *mut u8 {
        machine(|machine| machine.ram.at(frame * PAGE_SIZE, PAGE_SIZE)).as_ptr()
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.0.len() * PAGE_SIZE
    }

    /// Copies `data` in.
    pub(crate) fn fill(&self, data: &[u8]) {
        assert_eq!(data.len(), self.len());
        for (&frame, page) in self.0.iter().zip(data.chunks(PAGE_SIZE)) {
            // SAFETY: a frame of the machine that we own; a page is a page long.
            unsafe { Self::memory(frame).copy_from_nonoverlapping(page.as_ptr(), PAGE_SIZE) };
        }
    }

    /// Copies the contents out.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len()];
        for (&frame, page) in self.0.iter().zip(out.chunks_mut(PAGE_SIZE)) {
            // SAFETY: as in `fill`.
            unsafe { Self::memory(frame).copy_to_nonoverlapping(page.as_mut_ptr(), PAGE_SIZE) };
        }
        out
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for &frame in &self.0 {
            // SAFETY: a whole frame of the machine, which we owned until now.
            unsafe { Self::memory(frame).write_bytes(POISON, PAGE_SIZE) };
            machine(|machine| {
                assert!(core::mem::take(&mut machine.owned[frame]), "frame {frame} is freed twice");
                machine.free.push(frame);
            });
        }
    }
}

// SAFETY: the frames are owned until drop and always the same.
unsafe impl Buffers for Frames {
    fn segments(&self) -> impl Iterator<Item = PhysRange> {
        self.0.iter().map(|&frame| PhysRange::new(PhysAddr(RAM + (frame * PAGE_SIZE) as u64), PAGE_SIZE as u32))
    }
}

/// The fake machine as virtio-drivers sees it.
pub(crate) struct FakeHal;

// SAFETY: `dma_alloc` gives zeroed, page-aligned memory of its own; `share` gives an address under which `device_read`
// and `device_write` reach the bytes.
unsafe impl Hal for FakeHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (u64, NonNull<u8>) {
        machine(|machine| {
            let block = Block::new(pages * PAGE_SIZE);
            let (start, memory) = (machine.next_dma, block.memory);
            machine.next_dma += ((pages + 1) * PAGE_SIZE) as u64;
            machine.dma.insert(start, block);
            (start, memory)
        })
    }

    // SAFETY: frees only what `dma_alloc` has recorded.
    unsafe fn dma_dealloc(paddr: u64, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        let block = machine(|machine| machine.dma.remove(&paddr)).expect("DMA memory is freed once");
        assert_eq!(block.len, pages * PAGE_SIZE);
        0
    }

    // SAFETY: never returns.
    unsafe fn mmio_phys_to_virt(_paddr: u64, _size: usize) -> NonNull<u8> {
        unreachable!("the fake device has no registers in memory")
    }

    // SAFETY: touches nothing.
    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> u64 {
        machine(|machine| machine.device_address(buffer.cast()))
    }

    // SAFETY: does nothing.
    unsafe fn unshare(_paddr: u64, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

// SAFETY: `device_read` and `device_write` take the addresses that `Frames` names and `dma_alloc` returns.
unsafe impl DeviceMemory for FakeHal {}
