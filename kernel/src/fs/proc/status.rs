//! What one process is and has: `status`, `statm`, `stat`, `comm` (proc_pid_status(5), proc_pid_stat(5)).
//!
//! Owns the texts. A process is shown as running to itself and as sleeping to others: on one CPU, whoever reads is who
//! runs, and whether another's threads are ready is not kept. What is resident and what is in swap is explained in `smaps`.

use alloc::string::String;
use core::fmt::{self, Write};

use mm::space::Label;

use super::maps::pages;
use super::{KIB_PER_PAGE, Text};
use crate::process::process::{Process, Tid};
use crate::process::table::{self, Relations};

/// `USER_HZ` is 100 (time(7)).
const NS_PER_TICK: u64 = 10_000_000;
const PAGE: u64 = 4096;

fn name(process: &Process) -> String {
    String::from_utf8_lossy(&process.name()).into_owned()
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Sleeping,
    Stopped,
}

impl State {
    /// As `who` sees it.
    pub(super) fn of(process: &Process, who: &Process) -> Self {
        match process.is_stopped() {
            true => Self::Stopped,
            false if process.pid == who.pid => Self::Running,
            false => Self::Sleeping,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Sleeping => 'S',
            Self::Stopped => 'T',
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Running => "R (running)",
            Self::Sleeping => "S (sleeping)",
            Self::Stopped => "T (stopped)",
        }
    }
}

/// Its relatives; one that has just ended has none.
fn relations(process: &Process) -> Relations {
    let nobody = Tid::from_number(0);
    table::relations(process.pid).unwrap_or(Relations { parent: nobody, group: nobody, session: nobody })
}

/// `comm`
pub(super) fn comm(text: &mut Text, process: &Process) -> fmt::Result {
    writeln!(text, "{}", name(process))
}

/// `oom_score`: who has most of these is the one that ends when memory has run out (proc_pid_oom_score(5)).
pub(super) fn oom_score(text: &mut Text, process: &Process) -> fmt::Result {
    writeln!(text, "{}", process.oom_score())
}

/// `statm`: in pages.
pub(super) async fn statm(text: &mut Text, process: &Process) -> fmt::Result {
    let has = process.footprint().await;
    let code = pages(process, |area| area.label == Label::Image && area.rights.execute.is_allowed());
    let data = pages(process, |area| area.rights.write.is_allowed());
    writeln!(text, "{} {} 0 {code} 0 {data} 0", has.mapped, has.resident)
}

/// `status`
pub(super) async fn status(text: &mut Text, process: &Process, state: State) -> fmt::Result {
    let has = process.footprint().await;
    let pid = process.pid.number();
    let parent = relations(process).parent.number();
    let kib = |pages: u64| pages * KIB_PER_PAGE;
    let labelled = |label| kib(pages(process, |area| area.label == label));
    let code = pages(process, |area| area.label == Label::Image && area.rights.execute.is_allowed());
    let data = pages(process, |area| area.rights.write.is_allowed() && area.label != Label::Stack);
    writeln!(text, "Name:\t{}\nUmask:\t0022\nState:\t{}", name(process), state.in_words())?;
    writeln!(text, "Tgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0")?;
    writeln!(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t256\nGroups:\t0 ")?;
    let lines = [
        ("VmSize", kib(has.mapped)),
        ("VmLck", 0),
        ("VmPin", 0),
        ("VmRSS", kib(has.resident)),
        ("RssAnon", kib(has.resident)),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", kib(data)),
        ("VmStk", labelled(Label::Stack)),
        ("VmExe", kib(code)),
        ("VmLib", 0),
        ("VmSwap", kib(has.away)),
    ];
    lines.iter().try_for_each(|(name, kib)| writeln!(text, "{name}:\t{kib:8} kB"))?;
    writeln!(text, "Threads:\t{}", process.thread_count())
}

/// `stat`: 52 numbers in a line. Those that mean nothing here are 0, as Linux has it for what it has given up.
pub(super) async fn stat(text: &mut Text, process: &Process, state: State) -> fmt::Result {
    let has = process.footprint().await;
    let pid = process.pid.number();
    let (own, children) = (process.usage.used(), process.children_usage.used());
    let [user, of_children] = [own, children].map(|used| used.user_ns / NS_PER_TICK);
    let Relations { parent, group, session } = relations(process);
    let (parent, group, session) = (parent.number(), group.number(), session.number());
    // pid comm state ppid pgrp session tty_nr tpgid flags
    write!(text, "{pid} ({}) {} {parent} {group} {session} 0 -1 0", name(process), state.letter())?;
    // minflt cminflt majflt cmajflt utime stime cutime cstime priority nice num_threads itrealvalue starttime
    write!(text, " {} {}", own.minor_faults, children.minor_faults)?;
    write!(text, " {} {}", own.major_faults, children.major_faults)?;
    let began = process.began_ns / NS_PER_TICK;
    write!(text, " {user} 0 {of_children} 0 20 0 {} 0 {began}", process.thread_count())?;
    // vsize rss rsslim
    write!(text, " {} {} {}", has.mapped * PAGE, has.resident, u64::MAX)?;
    // startcode endcode startstack kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap cnswap
    write!(text, " 0 0 0 0 0 0 0 0 0 0 0 0")?;
    // exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time
    write!(text, " 17 0 0 0 0 0 0")?;
    // start_data end_data start_brk arg_start arg_end env_start env_end exit_code
    writeln!(text, " 0 0 0 0 0 0 0 0")
}
