//! The records that tell the host tool what happens: boot, snapshots, the end, and who held what when memory ran out.
//!
//! Owns their fields. Does not own the figures (`mm`, `process::stats`, the disk) nor the channel (`telemetry`).

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use drivers::block::Kind;
use mm::frame::FrameKind;
use mm::reclaim::{Judged, MissCurve};
use mm::stats::{PageClass, Snapshot, VisiblePages};
use mm::victim::Verdict;

use crate::boot::BootInfo;
use crate::cmdline::Options;
use crate::devices::Disk;
use crate::fs::disk::volume;
use crate::fs::proc::vmstat_counters;
use crate::machine::mm;
use crate::process::process::Process;
use crate::process::stats::{self, Latency};
use crate::process::{self, ExitReport, Outcome};
use crate::telemetry::{Json, record};
use crate::{scheduler, telemetry, time};

mod judgement;

use judgement::Judgement;

/// Just before the first program's first instruction.
pub fn started(boot: &BootInfo, options: &Options) {
    if !telemetry::is_on() {
        return;
    }
    let snapshot = mm().snapshot();
    let name = options.argv.first().map_or("program", |name| name.as_str());
    record(format_args!(
        "{{\"type\":\"boot\",\"ram_bytes\":{},\"kernel_bytes\":{},\"swap\":{},\"program\":{},\"tsc_hz\":{},\"t_ns\":{}}}",
        boot.memory.total(),
        boot.image.len(),
        SwapArea(&snapshot),
        Json(name),
        time::tsc_hz(),
        time::now_ns(),
    ));
}

/// How things are.
pub fn snapshot() {
    record(format_args!("{{\"type\":\"snapshot\",{}}}", Figures(&mm().snapshot())));
}

/// The first program has ended.
pub fn ended(report: &ExitReport) {
    let snapshot = mm().snapshot();
    snapshot.check();
    if !telemetry::is_on() {
        return;
    }
    let (outcome, signal) = match report.outcome {
        Outcome::Exited(_) => ("exited", None),
        Outcome::Signalled(signal) => ("signalled", Some(signal.number())),
        Outcome::OutOfMemory => ("out_of_memory", None),
    };
    record(format_args!(
        "{{\"type\":\"exit\",\"outcome\":\"{outcome}\",\"status\":{},\"signal\":{},{},\"pages_peak\":{},\
         \"fault_latency\":{{\"unit\":\"ns\",\"minor\":{},\"major\":{}}},\"syscalls_unknown\":{},\"identities\":\"ok\"}}",
        report.outcome.status(),
        OrNull(signal),
        Figures(&snapshot),
        Pages(&snapshot.peak),
        Distribution(&report.minor),
        Distribution(&report.major),
        UnknownCalls,
    ));
}

/// A program is ended because memory has run out: what was decided, in a line for programs and in a sentence, and who held what.
/// `killed` is nobody if it was on its way out by then.
pub fn out_of_memory(verdict: &Verdict, killed: Option<&Process>) {
    let snapshot = mm().snapshot();
    let swap = snapshot.slots.map_or((0, 0), |slots| (slots.total, slots.free));
    let (program, pid) = match killed {
        Some(killed) => (killed.executable(), killed.pid.number()),
        None => (Arc::from(&b"a program that has left"[..]), 0),
    };
    let program = String::from_utf8_lossy(&program);
    let verdict = Judgement::of(verdict, killed);
    log::warn!("OOM {verdict}");
    log::warn!(
        "out of memory: killing {program} ({pid}){}, which has {} pages in RAM and {} in swap; {} of {} frames are free, {} of {} swap slots",
        verdict.reason(),
        verdict.verdict.holdings.resident,
        verdict.verdict.holdings.away,
        snapshot.frames.free,
        snapshot.frames.total,
        swap.1,
        swap.0,
    );
    record(format_args!(
        "{{\"type\":\"oom\",\"killed\":{{\"pid\":{pid},\"program\":{}}},\"verdict\":{},\"held\":{},\"swap\":{},\"frames\":{}}}",
        Json(&program),
        verdict.json(),
        Held(&process::all()),
        SwapArea(&snapshot),
        Frames(&snapshot),
    ));
}

/// What each process holds.
struct Held<'a>(&'a [Arc<Process>]);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, process) in self.0.iter().enumerate() {
            let (mapped, pages) = process.page_counts();
            let comma = if i > 0 { "," } else { "" };
            write!(
                f,
                "{comma}{{\"pid\":{},\"program\":{},\"mapped\":{mapped},\"resident\":{},\"paged_out\":{},\
                 \"one_word\":{}}}",
                process.pid.number(),
                Json(String::from_utf8_lossy(&process.executable())),
                pages.resident(),
                pages.get(PageClass::AwaySlot),
                pages.get(PageClass::AwayFill),
            )?;
        }
        f.write_str("]")
    }
}

