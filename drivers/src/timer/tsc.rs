//! Time from the TSC, whose rate is learnt while the machine works.
//!
//! Owns the arithmetic only: the caller reads TSC and reference (the HPET) and hands both in, so all of this runs on
//! the host. Does not spin: the first rate exists as soon as two observations are far enough apart, and it gets better
//! as they get farther apart.
//!
//! An observation is a reference reading between two TSC readings. The wider the bracket (the host may stop us inside
//! it), the less it says, so each estimate carries its error bound and a worse one never replaces a better one.

/// A reading of the time-stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tsc(pub u64);

/// Nanoseconds of the reference clock, from an arbitrary zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReferenceNs(pub u64);

/// The reference, read between two readings of the TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// TSC before the reference was read.
    pub before: Tsc,
    /// The reference.
    pub reference: ReferenceNs,
    /// TSC after the reference was read.
    pub after: Tsc,
}

impl Observation {
    fn middle(&self) -> u64 {
        self.before.0 + self.width() / 2
    }

    fn width(&self) -> u64 {
        self.after.0.saturating_sub(self.before.0)
    }
}

/// The coarsest rate that is used: 1 part in 1000.
const WORST_ERROR_PPB: u64 = 1_000_000;
/// A rate this good is not worth improving: 10 parts in a billion, a second in three years.
const GOOD_ERROR_PPB: u64 = 10;
/// How long after an observation the next is worth making, at first; it doubles each time.
const FIRST_GAP_NS: u64 = 1_000_000;
const LAST_GAP_NS: u64 = 1_000_000_000;

/// Fraction bits of nanoseconds per tick. 2^32 leaves 0.2 parts per billion at 1 GHz.
const FRACTION: u32 = 32;

#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Nanoseconds per tick, with [`FRACTION`] fraction bits.
    ns_per_tick: u64,
    error_ppb: u64,
    /// From here it counts.
    anchor_tsc: u64,
    anchor_ns: u64,
}

impl Rate {
    fn at(&self, tsc: Tsc) -> u64 {
        let ticks = tsc.0.saturating_sub(self.anchor_tsc);
        let ns = (u128::from(ticks) * u128::from(self.ns_per_tick)) >> FRACTION;
        self.anchor_ns + ns as u64
    }
}

/// A clock on the TSC. Its time is that of the reference and never goes back.
#[derive(Clone, Debug)]
pub struct TscClock {
    first: Observation,
    rate: Option<Rate>,
    due: u64,
    gap: u64,
}

impl TscClock {
    /// Starts with one observation; there is no rate yet.
    pub fn new(first: Observation) -> Self {
        Self { first, rate: None, due: first.reference.0 + FIRST_GAP_NS, gap: FIRST_GAP_NS }
    }

    /// The time at a TSC reading, if the rate is known. Until then, read the reference.
    pub fn now(&self, tsc: Tsc) -> Option<ReferenceNs> {
        self.rate.map(|rate| ReferenceNs(rate.at(tsc)))
    }

    /// The reference time from which on another observation is worth its cost.
    pub fn next_observation(&self) -> ReferenceNs {
        ReferenceNs(self.due)
    }

    /// The TSC's rate in Hz, if known.
    pub fn hz(&self) -> Option<u64> {
        let rate = self.rate?;
        Some(((1_000_000_000u128 << FRACTION) / u128::from(rate.ns_per_tick)) as u64)
    }

    /// Bound of the rate's error, in parts per billion.
    pub fn error_ppb(&self) -> Option<u64> {
        self.rate.map(|rate| rate.error_ppb)
    }

    /// Learns from an observation. To be called when [`next_observation`](Self::next_observation) has come, or at any
    /// other time.
    pub fn observe(&mut self, seen: Observation) {
        self.gap = (self.gap * 2).min(LAST_GAP_NS);
        self.due = seen.reference.0 + self.gap;
        let ticks = seen.middle().saturating_sub(self.first.middle());
        let ns = seen.reference.0.saturating_sub(self.first.reference.0);
        if ticks == 0 || ns == 0 {
            return;
        }
        let doubt = u128::from(self.first.width() / 2 + seen.width() / 2 + 1);
        let error_ppb = u64::try_from(doubt * 1_000_000_000 / u128::from(ticks)).unwrap_or(u64::MAX);
        let known = self.rate.map_or(WORST_ERROR_PPB, |rate| rate.error_ppb);
        if error_ppb >= known || known <= GOOD_ERROR_PPB {
            self.keep_up(seen);
            return;
        }
        let ns_per_tick = ((u128::from(ns) << FRACTION) / u128::from(ticks)) as u64;
        // Never back: if the old rate ran ahead, time stands where it is and the better rate leads on from there.
        let anchor_ns = self.rate.map_or(0, |rate| rate.at(Tsc(seen.middle()))).max(seen.reference.0);
        self.rate = Some(Rate { ns_per_tick, error_ppb, anchor_tsc: seen.middle(), anchor_ns });
    }

