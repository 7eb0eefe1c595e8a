//! Claim: reading one byte past a mapping is a SIGSEGV; the status is 139. The last byte inside reads fine.
#![expect(unsafe_code, reason = "the forbidden access is the point")]

use workloads::mapping::{Charge, Mapping, PAGE_SIZE, WORDS};

fn main() {
    // Two pages, of which the second is given back: so nothing can lie behind the first.
    let memory = Mapping::anonymous(2, Charge::Committed).expect("mmap");
    let end = memory.address() + PAGE_SIZE;
    // SAFETY: the second page has no reference to it. `memory` is never dropped: the program ends below.
    let unmapped = unsafe { libc::munmap(end as *mut libc::c_void, PAGE_SIZE) };
    assert_eq!(unmapped, 0, "munmap");
    memory.page_to_write(0).write(WORDS - 1, 7 << 56);
    // SAFETY: the last byte of the first page.
    let last = unsafe { ((end - 1) as *const u8).read_volatile() };
    println!("the last byte inside is {last}; about to read past the mapping");
    // SAFETY: none; nothing is mapped there, so the kernel ends the program here.
    let past = unsafe { (end as *const u8).read_volatile() };
    println!("FAIL past-mapping survived, read {past}");
}
