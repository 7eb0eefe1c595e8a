//! The process table: who is whose child, group and session, and what is left of those who have ended.
//!
//! Owns numbers, relations and zombies. Does not own what a process is or does (`process.rs`) nor how its end is awaited
//! (`syscall/wait.rs` looks here, and is polled again whenever a child's state changes).
//!
//! ```text
//!   enter ─► Alive ──finish──► Zombie ──reap──► gone
//!               └──finish, and nobody will ask──►┘
//! ```
//! The kernel itself is number 1: the first program is its child, and so is whoever outlives its parent. It asks for
//! nobody, so its children leave no zombies.
//!
//! The table's lock comes before those of a process. Searches walk the table: with as many processes as this machine has
//! room for, an index would cost more than it saves.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::process::{Outcome, Process, Tid};
use super::signal::{Origin, SigInfo, Signal, code};
use super::usage::Used;
use crate::sync::Mutex;
use crate::syscall::errno::Errno;

/// Where a process stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Relations {
    pub parent: Tid,
    pub group: Tid,
    pub session: Tid,
}

struct Entry {
    relations: Relations,
    state: State,
    /// A change that the parent has not asked for yet.
    news: Option<News>,
}

enum State {
    Alive(Arc<Process>),
    Zombie(Remains),
}

/// What a zombie still says.
#[derive(Debug, Clone, Copy)]
struct Remains {
    outcome: Outcome,
    used: Used,
}

/// A change of state other than the end (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum News {
    Stopped(Signal),
    Continued,
}

/// What a parent learns of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Event {
    Ended(Outcome),
    Changed(News),
}

/// An event, whose it is, and what that child used if this was the last of it.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Report {
    pub pid: Tid,
    pub event: Event,
    pub used: Used,
}

/// Which children a parent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Whose {
    Anyone,
    Process(Tid),
    Group(Tid),
}

/// What a parent asks for.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names of waitid(2)")]
pub struct Question {
    pub whose: Whose,
    pub ended: bool,
    pub stopped: bool,
    pub continued: bool,
    /// WNOWAIT: the same answer may be had again.
    pub leave: bool,
}

static TABLE: Mutex<BTreeMap<Tid, Entry>> = Mutex::new(BTreeMap::new());

/// Enters a child of `parent`, in the parent's group and session; a child of the kernel leads a session of its own.
pub fn enter(process: &Arc<Process>, parent: Tid) {
    let mut table = TABLE.lock();
    let own = process.pid;
    let relations = match table.get(&parent) {
        Some(of_parent) => Relations { parent, ..of_parent.relations },
        None => Relations { parent: Tid::KERNEL, group: own, session: own },
    };
    table.insert(own, Entry { relations, state: State::Alive(Arc::clone(process)), news: None });
}

/// Every process that has not ended.
pub fn all() -> Vec<Arc<Process>> {
    let table = TABLE.lock();
    table.values().filter_map(Entry::alive).cloned().collect()
}

/// Threads of all processes, for limits.
pub fn thread_count() -> usize {
    let table = TABLE.lock();
    table.values().map(|entry| entry.alive().map_or(1, |process| process.thread_count())).sum()
}

/// A process that has not ended.
pub fn find(pid: Tid) -> Option<Arc<Process>> {
    TABLE.lock().get(&pid).and_then(Entry::alive).cloned()
}

/// Whether it has ended and not been asked for.
pub fn is_zombie(pid: Tid) -> bool {
    TABLE.lock().get(&pid).is_some_and(|entry| entry.alive().is_none())
}

/// The process that a thread belongs to.
pub fn find_by_thread(tid: Tid) -> Option<Arc<Process>> {
    let table = TABLE.lock();
    let mut alive = table.values().filter_map(Entry::alive);
    alive.find(|process| process.thread(tid).is_some()).cloned()
}

/// The processes of a group.
pub fn group(group: Tid) -> Vec<Arc<Process>> {
    let table = TABLE.lock();
    table.values().filter(|entry| entry.relations.group == group).filter_map(Entry::alive).cloned().collect()
}

/// Where a process stands.
pub fn relations(pid: Tid) -> Option<Relations> {
    TABLE.lock().get(&pid).map(|entry| entry.relations)
}

/// setsid(2).
pub fn begin_session(pid: Tid) -> Result<Tid, Errno> {
    let mut table = TABLE.lock();
    if table.values().any(|entry| entry.relations.group == pid) {
        return Err(Errno::EPERM);
    }
    let entry = table.get_mut(&pid).ok_or(Errno::ESRCH)?;
    entry.relations = Relations { group: pid, session: pid, ..entry.relations };
    Ok(pid)
}

/// setpgid(2), asked for by `caller`.
pub fn set_group(caller: Tid, pid: Tid, group: Tid) -> Result<(), Errno> {
    let mut table = TABLE.lock();
    let session = table.get(&caller).ok_or(Errno::ESRCH)?.relations.session;
    let entry = table.get(&pid).ok_or(Errno::ESRCH)?;
    let (before, is_child) = (entry.relations, entry.relations.parent == caller);
    if pid != caller && !is_child {
        return Err(Errno::ESRCH);
    }
    if is_child && entry.alive().is_some_and(|process| process.has_execed()) {
        return Err(Errno::EACCES);
    }
    if before.session == pid || before.session != session {
        return Err(Errno::EPERM);
    }
    let is_there = |relations: Relations| relations.group == group && relations.session == session;
    if group != pid && !table.values().any(|entry| is_there(entry.relations)) {
        return Err(Errno::EPERM);
    }
    if let Some(entry) = table.get_mut(&pid) {
        entry.relations.group = group;
    }
    Ok(())
}

