//! Claim: reading through a null pointer is a SIGSEGV; the status is 139. `write` and `execute` as the argument do that.
#![expect(unsafe_code, reason = "the forbidden access is the point")]

use std::hint::black_box;

fn main() {
    let access = std::env::args().nth(1).unwrap_or_else(|| "read".to_owned());
    println!("about to {access} at address 0");
    let null: *mut u8 = black_box(std::ptr::null_mut());
    match access.as_str() {
        // SAFETY: none; page 0 is never mapped, so the kernel ends the program here. Volatile, so that it is done.
        "write" => unsafe { null.write_volatile(1) },
        "execute" => {
            // SAFETY: none, as above; assembly, because a Rust function pointer may not be null.
            unsafe { std::arch::asm!("call {}", in(reg) null, clobber_abi("C")) }
        }
        // SAFETY: none, as above.
        _ => println!("read {}", unsafe { null.read_volatile() }),
    }
    println!("FAIL nullderef survived");
}
