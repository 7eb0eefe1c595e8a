//! What can be set about a process: `oom_score_adj` (proc_pid_oom_score_adj(5)).
//!
//! Owns the texts. Does not own what they do (`process/victims.rs`).

use alloc::format;
use alloc::vec::Vec;

use mm::victim::Adjustment;

use crate::process::process::{Process, Tid};
use crate::process::table;
use crate::syscall::errno::Errno;

/// Something that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// How much larger than it is a process counts when memory has run out.
    OomScoreAdj,
}

/// What its file says.
pub(super) fn text(process: &Process, setting: Setting) -> Vec<u8> {
    match setting {
        Setting::OomScoreAdj => format!("{}\n", process.oom_adjustment().thousandths()).into_bytes(),
    }
}

/// Takes what was written to its file. A process that is gone is ESRCH.
pub fn set(pid: Tid, setting: Setting, text: &str) -> Result<(), Errno> {
    let process = table::find(pid).ok_or(Errno::ESRCH)?;
    match setting {
        Setting::OomScoreAdj => {
            let number = text.parse().map_err(|_| Errno::EINVAL)?;
            process.set_oom_adjustment(Adjustment::from_thousandths(number).ok_or(Errno::EINVAL)?);
        }
    }
    Ok(())
}
