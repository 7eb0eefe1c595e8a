//! What the process side counts: page-fault latency and system calls nobody knows.
//!
//! Fixed arrays, updated with relaxed atomics on the fault and system-call paths, read once at the end. Faults by
//! cause, pages by state and disk operations are counted where they happen (`mm`, `drivers`), not here.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use mm::fault::FaultKind;

use crate::time;

/// Buckets per factor of two: a percentile is off by at most an eighth.
const PER_OCTAVE: u64 = 8;
const BUCKETS: usize = 64 * PER_OCTAVE as usize;

/// Counts of times, by logarithm, in TSC ticks.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU32; BUCKETS],
    max: AtomicU64,
}

/// Percentiles of a [`Histogram`], in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the names are those of the report")]
pub struct Latency {
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Histogram {
    const fn new() -> Self {
        Self { buckets: [const { AtomicU32::new(0) }; BUCKETS], max: AtomicU64::new(0) }
    }

    fn record(&self, ticks: u64) {
        self.buckets[bucket(ticks)].fetch_add(1, Relaxed);
        if ticks > self.max.load(Relaxed) {
            self.max.fetch_max(ticks, Relaxed);
        }
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| u64::from(count.load(Relaxed))).sum()
    }

    /// The usual percentiles.
    pub fn latency(&self) -> Latency {
        let at = |permille: u64| ticks_to_ns(self.at_permille(permille));
        Latency {
            count: self.count(),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: ticks_to_ns(self.max.load(Relaxed)),
        }
    }

    fn at_permille(&self, permille: u64) -> u64 {
        let wanted = (self.count() * permille).div_ceil(1000);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(bucket.load(Relaxed));
            if seen != 0 && seen >= wanted {
                return lower_bound(index).min(self.max.load(Relaxed));
            }
        }
        0
    }
}

/// The three bits behind the leading one choose the bucket within the octave.
fn bucket(ticks: u64) -> usize {
    let ticks = ticks | PER_OCTAVE;
    let octave = u64::from(ticks.ilog2());
    (octave * PER_OCTAVE + (ticks >> (octave - 3)) % PER_OCTAVE) as usize
}

fn lower_bound(index: usize) -> u64 {
    let (octave, step) = (index as u64 / PER_OCTAVE, index as u64 % PER_OCTAVE);
    (PER_OCTAVE + step) << octave.saturating_sub(3)
}

fn ticks_to_ns(ticks: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(time::tsc_hz().max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// Served faults of all threads.
pub static MINOR_FAULTS: Histogram = Histogram::new();
/// See [`MINOR_FAULTS`].
pub static MAJOR_FAULTS: Histogram = Histogram::new();

/// A fault has been served, `ticks` after its trap.
pub fn record_fault(kind: FaultKind, ticks: u64) {
    match kind {
        FaultKind::Minor => MINOR_FAULTS.record(ticks),
        FaultKind::Major => {
            STALL_TICKS.fetch_add(ticks, Relaxed);
            MAJOR_FAULTS.record(ticks);
        }
    }
}

/// Time that threads spent waiting for pages, in TSC ticks, all threads added up.
static STALL_TICKS: AtomicU64 = AtomicU64::new(0);

/// Time that threads spent waiting for pages, in TSC ticks, all threads added up.
pub fn stall_ticks() -> u64 {
    STALL_TICKS.load(Relaxed)
}

/// As [`stall_ticks`], in nanoseconds.
pub fn stall_ns() -> u64 {
    ticks_to_ns(stall_ticks())
}

/// Different unknown calls that are told apart; a program that tries more is looking for something.
const UNKNOWN_KINDS: usize = 64;

static UNKNOWN_CALLS: [UnknownSlot; UNKNOWN_KINDS] = [const { UnknownSlot::new() }; UNKNOWN_KINDS];

/// One number and its count; slots are taken in order and never given back.
struct UnknownSlot {
    number: AtomicU64,
    count: AtomicU32,
}

impl UnknownSlot {
    const fn new() -> Self {
        Self { number: AtomicU64::new(0), count: AtomicU32::new(0) }
    }
}

/// A program made a call that does not exist here.
pub fn count_unknown_call(number: u64) {
    let place = UNKNOWN_CALLS.iter().find(|slot| slot.count.load(Relaxed) == 0 || slot.number.load(Relaxed) == number);
    if let Some(slot) = place {
        slot.number.store(number, Relaxed);
        slot.count.fetch_add(1, Relaxed);
    }
}

/// One line of the table of unknown calls.
#[derive(Debug, Clone, Copy)]
pub struct UnknownCall {
    /// Its number.
    pub number: u64,
    /// Linux's name for it, `?` if Linux has none.
    pub name: &'static str,
    /// How often it was made.
    pub count: u32,
}

/// The calls that were answered ENOSYS, in the order they were first made.
pub fn unknown_calls() -> impl Iterator<Item = UnknownCall> {
    let made = UNKNOWN_CALLS.iter().map(|slot| (slot.number.load(Relaxed), slot.count.load(Relaxed)));
    made.take_while(|(_, count)| *count != 0).map(|(number, count)| {
        let known = usize::try_from(number).ok().and_then(syscalls::Sysno::new);
        UnknownCall { number, name: known.map_or("?", |call| call.name()), count }
    })
}
