//! What each kind does, phase by phase.
//!
//! Memory of the program itself stays small: no buffer here is larger than a page, because the program has to run in
//! little more memory than it leaves for its working set.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};

use super::options::{Kind, Options};
use super::phase::Phase;
use crate::content::{Content, Corrupt};
use crate::latency::Histogram;
use crate::machine::{getpid, time_stamp};
use crate::mapping::{Advice, Charge, FileView, Mapping, PAGE_SIZE};
use crate::references::{Pattern, References};
use crate::rng::Rng;

/// `lazy` writes one page in this many.
const LAZY_STRIDE: u64 = 1024;
/// `sparse-read` reads one page in this many: what one page table maps.
const TABLE_PAGES: u64 = 512;
const PAGES_PER_GIB: u64 = 1 << 18;

/// Why a run ended badly.
#[derive(Debug)]
pub enum Failure {
    /// A word came back wrong.
    Corrupt(Corrupt),
    /// A page that was never written is not zero.
    NotZero(u64),
    /// Every page is right on its own, but writes got lost or happened twice.
    Versions {
        /// The sum of all pages' versions.
        found: u64,
        /// How many touches wrote.
        writes: u64,
    },
    /// A system call failed.
    System(&'static str, io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(corrupt) => corrupt.fmt(out),
            Self::NotZero(page) => write!(out, "not-zero page={page}"),
            Self::Versions { found, writes } => {
                write!(out, "versions found={found} writes={writes}")
            }
            Self::System(call, error) => write!(out, "{call}: {error}"),
        }
    }
}

impl From<Corrupt> for Failure {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// Runs the workload, printing its lines.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.trace == 1 {
        return write_trace(options).map_err(|error| Failure::System("write", error));
    }
    match options.kind {
        Kind::SeqWrite | Kind::Random | Kind::Zipf | Kind::HotCold => anonymous(options),
        Kind::FileScan => file_scan(options),
        Kind::FileWrite => file_write(options),
        Kind::Lazy => lazy(options),
        Kind::SparseRead => sparse_read(options),
        Kind::Fault => fault(options),
        Kind::NullSyscall => null_syscall(options),
        Kind::MakeFile => make_file(options),
    }
}

/// The run phase's reference string.
fn references(options: &Options) -> References {
    let pages = options.pages();
    let (pattern, length) = match options.kind {
        Kind::SeqWrite => (Pattern::Cyclic, pages * options.passes),
        Kind::FileScan if options.order == 0 => (Pattern::Cyclic, pages * options.passes),
        Kind::FileScan => (Pattern::Uniform, pages * options.passes),
        Kind::FileWrite if options.order == 0 => (Pattern::Cyclic, options.ops),
        Kind::Zipf => (Pattern::zipf(pages), options.ops),
        Kind::HotCold => (Pattern::hot_cold(pages), options.ops),
        _ => (Pattern::Uniform, options.ops),
    };
    References::new(pattern, pages, length)
}

/// Writes the page numbers instead of touching pages; populating comes first, as in a run.
fn write_trace(options: &Options) -> io::Result<()> {
    let mut rng = Rng::new(options.seed);
    let mut references = references(options);
    let mut out = BufWriter::with_capacity(2048, io::stdout().lock());
    if !matches!(options.kind, Kind::FileScan | Kind::FileWrite) {
        for page in 0..options.pages() as u32 {
            out.write_all(&page.to_le_bytes())?;
        }
    }
    while let Some(page) = references.next(&mut rng) {
        out.write_all(&(page as u32).to_le_bytes())?;
    }
    out.flush()
}

/// Pages under test and what is known about them.
struct Workload<'a> {
    options: &'a Options,
    content: Content,
    memory: Mapping,
    rng: Rng,
    writes: u64,
    sum: u64,
}

impl<'a> Workload<'a> {
    fn new(options: &'a Options, memory: Mapping) -> Self {
        let content = Content::new(options.seed, options.fill);
        Self { options, content, memory, rng: Rng::new(options.seed), writes: 0, sum: 0 }
    }

    fn populate(&self) {
        let phase = Phase::Populate.begin();
        for page in 0..self.options.pages() {
            self.content.write(page, self.memory.page_to_write(page as usize));
        }
        phase.end(self.options.kind, self.options.pages(), self.sum);
    }

    /// Touches every referenced page; `wr` percent of the touches write.
    fn touch_all(
        &mut self,
        references: &mut References,
        wr: u64,
        histogram: &mut Option<Histogram>,
    ) -> Result<(), Failure> {
        while let Some(page) = references.next(&mut self.rng) {
            let start = histogram.as_ref().map(|_| time_stamp());
            let tag = self.content.check(page, self.memory.page(page as usize))?;
            if wr >= 100 || self.rng.percent(wr) {
                self.content.bump(self.memory.page_to_write(page as usize));
                self.writes += 1;
            }
            self.sum = self.sum.wrapping_mul(31).wrapping_add(tag);
            if let (Some(histogram), Some(start)) = (histogram.as_mut(), start) {
                histogram.add(time_stamp() - start);
            }
        }
        Ok(())
    }

    /// The run phase; `finish` is work that belongs to it.
    fn run(&mut self, wr: u64, finish: impl FnOnce(&Mapping) -> io::Result<()>) -> Result<(), Failure> {
        let mut references = references(self.options);
        let mut histogram = (self.options.lat == 1).then(Histogram::default);
        let phase = Phase::Run.begin();
        self.touch_all(&mut references, wr, &mut histogram)?;
        finish(&self.memory).map_err(|error| Failure::System("msync", error))?;
        phase.end(self.options.kind, references.length(), self.sum);
        if let Some(histogram) = histogram {
            println!("LATENCY kind={} unit=tsc {histogram}", self.options.kind.name());
        }
        Ok(())
    }

