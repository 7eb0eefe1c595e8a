//! Claim: mmap, munmap, mprotect, madvise and brk do what their manual pages say about placement, splitting, merging,
//! errors and zeroes. What a page's protection is shows in `/proc/self/maps`; forbidden accesses are other programs.
#![expect(unsafe_code, reason = "mappings made, changed and removed at given addresses")]

use std::io;
use std::process::ExitCode;

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE,
};
use workloads::claim::Claims;
use workloads::machine::system_call;
use workloads::mapping::PAGE_SIZE;
use workloads::maps;

const READ_WRITE: libc::c_int = PROT_READ | PROT_WRITE;
const GIB: usize = 1 << 30;

/// Maps anonymous memory; `Err` is the errno.
fn map(address: usize, length: usize, protection: libc::c_int, flags: libc::c_int) -> Result<usize, i32> {
    // SAFETY: fixed addresses are only given inside ranges this program mapped for the purpose, which hold no Rust value.
    let base = unsafe { libc::mmap(address as *mut _, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0) };
    if base == libc::MAP_FAILED { Err(errno()) } else { Ok(base.addr()) }
}

fn unmap(address: usize, length: usize) -> Result<(), i32> {
    // SAFETY: as in `map`.
    result(unsafe { libc::munmap(address as *mut _, length) })
}

fn protect(address: usize, length: usize, protection: libc::c_int) -> Result<(), i32> {
    // SAFETY: as in `map`.
    result(unsafe { libc::mprotect(address as *mut _, length, protection) })
}

fn discard(address: usize, length: usize) -> Result<(), i32> {
    // SAFETY: as in `map`.
    result(unsafe { libc::madvise(address as *mut _, length, libc::MADV_DONTNEED) })
}

