//! The command line of `pressure`: one kind and any number of `key=value`.

use super::kinds;
use crate::failure::Failure;
use crate::usage::{self, Command, UsageError};
use crate::working_set::PAGES_PER_MIB;

/// What `--help` prints.
pub const HELP: &str = "\
usage: pressure KIND [key=value ...]

Uses memory in a known pattern and checks everything it reads back. A page is 4 KiB; there are mib*256 of them.

KIND          what its timed run phase does
  seq-write     `passes` read-modify-write passes in order over anonymous pages
  random        `ops` touches, every page equally likely
  zipf          `ops` touches, zipf(0.99) ranks scattered over the pages
  hot-cold      `ops` touches, 90 % of them to a scattered tenth of the pages
  file-scan     `passes` reading passes over a mapped file
  file-write    `ops` read-modify-writes of a mapped, shared, fresh file, then msync
  lazy          reserves `gib` GiB and writes one page in each 4 MiB
  sparse-read   reserves `gib` GiB and reads one page in each 2 MiB, `passes` times: nothing but page tables
  fault         `passes` times: map, write one word per page, unmap
  null-syscall  `ops` getpid calls
  mkfile        writes a fresh file for file-scan and file-write

key           meaning (default)
  mib           size of the working set in MiB (32)
  ops           touches or calls (20000)
  passes        passes (2)
  seed          seed of contents and patterns (1)
  gib           size of the reservation of lazy and sparse-read in GiB (16)
  file          the file of file-scan, file-write and mkfile (/mnt/data)
  order         file-scan, file-write: 0 in order, 1 random (0)
  fill          percent of each page filled with incompressible words (50)
  wr            percent of the touches that write (100)
  shared        file-scan: 1 maps MAP_SHARED instead of MAP_PRIVATE (0)
  huge          0 MADV_NOHUGEPAGE, 1 leave it to the kernel, 2 MADV_HUGEPAGE (1)
  lat           1: also time every touch and print a LATENCY line (0)
  trace         1: touch nothing; write the page numbers to stdout, four bytes each (0)

exit status: 0 all data was right, 1 it was not or a call failed, 2 wrong usage
";

/// What the run phase does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cyclic read-modify-write passes.
    SeqWrite,
    /// Uniform random touches.
    Random,
    /// Zipf-distributed touches.
    Zipf,
    /// Most touches to few pages.
    HotCold,
    /// Reading passes over a mapped file.
    FileScan,
    /// Writing touches of a mapped file.
    FileWrite,
    /// A few touches in a huge reservation.
    Lazy,
    /// Reads of untouched pages, each behind a page table of its own.
    SparseRead,
    /// First touches of fresh mappings.
    Fault,
    /// System calls that do nothing.
    NullSyscall,
    /// A fresh data file.
    MakeFile,
}

impl Kind {
    /// Every kind, in the order of the help.
    pub const ALL: [Self; 11] = [
        Self::SeqWrite,
        Self::Random,
        Self::Zipf,
        Self::HotCold,
        Self::FileScan,
        Self::FileWrite,
        Self::Lazy,
        Self::SparseRead,
        Self::Fault,
        Self::NullSyscall,
        Self::MakeFile,
    ];

    /// The name on the command line and in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeqWrite => "seq-write",
            Self::Random => "random",
            Self::Zipf => "zipf",
            Self::HotCold => "hot-cold",
            Self::FileScan => "file-scan",
            Self::FileWrite => "file-write",
            Self::Lazy => "lazy",
            Self::SparseRead => "sparse-read",
            Self::Fault => "fault",
            Self::NullSyscall => "null-syscall",
            Self::MakeFile => "mkfile",
        }
    }

    /// Whether the kind is a reference string that `trace` can write.
    fn has_trace(self) -> bool {
        !matches!(self, Self::Lazy | Self::SparseRead | Self::Fault | Self::NullSyscall | Self::MakeFile)
    }
}

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the keys are explained in HELP, which is what their users read")]
pub struct Options {
    pub kind: Kind,
    pub file: String,
    pub mib: u64,
    pub ops: u64,
    pub passes: u64,
    pub seed: u64,
    pub gib: u64,
    pub order: u64,
    pub fill: u64,
    pub wr: u64,
    pub shared: u64,
    pub huge: u64,
    pub lat: u64,
    pub trace: u64,
}

