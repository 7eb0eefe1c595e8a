//! The kernel command line: `[option…] -- [argv0 argument…]`.
//!
//! Owns: splitting into words, the options, and saying what is wrong with them. Pure: no other module of the kernel is used, so the
//! `tests` crate includes this file and tests it on the host. A word may be put in double quotes; inside them `\"` and `\\`
//! stand for `"` and `\`. That is what `ebb` produces, so any argument passes unchanged.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// How the machine ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitMode {
    /// By powering off.
    #[default]
    PowerOff,
    /// `exit=debug`: through QEMU's `isa-debug-exit`, with a status.
    Debug,
}

/// Where telemetry and log go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telemetry {
    /// No telemetry; the log goes to the console.
    #[default]
    Off,
    /// `telemetry=com2`: both go to the second serial port.
    Com2,
}

/// Where the program's standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// Nowhere: it is at its end.
    #[default]
    Empty,
    /// `stdin=com1`: the first serial port.
    Com1,
}

/// How much the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What ends something.
    Error,
    /// What somebody should look into.
    Warn,
    /// What happens once or now and then.
    Info,
    /// What helps to find a mistake.
    Debug,
    /// Everything.
    Trace,
}

/// Whether what is written to swap can be read from the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrecy {
    /// As it is.
    #[default]
    Plain,
    /// `swap.encrypt=on`: not without the key of this boot.
    Encrypted,
}

/// Whether pages are compressed and kept in RAM before they are written to swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// They are written as they are.
    #[default]
    Off,
    /// `swap.compress=on`: those that get smaller.
    On,
    /// `swap.compress=auto`: while that pays.
    Auto,
}

/// Whether the swap disk is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swap {
    /// If there is one.
    #[default]
    Auto,
    /// `swap=off`: not even then.
    Off,
}

/// What becomes of the boot module once its program has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Module {
    /// Its memory is given back.
    #[default]
    Free,
    /// `module=keep`: it stays, so that programs can execute it again.
    Keep,
}

/// Whether more memory may be promised than there is: the numbers of Linux' `vm.overcommit_memory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promises {
    /// `mm.overcommit=1`: anything.
    #[default]
    Any,
    /// `mm.overcommit=0`: no single mapping larger than RAM and swap.
    Plausible,
    /// `mm.overcommit=2`: no more than swap and half of RAM, all together.
    Kept,
}

/// Whether every opportunity to evict is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Torture {
    /// No: as memory demands.
    #[default]
    Off,
    /// `mm.torture`: yes.
    On,
}

/// Whether programs that can stand anywhere stand somewhere else each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aslr {
    /// No: runs repeat to the address.
    #[default]
    Off,
    /// `aslr=on`: yes.
    On,
}

/// What the kernel checks of itself before the first program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// The page attribute table is the constant, and its indices decode to what they were made from.
    Pat,
    /// Device registers are uncached, outside RAM, and leave an empty entry behind.
    Mmio,
    /// What is mapped is what the layout allows.
    Layout,
    /// What is mapped late is seen from address spaces made early.
    UpperHalf,
    /// Segments are flat.
    Segments,
    /// Every frame can be had, once, and all of them lie in RAM that is ours.
    MemMap,
    /// Every frame has an owner, and the owners add up.
    Pages,
    /// The page tables of programs keep the contract that the simulator's keep.
    PageTables,
    /// The heap has large blocks when no two free frames are neighbours.
    Scattered,
}

impl SelfTest {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 9] = [
        ("pat", Self::Pat),
        ("mmio", Self::Mmio),
        ("layout", Self::Layout),
        ("upper-half", Self::UpperHalf),
        ("segments", Self::Segments),
        ("memmap", Self::MemMap),
        ("pages", Self::Pages),
        ("page-tables", Self::PageTables),
        ("scattered", Self::Scattered),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(its, _)| *its == name).map(|(_, test)| *test)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, test)| *test == self).map_or("", |(name, _)| name)
    }
}

/// How frame allocations that are made to fail go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Others succeed: the `first`-th after the program's start fails, then the next number after that, to `last`.
    Once,
    /// So do all that follow, until a child of the first program is gone: with its first child the `first`-th from there, then the next.
    ForGood,
}

/// Which frame allocations are made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailFrame {
    /// How many allocations until the first failure, that one included.
    pub first: u32,
    /// How many until the last, counted from the one before.
    pub last: u32,
    /// And others.
    pub failing: Failing,
}

