//! Takes the figures, one machine at a time.
//!
//! Instructions come from QEMU's own count (`-icount shift=0,sleep=off`): its time stamp counter then counts instructions,
//! and the workload reads it around its run phase, so its own instructions are included. That is exact for what never
//! waits for a disk, and means nothing for what does: paging is counted, not timed.

use tests::harness::{Artifacts, Finished, Run};

/// One instruction is one tick, and an idle machine does not wait.
const COUNTING: &str = "-icount shift=0,sleep=off -mem-prealloc";
const SIZES: &str = "--ram 64M --swap 1G";

fn machine(line: &str) -> Run {
    Run::with(Artifacts::release(), line.split_ascii_whitespace())
}

fn per_unit(kind: &str, arguments: &str) -> u64 {
    let line = format!("pressure {kind} {arguments}");
    let run = machine(&line).options("--swap none").qemu_arguments(COUNTING).finish().expect_ok();
    let phase = format!("RESULT kind={kind} phase=run");
    run.value(&phase, "tsc") / run.value(&phase, "units")
}

pub fn fault_instructions() -> u64 {
    per_unit("fault", "mib=32 passes=8")
}

pub fn call_instructions() -> u64 {
    per_unit("null-syscall", "ops=1000000")
}

/// Up to the boot record, right before the program's first instruction; without a disk, which would have to be awaited.
pub fn boot_instructions() -> u64 {
    machine("pressure null-syscall ops=1").options("--swap none").qemu_arguments(COUNTING).finish().count("boot/t_ns")
}

/// An access pattern with its size.
pub struct Pattern {
    pub name: &'static str,
    kind: &'static str,
    arguments: &'static str,
}

impl Pattern {
    pub const ALL: [Self; 4] = [
        Self { name: "seq-write", kind: "seq-write", arguments: "mib=128 passes=2" },
        Self { name: "random", kind: "random", arguments: "mib=128 ops=65536 lat=1" },
        Self { name: "zipf", kind: "zipf", arguments: "mib=128 ops=131072" },
        Self { name: "hot-cold", kind: "hot-cold", arguments: "mib=128 ops=131072" },
    ];

    /// Writes and verifies all pages like the others, with nothing in between.
    pub const POPULATE_ONLY: Self = Self { name: "populate", kind: "random", arguments: "mib=128 ops=1" };
}

pub fn run(pattern: &Pattern) -> Finished {
    let line = format!("pressure {} {}", pattern.kind, pattern.arguments);
    machine(&line).options(SIZES).qemu_arguments("-mem-prealloc").finish().expect_ok()
}

/// What a run phase cost.
pub struct Counts {
    pub major: u64,
    pub swapped_in: u64,
    pub swapped_out: u64,
    pub resident: u64,
    pub writes: u64,
}

impl Counts {
    /// Of the run phase; write requests, which the program cannot see, by the difference to a run without one.
    pub fn of(run: &Finished, pattern: &Pattern, populate: &Finished) -> Self {
        let phase = format!("RESULT kind={} phase=run", pattern.kind);
        let more = |path: &str| run.count(path).saturating_sub(populate.count(path));
        Self {
            major: run.value(&phase, "pgmajfault"),
            swapped_in: run.value(&phase, "pswpin"),
            swapped_out: more("vmstat/pswpout"),
            resident: run.value(&phase, "rss_pages"),
            writes: more("disk/qemu/swap/wr_operations"),
        }
    }
}

/// Whether a run ends well.
fn ends_well(run: Run) -> bool {
    run.limit_s(120).finish().status() == 0
}

pub fn least_ram_mib() -> u64 {
    let ends_well_in =
        |mib: u64| ends_well(machine("pressure random mib=32 ops=8192").options(&format!("--ram {mib}M --swap 256M")));
    let (mut too_little, mut enough) = (5, 64);
    while enough - too_little > 1 {
        let middle = (too_little + enough) / 2;
        if ends_well_in(middle) { enough = middle } else { too_little = middle }
    }
    enough
}

pub fn largest_reservation_gib() -> String {
    /// Half of what a user can address.
    const MOST: u64 = 65_536;
    let ends_well_with = |gib: u64| ends_well(machine(&format!("pressure lazy gib={gib}")).options(SIZES));
    let mut gib = 16;
    while gib < MOST && ends_well_with(gib * 2) {
        gib *= 2;
    }
    if gib == MOST { format!("≥ {gib}") } else { gib.to_string() }
}
