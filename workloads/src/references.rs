//! Reference strings: which page is touched next.
//!
//! Owns the patterns, not the touching. The generator is passed in at every step, because the toucher draws from it too
//! (whether a touch writes), and one seed must fix both.

use crate::rng::{Rng, Scatter};
use crate::zipf::Zipf;

/// A pattern of page numbers under some count of pages.
pub enum Pattern {
    /// Every page in order, again and again.
    Cyclic,
    /// Every page equally likely.
    Uniform,
    /// Zipf ranks, scattered over the pages.
    Zipf(Scatter, Zipf),
    /// 90 % of the touches go to a scattered tenth of the pages.
    HotCold(Scatter),
}

impl Pattern {
    /// Zipf ranks scattered over `pages`.
    pub fn zipf(pages: u64) -> Self {
        Self::Zipf(Scatter::new(pages), Zipf::new(pages))
    }

    /// A scattered hot tenth of `pages`.
    pub fn hot_cold(pages: u64) -> Self {
        Self::HotCold(Scatter::new(pages))
    }
}

/// A finite run of references.
pub struct References {
    pattern: Pattern,
    pages: u64,
    done: u64,
    length: u64,
}

impl References {
    /// `length` references to `pages` pages.
    pub fn new(pattern: Pattern, pages: u64, length: u64) -> Self {
        Self { pattern, pages, done: 0, length }
    }

    /// How many references there are in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many of them have been taken.
    #[inline]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The next page, until the run is over.
    #[inline]
    pub fn next(&mut self, rng: &mut Rng) -> Option<u64> {
        if self.done == self.length {
            return None;
        }
        let index = self.done;
        self.done += 1;
        Some(match &self.pattern {
            Pattern::Cyclic => index % self.pages,
            Pattern::Uniform => rng.below(self.pages),
            Pattern::Zipf(scatter, zipf) => scatter.page(zipf.draw(rng)),
            Pattern::HotCold(scatter) => {
                let hot = self.pages / 10 + 1;
                let rank = if rng.percent(90) { rng.below(hot) } else { hot + rng.below(self.pages - hot) };
                scatter.page(rank)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages_of(pattern: Pattern, pages: u64, length: u64) -> Vec<u64> {
        let mut rng = Rng::new(3);
        let mut references = References::new(pattern, pages, length);
        std::iter::from_fn(|| references.next(&mut rng)).collect()
    }

    #[test]
    fn a_cyclic_run_repeats_the_pages_in_order() {
        assert_eq!(pages_of(Pattern::Cyclic, 3, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn nine_tenths_of_hot_cold_fall_on_a_tenth_of_the_pages() {
        let mut counts = vec![0_u32; 1000];
        for page in pages_of(Pattern::hot_cold(1000), 1000, 100_000) {
            counts[page as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let hot: u32 = counts[..101].iter().sum();
        assert!(hot.abs_diff(90_000) < 600, "{hot}");
        assert!(counts[999] > 0, "cold pages are touched as well");
    }

    #[test]
    fn one_seed_is_one_reference_string() {
        let run = || pages_of(Pattern::zipf(4096), 4096, 1000);
        assert_eq!(run(), run());
        assert!(run().iter().all(|&page| page < 4096));
    }
}
