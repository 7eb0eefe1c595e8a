//! The table at the end of a run.
//!
//! Owns: its words and columns. Does not own the figures (`session`) or the verdict (`verdict`).

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use crate::belady;
use crate::ending::{Ending, Outcome};
use crate::more_ram;
use crate::report::Host;
use crate::session::Observed;
use crate::size::Bytes;
use crate::telemetry::{Distribution, Pages};

const PAGE: u64 = 4096;

/// Where to look for more.
pub struct Files<'a> {
    /// `report.json`, if it could be written.
    pub report: Option<&'a Path>,
    /// `kernel.log`.
    pub log: &'a Path,
}

/// The whole text, with its last line's end.
pub fn text(seen: &Observed, ending: &Ending, host: &Host, backtrace: &[String], files: &Files<'_>) -> String {
    let mut text = headline(seen, ending, host);
    for frame in backtrace {
        line(&mut text, "", &format!("at {frame}"));
    }
    figures(&mut text, seen);
    for record in &seen.out_of_memory {
        line(&mut text, "out of memory", &out_of_memory_text(record));
    }
    remarks(&mut text, seen);
    if needs_log(ending.outcome) {
        line(&mut text, "kernel log", &files.log.display().to_string());
    }
    if let Some(report) = files.report {
        line(&mut text, "report", &report.display().to_string());
    }
    text
}

fn headline(seen: &Observed, ending: &Ending, host: &Host) -> String {
    let boot = seen.boot.as_ref().map(|(_, after)| format!(", booted in {:.0} ms", after.as_secs_f64() * 1e3));
    format!(
        "ebb: {}\n     {:.1} s in QEMU {} ({}){}\n",
        ending.message,
        seen.wall.as_secs_f64(),
        host.qemu,
        host.accel,
        boot.unwrap_or_default()
    )
}

fn figures(text: &mut String, seen: &Observed) {
    let Some(last) = &seen.last else {
        return;
    };
    let peak = seen.exit.as_ref().and_then(|exit| exit.pages_peak).map_or(seen.peak, |peak| peak.max(seen.peak));
    line(text, "memory, MiB", "uncommitted       clean       dirty   paged out");
    line(text, "  at most", &pages_text(&peak));
    line(text, "  at exit", &pages_text(&last.pages));
    line(text, "faults", &format!("{} minor, {} major", last.minor_faults(), last.count("pgmajfault")));
    if let Some(exit) = &seen.exit {
        line(text, "latency, µs", "        p50         p90         p99       p99.9         max");
        line(text, "  minor", &latency_text(&exit.fault_latency.minor));
        line(text, "  major", &latency_text(&exit.fault_latency.major));
    }
    let moved = |name| format!("{} pages ({})", last.count(name), Bytes(last.count(name) * PAGE));
    line(text, "swapped", &format!("out {}, in {}", moved("pswpout"), moved("pswpin")));
    if let Some(disk) = last.disk.get("swap") {
        let count = |name: &str| disk.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (reads, writes) = (count("reads"), count("writes"));
        line(
            text,
            "swap disk",
            &format!(
                "{reads} reads ({}), {writes} writes ({}), {} flushes",
                Bytes(count("read_bytes")),
                Bytes(count("write_bytes")),
                count("flushes")
            ),
        );
    }
    if let Some(sentence) = more_ram::sentence(last) {
        line(text, "more RAM", &sentence);
    }
    if let Some(sentence) = belady::sentence(last) {
        line(text, "replacement", &sentence);
    }
    line(text, "stalled", &format!("{:.2} s of {:.2} s", last.stall_ns as f64 / 1e9, last.t_ns as f64 / 1e9));
}

/// What a reader must not miss.
fn remarks(text: &mut String, seen: &Observed) {
    let Some(exit) = &seen.exit else {
        return;
    };
    if !matches!(&exit.identities, Value::Null) && exit.identities != "ok" {
        line(text, "WARNING", &format!("the kernel's counters do not add up: {}", exit.identities));
    }
    let calls: Vec<_> = exit.syscalls_unknown.iter().map(call_text).collect();
    if !calls.is_empty() {
        line(text, "unknown calls", &calls.join(", "));
    }
    if seen.warning_count > 0 {
        line(text, "warnings", &format!("{} in the kernel's log", seen.warning_count));
    }
}

