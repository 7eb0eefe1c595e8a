//! Statistics while the program runs.
//!
//! Owns: which figures are shown, as a table redrawn in place or as a line now and then, and the rates
//! between two snapshots. Does not own the terminal (`console`).

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::console::Screen;
use crate::size::Bytes;
use crate::telemetry::Snapshot;

const REDRAW: Duration = Duration::from_millis(400);
const LINE_EVERY: Duration = Duration::from_secs(3);
const PAGE: u64 = 4096;

/// The live display of one run.
pub struct Live {
    ram: Bytes,
    every: Duration,
    shown_at: Instant,
    /// The snapshot that the display was last made from: rates count from here.
    before: Snapshot,
}

/// What happened per second between two snapshots.
#[derive(Debug, PartialEq)]
struct Rates {
    minor: f64,
    major: f64,
    in_bytes: f64,
    out_bytes: f64,
    /// Part of the time that the program waited for pages; above 1 with several threads.
    stalled: f64,
}

impl Live {
    /// Starts with all counters at zero.
    pub fn new(ram: Bytes, screen: &Screen) -> Self {
        let every = if screen.is_drawable() { REDRAW } else { LINE_EVERY };
        Self { ram, every, shown_at: Instant::now(), before: Snapshot::default() }
    }

    /// Shows a snapshot if it is time to.
    pub fn update(&mut self, snapshot: &Snapshot, screen: &Screen) {
        if self.shown_at.elapsed() < self.every || snapshot.t_ns <= self.before.t_ns {
            return;
        }
        let rates = Rates::between(&self.before, snapshot);
        if screen.is_drawable() {
            screen.table(&self.table(snapshot, &rates));
        } else {
            screen.message(&line(snapshot, &rates));
        }
        self.before = snapshot.clone();
        self.shown_at = Instant::now();
    }

    fn table(&self, now: &Snapshot, rates: &Rates) -> Vec<String> {
        let pages = &now.pages;
        let stalled = now.stall_ns as f64 / 1e9;
        vec![
            format!("── ebb ── {:.1} s in the machine, RAM {} ──", now.t_ns as f64 / 1e9, self.ram),
            format!("  RAM, MiB   {}", frames_text(&now.frames)),
            format!(
                "  pages, MiB clean {:.1}, dirty {:.1}, paged out {:.1}, uncommitted {:.1}",
                mib(pages.committed_clean),
                mib(pages.committed_dirty),
                mib(pages.paged_out),
                mib(pages.uncommitted)
            ),
            format!("  faults/s   minor {:>8.0}   major {:>8.0}", rates.minor, rates.major),
            format!("  swap       in {:>7.1} MB/s   out {:>7.1} MB/s", rates.in_bytes / 1e6, rates.out_bytes / 1e6),
            format!("  stalled    {stalled:.1} s in all, {:.0} % now", rates.stalled * 100.0),
        ]
    }
}

fn line(now: &Snapshot, rates: &Rates) -> String {
    let pages = &now.pages;
    format!(
        "{:.1} s: MiB clean {:.1}, dirty {:.1}, paged out {:.1}; faults/s {:.0} minor, {:.0} major; swap MB/s {:.1} in, {:.1} out; stalled {:.0} %",
        now.t_ns as f64 / 1e9,
        mib(pages.committed_clean),
        mib(pages.committed_dirty),
        mib(pages.paged_out),
        rates.minor,
        rates.major,
        rates.in_bytes / 1e6,
        rates.out_bytes / 1e6,
        rates.stalled * 100.0
    )
}

/// Frames by state, by the kernel's names and in its order; what there is none of is left out.
fn frames_text(frames: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    collect_frames(frames, &mut parts);
    parts.join(", ")
}

fn collect_frames(frames: &Map<String, Value>, parts: &mut Vec<String>) {
    for (name, value) in frames.iter().filter(|(name, _)| *name != "total") {
        if let Value::Object(inner) = value {
            collect_frames(inner, parts);
        } else if let Some(count @ 1..) = value.as_u64() {
            parts.push(format!("{} {:.1}", name.replace('_', " "), mib(count)));
        }
    }
}

fn mib(pages: u64) -> f64 {
    (pages * PAGE) as f64 / f64::from(1 << 20)
}

impl Rates {
    fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let seconds = now.t_ns.saturating_sub(before.t_ns).max(1) as f64 / 1e9;
        let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let rate = |name| per_second(before.count(name), now.count(name));
        Self {
            minor: per_second(before.minor_faults(), now.minor_faults()),
            major: rate("pgmajfault"),
            in_bytes: rate("pswpin") * PAGE as f64,
            out_bytes: rate("pswpout") * PAGE as f64,
            stalled: now.stall_ns.saturating_sub(before.stall_ns) as f64 / 1e9 / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot(t_ns: u64, faults: u64, major: u64, out: u64) -> Snapshot {
        let Value::Object(vmstat) = json!({"pgfault": faults, "pgmajfault": major, "pswpout": out}) else { panic!() };
        let Value::Object(frames) =
            json!({"total": 100, "free": 256, "dirty": 0, "used": {"page_tables": 512, "dma": 0}})
        else {
            panic!()
        };
        Snapshot { t_ns, vmstat, frames, stall_ns: t_ns / 4, ..Snapshot::default() }
    }

    #[test]
    fn rates_are_per_second_of_guest_time() {
        let rates = Rates::between(&snapshot(1_000_000_000, 100, 50, 0), &snapshot(3_000_000_000, 300, 150, 1000));
        assert_eq!(rates, Rates { minor: 50.0, major: 50.0, in_bytes: 0.0, out_bytes: 500.0 * 4096.0, stalled: 0.25 });
        let none = Rates::between(&snapshot(5, 9, 9, 9), &snapshot(5, 1, 1, 1));
        assert_eq!(none.out_bytes, 0.0);
    }

    #[test]
    fn frames_are_shown_by_the_kernel_s_names() {
        assert_eq!(frames_text(&snapshot(0, 0, 0, 0).frames), "free 1.0, page tables 2.0");
    }
}
