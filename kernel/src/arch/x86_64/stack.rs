//! The kernel's stacks: one to run on, and one for each trap that must not trust it.
//!
//! Owns: their memory. Each begins (at its low end, where it would overflow) with a guard page that
//! `kernel_space` leaves unmapped, so that an overflow is a double fault on a stack of its own and not
//! a silent write into a neighbour.
#![expect(unsafe_code, reason = "a static that the CPU writes to")]

use core::cell::UnsafeCell;
use core::num::NonZero;

use corosensei::stack::{Stack as CoroutineStack, StackPointer};
use x86_64::VirtAddr;

use super::areas;
use super::kernel_space::{OutOfTables, TableSource};
use super::trap::Position;
use crate::boot::PhysRange;
use crate::sync::Once;

/// A stack of `PAGES` pages above a guard page.
#[repr(C, align(4096))]
pub struct Stack<const PAGES: usize> {
    guard: [u8; 4096],
    memory: UnsafeCell<[[u8; 4096]; PAGES]>,
}

// SAFETY: only the CPU touches the memory, as its stack; the methods hand out addresses.
unsafe impl<const PAGES: usize> Sync for Stack<PAGES> {}

impl<const PAGES: usize> Stack<PAGES> {
    const fn new() -> Self {
        Self { guard: [0; 4096], memory: UnsafeCell::new([[0; 4096]; PAGES]) }
    }

    /// The address just above the stack: the first value of the stack pointer.
    pub fn top(&'static self) -> VirtAddr {
        VirtAddr::from_ptr(self) + size_of::<Self>() as u64
    }

    /// The page that must not be mapped.
    pub fn guard(&'static self) -> VirtAddr {
        VirtAddr::from_ptr(&self.guard)
    }
}

/// Pages of the stack that everything in the kernel runs on.
const KERNEL_PAGES: usize = if cfg!(debug_assertions) { 32 } else { 16 };
/// Formatting a panic message takes about 3 KiB.
const TRAP_PAGES: usize = 2;
/// What all of them take.
pub const STACK_BYTES: usize = (KERNEL_PAGES + 3 * TRAP_PAGES) * 4096;

/// The type of [`KERNEL_STACK`], for the entry code.
pub type KernelStack = Stack<KERNEL_PAGES>;
/// A stack for a trap that may strike anywhere.
pub type TrapStack = Stack<TRAP_PAGES>;

/// Where kernel code runs, from the first instruction to the last.
pub static KERNEL_STACK: KernelStack = Stack::new();
/// For double faults: usually an overflow of the kernel stack.
pub static DOUBLE_FAULT_STACK: TrapStack = Stack::new();
/// For non-maskable interrupts.
pub static NMI_STACK: TrapStack = Stack::new();
/// For machine checks.
pub static MACHINE_CHECK_STACK: TrapStack = Stack::new();

/// Bytes of the kernel stack that have never been used: it starts zeroed, and what was pushed stays.
pub fn unused() -> usize {
    let words = KERNEL_STACK.memory.get().cast::<u64>();
    let len = KERNEL_PAGES * 4096 / size_of::<u64>();
    // SAFETY: inside the stack's memory; the part in use may change while it is read, and only whether a word below it is zero matters.
    let zero = |&index: &usize| unsafe { words.add(index).read_volatile() } == 0;
    (0..len).take_while(zero).count() * size_of::<u64>()
}

/// Every page that `kernel_space` has to leave out.
pub fn guards() -> [VirtAddr; 4] {
    [KERNEL_STACK.guard(), DOUBLE_FAULT_STACK.guard(), NMI_STACK.guard(), MACHINE_CHECK_STACK.guard()]
}

/// The stack of the one fiber there is. It is mapped when it is made and never given back.
pub struct FiberStack {
    top: VirtAddr,
    len: u64,
}

/// Where it is, for backtraces.
static FIBER_STACK: Once<(VirtAddr, VirtAddr)> = Once::new();

impl FiberStack {
    /// Maps `memory`, which is the stack's for ever, above a guard page.
    pub fn new(memory: PhysRange, source: &mut TableSource<'_>) -> Result<Self, OutOfTables> {
        let (len, top) = (memory.len(), areas::map_stack(memory, source)?);
        FIBER_STACK.call_once(|| (top - len - 4096, top));
        Ok(Self { top, len })
    }
}

// SAFETY: the memory is mapped, is nobody else's, and the page below it is never mapped, so that an overflow is a double fault.
unsafe impl CoroutineStack for FiberStack {
    fn base(&self) -> StackPointer {
        address(self.top)
    }

    fn limit(&self) -> StackPointer {
        // With the guard page, as the trait asks.
        address(self.top - self.len - 4096)
    }
}

fn address(at: VirtAddr) -> StackPointer {
    NonZero::new(at.as_u64() as usize).expect("no stack is at address 0")
}

/// What a stack frame says of its caller. `None` for a frame that is on none of our stacks.
pub fn caller(frame: u64) -> Option<Position> {
    let stacks = [
        (KERNEL_STACK.guard(), KERNEL_STACK.top()),
        (DOUBLE_FAULT_STACK.guard(), DOUBLE_FAULT_STACK.top()),
        (NMI_STACK.guard(), NMI_STACK.top()),
        (MACHINE_CHECK_STACK.guard(), MACHINE_CHECK_STACK.top()),
    ];
    let inside = |&(guard, top): &(VirtAddr, VirtAddr)| frame >= guard.as_u64() + 4096 && frame + 16 <= top.as_u64();
    let fiber = FIBER_STACK.get();
    if !frame.is_multiple_of(8) || frame > u64::MAX - 16 || !stacks.iter().chain(fiber).any(inside) {
        return None;
    }
    let frame = core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize);
    // SAFETY: two words inside one of our stacks, checked above; any bits are a valid u64.
    let [frame, address] = unsafe { frame.read_volatile() };
    Some(Position { address, frame })
}