/// Who was killed, what each process held, and what was left of the swap.
fn out_of_memory_text(record: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    parts.extend(record.get("killed").map(|killed| format!("killed {}", process_text(killed))));
    for process in record.get("held").and_then(Value::as_array).into_iter().flatten() {
        let held = |name: &str| process[name].as_u64().map_or_else(|| "?".to_owned(), mib_text);
        let (resident, away) = (held("resident"), held("paged_out"));
        parts.push(format!("{} held {resident} MiB in RAM, {away} MiB in swap", process_text(process)));
    }
    parts.extend(match record.get("swap") {
        Some(Value::Null) => Some("no swap".to_owned()),
        swap => swap.and_then(|swap| swap["free"].as_u64()).map(|free| format!("swap free {} MiB", mib_text(free))),
    });
    // A record of an unheard-of kind says it in its own words.
    if parts.is_empty() { Value::Object(record.clone()).to_string() } else { parts.join("; ") }
}

fn process_text(process: &Value) -> String {
    // Escaped, since a file's name may hold what a terminal would obey.
    format!("{} ({})", process["program"].as_str().unwrap_or("?").escape_debug(), process["pid"])
}

fn mib_text(pages: u64) -> String {
    format!("{:.1}", pages as f64 * PAGE as f64 / f64::from(1 << 20))
}

fn call_text(call: &Value) -> String {
    let name = call["name"].as_str().unwrap_or("?");
    format!("{name} ({}) ×{}", call["number"], call["count"])
}

fn needs_log(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Panic | Outcome::QemuFailed | Outcome::Timeout | Outcome::OutOfMemory)
}

fn pages_text(pages: &Pages) -> String {
    let mib = |count| format!("{:>11}", mib_text(count));
    let counts = [pages.uncommitted, pages.committed_clean, pages.committed_dirty, pages.paged_out];
    counts.map(mib).join(" ")
}

fn latency_text(latency: &Distribution) -> String {
    if latency.count == 0 {
        return "       none".to_owned();
    }
    let us = |ns: u64| format!("{:11.1}", ns as f64 / 1e3);
    [latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(us).join(" ")
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "     {name:<13} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Status;
    use crate::qemu::Accel;

    #[test]
    fn a_run_without_a_word_still_has_a_summary() {
        let ending = Ending { outcome: Outcome::Timeout, status: Status(124), message: "not finished".into() };
        let host = Host { qemu: "10".into(), accel: Accel::Tcg };
        let files = Files { report: None, log: Path::new("kernel.log") };
        let text = text(&Observed::default(), &ending, &host, &["main +0x1".to_owned()], &files);
        assert!(
            text.contains("not finished") && text.contains("at main +0x1") && text.contains("kernel.log"),
            "{text}"
        );
    }

    #[test]
    fn who_held_what_when_memory_ran_out_is_readable() {
        let said = |json: &str| out_of_memory_text(&serde_json::from_str(json).unwrap());
        let held = r#"[{"pid":1,"program":"./a","mapped":9999,"resident":2560,"paged_out":128},
            {"pid":2,"program":"b","mapped":1,"resident":1,"paged_out":0}]"#;
        let killed = r#""killed":{"pid":1,"program":"./a"}"#;
        assert_eq!(
            said(&format!(r#"{{{killed},"held":{held},"swap":{{"slots":128,"free":0}}}}"#)),
            "killed ./a (1); ./a (1) held 10.0 MiB in RAM, 0.5 MiB in swap; \
             b (2) held 0.0 MiB in RAM, 0.0 MiB in swap; swap free 0.0 MiB"
        );
        assert_eq!(said(&format!(r#"{{{killed},"held":[],"swap":null}}"#)), "killed ./a (1); no swap");
        assert_eq!(said(r#"{"held":7}"#), r#"{"held":7}"#);
    }

    #[test]
    fn columns_stand_under_their_heads() {
        assert_eq!(
            pages_text(&Pages { uncommitted: 256, ..Pages::default() }).len(),
            "uncommitted       clean       dirty   paged out".len()
        );
    }
}
