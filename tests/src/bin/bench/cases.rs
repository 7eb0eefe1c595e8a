//! What is measured with time and with counts of pages.
//!
//! Owns the machines and what is read off each, in the order of the table in which they are asked for. Systems take
//! turns: in each round of a case Ebb runs first, then Linux with each of its settings, so that what the host does
//! meanwhile meets them alike. Neighbours, each with figures of its own: `instructions`, `limits`, `raw_disk`.

use std::fmt::Display;
use std::iter;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tests::harness::Artifacts;
use tests::replacement::bounds;
use workloads::mixes::Kind;

use super::figures::{Beside, Figure, Samples, Target};
use super::guest::{Ended, Machine, Requests, System};
use super::linux::{DEFAULT, Linux, SETTINGS, Setting};
use super::raw_disk::{self, RawDisk};

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
    /// When all of it began.
    pub begun: Instant,
}

/// All rounds of one machine.
pub struct Rounds {
    pub ebb: Vec<Ended>,
    pub linux: Vec<(&'static Setting, Vec<Ended>)>,
}

impl Rounds {
    /// With only that setting of Linux whose median is the least.
    pub fn beside_the_fastest(mut self, time: impl Fn(&Ended) -> f64) -> Self {
        let median = |(_, rounds): &(_, Vec<Ended>)| Samples(rounds.iter().map(&time).collect()).median();
        let fastest = self.linux.into_iter().min_by(|a, b| median(a).total_cmp(&median(b)));
        self.linux = fastest.into_iter().collect();
        self
    }

    /// One number of each machine.
    pub fn figure(&self, what: impl Into<String>, value: impl Fn(&Ended) -> f64) -> Figure {
        self.figure_by_round(what, |_, ended| value(ended))
    }

