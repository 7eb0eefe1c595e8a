//! Claim: a program whose threads wait for pages from a slow disk ends at once, with the status that one of its threads
//! gives; what it waited for is the kernel's business then. `how=0` exits with status 7, `how=1` dies of SIGSEGV.
#![expect(unsafe_code, reason = "the forbidden access is one way to end")]

use std::hint::black_box;
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use workloads::content::Content;
use workloads::mapping::{Charge, Mapping};
use workloads::rng::Scatter;

const PAGES_PER_MIB: u64 = 256;
const STATUS: i32 = 7;

/// Threads that are about to touch a page, and those that have.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// Touches pages that were written long ago, one after the other, for ever.
fn touch(memory: &Mapping, content: &Content, thread: u64, threads: u64) {
    let scatter = Scatter::new(memory.pages() as u64);
    for rank in (thread..).step_by(threads as usize) {
        let page = scatter.page(rank % memory.pages() as u64);
        BEGUN.fetch_add(1, Relaxed);
        if content.check(page, memory.page(page as usize)).is_err() {
            println!("FAIL exit-while-waiting page={page}");
            exit(1);
        }
        DONE.fetch_add(1, Relaxed);
    }
}

fn main() {
    let (mut mib, mut threads, mut how) = (40, 8, 0);
    workloads::arguments::parse(
        "ends while threads wait for pages; mib is to be more than there is RAM, and reads from swap slow",
        &mut [("mib", &mut mib), ("threads", &mut threads), ("how", &mut how)],
    );
    let content = Content::new(1, 50);
    let memory = Mapping::anonymous(mib * PAGES_PER_MIB, Charge::Committed).expect("mmap");
    for page in 0..memory.pages() {
        content.write(page as u64, memory.page_to_write(page));
    }
    let memory: &Mapping = Box::leak(Box::new(memory));
    for thread in 0..threads {
        thread::spawn(move || touch(memory, &content, thread, threads));
    }
    // Every thread waits once nothing gets done for a while.
    let mut before = u64::MAX;
    while BEGUN.load(Relaxed) != DONE.load(Relaxed) + threads || DONE.load(Relaxed) != before {
        before = DONE.load(Relaxed);
        thread::sleep(Duration::from_millis(20));
    }
    println!("ENDING waiting={threads} done={before}");
    if how == 1 {
        // SAFETY: none; page 0 is never mapped, so the kernel ends the program here.
        unsafe { black_box(std::ptr::null_mut::<u8>()).write_volatile(1) };
    }
    exit(STATUS);
}
