//! Claim (G1, G2): while one thread waits for its page to come back from disk, another thread of the machine goes on, and
//! a thread that only spins does not hold up the one that pages.
//!
//! Thread A touches pages of a working set larger than RAM, in scattered order, and for every major fault notes how long
//! it took and what thread B got done meanwhile. B makes getpid calls and faults on memory of its own (`beside=1`), spins
//! without system calls (`beside=2`), or is not there (`beside=0`). On a slow disk B's numbers must be large; with
//! `beside=2`, A's durations must be those of `beside=0`, not multiples of the timer tick.
//!
//! B may also be a process of its own: with `alone=1` or `alone=2` this program is nothing but such a B, for ever, and
//! with `beside=3` it takes the machine's fault counter for B's (B makes one call for each fault).

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use workloads::claim::Claims;
use workloads::content::Content;
use workloads::counters::vmstat;
use workloads::machine::getpid;
use workloads::mapping::{Advice, Charge, Mapping};
use workloads::rng::Scatter;
use workloads::working_set::PAGES_PER_MIB;

/// Pages that B owns, faults in one by one and gives back all at once.
const OWN_PAGES: usize = 256;

/// What B has done so far. Only B writes, so relaxed stores are enough.
#[derive(Default)]
struct Progress {
    calls: AtomicU64,
    faults: AtomicU64,
    turns: AtomicU64,
    stop: AtomicBool,
}

/// What happened during each major fault of A.
#[derive(Default)]
struct Seen {
    touches: u64,
    nanoseconds: Vec<u64>,
    calls: Vec<u64>,
    faults: Vec<u64>,
    wrong: u64,
}

fn call_and_fault(progress: &Progress) {
    let memory = Mapping::anonymous(OWN_PAGES as u64, Charge::Committed).expect("mmap");
    let (mut calls, mut faults) = (0, 0);
    while !progress.stop.load(Relaxed) {
        for page in 0..OWN_PAGES {
            memory.page_to_write(page).write(0, faults);
            faults += 1;
            progress.faults.store(faults, Relaxed);
            getpid();
            calls += 1;
            progress.calls.store(calls, Relaxed);
        }
        memory.advise(Advice::Discard).expect("madvise");
    }
}

fn spin(progress: &Progress) {
    let mut turns = 0;
    while !progress.stop.load(Relaxed) {
        turns += 1;
        progress.turns.store(turns, Relaxed);
    }
}

/// What B has done so far, as A can see it.
#[derive(Clone, Copy)]
enum View<'a> {
    /// B is a thread.
    Thread(&'a Progress),
    /// B is another process, and nobody else faults.
    Machine,
}

impl View<'_> {
    fn calls_and_faults(self) -> (u64, u64) {
        match self {
            Self::Thread(progress) => (progress.calls.load(Relaxed), progress.faults.load(Relaxed)),
            Self::Machine => {
                let faults = vmstat("pgfault").unwrap_or(0);
                (faults, faults)
            }
        }
    }
}

/// Touches scattered pages until `majors` major faults or `touches` touches have happened.
fn touch(memory: &Mapping, content: &Content, other: View<'_>, majors: u64, touches: u64) -> Seen {
    let pages = memory.pages() as u64;
    let scatter = Scatter::new(pages);
    let mut seen = Seen::default();
    for list in [&mut seen.nanoseconds, &mut seen.calls, &mut seen.faults] {
        list.reserve_exact(majors as usize);
    }
    while seen.touches < touches && (majors == 0 || (seen.nanoseconds.len() as u64) < majors) {
        let page = scatter.page(seen.touches % pages);
        seen.touches += 1;
        let majors_before = vmstat("pgmajfault");
        let ((calls, faults), start) = (other.calls_and_faults(), Instant::now());
        let checked = content.check(page, memory.page(page as usize));
        let duration = start.elapsed();
        let now = other.calls_and_faults();
        let (calls, faults) = (now.0 - calls, now.1 - faults);
        seen.wrong += u64::from(checked.is_err());
        // B's own faults are minor, so a major one is A's; now and then it is one of the program's code, hence medians.
        if majors > 0 && vmstat("pgmajfault") > majors_before {
            seen.nanoseconds.push(duration.as_nanos() as u64);
            seen.calls.push(calls);
            seen.faults.push(faults);
        }
    }
    seen
}

