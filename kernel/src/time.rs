//! Time on this machine: now, the next interrupt, and what day it is.
//!
//! Owns: the clock (the TSC, its rate learnt from the HPET while the machine works, never by spinning), the timer
//! interrupt's deadline, the wall clock's base. Does not own: who waits for which deadline (the executor's timers).
//! The rate's arithmetic is `drivers::timer::tsc`'s; [`Fast`] is its result in three words, because "now" is read
//! around every poll.
#![expect(unsafe_code, reason = "takes possession of clock hardware")]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use drivers::timer::hpet::{self, Hpet};
use drivers::timer::lapic::TimerTicks;
use drivers::timer::rtc::{self, CmosPorts};
use drivers::timer::tsc::{Observation, ReferenceNs, Tsc, TscClock};
use executor::{Clock, Duration, Instant};

use crate::arch::apic;
use crate::arch::areas;
use crate::arch::cpu::timestamp;
use crate::arch::kernel_space::{OutOfTables, TableSource};
use crate::arch::pat::Caching;
use crate::boot::PhysRange;
use crate::sync::{Mutex, Once};

/// How long user code may run before others get their turn.
pub const TIME_SLICE: Duration = Duration::from_millis(10);

/// Where every PC chipset since 2005 has it; ACPI's HPET table says the same or that there is none.
const HPET_ADDRESS: u64 = 0xfed0_0000;
/// The rate to assume on a machine without a usable HPET when CPUID does not know it either.
const ASSUMED_HZ: u64 = 2_000_000_000;
const NS_PER_S: u64 = 1_000_000_000;
const FRACTION: u32 = 32;
/// The APIC timer's rate before it has been measured: QEMU's, and KVM's.
const ASSUMED_APIC_TICKS: u64 = 1 << FRACTION;

static FAST: Fast = Fast::new();
static STATE: Mutex<Option<State>> = Mutex::new(None);
static WALL_BASE: Once<u64> = Once::new();

/// The executor's clock: nanoseconds since boot.
#[derive(Debug)]
pub struct KernelClock;

impl Clock for KernelClock {
    #[inline]
    fn now(&self) -> Instant {
        now()
    }
}

/// The kernel's only clock.
pub static CLOCK: KernelClock = KernelClock;

/// A straight line from time stamps to nanoseconds. Changed with interrupts off only, by one CPU.
struct Fast {
    /// Nanoseconds per tick, with `FRACTION` fraction bits; 0 until known.
    rate: AtomicU64,
    anchor_tsc: AtomicU64,
    anchor_ns: AtomicU64,
}

impl Fast {
    const fn new() -> Self {
        Self { rate: AtomicU64::new(0), anchor_tsc: AtomicU64::new(0), anchor_ns: AtomicU64::new(0) }
    }

    #[inline]
    fn at(&self, tsc: u64) -> Option<u64> {
        let rate = self.rate.load(Relaxed);
        let ticks = tsc.saturating_sub(self.anchor_tsc.load(Relaxed));
        let ns = (u128::from(ticks) * u128::from(rate)) >> FRACTION;
        (rate != 0).then(|| self.anchor_ns.load(Relaxed) + ns as u64)
    }

    /// From `tsc` on, time runs at `hz`; it was `ns` then, or is already later.
    fn bend(&self, tsc: u64, ns: u64, hz: u64) {
        let ns = self.at(tsc).unwrap_or(0).max(ns);
        self.anchor_tsc.store(tsc, Relaxed);
        self.anchor_ns.store(ns, Relaxed);
        self.rate.store((NS_PER_S << FRACTION) / hz, Relaxed);
    }
}

struct State {
    reference: Option<(Hpet, TscClock)>,
    /// Reference time at boot.
    zero: u64,
    /// When the timer will interrupt; `MAX` when it stands still.
    armed: Instant,
    /// Timer ticks per nanosecond, with `FRACTION` fraction bits; `None` until measured.
    apic_rate: Option<u64>,
    /// When the timer was started last, and with what.
    started: (Instant, TimerTicks),
}

/// Sets up the clocks. The interrupt controller comes first.
pub fn init(entry_tsc: u64, source: &mut TableSource<'_>) -> Result<(), OutOfTables> {
    let registers = PhysRange::from_len(HPET_ADDRESS, hpet::BLOCK_LEN as u64);
    let mapped = areas::map(registers, Caching::Uncached, source)?;
    // SAFETY: mapped uncached for ever, and nobody else uses it. Where there is no HPET, reads give all ones or
    // zeroes, which the driver refuses.
    let reference = unsafe { Hpet::new(mapped.start) };
    let reference = match reference {
        Ok(hpet) => {
            let first = observe(&hpet);
            Some((hpet, TscClock::new(first), first.reference.0))
        }
        Err(reason) => {
            let hz = processor_hz().unwrap_or(ASSUMED_HZ);
            log::warn!("no HPET ({reason}): taking the TSC's rate to be {hz} Hz");
            FAST.bend(entry_tsc, 0, hz);
            None
        }
    };
    let zero = reference.as_ref().map_or(0, |&(_, _, zero)| zero);
    let reference = reference.map(|(hpet, clock, _)| (hpet, clock));
    let started = (Instant::ZERO, TimerTicks(0));
    *STATE.lock() = Some(State { reference, zero, armed: Instant::MAX, apic_rate: None, started });
    let begun = now();
    with_state(|state| state.start(TimerTicks(u32::MAX), begun));
    // SAFETY: ring 0, and nobody else uses the CMOS ports.
    let mut cmos = unsafe { CmosPorts::new() };
    let seconds = rtc::read(&mut cmos).map_or(0, |today| today.0);
    WALL_BASE.call_once(|| (seconds * NS_PER_S).saturating_sub(now().as_nanos()));
    Ok(())
}

