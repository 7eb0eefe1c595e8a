//! Claim: a bad pointer given to a system call is an error with the number Linux gives, never a crash and never a write
//! to memory that was not named. Every call with a pointer is made with every kind of bad pointer.
//!
//! `calls` is the table; here are the pointers and the judging. Standard output must not be `/dev/null`, which takes
//! bytes without looking at them. A call that the kernel does not have (ENOSYS) is listed, and is a broken claim only if
//! the table says that programs need it.
#![expect(unsafe_code, reason = "system calls with bad pointers are the point")]

mod calls;
mod pointers;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use calls::{Argument, CALLS, Call, Need, Outcome};
use pointers::{Arena, Bad};
use workloads::claim::Claims;
use workloads::machine::system_call;

fn main() -> ExitCode {
    let mut claims = Claims::new("badptr");
    let arena = match Arena::new() {
        Ok(arena) => arena,
        Err(error) => {
            claims.holds(format_args!("an arena of pages: {error}"), false);
            return claims.finish("");
        }
    };
    let file = File::open("/proc/self/maps");
    claims.holds(format_args!("/proc/self/maps opens: {file:?}"), file.is_ok());
    let mut missing = Vec::new();
    for call in CALLS {
        if make_all(&mut claims, &arena, &file, call) == Presence::Missing {
            missing.push(call.name);
        }
    }
    without_pointers(&mut claims);
    claims.holds("the read-only page is as it was", arena.read_only_is_intact());
    claims.holds("the page before a crossing is as it was", arena.crossing_is_intact());
    let details = if missing.is_empty() { String::new() } else { format!("enosys={}", missing.join(",")) };
    bad_pointers_for_exit(&mut claims, &arena);
    claims.finish(details)
}

/// Whether the kernel has a call at all.
#[derive(PartialEq, Eq)]
enum Presence {
    Present,
    Missing,
}

/// Makes one call with every kind of bad pointer that applies.
fn make_all(claims: &mut Claims, arena: &Arena, file: &io::Result<File>, call: &Call) -> Presence {
    let mut presence = Presence::Present;
    for bad in Bad::ALL {
        let outcome = call.outcome(bad);
        if matches!(outcome, Outcome::Skipped) {
            continue;
        }
        arena.refill();
        let pointer = arena.address(bad, call.size);
        let fd = file.as_ref().map_or(-1, |file| i64::from(file.as_raw_fd()));
        let arguments = call.arguments.map(|argument| match argument {
            Argument::Number(number) => number as u64,
            Argument::File => fd as u64,
            Argument::Bad => pointer,
            Argument::Good => arena.scratch(),
            Argument::Text(text) => text.as_ptr() as u64,
            Argument::VectorToBad => arena.vector_to(pointer, call.size),
        });
        // SAFETY: every address is in the arena, which holds no Rust value, in constant text that the calls only read,
        // or not accessible at all. No call of the table changes signal state, mappings or threads when it fails, and
        // none of those that could is let succeed.
        let result = unsafe { system_call(call.number as u64, arguments) };
        if result == -i64::from(libc::ENOSYS) {
            presence = Presence::Missing;
            let needed = matches!(call.need, Need::Required);
            claims.holds(format_args!("{} is there", call.name), !needed);
            break;
        }
        let what = format_args!("{} with {bad:?} ({pointer:#x}): {result}, expected {outcome:?}", call.name);
        claims.holds(what, outcome.allows(result));
    }
    presence
}

/// Errors that have nothing to do with pointers.
fn without_pointers(claims: &mut Claims) {
    let bad_file = -i64::from(libc::EBADF);
    for (what, number, first, expected) in [
        ("read from no file", libc::SYS_read, -1, bad_file),
        ("write to no file", libc::SYS_write, 999, bad_file),
        ("close of no file", libc::SYS_close, 999, bad_file),
        ("a call that never existed", 9999, 0, -i64::from(libc::ENOSYS)),
        ("call number -1", -1, 0, -i64::from(libc::ENOSYS)),
    ] {
        // SAFETY: no such file or call, so nothing happens; the pointer is null.
        let result = unsafe { system_call(number as u64, [first as u64, 0, 1, 0, 0, 0]) };
        claims.equal(what, result, expected);
    }
}

/// Pointers that the kernel only uses when the thread ends: it has to get over them, and the status stays the program's.
fn bad_pointers_for_exit(claims: &mut Claims, arena: &Arena) {
    let (hole, kernel_half) = (arena.address(Bad::Hole, 24), arena.address(Bad::KernelHalf, 4));
    // SAFETY: both pointers are only remembered; nothing behind them is accessible.
    let results = unsafe {
        [
            system_call(libc::SYS_set_robust_list as u64, [hole, 24, 0, 0, 0, 0]),
            i64::from(system_call(libc::SYS_set_tid_address as u64, [kernel_half, 0, 0, 0, 0, 0]) > 0),
        ]
    };
    claims.equal("set_robust_list and set_tid_address take any pointer", results, [0, 1]);
}