/// Prints a line of quantiles and returns the median.
fn report(name: &str, mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let at = |percent: usize| values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
    println!("DURING {name} min={} p50={} p90={} p99={} max={}", at(0), at(50), at(90), at(99), at(100));
    at(50)
}

fn main() -> ExitCode {
    let (mut mib, mut majors, mut touches, mut beside) = (96, 100, 20_000, 1);
    let (mut want_calls, mut want_faults, mut want_max_ns, mut alone) = (0, 0, u64::MAX, 0);
    workloads::arguments::parse(
        "pages in one thread beside another: beside=0 nobody, 1 one that calls and faults, 2 one that spins, 3 another\n\
         process; alone=1 or 2 is that other process: it does nothing but what beside=1 or 2 does, for ever;\n\
         ends after so many majors (0: do not look for them) or touches; want_calls and want_faults are the least\n\
         medians per major fault, want_max_ns the greatest median duration of one",
        &mut [
            ("mib", &mut mib),
            ("majors", &mut majors),
            ("touches", &mut touches),
            ("beside", &mut beside),
            ("alone", &mut alone),
            ("want_calls", &mut want_calls),
            ("want_faults", &mut want_faults),
            ("want_max_ns", &mut want_max_ns),
        ],
    );
    let progress = Progress::default();
    match alone {
        0 => {}
        2 => spin(&progress),
        _ => call_and_fault(&progress),
    }
    let mut claims = Claims::new("latency-pair");
    let content = Content::new(1, 50);
    let memory = match Mapping::anonymous(mib * PAGES_PER_MIB, Charge::Committed) {
        Ok(memory) => memory,
        Err(error) => {
            claims.holds(format_args!("mmap of {mib} MiB: {error}"), false);
            return claims.finish("");
        }
    };
    for page in 0..memory.pages() {
        content.write(page as u64, memory.page_to_write(page));
    }
    let start = Instant::now();
    let seen = thread::scope(|scope| {
        match beside {
            0 | 3 => None,
            2 => Some(scope.spawn(|| spin(&progress))),
            _ => Some(scope.spawn(|| call_and_fault(&progress))),
        };
        let other = if beside == 3 { View::Machine } else { View::Thread(&progress) };
        let seen = touch(&memory, &content, other, majors, touches);
        progress.stop.store(true, Relaxed);
        seen
    });
    let elapsed = start.elapsed();

    let found = seen.nanoseconds.len() as u64;
    claims.equal("touched pages that were wrong", seen.wrong, 0);
    claims.holds(format_args!("{found} major faults seen, {majors} wanted"), found >= majors);
    let ns = report("ns", seen.nanoseconds);
    let calls = report("calls", seen.calls);
    let faults = report("faults", seen.faults);
    if majors > 0 {
        claims.holds(format_args!("{calls} calls during a major fault, {want_calls} wanted"), calls >= want_calls);
        claims.holds(format_args!("{faults} faults during a major fault, {want_faults} wanted"), faults >= want_faults);
        claims.holds(format_args!("{ns} ns for a major fault, at most {want_max_ns} wanted"), ns <= want_max_ns);
    }
    claims.finish(format_args!(
        "beside={beside} majors={found} touches={} ms={} touches_per_s={} other_turns={}",
        seen.touches,
        elapsed.as_millis(),
        u128::from(seen.touches) * 1_000_000_000 / elapsed.as_nanos().max(1),
        progress.turns.load(Relaxed) + progress.calls.load(Relaxed),
    ))
}
