//! Claim: every thread keeps its vector registers, whoever runs between: AVX2 where CPU and kernel offer it, SSE2
//! otherwise. Each thread holds all sixteen registers across yields and pre-emption and compares with scalar arithmetic.

use std::process::ExitCode;

use workloads::claim::Claims;
use workloads::registers::{Bank, REGISTERS, Width, hold, model};
use workloads::rng::Rng;

fn main() -> ExitCode {
    let (mut threads, mut runs, mut rounds, mut steps) = (2, 20, 500, 100);
    workloads::arguments::parse(
        "threads that each hold all vector registers across rounds yields, steps additions apart",
        &mut [("threads", &mut threads), ("runs", &mut runs), ("rounds", &mut rounds), ("steps", &mut steps)],
    );
    let width = Width::widest();
    if width == Width::Bits128 {
        println!("no AVX2 here (or the kernel does not switch it): holding SSE2 registers instead");
    }
    let (rounds, steps) = (rounds.max(1) as u32, steps.max(1) as u32);
    let wrong: Vec<Option<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || (0..runs).find_map(|run| wrong_register(width, thread << 32 | run, rounds, steps)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut claims = Claims::new("avx2-pair");
    for (thread, wrong) in wrong.into_iter().enumerate() {
        claims.equal(format_args!("thread {thread}"), wrong, None);
    }
    claims.finish(format_args!("width={width:?}"))
}

/// Holds one bank of registers and says which register came out wrong. Every second run makes one long stretch of it,
/// in which only pre-emption takes the CPU away.
fn wrong_register(width: Width, seed: u64, rounds: u32, steps: u32) -> Option<String> {
    let (rounds, steps) = if seed.is_multiple_of(2) { (rounds, steps) } else { (1, rounds * steps) };
    let mut rng = Rng::new(seed);
    let start: Bank = std::array::from_fn(|_| std::array::from_fn(|_| rng.word()));
    let (mut held, mut expected) = (start, start);
    hold(width, &mut held, rounds, steps);
    model(width, &mut expected, rounds, steps);
    let register = (0..REGISTERS).find(|&register| held[register] != expected[register])?;
    Some(format!("register {register}: {:x?} instead of {:x?}", held[register], expected[register]))
}
