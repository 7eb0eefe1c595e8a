//! Spins in user mode without system calls: for ever, or for `ms=N` milliseconds. Claim: it is pre-empted, whatever it does.

use std::time::{Duration, Instant};

use workloads::machine::time_stamp;

fn main() {
    let mut ms = 0;
    workloads::arguments::parse("spins for ever (ms=0) or so many milliseconds", &mut [("ms", &mut ms)]);
    println!("spinning");
    let mut turns = 0_u64;
    let start = Instant::now();
    while ms == 0 || start.elapsed() < Duration::from_millis(ms) {
        // A few milliseconds without any system call, on every CPU this runs on.
        let begin = time_stamp();
        while time_stamp() - begin < 10_000_000 {
            turns += 1;
        }
    }
    println!("OK spin turns={turns}");
}