impl Options {
    /// The defaults of a kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            file: "/mnt/data".to_owned(),
            mib: 32,
            ops: 20_000,
            passes: 2,
            seed: 1,
            gib: 16,
            order: 0,
            fill: 50,
            wr: 100,
            shared: 0,
            huge: 1,
            lat: 0,
            trace: 0,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), UsageError> {
        // Sizes end where addresses of 47 bits do, so that no product below can overflow.
        let (field, range) = match key {
            "mib" => (&mut self.mib, 1..=1 << 23),
            "ops" => (&mut self.ops, 0..=u64::MAX),
            "passes" => (&mut self.passes, 0..=1 << 30),
            "seed" => (&mut self.seed, 0..=u64::MAX),
            "gib" => (&mut self.gib, 1..=1 << 17),
            "order" => (&mut self.order, 0..=1),
            "fill" => (&mut self.fill, 0..=100),
            "wr" => (&mut self.wr, 0..=100),
            "shared" => (&mut self.shared, 0..=1),
            "huge" => (&mut self.huge, 0..=2),
            "lat" => (&mut self.lat, 0..=1),
            "trace" => (&mut self.trace, 0..=1),
            _ => return Err(UsageError::UnknownKey(key.to_owned())),
        };
        *field = usage::number(key, value, range)?;
        Ok(())
    }

    /// The working set in pages.
    pub fn pages(&self) -> u64 {
        self.mib * PAGES_PER_MIB
    }
}

impl Command for Options {
    const NAME: &'static str = "pressure";
    const HELP: &'static str = HELP;

    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut arguments = arguments.into_iter();
        let mut options = Self::new(usage::kind(Kind::ALL, Kind::name, arguments.next())?);
        for argument in arguments {
            match usage::pair(&argument)? {
                ("file", path) => options.file = path.to_owned(),
                (key, value) => options.set(key, value)?,
            }
        }
        if options.trace == 1 && !options.kind.has_trace() {
            return Err(UsageError::NoTrace(options.kind.name()));
        }
        Ok(options)
    }

    fn kind(&self) -> &'static str {
        self.kind.name()
    }

    fn run(&self) -> Result<(), Failure> {
        kinds::run(self)
    }

    fn writes_data(&self) -> bool {
        self.trace == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, UsageError> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_kind_and_key_of_the_help_is_understood() {
        for kind in Kind::ALL {
            assert!(HELP.contains(&format!("\n  {} ", kind.name())), "{kind:?} in the help");
            assert_eq!(parse(kind.name()), Ok(Options::new(kind)));
        }
        let options =
            parse("zipf mib=3 ops=4 passes=5 seed=6 gib=7 order=1 fill=8 wr=9 shared=1 huge=2 lat=1 trace=1 file=x=y");
        let expected = Options {
            kind: Kind::Zipf,
            file: "x=y".to_owned(),
            mib: 3,
            ops: 4,
            passes: 5,
            seed: 6,
            gib: 7,
            order: 1,
            fill: 8,
            wr: 9,
            shared: 1,
            huge: 2,
            lat: 1,
            trace: 1,
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, message) in [
            ("", "no KIND given; one of seq-write, "),
            ("zip", "unknown kind \"zip\"; it is one of seq-write, "),
            ("zipf 12", "\"12\" is not of the form key=value"),
            ("zipf mb=12", "unknown key \"mb\""),
            ("zipf mib=0", "mib=0: must be a whole number from 1 to 8388608"),
            ("zipf mib=12M", "mib=12M: must be a whole number from 1 to"),
            ("zipf fill=101", "fill=101: must be a whole number from 0 to 100"),
            ("fault trace=1", "fault has no reference string to trace"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.starts_with(message), "{line}: {error}");
        }
    }
}
