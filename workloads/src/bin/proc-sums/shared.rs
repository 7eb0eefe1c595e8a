//! Two processes with the same pages: a child made by fork, that stands still while its parent adds up (X16).
//! Neither touches them after the fork: a page need not be in a page table to be in both processes' figures.
#![expect(unsafe_code, reason = "fork, and pipes to tell the child what to do")]

use workloads::claim::Claims;
use workloads::mapping::{Charge, Mapping};

use super::machine::is_exact;
use super::text::{read, values};

const PAGES: u64 = 512;
const KIB_PER_PAGE: u64 = 4;
/// Pages that the two may have otherwise than this program thinks: code, stack, buffers; and what is split is rounded.
const ELSE: u64 = 128;

/// One byte from a pipe; waits for it.
fn wait(pipe: libc::c_int) {
    let mut byte = 0_u8;
    // SAFETY: reads one byte into a byte of ours.
    unsafe { libc::read(pipe, (&raw mut byte).cast(), 1) };
}

fn say(pipe: libc::c_int) {
    // SAFETY: writes one byte of ours.
    unsafe { libc::write(pipe, b"x".as_ptr().cast(), 1) };
}

fn pipe() -> [libc::c_int; 2] {
    let mut ends = [0; 2];
    // SAFETY: fills in two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0, "pipe");
    ends
}

/// The part of each field that is about shared and private pages.
fn rollup(process: &str) -> [u64; 3] {
    let found = values(&read(&format!("/proc/{process}/smaps_rollup")));
    let kib = |name: &str| found.get(name).copied().unwrap_or(0);
    [kib("Rss"), kib("Pss"), kib("Shared_Clean") + kib("Shared_Dirty")]
}

pub fn check(claims: &mut Claims) {
    let memory = Mapping::anonymous(PAGES, Charge::Committed).expect("mmap");
    (0..memory.pages()).for_each(|page| memory.page_to_write(page).write(0, page as u64 + 1));
    let (to_child, from_child) = (pipe(), pipe());
    // SAFETY: there is one thread, and the child calls nothing but what may be called after fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        say(from_child[1]);
        wait(to_child[0]);
        // SAFETY: ends the child without running anything of its parent's.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "fork");
    wait(from_child[0]);
    let (own, other) = (rollup("self"), rollup(&child.to_string()));
    let meminfo = values(&read("/proc/meminfo"));
    let kib = PAGES * KIB_PER_PAGE;
    for (who, [rss, pss, shared]) in [("parent", own), ("child", other)] {
        let what = format!("{who}: Rss {rss}, Pss {pss}, shared {shared}, of {kib} kB that both have");
        claims.holds(what, shared >= kib && pss + kib / 2 <= rss);
    }
    if is_exact() {
        // Each page once, in whichever process.
        let (sum, all) = (own[1] + other[1], meminfo["AnonPages"] + meminfo["Shmem"]);
        claims.holds(format_args!("sum of Pss {sum}, pages in RAM {all}"), sum.abs_diff(all) <= ELSE * KIB_PER_PAGE);
    }
    say(to_child[1]);
    let mut status = 0;
    // SAFETY: waits for the child made above.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    claims.equal("the child ended well", (ended, status), (child, 0));
    claims.holds("its directory went with it", !std::path::Path::new(&format!("/proc/{child}")).exists());
}
