//! What the kernel says on its second serial line.
//!
//! Owns: telling records (`@` and one JSON object) from log lines, and the records' types. Tolerant on
//! purpose: a record with fields missing or added is still used, since tool and kernel may differ by a
//! commit. Does not own what is done with records (`session`), nor the line on which they come.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One line from the kernel.
#[derive(Debug)]
pub enum Line {
    /// Telemetry.
    Record(Record),
    /// An `@` line that is no record: half written by a dying machine, or from another version.
    Malformed(String),
    /// Kernel log.
    Log(String),
}

impl Line {
    /// Understands a line without its end.
    pub fn parse(line: &str) -> Self {
        match line.strip_prefix('@') {
            None => Self::Log(line.to_owned()),
            Some(json) => match serde_json::from_str(json) {
                Ok(record) => Self::Record(record),
                Err(error) => Self::Malformed(format!("{error}: {line}")),
            },
        }
    }
}

/// A record.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// Just before the first program's first instruction.
    Boot(Map<String, Value>),
    /// The counters, every so often.
    Snapshot(Box<Snapshot>),
    /// Memory ran out: who held what.
    Oom(Map<String, Value>),
    /// The program has ended.
    Exit(Box<Exit>),
    /// The kernel has panicked.
    Panic(Panic),
    /// The kernel will not run this.
    Refused {
        /// One sentence.
        #[serde(default)]
        message: String,
    },
    /// From a newer kernel.
    #[serde(other)]
    Unknown,
}

/// The four counts that users see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Pages {
    /// Mapped, never touched.
    pub uncommitted: u64,
    /// In RAM and the same on disk, or zero.
    pub committed_clean: u64,
    /// In RAM only.
    pub committed_dirty: u64,
    /// On disk only.
    pub paged_out: u64,
}

impl Pages {
    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self {
            uncommitted: self.uncommitted.max(other.uncommitted),
            committed_clean: self.committed_clean.max(other.committed_clean),
            committed_dirty: self.committed_dirty.max(other.committed_dirty),
            paged_out: self.paged_out.max(other.paged_out),
        }
    }
}

/// The kernel's counters at one time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Since the boot record.
    pub t_ns: u64,
    /// By their Linux names.
    pub vmstat: Map<String, Value>,
    /// What the program's pages are.
    pub pages: Pages,
    /// What the machine's frames are.
    pub frames: Map<String, Value>,
    /// The kernel's own counts, by disk.
    pub disk: Map<String, Value>,
    /// How long the program waited for pages, in all.
    pub stall_ns: u64,
    /// Pages that were read back, by how much more RAM would have kept them.
    pub kept_by_more_ram: Vec<u64>,
    /// Of a sample of the pages, what was read and what had to be.
    pub belady: Option<Belady>,
}

/// What was read of a sample of the pages, and what Belady's minimum would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Belady {
    /// One in so many pages is in the sample.
    pub one_in: u64,
    /// A page is judged if it was used within so many evictions.
    pub window_evictions: u64,
    /// Pages of the sample that were read and are judged.
    pub reads: u64,
    /// How many of the sample the best policy would have read.
    pub minimum: u64,
    /// Pages of the sample that were read and are not judged.
    pub reads_not_judged: u64,
}

