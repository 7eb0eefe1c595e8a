//! Phases: what is measured between two marks, and the line that reports it.
//!
//! A phase runs from [`Phase::begin`] to [`Running::end`]. Both execute a mark as close to the work as they can, so that
//! reading counters and clocks there is outside what a plugin counts. Samples of the resident pages are inside, and few.

use std::time::Instant;

use crate::counters;
use crate::machine::{mark, time_stamp};

/// The `/proc/vmstat` counters a RESULT line shows when they moved.
const VMSTAT: [&str; 17] = [
    "pgfault",
    "pgmajfault",
    "pswpin",
    "pswpout",
    "pgpgin",
    "pgpgout",
    "swap_ra",
    "swap_ra_hit",
    "pgscan_kswapd",
    "pgscan_direct",
    "pgsteal_kswapd",
    "pgsteal_direct",
    "workingset_refault_anon",
    "workingset_refault_file",
    "thp_fault_alloc",
    "zswpin",
    "zswpout",
];

/// The three phases of a workload; their marks are 0x20 + 2n at the beginning and 0x21 + 2n at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The working set is made.
    Populate,
    /// The pattern itself.
    Run,
    /// Every word is checked.
    Verify,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Populate => "populate",
            Self::Run => "run",
            Self::Verify => "verify",
        }
    }

    /// Starts the clocks.
    pub fn begin(self) -> Running {
        let vmstat = read_vmstat();
        let (start, tsc) = (Instant::now(), time_stamp());
        self.mark_begin();
        Running { phase: self, vmstat, start, tsc, resident_sum: 0, samples: 0 }
    }

    /// The mark alone, for set-up work that only a plugin counts.
    #[inline(always)]
    pub fn mark_begin(self) {
        match self {
            Self::Populate => mark::<0x20>(),
            Self::Run => mark::<0x22>(),
            Self::Verify => mark::<0x24>(),
        }
    }

    #[inline(always)]
    fn mark_end(self) {
        match self {
            Self::Populate => mark::<0x21>(),
            Self::Run => mark::<0x23>(),
            Self::Verify => mark::<0x25>(),
        }
    }
}

/// A phase under way.
#[must_use]
pub struct Running {
    phase: Phase,
    vmstat: Option<[u64; VMSTAT.len()]>,
    start: Instant,
    tsc: u64,
    /// The sum of all samples of the resident pages, and how many there are.
    resident_sum: u64,
    samples: u64,
}

impl Running {
    /// Notes how many pages are resident, for their mean over the phase.
    #[cold]
    pub fn sample_resident(&mut self) {
        if let Some(pages) = counters::resident_pages() {
            self.resident_sum += pages;
            self.samples += 1;
        }
    }

    /// Stops the clocks and prints the phase's line. `kind` names the workload, `units` is the work done, `sum` a checksum
    /// of what was seen.
    pub fn end(self, kind: &str, units: u64, sum: u64) {
        self.phase.mark_end();
        let (ns, tsc) = (self.start.elapsed().as_nanos(), time_stamp() - self.tsc);
        let after = read_vmstat();
        let phase = self.phase.name();
        print!("RESULT kind={kind} phase={phase} units={units} ns={ns} tsc={tsc}");
        if let (Some(before), Some(after)) = (self.vmstat, after) {
            for ((name, before), after) in VMSTAT.into_iter().zip(before).zip(after) {
                if after != before {
                    print!(" {name}={}", after.wrapping_sub(before));
                }
            }
        }
        if let Some(pages) = counters::resident_pages() {
            print!(" rss_pages={pages}");
        }
        if let Some(mean) = self.resident_sum.checked_div(self.samples) {
            print!(" rss_mean_pages={mean}");
        }
        println!(" sum={sum:x}");
    }
}

fn read_vmstat() -> Option<[u64; VMSTAT.len()]> {
    let mut values = [0; VMSTAT.len()];
    counters::for_each_vmstat(|name, value| {
        if let Some(index) = VMSTAT.iter().position(|&wanted| wanted == name) {
            values[index] = value;
        }
    })
    .ok()?;
    Some(values)
}
