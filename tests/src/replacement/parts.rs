//! What the misses of `hot-cold` are: hot pages before or after the run first touched them, and cold ones, all as good as each other.
//!
//! Owns the last tables of docs/replacement.md. A hot page is one that is used more often than the mean.

use super::{FRAMES, bounds, policies, traces};
use mm::reclaim::{Generational, SecondChance};
use std::fmt::Write;

/// Reference strings.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=12;

/// Whose misses they are.
const NAMES: [&str; 4] = ["A0", "A0 that learns at first touch", "second chance", "generational"];

/// Misses on one string, or their mean over several.
#[derive(Clone, Copy, Default)]
pub struct Parts {
    /// Hot pages that the run had not touched yet.
    pub hot: f64,
    /// Hot pages that it had touched before.
    pub hot_again: f64,
    /// Cold ones.
    pub cold: f64,
}

impl Parts {
    fn of(trace: &traces::Trace, missed: &[usize], is_hot: &[bool]) -> Self {
        let (mut parts, mut touched, mut missed) =
            (Self::default(), vec![false; is_hot.len()], missed.iter().peekable());
        for (nth, page) in trace.references.iter().enumerate().skip(trace.populated) {
            let page = *page as usize;
            let before = std::mem::replace(&mut touched[page], true);
            if missed.next_if(|next| **next == nth).is_none() {
                continue;
            }
            *match (is_hot[page], before) {
                (true, false) => &mut parts.hot,
                (true, true) => &mut parts.hot_again,
                (false, _) => &mut parts.cold,
            } += 1.0;
        }
        parts
    }

    fn all(&self) -> f64 {
        self.hot + self.hot_again + self.cold
    }

    fn mean(many: impl Iterator<Item = Self>) -> Self {
        let (mut sum, mut count) = (Self::default(), 0.0);
        for one in many {
            count += 1.0;
            (sum.hot, sum.hot_again, sum.cold) =
                (sum.hot + one.hot, sum.hot_again + one.hot_again, sum.cold + one.cold);
        }
        Self { hot: sum.hot / count, hot_again: sum.hot_again / count, cold: sum.cold / count }
    }
}

/// By who misses: A0, one that learns, second chance, the generations.
pub type Misses = [Parts; NAMES.len()];

/// On each string.
pub fn all() -> Vec<Misses> {
    let uses = bounds::uses(&traces::longer_hot_cold());
    SEEDS.map(|seed| of(&traces::hot_cold(seed), &uses)).collect()
}

/// Over all strings.
pub fn mean(all: &[Misses]) -> Misses {
    std::array::from_fn(|who| Parts::mean(all.iter().map(|of_seed| of_seed[who])))
}

fn of(trace: &traces::Trace, uses: &[u32]) -> Misses {
    let traces::Trace { populated, references, .. } = trace;
    let mean = uses.iter().sum::<u32>() / uses.len() as u32;
    let is_hot: Vec<bool> = uses.iter().map(|uses| *uses > mean).collect();
    let by_popularity = |before: &[u32]| bounds::missed_by_popularity(references, [before, uses], *populated, FRAMES);
    let missed = [
        by_popularity(uses),
        by_popularity(&vec![mean; uses.len()]),
        policies::missed::<SecondChance>(references, FRAMES),
        policies::missed::<Generational>(references, FRAMES),
    ];
    missed.map(|missed| Parts::of(trace, &missed, &is_hot))
}

/// The tables, behind the others.
pub fn section(all: &[Misses]) -> String {
    let mut text = String::from(HEAD);
    for (title, parts) in [("seed 1", all[0]), ("mean of 12 seeds", mean(all))] {
        let _ = writeln!(
            text,
            "\n| {title} | hot | hot, touched before | cold | all | / A0 |\n|---|---:|---:|---:|---:|---:|"
        );
        for (name, part) in NAMES.iter().zip(parts) {
            let Parts { hot, hot_again, cold } = part;
            let (all, ratio) = (part.all(), part.all() / parts[0].all());
            let _ = writeln!(text, "| {name} | {hot:.0} | {hot_again:.1} | {cold:.0} | {all:.0} | {ratio:.3} |");
        }
    }
    text
}

const HEAD: &str = "
## What the misses of hot-cold are

Pages that are used more often than the mean are hot; the others, nine tenths, are equally cold. A0 knows which are which
before the run has touched them, and decides between cold ones by chance: a longer run used one a little more. Who learns
at the first touch holds a page for as popular as the mean until then.
";