fn result(value: libc::c_int) -> Result<(), i32> {
    if value == 0 { Ok(()) } else { Err(errno()) }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Reads the first word of a page this program has mapped readable.
fn read(address: usize) -> u64 {
    // SAFETY: only called for pages mapped readable.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes the first word of a page this program has mapped writable.
fn write(address: usize, value: u64) {
    // SAFETY: only called for pages mapped writable, which hold no Rust value.
    unsafe { (address as *mut u64).write_volatile(value) }
}

/// The rights of the areas in a range, in order: one entry per line of `/proc/self/maps`.
fn rights(start: usize, pages: usize) -> String {
    match maps::areas(start..start + pages * PAGE_SIZE) {
        Ok(areas) => areas
            .iter()
            .map(|area| format!("{}*{}", area.rights, area.range.len() / PAGE_SIZE))
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => format!("/proc/self/maps: {error}"),
    }
}

fn main() -> ExitCode {
    let mut claims = Claims::new("mmap-contract");
    // A hole of known surroundings: inaccessible pages on both sides, so that nothing merges with the neighbours.
    let arena = map(0, 64 * PAGE_SIZE, PROT_NONE, MAP_NORESERVE).expect("an arena");
    let room = arena + 16 * PAGE_SIZE;
    placement(&mut claims, room);
    refusals(&mut claims, room);
    unmapping(&mut claims, room);
    protection(&mut claims, room);
    reservation(&mut claims);
    zeroes(&mut claims, room);
    program_break(&mut claims);
    claims.equal("unmap the arena", unmap(arena, 64 * PAGE_SIZE), Ok(()));
    claims.equal("nothing left of it", rights(arena, 64), String::new());
    claims.finish("")
}

fn placement(claims: &mut Claims, room: usize) {
    claims.equal("unmap the room", unmap(room, 8 * PAGE_SIZE), Ok(()));
    claims.equal("a free hint is taken", map(room, PAGE_SIZE, READ_WRITE, 0), Ok(room));
    write(room, 1);
    let elsewhere = map(room, PAGE_SIZE, READ_WRITE, 0);
    claims.holds("an occupied hint is moved", elsewhere.is_ok_and(|address| address != room));
    claims.equal("and what is there stays", read(room), 1);
    if let Ok(address) = elsewhere {
        claims.equal("unmap it", unmap(address, PAGE_SIZE), Ok(()));
    }
    let unaligned = map(room + PAGE_SIZE + 123, PAGE_SIZE, READ_WRITE, 0);
    claims.holds("an unaligned hint is rounded", unaligned.is_ok_and(|address| address % PAGE_SIZE == 0));
    if let Ok(address) = unaligned {
        claims.equal("unmap it", unmap(address, PAGE_SIZE), Ok(()));
    }
    let over = map(room, 2 * PAGE_SIZE, READ_WRITE, MAP_FIXED_NOREPLACE);
    claims.equal("MAP_FIXED_NOREPLACE on an overlap", over, Err(libc::EEXIST));
    claims.equal("and what is there stays", read(room), 1);
    let beside = map(room + PAGE_SIZE, PAGE_SIZE, READ_WRITE, MAP_FIXED_NOREPLACE);
    claims.equal("MAP_FIXED_NOREPLACE in a hole", beside, Ok(room + PAGE_SIZE));
    claims.equal("MAP_FIXED replaces", map(room, PAGE_SIZE, READ_WRITE, MAP_FIXED), Ok(room));
    claims.equal("with zeroes", read(room), 0);
    claims.equal("lengths are rounded up", map(room, PAGE_SIZE + 1, READ_WRITE, MAP_FIXED), Ok(room));
    write(room + PAGE_SIZE, 2);
    claims.equal("neighbours of one kind are one area", rights(room, 2), "rw-p*2".to_owned());
}

fn refusals(claims: &mut Claims, room: usize) {
    claims.equal("length 0", map(0, 0, READ_WRITE, 0), Err(libc::EINVAL));
    claims.equal("an unaligned MAP_FIXED", map(room + 1, PAGE_SIZE, READ_WRITE, MAP_FIXED), Err(libc::EINVAL));
    claims.equal("a length beyond the address space", map(0, 1 << 47, READ_WRITE, MAP_NORESERVE), Err(libc::ENOMEM));
    claims.equal("a length that wraps", map(0, usize::MAX - 4094, READ_WRITE, 0), Err(libc::ENOMEM));
    let kernel_half = 0xffff_8000_0000_0000;
    claims.equal(
        "MAP_FIXED in the kernel's half",
        map(kernel_half, PAGE_SIZE, READ_WRITE, MAP_FIXED),
        Err(libc::ENOMEM),
    );
    claims.equal("munmap of length 0", unmap(room, 0), Err(libc::EINVAL));
    claims.equal("munmap of an unaligned address", unmap(room + 1, PAGE_SIZE), Err(libc::EINVAL));
    claims.equal("munmap in the kernel's half", unmap(kernel_half, PAGE_SIZE), Err(libc::EINVAL));
    claims.equal("mprotect of an unaligned address", protect(room + 1, PAGE_SIZE, PROT_READ), Err(libc::EINVAL));
    claims.equal("mprotect of length 0", protect(room, 0, PROT_READ), Ok(()));
    // Page 0 stays unmapped, unless the kernel trusts root with it, as Linux does.
    match map(0, PAGE_SIZE, READ_WRITE, MAP_FIXED) {
        Ok(_) => claims.equal("unmap page 0, which a trusted user may map", unmap(0, PAGE_SIZE), Ok(())),
        Err(error) => claims.equal("page 0", error, libc::EPERM),
    }
}

fn unmapping(claims: &mut Claims, room: usize) {
    claims.equal("eight pages", map(room, 8 * PAGE_SIZE, READ_WRITE, MAP_FIXED), Ok(room));
    (0..8).for_each(|page| write(room + page * PAGE_SIZE, page as u64 + 1));
    claims.equal("munmap of the head", unmap(room, PAGE_SIZE), Ok(()));
    claims.equal("munmap of the tail", unmap(room + 7 * PAGE_SIZE, PAGE_SIZE), Ok(()));
    claims.equal("munmap in the middle", unmap(room + 3 * PAGE_SIZE, 2 * PAGE_SIZE), Ok(()));
    claims.equal("two pieces are left", rights(room, 8), "rw-p*2 rw-p*2".to_owned());
    for page in [1, 2, 5, 6] {
        claims.equal(format_args!("page {page} kept its contents"), read(room + page * PAGE_SIZE), page as u64 + 1);
    }
    claims.equal("mprotect over a hole", protect(room + PAGE_SIZE, 6 * PAGE_SIZE, READ_WRITE), Err(libc::ENOMEM));
    claims.equal("madvise over a hole", discard(room + PAGE_SIZE, 6 * PAGE_SIZE), Err(libc::ENOMEM));
    claims.equal("munmap over holes", unmap(room, 8 * PAGE_SIZE), Ok(()));
    claims.equal("munmap of nothing", unmap(room, 8 * PAGE_SIZE), Ok(()));
    claims.equal("nothing is left", rights(room, 8), String::new());
}

fn protection(claims: &mut Claims, room: usize) {
    claims.equal("eight pages", map(room, 8 * PAGE_SIZE, READ_WRITE, MAP_FIXED), Ok(room));
    (0..8).for_each(|page| write(room + page * PAGE_SIZE, page as u64 + 1));
    claims.equal("mprotect in the middle", protect(room + 2 * PAGE_SIZE, 3 * PAGE_SIZE, PROT_READ), Ok(()));
    claims.equal("splits", rights(room, 8), "rw-p*2 r--p*3 rw-p*3".to_owned());
    claims.equal("mprotect across pieces", protect(room + PAGE_SIZE, 2 * PAGE_SIZE, PROT_NONE), Ok(()));
    claims.equal("moves the borders", rights(room, 8), "rw-p*1 ---p*2 r--p*2 rw-p*3".to_owned());
    claims.equal("mprotect back", protect(room, 8 * PAGE_SIZE, READ_WRITE), Ok(()));
    claims.equal("merges", rights(room, 8), "rw-p*8".to_owned());
    for page in 0..8 {
        claims.equal(format_args!("page {page} kept its contents"), read(room + page * PAGE_SIZE), page as u64 + 1);
        write(room + page * PAGE_SIZE, 0);
    }
    claims.equal("unmap", unmap(room, 8 * PAGE_SIZE), Ok(()));
}

/// What malloc does for an arena: reserve a lot inaccessibly, trim it, and make pieces of it accessible.
fn reservation(claims: &mut Claims) {
    let Ok(base) = map(0, GIB, PROT_NONE, MAP_NORESERVE) else {
        claims.equal("reserve 1 GiB", errno(), 0);
        return;
    };
    let aligned = (base + (64 << 20)) & !((64 << 20) - 1);
    claims.equal("trim the front", unmap(base, aligned - base), Ok(()));
    let last = base + GIB - PAGE_SIZE;
    claims.equal("grow at the front", protect(aligned, 33 * PAGE_SIZE, READ_WRITE), Ok(()));
    claims.equal("make the last page accessible", protect(last, PAGE_SIZE, READ_WRITE), Ok(()));
    write(aligned + 32 * PAGE_SIZE, 5);
    write(last, 6);
    claims.equal("far apart", (read(aligned + 32 * PAGE_SIZE), read(last), read(aligned)), (5, 6, 0));
    claims.equal("unmap 1 GiB", unmap(aligned, base + GIB - aligned), Ok(()));
}

fn zeroes(claims: &mut Claims, room: usize) {
    claims.equal("four pages", map(room, 4 * PAGE_SIZE, READ_WRITE, MAP_FIXED), Ok(room));
    claims.equal("fresh pages are zero", (0..4).map(|page| read(room + page * PAGE_SIZE)).sum(), 0);
    (0..4).for_each(|page| write(room + page * PAGE_SIZE, page as u64 + 1));
    claims.equal("MADV_DONTNEED in the middle", discard(room + PAGE_SIZE, 2 * PAGE_SIZE), Ok(()));
    let words: Vec<u64> = (0..4).map(|page| read(room + page * PAGE_SIZE)).collect();
    claims.equal("forgets just that", words, vec![1, 0, 0, 4]);
    write(room + PAGE_SIZE, 9);
    claims.equal("and the pages can be used again", read(room + PAGE_SIZE), 9);
    claims.equal("MADV_DONTNEED at an unaligned address", discard(room + 1, PAGE_SIZE), Err(libc::EINVAL));
    claims.equal("unmap", unmap(room, 4 * PAGE_SIZE), Ok(()));
}

/// Bare calls, and no allocation in between: malloc has its own idea of where the break is.
fn program_break(claims: &mut Claims) {
    const GROWTH: usize = 8 * PAGE_SIZE;
    let brk = |address: usize| {
        // SAFETY: the break only moves above where malloc left it, and back to there at the end.
        unsafe { system_call(libc::SYS_brk as u64, [address as u64, 0, 0, 0, 0, 0]) as usize }
    };
    let start = brk(0);
    let grown = brk(start + GROWTH);
    let top = (start + GROWTH) / PAGE_SIZE * PAGE_SIZE - PAGE_SIZE;
    let first = read(top);
    write(top, 7);
    let shrunk = brk(start);
    let again = brk(start + GROWTH);
    let second = read(top);
    let refused = brk(0xffff_8000_0000_0000);
    let end = brk(start);
    claims.holds("there is a break", start != 0);
    claims.equal("it grows, shrinks and grows", (grown, shrunk, again), (start + GROWTH, start, start + GROWTH));
    claims.equal("new pages of it are zero, both times", (first, second), (0, 0));
    claims.equal("an impossible break changes nothing", refused, start + GROWTH);
    claims.equal("back where it was", end, start);
}
