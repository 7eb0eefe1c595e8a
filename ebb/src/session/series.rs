//! Counters over time, in bounded room.
//!
//! Owns: which counters are kept and how they are thinned out. Does not own how they are drawn or
//! written.

use serde::Serialize;

use crate::telemetry::Snapshot;

/// Rows that are kept at most; then every second one goes, and later ones come half as often.
const MOST: usize = 2048;

const COLUMNS: [&str; 10] = [
    "t_ms",
    "uncommitted",
    "committed_clean",
    "committed_dirty",
    "paged_out",
    "pgfault",
    "pgmajfault",
    "pswpin",
    "pswpout",
    "stall_ms",
];

type Row = [u64; COLUMNS.len()];

/// The time series of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    columns: [&'static str; COLUMNS.len()],
    rows: Vec<Row>,
    #[serde(skip)]
    stride: usize,
    #[serde(skip)]
    seen: usize,
}

impl Default for Series {
    fn default() -> Self {
        Self { columns: COLUMNS, rows: Vec::new(), stride: 1, seen: 0 }
    }
}

impl Series {
    /// Takes in a snapshot.
    pub fn push(&mut self, snapshot: &Snapshot) {
        self.seen += 1;
        if !(self.seen - 1).is_multiple_of(self.stride) {
            return;
        }
        if self.rows.len() == MOST {
            let mut keep = false;
            self.rows.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
        self.rows.push(row(snapshot));
    }
}

fn row(snapshot: &Snapshot) -> Row {
    let pages = &snapshot.pages;
    [
        snapshot.t_ns / 1_000_000,
        pages.uncommitted,
        pages.committed_clean,
        pages.committed_dirty,
        pages.paged_out,
        snapshot.count("pgfault"),
        snapshot.count("pgmajfault"),
        snapshot.count("pswpin"),
        snapshot.count("pswpout"),
        snapshot.stall_ns / 1_000_000,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_thinned_out_evenly() {
        let mut series = Series::default();
        for t in 0..10_000u64 {
            series.push(&Snapshot { t_ns: t * 1_000_000, ..Snapshot::default() });
        }
        assert!((MOST / 2..=MOST).contains(&series.rows.len()), "{}", series.rows.len());
        let steps: Vec<_> = series.rows.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
        assert!(steps.iter().all(|step| *step == series.stride as u64), "uneven: {steps:?}");
    }
}
