//! The tree under `/proc`: names, directories, links.
//!
//! Owns which name is where and its inode number. Does not own what is in a file. A node names its process by number and
//! looks it up at every use: who has an open directory of a process that ends finds nothing there any more.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::{MachineFile, ProcessFile, descriptors};
use crate::fs::attributes::{Attributes, FileType};
use crate::fs::vnode::{Access, DirEntry, Synthetic};
use crate::fs::{Kind, OpenFile};
use crate::process;
use crate::process::memory;
use crate::process::process::{Process, Tid};
use crate::syscall::errno::Errno;

/// `st_dev` of everything under `/proc`.
const DEVICE: u64 = 5;

/// A process's number, as it stands in a path.
pub(super) type Number = u32;

/// A place under `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// `/proc`
    Root,
    /// `/proc/pressure`
    Pressure,
    /// `/proc/self`: a symbolic link to the directory of whoever asks.
    Own,
    /// A file about the machine.
    Machine(MachineFile),
    /// `/proc/NUMBER`
    Process(Number),
    /// `/proc/NUMBER/exe`: a symbolic link to the program.
    Executable(Number),
    /// `/proc/NUMBER/fd`
    Descriptors(Number),
    /// `/proc/NUMBER/fd/N`: a symbolic link to an open file.
    Descriptor(Number, u16),
    /// A file about a process.
    OfProcess(Number, ProcessFile),
}

/// Names in `/proc`, but for the processes. Their order is that of the directory; its positions must not change.
const ROOT: [(&[u8], Node); 14] = [
    (b"self", Node::Own),
    (b"pressure", Node::Pressure),
    (b"buddyinfo", Node::Machine(MachineFile::BuddyInfo)),
    (b"ebb_frames", Node::Machine(MachineFile::Frames)),
    (b"loadavg", Node::Machine(MachineFile::LoadAvg)),
    (b"meminfo", Node::Machine(MachineFile::MemInfo)),
    (b"mounts", Node::Machine(MachineFile::Mounts)),
    (b"slabinfo", Node::Machine(MachineFile::SlabInfo)),
    (b"stat", Node::Machine(MachineFile::Stat)),
    (b"swaps", Node::Machine(MachineFile::Swaps)),
    (b"uptime", Node::Machine(MachineFile::Uptime)),
    (b"version", Node::Machine(MachineFile::Version)),
    (b"vmstat", Node::Machine(MachineFile::VmStat)),
    (b"zoneinfo", Node::Machine(MachineFile::ZoneInfo)),
];

/// Names in `/proc/pressure`.
const PRESSURE: [(&[u8], Node); 1] = [(b"memory", Node::Machine(MachineFile::MemoryPressure))];

/// Names of the files in `/proc/NUMBER`, beside `exe` and `fd`.
const OF_PROCESS: [(&[u8], ProcessFile); 11] = [
    (b"cmdline", ProcessFile::CmdLine),
    (b"comm", ProcessFile::Comm),
    (b"maps", ProcessFile::Maps),
    (b"oom_score", ProcessFile::OomScore),
    (b"oom_score_adj", ProcessFile::OomScoreAdj),
    (b"pagemap", ProcessFile::PageMap),
    (b"smaps", ProcessFile::SMaps),
    (b"smaps_rollup", ProcessFile::SMapsRollup),
    (b"stat", ProcessFile::Stat),
    (b"statm", ProcessFile::StatM),
    (b"status", ProcessFile::Status),
];
const EXE: &[u8] = b"exe";
const FD: &[u8] = b"fd";

/// The process of a number; gone is ENOENT, as for a name that is not there.
pub(super) fn find(number: Number) -> Result<Arc<Process>, Errno> {
    process::table::find(Tid::from_number(number.into())).ok_or(Errno::ENOENT)
}

/// A number as Linux writes it: no sign, no zeroes before it.
fn parse(name: &[u8]) -> Option<Number> {
    let digits = name.iter().all(u8::is_ascii_digit) && name.first() != Some(&b'0');
    core::str::from_utf8(name).ok().filter(|_| digits)?.parse().ok()
}

fn named(table: &'static [(&'static [u8], Node)], name: &[u8]) -> Option<Node> {
    table.iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
}

impl Node {
    fn kind(self) -> FileType {
        match self {
            Self::Root | Self::Pressure | Self::Process(_) | Self::Descriptors(_) => FileType::Directory,
            Self::Own | Self::Executable(_) | Self::Descriptor(..) => FileType::Symlink,
            Self::Machine(_) | Self::OfProcess(..) => FileType::Regular,
        }
    }

    fn is_writable(self) -> bool {
        matches!(self, Self::OfProcess(_, file) if file.is_writable())
    }

    /// Machine files from 16 on, each process from its number times 256 on, its open files far behind.
    fn inode(self) -> u64 {
        let of = |number: Number, index: u64| u64::from(number) << 8 | 0x80 | index;
        match self {
            Self::Root => 1,
            Self::Pressure => 2,
            Self::Own => 3,
            Self::Machine(file) => 16 + file as u64,
            Self::Process(number) => of(number, 0),
            Self::Executable(number) => of(number, 1),
            Self::Descriptors(number) => of(number, 0x7f),
            Self::Descriptor(number, fd) => 1 << 48 | u64::from(number) << 16 | u64::from(fd),
            Self::OfProcess(number, file) => of(number, 2 + file as u64),
        }
    }

