//! Figures in instructions: a minor fault, a null system call, boot, a major fault.
//!
//! What never waits is counted by the guest's own clock, one tick an instruction, repetitions of string instructions
//! included. Boot and major faults, in which kernels wait, are counted by QEMU (`count`).

use tests::harness::Artifacts;

use super::cases::Bench;
use super::figures::{Figure, Target};
use super::guest::{Ended, Machine};
use super::linux::DEFAULT;

impl Bench {
    /// What repeats exactly.
    pub fn instructions(&self) -> Vec<Figure> {
        let per_unit = |ended: &Ended| ended.of_run("tsc") as f64 / ended.of_run("units") as f64;
        let counted = |arguments| self.once(&Machine::counting(&self.pressure, arguments));
        vec![
            counted("fault mib=32 passes=8 huge=0")
                .figure("instructions per anonymous 4 KiB fault, with its share of mmap and munmap", per_unit)
                .target(Target::AtMost(1300.0)),
            counted("null-syscall ops=1000000")
                .figure("instructions per null system call", per_unit)
                .target(Target::AtMost(160.0)),
        ]
    }

    /// The way to the first program. It is the project's own, which is position-independent: by that its first
    /// instruction is known. Without `-icount`, under which a loop that waits for a time to pass takes an instruction
    /// for every nanosecond of it; the loops of Linux take many as it is, so this does not quite repeat.
    pub fn boot(&self) -> Vec<Figure> {
        let own = Artifacts::release().workloads.join("pressure");
        let machine = Machine::new(&own, "null-syscall ops=1").counted();
        let boot = |ended: &Ended| {
            let count = ended.counts.between("entry", "user");
            (count.lower + count.upper) as f64
        };
        let what = "instructions from the kernel's entry to the first of a program (a string instruction is one)";
        let rounds = self.rounds(&machine, self.rounds, &[&DEFAULT]);
        vec![rounds.figure(what, boot).target(Target::AtMost(4e6))]
    }

    /// Without `-icount`, under which a disk's answers would come at the wrong time: a string instruction counts once.
    pub fn major_faults(&self) -> Vec<Figure> {
        let machine = self.machine("random mib=128 ops=65536").counted();
        let rounds = self.rounds(&machine, self.rounds, &self.settings());
        let per_fault = |ended: &Ended| {
            let count = ended.counts.between("mark-22", "mark-23");
            count.upper as f64 / ended.of_run("pgmajfault") as f64
        };
        let what = "random: instructions of the kernel per major fault, with its share of writing out (a string instruction is one)";
        vec![rounds.figure(what, per_fault).target(Target::AtMost(8500.0))]
    }
}
