//! How far the kernel's choice of who leaves is from the best there could have been.
//!
//! Owns the estimate in people's terms: the kernel looks at a sample of the pages and says how many were read, and how many Belady's minimum
//! would have read, which knows the future. It errs to the low side, since uses that the kernel does not see ask nothing of the best
//! policy (docs/decisions/belady-gap.md), but for the chance of the sample. Does not own how it is found (`mm::reclaim`).

use serde::Serialize;

use crate::telemetry::{Belady, Snapshot};

/// What was read, and what had to be, of all pages as far as the sample tells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Pages that were read and had been used within the window.
    pub reads: u64,
    /// How many reads the best policy would have had at least.
    pub minimum: u64,
    /// Which is this part of them,
    pub share: Option<f64>,
    /// and this the price of not knowing the future.
    pub reads_by_minimum: Option<f64>,
    /// How long the window is.
    pub window_evictions: u64,
    /// Pages that were read and had not been used for longer, or never.
    pub reads_not_judged: u64,
    /// One in so many pages was looked at.
    pub sampled_one_in: u64,
}

/// The figures at the end of a run; nothing if the kernel has none.
pub fn gap(last: &Snapshot) -> Option<Gap> {
    let Belady { one_in, window_evictions, reads, minimum, reads_not_judged } = last.belady?;
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| rounded(part as f64 / whole as f64));
    Some(Gap {
        reads: reads * one_in,
        minimum: minimum * one_in,
        share: ratio(minimum, reads),
        reads_by_minimum: ratio(reads, minimum),
        window_evictions,
        reads_not_judged: reads_not_judged * one_in,
        sampled_one_in: one_in,
    })
}

/// The same as a sentence, if so much was read of the sample that it means something.
pub fn sentence(last: &Snapshot) -> Option<String> {
    const ENOUGH: u64 = 100;
    let gap = gap(last).filter(|gap| gap.reads >= ENOUGH * gap.sampled_one_in)?;
    // By chance, or where pages stay that the best policy would let go for a while, it may seem to be more than all.
    let share = gap.share?.min(1.0) * 100.0;
    Some(format!(
        "any policy would have read about {share:.0} % as many pages, or more (Belady's minimum over {} evictions)",
        gap.window_evictions
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(reads: u64, minimum: u64) -> Snapshot {
        let belady = Belady { one_in: 16, window_evictions: 131_072, reads, minimum, reads_not_judged: 2 };
        Snapshot { belady: Some(belady), ..Snapshot::default() }
    }

    #[test]
    fn u5_the_gap_is_that_of_the_sample() {
        let found = gap(&snapshot(1000, 640)).expect("figures");
        assert_eq!((found.reads, found.minimum, found.reads_not_judged), (16_000, 10_240, 32));
        assert_eq!((found.share, found.reads_by_minimum), (Some(0.64), Some(1.563)));
        assert_eq!(
            sentence(&snapshot(1000, 640)).as_deref(),
            Some(
                "any policy would have read about 64 % as many pages, or more (Belady's minimum over 131072 evictions)"
            )
        );
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!((gap(&Snapshot::default()), sentence(&Snapshot::default())), (None, None));
        assert_eq!(sentence(&snapshot(99, 50)), None, "a few pages mean nothing");
        let none = gap(&snapshot(0, 0)).expect("figures");
        assert_eq!((none.share, none.reads_by_minimum), (None, None));
        assert!(sentence(&snapshot(1000, 0)).expect("a sentence").contains(" 0 % as many"));
        assert!(sentence(&snapshot(1000, 1100)).expect("a sentence").contains(" 100 % as many"));
    }
}
