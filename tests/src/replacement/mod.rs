//! Replacement policies on the same reference strings, beside those that know the future.
//!
//! Owns the first table of docs/replacement.md: who is run on what, in how much memory. The policies of the kernel are run by [`policies`] as
//! the kernel runs them, on A bits; those of the literature by [`published`], which are told of every reference, as no kernel is.

pub mod bounds;
pub mod parts;
pub mod policies;
mod published;
pub mod sizes;
pub mod traces;

use mm::reclaim::{Generational, SecondChance};
use std::fmt::Write;
use traces::Trace;

/// Frames: what is left of 64 MiB to a program.
pub const FRAMES: usize = 15_000;

/// Misses on one trace that are no page's first touch: each costs a page in.
pub struct Row {
    /// The trace.
    pub name: &'static str,
    /// Belady's minimum, from the end of populating on.
    pub minimum: usize,
    /// Who knows how popular each page is, if references are independent.
    pub popularity: Option<usize>,
    /// By policy, in the order of [`POLICIES`].
    pub misses: [usize; POLICIES.len()],
}

/// The policies, the kernel's last.
pub const POLICIES: [&str; 5] = ["LRU", "ARC", "S3-FIFO", "second chance", "generational"];

/// Runs everything.
pub fn rows() -> Vec<Row> {
    traces::all(1).iter().map(row).collect()
}

fn row(trace: &Trace) -> Row {
    let Trace { name, populated, references, longer } = trace;
    Row {
        name,
        minimum: bounds::minimum(references, *populated, FRAMES),
        popularity: longer.as_ref().map(|longer| bounds::by_popularity(references, longer, *populated, FRAMES)),
        misses: [
            published::lru(references, FRAMES),
            published::arc(references, FRAMES),
            published::s3_fifo(references, FRAMES),
            policies::misses::<SecondChance>(references, FRAMES),
            policies::misses::<Generational>(references, FRAMES),
        ],
    }
}

/// Geometric mean, over all rows, of a policy's misses by the minimum.
pub fn mean(rows: &[Row], policy: usize) -> f64 {
    let sum: f64 = rows.iter().map(|row| (row.misses[policy] as f64 / row.minimum as f64).ln()).sum();
    (sum / rows.len() as f64).exp()
}

/// The tables as a page.
pub fn page(rows: &[Row], parts: &[parts::Misses], sizes: &[sizes::Means]) -> String {
    let mut text = String::from(HEAD);
    let _ = writeln!(text, "| trace | MIN' | A0 | {} |", POLICIES.join(" | "));
    let _ = writeln!(text, "|---|---:|---:|{}", "---:|".repeat(POLICIES.len()));
    for row in rows {
        let popularity = row.popularity.map_or("–".into(), |misses| format!("{:.2}", ratio(misses, row)));
        let _ = write!(text, "| {} | {} | {popularity} |", row.name, row.minimum);
        for misses in row.misses {
            let _ = write!(text, " {:.2} |", ratio(misses, row));
        }
        text.push('\n');
    }
    text.push_str("| *geometric mean* | | |");
    for policy in 0..POLICIES.len() {
        let _ = write!(text, " {:.2} |", mean(rows, policy));
    }
    text.push('\n');
    text.push_str(&sizes::section(sizes));
    text.push_str(&parts::section(parts));
    text
}

fn ratio(misses: usize, row: &Row) -> f64 {
    misses as f64 / row.minimum as f64
}

const HEAD: &str = "\
# Replacement policies compared

<!-- Generated: `just policies > docs/replacement.md`. -->

Misses that cost a page in, as multiples of MIN', in 15 000 frames: what 64 MiB of RAM leave to a program. MIN' is
Belady's minimum when the run begins with the pages that were populated last. A0 knows how popular each page is, but not
the future: what the best policy without foresight reaches on independent references. LRU, ARC and S3-FIFO are told of
every reference; second chance and the generations, as in the kernel, only find out whether a page was used since they
last looked, the access that brings a page in counts as a use, and 128 frames are freed at once. Which traces these are and why:
`tests/src/replacement/traces.rs`; what follows from it: [the decision](decisions/replacement.md).

";