/// What every snapshot says.
struct Figures<'a>(&'a Snapshot);

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let polls = scheduler::executor().stats();
        write!(
            f,
            "\"t_ns\":{},\"vmstat\":{},\"pages\":{},\"frames\":{},\"disk\":{},\"stall_ns\":{},\
             \"kept_by_more_ram\":{},\"belady\":{},\"poll\":{{\"polls\":{},\"max_ns\":{}}}",
            time::now_ns(),
            Counters(self.0),
            Pages(&self.0.visible),
            Frames(self.0),
            Disks,
            stats::stall_ns(),
            MoreRam(&self.0.counters.more_memory),
            Belady(self.0.judged),
            polls.polls,
            polls.longest.map_or(0, |longest| longest.took.as_nanos()),
        )
    }
}

/// Pages that were read back, by how much more RAM would have kept them.
struct MoreRam<'a>(&'a MissCurve);

impl fmt::Display for MoreRam<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.kept_by).finish()
    }
}

/// What was read of the sample of the pages, and what Belady's minimum would have.
struct Belady(Judged);

impl fmt::Display for Belady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { reads, minimum, beyond, one_in, window } = self.0;
        let fields = [
            ("one_in", one_in),
            ("window_evictions", window),
            ("reads", reads),
            ("minimum", minimum),
            ("reads_not_judged", beyond),
        ];
        object(f, fields.into_iter())
    }
}

struct Counters<'a>(&'a Snapshot);

impl fmt::Display for Counters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        object(f, vmstat_counters(self.0).into_iter())
    }
}

struct Pages<'a>(&'a VisiblePages);

impl fmt::Display for Pages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VisiblePages { uncommitted, committed_clean, committed_dirty, paged_out } = *self.0;
        let fields = [
            ("uncommitted", uncommitted),
            ("committed_clean", committed_clean),
            ("committed_dirty", committed_dirty),
            ("paged_out", paged_out),
        ];
        object(f, fields.into_iter())
    }
}

/// Every term of the frame identity.
struct Frames<'a>(&'a Snapshot);

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.0;
        let used = FrameKind::NAMES.into_iter().zip(snapshot.frames.used.map(|count| count as u64));
        let states = [
            ("filling", PageClass::Filling),
            ("clean", PageClass::Clean),
            ("dirty", PageClass::Dirty),
            ("cleaning", PageClass::Cleaning),
            ("evicting", PageClass::Evicting),
        ];
        let fields = [("total", snapshot.frames.total as u64), ("free", snapshot.frames.free as u64)]
            .into_iter()
            .chain(used)
            .chain(states.map(|(name, class)| (name, snapshot.pages.get(class))))
            .chain([("orphaned_io", snapshot.orphaned_io), ("held", snapshot.held)]);
        object(f, fields)
    }
}

struct SwapArea<'a>(&'a Snapshot);

impl fmt::Display for SwapArea<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(slots) = self.0.slots else { return f.write_str("null") };
        let (total, free, used, bad) =
            (u64::from(slots.total), u64::from(slots.free), u64::from(slots.used), u64::from(slots.bad));
        let fields = [("slots", total), ("bytes", total * 4096), ("free", free), ("used", used), ("bad", bad)];
        object(f, fields.into_iter())
    }
}

/// The disks there are, by what they are for.
struct Disks;

impl fmt::Display for Disks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match mm().store() {
            Some(store) => write!(f, "{{\"swap\":{}", DiskCounts(store.disk()))?,
            None => f.write_str("{\"swap\":{}")?,
        }
        if let Some(volume) = volume() {
            write!(f, ",\"data\":{}", DiskCounts(volume.disk().disk()))?;
        }
        f.write_str("}")
    }
}

struct DiskCounts(&'static Disk);

impl fmt::Display for DiskCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = self.0.counters();
        let [read, write, flush, discard] =
            [Kind::Read, Kind::Write, Kind::Flush, Kind::Discard].map(|kind| counters.of(kind));
        let fields = [
            ("reads", read.completed),
            ("writes", write.completed),
            ("read_bytes", read.bytes),
            ("write_bytes", write.bytes),
            ("flushes", flush.completed),
            ("discards", discard.completed),
            ("errors", counters.errors()),
        ];
        object(f, fields.into_iter())
    }
}

struct Distribution<'a>(&'a Latency);

impl fmt::Display for Distribution<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { count, p50, p90, p99, p999, max } = *self.0;
        let fields = [("count", count), ("p50", p50), ("p90", p90), ("p99", p99), ("p999", p999), ("max", max)];
        object(f, fields.into_iter())
    }
}

struct UnknownCalls;

impl fmt::Display for UnknownCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, call) in stats::unknown_calls().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{{\"number\":{},\"name\":\"{}\",\"count\":{}}}", call.number, call.name, call.count)?;
        }
        f.write_str("]")
    }
}

struct OrNull(Option<u8>);

impl fmt::Display for OrNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("null"),
        }
    }
}

/// A JSON object of numbers; the names need no escapes.
fn object<'a>(f: &mut fmt::Formatter<'_>, fields: impl Iterator<Item = (&'a str, u64)>) -> fmt::Result {
    // Without `write!`, which costs more than what it writes: a snapshot has a hundred numbers, and there are four a second.
    f.write_str("{")?;
    let mut before = "\"";
    for (name, value) in fields {
        f.write_str(before)?;
        f.write_str(name)?;
        f.write_str("\":")?;
        fmt::Display::fmt(&value, f)?;
        before = ",\"";
    }
    f.write_str("}")
}
