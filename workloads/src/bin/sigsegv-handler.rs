//! Claim: a SIGSEGV handler on an alternate stack gets the faulting address, may repair the mapping, and returning from it
//! repeats the access. That is how garbage collectors and emulators use page protection.
#![expect(unsafe_code, reason = "a signal handler, and memory whose protection changes under it")]

use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use workloads::claim::Claims;
use workloads::mapping::PAGE_SIZE;

const PAGES: usize = 64;
const STACK: usize = 64 * 1024;

/// What the handler may repair, and what it saw.
static REGION: AtomicUsize = AtomicUsize::new(0);
static STACK_BASE: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static LAST_ADDRESS: AtomicUsize = AtomicUsize::new(0);
static LAST_CODE: AtomicU64 = AtomicU64::new(0);
static ON_ALTERNATE_STACK: AtomicU64 = AtomicU64::new(0);

extern "C" fn repair(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t, and for SIGSEGV its si_addr is set.
    let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
    let region = REGION.load(Relaxed);
    if !(region..region + PAGES * PAGE_SIZE).contains(&address) {
        // Not ours: end like everybody else. SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(4) };
    }
    CALLS.fetch_add(1, Relaxed);
    LAST_ADDRESS.store(address, Relaxed);
    LAST_CODE.store(code as u64, Relaxed);
    let on_stack = ptr::from_ref(&region).addr().wrapping_sub(STACK_BASE.load(Relaxed)) < STACK;
    ON_ALTERNATE_STACK.fetch_add(u64::from(on_stack), Relaxed);
    let page = address / PAGE_SIZE * PAGE_SIZE;
    // SAFETY: a page of the region, which no Rust reference covers; mprotect is a bare system call.
    let repaired = unsafe { libc::mprotect(page as *mut _, PAGE_SIZE, libc::PROT_READ | libc::PROT_WRITE) };
    if repaired != 0 {
        // SAFETY: as above.
        unsafe { libc::_exit(5) };
    }
}

/// Maps `length` bytes with `protection`.
fn map(length: usize, protection: libc::c_int) -> *mut u8 {
    // SAFETY: without MAP_FIXED nothing of ours changes.
    let base =
        unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED, "mmap");
    base.cast()
}

fn install_handler() {
    let stack = map(STACK, libc::PROT_READ | libc::PROT_WRITE);
    STACK_BASE.store(stack.addr(), Relaxed);
    let stack = libc::stack_t { ss_sp: stack.cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the stack is mapped for ever; the action is zero (no flags, empty mask) but for what is set; the handler
    // uses atomics and async-signal-safe calls only.
    unsafe {
        assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0, "sigaltstack");
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = repair as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0, "sigaction");
    }
}

fn main() -> ExitCode {
    let mut claims = Claims::new("sigsegv-handler");
    let region = map(PAGES * PAGE_SIZE, libc::PROT_NONE);
    REGION.store(region.addr(), Relaxed);
    install_handler();
    for page in 0..PAGES {
        let offset = page * PAGE_SIZE + page * 7;
        let address = region.wrapping_add(offset);
        // SAFETY: inside the region; the first access faults and the handler makes the page accessible.
        let value = unsafe {
            if page % 2 == 0 {
                address.write_volatile(page as u8);
            }
            address.read_volatile()
        };
        let expected = if page % 2 == 0 { page as u8 } else { 0 };
        claims.equal(format_args!("value in page {page}"), value, expected);
        claims.equal(format_args!("si_addr of page {page}"), LAST_ADDRESS.load(Relaxed), address.addr());
    }
    claims.equal("one fault per page", CALLS.load(Relaxed), PAGES as u64);
    claims.equal("si_code is SEGV_ACCERR", LAST_CODE.load(Relaxed), 2);
    claims.equal("handlers on the alternate stack", ON_ALTERNATE_STACK.load(Relaxed), PAGES as u64);
    claims.finish("")
}
