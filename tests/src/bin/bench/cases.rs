//! What is measured.
//!
//! Owns the machines and what is read off each, in the order of the table in which they are asked for. Systems take turns: in each round of a
//! case Ebb runs first, then Linux with each of its settings, so that what the host does meanwhile meets them alike.

use std::path::PathBuf;
use std::process::Command;

use tests::harness::{Artifacts, Run};
use tests::replacement::bounds;
use workloads::mixes::Kind;

use super::figures::{Beside, Figure, Samples, Target};
use super::guest::{Ended, Machine, Requests, System};
use super::linux::{DEFAULT, Linux, SETTINGS, Setting};

/// Pages of the working set: 128 MiB.
const PAGES: usize = 32_768;
/// Frames of 64 MiB of RAM.
const ALL_FRAMES: usize = 16_384;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// In less than five minutes.
    Quick,
    /// Everything.
    Full,
}

/// What all cases share.
pub struct Bench {
    /// What to compare with.
    pub linux: Option<Linux>,
    /// The main workload.
    pub pressure: PathBuf,
    /// How often each machine is run.
    pub rounds: usize,
    /// Which of them.
    pub size: Size,
}

/// All rounds of one machine.
struct Rounds {
    ebb: Vec<Ended>,
    linux: Vec<(&'static Setting, Vec<Ended>)>,
}

impl Rounds {
    /// With only that setting of Linux whose median is the least.
    fn beside_the_fastest(mut self, time: impl Fn(&Ended) -> f64) -> Self {
        let median = |(_, rounds): &(_, Vec<Ended>)| Samples(rounds.iter().map(&time).collect()).median();
        let fastest = self.linux.into_iter().min_by(|a, b| median(a).total_cmp(&median(b)));
        self.linux = fastest.into_iter().collect();
        self
    }

    fn figure(&self, what: impl Into<String>, value: impl Fn(&Ended) -> f64) -> Figure {
        let samples = |rounds: &[Ended]| Samples(rounds.iter().map(&value).collect());
        let beside = |(setting, rounds): &(&'static Setting, Vec<Ended>)| Beside {
            setting: setting.name,
            samples: samples(rounds),
        };
        Figure::new(what, samples(&self.ebb)).beside(self.linux.iter().map(beside).collect())
    }
}

/// An access pattern, and what is asked of it: the time of a touch by Linux'.
struct Pattern {
    name: &'static str,
    arguments: &'static str,
    time: f64,
}

const PATTERNS: [Pattern; 4] = [
    Pattern { name: "seq-write", arguments: "seq-write mib=128 passes=2", time: 0.5 },
    Pattern { name: "random", arguments: "random mib=128 ops=65536", time: 0.75 },
    Pattern { name: "zipf", arguments: "zipf mib=128 ops=131072", time: 0.7 },
    Pattern { name: "hot-cold", arguments: "hot-cold mib=128 ops=131072", time: 0.75 },
];

/// Writes and verifies all pages like the others, with nothing in between.
const POPULATE_ONLY: &str = "random mib=128 ops=1";

impl Bench {
    fn settings(&self) -> Vec<&'static Setting> {
        match self.size {
            Size::Quick => vec![&DEFAULT],
            Size::Full => SETTINGS.to_vec(),
        }
    }

    fn machine(&self, arguments: &str) -> Machine {
        Machine::new(&self.pressure, arguments)
    }

    /// Ebb has to end well. A setting of Linux that does not is told of, and left out.
    fn rounds(&self, machine: &Machine, rounds: usize, settings: &[&'static Setting]) -> Rounds {
        let run = |round: usize, system: System<'_>, name: &str| {
            eprintln!("{} {}: round {} of {rounds}", name, machine.arguments, round + 1);
            machine.run(system)
        };
        let mut all = Rounds { ebb: Vec::new(), linux: Vec::new() };
        let linux = self.linux.as_ref();
        all.linux = settings.iter().filter(|_| linux.is_some()).map(|setting| (*setting, Vec::new())).collect();
        for round in 0..rounds {
            let ebb = run(round, System::Ebb, "Ebb");
            assert!(ebb.well(), "Ebb: {machine:?}\n{}", ebb.console);
            all.ebb.push(ebb);
            all.linux.retain_mut(|(setting, ended)| {
                let linux = linux.expect("there is one if it has settings");
                let name = format!("Linux ({})", setting.name);
                let this = run(round, System::Linux(linux, setting), &name);
                let well = this.well();
                if !well {
                    eprintln!("{name} did not end well and is left out:\n{}", this.console);
                }
                ended.push(this);
                well
            });
        }
        all
    }

    fn once(&self, machine: &Machine) -> Rounds {
        self.rounds(machine, 1, &[&DEFAULT])
    }

