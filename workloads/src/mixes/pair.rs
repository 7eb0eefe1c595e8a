//! Two processes: one lives in a hot set that fits, one scans what does not fit. Replacement that is fair to pages and
//! blind to their use lets the second one drive out the first.
//!
//! Each populates, runs and verifies memory of its own. They begin and end their run phases together:
//!
//! ```text
//!   parent (hot)                    child (scan)
//!   fork ─────────────────────────► populate
//!   populate                          │
//!   wait ◄──────────────────────────  says so
//!   RESULT run begins; says go ─────► scans
//!   touches                           │
//!   wait ◄──────────────────────────  says so
//!   RESULT run ends; says go ───────► verifies, exits
//!   verify; wait for its end
//! ```
#![expect(unsafe_code, reason = "fork asks for a promise")]

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};

use super::options::Options;
use super::touches::touch_all;
use crate::failure::Failure;
use crate::phase::Phase;
use crate::process;
use crate::references::{Pattern, References};

/// One end of the conversation: a byte each way, as long as the other side lives.
struct Partner {
    from: PipeReader,
    to: PipeWriter,
}

impl Partner {
    fn tell(&mut self) -> Result<(), Failure> {
        self.to.write_all(&[1]).map_err(Failure::of("write to a pipe"))
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.from.read_exact(&mut [0]).map_err(Failure::of("read of a pipe"))
    }
}

/// Both processes; the parent measures.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (from_child, to_parent) = pipe().map_err(Failure::of("pipe"))?;
    let (from_parent, to_child) = pipe().map_err(Failure::of("pipe"))?;
    let mut child = Some(Partner { from: from_child, to: to_child });
    let mut parent = Partner { from: from_parent, to: to_parent };
    let scanner = || {
        // Each side keeps its own ends only: what both have open never ends, and who waits there waits for ever.
        drop(child.take());
        match scan(options, &mut parent) {
            Ok(()) => 0,
            Err(failure) => {
                println!("CHILD kind={} {failure}", options.kind.name());
                1
            }
        }
    };
    // SAFETY: no kind of `mixes` starts threads.
    let forked = unsafe { process::fork(scanner) }.map_err(Failure::of("fork"))?;
    drop(parent);
    let Some(mut child) = child else { unreachable!("only the child's is dropped") };
    let result = hot(options, &mut child);
    drop(child);
    match (result, forked.wait().map_err(Failure::of("waitpid"))?) {
        (result, 0) => result,
        (Err(failure @ (Failure::Corrupt(_) | Failure::Versions { .. })), _) => Err(failure),
        (_, status) => Err(Failure::Child(status)),
    }
}

/// The parent: a quarter of the memory, all of it hot.
fn hot(options: &Options, scanner: &mut Partner) -> Result<(), Failure> {
    let name = options.kind.name();
    let mut set = options.working_set(options.pages() / 4, options.seed)?;
    set.populate(name);
    scanner.wait()?;
    let phase = Phase::Run.begin();
    scanner.tell()?;
    let pages = set.pages();
    touch_all(&mut set, 0, References::new(Pattern::Uniform, pages, options.ops))?;
    scanner.wait()?;
    phase.end(name, options.ops + options.passes * scanned(options), set.sum());
    scanner.tell()?;
    set.verify(name)
}

/// The child: three quarters of the memory, in order, again and again.
fn scan(options: &Options, parent: &mut Partner) -> Result<(), Failure> {
    let mut set = options.working_set(scanned(options), !options.seed)?;
    set.write_all();
    parent.tell()?;
    parent.wait()?;
    let pages = set.pages();
    touch_all(&mut set, 0, References::new(Pattern::Cyclic, pages, options.passes * pages))?;
    parent.tell()?;
    parent.wait()?;
    set.verify_all()
}

fn scanned(options: &Options) -> u64 {
    options.pages() - options.pages() / 4
}
