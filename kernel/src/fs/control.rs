//! Open files that take values: `/sys/fs/cgroup`, and what can be set under `/proc`.
//!
//! Owns what one said when it was opened, and whom a value goes to. Does not own the values (`cgroup.rs`, `proc/settings.rs`).

use alloc::vec::Vec;

use mm::group::GroupId;

use super::cgroup;
use super::proc::{self, Setting};
use crate::process::process::{Process, Tid};
use crate::syscall::errno::Errno;

/// Whom values go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A file of a memory group.
    Group(GroupId, cgroup::File),
    /// Something that can be set about a process.
    Process(Tid, Setting),
}

/// A file that was opened: what it said then, and what it takes.
pub struct Control {
    target: Target,
    /// What it said when it was opened.
    pub contents: Vec<u8>,
}

impl Control {
    /// One that says this.
    pub fn new(target: Target, contents: Vec<u8>) -> Self {
        Self { target, contents }
    }

    /// One write(2), which is one value.
    pub fn write(&self, bytes: &[u8], who: &Process) -> Result<(), Errno> {
        let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?.trim();
        match self.target {
            Target::Group(group, file) => file.write(group, text, who),
            Target::Process(pid, setting) => proc::set(pid, setting, text),
        }
    }
}
