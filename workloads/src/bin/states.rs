//! Claim (M1, M2): mapped pages are uncommitted until first touched, then committed clean or dirty, then paged out, and
//! the kernel's four counts say so to the page at every step.
//!
//! Every step is judged by the difference it makes, so what else there is does not matter as long as it does not move:
//! a rehearsal on a few pages touches all code, stack and buffers beforehand, and again after the pressure, which may have
//! paged them out; and the counts are read twice before each step. Where the kernel decides (how much is paged out under
//! pressure) only sums are claimed.

use std::fmt;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use workloads::claim::Claims;
use workloads::content::Content;
use workloads::mapping::{Advice, Charge, Mapping};
use workloads::page_counts::{PageCounts, Source};

const PAGES_PER_MIB: u64 = 256;

/// What a step must do to the counts.
#[derive(Clone, Copy)]
enum Expected {
    /// Exactly this.
    Exactly(PageCounts),
    /// Exactly this much uncommitted, and this much in sum over the other states.
    Sums { uncommitted: i64, touched: i64 },
    /// Nothing but clean pages coming back from disk.
    PagedIn,
    /// Nothing but clean pages becoming dirty.
    Dirtied,
}

impl Expected {
    fn is_met_by(self, change: PageCounts, knows_dirty: bool) -> bool {
        let still = change.uncommitted == 0 && change.touched() == 0;
        match self {
            Self::Exactly(expected) if knows_dirty => change == expected,
            Self::Exactly(expected) => {
                change.uncommitted == expected.uncommitted
                    && change.paged_out == expected.paged_out
                    && change.touched() == expected.touched()
            }
            Self::Sums { uncommitted, touched } => change.uncommitted == uncommitted && change.touched() == touched,
            Self::PagedIn => still && change.paged_out <= 0 && (change.dirty == 0 || !knows_dirty),
            Self::Dirtied => still && change.paged_out == 0 && change.dirty >= 0,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(expected) => expected.fmt(out),
            Self::Sums { uncommitted, touched } => write!(out, "uncommitted={uncommitted:+} touched={touched:+}"),
            Self::PagedIn => write!(out, "uncommitted=+0 touched=+0 committed_dirty=+0 paged_out<=0"),
            Self::Dirtied => write!(out, "uncommitted=+0 touched=+0 committed_dirty>=0 paged_out=+0"),
        }
    }
}

/// What a run through all steps is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To touch what the program itself needs; what it finds does not count.
    Rehearsal,
    /// To claim.
    Performance,
}

/// Pages of a rehearsal.
const FEW: i64 = 64;

/// One run through all steps.
struct Run<'a> {
    purpose: Purpose,
    claims: &'a mut Claims,
    source: &'a Source,
    content: Content,
    pause: Duration,
    first: Option<Mapping>,
    second: Option<Mapping>,
    step: u32,
    paged_out_most: i64,
}

impl<'a> Run<'a> {
    fn new(purpose: Purpose, claims: &'a mut Claims, source: &'a Source, pause: Duration) -> Self {
        let content = Content::new(1, 50);
        Self { purpose, claims, source, content, pause, first: None, second: None, step: 0, paged_out_most: 0 }
    }

    fn rehearse(source: &Source) {
        let mut claims = Claims::new("rehearsal");
        Run::new(Purpose::Rehearsal, &mut claims, source, Duration::from_millis(1)).all_steps(FEW, FEW);
    }

    /// Does a step and claims what it did to the counts.
    fn step(&mut self, name: &str, expected: Expected, action: impl FnOnce(&mut Self)) {
        let before = self.settled();
        action(self);
        let change = self.settled() - before;
        if self.purpose == Purpose::Rehearsal {
            return;
        }
        self.step += 1;
        println!("STEP {} {name} {change} expected {expected}", self.step);
        self.claims.holds(format_args!("step {name}: {change}"), expected.is_met_by(change, self.source.knows_dirty()));
        self.paged_out_most = self.paged_out_most.max(change.paged_out);
    }

    /// The counts once they stand still: what the kernel has in flight settles meanwhile, however slow the host is.
    fn settled(&self) -> PageCounts {
        /// A machine whose counts never stand still is wrong as it is.
        const MOST: usize = 100;
        let mut last = self.read();
        for _ in 0..MOST {
            sleep(self.pause);
            let now = self.read();
            if now == last {
                break;
            }
            last = now;
        }
        last
    }

    fn read(&self) -> PageCounts {
        self.source.read([self.first.as_ref(), self.second.as_ref()]).expect("the kernel's counts")
    }