fn with_state<R>(look: impl FnOnce(&mut State) -> R) -> R {
    look(STATE.lock().as_mut().expect("clocks are set up at boot"))
}

/// The TSC's rate by CPUID, where the CPU or the hypervisor tells it.
fn processor_hz() -> Option<u64> {
    let id = raw_cpuid::CpuId::new();
    let by_crystal = id.get_tsc_info().and_then(|info| info.tsc_frequency());
    let by_hypervisor = || Some(u64::from(id.get_hypervisor_info()?.tsc_frequency()?) * 1000);
    by_crystal.or_else(by_hypervisor).filter(|&hz| hz > 0)
}

/// Reads the reference between two time stamps; of three tries the one with the closest stamps, for the host may stop us in between.
fn observe(hpet: &Hpet) -> Observation {
    let once = || {
        let before = Tsc(timestamp());
        let reference = ReferenceNs(hpet.now_ns());
        Observation { before, reference, after: Tsc(timestamp()) }
    };
    let width = |seen: &Observation| seen.after.0.saturating_sub(seen.before.0);
    let (first, second, third) = (once(), once(), once());
    [first, second, third].into_iter().min_by_key(width).unwrap_or(first)
}

/// The present moment, since boot.
#[inline]
pub fn now() -> Instant {
    match FAST.at(timestamp()) {
        Some(ns) => Instant::from_nanos(ns),
        None => slow_now(),
    }
}

/// For the first milliseconds, until the TSC's rate is known.
#[cold]
fn slow_now() -> Instant {
    let mut state = STATE.lock();
    let Some(State { reference: Some((hpet, clock)), zero, .. }) = &mut *state else { return Instant::ZERO };
    let seen = observe(hpet);
    learn(clock, *zero, seen);
    Instant::from_nanos(seen.reference.0 - *zero)
}

/// The present moment in nanoseconds since boot.
#[inline]
pub fn now_ns() -> u64 {
    now().as_nanos()
}

/// The moment as the world counts it: nanoseconds since 1970-01-01 UTC.
pub fn wall_clock_ns() -> u64 {
    WALL_BASE.get().copied().unwrap_or(0) + now_ns()
}

/// The TSC's rate, as well as it is known.
pub fn tsc_hz() -> u64 {
    match FAST.rate.load(Relaxed) {
        0 => 0,
        rate => ((u128::from(NS_PER_S) << FRACTION) / u128::from(rate)) as u64,
    }
}

fn learn(clock: &mut TscClock, zero: u64, seen: Observation) {
    clock.observe(seen);
    if let (Some(hz), Some(time)) = (clock.hz(), clock.now(seen.after)) {
        FAST.bend(seen.after.0, time.0 - zero, hz);
    }
}

/// Sees to it that an interrupt comes at `deadline` or before. Cheap when one is due before anyway.
#[inline]
pub fn arm(deadline: Instant) {
    let (is_late, is_measured) = with_state(|state| (state.armed > deadline, state.apic_rate.is_some()));
    if !is_measured {
        measure_timer();
    }
    if is_late {
        let now = now();
        with_state(|state| state.arm(deadline, now));
    }
}

/// Reads the timer's rate off its count, once it has been counting for a while and before it has come to its end.
#[cold]
fn measure_timer() {
    /// Less than this says too little.
    const LONG_ENOUGH: Duration = Duration::from_micros(200);
    /// The part of the time measured that reading the count may take: more means that the host has stopped us just then.
    const CARE: u64 = 32;
    let before = now();
    let left = apic::get().timer_left();
    let reading = now().since(before).as_nanos();
    with_state(|state| {
        let (since, from) = state.started;
        let elapsed = before.since(since);
        if left.0 == 0 || elapsed < LONG_ENOUGH || reading > elapsed.as_nanos() / CARE {
            return;
        }
        let ticks = u64::from(from.0.saturating_sub(left.0));
        state.apic_rate = Some((ticks << FRACTION) / elapsed.as_nanos()).filter(|&rate| rate != 0);
    });
}

impl State {
    fn arm(&mut self, deadline: Instant, now: Instant) {
        let ns = deadline.since(now).as_nanos();
        let ticks = (u128::from(ns) * u128::from(self.apic_rate.unwrap_or(ASSUMED_APIC_TICKS))) >> FRACTION;
        self.start(TimerTicks(ticks.min(u32::MAX.into()) as u32), now);
        self.armed = deadline;
    }

    fn start(&mut self, ticks: TimerTicks, now: Instant) {
        apic::get().start_timer(ticks);
        self.started = (now, ticks);
    }
}

/// The timer has interrupted: it stands still until armed again. Whoever takes interrupts fires the executor's timers.
pub fn on_interrupt() {
    with_state(|state| {
        state.armed = Instant::MAX;
        if let Some((hpet, clock)) = &mut state.reference {
            let due = clock.next_observation().0 - state.zero;
            if FAST.at(timestamp()).is_none_or(|now| now >= due) {
                learn(clock, state.zero, observe(hpet));
            }
        }
    });
}