    /// Instructions, which repeat exactly.
    pub fn instructions(&self) -> Vec<Figure> {
        let per_unit = |ended: &Ended| ended.of_run("tsc") as f64 / ended.of_run("units") as f64;
        let counted = |arguments| self.once(&Machine::counting(&self.pressure, arguments));
        let boot = || {
            let line = ["pressure", "null-syscall", "ops=1"];
            let run = Run::with(Artifacts::release(), line).options("--swap none");
            run.qemu_arguments("-icount shift=0,sleep=off -mem-prealloc").finish().count("boot/t_ns")
        };
        vec![
            counted("fault mib=32 passes=8 huge=0")
                .figure("instructions per anonymous 4 KiB fault, with its share of mmap and munmap", per_unit)
                .target(Target::AtMost(1300.0)),
            counted("null-syscall ops=1000000")
                .figure("instructions per null system call", per_unit)
                .target(Target::AtMost(160.0)),
            Figure::new("instructions from the kernel's entry to the first of the program", one(boot() as f64))
                .target(Target::AtMost(4e6)),
        ]
    }

    /// The patterns on an unthrottled disk.
    pub fn paging(&self) -> Vec<Figure> {
        let populated = self.rounds(&self.machine(POPULATE_ONLY), 1, &self.settings());
        PATTERNS.iter().flat_map(|pattern| self.pattern(pattern, &populated)).chain([self.tail()]).collect()
    }

    fn pattern(&self, pattern: &Pattern, populated: &Rounds) -> Vec<Figure> {
        let Pattern { name, arguments, time } = *pattern;
        let rounds = self.rounds(&self.machine(arguments), self.rounds, &self.settings()).beside_the_fastest(us_a_unit);
        let of_run = |key: &'static str| move |ended: &Ended| ended.of_run(key) as f64;
        let mut figures = vec![
            rounds.figure(format!("{name}: µs a touch"), us_a_unit).target(Target::RatioAtMost(time)),
            rounds.figure(format!("{name}: major faults"), of_run("pgmajfault")),
            rounds.figure(format!("{name}: pages read from swap"), of_run("pswpin")),
        ];
        let resident = rounds.figure(format!("{name}: resident pages"), of_run("rss_pages"));
        figures.push(match name {
            "random" => resident.target(Target::AtLeast(14_000.0)),
            _ => resident,
        });
        figures.push(pages_per_write(name, &rounds, populated));
        figures.extend(self.beside_the_best(pattern, &rounds));
        figures
    }

    /// Swap-ins and faults by those of who knows the future, or how popular each page is.
    fn beside_the_best(&self, pattern: &Pattern, rounds: &Rounds) -> Vec<Figure> {
        let name = pattern.name;
        let references = self.trace(pattern.arguments);
        let resident = |ended: &Ended| ended.of_run("rss_pages") as usize;
        let minimum = |frames| bounds::minimum(&references, PAGES, frames) as f64;
        match name {
            "seq-write" => {
                let ratio = |ended: &Ended| ended.of_run("pswpin") as f64 / minimum(resident(ended));
                vec![rounds.figure(format!("{name}: pages read from swap / MIN'"), ratio).target(Target::AtMost(1.1))]
            }
            "zipf" | "hot-cold" => {
                let ops = 32 * (references.len() - PAGES);
                let longer = self.trace(&format!("{name} mib=128 ops={ops} seed=977"));
                let ratio = |ended: &Ended| {
                    let best = bounds::by_popularity(&references, &longer, PAGES, resident(ended));
                    ended.of_run("pswpin") as f64 / best as f64
                };
                let asked = if name == "zipf" { 1.18 } else { 1.03 };
                let by_popularity =
                    rounds.figure(format!("{name}: pages read from swap / A0"), ratio).target(Target::AtMost(asked));
                let faults = |ended: &Ended| ended.of_run("pgmajfault") as f64 / minimum(ALL_FRAMES);
                let faults = rounds.figure(format!("{name}: major faults / MIN' with all of RAM"), faults);
                vec![by_popularity, if name == "zipf" { faults.target(Target::AtMost(1.9)) } else { faults }]
            }
            _ => Vec::new(),
        }
    }

    /// The reference string of the workload, populating included.
    fn trace(&self, arguments: &str) -> Vec<u32> {
        let mut command = Command::new(&self.pressure);
        command.args(arguments.split(' ')).arg("trace=1");
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (pages, _) = output.stdout.as_chunks();
        pages.iter().map(|page| u32::from_le_bytes(*page)).collect()
    }

    fn tail(&self) -> Figure {
        let rounds = self.rounds(&self.machine("random mib=128 ops=65536 lat=1"), self.rounds, &self.settings());
        let tail = |ended: &Ended| {
            let hz = ended.of_run("tsc") as f64 * 1e9 / ended.of_run("ns") as f64;
            ended.value("LATENCY kind=random", "p999") as f64 * 1e6 / hz
        };
        rounds.figure("random: p99.9 of one touch, µs", tail).target(Target::RatioAtMost(1.0))
    }