impl Snapshot {
    /// A counter by its Linux name; 0 if the kernel does not have it.
    pub fn count(&self, name: &str) -> u64 {
        self.vmstat.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Faults that ended well without I/O. Linux has no name for them: Ebb's own, or what is left.
    pub fn minor_faults(&self) -> u64 {
        match self.vmstat.get("pgminfault") {
            Some(count) => count.as_u64().unwrap_or(0),
            None => self.count("pgfault").saturating_sub(self.count("pgmajfault")),
        }
    }
}

/// How the program ended, and the counters then.
#[derive(Clone, Debug, Deserialize)]
pub struct Exit {
    /// Which way.
    pub outcome: ExitKind,
    /// Exit code, or 128 and the signal.
    #[serde(default)]
    pub status: i64,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<u8>,
    /// The counters.
    #[serde(flatten)]
    pub last: Snapshot,
    /// The highest counts.
    #[serde(default)]
    pub pages_peak: Option<Pages>,
    /// How long faults took.
    #[serde(default)]
    pub fault_latency: FaultLatency,
    /// Calls the kernel does not have.
    #[serde(default)]
    pub syscalls_unknown: Vec<Value>,
    /// `ok`, or which sum does not add up.
    #[serde(default)]
    pub identities: Value,
    /// Whatever else this kernel reports.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The ways a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// By itself.
    Exited,
    /// By a signal.
    Signalled,
    /// By the kernel, for want of memory.
    OutOfMemory,
}

/// Both kinds of faults that end well.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FaultLatency {
    /// Without I/O.
    pub minor: Distribution,
    /// With I/O.
    pub major: Distribution,
}

/// A distribution of times in ns.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// 90 % took at most this.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// Where the kernel was when it panicked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Panic {
    /// What it said.
    pub message: String,
    /// Return addresses, innermost first, as `0x…`.
    pub frames: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &str) -> Record {
        match Line::parse(line) {
            Line::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_told_apart() {
        assert!(matches!(Line::parse("[    0.1] WARN swap: full"), Line::Log(text) if text.ends_with("full")));
        assert!(matches!(Line::parse(""), Line::Log(_)));
        assert!(matches!(Line::parse("@{\"type\":\"exit\",\"outc"), Line::Malformed(_)));
        assert!(matches!(Line::parse("@"), Line::Malformed(_)));
        assert!(matches!(record("@{\"type\":\"novelty\",\"x\":1}"), Record::Unknown));
    }

    #[test]
    fn a_snapshot_is_understood_with_fields_missing_or_added() {
        let line = r#"@{"type":"snapshot","t_ns":5,"vmstat":{"pgfault":7},"pages":{"paged_out":3},"new":{"a":[1]}}"#;
        let Record::Snapshot(snapshot) = record(line) else { panic!() };
        assert_eq!((snapshot.t_ns, snapshot.count("pgfault"), snapshot.count("none")), (5, 7, 0));
        assert_eq!(snapshot.pages, Pages { paged_out: 3, ..Pages::default() });
    }

    #[test]
    fn an_exit_has_the_counters_and_keeps_what_is_unknown() {
        let line = r#"@{"type":"exit","outcome":"signalled","status":139,"signal":11,"t_ns":9,"vmstat":{"pswpin":2},
            "disk":{"swap":{"reads":4}},"pages_peak":{"uncommitted":1},"fault_latency":{"unit":"ns","major":{"count":2,"p50":60000}},
            "identities":"ok","pins":{"now":0}}"#
            .replace('\n', " ");
        let Record::Exit(exit) = record(&line) else { panic!() };
        assert_eq!((exit.outcome, exit.status, exit.signal), (ExitKind::Signalled, 139, Some(11)));
        assert_eq!((exit.last.t_ns, exit.last.count("pswpin")), (9, 2));
        assert_eq!(exit.last.disk["swap"]["reads"], 4);
        assert_eq!(exit.fault_latency.major.p50, 60000);
        assert_eq!(exit.pages_peak, Some(Pages { uncommitted: 1, ..Pages::default() }));
        assert_eq!(exit.more.keys().collect::<Vec<_>>(), ["pins"]);
    }

    #[test]
    fn panics_refusals_and_ooms_are_understood() {
        assert!(
            matches!(record(r#"@{"type":"panic","message":"m","frames":["0x1"]}"#), Record::Panic(panic) if panic.frames == ["0x1"])
        );
        assert!(
            matches!(record(r#"@{"type":"refused","message":"no"}"#), Record::Refused { message } if message == "no")
        );
        assert!(matches!(record(r#"@{"type":"oom","held":[1]}"#), Record::Oom(fields) if fields.contains_key("held")));
        assert!(
            matches!(record(r#"@{"type":"boot","ram_bytes":1,"swap":null}"#), Record::Boot(fields) if fields["swap"].is_null())
        );
    }
}
