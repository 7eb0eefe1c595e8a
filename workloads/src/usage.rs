//! What programs with several kinds of workload have in common: `PROGRAM KIND [key=value …]`, the words for a command line
//! that is wrong, and how such a program ends.
//!
//! Owns the messages and the exit statuses. Which kinds and keys there are is each program's `options`. The small
//! programs, which have no kinds, use `arguments`.

use std::fmt;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use crate::failure::Failure;

/// Why a command line was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// No kind was given.
    NoKind {
        /// What it may be.
        kinds: Vec<&'static str>,
    },
    /// The first argument is no kind.
    UnknownKind {
        /// What was given.
        given: String,
        /// What it may be.
        kinds: Vec<&'static str>,
    },
    /// An argument is no `key=value`.
    NotAPair(String),
    /// There is no such key.
    UnknownKey(String),
    /// A value is not a number, or outside its range.
    BadValue {
        /// The key.
        key: String,
        /// What was given for it.
        value: String,
        /// What it may be.
        range: RangeInclusive<u64>,
    },
    /// `trace=1` for a kind without a reference string.
    NoTrace(&'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKind { kinds } => write!(out, "no KIND given; one of {}", kinds.join(", ")),
            Self::UnknownKind { given, kinds } => {
                write!(out, "unknown kind {given:?}; it is one of {}", kinds.join(", "))
            }
            Self::NotAPair(argument) => write!(out, "{argument:?} is not of the form key=value"),
            Self::UnknownKey(key) => write!(out, "unknown key {key:?}; --help lists them"),
            Self::BadValue { key, value, range } => {
                write!(out, "{key}={value}: must be a whole number from {} to {}", range.start(), range.end())
            }
            Self::NoTrace(kind) => write!(out, "{kind} has no reference string to trace"),
        }
    }
}

/// The kind that the first argument names.
pub fn kind<K: Copy, const N: usize>(
    all: [K; N],
    name: fn(K) -> &'static str,
    given: Option<String>,
) -> Result<K, UsageError> {
    let kinds = || all.map(name).to_vec();
    let given = given.ok_or_else(|| UsageError::NoKind { kinds: kinds() })?;
    let found = all.into_iter().find(|&kind| name(kind) == given);
    found.ok_or_else(|| UsageError::UnknownKind { given, kinds: kinds() })
}

/// The two halves of a `key=value`.
pub fn pair(argument: &str) -> Result<(&str, &str), UsageError> {
    argument.split_once('=').ok_or_else(|| UsageError::NotAPair(argument.to_owned()))
}

/// The number given for a key.
pub fn number(key: &str, value: &str, range: RangeInclusive<u64>) -> Result<u64, UsageError> {
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(UsageError::BadValue { key: key.to_owned(), value: value.to_owned(), range }),
    }
}

/// A program of this sort: its understood command line.
pub trait Command: Sized {
    /// The program's name.
    const NAME: &'static str;
    /// What `--help` prints.
    const HELP: &'static str;

    /// Reads the arguments after the program's name.
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError>;

    /// The name of the kind.
    fn kind(&self) -> &'static str;

    /// Runs the workload, printing its lines.
    fn run(&self) -> Result<(), Failure>;

    /// Whether the output is data that somebody asked for, and not lines.
    fn writes_data(&self) -> bool {
        false
    }
}

/// The whole program. Exit status: 0 all data was right, 1 it was not or a call failed, 2 wrong usage.
pub fn main<C: Command>() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", C::HELP);
        return ExitCode::SUCCESS;
    }
    let command = match C::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{name}: {error}\ntry: {name} --help", name = C::NAME);
            return ExitCode::from(2);
        }
    };
    let kind = command.kind();
    match command.run() {
        Ok(()) => {
            if !command.writes_data() {
                println!("OK {kind}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAIL {kind} {failure}");
            ExitCode::FAILURE
        }
    }
}
