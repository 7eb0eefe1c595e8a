//! The command line of `mixes`: one kind and any number of `key=value`.

use super::{btree, mark_sweep, pair, touches, transpose};
use crate::content::Content;
use crate::failure::Failure;
use crate::mapping::{Charge, Mapping};
use crate::usage::{self, Command, UsageError};
use crate::working_set::{self, HugePages, PAGES_PER_MIB, WorkingSet};

/// What `--help` prints.
pub const HELP: &str = "\
usage: mixes KIND [key=value ...]

Works on more memory than there may be RAM, as programs do whose pattern is neither sequential nor random nor of a fixed
popularity, and checks everything it reads back. All memory is anonymous.

KIND          what its timed run phase does (default ops, passes)
  phases        `passes` times: a pass in order over all pages, `ops` random touches of the lower half, `ops` zipf
                touches of the upper half (60000, 2)
  pair          two processes: one touches its hot quarter of the memory at random, `ops` times, the other one goes
                `passes` times through its three quarters in order (3000000, 3)
  shifting      `ops` touches, 90 % of them in a window of three eighths of the pages, which goes once through all
                memory meanwhile (200000, -)
  btree         a B+ tree of 4 KiB nodes with records of 256 bytes, filled in random order: `ops` operations, of which
                50 % look up, 20 % change, 20 % insert and 10 % walk 64 records on (60000, -)
  transpose     transposes a square matrix of words in place, tile by tile, `passes` times (-, 1)
  mark-sweep    a heap of linked objects of 64 bytes to 8 KiB: replaces `ops` times one of 256 structures of them
                (fewer below 14 MiB), collecting garbage by mark and sweep whenever the heap is full (384, -)

key           meaning (default)
  mib           memory worked on in MiB, both processes together (96); mark-sweep needs 2
  ops           operations
  passes        passes
  seed          seed of contents and patterns (1)
  fill          phases, pair, shifting: percent of each page filled with incompressible words (50)
  huge          0 MADV_NOHUGEPAGE, 1 leave it to the kernel, 2 MADV_HUGEPAGE (1)

exit status: 0 all data was right, 1 it was not or a call failed, 2 wrong usage
";

/// What the run phase does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One pattern after the other.
    Phases,
    /// Two processes, one hot and one scanning.
    Pair,
    /// A hot set that moves on.
    Shifting,
    /// A B+ tree.
    BTree,
    /// A matrix transposed in place.
    Transpose,
    /// A garbage-collected heap.
    MarkSweep,
}

impl Kind {
    /// Every kind, in the order of the help.
    pub const ALL: [Self; 6] =
        [Self::Phases, Self::Pair, Self::Shifting, Self::BTree, Self::Transpose, Self::MarkSweep];

    /// The name on the command line and in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phases => "phases",
            Self::Pair => "pair",
            Self::Shifting => "shifting",
            Self::BTree => "btree",
            Self::Transpose => "transpose",
            Self::MarkSweep => "mark-sweep",
        }
    }

    fn default_ops(self) -> u64 {
        match self {
            Self::Phases | Self::BTree => 60_000,
            Self::Pair => 3_000_000,
            Self::Shifting => 200_000,
            Self::Transpose => 0,
            Self::MarkSweep => 384,
        }
    }

    fn default_passes(self) -> u64 {
        match self {
            Self::Pair => 3,
            Self::Transpose => 1,
            _ => 2,
        }
    }
}

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the keys are explained in HELP, which is what their users read")]
pub struct Options {
    pub kind: Kind,
    pub mib: u64,
    pub ops: u64,
    pub passes: u64,
    pub seed: u64,
    pub fill: u64,
    pub huge: u64,
}

impl Options {
    /// The defaults of a kind.
    pub fn new(kind: Kind) -> Self {
        let (ops, passes) = (kind.default_ops(), kind.default_passes());
        Self { kind, mib: 96, ops, passes, seed: 1, fill: 50, huge: 1 }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), UsageError> {
        // The largest objects must not be much of a heap.
        let least_mib = if self.kind == Kind::MarkSweep { 2 } else { 1 };
        // A heap is addressed by 32 bits of word numbers, and no product below may overflow.
        let (field, range) = match key {
            "mib" => (&mut self.mib, least_mib..=1 << 14),
            "ops" => (&mut self.ops, 0..=1 << 32),
            "passes" => (&mut self.passes, 0..=1 << 30),
            "seed" => (&mut self.seed, 0..=u64::MAX),
            "fill" => (&mut self.fill, 0..=100),
            "huge" => (&mut self.huge, 0..=2),
            _ => return Err(UsageError::UnknownKey(key.to_owned())),
        };
        *field = usage::number(key, value, range)?;
        Ok(())
    }

    /// The memory worked on, in pages.
    pub fn pages(&self) -> u64 {
        self.mib * PAGES_PER_MIB
    }

    /// Fresh pages.
    pub(super) fn map(&self, pages: u64, charge: Charge) -> Result<Mapping, Failure> {
        working_set::map_anonymous(pages, charge, HugePages::of(self.huge))
    }

    /// Fresh pages to be touched as wholes.
    pub(super) fn working_set(&self, pages: u64, seed: u64) -> Result<WorkingSet, Failure> {
        Ok(WorkingSet::new(Content::new(seed, self.fill), self.map(pages, Charge::Committed)?, seed))
    }
}

impl Command for Options {
    const NAME: &'static str = "mixes";
    const HELP: &'static str = HELP;

    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut arguments = arguments.into_iter();
        let mut options = Self::new(usage::kind(Kind::ALL, Kind::name, arguments.next())?);
        for argument in arguments {
            let (key, value) = usage::pair(&argument)?;
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn kind(&self) -> &'static str {
        self.kind.name()
    }

    fn run(&self) -> Result<(), Failure> {
        match self.kind {
            Kind::Phases => touches::phases(self),
            Kind::Shifting => touches::shifting(self),
            Kind::Pair => pair::run(self),
            Kind::BTree => btree::run(self),
            Kind::Transpose => transpose::run(self),
            Kind::MarkSweep => mark_sweep::run(self),
        }
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
        let options = parse("btree mib=3 ops=4 passes=5 seed=6 fill=7 huge=2");
        assert_eq!(options, Ok(Options { kind: Kind::BTree, mib: 3, ops: 4, passes: 5, seed: 6, fill: 7, huge: 2 }));
        for wrong in
            ["", "tree", "btree 3", "btree wr=1", "btree mib=0", "btree mib=16385", "pair huge=3", "mark-sweep mib=1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_kind_ends_well_when_it_is_small() {
        for kind in Kind::ALL.into_iter().filter(|&kind| kind != Kind::Pair) {
            for seed in 1..4 {
                let options = Options { mib: 2, ops: 300, seed, ..Options::new(kind) };
                options.run().unwrap_or_else(|failure| panic!("{} seed={seed}: {failure}", kind.name()));
            }
        }
    }
}