    /// The same workload over another mapping, made after the present one is gone.
    fn remapped(self, map: impl FnOnce() -> Result<Mapping, Failure>) -> Result<Self, Failure> {
        drop(self.memory);
        Ok(Self { memory: map()?, ..self })
    }

    fn verify(&self) -> Result<(), Failure> {
        let mut found = 0_u64;
        let phase = Phase::Verify.begin();
        for page in 0..self.options.pages() {
            found = found.wrapping_add(self.content.verify(page, self.memory.page(page as usize))?);
        }
        phase.end(self.options.kind, self.options.pages(), self.sum);
        if found == self.writes { Ok(()) } else { Err(Failure::Versions { found, writes: self.writes }) }
    }
}

fn map_anonymous(options: &Options, pages: u64, charge: Charge) -> Result<Mapping, Failure> {
    let memory = Mapping::anonymous(pages, charge).map_err(|error| Failure::System("mmap", error))?;
    let advised = match options.huge {
        0 => memory.advise(Advice::SmallPages),
        2 => memory.advise(Advice::HugePages),
        _ => Ok(()),
    };
    // A kernel without huge pages may say so; that is no reason to end.
    if let Err(error) = advised {
        eprintln!("pressure: huge={} ignored: {error}", options.huge);
    }
    Ok(memory)
}

fn map_file(options: &Options, view: FileView) -> Result<Mapping, Failure> {
    let file = OpenOptions::new().read(true).write(view == FileView::WriteShared).open(&options.file);
    let file = file.map_err(|error| Failure::System("open", error))?;
    let length = file.metadata().map_err(|error| Failure::System("fstat", error))?.len();
    if length < options.pages() * PAGE_SIZE as u64 {
        let short = io::Error::other(format!("{} has {length} bytes, fewer than mib={}", options.file, options.mib));
        return Err(Failure::System("fstat", short));
    }
    Mapping::file(&file, options.pages(), view).map_err(|error| Failure::System("mmap", error))
}

fn anonymous(options: &Options) -> Result<(), Failure> {
    let mut workload = Workload::new(options, map_anonymous(options, options.pages(), Charge::Committed)?);
    workload.populate();
    workload.run(options.wr, |_| Ok(()))?;
    workload.verify()
}

fn file_scan(options: &Options) -> Result<(), Failure> {
    let view = if options.shared == 1 { FileView::ReadShared } else { FileView::ReadPrivate };
    let mut workload = Workload::new(options, map_file(options, view)?);
    workload.run(0, |_| Ok(()))?;
    workload.verify()
}

fn file_write(options: &Options) -> Result<(), Failure> {
    let mut workload = Workload::new(options, map_file(options, FileView::WriteShared)?);
    workload.run(options.wr, Mapping::sync)?;
    // What is verified came through the file.
    workload.remapped(|| map_file(options, FileView::ReadShared))?.verify()
}

fn lazy(options: &Options) -> Result<(), Failure> {
    let count = options.gib * PAGES_PER_GIB / LAZY_STRIDE;
    let content = Content::new(options.seed, options.fill);
    Phase::Populate.mark_begin();
    let memory = map_anonymous(options, options.gib * PAGES_PER_GIB, Charge::Reserved)?;
    let page = |index: u64| (index * LAZY_STRIDE) as usize;

    let phase = Phase::Run.begin();
    for index in 0..count {
        memory.page_to_write(page(index)).write(0, content.tag(index));
    }
    phase.end(options.kind, count, 0);

    let phase = Phase::Verify.begin();
    for index in 0..count {
        let (expected, found) = (content.tag(index), memory.page(page(index)).read(0));
        if found != expected {
            let part = crate::content::Part::Tag;
            return Err(Corrupt { page: index, word: 0, part, expected, found }.into());
        }
        if index % 16 == 0 && memory.page(page(index) + 1).read(0) != 0 {
            return Err(Failure::NotZero(index * LAZY_STRIDE + 1));
        }
    }
    phase.end(options.kind, count, 0);
    Ok(())
}

fn sparse_read(options: &Options) -> Result<(), Failure> {
    let count = options.gib * PAGES_PER_GIB / TABLE_PAGES;
    let memory = map_anonymous(options, options.gib * PAGES_PER_GIB, Charge::Reserved)?;
    let phase = Phase::Run.begin();
    for _ in 0..options.passes {
        for index in 0..count {
            // Not always the same page of the table.
            let page = index * TABLE_PAGES + index % TABLE_PAGES;
            if memory.page(page as usize).read(0) != 0 {
                return Err(Failure::NotZero(page));
            }
        }
    }
    phase.end(options.kind, count * options.passes, 0);
    Ok(())
}

fn fault(options: &Options) -> Result<(), Failure> {
    let phase = Phase::Run.begin();
    for _ in 0..options.passes {
        let memory = map_anonymous(options, options.pages(), Charge::Committed)?;
        for page in 0..memory.pages() {
            memory.page_to_write(page).write(0, page as u64);
        }
    }
    phase.end(options.kind, options.pages() * options.passes, 0);
    Ok(())
}

fn null_syscall(options: &Options) -> Result<(), Failure> {
    let phase = Phase::Run.begin();
    for _ in 0..options.ops {
        getpid();
    }
    phase.end(options.kind, options.ops, 0);
    Ok(())
}

fn make_file(options: &Options) -> Result<(), Failure> {
    let content = Content::new(options.seed, options.fill);
    let mut file = File::create(&options.file).map_err(|error| Failure::System("open", error))?;
    let mut bytes = [0; PAGE_SIZE];
    for page in 0..options.pages() {
        content.bytes(page, &mut bytes);
        file.write_all(&bytes).map_err(|error| Failure::System("write", error))?;
    }
    Ok(())
}
