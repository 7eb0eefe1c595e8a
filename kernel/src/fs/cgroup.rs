//! `/sys/fs/cgroup`: memory groups, as Linux' cgroup2 shows its memory controller (Documentation/admin-guide/cgroup-v2.rst).
//!
//! Owns names and texts of the files. Does not own what they say (`process/groups.rs`, `mm::group`). One level of
//! groups below the root, made by mkdir(2) and dissolved by rmdir(2); what lies above, `/sys` and `/sys/fs`, holds
//! nothing else. Page tables and the kernel's own memory are charged to nobody, so there is no `kernel` in
//! `memory.stat`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::ControlFlow;

use mm::group::{GroupId, GroupStats, MAX_GROUPS};

use super::Kind;
use super::attributes::{Attributes, FileType};
use super::control::{Control, Target};
use super::vnode::{Access, DirEntry, Synthetic};
use crate::process::process::{Process, Tid};
use crate::process::{groups, memory};
use crate::syscall::errno::Errno;

/// `st_dev` of everything here.
const DEVICE: u64 = 7;
const PAGE: u64 = 4096;
/// Inodes that each group takes.
const INODES_PER_GROUP: u64 = 32;

/// A file of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the files")]
pub enum File {
    Controllers,
    SubtreeControl,
    MaxDepth,
    MaxDescendants,
    Procs,
    Events,
    Current,
    Peak,
    Max,
    SwapCurrent,
    SwapMax,
    MemoryEvents,
    Stat,
}

impl File {
    const OF_ROOT: [(&'static str, Self); 5] = [
        ("cgroup.controllers", Self::Controllers),
        ("cgroup.subtree_control", Self::SubtreeControl),
        ("cgroup.max.depth", Self::MaxDepth),
        ("cgroup.max.descendants", Self::MaxDescendants),
        ("cgroup.procs", Self::Procs),
    ];
    const OF_GROUP: [(&'static str, Self); 10] = [
        ("cgroup.controllers", Self::Controllers),
        ("cgroup.procs", Self::Procs),
        ("cgroup.events", Self::Events),
        ("memory.current", Self::Current),
        ("memory.peak", Self::Peak),
        ("memory.max", Self::Max),
        ("memory.swap.current", Self::SwapCurrent),
        ("memory.swap.max", Self::SwapMax),
        ("memory.events", Self::MemoryEvents),
        ("memory.stat", Self::Stat),
    ];

    fn of(group: GroupId) -> &'static [(&'static str, Self)] {
        if group.is_root() { &Self::OF_ROOT } else { &Self::OF_GROUP }
    }

    fn is_writable(self) -> bool {
        matches!(self, Self::Procs | Self::Max | Self::SwapMax | Self::SubtreeControl)
    }

    /// What it says now.
    fn render(self, group: GroupId) -> Result<String, Errno> {
        let stats = || groups::stats(group);
        Ok(match self {
            Self::Controllers | Self::SubtreeControl => "memory\n".into(),
            Self::MaxDepth => "1\n".into(),
            Self::MaxDescendants => format!("{MAX_GROUPS}\n"),
            Self::Procs => lines(groups::members(group).into_iter().map(Tid::number)),
            Self::Events => format!("populated {}\nfrozen 0\n", u8::from(!groups::members(group).is_empty())),
            Self::Current => format!("{}\n", stats()?.frames * PAGE),
            Self::Peak => format!("{}\n", stats()?.frames_peak * PAGE),
            Self::Max => limit_text(stats()?.limits.frames),
            Self::SwapCurrent => format!("{}\n", stats()?.slots * PAGE),
            Self::SwapMax => limit_text(stats()?.limits.slots),
            Self::MemoryEvents => {
                let GroupStats { events, .. } = stats()?;
                let (max, oom, kills) = (events.max, events.oom, events.oom_kill);
                format!("low 0\nhigh 0\nmax {max}\noom {oom}\noom_kill {kills}\noom_group_kill 0\n")
            }
            Self::Stat => {
                let GroupStats { frames, events, .. } = stats()?;
                format!("anon {}\npgscan {}\npgsteal {}\n", frames * PAGE, events.pgscan, events.pgsteal)
            }
        })
    }

