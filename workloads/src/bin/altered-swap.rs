//! Claim: a page whose copy on disk was changed by somebody else is a SIGBUS for whoever touches it, and never wrong bytes;
//! every other page is as it was. The somebody acts between `READY` and the line this program reads from its input.
//!
//! With `handle=0` the first SIGBUS ends the program, status 135. With `handle=1` each is noted and the page replaced.
//! With `wait=0` it waits for nobody and reads its pages back for ever; with `outlive=MIB` it goes on until other processes
//! have touched less than that. So one process can watch another lose its pages, and itself nothing.
//!
//! With `equal=1` all pages hold the same, and with `rounds=N` they are written N times, with `READY` and a line of input after each: who
//! looks at the disk sees what becomes of equal pages.
//!
//! What it needs itself, code and stack, is locked: what is on disk is what it has filled, whatever is done to the disk.
#![expect(unsafe_code, reason = "a signal handler that replaces pages, and mlock")]

use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use workloads::claim::Claims;
use workloads::content::Content;
use workloads::mapping::{Charge, Mapping, PAGE_SIZE};
use workloads::page_counts::Source;

const PAGES_PER_MIB: u64 = 256;

/// What the handler may replace, and what it did.
static START: AtomicUsize = AtomicUsize::new(0);
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static LAST_ADDRESS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn replace(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t, and for SIGBUS its si_addr is set.
    let address = unsafe { (*info).si_addr().addr() };
    let start = START.load(Relaxed);
    if !(start..start + LENGTH.load(Relaxed)).contains(&address) {
        // Not ours: end like everybody else. SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(4) };
    }
    LOST.fetch_add(1, Relaxed);
    LAST_ADDRESS.store(address, Relaxed);
    let page = ptr::without_provenance_mut(address / PAGE_SIZE * PAGE_SIZE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: replaces a page of our own mapping by one of zeroes; references to it are to atomics, which may change.
    let replaced = unsafe { libc::mmap(page, PAGE_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if replaced != page {
        // SAFETY: as above.
        unsafe { libc::_exit(5) };
    }
}

fn install_handler(memory: &Mapping) {
    START.store(memory.address(), Relaxed);
    LENGTH.store(memory.pages() * PAGE_SIZE, Relaxed);
    // SAFETY: the action is zero (no flags, empty mask) but for what is set; the handler uses atomics and bare system
    // calls only.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = replace as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()), 0, "sigaction");
    }
}

/// Locks everything that is mapped by now; of the stack, which may be long, the part in use and four pages more.
fn lock_what_is_mapped() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the list of areas");
    for line in maps.lines().filter(|line| line.contains(" r") && !line.contains("[v")) {
        let (from, rest) = line.split_once('-').expect("an area");
        let address = |text: &str| usize::from_str_radix(text, 16).expect("an address");
        let (mut from, to) = (address(from), address(rest.split(' ').next().unwrap_or_default()));
        if line.ends_with("[stack]") {
            from = from.max((&raw const from).addr() / PAGE_SIZE * PAGE_SIZE - 4 * PAGE_SIZE);
        }
        // SAFETY: locking changes where pages may be, and nothing that is in them.
        let locked = unsafe { libc::mlock(ptr::without_provenance(from), to - from) };
        assert_eq!(locked, 0, "mlock of {line}");
    }
}

/// Pages of all processes, whatever their state.
fn pages_of_all(source: &Source) -> i64 {
    let counts = source.read([None, None]).expect("the kernel's counts");
    counts.touched()
}

/// What a pass over all pages found.
#[derive(Default)]
struct Found {
    wrong: u64,
    lost: u64,
}

/// What the pages hold.
struct Pages {
    content: Content,
    /// All hold what the first does.
    equal: bool,
}

impl Pages {
    /// Whose contents a page has.
    fn model(&self, page: usize) -> u64 {
        if self.equal { 0 } else { page as u64 }
    }
}

fn write_all(pages: &Pages, memory: &Mapping) {
    for page in 0..memory.pages() {
        pages.content.write(pages.model(page), memory.page_to_write(page));
    }
}

fn wait_for_a_line() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line of input");
}

fn read_back(claims: &mut Claims, pages: &Pages, memory: &Mapping, found: &mut Found) {
    for page in 0..memory.pages() {
        let before = LOST.load(Relaxed);
        let verified = pages.content.verify(pages.model(page), memory.page(page));
        if LOST.load(Relaxed) == before {
            found.wrong += u64::from(verified.is_err());
            continue;
        }
        found.lost += 1;
        println!("BUS page={page}");
        let offset = LAST_ADDRESS.load(Relaxed) - memory.address();
        claims.equal(format_args!("the page of si_addr at page {page}"), offset / PAGE_SIZE, page);
    }
}

fn main() -> ExitCode {
    let (mut mib, mut seed, mut handle, mut wait, mut outlive, mut equal, mut rounds) = (48, 1, 1, 1, 0, 0, 1);
    workloads::arguments::parse(
        "writes mib MiB, waits for a line of input, reads everything back; handle=0 leaves SIGBUS as it is, wait=0 reads\n\
         back for ever without waiting, outlive=MIB reads back until others have less than so many MiB, equal=1 makes all\n\
         pages the same, rounds=N writes them N times and waits after each",
        &mut [
            ("mib", &mut mib),
            ("seed", &mut seed),
            ("handle", &mut handle),
            ("wait", &mut wait),
            ("outlive", &mut outlive),
            ("equal", &mut equal),
            ("rounds", &mut rounds),
        ],
    );
    let mut claims = Claims::new("altered-swap");
    lock_what_is_mapped();
    let pages = Pages { content: Content::new(seed, 100), equal: equal != 0 };
    let memory = Mapping::anonymous(mib * PAGES_PER_MIB, Charge::Committed).expect("mmap");
    for _ in 1..rounds {
        write_all(&pages, &memory);
        println!("READY seed={seed} pages={}", memory.pages());
        wait_for_a_line();
    }
    write_all(&pages, &memory);
    if handle != 0 {
        install_handler(&memory);
    }
    println!("READY seed={seed} pages={}", memory.pages());
    let mut found = Found::default();
    while wait == 0 && found.wrong == 0 {
        read_back(&mut claims, &pages, &memory, &mut found);
    }
    let others = (outlive > 0).then(|| Source::open().expect("the kernel's counts"));
    // Counted as what is there beside its own pages: the other process may be gone before this line is reached.
    let enough = ((mib + outlive) * PAGES_PER_MIB) as i64;
    wait_for_a_line();

    read_back(&mut claims, &pages, &memory, &mut found);
    while others.as_ref().is_some_and(|others| pages_of_all(others) >= enough) {
        read_back(&mut claims, &pages, &memory, &mut found);
    }
    claims.equal("pages with wrong bytes", found.wrong, 0);
    claims.equal("signals for one page", LOST.load(Relaxed), found.lost);
    claims.finish(format_args!("lost={}", found.lost))
}