    /// The process that it is about, if there still is one.
    fn number(self) -> Option<Number> {
        match self {
            Self::Process(number) | Self::Executable(number) | Self::OfProcess(number, _) => Some(number),
            Self::Descriptors(number) | Self::Descriptor(number, _) => Some(number),
            Self::Root | Self::Pressure | Self::Own | Self::Machine(_) => None,
        }
    }

    /// The open file that a link in `/proc/NUMBER/fd` is for.
    pub fn open_file(self) -> Option<Result<Arc<OpenFile>, Errno>> {
        match self {
            Self::Descriptor(number, fd) => Some(descriptors::open_file(number, fd)),
            _ => None,
        }
    }

    fn emit(self, name: &[u8], next: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        emit(DirEntry { inode: self.inode(), kind: self.kind(), name, next })
    }
}

/// The processes, in order of their numbers; a process's position is its number behind the names, so that none is shown
/// twice or left out when others begin and end meanwhile.
fn processes(from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
    let first = from.saturating_sub(ROOT.len() as u64);
    let mut numbers: Vec<_> = process::all().iter().map(|process| process.pid.number()).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().filter(|number| u64::from(*number) >= first) {
        let name = alloc::format!("{number}");
        Node::Process(number).emit(name.as_bytes(), ROOT.len() as u64 + u64::from(number) + 1, emit)?;
    }
    ControlFlow::Continue(())
}

impl Synthetic for Node {
    const ROOT: Self = Self::Root;

    fn child(self, name: &[u8], _: &Process) -> Result<Self, Errno> {
        match self {
            Self::Root => match parse(name) {
                Some(number) => find(number).map(|_| Self::Process(number)),
                None => named(&ROOT, name).ok_or(Errno::ENOENT),
            },
            Self::Pressure => named(&PRESSURE, name).ok_or(Errno::ENOENT),
            Self::Process(number) if name == EXE => Ok(Self::Executable(number)),
            Self::Process(number) if name == FD => Ok(Self::Descriptors(number)),
            Self::Descriptors(number) => {
                let fd = descriptors::parse(name)?;
                descriptors::open_file(number, fd).map(|_| Self::Descriptor(number, fd))
            }
            Self::Process(number) => {
                let file = OF_PROCESS.iter().find(|(known, _)| *known == name);
                file.map(|(_, file)| Self::OfProcess(number, *file)).ok_or(Errno::ENOENT)
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn parent(self) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Machine(MachineFile::MemoryPressure) => Some(Self::Pressure),
            Self::Pressure | Self::Own | Self::Machine(_) | Self::Process(_) => Some(Self::Root),
            Self::Executable(number) | Self::Descriptors(number) | Self::OfProcess(number, _) => {
                Some(Self::Process(number))
            }
            Self::Descriptor(number, _) => Some(Self::Descriptors(number)),
        }
    }

    fn attributes(self, _: &Process) -> Result<Attributes, Errno> {
        self.number().map(find).transpose()?;
        let permissions = match self.kind() {
            _ if let Self::Descriptor(number, fd) = self => {
                descriptors::permissions(descriptors::open_file(number, fd)?.access)
            }
            FileType::Directory => 0o555,
            FileType::Symlink => 0o777,
            _ if self.is_writable() => 0o644,
            _ => 0o444,
        };
        Ok(Attributes::made_up(self.kind(), permissions, DEVICE, self.inode()))
    }

    fn link(self, who: &Process) -> Option<Vec<u8>> {
        match self {
            Self::Own => Some(alloc::format!("{}", who.pid.number()).into_bytes()),
            Self::Executable(number) => find(number).ok().map(|process| process.executable().to_vec()),
            _ => None,
        }
    }

    fn entries(self, _: &Process, from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) {
        let mut table = |names: &[(&[u8], Self)]| {
            let mut entries = (1..).zip(names).skip(usize::try_from(from).unwrap_or(usize::MAX));
            entries.try_for_each(|(next, (name, node))| node.emit(name, next, emit))
        };
        let _all_or_enough = match self {
            Self::Root => match table(&ROOT) {
                ControlFlow::Continue(()) => processes(from, emit),
                enough => enough,
            },
            Self::Pressure => table(&PRESSURE),
            Self::Process(number) => {
                let files = OF_PROCESS.iter().map(|(name, file)| (*name, Self::OfProcess(number, *file)));
                let others = [(EXE, Self::Executable(number)), (FD, Self::Descriptors(number))];
                let names: Vec<_> = others.into_iter().chain(files).collect();
                table(&names)
            }
            Self::Descriptors(number) => descriptors::each(number, from, |node, fd| {
                node.emit(alloc::format!("{fd}").as_bytes(), u64::from(fd) + 1, emit)
            }),
            _ => ControlFlow::Continue(()),
        };
    }

    async fn open(self, access: Access, who: &Process) -> Result<Kind, Errno> {
        if access.write && !self.is_writable() {
            return Err(Errno::EACCES);
        }
        memory::wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
        memory::settle_counts().await;
        match self {
            Self::Machine(file) => file.open(),
            Self::OfProcess(number, file) => {
                let process = find(number)?;
                file.open(&process, who).await
            }
            _ => Err(Errno::EACCES),
        }
    }
}
