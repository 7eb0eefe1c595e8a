//! `report.json`.
//!
//! Owns: the report's fields and its layout: one field a line, as long as it is short, so that people
//! can read it and programs can parse it. Does not own where it is put (`out_dir`).

use std::ffi::OsString;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::belady::{self, Gap};
use crate::ending::{Ending, Outcome, Status};
use crate::more_ram::{self, Point};
use crate::out_dir::REPORT_START;
use crate::plan::Request;
use crate::qemu::Accel;
use crate::session::{Observed, Series};
use crate::size::Bytes;
use crate::telemetry::{Distribution, FaultLatency, Pages};

/// Lines of the report are kept to about this width.
const WIDTH: usize = 110;

/// What ran the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// QEMU's version.
    pub qemu: String,
    /// TCG or KVM.
    pub accel: Accel,
}

/// The fields, in the order in which they are written. Those of a machine that never ran are null.
#[derive(Serialize)]
struct Report<'a> {
    generator: String,
    program: String,
    args: Vec<String>,
    outcome: Outcome,
    exit_status: Status,
    signal: Option<u8>,
    message: &'a str,
    ram_bytes: Option<Bytes>,
    swap_bytes: Option<Bytes>,
    boot_ms: Option<f64>,
    wall_s: Option<f64>,
    /// From the boot record to the last one, by the guest's clock.
    program_s: Option<f64>,
    vmstat: Option<&'a Map<String, Value>>,
    pages: Option<PagesOverTime>,
    frames: Option<&'a Map<String, Value>>,
    disk: Value,
    fault_latency_us: Option<LatencyUs>,
    stall_s: Option<f64>,
    more_ram: Option<Vec<Point>>,
    belady: Option<Gap>,
    syscalls_unknown: Option<&'a [Value]>,
    identities: Option<&'a Value>,
    out_of_memory: &'a [Map<String, Value>],
    panic: Option<PanicReport<'a>>,
    kernel_log_warnings: Warnings<'a>,
    boot: Option<&'a Map<String, Value>>,
    kernel: Option<&'a Map<String, Value>>,
    host: Option<&'a Host>,
    snapshots: Option<&'a Series>,
}

#[derive(Serialize)]
struct PagesOverTime {
    peak: Pages,
    exit: Pages,
}

#[derive(Serialize)]
struct LatencyUs {
    minor: DistributionUs,
    major: DistributionUs,
}

#[derive(Serialize)]
struct DistributionUs {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct PanicReport<'a> {
    message: &'a str,
    backtrace: &'a [String],
}

#[derive(Default, Serialize)]
struct Warnings<'a> {
    count: u64,
    first: &'a [String],
}

/// Everything a report is made from.
pub struct Sources<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// How it ended.
    pub ending: &'a Ending,
    /// What was seen, if anything was started.
    pub seen: Option<&'a Observed>,
    /// A panic's frames with their names.
    pub backtrace: &'a [String],
    /// What ran it.
    pub host: Option<&'a Host>,
}

/// The report's text.
///
/// # Errors
/// Never in practice: only if a value were not JSON.
pub fn text(sources: &Sources<'_>) -> serde_json::Result<String> {
    let value = serde_json::to_value(report(sources))?;
    let mut text = String::new();
    write_value(&value, 0, Depth::Open, &mut text)?;
    text.push('\n');
    debug_assert!(text.starts_with(REPORT_START));
    Ok(text)
}

