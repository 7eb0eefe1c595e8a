//! The random numbers of all workloads: splitmix64, so that one seed means one reference string everywhere.
//!
//! Owns the generator and the bijection that spreads ranks over pages. Which distribution is drawn is `references`.

/// The finaliser of splitmix64: a bijection of the 64-bit words that scatters neighbours.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x123_4567))
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number under `bound`, by the high half of a product: no division, and a bias below `bound` / 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Spreads ranks over `0..pages`, so that popular pages are not neighbours: multiplication by a number coprime to the
/// number of pages, about the golden section of it.
#[derive(Clone, Debug)]
pub struct Scatter {
    pages: u64,
    multiplier: u64,
}

impl Scatter {
    /// The bijection of `0..pages`.
    pub fn new(pages: u64) -> Self {
        let start = (pages * 618 / 1000) | 1;
        let multiplier = (start..).step_by(2).find(|&m| gcd(pages, m) == 1).expect("some odd number is coprime");
        Self { pages, multiplier }
    }

    /// The page of a rank.
    pub fn page(&self, rank: u64) -> u64 {
        (u128::from(rank) * u128::from(self.multiplier) % u128::from(self.pages)) as u64
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The reference values of splitmix64 for the state 1234567.
        let mut rng = Rng(1_234_567);
        let words: Vec<u64> = (0..3).map(|_| rng.word()).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut rng = Rng::new(7);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[rng.below(10) as usize] += 1;
        }
        // Six standard deviations of a binomial (100 000, 0.1) are 570.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 570), "{counts:?}");
    }

    #[test]
    fn scattering_is_a_bijection_and_parts_neighbours() {
        for pages in [256, 1000, 4096, 32_768, 49_152] {
            let scatter = Scatter::new(pages);
            let mut seen = vec![false; pages as usize];
            for rank in 0..pages {
                let page = scatter.page(rank);
                assert!(!std::mem::replace(&mut seen[page as usize], true), "{pages} pages, rank {rank}");
                assert!(page.abs_diff(scatter.page((rank + 1) % pages)) > 1);
            }
        }
    }
}
