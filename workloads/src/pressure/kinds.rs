//! What each kind does, phase by phase.
//!
//! Memory of the program itself stays small: no buffer here is larger than a page, because the program has to run in
//! little more memory than it leaves for its working set.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};

use super::options::{Kind, Options};
use crate::content::{Content, Corrupt};
use crate::failure::Failure;
use crate::latency::Histogram;
use crate::machine::{getpid, time_stamp};
use crate::mapping::{Charge, FileView, Mapping, PAGE_SIZE};
use crate::phase::Phase;
use crate::references::{Pattern, References};
use crate::rng::Rng;
use crate::working_set::{HugePages, WorkingSet, map_anonymous};

/// `lazy` writes one page in this many.
const LAZY_STRIDE: u64 = 1024;
/// `sparse-read` reads one page in this many: what one page table maps.
const TABLE_PAGES: u64 = 512;
const PAGES_PER_GIB: u64 = 1 << 18;
/// How often, at most, the resident pages are counted in a run phase over a working set.
const SAMPLES: u64 = 16;

/// Runs the workload, printing its lines.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.trace == 1 {
        return write_trace(options).map_err(Failure::of("write"));
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

/// The run phase over a working set; `finish` is work that belongs to it.
fn run_phase(
    options: &Options,
    set: &mut WorkingSet,
    wr: u64,
    finish: impl FnOnce(&Mapping) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut references = references(options);
    let mut histogram = (options.lat == 1).then(Histogram::default);
    let between_samples = references.length().div_ceil(SAMPLES);
    let mut phase = Phase::Run.begin();
    while let Some(page) = references.next(set.rng()) {
        if references.done().is_multiple_of(between_samples) {
            phase.sample_resident();
        }
        let start = histogram.as_ref().map(|_| time_stamp());
        set.touch(page, wr)?;
        if let (Some(histogram), Some(start)) = (histogram.as_mut(), start) {
            histogram.add(time_stamp() - start);
        }
    }
    finish(set.memory()).map_err(Failure::of("msync"))?;
    phase.end(options.kind.name(), references.length(), set.sum());
    if let Some(histogram) = histogram {
        println!("LATENCY kind={} unit=tsc {histogram}", options.kind.name());
    }
    Ok(())
}

fn working_set(options: &Options, memory: Mapping) -> WorkingSet {
    WorkingSet::new(Content::new(options.seed, options.fill), memory, options.seed)
}

fn map_fresh(options: &Options, pages: u64, charge: Charge) -> Result<Mapping, Failure> {
    map_anonymous(pages, charge, HugePages::of(options.huge))
}

fn map_file(options: &Options, view: FileView) -> Result<Mapping, Failure> {
    let file = OpenOptions::new().read(true).write(view == FileView::WriteShared).open(&options.file);
    let file = file.map_err(Failure::of("open"))?;
    let length = file.metadata().map_err(Failure::of("fstat"))?.len();
    if length < options.pages() * PAGE_SIZE as u64 {
        let short = io::Error::other(format!("{} has {length} bytes, fewer than mib={}", options.file, options.mib));
        return Err(Failure::System("fstat", short));
    }
    Mapping::file(&file, options.pages(), view).map_err(Failure::of("mmap"))
}

fn anonymous(options: &Options) -> Result<(), Failure> {
    let mut set = working_set(options, map_fresh(options, options.pages(), Charge::Committed)?);
    set.populate(options.kind.name());
    run_phase(options, &mut set, options.wr, |_| Ok(()))?;
    set.verify(options.kind.name())
}

fn file_scan(options: &Options) -> Result<(), Failure> {
    let view = if options.shared == 1 { FileView::ReadShared } else { FileView::ReadPrivate };
    let mut set = working_set(options, map_file(options, view)?);
    run_phase(options, &mut set, 0, |_| Ok(()))?;
    set.verify(options.kind.name())
}

fn file_write(options: &Options) -> Result<(), Failure> {
    let mut set = working_set(options, map_file(options, FileView::WriteShared)?);
    run_phase(options, &mut set, options.wr, Mapping::sync)?;
    // What is verified came through the file.
    set.remapped(|| map_file(options, FileView::ReadShared))?.verify(options.kind.name())
}

fn lazy(options: &Options) -> Result<(), Failure> {
    let count = options.gib * PAGES_PER_GIB / LAZY_STRIDE;
    let content = Content::new(options.seed, options.fill);
    Phase::Populate.mark_begin();
    let memory = map_fresh(options, options.gib * PAGES_PER_GIB, Charge::Reserved)?;
    let page = |index: u64| (index * LAZY_STRIDE) as usize;

    let phase = Phase::Run.begin();
    for index in 0..count {
        memory.page_to_write(page(index)).write(0, content.tag(index));
    }
    phase.end(options.kind.name(), count, 0);

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
    phase.end(options.kind.name(), count, 0);
    Ok(())
}

fn sparse_read(options: &Options) -> Result<(), Failure> {
    let count = options.gib * PAGES_PER_GIB / TABLE_PAGES;
    let memory = map_fresh(options, options.gib * PAGES_PER_GIB, Charge::Reserved)?;
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
    phase.end(options.kind.name(), count * options.passes, 0);
    Ok(())
}

fn fault(options: &Options) -> Result<(), Failure> {
    let phase = Phase::Run.begin();
    for _ in 0..options.passes {
        let memory = map_fresh(options, options.pages(), Charge::Committed)?;
        for page in 0..memory.pages() {
            memory.page_to_write(page).write(0, page as u64);
        }
    }
    phase.end(options.kind.name(), options.pages() * options.passes, 0);
    Ok(())
}

fn null_syscall(options: &Options) -> Result<(), Failure> {
    let phase = Phase::Run.begin();
    for _ in 0..options.ops {
        getpid();
    }
    phase.end(options.kind.name(), options.ops, 0);
    Ok(())
}

fn make_file(options: &Options) -> Result<(), Failure> {
    let content = Content::new(options.seed, options.fill);
    let mut file = File::create(&options.file).map_err(Failure::of("open"))?;
    let mut bytes = [0; PAGE_SIZE];
    for page in 0..options.pages() {
        content.bytes(page, &mut bytes);
        file.write_all(&bytes).map_err(Failure::of("write"))?;
    }
    Ok(())
}