fn report<'a>(sources: &Sources<'a>) -> Report<'a> {
    let (request, seen) = (sources.request, sources.seen);
    let lossy = |word: &OsString| word.to_string_lossy().into_owned();
    let exit = seen.and_then(|seen| seen.exit.as_ref());
    let last = seen.and_then(|seen| seen.last.as_ref());
    let peak = seen.map(|seen| exit.and_then(|exit| exit.pages_peak).map_or(seen.peak, |peak| peak.max(seen.peak)));
    Report {
        generator: concat!("ebb ", env!("CARGO_PKG_VERSION")).to_owned(),
        program: request.argv.first().map(lossy).unwrap_or_default(),
        args: request.argv.iter().skip(1).map(lossy).collect(),
        outcome: sources.ending.outcome,
        exit_status: sources.ending.status,
        signal: exit.and_then(|exit| exit.signal),
        message: &sources.ending.message,
        ram_bytes: request.ram,
        swap_bytes: request.swap,
        boot_ms: seen.and_then(|seen| seen.boot.as_ref()).map(|(_, after)| rounded(after.as_secs_f64() * 1e3)),
        wall_s: seen.map(|seen| rounded(seen.wall.as_secs_f64())),
        program_s: last.map(|last| rounded(last.t_ns as f64 / 1e9)),
        vmstat: last.map(|last| &last.vmstat),
        pages: peak.zip(last).map(|(peak, last)| PagesOverTime { peak, exit: last.pages }),
        frames: last.map(|last| &last.frames),
        disk: disk(seen),
        fault_latency_us: exit.map(|exit| latency(&exit.fault_latency)),
        stall_s: last.map(|last| rounded(last.stall_ns as f64 / 1e9)),
        more_ram: last.map(more_ram::curve),
        belady: last.and_then(belady::gap),
        syscalls_unknown: exit.map(|exit| &*exit.syscalls_unknown),
        identities: exit.map(|exit| &exit.identities),
        out_of_memory: seen.map_or(&[], |seen| &seen.out_of_memory),
        panic: seen
            .and_then(|seen| seen.panic.as_ref())
            .map(|panic| PanicReport { message: &panic.message, backtrace: sources.backtrace }),
        kernel_log_warnings: seen
            .map(|seen| Warnings { count: seen.warning_count, first: &seen.warnings })
            .unwrap_or_default(),
        boot: seen.and_then(|seen| seen.boot.as_ref()).map(|(fields, _)| fields),
        kernel: exit.map(|exit| &exit.more),
        host: sources.host,
        snapshots: seen.map(|seen| &seen.series),
    }
}

/// The kernel's counters by disk, and QEMU's of the same disk beside them.
fn disk(seen: Option<&Observed>) -> Value {
    let kernel = seen.and_then(|seen| seen.last.as_ref()).map(|last| last.disk.clone());
    let mut disks = kernel.unwrap_or_default();
    let qemu = seen.and_then(|seen| seen.qemu_disk.as_ref()).map(|swap| json!({ "swap": swap }));
    disks.entry("swap").or_insert(Value::Null);
    disks.insert("qemu".to_owned(), qemu.unwrap_or_default());
    Value::Object(disks)
}

fn latency(latency: &FaultLatency) -> LatencyUs {
    LatencyUs { minor: in_us(latency.minor), major: in_us(latency.major) }
}

fn in_us(ns: Distribution) -> DistributionUs {
    let us = |ns: u64| ns as f64 / 1e3;
    DistributionUs {
        count: ns.count,
        p50: us(ns.p50),
        p90: us(ns.p90),
        p99: us(ns.p99),
        p999: us(ns.p999),
        max: us(ns.max),
    }
}

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Whether a value may be put on one line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// It starts the report, and is always spread out.
    Open,
    /// It is put on one line if it fits.
    Inner,
}

fn write_value(value: &Value, indent: usize, depth: Depth, text: &mut String) -> serde_json::Result<()> {
    let line = serde_json::to_string(value)?;
    let is_leaf = !(value.is_object() || value.is_array());
    if is_leaf || depth == Depth::Inner && line.len() + indent <= WIDTH {
        text.push_str(&line);
        return Ok(());
    }
    let (open, close, items): (_, _, Vec<(String, &Value)>) = match value {
        Value::Object(map) => {
            let name = |name: &String| serde_json::to_string(name).map(|name| name + ": ");
            let items = map.iter().map(|(key, value)| Ok((name(key)?, value)));
            ('{', '}', items.collect::<serde_json::Result<_>>()?)
        }
        _ => ('[', ']', value.as_array().into_iter().flatten().map(|value| (String::new(), value)).collect()),
    };
    text.push(open);
    for (index, (name, item)) in items.iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.extend(std::iter::repeat_n(' ', indent + 2));
        text.push_str(name);
        write_value(item, indent + 2, Depth::Inner, text)?;
    }
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', indent));
    text.push(close);
    Ok(())
}

#[cfg(test)]
mod tests;
