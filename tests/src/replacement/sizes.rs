//! The same programs with other draws, in other amounts of memory: what a policy is worth should depend on neither.
//!
//! Owns the second table of docs/replacement.md.

use super::{bounds, policies, published, traces};
use mm::reclaim::{Generational, SecondChance};
use std::fmt::Write;
use traces::Trace;

/// None of them is that of the first table.
const SEEDS: std::ops::RangeInclusive<u64> = 2..=4;

/// From a quarter of what most programs use to two thirds.
const FRAMES: [usize; 5] = [8_000, 11_000, 15_000, 18_500, 22_000];

/// Who is compared; the kernel's is the last.
pub const NAMES: [&str; 3] = ["LRU", "second chance", "generational"];

/// Geometric mean of misses by the minimum, over all programs that have to miss, by policy.
pub type Means = [f64; NAMES.len()];

/// In each amount of memory.
pub fn all() -> Vec<Means> {
    let traces: Vec<Trace> = SEEDS.flat_map(traces::all).collect();
    std::thread::scope(|scope| {
        let means = FRAMES.map(|frames| {
            scope.spawn({
                let traces = &traces;
                move || means(traces, frames)
            })
        });
        means.map(|means| means.join().expect("no policy panics")).to_vec()
    })
}

fn means(traces: &[Trace], frames: usize) -> Means {
    let (mut logs, mut count) = ([0.0; NAMES.len()], 0.0);
    for Trace { populated, references, .. } in traces {
        let minimum = bounds::minimum(references, *populated, frames);
        if minimum == 0 {
            continue;
        }
        count += 1.0;
        let misses = [
            published::lru(references, frames),
            policies::misses::<SecondChance>(references, frames),
            policies::misses::<Generational>(references, frames),
        ];
        assert!(misses.iter().all(|misses| *misses > 0), "who has to miss {minimum} times misses");
        for (log, misses) in logs.iter_mut().zip(misses) {
            *log += (misses as f64 / minimum as f64).ln();
        }
    }
    logs.map(|log| f64::exp(log / count))
}

/// The table, behind the first.
pub fn section(means: &[Means]) -> String {
    let mut text = String::from(HEAD);
    let _ = writeln!(text, "| frames | {} |\n|---:|{}", NAMES.join(" | "), "---:|".repeat(NAMES.len()));
    for (frames, means) in FRAMES.iter().zip(means) {
        let means: Vec<_> = means.iter().map(|mean| format!("{mean:.2}")).collect();
        let _ = writeln!(text, "| {frames} | {} |", means.join(" | "));
    }
    text
}

const HEAD: &str = "
## Other draws, in other amounts of memory

Geometric means over the same programs with three other draws each, without the loop that is small where it fits. They can
be below one: MIN' begins with the pages that were populated last, and the generations keep those populated first.

";
