//! `/proc`: what the kernel knows, as texts with Linux' names and formats (proc(5)).
//!
//! ```text
//!   node.rs ── names, directories, links ──▶ mod.rs (MachineFile, ProcessFile: which text)
//!                    │                         │
//!            descriptors.rs: fd                │
//!      about the machine                       │            about one process
//!      meminfo, vmstat, zoneinfo, system,      ├──▶ status (status, statm, stat), maps, settings (oom_score_adj)
//!      ../allocators (slabinfo, buddyinfo) ◀───┤            smaps (smaps, smaps_rollup)
//!                                              ▼
//!                        computed.rs: files that are computed where they are read: maps, smaps, pagemap, frames
//! ```
//! Owns which files there are. Does not own the counts: they come from `mm`'s snapshot, `crate::load`, the executor and
//! the process. A text is made when its file is opened and taken at one moment, so that its lines agree with each other; but for
//! those that could be larger than memory.

mod computed;
mod descriptors;
mod frames;
mod maps;
mod meminfo;
mod node;
mod pagemap;
mod settings;
mod smaps;
mod status;
mod system;
mod vmstat;
mod zoneinfo;

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::control::{Control, Target};
use super::{Kind, allocators};
use crate::process::memory;
use crate::process::process::Process;
use crate::syscall::errno::Errno;

pub use computed::Computed;
use computed::{About, Areas};
pub use descriptors::text as text_of_link;
pub use node::Node;
pub use settings::{Setting, set};
pub use vmstat::vmstat_counters;

/// Pages to KiB.
const KIB_PER_PAGE: u64 = 4;

/// Files about the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the files")]
pub enum MachineFile {
    BuddyInfo,
    /// `ebb_frames`
    Frames,
    LoadAvg,
    MemInfo,
    Mounts,
    /// `pressure/memory`
    MemoryPressure,
    SlabInfo,
    Stat,
    Swaps,
    Uptime,
    Version,
    VmStat,
    ZoneInfo,
}

impl MachineFile {
    /// Opens it.
    fn open(self) -> Result<Kind, Errno> {
        let mut text = Text(Vec::new());
        let written = match self {
            Self::Frames => return Ok(Kind::Computed(Computed::Frames)),
            Self::BuddyInfo => allocators::buddyinfo(&mut text),
            Self::LoadAvg => system::loadavg(&mut text),
            Self::MemInfo => meminfo::write(&mut text),
            Self::Mounts => system::mounts(&mut text),
            Self::MemoryPressure => system::pressure(&mut text),
            Self::SlabInfo => allocators::slabinfo(&mut text),
            Self::Stat => system::stat(&mut text),
            Self::Swaps => system::swaps(&mut text),
            Self::Uptime => system::uptime(&mut text),
            Self::Version => system::version(&mut text),
            Self::VmStat => vmstat::write(&mut text, &memory::snapshot()),
            Self::ZoneInfo => zoneinfo::write(&mut text),
        };
        written.map(|()| Kind::Snapshot { contents: text.0 }).map_err(|_| Errno::ENOMEM)
    }
}

/// Files about one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the files")]
pub enum ProcessFile {
    CmdLine,
    Comm,
    Maps,
    OomScore,
    OomScoreAdj,
    PageMap,
    SMaps,
    SMapsRollup,
    Stat,
    StatM,
    Status,
}

impl ProcessFile {
    fn is_writable(self) -> bool {
        matches!(self, Self::OomScoreAdj)
    }

    /// Opens it, for the process that asks.
    async fn open(self, process: &Process, who: &Process) -> Result<Kind, Errno> {
        let number = process.pid.number();
        let areas = |about| Ok(Kind::Computed(Computed::Areas(Areas::new(number, about))));
        let mut text = Text(Vec::new());
        let state = status::State::of(process, who);
        let written = match self {
            Self::CmdLine => return Ok(Kind::Snapshot { contents: process.inherited.lock().arguments.to_vec() }),
            Self::Comm => status::comm(&mut text, process),
            Self::Maps => return areas(About::Mapping),
            Self::SMaps => return areas(About::Pages),
            Self::PageMap => return Ok(Kind::Computed(Computed::PageMap(number))),
            Self::SMapsRollup => smaps::write_rollup(&mut text, process).await,
            Self::OomScore => status::oom_score(&mut text, process),
            Self::OomScoreAdj => {
                let (setting, text) = (Setting::OomScoreAdj, settings::text(process, Setting::OomScoreAdj));
                return Ok(Kind::Control(Control::new(Target::Process(process.pid, setting), text)));
            }
            Self::Stat => status::stat(&mut text, process, state).await,
            Self::StatM => status::statm(&mut text, process).await,
            Self::Status => status::status(&mut text, process, state).await,
        };
        written.map(|()| Kind::Snapshot { contents: text.0 }).map_err(|_| Errno::ENOMEM)
    }
}

/// A text that reports when there is no memory for more of it: how long `maps` is, is the program's choice.
struct Text(Vec<u8>);

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let len = self.0.len() + part.len();
        if len > self.0.capacity() {
            let capacity = len.max(2 * self.0.capacity());
            if !memory::has_room(capacity) {
                return Err(fmt::Error);
            }
            self.0.try_reserve_exact(capacity - self.0.len()).map_err(|_| fmt::Error)?;
        }
        self.0.extend_from_slice(part.as_bytes());
        Ok(())
    }
}