impl FailFrame {
    /// `N` or `FIRST..LAST`, and before it `children:` if they are to fail for good.
    fn parse(text: &str) -> Option<Self> {
        let (failing, text) = match text.strip_prefix("children:") {
            Some(text) => (Failing::ForGood, text),
            None => (Failing::Once, text),
        };
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (0 < first && first <= last).then_some(Self { first, last, failing })
    }
}

/// The command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `exit=`.
    pub exit: ExitMode,
    /// `telemetry=`.
    pub telemetry: Telemetry,
    /// `stdin=`.
    pub stdin: Stdin,
    /// `log=`; without it, what fits the kind of telemetry.
    pub log: Level,
    /// `init=`: the program's path on the data disk.
    pub init: Option<String>,
    /// `mm.torture`.
    pub torture: Torture,
    /// `mm.overcommit=`.
    pub promises: Promises,
    /// `aslr=`.
    pub aslr: Aslr,
    /// `swap=`.
    pub swap: Swap,
    /// `swap.encrypt=`.
    pub secrecy: Secrecy,
    /// `swap.compress=`.
    pub compress: Compress,
    /// `module=`.
    pub module: Module,
    /// `snapshot_ms=`: time between telemetry snapshots.
    pub snapshot_ms: u64,
    /// `disk_timeout_ms=`: time after which a request that a disk has not answered is called late.
    pub disk_timeout_ms: u64,
    /// `fail_frame=`.
    pub fail_frame: Option<FailFrame>,
    /// `selftest=`, in order.
    pub selftests: Vec<SelfTest>,
    /// `env=NAME=VALUE`, in order: the program's environment.
    pub env: Vec<String>,
    /// `beside=WORDS`: programs from the same file that run beside the first one, each by its arguments.
    pub beside: Vec<Vec<String>>,
    /// The words after `--`: the program's arguments, its own name first.
    pub argv: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            exit: ExitMode::default(),
            telemetry: Telemetry::default(),
            stdin: Stdin::default(),
            log: Level::Warn,
            init: None,
            torture: Torture::default(),
            promises: Promises::default(),
            aslr: Aslr::default(),
            swap: Swap::default(),
            secrecy: Secrecy::default(),
            compress: Compress::default(),
            module: Module::default(),
            snapshot_ms: 250,
            disk_timeout_ms: 30_000,
            fail_frame: None,
            selftests: Vec::new(),
            env: Vec::new(),
            beside: Vec::new(),
            argv: Vec::new(),
        }
    }
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not text.
    NotUtf8,
    /// A quote that was opened is not closed.
    OpenQuote,
    /// There is no such option.
    Unknown(String),
    /// The option exists, but not with this value; and what it takes.
    BadValue(String, &'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the kernel command line is not valid UTF-8"),
            Self::OpenQuote => f.write_str("the kernel command line has a double quote without its partner"),
            Self::Unknown(option) => write!(f, "unknown kernel option \"{option}\""),
            Self::BadValue(option, takes) => {
                write!(f, "the value is not valid in kernel option \"{option}\": it takes {takes}")
            }
        }
    }
}

impl core::error::Error for Refusal {}

