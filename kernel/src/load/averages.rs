//! Decaying averages, by the arithmetic that Linux uses, so that the figures mean what they mean there.
//!
//! Owns: the fixed-point decay of `include/linux/sched/loadavg.h`, the load averages of loadavg(5) (`kernel/sched/loadavg.c`)
//! and the averages of pressure stall information (`kernel/sched/psi.c`, Documentation/accounting/psi.rst). Does not own
//! what is averaged ([`super`]). Knows no clock: every method is told the time, in nanoseconds since boot.

use core::fmt;

const FRACTION: u32 = 11;
const ONE: u64 = 1 << FRACTION;
const NS_PER_S: u64 = 1_000_000_000;

/// A number with 11 fraction bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed(u64);

impl Fixed {
    /// A whole number.
    pub const fn whole(number: u64) -> Self {
        Self(number << FRACTION)
    }

    /// With 16 fraction bits, as sysinfo(2) has it (`SI_LOAD_SHIFT`).
    pub const fn with_16_bits(self) -> u64 {
        self.0 << (16 - FRACTION)
    }

    /// A step of the average towards `active`, after `steps` of which each keeps `keep` of what was (`calc_load_n`).
    fn towards(self, active: Self, keep: u64, steps: u64) -> Self {
        let keep = power(keep, steps);
        let mut sum = self.0 * keep + active.0 * (ONE - keep);
        if active.0 >= self.0 {
            sum += ONE - 1;
        }
        Self(sum / ONE)
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 >> FRACTION, ((self.0 & (ONE - 1)) * 100) >> FRACTION)
    }
}

/// A fraction to the power of `exponent` (`fixed_power_int`).
fn power(mut fraction: u64, mut exponent: u64) -> u64 {
    let mut result = ONE;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = (result * fraction + ONE / 2) >> FRACTION;
        }
        fraction = (fraction * fraction + ONE / 2) >> FRACTION;
        exponent >>= 1;
    }
    result
}

/// How many tasks ran or could not for want of a page, averaged over 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug)]
pub struct LoadAverages {
    averages: [Fixed; 3],
    next: u64,
}

impl LoadAverages {
    /// At boot.
    pub const fn new() -> Self {
        Self { averages: [Fixed(0); 3], next: Self::PERIOD }
    }

    /// Between two samples.
    const PERIOD: u64 = 5 * NS_PER_S;
    /// e^(-5 s / 1, 5, 15 min).
    const KEEP: [u64; 3] = [1884, 2014, 2037];

    /// Since the last sample, or for as long as nothing was sampled, `active` tasks were at it.
    pub fn sample(&mut self, now: u64, active: u64) {
        if now < self.next {
            return;
        }
        let steps = (now - self.next) / Self::PERIOD + 1;
        for (average, keep) in self.averages.iter_mut().zip(Self::KEEP) {
            *average = average.towards(Fixed::whole(active), keep, steps);
        }
        self.next += steps * Self::PERIOD;
    }

    /// Over 1, 5 and 15 minutes, rounded to what is shown.
    pub fn shown(&self) -> [Fixed; 3] {
        self.averages.map(|average| Fixed(average.0 + ONE / 200))
    }
}

/// The share of time that something was so, in percent, averaged over 10, 60 and 300 seconds.
#[derive(Clone, Copy, Debug)]
pub struct StallAverages {
    averages: [Fixed; 3],
    /// Nanoseconds, in all.
    total: u64,
    total_then: u64,
    then: u64,
    next: u64,
}

impl StallAverages {
    /// At boot.
    pub const fn new() -> Self {
        Self { averages: [Fixed(0); 3], total: 0, total_then: 0, then: 0, next: Self::PERIOD }
    }

    /// Between two samples.
    pub const PERIOD: u64 = 2 * NS_PER_S;
    /// e^(-2 s / 10, 60, 300 s).
    const KEEP: [u64; 3] = [1677, 1981, 2034];

    /// It was so for `ns` more.
    pub fn add(&mut self, ns: u64) {
        self.total += ns;
    }

    /// For how long it was so, in all.
    pub fn total_ns(&self) -> u64 {
        self.total
    }

    /// When the next sample is due.
    pub fn due(&self) -> u64 {
        self.next
    }

    /// Takes a sample if one is due (`update_averages`). Periods that were missed count as quiet, so it has to be called
    /// at each while anything is stalled.
    pub fn sample(&mut self, now: u64) {
        if now < self.next {
            return;
        }
        let missed = (now - self.next) / Self::PERIOD;
        let period = (now - (self.then + missed * Self::PERIOD)).max(1);
        let stalled = (self.total - self.total_then).min(period);
        let percent = Fixed::whole(stalled * 100 / period);
        for (average, keep) in self.averages.iter_mut().zip(Self::KEEP) {
            let decayed = if missed > 0 { average.towards(Fixed(0), keep, missed) } else { *average };
            *average = decayed.towards(percent, keep, 1);
        }
        (self.total_then, self.then) = (self.total, now);
        self.next += (1 + missed) * Self::PERIOD;
    }
}

impl fmt::Display for StallAverages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ten, sixty, three_hundred] = self.averages;
        write!(f, "avg10={ten} avg60={sixty} avg300={three_hundred} total={}", self.total / 1000)
    }
}
