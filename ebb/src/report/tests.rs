//! That the report has what it promises, whatever happened, and stays readable.

use std::time::Duration;

use super::*;
use crate::telemetry::{Line, Record};

const EXIT: &str = r#"@{"type":"exit","outcome":"exited","status":3,"signal":null,"t_ns":2500000000,
    "vmstat":{"pgfault":10,"pgmajfault":4,"pswpin":4,"pswpout":6,"pgpgin":16},"kept_by_more_ram":[1,1],
    "belady":{"one_in":16,"window_evictions":4096,"reads":4,"minimum":3,"reads_not_judged":0},
    "pages":{"uncommitted":1,"committed_clean":2,"committed_dirty":3,"paged_out":4},"frames":{"free":5,"total":512},
    "disk":{"swap":{"reads":1,"writes":2,"read_bytes":4096,"write_bytes":8192,"flushes":0}},
    "pages_peak":{"uncommitted":9,"committed_clean":0,"committed_dirty":9,"paged_out":9},
    "fault_latency":{"unit":"ns","minor":{"count":6,"p50":1500,"p90":2000,"p99":2500,"p999":2500,"max":2501},"major":{"count":4}},
    "syscalls_unknown":[{"number":999,"name":"?","count":1}],"identities":"ok","pins":7}"#;

fn observed() -> Observed {
    let Line::Record(record) = Line::parse(&EXIT.replace('\n', "")) else { panic!() };
    let Record::Exit(exit) = record else { panic!() };
    let mut seen = Observed {
        boot: Some((Map::new(), Duration::from_millis(150))),
        last: Some(exit.last.clone()),
        exit: Some(*exit),
        wall: Duration::from_millis(2750),
        qemu_disk: Some(json!({"rd_bytes": 8192})),
        ..Observed::default()
    };
    seen.series.push(seen.last.as_ref().unwrap());
    seen
}

fn parsed(seen: Option<&Observed>) -> (String, Value) {
    let request = Request {
        argv: ["hello", "a b"].map(OsString::from).to_vec(),
        ram: Some(Bytes::mib(64)),
        swap: Some(Bytes(0)),
    };
    let ending = Ending { outcome: Outcome::Exited, status: Status(3), message: String::new() };
    let host = Host { qemu: "10.0.2".into(), accel: Accel::Tcg };
    let sources = Sources { request: &request, ending: &ending, seen, backtrace: &[], host: Some(&host) };
    let text = text(&sources).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

#[test]
fn the_promised_fields_are_there() {
    let (_, report) = parsed(Some(&observed()));
    for (path, value) in [
        ("/program", json!("hello")),
        ("/args", json!(["a b"])),
        ("/exit_status", json!(3)),
        ("/outcome", json!("exited")),
        ("/ram_bytes", json!(64 << 20)),
        ("/swap_bytes", json!(0)),
        ("/boot_ms", json!(150.0)),
        ("/wall_s", json!(2.75)),
        ("/program_s", json!(2.5)),
        ("/vmstat/pswpout", json!(6)),
        ("/more_ram/1", json!({"more_ram_bytes": 2 << 20, "reads_saved": 2, "share": 0.5})),
        ("/belady/minimum", json!(48)),
        ("/belady/share", json!(0.75)),
        ("/pages/peak/paged_out", json!(9)),
        ("/pages/exit/committed_dirty", json!(3)),
        ("/disk/swap/write_bytes", json!(8192)),
        ("/disk/qemu/swap/rd_bytes", json!(8192)),
        ("/fault_latency_us/minor/p50", json!(1.5)),
        ("/fault_latency_us/major/count", json!(4)),
        ("/syscalls_unknown/0/number", json!(999)),
        ("/identities", json!("ok")),
        ("/kernel/pins", json!(7)),
        ("/kernel_log_warnings/count", json!(0)),
        ("/host/accel", json!("tcg")),
        ("/snapshots/rows/0/0", json!(2500)),
    ] {
        assert_eq!(report.pointer(path), Some(&value), "{path}");
    }
}

#[test]
fn a_run_that_never_was_has_the_same_fields() {
    let (_, with) = parsed(Some(&observed()));
    let (_, without) = parsed(None);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&with), names(&without));
    assert!(without["vmstat"].is_null() && without["disk"]["swap"].is_null());
}

#[test]
fn short_values_stay_on_one_line_and_ours_is_recognised() {
    let (text, _) = parsed(Some(&observed()));
    assert!(text.starts_with(REPORT_START), "{text}");
    assert!(text.contains("\n  \"vmstat\": {\"pgfault\":10,"), "{text}");
    assert!(text.lines().all(|line| line.len() <= WIDTH + 40), "{text}");
}