    /// A clock that fell behind the reference is set forward, so that the rate's error does not add up.
    fn keep_up(&mut self, seen: Observation) {
        if let Some(rate) = &mut self.rate {
            let now = rate.at(seen.after);
            if now < seen.reference.0 {
                rate.anchor_tsc = seen.after.0;
                rate.anchor_ns = seen.reference.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 2_596_000_000;

    /// A machine whose TSC runs at `HZ`; reading the reference takes `width` ticks and happens at `part` of them.
    fn observe(at_ns: u64, width: u64, part: u64) -> Observation {
        let tsc = (u128::from(at_ns) * u128::from(HZ) / 1_000_000_000) as u64 + 1_000_000;
        Observation { before: Tsc(tsc - part), reference: ReferenceNs(at_ns), after: Tsc(tsc + width - part) }
    }

    #[test]
    fn there_is_no_rate_before_it_is_good_enough() {
        let mut clock = TscClock::new(observe(0, 800, 400));
        clock.observe(observe(1_000, 800, 400));
        assert_eq!(clock.now(Tsc(1_000_000)), None);
        clock.observe(observe(1_000_000, 800, 400));
        let hz = clock.hz().expect("1 ms is enough");
        assert!(hz.abs_diff(HZ) < HZ / 1_000, "{hz}");
    }

    #[test]
    fn the_rate_gets_better_and_the_error_stays_within_its_bound() {
        let mut clock = TscClock::new(observe(0, 800, 10));
        let mut last = u64::MAX;
        for step in 1..40u64 {
            let at = clock.next_observation().0;
            clock.observe(observe(at, 800, step * 20 % 800));
            let error = clock.error_ppb().expect("known from the first millisecond on");
            assert!(error <= last);
            last = error;
            let hz = clock.hz().unwrap();
            let off_ppb = u128::from(hz.abs_diff(HZ)) * 1_000_000_000 / u128::from(HZ);
            assert!(off_ppb <= u128::from(error) + 1, "step {step}: {off_ppb} over {error}");
        }
        assert!(last < 100, "{last}");
    }

    #[test]
    fn an_observation_torn_by_the_host_does_no_harm() {
        let mut clock = TscClock::new(observe(0, 800, 400));
        clock.observe(observe(10_000_000, 800, 400));
        let before = clock.hz();
        clock.observe(observe(20_000_000, 50_000_000, 49_000_000));
        assert_eq!(clock.hz(), before);
    }

    #[test]
    fn time_never_goes_back_and_stays_with_the_reference() {
        let mut clock = TscClock::new(observe(0, 8_000, 7_900));
        let mut last = 0;
        for at in (1..3_000u64).map(|step| step * 1_000_000) {
            if at >= clock.next_observation().0 {
                clock.observe(observe(at, 800 + at % 7_000, at % 700));
            }
            let Some(ReferenceNs(now)) = clock.now(observe(at, 0, 0).before) else {
                assert!(at < 10_000_000, "ten milliseconds are enough");
                continue;
            };
            assert!(now >= last, "{now} after {last}");
            assert!(now.abs_diff(at) < 10_000, "{now} at {at}");
            last = now;
        }
    }

    #[test]
    fn a_year_of_uptime_does_not_overflow() {
        let mut clock = TscClock::new(observe(0, 800, 400));
        clock.observe(observe(1_000_000_000, 800, 400));
        let year = 365 * 86_400 * 1_000_000_000u64;
        let now = clock.now(observe(year, 0, 0).before).unwrap().0;
        assert!(now.abs_diff(year) < year / 1_000_000, "{now}");
    }
}