    /// Takes what was written to it.
    pub fn write(self, group: GroupId, text: &str, who: &Process) -> Result<(), Errno> {
        match self {
            Self::Procs => {
                let number: u32 = text.parse().map_err(|_| Errno::EINVAL)?;
                let pid = if number == 0 { who.pid } else { Tid::from_number(number.into()) };
                groups::join(group, pid)
            }
            Self::Max => {
                let most = parse_limit(text)?;
                groups::limit(group, |limits| limits.frames = most)
            }
            Self::SwapMax => {
                let most = parse_limit(text)?;
                groups::limit(group, |limits| limits.slots = most)
            }
            // There is one controller, and it is always on.
            Self::SubtreeControl if text.split(' ').all(|word| word == "+memory") => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }
}

fn lines(numbers: impl Iterator<Item = u32>) -> String {
    numbers.fold(String::new(), |mut text, number| {
        let _never_fails = writeln!(text, "{number}");
        text
    })
}

fn limit_text(pages: Option<u64>) -> String {
    pages.map_or_else(|| "max\n".into(), |pages| format!("{}\n", pages * PAGE))
}

/// `max`, or bytes with a unit (Linux' `memparse`), rounded down to pages.
fn parse_limit(text: &str) -> Result<Option<u64>, Errno> {
    if text == "max" {
        return Ok(None);
    }
    let (digits, shift) = match text.as_bytes().last().ok_or(Errno::EINVAL)?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    Ok(Some(number.checked_mul(1 << shift).ok_or(Errno::EINVAL)? / PAGE))
}

/// A place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// `/sys`
    Sys,
    /// `/sys/fs`
    Fs,
    /// A group; the root is `/sys/fs/cgroup`.
    Group(GroupId),
    /// One of its files.
    File(GroupId, File),
}

impl Node {
    fn kind(self) -> FileType {
        if matches!(self, Self::File(..)) { FileType::Regular } else { FileType::Directory }
    }

    fn inode(self) -> u64 {
        let first = |group: GroupId| INODES_PER_GROUP * (1 + u64::from(group.number()));
        match self {
            Self::Sys => 1,
            Self::Fs => 2,
            Self::Group(group) => first(group),
            Self::File(group, file) => first(group) + 1 + file as u64,
        }
    }

    /// mkdir(2): the root is the only directory that takes groups.
    pub async fn make_directory(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Group(group) if group.is_root() => groups::make(name).await,
            // cgroup.max.depth.
            Self::Group(_) => Err(Errno::EAGAIN),
            _ => Err(Errno::EPERM),
        }
    }

    /// rmdir(2).
    pub async fn remove_directory(self) -> Result<(), Errno> {
        match self {
            Self::Group(group) if !group.is_root() => groups::remove(group).await,
            _ => Err(Errno::EPERM),
        }
    }
}

impl Synthetic for Node {
    const ROOT: Self = Self::Sys;

    fn child(self, name: &[u8], _: &Process) -> Result<Self, Errno> {
        let child = match self {
            Self::Sys => (name == b"fs").then_some(Self::Fs),
            Self::Fs => (name == b"cgroup").then_some(Self::Group(GroupId::ROOT)),
            Self::Group(group) => {
                let file = File::of(group).iter().find(|(known, _)| known.as_bytes() == name);
                let group_of_name = || group.is_root().then(|| groups::find(name)).flatten().map(Self::Group);
                file.map(|(_, file)| Self::File(group, *file)).or_else(group_of_name)
            }
            Self::File(..) => return Err(Errno::ENOTDIR),
        };
        child.ok_or(Errno::ENOENT)
    }

    fn parent(self) -> Option<Self> {
        match self {
            Self::Sys => None,
            Self::Fs => Some(Self::Sys),
            Self::Group(group) if group.is_root() => Some(Self::Fs),
            Self::Group(_) => Some(Self::Group(GroupId::ROOT)),
            Self::File(group, _) => Some(Self::Group(group)),
        }
    }

    fn attributes(self, _: &Process) -> Result<Attributes, Errno> {
        let permissions = match self {
            Self::Group(group) | Self::File(group, _) if !groups::exists(group) => return Err(Errno::ENOENT),
            Self::File(_, file) if file.is_writable() => 0o644,
            Self::File(..) => 0o444,
            _ => 0o755,
        };
        Ok(Attributes::made_up(self.kind(), permissions, DEVICE, self.inode()))
    }

    fn link(self, _: &Process) -> Option<Vec<u8>> {
        None
    }

    fn entries(self, _: &Process, from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) {
        let mut entries: Vec<(Vec<u8>, Self)> = match self {
            Self::Sys => alloc::vec![(b"fs".to_vec(), Self::Fs)],
            Self::Fs => alloc::vec![(b"cgroup".to_vec(), Self::Group(GroupId::ROOT))],
            Self::Group(group) => {
                let file = |(name, file): &(&str, File)| (name.as_bytes().to_vec(), Self::File(group, *file));
                File::of(group).iter().map(file).collect()
            }
            Self::File(..) => Vec::new(),
        };
        if self == Self::Group(GroupId::ROOT) {
            entries.extend(groups::all().into_iter().map(|(name, group)| (name, Self::Group(group))));
        }
        for (next, (name, node)) in (1..).zip(&entries).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            if emit(DirEntry { inode: node.inode(), kind: node.kind(), name, next }).is_break() {
                return;
            }
        }
    }

    async fn open(self, access: Access, _: &Process) -> Result<Kind, Errno> {
        let Self::File(group, file) = self else { return Err(Errno::EISDIR) };
        if access.write && !file.is_writable() {
            return Err(Errno::EACCES);
        }
        memory::wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
        let contents = file.render(group)?.into_bytes();
        Ok(Kind::Control(Control::new(Target::Group(group, file), contents)))
    }
}
