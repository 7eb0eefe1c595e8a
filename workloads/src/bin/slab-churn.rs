//! Claim (P2): `/proc/slabinfo` counts threads while they live, and after any number of them it counts as many as before.
//!
//! Where there is no such count (Linux has another list, and only for root) the threads come and go all the same.

use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;

use workloads::claim::Claims;

const TOGETHER: usize = 32;
const ROUNDS: usize = 8;

/// Live objects of a cache.
fn live(cache: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    let mut fields =
        text.lines().map(str::split_ascii_whitespace).find(|fields| fields.clone().next() == Some(cache))?;
    fields.nth(1)?.parse().ok()
}

/// The count, once it is what it must be; a thread that was joined may have a last step to go.
fn settled(cache: &str, wanted: Option<usize>) -> Option<usize> {
    for _ in 0..1000 {
        if live(cache) == wanted {
            break;
        }
        thread::yield_now();
    }
    live(cache)
}

fn churn(meanwhile: impl FnOnce()) {
    let barrier = Arc::new(Barrier::new(TOGETHER + 1));
    let member = |_| {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || barrier.wait())
    };
    let threads: Vec<_> = (0..TOGETHER).map(member).collect();
    meanwhile();
    barrier.wait();
    for thread in threads {
        thread.join().expect("threads do not panic");
    }
}

fn main() -> ExitCode {
    let mut claims = Claims::new("slab-churn");
    churn(|| ());
    let [threads, processes] = ["thread", "process"].map(live);
    for _ in 0..ROUNDS {
        churn(|| {
            let more = threads.map(|threads| threads + TOGETHER);
            claims.equal("threads that live", settled("thread", more), more);
        });
        claims.equal("threads that are left", settled("thread", threads), threads);
    }
    claims.equal("processes", live("process"), processes);
    claims.finish(format_args!("threads={}", threads.unwrap_or(0)))
}
