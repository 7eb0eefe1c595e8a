//! Belady's minimum as the kernel tells it, beside the real one (U5).

use mm::reclaim::{Generational, Optimum, PageKey, Policy, SecondChance, Use};
use tests::replacement::policies::judged;
use tests::replacement::traces::{self, Trace};
use tests::replacement::{FRAMES, bounds};
use workloads::references::{Pattern, References};
use workloads::rng::Rng;

/// Misses of the best policy that are no page's first touch.
fn minimum(references: &[u32], frames: usize) -> u64 {
    let distinct = references.iter().collect::<std::collections::BTreeSet<_>>().len();
    (bounds::minimum(references, 0, frames) - distinct) as u64
}

/// The same from the kernel's structure, if it is told of every reference, and at each has one frame for that page and the rest for others.
fn told_of_all(references: &[u32], frames: usize) -> u64 {
    let pages = bounds::pages(references);
    let (mut optimum, mut seen) = (Optimum::exact(pages), vec![false; pages]);
    for page in references {
        optimum.note_eviction(|| frames - 1);
        let how = if std::mem::replace(&mut seen[*page as usize], true) { Use::Read } else { Use::Made };
        optimum.note_use(PageKey::new(u64::from(*page)), how);
    }
    let judged = optimum.judged();
    assert_eq!(judged.beyond, 0, "the window is as long as the string, and nothing is forgotten");
    assert_eq!(judged.reads as usize, references.len() - seen.iter().filter(|seen| **seen).count());
    judged.minimum
}

#[test]
fn u5_told_of_every_reference_it_is_belady_s_minimum_to_the_last_miss() {
    let seed = tests::harness::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut zipf = References::new(Pattern::zipf(600), 600, 20_000);
    let strings: [(&str, Vec<u32>); 4] = [
        ("a loop of one page more than there are frames", (0..20_000).map(|i| i % 101).collect()),
        ("Zipf", std::iter::from_fn(|| zipf.next(&mut rng)).map(|page| page as u32).collect()),
        (
            "a scan beside a hot set",
            (0..20_000).map(|i| if i % 3 == 0 { 60 + i / 3 % 700 } else { rng.below(60) as u32 }).collect(),
        ),
        ("anything", (0..20_000).map(|_| rng.below(300) as u32).collect()),
    ];
    for (name, references) in &strings {
        for frames in [2, 10, 100, 250] {
            assert_eq!(told_of_all(references, frames), minimum(references, frames), "{name} in {frames} frames");
        }
    }
}

/// Of what a policy did with a trace, what the kernel says; and what is true, in units of the sample.
struct Compared {
    said: f64,
    minimum: f64,
    reads: f64,
    misses: f64,
}

fn compared<P: Policy>(trace: &Trace, first: u64) -> Compared {
    let Trace { name, references, .. } = trace;
    let (misses, judged) = judged::<P>(references, FRAMES, first);
    assert_eq!(judged.beyond, 0, "{name}: all that is read was used within the window");
    let of_sample = |count: u64| count as f64 / judged.one_in as f64;
    Compared {
        said: judged.minimum as f64,
        minimum: of_sample(minimum(references, FRAMES)),
        reads: judged.reads as f64,
        misses: of_sample(misses as u64),
    }
}

/// By how much a count may be off by chance: four standard deviations.
fn chance(count: f64) -> f64 {
    4.0 * count.max(1.0).sqrt()
}

/// The least part of the minimum that the kernel's policy, and second chance, let the kernel see.
fn least_seen(name: &str) -> [f64; 2] {
    match name {
        // Most of the loop stays in main, where pages are looked at once in two or three rounds.
        "sweep of 1.2 × memory" => [0.2, 0.75],
        _ => [0.8, 0.6],
    }
}

#[test]
fn u5_of_what_the_kernel_sees_it_is_not_more_than_belady_s_minimum_and_mostly_not_much_less() {
    let first = 1 + tests::harness::seed() % (1 << 30);
    println!("the first page is {first}");
    for trace in traces::all(1) {
        let policies = [compared::<Generational>(&trace, first), compared::<SecondChance>(&trace, first)];
        for (Compared { said, minimum, reads, misses }, least) in policies.into_iter().zip(least_seen(trace.name)) {
            let text = format!("{}: {said} of {minimum} had to be read, {reads} of {misses} were", trace.name);
            println!("{text}");
            assert!((reads - misses).abs() <= 0.02 * misses + chance(misses), "{text}");
            assert!(said <= 1.03 * minimum + chance(minimum), "{text}");
            assert!(said >= least * minimum - chance(minimum), "{text}");
        }
    }
}
