//! `just bench`: the figures that Ebb is measured by, beside Linux' on the same machine.
//!
//! Owns the command line, the order, and where the figures go. Neighbours: `cases`, `instructions`, `limits` and
//! `raw_disk` say what is measured, `guest` runs it under either kernel, `count` has QEMU count instructions, `figures`
//! judges, `linux` is the opponent, `profile` says which functions instructions are spent in.

mod cases;
mod count;
mod figures;
mod guest;
mod instructions;
mod limits;
mod linux;
mod profile;
mod raw_disk;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tests::harness::Artifacts;
use tests::source;

use cases::{Bench, Size};
use figures::Figure;
use linux::Linux;

/// Measures Ebb, and Linux beside it if `just linux` has built one in target/linux. Writes docs/benchmarks.md and
/// docs/benchmarks.json as it goes, so that what has been measured is kept if the rest is interrupted. What runs
/// meanwhile is said on the standard error.
#[derive(Debug, Parser)]
#[command(name = "just bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Rounds, in each of which every machine is run. Of p99.9 and of the compressed tier on the fast disk there are five at
    /// least.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Another build of the main workload, a static ELF file that takes the same arguments: its figures follow those of
    /// the project's own. Without this, the environment variable EBB_C_PRESSURE may name one.
    #[arg(long, value_name = "FILE")]
    pressure: Option<PathBuf>,
    /// Only these figures; into target/benchmarks.md and target/benchmarks.json. May be given more than once.
    #[arg(long = "part", value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(PARTS.map(|part| part.name)))]
    parts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum What {
    /// The main figures of the project's own program beside those of Linux as it comes, one round, in less than five
    /// minutes; into target/benchmarks.md and target/benchmarks.json.
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

/// Figures that are measured together.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    measure: fn(&Bench) -> Vec<Figure>,
    /// Whether it is among the main figures.
    quick: bool,
    /// Whether it says something about the main workload, and not about other programs.
    pressure: bool,
    /// Whether QEMU has to count instructions for it (`count`).
    counted: bool,
}

const PARTS: [Part; 10] = [
    Part { name: "instructions", measure: Bench::instructions, quick: true, pressure: true, counted: false },
    Part { name: "boot", measure: Bench::boot, quick: true, pressure: false, counted: true },
    Part { name: "major-faults", measure: Bench::major_faults, quick: true, pressure: true, counted: true },
    Part { name: "patterns", measure: Bench::paging, quick: true, pressure: true, counted: false },
    Part { name: "draws", measure: Bench::draws, quick: false, pressure: true, counted: false },
    Part { name: "mixes", measure: Bench::mixes, quick: false, pressure: false, counted: false },
    Part { name: "slow-disk", measure: Bench::throttled, quick: false, pressure: true, counted: false },
    Part { name: "compressed", measure: Bench::compressed, quick: false, pressure: true, counted: false },
    Part { name: "nearly-full", measure: Bench::nearly_full, quick: false, pressure: true, counted: false },
    Part { name: "limits", measure: Bench::limits, quick: false, pressure: true, counted: false },
];

/// A build of the main workload.
struct Program {
    file: PathBuf,
    own: bool,
}

impl Program {
    fn heading(&self) -> String {
        if self.own {
            return "The project's own programs".to_owned();
        }
        let bytes = fs::metadata(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display())).len();
        let name = self.file.file_name().expect("a file").to_string_lossy();
        format!("Another build of the main workload: `{name}`, {bytes} bytes")
    }
}