    /// One number of each machine and the number of its round.
    pub fn figure_by_round(&self, what: impl Into<String>, value: impl Fn(usize, &Ended) -> f64) -> Figure {
        let samples =
            |rounds: &[Ended]| Samples(rounds.iter().enumerate().map(|(round, ended)| value(round, ended)).collect());
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

/// Rounds, at least, of a figure so near its bound that two equal runs differ by more.
const CLOSE_ROUNDS: usize = 5;

/// Seeds of a round of [`Bench::draws`].
const DRAWS: usize = 4;

/// Writes and verifies all pages like the others, with nothing in between.
const POPULATE_ONLY: &str = "random mib=128 ops=1";

impl Bench {
    /// Those of Linux.
    pub fn settings(&self) -> Vec<&'static Setting> {
        match self.size {
            Size::Quick => vec![&DEFAULT],
            Size::Full => SETTINGS.to_vec(),
        }
    }

    /// Runs the main workload.
    pub fn machine(&self, arguments: &str) -> Machine {
        Machine::new(&self.pressure, arguments)
    }

    /// Tells whoever waits what comes now.
    pub fn progress(&self, what: impl Display) {
        let seconds = self.begun.elapsed().as_secs();
        eprintln!("{:3}:{:02} {what}", seconds / 60, seconds % 60);
    }

    /// Ebb has to end well. A setting of Linux that does not is told of, and left out.
    pub fn rounds(&self, machine: &Machine, rounds: usize, settings: &[&'static Setting]) -> Rounds {
        self.rounds_after(machine, rounds, settings, |_| ())
    }

    /// The same with something else to measure at the beginning of each round.
    fn rounds_after(
        &self,
        machine: &Machine,
        rounds: usize,
        settings: &[&'static Setting],
        mut before: impl FnMut(usize),
    ) -> Rounds {
        let run = |round: usize, system: System<'_>, name: &str| {
            self.progress(format_args!("{name} {}: round {} of {rounds}", machine.arguments, round + 1));
            machine.run(system)
        };
        let mut all = Rounds { ebb: Vec::new(), linux: Vec::new() };
        let linux = self.linux.as_ref();
        all.linux = settings.iter().filter(|_| linux.is_some()).map(|setting| (*setting, Vec::new())).collect();
        for round in 0..rounds {
            before(round);
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

    /// Rounds of what is near its bound.
    pub fn close_rounds(&self) -> usize {
        match self.size {
            Size::Quick => self.rounds,
            Size::Full => self.rounds.max(CLOSE_ROUNDS),
        }
    }

    /// For what repeats exactly.
    pub fn once(&self, machine: &Machine) -> Rounds {
        self.rounds(machine, 1, &[&DEFAULT])
    }

    /// The patterns on an unthrottled disk.
    pub fn paging(&self) -> Vec<Figure> {
        let populated = self.rounds(&self.machine(POPULATE_ONLY), self.rounds, &self.settings());
        PATTERNS.iter().flat_map(|pattern| self.pattern(pattern, &populated)).chain([self.tail()]).collect()
    }

    fn pattern(&self, pattern: &Pattern, populated: &Rounds) -> Vec<Figure> {
        let Pattern { name, arguments, time } = *pattern;
        let mut raw = Vec::new();
        let rounds = self.rounds_after(&self.machine(arguments), self.rounds, &self.settings(), |round| {
            raw.extend((name == "seq-write").then(|| self.raw_disk(round)).flatten());
        });
        let rounds = rounds.beside_the_fastest(us_a_unit);
        let of_run = |key: &'static str| move |ended: &Ended| ended.of_run(key) as f64;
        let mut figures = vec![
            rounds.figure(format!("{name}: µs a touch"), us_a_unit).target(Target::RatioAtMost(time)),
            rounds.figure(format!("{name}: major faults"), of_run("pgmajfault")),
            rounds.figure(format!("{name}: pages read from swap"), of_run("pswpin")),
        ];
        let resident = rounds.figure(format!("{name}: resident pages"), |ended| ended.resident() as f64);
        figures.push(match name {
            "random" => resident.target(Target::AtLeast(14_000.0)),
            _ => resident,
        });
        figures.push(pages_per_write(name, &rounds, populated));
        figures.extend(self.beside_the_best(pattern, &rounds, &raw));
        figures
    }

    /// Swap-ins and faults by those of who knows the future, or how popular each page is.
    fn beside_the_best(&self, pattern: &Pattern, rounds: &Rounds, raw: &[RawDisk]) -> Vec<Figure> {
        let name = pattern.name;
        let references = self.trace(pattern.arguments);
        let minimum = |frames| bounds::minimum(&references, PAGES, frames) as f64;
        match name {
            "seq-write" => {
                let ratio = |ended: &Ended| ended.of_run("pswpin") as f64 / minimum(ended.resident());
                let ratio =
                    rounds.figure(format!("{name}: pages read from swap / MIN'"), ratio).target(Target::AtMost(1.1));
                // Every page is written in every pass: one that comes makes one go that has to be written.
                let of_raw = raw_disk::share(raw, rounds, |ended| minimum(ended.resident()));
                iter::once(ratio).chain(of_raw).collect()
            }
            "zipf" | "hot-cold" => {
                let longer = self.longer_trace(name, references.len());
                let ratio = |ended: &Ended| by_popularity(ended, &references, &longer);
                let by_popularity =
                    rounds.figure(format!("{name}: pages read from swap / A0"), ratio).target(target_of_a0(name));
                let faults = |ended: &Ended| ended.of_run("pgmajfault") as f64 / minimum(ALL_FRAMES);
                let faults = rounds.figure(format!("{name}: major faults / MIN' with all of RAM"), faults);
                vec![by_popularity, if name == "zipf" { faults.target(Target::AtMost(1.9)) } else { faults }]
            }
            _ => Vec::new(),
        }
    }

    /// Pages read by A0's, each round for draws of its own: how lucky a draw is counts for as much as the policy.
    pub fn draws(&self) -> Vec<Figure> {
        let patterns = PATTERNS.iter().filter(|pattern| ["zipf", "hot-cold"].contains(&pattern.name));
        let case = |&Pattern { name, arguments, .. }: &Pattern| {
            let mut longer = None;
            let draw = |seed: usize| {
                let arguments = format!("{arguments} seed={seed}");
                let references = self.trace(&arguments);
                let longer = longer.get_or_insert_with(|| self.longer_trace(name, references.len()));
                let rounds = self.rounds(&self.machine(&arguments), 1, &[]);
                by_popularity(&rounds.ebb[0], &references, longer)
            };
            let ratios: Vec<f64> = (1..=DRAWS * self.rounds).map(draw).collect();
            let rounds = ratios.chunks(DRAWS).map(|round| round.iter().sum::<f64>() / round.len() as f64).collect();
            let what = format!("{name}: pages read from swap / A0, mean of {DRAWS} seeds a round, from 1 on");
            Figure::new(what, Samples(rounds)).target(target_of_a0(name))
        };
        patterns.map(case).collect()
    }

    /// As many references as tell how popular each page is.
    fn longer_trace(&self, name: &str, references: usize) -> Vec<u32> {
        self.trace(&format!("{name} mib=128 ops={} seed=977", 32 * (references - PAGES)))
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
        let machine = self.machine("random mib=128 ops=65536 lat=1");
        let rounds = self.rounds(&machine, self.close_rounds(), &self.settings());
        // One counter, the host's: that each kernel takes another rate for it, by some millionths, is no difference.
        let all = rounds.ebb.iter().chain(rounds.linux.iter().flat_map(|(_, rounds)| rounds));
        let ticks_a_us = |ended: &Ended| ended.of_run("tsc") as f64 * 1e3 / ended.of_run("ns") as f64;
        let ticks_a_us = Samples(all.map(ticks_a_us).collect()).median();
        let tail = |ended: &Ended| ended.value("LATENCY kind=random", "p999") as f64 / ticks_a_us;
        rounds.figure("random: p99.9 of one touch, µs, in buckets of an eighth", tail).target(Target::RatioAtMost(1.0))
    }

    /// Whole runs on a slow disk, from QEMU's start to the guest's end.
    pub fn throttled(&self) -> Vec<Figure> {
        let patterns = PATTERNS.iter().filter(|pattern| ["random", "zipf"].contains(&pattern.name));
        let case = |pattern: &Pattern| {
            let machine = self.machine(pattern.arguments).throttled();
            let rounds = self.rounds(&machine, self.rounds, &self.settings());
            let what = format!("{}: seconds from start to end, 5000 requests and 100 MB a second", pattern.name);
            let figure = rounds.figure(what, whole).target(Target::RatioAtMost(0.7));
            [figure, self.automatic(pattern.name, "such a disk", &machine, self.rounds)]
        };
        patterns.flat_map(case).collect()
    }

    /// The compressed tier where a fast disk leaves it little to gain. Half of each page is noise, or a tenth.
    pub fn compressed(&self) -> Vec<Figure> {
        let case = |pattern: &Pattern| {
            [("", "the fast disk"), (" fill=10", "the fast disk, pages that shrink to less than a fifth")].map(
                |(fill, disk)| {
                    let machine = self.machine(&format!("{}{fill}", pattern.arguments));
                    self.automatic(pattern.name, disk, &machine, self.close_rounds()).target(Target::AtMost(1.05))
                },
            )
        };
        PATTERNS.iter().flat_map(case).collect()
    }

    /// Whole runs with the tier on when it pays, by those without: two of each in a round, one kind between the other, so that
    /// what drifts meets both alike.
    fn automatic(&self, name: &str, disk: &str, machine: &Machine, rounds: usize) -> Figure {
        let compressing = machine.clone().compressing();
        let seconds = |machine: &Machine| whole(&self.rounds(machine, 1, &[]).ebb[0]);
        let between = |outer: &Machine, inner: &Machine| {
            let [first, second, third, last] = [outer, inner, inner, outer].map(seconds);
            (second + third) / (first + last)
        };
        let ratio = |round: usize| match round % 2 {
            0 => between(machine, &compressing),
            _ => between(&compressing, machine).recip(),
        };
        let ratios = (0..rounds).map(ratio).collect();
        Figure::new(format!("{name}: whole run with swap.compress=auto / off, {disk}"), Samples(ratios))
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
        let touches = 20 * PAGES as u64;
        let rounds = |ops: u64| {
            let machine = self.machine(&format!("random mib=128 ops={ops}")).swap_mib(160);
            self.rounds(&machine, self.rounds, &[])
        };
        let base = Requests::mean(&rounds(touches / 4 * 3).ebb);
        let what = "random: pages a swap write, last quarter of 20 touches a page, swap 1.25 × the working set";
        let figure = rounds(touches).figure(what, |ended| ended.requests.pages_per_write(base));
        vec![figure.target(Target::AtLeast(8.0))]
    }
}

/// Pages that were read, by those that who knows how popular each is would have read in as many frames.
fn by_popularity(ended: &Ended, references: &[u32], longer: &[u32]) -> f64 {
    let best = bounds::by_popularity(references, longer, PAGES, ended.resident());
    ended.of_run("pswpin") as f64 / best as f64
}

fn target_of_a0(name: &str) -> Target {
    Target::AtMost(if name == "zipf" { 1.18 } else { 1.03 })
}

/// Seconds from QEMU's start to the guest's end.
fn whole(ended: &Ended) -> f64 {
    ended.wall.expect("it ended").as_secs_f64()
}

/// Time of the run phase by what it did.
pub fn us_a_unit(ended: &Ended) -> f64 {
    ended.of_run("ns") as f64 / ended.of_run("units") as f64 / 1e3
}

/// What is measured once.
pub fn one(value: f64) -> Samples {
    Samples(vec![value])
}

/// Those of the run phase: QEMU counts whole runs, so what populating takes, in the mean, goes off.
fn pages_per_write(name: &str, rounds: &Rounds, populated: &Rounds) -> Figure {
    let samples = |rounds: &[Ended], populated: &[Ended]| {
        let base = Requests::mean(populated);
        Samples(rounds.iter().map(|ended| ended.requests.pages_per_write(base)).collect())
    };
    let beside = |(setting, ended): &(&'static Setting, Vec<Ended>)| {
        let (_, populated) = populated.linux.iter().find(|(other, _)| other == setting)?;
        Some(Beside { setting: setting.name, samples: samples(ended, populated) })
    };
    let figure = Figure::new(format!("{name}: pages a swap write"), samples(&rounds.ebb, &populated.ebb));
    let figure = figure.beside(rounds.linux.iter().filter_map(beside).collect());
    if name == "random" { figure.target(Target::AtLeast(16.0)) } else { figure }
}
