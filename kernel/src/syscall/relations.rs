//! Calls about who belongs to whom: parents, groups, sessions. The table is `process/table.rs`.

use super::errno::{Errno, SysResult};
use crate::process::process::Tid;
use crate::process::table::{self, Relations};
use crate::process::thread::Thread;

/// The process a call means: 0 is the caller's own.
fn meant(thread: &Thread, pid: u64) -> Tid {
    let pid = Tid::from_number(pid);
    if pid.number() == 0 { thread.process.pid } else { pid }
}

fn relations(thread: &Thread, pid: u64) -> Result<Relations, Errno> {
    table::relations(meant(thread, pid)).ok_or(Errno::ESRCH)
}

/// getppid(2).
pub(super) fn getppid(thread: &Thread) -> SysResult {
    relations(thread, 0).map(|relations| relations.parent.number().into())
}

/// getpgid(2) and getpgrp(2).
pub(super) fn getpgid(thread: &Thread, pid: u64) -> SysResult {
    relations(thread, pid).map(|relations| relations.group.number().into())
}

/// getsid(2).
pub(super) fn getsid(thread: &Thread, pid: u64) -> SysResult {
    relations(thread, pid).map(|relations| relations.session.number().into())
}

/// setsid(2).
pub(super) fn setsid(thread: &Thread) -> SysResult {
    table::begin_session(thread.process.pid).map(|session| session.number().into())
}

/// setpgid(2).
pub(super) fn setpgid(thread: &Thread, pid: u64, group: u64) -> SysResult {
    if (group as u32).cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = meant(thread, pid);
    let group = Tid::from_number(group);
    let group = if group.number() == 0 { pid } else { group };
    table::set_group(thread.process.pid, pid, group).map(|()| 0)
}
