//! A verdict of the memory manager's, as it is told: a line of `name=value`, and an object of JSON with the same fields.
//!
//! Owns the fields, which programs parse. Does not own the figures (`mm::victim`) nor who is told (`report.rs`).
//!
//! ```text
//! OOM victim=4 name=hog why=group:/small grounds=worst asker=3 rss_pages=5120 swap_pages=900 pt_pages=14 adj=0 frees=5130
//!     frees_slots=900 stalled_us=1200 tried=scanned:20480,reclaimed:0,written:0,tables:3,waits:2
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use mm::victim::{Grounds, Scope, Verdict};

use crate::load;
use crate::process::process::Process;
use crate::process::{groups, victims};

/// What is told.
pub(super) struct Judgement<'a> {
    pub verdict: &'a Verdict,
    victim: u32,
    name: String,
    scope: String,
    asker: u32,
    stalled_us: u64,
}

/// Letters that can stand in a value: one word, and nothing a terminal would obey.
fn word(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect()
}

impl<'a> Judgement<'a> {
    /// At this moment; `victim` is nobody if it has left.
    pub fn of(verdict: &'a Verdict, victim: Option<&Process>) -> Self {
        let scope = match verdict.scope {
            Scope::Machine => String::from("machine"),
            Scope::Group(group) => word(&[b"group:", &groups::path_of(group)[..]].concat()),
        };
        Self {
            verdict,
            victim: victim.map_or(0, |victim| victim.pid.number()),
            name: victim.map_or_else(|| String::from("-"), |victim| word(&victim.name())),
            scope,
            asker: victims::those_in(verdict.asker).first().map_or(0, |asker| asker.pid.number()),
            stalled_us: load::stalled_ns() / 1000,
        }
    }

    /// Why it is this one, where that needs to be said.
    pub fn reason(&self) -> &'static str {
        match self.verdict.grounds {
            Grounds::Worst => "",
            Grounds::OnlyInit => " (the first program: nobody else is left)",
            Grounds::NobodyElse => " (it asked, and nobody may be killed)",
        }
    }

    fn grounds(&self) -> &'static str {
        match self.verdict.grounds {
            Grounds::Worst => "worst",
            Grounds::OnlyInit => "only_init",
            Grounds::NobodyElse => "nobody_else",
        }
    }

    fn numbers(&self) -> [(&'static str, i64); 8] {
        let Verdict { holdings, adjustment, frees_frames, frees_slots, .. } = *self.verdict;
        [
            ("asker", self.asker.into()),
            ("rss_pages", holdings.resident as i64),
            ("swap_pages", holdings.away as i64),
            ("pt_pages", holdings.tables as i64),
            ("adj", adjustment.thousandths()),
            ("frees", frees_frames as i64),
            ("frees_slots", frees_slots as i64),
            ("stalled_us", self.stalled_us as i64),
        ]
    }

    fn tried(&self) -> [(&'static str, u64); 5] {
        let tried = self.verdict.tried;
        [
            ("scanned", tried.scanned),
            ("reclaimed", tried.reclaimed),
            ("written", tried.written),
            ("tables", tried.tables),
            ("waits", tried.waits),
        ]
    }

    /// As an object of JSON.
    pub fn json(&self) -> String {
        let fields = |fields: &[(&str, i64)]| -> Vec<String> {
            fields.iter().map(|(name, value)| alloc::format!("\"{name}\":{value}")).collect()
        };
        let tried = self.tried().map(|(name, count)| (name, count as i64));
        alloc::format!(
            "{{\"victim\":{},\"name\":{},\"why\":{},\"grounds\":\"{}\",{},\"tried\":{{{}}}}}",
            self.victim,
            crate::telemetry::Json(&self.name),
            crate::telemetry::Json(&self.scope),
            self.grounds(),
            fields(&self.numbers()).join(","),
            fields(&tried).join(","),
        )
    }
}

impl fmt::Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { victim, name, scope, .. } = self;
        write!(f, "victim={victim} name={name} why={scope} grounds={}", self.grounds())?;
        self.numbers().iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))?;
        for (i, (name, count)) in self.tried().iter().enumerate() {
            write!(f, "{}{name}:{count}", if i == 0 { " tried=" } else { "," })?;
        }
        Ok(())
    }
}
