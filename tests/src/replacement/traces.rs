//! Reference strings: the four of `pressure`, and of programs that are none of them.
//!
//! Owns the strings. Each begins with a touch of every page in order, as programs fill their memory before they use it. They were
//! chosen, before any policy was run on them, so that each is what one sort of program does: loops that are a little and much larger
//! than memory, a scan beside a hot set, a hot set that moves, a search tree, a matrix read across its rows, a heap that is marked and
//! swept, and a program with phases.

use workloads::references::{Pattern, References};
use workloads::rng::Rng;

/// Pages of most of them: 128 MiB.
const PAGES: u64 = 32_768;

/// References of `hot-cold`'s run.
const HOT_COLD: u64 = 131_072;

/// One string.
pub struct Trace {
    /// What it is called.
    pub name: &'static str,
    /// How many references populate.
    pub populated: usize,
    /// Page by page.
    pub references: Vec<u32>,
    /// The same program for much longer and with another seed, if its references are independent.
    pub longer: Option<Vec<u32>>,
}

/// All of them; what is drawn, by a seed.
pub fn all(seed: u64) -> Vec<Trace> {
    let independent = |name, pattern: fn(u64) -> Pattern, length| Trace {
        longer: Some(longer(pattern(PAGES), length)),
        ..populated(name, PAGES, run(pattern(PAGES), seed, length))
    };
    vec![
        independent("uniform", |_| Pattern::Uniform, 65_536),
        independent("zipf", Pattern::zipf, 131_072),
        independent("hot-cold", Pattern::hot_cold, HOT_COLD),
        populated("sweep of 2.2 × memory", PAGES, (0..4 * PAGES).map(|i| (i % PAGES) as u32)),
        populated("sweep of 1.2 × memory", 18_000, (0..7 * 18_000).map(|i| i % 18_000)),
        populated("scan beside a hot set", PAGES, scan(seed)),
        populated("moving hot set", PAGES, moving(seed)),
        populated("search tree", PAGES, tree(seed)),
        populated("matrix across its rows", PAGES, matrix()),
        populated("mark and sweep", PAGES, mark_and_sweep(seed)),
        populated("phases", PAGES, phases(seed)),
    ]
}

/// `hot-cold`, of another seed and without the longer string.
pub fn hot_cold(seed: u64) -> Trace {
    populated("hot-cold", PAGES, run(Pattern::hot_cold(PAGES), seed, HOT_COLD))
}

/// The longer string of `hot-cold`.
pub fn longer_hot_cold() -> Vec<u32> {
    longer(Pattern::hot_cold(PAGES), HOT_COLD)
}

fn longer(pattern: Pattern, length: u64) -> Vec<u32> {
    run(pattern, 977, 32 * length)
}

fn run(pattern: Pattern, seed: u64, length: u64) -> Vec<u32> {
    let (mut rng, mut string) = (Rng::new(seed), References::new(pattern, PAGES, length));
    std::iter::from_fn(|| string.next(&mut rng)).map(|page| page as u32).collect()
}

fn populated(name: &'static str, pages: u64, run: impl IntoIterator<Item = u32>) -> Trace {
    let references = (0..pages as u32).chain(run).collect();
    Trace { name, populated: pages as usize, references, longer: None }
}

/// What a string draws from, of those that are not `pressure`'s.
fn draws(string: u64, seed: u64) -> Rng {
    Rng::new(string + 10 * (seed - 1))
}

/// Every other reference goes to one of 8000 pages, the others through the rest in order.
fn scan(seed: u64) -> Vec<u32> {
    let mut rng = draws(2, seed);
    (0..131_072).map(|i| if i % 2 == 0 { rng.below(8_000) as u32 } else { 8_000 + i / 2 % 24_768 }).collect()
}

/// Nine in ten go to 9000 neighbours, which move on by 2000 every 16 384 references.
fn moving(seed: u64) -> Vec<u32> {
    let mut rng = draws(3, seed);
    let mut next =
        |i: u64| if rng.percent(90) { (i / 16_384 * 2_000 + rng.below(9_000)) % PAGES } else { rng.below(PAGES) };
    (0..196_608).map(|i| next(i) as u32).collect()
}

/// Four levels; small keys are asked for more often, and leaves are where they happened to be allocated.
fn tree(seed: u64) -> Vec<u32> {
    let mut rng = draws(4, seed);
    let mut search = || {
        let part = rng.below(1 << 20) as f64 / f64::from(1 << 20);
        let key = (part * part * part * 31_000.0) as u32;
        [0, 1 + key / 1_000, 40 + key / 16 % 1_700, 1_768 + key.wrapping_mul(7_919) % 31_000]
    };
    (0..60_000).flat_map(|_| search()).collect()
}

/// 2048 rows of eight pages are read down their columns, a page's worth of columns at a time, and written elsewhere in order.
fn matrix() -> Vec<u32> {
    let column = |(column, part): (u32, u32)| {
        (0..2_048).flat_map(move |row| {
            let target = (row % 512 == 0).then_some(16_384 + (column * 512 + part) * 4 + row / 512);
            std::iter::once(row * 8 + column).chain(target)
        })
    };
    (0..6).flat_map(|c| (0..4).map(move |part| (c, part))).flat_map(column).collect()
}

/// What lives is visited in the order of its links, then everything in the order of addresses.
fn mark_and_sweep(seed: u64) -> Vec<u32> {
    let mut rng = draws(5, seed);
    let mut linked: Vec<u32> = (0..PAGES as u32).collect();
    (1..linked.len()).rev().for_each(|i| linked.swap(i, rng.below(i as u64 + 1) as usize));
    (0..3).flat_map(|_| linked[..22_000].iter().copied().chain(0..PAGES as u32)).collect()
}

/// A scan, popular pages, a hot part, a scan, popular pages again.
fn phases(seed: u64) -> Vec<u32> {
    let mut rng = draws(6, seed);
    let scan = || 0..PAGES as u32;
    let popular = |rng: &mut Rng| {
        let part = rng.below(1 << 20) as f64 / f64::from(1 << 20);
        (part.powi(4) * PAGES as f64) as u32
    };
    let first: Vec<u32> = (0..65_536).map(|_| popular(&mut rng)).collect();
    let hot: Vec<u32> = (0..40_000).map(|_| 20_000 + rng.below(8_000) as u32).collect();
    let second: Vec<u32> = (0..65_536).map(|_| popular(&mut rng)).collect();
    scan().chain(first).chain(hot).chain(scan()).chain(second).collect()
}