/// A process has given everything back: its children become the kernel's, and its parent is told.
pub fn finish(process: &Process, outcome: Outcome) {
    let (parent, bereaved) = {
        let mut table = TABLE.lock();
        let bereaved = orphan_children(&mut table, process.pid);
        let Some(entry) = table.get_mut(&process.pid) else { return };
        let parent = entry.relations.parent;
        entry.state = State::Zombie(Remains { outcome, used: process.total_used() });
        entry.news = None;
        let parent = table.get(&parent).and_then(Entry::alive).cloned();
        if !parent.as_ref().is_some_and(|parent| parent.asks_for_children()) {
            table.remove(&process.pid);
        }
        (parent, bereaved)
    };
    for child in bereaved {
        let signal = child.inherited.lock().parent_death_signal;
        if let Some(signal) = signal {
            child.send(SigInfo::sent(signal, code::SI_USER, process.pid));
        }
    }
    let Some(parent) = parent else { return };
    if let Some(signal) = process.exit_signal {
        let (code, status) = match outcome {
            Outcome::Exited(status) => (code::CLD_EXITED, i32::from(status)),
            _ => (code::CLD_KILLED, outcome.to_wait_status() as i32),
        };
        parent.send(SigInfo { signal, code, origin: Origin::Child { pid: process.pid.number(), status } });
    }
    parent.wake_threads();
}

/// Gives the children of one that ends to the kernel; zombies among them are gone. Returns those who live.
fn orphan_children(table: &mut BTreeMap<Tid, Entry>, parent: Tid) -> Vec<Arc<Process>> {
    table.retain(|_, entry| entry.relations.parent != parent || entry.alive().is_some());
    let mut orphans = Vec::new();
    for entry in table.values_mut().filter(|entry| entry.relations.parent == parent) {
        entry.relations.parent = Tid::KERNEL;
        orphans.extend(entry.alive().cloned());
    }
    orphans
}

/// A process has been stopped or goes on: its parent may ask for that.
pub fn note(process: &Process, news: News) {
    let parent = {
        let mut table = TABLE.lock();
        let Some(entry) = table.get_mut(&process.pid) else { return };
        entry.news = Some(news);
        let parent = entry.relations.parent;
        table.get(&parent).and_then(Entry::alive).cloned()
    };
    let Some(parent) = parent else { return };
    let (code, signal) = match news {
        News::Stopped(signal) => (code::CLD_STOPPED, signal),
        News::Continued => (code::CLD_CONTINUED, Signal::CONT),
    };
    if !parent.actions.lock().hides_stops() {
        let origin = Origin::Child { pid: process.pid.number(), status: signal.number().into() };
        parent.send(SigInfo { signal: Signal::CHLD, code, origin });
    }
    parent.wake_threads();
}

/// Answers a parent's question, if it can be answered now. ECHILD if it never will be.
pub fn ask(parent: Tid, question: Question) -> Result<Option<Report>, Errno> {
    let mut table = TABLE.lock();
    let group = table.get(&parent).map(|entry| entry.relations.group);
    let mut is_any = false;
    let mut answer = None;
    for (&pid, entry) in table.iter_mut().filter(|(_, entry)| entry.relations.parent == parent) {
        let is_meant = match question.whose {
            Whose::Anyone => true,
            Whose::Process(wanted) => pid == wanted,
            // Group 0 is the caller's own (waitpid(2)).
            Whose::Group(wanted) => {
                Some(entry.relations.group) == Some(wanted).filter(|wanted| wanted.number() != 0).or(group)
            }
        };
        if !is_meant {
            continue;
        }
        is_any = true;
        answer = entry.answer(pid, question);
        if answer.is_some() {
            break;
        }
    }
    match answer {
        Some(report) => {
            if let (Event::Ended(_), false) = (report.event, question.leave) {
                table.remove(&report.pid);
            }
            Ok(Some(report))
        }
        None if is_any => Ok(None),
        None => Err(Errno::ECHILD),
    }
}

impl Entry {
    fn alive(&self) -> Option<&Arc<Process>> {
        match &self.state {
            State::Alive(process) => Some(process),
            State::Zombie(_) => None,
        }
    }

    fn answer(&mut self, pid: Tid, question: Question) -> Option<Report> {
        if let State::Zombie(remains) = &self.state {
            let Remains { outcome, used } = *remains;
            return question.ended.then_some(Report { pid, event: Event::Ended(outcome), used });
        }
        let news = self.news?;
        let is_wanted = match news {
            News::Stopped(_) => question.stopped,
            News::Continued => question.continued,
        };
        if is_wanted && !question.leave {
            self.news = None;
        }
        is_wanted.then_some(Report { pid, event: Event::Changed(news), used: Used::default() })
    }
}
