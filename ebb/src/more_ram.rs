//! What more RAM would have saved.
//!
//! Owns the estimate in people's terms: the kernel says how many pages were read back that a sixteenth of RAM more would have kept, and so
//! on up to twice the RAM (its memory of who left reaches no further). Those are the least that more RAM would have saved: of a loop that is
//! larger than that, the policy keeps as much as fits, and each page more saves a read a round, which the order of leaving does not show.

use serde::Serialize;

use crate::size::Bytes;
use crate::telemetry::Snapshot;

const PAGE: u64 = 4096;

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// So much more RAM
    pub more_ram_bytes: Bytes,
    /// would have saved at least so many of the pages that were read from disks,
    pub reads_saved: u64,
    /// which is this part of them.
    pub share: f64,
}

/// The curve, from the least RAM to the most; nothing if nothing was read.
pub fn curve(last: &Snapshot) -> Vec<Point> {
    let ram = last.frames.get("total").and_then(serde_json::Value::as_u64).unwrap_or(0) * PAGE;
    // Linux counts what is read in KiB.
    let reads = last.count("pgpgin") / (PAGE >> 10);
    if reads == 0 || last.kept_by_more_ram.is_empty() {
        return Vec::new();
    }
    let steps = last.kept_by_more_ram.len() as u64;
    let mut reads_saved = 0;
    let point = |(step, kept): (u64, &u64)| {
        reads_saved += kept;
        let share = (reads_saved as f64 / reads as f64 * 1e3).round() / 1e3;
        Point { more_ram_bytes: Bytes(ram * step / steps), reads_saved, share }
    };
    (1..).zip(&last.kept_by_more_ram).map(point).collect()
}

/// A few of the points as a sentence, if so much was read that it means something.
pub fn sentence(last: &Snapshot) -> Option<String> {
    const ENOUGH: u64 = 1000;
    let curve = curve(last);
    if last.count("pgpgin") / (PAGE >> 10) < ENOUGH {
        return None;
    }
    let at = |part: usize| curve.get((curve.len() / part).checked_sub(1)?);
    let said = |point: &Point| {
        let mib = (point.more_ram_bytes.0 as f64 / f64::from(1 << 20)).round();
        format!("+{mib} MiB {:.0} %", point.share * 100.0)
    };
    let points: Vec<_> = [8, 4, 2, 1].into_iter().filter_map(at).collect();
    let said: Vec<_> = points.iter().copied().map(said).collect();
    let any = points.iter().any(|point| point.share >= 0.005);
    any.then(|| format!("would have saved at least, of the pages that were read: {}", said.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    fn snapshot(pages_read: u64) -> Snapshot {
        let map = |value: Value| -> Map<String, Value> { value.as_object().cloned().expect("an object") };
        Snapshot {
            vmstat: map(json!({ "pgpgin": pages_read * 4 })),
            frames: map(json!({ "total": 16 * 256 })),
            kept_by_more_ram: [100, 0, 0, 50, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 200].to_vec(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn points_add_up_what_less_ram_would_have_saved_already() {
        let curve = curve(&snapshot(1000));
        assert_eq!(curve.len(), 16);
        assert_eq!(curve[0], Point { more_ram_bytes: Bytes::mib(1), reads_saved: 100, share: 0.1 });
        assert_eq!(curve[15], Point { more_ram_bytes: Bytes::mib(16), reads_saved: 400, share: 0.4 });
        assert_eq!(
            sentence(&snapshot(1000)).as_deref(),
            Some(
                "would have saved at least, of the pages that were read: +2 MiB 10 %, +4 MiB 15 %, +8 MiB 20 %, +16 MiB 40 %"
            )
        );
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(curve(&Snapshot::default()), []);
        assert_eq!(sentence(&Snapshot::default()), None);
        assert_eq!(sentence(&snapshot(999)), None, "a few pages mean nothing");
        let none_came_back_soon = Snapshot { kept_by_more_ram: vec![0; 16], ..snapshot(1000) };
        assert_eq!(sentence(&none_came_back_soon), None);
        let without_curve = Snapshot { kept_by_more_ram: Vec::new(), ..snapshot(1000) };
        assert_eq!((curve(&without_curve), sentence(&without_curve)), (Vec::new(), None));
    }
}
