//! Ranks by Zipf's law with exponent 0.99, the skew that cache studies use.
//!
//! Ranks fall into buckets: one rank each up to 128, then 64 buckets an octave. A bucket is drawn by its weight, a rank
//! evenly inside it. So the tables stay at a few KiB however many pages there are, and a draw is a binary search without
//! floating point.

use crate::rng::Rng;

const EXPONENT: f64 = 0.99;
/// Buckets per octave from rank 128 on.
const PER_OCTAVE: u64 = 64;

/// A drawer of ranks.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// The first rank (from 1) of each bucket, and one past the last rank.
    first: Vec<u32>,
    /// Probability of this bucket or one before it, in units of 2⁻³².
    cumulative: Vec<u32>,
}

impl Zipf {
    /// Ranks `0..count`.
    ///
    /// # Panics
    /// If `count` is 0 or 2³² or more.
    pub fn new(count: u64) -> Self {
        let end = u32::try_from(count + 1).expect("fewer than 2^32 ranks");
        assert!(count > 0, "no ranks");
        let mut first = Vec::new();
        let (mut rank, mut step) = (1_u64, 1);
        while rank <= count {
            if rank >= 2 * PER_OCTAVE && rank.is_power_of_two() {
                step = rank / PER_OCTAVE;
            }
            first.push(rank as u32);
            rank += step;
        }
        first.push(end);
        let weight = |bucket: &[u32]| {
            let ranks = f64::from(bucket[1] - bucket[0]);
            ranks * (f64::from(bucket[0]) + (ranks - 1.0) / 2.0).powf(-EXPONENT)
        };
        let total: f64 = first.windows(2).map(weight).sum();
        let mut sum = 0.0;
        let mut cumulative: Vec<u32> = first
            .windows(2)
            .map(|bucket| {
                sum += weight(bucket);
                (sum / total * f64::from(u32::MAX)) as u32
            })
            .collect();
        // Rounding must not leave a draw without a bucket.
        if let Some(last) = cumulative.last_mut() {
            *last = u32::MAX;
        }
        Self { first, cumulative }
    }

    /// Draws a rank, 0 being the most popular.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        let word = rng.word();
        let (low, high) = (word as u32, word >> 32);
        let bucket = self.cumulative.partition_point(|&edge| edge < low);
        let (first, next) = (self.first[bucket], self.first[bucket + 1]);
        u64::from(first) - 1 + ((high * u64::from(next - first)) >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_zipfs_law() {
        const COUNT: u64 = 32_768;
        const DRAWS: u32 = 1_000_000;
        let zipf = Zipf::new(COUNT);
        let mut rng = Rng::new(1);
        let mut octaves = [0_u32; 16];
        for _ in 0..DRAWS {
            let rank = zipf.draw(&mut rng) + 1;
            assert!(rank <= COUNT);
            octaves[rank.ilog2().min(14) as usize] += 1;
        }
        let weight = |from: u64, to: u64| (from..to).map(|rank| (rank as f64).powf(-EXPONENT)).sum::<f64>();
        let total = weight(1, COUNT + 1);
        for (octave, &drawn) in octaves.iter().enumerate().take(15) {
            let to = if octave == 14 { COUNT + 1 } else { 2 << octave };
            let expected = weight(1 << octave, to) / total * f64::from(DRAWS);
            // Six standard deviations, and 0.2 % for the buckets' coarseness.
            let slack = 6.0 * expected.sqrt() + 0.002 * expected;
            assert!((f64::from(drawn) - expected).abs() < slack, "octave {octave}: {drawn} drawn, {expected} expected");
        }
    }

    #[test]
    fn small_and_odd_counts_stay_in_range_and_reach_every_rank() {
        for count in [1, 2, 127, 128, 129, 1000] {
            let zipf = Zipf::new(count);
            let mut rng = Rng::new(count);
            let mut seen = vec![false; count as usize];
            for _ in 0..count * 200 {
                seen[zipf.draw(&mut rng) as usize] = true;
            }
            let missed = seen.iter().filter(|&&seen| !seen).count();
            assert_eq!(missed, 0, "of {count} ranks");
        }
    }
}
