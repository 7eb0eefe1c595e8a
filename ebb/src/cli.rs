//! The command line, as clap sees it.
//!
//! Owns: names, defaults and help texts. Does not own what the values mean: sizes and paths stay words
//! here, so that a wrong one gets a sentence and a report instead of a usage message.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What runs when no program is named: three times the default RAM, every byte verified.
pub const DEFAULT_PROGRAM: [&str; 3] = ["pressure", "seq-write", "mib=192"];

const EXIT_STATUS_HELP: &str = "\
EXIT STATUS
  The program's own. 128+N if signal N ended it, 137 if it was killed because memory ran out.
  ebb's own failures, told apart from a program's status by `outcome` in report.json:
    120  bad input: nothing was booted (outcome bad_input)
    121  QEMU did not start, or the machine ended without a record (outcome qemu_failed)
    122  the kernel panicked (outcome panic)
    123  the kernel refused the program, the swap area or an option (outcome bad_input)
    124  the run took longer than --timeout (outcome timeout)
    125  ebb itself failed (outcome internal_error)
    129, 130, 141, 143  ended by SIGHUP, Ctrl-C, a closed stdout, SIGTERM (outcome interrupted)

FILES in the output directory
  report.json   the run in figures     kernel.log   all that the kernel logged

ENVIRONMENT
  EBB_QEMU       the QEMU to run instead of qemu-system-x86_64
  EBB_ROOT       the source tree to build from, if not the one ebb was built in
  EBB_WORKLOADS  a directory of built workloads; they are then not built
  CARGO          the cargo to build with";

/// Runs programs in less memory than they need, and shows what that does to them.
#[derive(Debug, Parser)]
#[command(name = "ebb", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boots the kernel in QEMU, runs one program in it, and reports
    #[command(after_help = EXIT_STATUS_HELP, args_override_self = true)]
    Run(RunArguments),
}

/// What `ebb run` is told.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// RAM of the machine: bytes, or a number with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    pub ram: OsString,

    /// Swap: a SIZE (a fresh area), an IMAGE made by mkswap (used as it is), or "none"
    #[arg(long, value_name = "SIZE|IMAGE|none", default_value = "256M")]
    pub swap: OsString,

    /// Data disk, mounted at /: a DIR (a copy of what is in it, for this run) or an ext4 IMAGE (used as it is)
    #[arg(long, value_name = "DIR|IMAGE")]
    pub disk: Option<PathBuf>,

    /// Where report.json and kernel.log go [default: target/ebb-out in the source tree]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Ends the run after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeout: u64,

    /// How QEMU runs the machine's instructions; auto takes KVM only if a trial boot works
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,

    /// An option for the kernel's command line, such as log=debug or env=NAME=VALUE; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub append: Vec<OsString>,

    /// A kernel file to boot instead of building one
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// The program and its arguments: a bare name is one of our workloads, a path is a static Linux
    /// executable of yours, disk:/PATH is one on the data disk; after the options, and `--` may be left out [default:
    /// pressure seq-write mib=192]
    // Without allow_hyphen_values, which would take a mistyped option for the program: once the first
    // word is there, those after it are taken whatever they look like.
    #[arg(trailing_var_arg = true, value_name = "PROGRAM ARG")]
    pub program: Vec<OsString>,
}

/// The `--out` of a command line that could not be understood as a whole; the last of several, as in one that can be.
pub fn named_out(words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let (mut named, mut words) = (None, words.skip(1).take_while(|word| word != "--"));
    while let Some(word) = words.next() {
        if word == "--out" {
            named = words.next().or(named);
        } else if let Some(value) = word.as_encoded_bytes().strip_prefix(b"--out=") {
            named = std::str::from_utf8(value).ok().map(OsString::from).or(named);
        }
    }
    named.map(PathBuf::from)
}

/// What `--accel` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM if the processor has it and a trial boot works, else TCG.
    Auto,
    /// QEMU's own translator: works everywhere.
    Tcg,
    /// The processor's virtualisation: refused where it does not work.
    Kvm,
}

impl RunArguments {
    /// The program and its arguments, or the default workload.
    pub fn argv(&self) -> Vec<OsString> {
        if self.program.is_empty() { DEFAULT_PROGRAM.map(OsString::from).to_vec() } else { self.program.clone() }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_after_the_dashes_are_the_program_even_if_they_look_like_options() {
        let cli = Cli::try_parse_from(["ebb", "run", "--ram", "32M", "--", "./a", "--ram", "-x"]).unwrap();
        let Command::Run(arguments) = cli.command;
        assert_eq!(arguments.argv(), ["./a", "--ram", "-x"]);
        assert_eq!(arguments.ram, "32M");
    }

    #[test]
    fn the_dashes_may_be_left_out() {
        let argv = |words: &[&str]| {
            let Command::Run(arguments) = Cli::try_parse_from([&["ebb", "run"], words].concat()).unwrap().command;
            (arguments.ram.clone(), arguments.argv())
        };
        let own = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(argv(&["panics"]), ("64M".into(), own(&["panics"])));
        let words = own(&["./a", "-x", "--ram", "8M", "--help"]);
        assert_eq!(argv(&["--ram", "32M", "./a", "-x", "--ram", "8M", "--help"]), ("32M".into(), words));
        // A program's own dashes stay its own.
        assert_eq!(argv(&["./a", "--", "b"]).1, own(&["./a", "--", "b"]));
        assert_eq!(argv(&["--", "./a", "--", "b"]).1, own(&["./a", "--", "b"]));
        assert_eq!(argv(&["--", "--odd"]).1, own(&["--odd"]));
    }

    #[test]
    fn the_output_directory_is_found_in_a_command_line_that_is_wrong() {
        let out = |words: &str| named_out(words.split(' ').map(OsString::from));
        assert_eq!(out("ebb run --rma 32M --out there"), Some("there".into()));
        assert_eq!(out("ebb run --out=here --rma --out there ./a"), Some("there".into()));
        for none in ["ebb", "ebb run --rma", "ebb run --out", "ebb run --rma -- ./a --out there"] {
            assert_eq!(out(none), None, "{none}");
        }
    }

    #[test]
    fn a_mistyped_option_is_not_taken_for_a_program() {
        for words in [&["--rma", "32M"][..], &["--rma", "32M", "--", "./a"], &["-x"], &["--rma=3"]] {
            assert!(Cli::try_parse_from([&["ebb", "run"], words].concat()).is_err(), "{words:?}");
        }
    }

    #[test]
    fn without_a_program_the_default_workload_runs() {
        let Command::Run(arguments) = Cli::try_parse_from(["ebb", "run"]).unwrap().command;
        assert_eq!(arguments.argv(), DEFAULT_PROGRAM);
        assert_eq!(arguments.timeout, 600);
    }
}