    /// Whole runs on a slow disk, from QEMU's start to the guest's end.
    pub fn throttled(&self) -> Vec<Figure> {
        let whole = |ended: &Ended| ended.wall.expect("it ended").as_secs_f64();
        let patterns = PATTERNS.iter().filter(|pattern| ["random", "zipf"].contains(&pattern.name));
        let case = |pattern: &Pattern| {
            let rounds = self.rounds(&self.machine(pattern.arguments).throttled(), self.rounds, &self.settings());
            let what = format!("{}: seconds from start to end, 5000 requests and 100 MB a second", pattern.name);
            rounds.figure(what, whole).target(Target::RatioAtMost(0.7))
        };
        patterns.map(case).collect()
    }

    /// Programs that are none of the patterns.
    pub fn mixes(&self) -> Vec<Figure> {
        let program = Artifacts::release().workloads.join("mixes");
        let case = |kind: Kind| {
            let name = kind.name();
            let rounds = self.rounds(&Machine::new(&program, name), self.rounds, &self.settings());
            rounds.figure(format!("mix {name}: µs a unit"), us_a_unit).target(Target::RatioAtMost(1.0))
        };
        let mut figures: Vec<_> = Kind::ALL.into_iter().map(case).collect();
        let ratios: Option<Vec<_>> =
            figures.iter().map(|figure| figure.ratios().map(|ratios| ratios.median())).collect();
        if let Some(ratios) = ratios {
            let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
            figures.push(
                Figure::new("mixes: geometric mean of Ebb's time / Linux'", one(mean.exp()))
                    .target(Target::AtMost(1.0)),
            );
        }
        figures
    }

    /// Slots nearly used up, and written again and again.
    pub fn nearly_full(&self) -> Vec<Figure> {
        let requests = |ops: u64| {
            let machine = self.machine(&format!("random mib=128 ops={ops}")).swap_mib(160);
            self.rounds(&machine, 1, &[]).ebb[0].requests
        };
        let touches = 20 * PAGES as u64;
        let pages = requests(touches).pages_per_write(requests(touches / 4 * 3));
        let what = "random: pages a swap write, last quarter of 20 touches a page, swap 1.25 × the working set";
        vec![Figure::new(what, one(pages)).target(Target::AtLeast(8.0))]
    }

    /// How little RAM, how large a reservation.
    pub fn limits(&self) -> Vec<Figure> {
        vec![
            self.limit("smallest RAM that ends `random mib=32 ops=8192` well, MiB", |system| self.least_ram(system))
                .target(Target::AtMost(12.0)),
            self.limit("largest `lazy gib=` that ends well", |system| self.largest_reservation(system))
                .target(Target::AtLeast(128.0)),
        ]
    }

    fn limit(&self, what: &str, measure: impl Fn(System<'_>) -> u64) -> Figure {
        let ebb = one(measure(System::Ebb) as f64);
        let linux = self.linux.as_ref().map(|linux| measure(System::Linux(linux, &DEFAULT)) as f64);
        let beside = linux.map(|linux| Beside { setting: DEFAULT.name, samples: one(linux) });
        Figure::new(what, ebb).beside(beside.into_iter().collect())
    }

    fn least_ram(&self, system: System<'_>) -> u64 {
        let ends_well_in = |mib| self.machine("random mib=32 ops=8192").ram_mib(mib).swap_mib(256).run(system).well();
        let (mut too_little, mut enough) = (3, 64);
        assert!(ends_well_in(enough), "{system:?} with {enough} MiB");
        while enough - too_little > 1 {
            let middle = u64::midpoint(too_little, enough);
            if ends_well_in(middle) { enough = middle } else { too_little = middle }
        }
        enough
    }

    fn largest_reservation(&self, system: System<'_>) -> u64 {
        /// Half of what a user can address.
        const MOST: u64 = 65_536;
        let ends_well_with = |gib: u64| self.machine(&format!("lazy gib={gib}")).run(system).well();
        let mut gib = 8;
        assert!(ends_well_with(gib), "{system:?} with {gib} GiB");
        while gib < MOST && ends_well_with(gib * 2) {
            gib *= 2;
        }
        gib
    }
}

/// Time of the run phase by what it did.
fn us_a_unit(ended: &Ended) -> f64 {
    ended.of_run("ns") as f64 / ended.of_run("units") as f64 / 1e3
}

fn one(value: f64) -> Samples {
    Samples(vec![value])
}

fn pages_per_write(name: &str, rounds: &Rounds, populated: &Rounds) -> Figure {
    let base = |rounds: &[Ended]| rounds[0].requests;
    let samples = |rounds: &[Ended], base: Requests| {
        Samples(rounds.iter().map(|ended| ended.requests.pages_per_write(base)).collect())
    };
    let populated_by =
        |setting: &Setting| populated.linux.iter().find(|(other, _)| *other == setting).map(|(_, ended)| ended);
    let beside = |(setting, ended): &(&'static Setting, Vec<Ended>)| Beside {
        setting: setting.name,
        samples: samples(ended, base(populated_by(setting).expect("the same settings"))),
    };
    let figure = Figure::new(format!("{name}: pages a swap write"), samples(&rounds.ebb, base(&populated.ebb)));
    let figure = figure.beside(rounds.linux.iter().map(beside).collect());
    if name == "random" { figure.target(Target::AtLeast(16.0)) } else { figure }
}