impl Options {
    /// Understands a command line. On refusal, what was understood up to there comes along: it says where to report the refusal.
    #[expect(clippy::result_large_err, reason = "called once; the options are wanted either way")]
    pub fn parse(line: &[u8]) -> Result<Self, (Refusal, Self)> {
        let mut options = Self::default();
        match options.read(line) {
            Ok(()) => Ok(options),
            Err(refusal) => Err((refusal, options)),
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let line = core::str::from_utf8(line).map_err(|_| Refusal::NotUtf8)?;
        let words = split(line)?;
        let end = words.iter().position(|word| *word == Word::separator());
        let (options, argv) = words.split_at(end.unwrap_or(words.len()));
        self.argv = argv.iter().skip(1).map(|word| word.text.clone()).collect();
        let mut log = None;
        // Where to report comes first, so that a refusal of any other option is reported there.
        let reporting = |word: &&Word| word.text.starts_with("exit=") || word.text.starts_with("telemetry=");
        let (first, rest): (Vec<_>, Vec<_>) = options.iter().partition(reporting);
        for word in first.into_iter().chain(rest) {
            self.set(&word.text, &mut log)?;
        }
        self.log = log.unwrap_or(match self.telemetry {
            Telemetry::Off => Level::Warn,
            Telemetry::Com2 => Level::Info,
        });
        Ok(())
    }

    fn set(&mut self, option: &str, log: &mut Option<Level>) -> Result<(), Refusal> {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let bad = || match takes(name) {
            Some(takes) => Refusal::BadValue(option.to_owned(), takes),
            None => Refusal::Unknown(option.to_owned()),
        };
        match (name, value) {
            ("exit", Some("debug")) => self.exit = ExitMode::Debug,
            ("telemetry", Some("com2")) => self.telemetry = Telemetry::Com2,
            ("stdin", Some("com1")) => self.stdin = Stdin::Com1,
            ("log", Some(level)) => *log = Some(parse_level(level).ok_or_else(bad)?),
            ("init", Some(path)) if !path.is_empty() => self.init = Some(path.to_owned()),
            ("mm.torture", None) => self.torture = Torture::On,
            ("mm.overcommit", Some("0")) => self.promises = Promises::Plausible,
            ("mm.overcommit", Some("1")) => self.promises = Promises::Any,
            ("mm.overcommit", Some("2")) => self.promises = Promises::Kept,
            ("aslr", Some("on")) => self.aslr = Aslr::On,
            ("aslr", Some("off")) => self.aslr = Aslr::Off,
            ("swap", Some("off")) => self.swap = Swap::Off,
            ("swap.encrypt", Some("on")) => self.secrecy = Secrecy::Encrypted,
            ("swap.encrypt", Some("off")) => self.secrecy = Secrecy::Plain,
            ("swap.compress", Some("on")) => self.compress = Compress::On,
            ("swap.compress", Some("auto")) => self.compress = Compress::Auto,
            ("swap.compress", Some("off")) => self.compress = Compress::Off,
            ("module", Some("keep")) => self.module = Module::Keep,
            ("snapshot_ms", Some(number)) => {
                self.snapshot_ms = number.parse().ok().filter(|&number| number > 0).ok_or_else(bad)?;
            }
            ("disk_timeout_ms", Some(number)) => {
                self.disk_timeout_ms = number.parse().ok().filter(|&number| number > 0).ok_or_else(bad)?;
            }
            ("fail_frame", Some(text)) => self.fail_frame = Some(FailFrame::parse(text).ok_or_else(bad)?),
            ("selftest", Some("all")) => self.selftests.extend(SelfTest::ALL.map(|(_, test)| test)),
            ("selftest", Some(name)) => self.selftests.push(SelfTest::parse(name).ok_or_else(bad)?),
            ("env", Some(pair)) if pair.find('=').is_some_and(|at| at > 0) => self.env.push(pair.to_owned()),
            ("beside", Some(words)) if !words.trim().is_empty() => {
                self.beside.push(words.split_whitespace().map(str::to_owned).collect());
            }
            _ => return Err(bad()),
        }
        Ok(())
    }
}

/// What the value of an option may be; nothing if there is no such option.
fn takes(option: &str) -> Option<&'static str> {
    Some(match option {
        "exit" => "debug",
        "telemetry" => "com2",
        "stdin" => "com1",
        "log" => "error, warn, info, debug or trace",
        "init" => "the path of a program on the data disk",
        "mm.torture" => "no value",
        "mm.overcommit" => "0, 1 or 2",
        "aslr" | "swap.encrypt" => "on or off",
        "swap" => "off",
        "swap.compress" => "on, off or auto",
        "module" => "keep",
        "snapshot_ms" | "disk_timeout_ms" => "a number of milliseconds, 1 or more",
        "fail_frame" => "N or FIRST..LAST, from 1 up, or either of them after children:",
        "selftest" => "pat, mmio, layout, upper-half, segments, memmap, pages, page-tables, scattered or all",
        "env" => "NAME=VALUE",
        "beside" => "the arguments of a program",
        _ => return None,
    })
}

fn parse_level(name: &str) -> Option<Level> {
    Some(match name {
        "error" => Level::Error,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => return None,
    })
}

/// A word, and whether any part of it was in quotes: a quoted `--` is a word like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
}

impl Word {
    fn separator() -> Self {
        Self { text: "--".to_owned(), quoted: false }
    }
}

fn split(line: &str) -> Result<Vec<Word>, Refusal> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut inside = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if !inside && character.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word { text: String::new(), quoted: false });
        match character {
            '"' => {
                inside = !inside;
                word.quoted = true;
            }
            '\\' if inside => word.text.push(characters.next().ok_or(Refusal::OpenQuote)?),
            character => word.text.push(character),
        }
    }
    if inside {
        return Err(Refusal::OpenQuote);
    }
    words.extend(word);
    Ok(words)
}