fn main() {
    let arguments = Arguments::parse();
    let (size, directory) = match arguments.what {
        Some(What::Profile { fault, append }) => {
            let event = if fault == Fault::Minor { &profile::MINOR } else { &profile::MAJOR };
            return print!("{}", profile::table(event, &append));
        }
        Some(What::Quick) => (Size::Quick, "target"),
        None => (Size::Full, if arguments.parts.is_empty() { "docs" } else { "target" }),
    };
    let wanted = |part: &Part| {
        (size == Size::Full || part.quick)
            && (arguments.parts.is_empty() || arguments.parts.iter().any(|name| name == part.name))
    };
    eprintln!("building what has changed of the kernel and the programs");
    let own = Program { file: Artifacts::release().workloads.join("pressure"), own: true };
    let another = match size {
        Size::Quick => None,
        Size::Full => arguments.pressure.or_else(|| env::var_os("EBB_C_PRESSURE").map(PathBuf::from)),
    };
    let rounds = if size == Size::Quick { 1 } else { usize::from(arguments.rounds) };
    let mut bench = Bench { linux: Linux::find(), pressure: own.file.clone(), rounds, size, begun: Instant::now() };
    if bench.linux.is_none() {
        eprintln!("there is no Linux to compare with: `just linux` builds one");
    }
    let mut page = Page::new(directory, &bench);
    for program in [own].into_iter().chain(another.map(|file| Program { file, own: false })) {
        bench.pressure.clone_from(&program.file);
        page.heading(&program.heading());
        for part in PARTS.iter().filter(|part| wanted(part) && (program.own || part.pressure)) {
            bench.progress(format_args!("{}: {}", page.program, part.name));
            if let Some(reason) = part.counted.then(count::unavailable).flatten() {
                page.say(&format!(
                    "`{}` is not measured, as this QEMU cannot count instructions: {reason}.\n\n",
                    part.name
                ));
                page.write(&bench);
                continue;
            }
            page.add(&(part.measure)(&bench), &bench);
        }
    }
    bench.progress(format_args!("{directory}/benchmarks.md and {directory}/benchmarks.json are complete"));
}

/// What is written, and printed as it comes.
struct Page {
    directory: PathBuf,
    text: String,
    figures: Vec<Value>,
    program: String,
}

impl Page {
    fn new(name: &str, bench: &Bench) -> Self {
        let directory = source::root().join(name);
        fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut page = Self { directory, text: String::new(), figures: Vec::new(), program: String::new() };
        page.say(&head(bench, name));
        page
    }

    fn heading(&mut self, program: &str) {
        program.clone_into(&mut self.program);
        self.say(&format!("## {program}\n\n"));
    }

    fn add(&mut self, figures: &[Figure], bench: &Bench) {
        if figures.is_empty() {
            return;
        }
        self.say(&(figures::table(figures) + "\n"));
        self.figures.extend(figures.iter().map(|figure| figure.json(&self.program)));
        self.write(bench);
    }

    /// What is done is kept, if the rest should fail.
    fn write(&self, bench: &Bench) {
        let list = json!({
            "linux": bench.linux.as_ref().map(|linux| &linux.version),
            "figures": self.figures,
        });
        let list = serde_json::to_string_pretty(&list).expect("figures are JSON") + "\n";
        for (name, contents) in [("benchmarks.md", format!("{}\n", self.text.trim_end())), ("benchmarks.json", list)] {
            let path = self.directory.join(name);
            fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    fn say(&mut self, text: &str) {
        print!("{text}");
        self.text.push_str(text);
    }
}

/// The conditions.
fn head(bench: &Bench, directory: &str) -> String {
    let recipe = match bench.size {
        Size::Quick => "just bench quick",
        Size::Full if directory == "docs" => "just bench",
        Size::Full => "just bench --part …",
    };
    let linux = bench.linux.as_ref().map_or_else(
        || "There was no Linux to compare with (`just linux`).".to_owned(),
        |linux| {
            format!(
                "Linux is {}, built as small as it goes (tests/linux/config), {}.",
                linux.version,
                match bench.size {
                    Size::Quick => "as it comes",
                    Size::Full => "each workload at the fastest of its settings",
                }
            )
        },
    );
    format!(
        "# Benchmarks\n\n`{recipe}` makes this page: {}, one processor, TCG; 64 MiB of RAM, a working set of 128 MiB and 1 GiB of swap, \
         unless said\notherwise; every page is verified, and Ebb's swap audited. Both systems run the same program in the same QEMU. {linux}\n\
         Medians of {}{}, the systems taking turns, and from the least to the most as a part of the median. A figure is missed if its\n\
         median and its second-best round are, which of five is milder than of three; it is compared as measured, not as shown. Resident\n\
         pages, and the frames of A0 and MIN', are a mean over the run phase; of another build, which does not count them there, those at\n\
         its end. A round of the compressed tier is two runs with it and two without. In {directory}/benchmarks.json is every round.\n\n",
        qemu(),
        if bench.rounds == 1 { "one round".to_owned() } else { format!("{} rounds", bench.rounds) },
        match bench.close_rounds() {
            rounds if rounds > bench.rounds =>
                format!(" ({rounds} of p99.9 and of the compressed tier on the fast disk)"),
            _ => String::new(),
        },
    )
}

fn qemu() -> String {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().expect("QEMU");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().take(4).collect::<Vec<_>>().join(" ").replace(" emulator version", "")
}
