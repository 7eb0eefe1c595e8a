//! `just bench`: the figures that Ebb is measured by, beside Linux' on the same machine.
//!
//! Owns the command line, the order, and where the figures go. Neighbours: `cases` says what is measured, `guest` runs it under either
//! kernel, `figures` judges it, `linux` is the opponent, `profile` says which functions instructions are spent in.

mod cases;
mod figures;
mod guest;
mod linux;
mod profile;

use std::path::PathBuf;
use std::process::Command;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use tests::harness::Artifacts;
use tests::source;

use cases::{Bench, Size};
use figures::Figure;
use linux::Linux;

/// Measures Ebb, and Linux beside it if `just linux` has built one. Writes docs/benchmarks.md and docs/benchmarks.json.
#[derive(Debug, Parser)]
#[command(name = "just bench")]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// How often each machine is run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Another build of the main workload, a static ELF file that is called `pressure`.
    #[arg(long, value_name = "FILE")]
    pressure: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum What {
    /// The main figures, one round, in less than five minutes; into target/benchmarks.md and target/benchmarks.json.
    Quick,
    /// Prints which functions of the kernel the instructions of a fault are spent in.
    Profile {
        #[arg(value_enum, default_value_t = Fault::Minor)]
        fault: Fault,
        /// An option for the kernel's command line, such as swap.encrypt=on.
        #[arg(long, value_name = "OPTION")]
        append: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// The first write to a page of a program's own.
    Minor,
    /// A page that comes back from swap.
    Major,
}

type Part = fn(&Bench) -> Vec<Figure>;

fn main() {
    let arguments = Arguments::parse();
    let (size, directory) = match arguments.what {
        Some(What::Profile { fault, append }) => {
            let event = if fault == Fault::Minor { &profile::MINOR } else { &profile::MAJOR };
            return print!("{}", profile::table(event, &append));
        }
        Some(What::Quick) => (Size::Quick, "target"),
        None => (Size::Full, "docs"),
    };
    let pressure = arguments.pressure.unwrap_or_else(|| Artifacts::release().workloads.join("pressure"));
    let rounds = if size == Size::Quick { 1 } else { usize::from(arguments.rounds) };
    let bench = Bench { linux: Linux::find(), pressure, rounds, size };
    if bench.linux.is_none() {
        eprintln!("there is no Linux to compare with: `just linux` builds one");
    }
    let (quick, full): (&[Part], &[Part]) =
        (&[Bench::instructions, Bench::paging], &[Bench::mixes, Bench::throttled, Bench::nearly_full, Bench::limits]);
    let head = head(&bench);
    print!("{head}");
    let (mut text, mut all) = (head, Vec::new());
    for part in quick.iter().chain(if size == Size::Full { full } else { &[] }) {
        let figures = part(&bench);
        let table = figures::table(&figures) + "\n";
        print!("{table}");
        text.push_str(&table);
        all.extend(figures);
        // What is done is kept, if the rest should fail.
        write(directory, &bench, &text, &all);
    }
}

/// The conditions.
fn head(bench: &Bench) -> String {
    let recipe = if bench.size == Size::Quick { "just bench quick" } else { "just bench" };
    let linux = bench.linux.as_ref().map_or_else(
        || "There was no Linux to compare with (`just linux`).".to_owned(),
        |linux| {
            format!(
                "Linux is {}, built as small as it goes (tests/linux/config), each workload at the fastest of its settings.",
                linux.version
            )
        },
    );
    format!(
        "# Benchmarks\n\n`{recipe}` makes this page: {}, one processor, TCG; 64 MiB of RAM, a working set of 128 MiB and 1 GiB of swap, \
         unless said\notherwise; every page is verified, and Ebb's swap audited. Both systems run the same program in the same QEMU. {linux}\n\
         Medians of {} rounds, the systems taking turns, and from the least to the most as a part of the median. A figure is missed if its\n\
         median and its second-best round are.\n\n",
        qemu(),
        bench.rounds,
    )
}

fn qemu() -> String {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().expect("QEMU");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().take(4).collect::<Vec<_>>().join(" ").replace(" emulator version", "")
}

fn write(directory: &str, bench: &Bench, text: &str, figures: &[Figure]) {
    let path = |name: &str| source::root().join(directory).join(name);
    let list = json!({
        "linux": bench.linux.as_ref().map(|linux| &linux.version),
        "rounds": bench.rounds,
        "figures": figures::list(figures),
    });
    let list = serde_json::to_string_pretty(&list).expect("figures are JSON") + "\n";
    for (path, contents) in [(path("benchmarks.md"), text), (path("benchmarks.json"), &list)] {
        std::fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
