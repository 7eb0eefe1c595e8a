//! Files about the whole machine (proc(5)): what it does, since when, with which disks.
//!
//! Owns the texts of `stat`, `uptime`, `loadavg`, `swaps`, `mounts`, `version` and `pressure/memory`. Does not own the
//! figures: `crate::load`, the executor, `mm`.

use core::fmt::{self, Write};

use crate::fs::disk;
use crate::load;
use crate::process::{self, memory};
use crate::{executor, time};

use super::{KIB_PER_PAGE, Text};

const NS_PER_S: u64 = 1_000_000_000;
/// What programs count time in: `USER_HZ` is 100 on every architecture (time(7)).
const NS_PER_TICK: u64 = NS_PER_S / 100;

/// `/proc/stat`. One processor; what it did not sleep and not run programs for was the kernel's.
pub(super) fn stat(text: &mut Text) -> fmt::Result {
    let load = load::now();
    let (user, idle) = (load.user_ns / NS_PER_TICK, load.asleep_ns / NS_PER_TICK);
    let system = (load.uptime_ns / NS_PER_TICK).saturating_sub(user + idle);
    // Asleep while a page is on its way is what Linux calls waiting for I/O.
    let waiting = (load.full.total_ns() / NS_PER_TICK).min(idle);
    for cpu in ["cpu ", "cpu0"] {
        writeln!(text, "{cpu} {user} 0 {system} {} {waiting} 0 0 0 0 0", idle - waiting)?;
    }
    let booted = (time::wall_clock_ns() - time::now_ns()) / NS_PER_S;
    let stats = executor().stats();
    let running = stats.ready.woken + stats.ready.gave_way + stats.ready.preempted;
    writeln!(text, "intr {}\nctxt {}\nbtime {booted}", crate::irq::count(), stats.polls)?;
    // The reader itself runs.
    writeln!(text, "processes {}\nprocs_running {}", last_number(), running + 1)?;
    writeln!(text, "procs_blocked {}\nsoftirq 0 0 0 0 0 0 0 0 0 0 0", load.stalled)
}

/// `/proc/uptime`: since boot, and idle, in seconds.
pub(super) fn uptime(text: &mut Text) -> fmt::Result {
    let load = load::now();
    let hundredths = |ns: u64| (ns / NS_PER_S, ns % NS_PER_S / (NS_PER_S / 100));
    let ((up, up_part), (idle, idle_part)) = (hundredths(load.uptime_ns), hundredths(load.asleep_ns));
    writeln!(text, "{up}.{up_part:02} {idle}.{idle_part:02}")
}

/// `/proc/loadavg`.
pub(super) fn loadavg(text: &mut Text) -> fmt::Result {
    let [one, five, fifteen] = load::now().averages;
    let ready = executor().stats().ready;
    let threads: usize = process::all().iter().map(|process| process.thread_count()).sum();
    let running = ready.woken + ready.gave_way + ready.preempted + 1;
    writeln!(text, "{one} {five} {fifteen} {running}/{threads} {}", last_number())
}

/// The last number that was given to a process.
fn last_number() -> u32 {
    process::all().iter().map(|process| process.pid.number()).max().unwrap_or(0)
}

/// `/proc/swaps`.
pub(super) fn swaps(text: &mut Text) -> fmt::Result {
    text.write_str("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")?;
    let Some(slots) = memory::snapshot().slots else { return Ok(()) };
    let kib = |slots: u32| u64::from(slots) * KIB_PER_PAGE;
    writeln!(text, "{:<39} partition\t{}\t\t{}\t\t-2", "/dev/vda", kib(slots.total), kib(slots.total - slots.free))
}

/// `/proc/mounts`: the data disk, if there is one, and what is made up.
pub(super) fn mounts(text: &mut Text) -> fmt::Result {
    if disk::volume().is_some() {
        text.write_str("/dev/vdb / ext4 rw,relatime 0 0\n")?;
    } else {
        text.write_str("rootfs / rootfs ro 0 0\n")?;
    }
    text.write_str("proc /proc proc rw,relatime 0 0\ndevtmpfs /dev devtmpfs rw,relatime 0 0\n")?;
    text.write_str("cgroup2 /sys/fs/cgroup cgroup2 rw,relatime 0 0\n")
}

/// `/proc/version`.
pub(super) fn version(text: &mut Text) -> fmt::Result {
    writeln!(text, "Ebb version {} (x86_64)", env!("CARGO_PKG_VERSION"))
}

/// `/proc/pressure/memory` (Documentation/accounting/psi.rst).
pub(super) fn pressure(text: &mut Text) -> fmt::Result {
    let load = load::now();
    writeln!(text, "some {}\nfull {}", load.some, load.full)
}