    fn map(pages: i64) -> Option<Mapping> {
        let memory = Mapping::anonymous(pages as u64, Charge::Reserved).expect("mmap");
        // Refused by a kernel without huge pages, which is as good.
        let _ = memory.advise(Advice::SmallPages);
        Some(memory)
    }

    fn first(&self) -> &Mapping {
        self.first.as_ref().expect("mapped by the first step")
    }

    fn write(&self, memory: &Mapping, pages: i64) {
        for page in 0..pages as usize {
            self.content.write(page as u64, memory.page_to_write(page));
        }
    }

    /// Reads pages that were never written; returns how many are not zero.
    fn not_zero(&self, from: i64, to: i64) -> usize {
        (from as usize..to as usize).filter(|&page| self.first().page(page).read(page % 512) != 0).count()
    }

    /// Reads written pages back; returns how many are wrong.
    fn wrong(&self, pages: i64) -> usize {
        (0..pages as usize).filter(|&page| self.content.verify(page as u64, self.first().page(page)).is_err()).count()
    }

    fn all_steps(&mut self, pages: i64, pressure: i64) {
        use Expected::{Dirtied, Exactly, PagedIn, Sums};
        let counts = |uncommitted, clean, dirty| Exactly(PageCounts { uncommitted, clean, dirty, paged_out: 0 });
        let (half, looked, quarter) = (pages / 2, pages / 16, pages / 4);

        self.step("map", counts(pages, 0, 0), |run| run.first = Self::map(pages));
        self.step("write-half", counts(-half, 0, half), |run| run.write(run.first(), half));
        let mut not_zero = 0;
        self.step("read-untouched", counts(-looked, looked, 0), |run| not_zero += run.not_zero(half, half + looked));

        self.step("map-pressure", counts(pressure, 0, 0), |run| run.second = Self::map(pressure));
        self.step("write-pressure", Sums { uncommitted: -pressure, touched: pressure }, |run| {
            run.write(run.second.as_ref().expect("mapped"), pressure);
        });
        self.step("unmap-pressure", Sums { uncommitted: 0, touched: -pressure }, |run| run.second = None);

        if self.purpose == Purpose::Performance {
            Self::rehearse(self.source);
        }
        let mut wrong = 0;
        self.step("read-back", PagedIn, |run| {
            wrong += run.wrong(half);
            not_zero += run.not_zero(half, half + looked);
        });
        self.step("write-again", Dirtied, |run| run.write(run.first(), half));
        self.step("discard-quarter", counts(quarter, 0, -quarter), |run| {
            run.first().advise_pages(0, quarter as usize, Advice::Discard).expect("madvise");
        });
        self.step("read-discarded", counts(-quarter, quarter, 0), |run| not_zero += run.not_zero(0, quarter));
        self.step("write-discarded", counts(0, -quarter / 2, quarter / 2), |run| run.write(run.first(), quarter / 2));
        let untouched = pages - half - looked;
        let (clean, dirty) = (looked + quarter / 2, half - quarter + quarter / 2);
        self.step("unmap", counts(-untouched, -clean, -dirty), |run| run.first = None);

        self.claims.equal("pages read back wrong", wrong, 0);
        self.claims.equal("untouched pages that were not zero", not_zero, 0);
    }
}

fn main() -> ExitCode {
    let (mut mib, mut pressure, mut pause_ms) = (64, 96, 100);
    workloads::arguments::parse(
        "walks mib MiB through all page states; pressure, in MiB, is to be more than there is RAM",
        &mut [("mib", &mut mib), ("pressure", &mut pressure), ("pause_ms", &mut pause_ms)],
    );
    let mut claims = Claims::new("states");
    let source = match Source::open() {
        Ok(source) => source,
        Err(error) => {
            claims.holds(format_args!("the kernel counts pages by state: {error}"), false);
            return claims.finish("");
        }
    };
    let pages = |mib: u64| (mib.clamp(1, 1 << 20) * PAGES_PER_MIB) as i64;
    let (pages, pressure) = (pages(mib), pages(pressure));
    println!("{pages} pages, {pressure} pages of pressure");
    Run::rehearse(&source);
    let mut run = Run::new(Purpose::Performance, &mut claims, &source, Duration::from_millis(pause_ms));
    run.all_steps(pages, pressure);
    let most = run.paged_out_most;
    if source.knows_dirty() {
        claims.holds("the pressure paged something out (give the machine less RAM, or pressure= more)", most > 0);
    }
    claims.finish(format_args!("paged_out_most={most} clean_and_dirty_apart={}", source.knows_dirty()))
}
