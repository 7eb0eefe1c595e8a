//! QEMU's control protocol, as much of it as a run needs (QEMU `docs/interop/qmp-spec.rst`).
//!
//! Owns: the three commands and the understanding of what comes back. Does not own the socket.

use serde::Deserialize;
use serde_json::Value;

/// What ebb asks of QEMU. Each is answered by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Ends negotiation; must be first.
    Capabilities,
    /// The counters of every disk.
    BlockStats,
    /// End.
    Quit,
}

impl Request {
    /// The line to send.
    pub fn line(self) -> String {
        let name = self.name();
        format!("{{\"execute\":\"{name}\",\"id\":\"{name}\"}}\n")
    }

    fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "qmp_capabilities",
            Self::BlockStats => "query-blockstats",
            Self::Quit => "quit",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Capabilities, Self::BlockStats, Self::Quit].into_iter().find(|request| request.name() == name)
    }
}

/// What QEMU says.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// It is there, and waits for [`Request::Capabilities`].
    Greeting,
    /// The answer to a request; null if the request failed.
    Answer(Request, Value),
    /// The guest has ended, for QEMU's reason (`guest-shutdown`, `guest-reset`, `guest-panic`).
    GuestEnded(String),
    /// Anything else.
    Other,
}

impl Message {
    /// Understands one line.
    pub fn parse(line: &str) -> Self {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(rename = "QMP")]
            greeting: Option<Value>,
            id: Option<String>,
            #[serde(rename = "return", default)]
            answer: Value,
            event: Option<String>,
            data: Option<Data>,
        }
        #[derive(Deserialize)]
        struct Data {
            #[serde(default)]
            guest: bool,
            reason: Option<String>,
        }
        let Ok(raw) = serde_json::from_str::<Raw>(line) else {
            return Self::Other;
        };
        if raw.greeting.is_some() {
            return Self::Greeting;
        }
        if let Some(request) = raw.id.as_deref().and_then(Request::named) {
            return Self::Answer(request, raw.answer);
        }
        match (raw.event.as_deref(), raw.data) {
            (Some("SHUTDOWN"), Some(Data { guest: true, reason })) => Self::GuestEnded(reason.unwrap_or_default()),
            _ => Self::Other,
        }
    }
}

/// The counters of one disk, from the answer to [`Request::BlockStats`].
pub fn disk_counters(answer: &Value, device: &str) -> Option<Value> {
    const KEPT: [&str; 12] = [
        "rd_operations",
        "rd_bytes",
        "rd_merged",
        "wr_operations",
        "wr_bytes",
        "wr_merged",
        "flush_operations",
        "unmap_operations",
        "unmap_bytes",
        "failed_rd_operations",
        "failed_wr_operations",
        "failed_unmap_operations",
    ];
    let disk = answer.as_array()?.iter().find(|disk| disk["device"] == device)?;
    let counters = KEPT.iter().filter_map(|name| Some(((*name).to_owned(), disk["stats"].get(*name)?.clone())));
    Some(Value::Object(counters.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_says_is_told_apart() {
        assert_eq!(Message::parse(r#"{"QMP": {"version": {}, "capabilities": []}}"#), Message::Greeting);
        assert_eq!(
            Message::parse(r#"{"return": [], "id": "query-blockstats"}"#),
            Message::Answer(Request::BlockStats, Value::Array(vec![]))
        );
        let ended = r#"{"timestamp": {}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        assert_eq!(Message::parse(ended), Message::GuestEnded("guest-reset".into()));
        let ours = r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}"#;
        assert_eq!(Message::parse(ours), Message::Other);
        assert_eq!(Message::parse(r#"{"event": "STOP"}"#), Message::Other);
        assert_eq!(Message::parse("garbage"), Message::Other);
    }

    #[test]
    fn one_disk_s_counters_are_picked_out() {
        let answer = serde_json::json!([
            {"device": "data", "stats": {"rd_bytes": 1}},
            {"device": "swap", "stats": {"rd_bytes": 2, "wr_bytes": 3, "account_failed": true}},
        ]);
        assert_eq!(disk_counters(&answer, "swap"), Some(serde_json::json!({"rd_bytes": 2, "wr_bytes": 3})));
        assert_eq!(disk_counters(&answer, "none"), None);
        assert_eq!(disk_counters(&Value::Null, "swap"), None);
    }
}
