//! A histogram of durations with eight buckets per power of two: 12 % resolution at any scale, in 2 KiB.

use std::fmt;

const PER_OCTAVE: usize = 8;
const BUCKETS: usize = 64 * PER_OCTAVE;
/// Where quantiles are reported, in thousandths.
const PERMILLE: [u64; 5] = [500, 900, 990, 999, 1000];

/// Counts of durations, in any unit.
pub struct Histogram([u32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn add(&mut self, duration: u64) {
        let bucket = bucket_of(duration);
        self.0[bucket] = self.0[bucket].saturating_add(1);
    }

    /// The lower edge of the bucket in which `permille` thousandths of all durations are reached.
    pub fn quantile(&self, permille: u64) -> u64 {
        let total: u64 = self.0.iter().copied().map(u64::from).sum();
        let mut seen = 0;
        for (bucket, &count) in self.0.iter().enumerate() {
            seen += u64::from(count);
            if count > 0 && seen * 1000 >= total * permille {
                return edge_of(bucket);
            }
        }
        0
    }
}

/// `p500=… p900=… p990=… p999=… p1000=…`
impl fmt::Display for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, permille) in PERMILLE.into_iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(out, "{space}p{permille}={}", self.quantile(permille))?;
        }
        Ok(())
    }
}

/// Durations below 8 share the buckets of 8 to 15: nothing that short can be measured.
fn bucket_of(duration: u64) -> usize {
    let duration = duration.max(8);
    let exponent = duration.ilog2() as usize;
    exponent * PER_OCTAVE + (duration >> (exponent - 3)) as usize % PER_OCTAVE
}

fn edge_of(bucket: usize) -> u64 {
    ((PER_OCTAVE + bucket % PER_OCTAVE) as u64) << (bucket / PER_OCTAVE).saturating_sub(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_at_most_an_eighth_wide() {
        for duration in (8..100_000).chain([u64::MAX / 3, u64::MAX]) {
            let edge = edge_of(bucket_of(duration));
            assert!(edge <= duration && (duration - edge) as f64 <= duration as f64 / 8.0, "{duration} in {edge}");
        }
    }

    #[test]
    fn quantiles_of_a_known_set_are_in_order() {
        let mut histogram = Histogram::default();
        for _ in 0..989 {
            histogram.add(100);
        }
        for _ in 0..11 {
            histogram.add(1_000_000);
        }
        assert_eq!(histogram.to_string(), "p500=96 p900=96 p990=983040 p999=983040 p1000=983040");
    }
}
