//! What the swap disk can do, as Linux gets it in this QEMU: what it does for a page beside that is little, and in it.
//!
//! Measured by a program (`workloads/src/bin/disk-speed.rs`) under the small Linux, which lets programs at the disk
//! directly, on a disk with the same options in the same QEMU: requests of 64 KiB one behind the other, 32 at a time,
//! on blocks that have been written before.

use tests::harness::Artifacts;

use super::cases::{Bench, Rounds, us_a_unit};
use super::figures::{Figure, Samples, Target};
use super::guest::{Ended, Machine, System};
use super::linux::DEFAULT;

const ARGUMENTS: &str = "mib=256 kib=64 depth=32 passes=4";

/// Its speed.
#[derive(Clone, Copy, Debug)]
pub struct RawDisk {
    read: MicrosecondsAPage,
    write: MicrosecondsAPage,
}

#[derive(Clone, Copy, Debug)]
struct MicrosecondsAPage(f64);

impl MicrosecondsAPage {
    fn megabytes_per_second(self) -> f64 {
        4096.0 / self.0
    }
}

impl Bench {
    /// Nothing without a Linux. The host is not equally fast all the time, so this takes its turn in every round of what is
    /// compared with it.
    pub fn raw_disk(&self, round: usize) -> Option<RawDisk> {
        let linux = self.linux.as_ref()?;
        let machine = Machine::new(&Artifacts::release().workloads.join("disk-speed"), ARGUMENTS).raw_disk();
        self.progress(format_args!("the disk by itself: round {} of {}", round + 1, self.rounds));
        let ended = machine.run(System::Linux(linux, &DEFAULT));
        assert!(ended.well(), "Linux: {machine:?}\n{}", ended.console);
        let speed = |phase: &str| {
            let line = format!("RESULT kind=disk-speed phase={phase} ");
            MicrosecondsAPage(ended.value(&line, "ns") as f64 / ended.value(&line, "units") as f64 / 1e3)
        };
        Some(RawDisk { read: speed("read"), write: speed("write") })
    }
}

/// How much of its time a run would need if it read and wrote no more pages than it must, as fast as the disk can: round by
/// round, if the disk was measured.
pub fn share(raw: &[RawDisk], rounds: &Rounds, pages: impl Fn(&Ended) -> f64) -> Option<Figure> {
    let speed = |direction: fn(&RawDisk) -> MicrosecondsAPage| {
        let speeds: Vec<_> = raw.iter().map(|raw| direction(raw).megabytes_per_second()).collect();
        (!speeds.is_empty()).then(|| Samples(speeds).median())
    };
    let (read, write) = (speed(|raw| raw.read)?, speed(|raw| raw.write)?);
    let percent = |round: usize, ended: &Ended| {
        let us = pages(ended) * (raw[round].read.0 + raw[round].write.0);
        us / (us_a_unit(ended) * ended.of_run("units") as f64) * 100.0
    };
    let what = format!(
        "seq-write: % of its time that the raw disk needs for the pages of MIN', in and out \
         (64 KiB, 32 at a time, with O_DIRECT under Linux: {read:.0} MB/s in, {write:.0} out)"
    );
    Some(rounds.figure_by_round(what, percent).target(Target::AtLeast(25.0)))
}
