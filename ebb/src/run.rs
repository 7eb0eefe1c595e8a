//! `ebb run`: one program, one machine, one report.
//!
//! Owns: the order of a run's parts, and that a report is written however it ends. Does not own any of
//! the parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk_image::builder::{create_ext4_image, create_swap_image};

use crate::accel;
use crate::cargo::SourceTree;
use crate::cli::RunArguments;
use crate::console::Screen;
use crate::data_image::Data;
use crate::ending::{Ending, Status};
use crate::live::Live;
use crate::os::Signals;
use crate::out_dir::OutDir;
use crate::plan::{self, Plan, Request};
use crate::qemu::process::Qemu;
use crate::qemu::{Cache, Drive, Machine};
use crate::report::{self, Host, Sources};
use crate::session::{Event, Observed, Session};
use crate::summary::{self, Files};
use crate::swap_image::Swap;
use crate::symbols;
use crate::verdict;

/// Where reports go when there is no source tree.
const OUT_ELSEWHERE: &str = "target/ebb-out";

/// A machine that has run.
struct Finished {
    seen: Observed,
    host: Host,
    kernel: PathBuf,
}

/// Does it all, and returns what to exit with.
pub fn run(arguments: &RunArguments) -> Status {
    let tree = SourceTree::find();
    let out = match OutDir::open(&arguments.out.clone().unwrap_or_else(|| default_out(tree.as_ref()))) {
        Ok(out) => out,
        Err(ending) => return say(&ending),
    };
    let mut request = Request::default();
    let result = plan::make(arguments, tree.as_ref(), &mut request)
        .and_then(|plan| execute(&plan, &out).map(|finished| (verdict::verdict(&finished.seen, plan.limit), finished)));
    match result {
        Ok((ending, finished)) => conclude(&request, &ending, &finished, &out),
        Err(ending) => {
            let sources = Sources { request: &request, ending: &ending, seen: None, backtrace: &[], host: None };
            write_report(&sources, &out);
            say(&ending)
        }
    }
}

fn default_out(tree: Option<&SourceTree>) -> PathBuf {
    tree.map_or_else(|| PathBuf::from(OUT_ELSEWHERE), SourceTree::default_out)
}

/// The command line could not be understood, and that has been said. A report that an earlier run left is replaced, so
/// that nobody takes it for this one's.
pub fn misused(out: Option<PathBuf>, complaint: &str) -> Status {
    let ending = Ending::bad_input(complaint);
    let out = out.unwrap_or_else(|| default_out(SourceTree::find().as_ref()));
    if let Some(out) = OutDir::with_report(&out) {
        let request = Request::default();
        let sources = Sources { request: &request, ending: &ending, seen: None, backtrace: &[], host: None };
        write_report(&sources, &out);
    }
    ending.status
}

fn say(ending: &Ending) -> Status {
    eprintln!("ebb: {}", ending.message);
    ending.status
}

/// Boots the machine and waits for its end.
fn execute(plan: &Plan, out: &OutDir) -> Result<Finished, Ending> {
    // From here on signals are values; no other thread runs yet, as Signals::block demands.
    let signals = Signals::block();
    let in_out = |error| Ending::internal(format!("cannot write into the output directory: {error}"));
    let scratch = out.scratch().map_err(in_out)?;
    let messages = scratch.path().join("qemu.log");
    let (swap, swap_file) = swap_drive(&plan.swap, scratch.path())?;
    let (data, data_file) = data_drive(&plan.data, scratch.path())?;
    let disposable: Vec<_> = swap_file.into_iter().chain(data_file).collect();
    let machine = Machine {
        accel: crate::qemu::Accel::Tcg,
        ram: plan.ram,
        kernel: &plan.kernel,
        program: plan.program.as_deref(),
        cmdline: &plan.cmdline,
        swap: swap.as_ref().map(|(path, cache)| Drive { id: "swap", path, cache: *cache }),
        data: data.as_ref().map(|(path, cache)| Drive { id: "data", path, cache: *cache }),
    };
    let accel = accel::decide(plan.accel, &plan.emulator, &machine, &messages)?;
    let machine = Machine { accel, ..machine };
    let screen = Arc::new(Screen::new());
    let log = out.start_log().map_err(in_out)?;
    let qemu = Qemu::spawn(&plan.emulator, &machine, &messages)
        .map_err(|error| Ending::qemu_failed(format!("QEMU cannot be started: {error}")))?;
    let live = Live::new(plan.ram, &screen);
    let lost = |error| Ending::internal(format!("lost touch with QEMU: {error}"));
    let session = Session::new(qemu, screen, live, log, plan.limit).map_err(lost)?.dispose_of(disposable);
    let reporter = session.reporter();
    std::thread::spawn(move || while reporter.send(Event::Signal(signals.wait())).is_ok() {});
    let seen = session.run(&messages).map_err(lost)?;
    let host = Host { qemu: plan.emulator.version.clone(), accel };
    Ok(Finished { seen, host, kernel: plan.kernel.clone() })
}

/// A disk's image, and how carefully it is written.
type DriveImage = Option<(PathBuf, Cache)>;

/// The swap disk's image, and whether it may be removed once QEMU has it open.
fn swap_drive(swap: &Swap, scratch: &Path) -> Result<(DriveImage, Option<PathBuf>), Ending> {
    match swap {
        Swap::None => Ok((None, None)),
        Swap::Image { path, .. } => Ok((Some((path.clone(), Cache::Writeback)), None)),
        Swap::Fresh(pages) => {
            let path = scratch.join("swap.img");
            create_swap_image(&path, *pages).map_err(Ending::internal)?;
            Ok((Some((path.clone(), Cache::Unsafe)), Some(path)))
        }
    }
}

/// The data disk's image, and whether it may be removed once QEMU has it open.
fn data_drive(data: &Data, scratch: &Path) -> Result<(DriveImage, Option<PathBuf>), Ending> {
    match data {
        Data::None => Ok((None, None)),
        Data::Image(path) => Ok((Some((path.clone(), Cache::Writeback)), None)),
        Data::Directory(directory) => {
            let path = scratch.join("data.img");
            create_ext4_image(&path, directory).map_err(Ending::internal)?;
            Ok((Some((path.clone(), Cache::Unsafe)), Some(path)))
        }
    }
}

/// Tells the user, and everything that reads reports, how it went.
fn conclude(request: &Request, ending: &Ending, finished: &Finished, out: &OutDir) -> Status {
    let Finished { seen, host, kernel } = finished;
    let backtrace = seen.panic.as_ref().map(|panic| symbols::backtrace(kernel, &panic.frames)).unwrap_or_default();
    let sources = Sources { request, ending, seen: Some(seen), backtrace: &backtrace, host: Some(host) };
    let report = write_report(&sources, out).then(|| out.report_path());
    let files = Files { report: report.as_deref(), log: &out.log_path() };
    eprint!("{}", summary::text(seen, ending, host, &backtrace, &files));
    ending.status
}

/// Whether it was written; if not, the reason has been printed, and the run's own status still counts.
fn write_report(sources: &Sources<'_>, out: &OutDir) -> bool {
    let written = report::text(sources).map_err(std::io::Error::from).and_then(|text| out.write_report(&text));
    if let Err(error) = &written {
        eprintln!("ebb: cannot write {}: {error}", out.report_path().display());
    }
    written.is_ok()
}
