//! The kernel's stacks: one to run on, and one for each trap that must not trust it.
//!
//! Owns: their memory. Each begins (at its low end, where it would overflow) with a guard page that
//! `kernel_space` leaves unmapped, so that an overflow is a double fault on a stack of its own and not
//! a silent write into a neighbour.
#![expect(unsafe_code, reason = "a static that the CPU writes to")]

use core::cell::UnsafeCell;

use x86_64::VirtAddr;

use super::trap::Position;

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

/// What a stack frame says of its caller. `None` for a frame that is on none of our stacks.
pub fn caller(frame: u64) -> Option<Position> {
    let stacks = [
        (KERNEL_STACK.guard(), KERNEL_STACK.top()),
        (DOUBLE_FAULT_STACK.guard(), DOUBLE_FAULT_STACK.top()),
        (NMI_STACK.guard(), NMI_STACK.top()),
        (MACHINE_CHECK_STACK.guard(), MACHINE_CHECK_STACK.top()),
    ];
    let inside = |&(guard, top): &(VirtAddr, VirtAddr)| frame >= guard.as_u64() + 4096 && frame + 16 <= top.as_u64();
    if !frame.is_multiple_of(8) || frame > u64::MAX - 16 || !stacks.iter().any(inside) {
        return None;
    }
    let frame = core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize);
    // SAFETY: two words inside one of our stacks, checked above; any bits are a valid u64.
    let [frame, address] = unsafe { frame.read_volatile() };
    Some(Position { address, frame })
}
