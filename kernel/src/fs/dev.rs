//! `/dev`: the devices that every program expects (null(4), zero(4), full(4), random(4), tty(4)).
//!
//! Owns their names and numbers. What reading and writing them does is in `open.rs`.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::attributes::{Attributes, FileType};
use super::vnode::{Access, DirEntry, Synthetic};
use super::{Kind, Stream};
use crate::process::process::Process;
use crate::syscall::errno::Errno;

/// `st_dev` of everything under `/dev`.
const DEVICE: u64 = 6;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Node {
    Root,
    Null,
    Zero,
    Full,
    Random,
    Urandom,
    Tty,
    Console,
}

impl Node {
    const DEVICES: [Self; 7] =
        [Self::Null, Self::Zero, Self::Full, Self::Random, Self::Urandom, Self::Tty, Self::Console];

    fn name(self) -> &'static [u8] {
        match self {
            Self::Root => b"",
            Self::Null => b"null",
            Self::Zero => b"zero",
            Self::Full => b"full",
            Self::Random => b"random",
            Self::Urandom => b"urandom",
            Self::Tty => b"tty",
            Self::Console => b"console",
        }
    }

    /// `st_rdev`, with Linux's numbers (devices.txt).
    fn number(self) -> u64 {
        let (major, minor) = match self {
            Self::Root => (0, 0),
            Self::Null => (1, 3),
            Self::Zero => (1, 5),
            Self::Full => (1, 7),
            Self::Random => (1, 8),
            Self::Urandom => (1, 9),
            Self::Tty => (5, 0),
            Self::Console => (5, 1),
        };
        major << 8 | minor
    }
}

impl Synthetic for Node {
    const ROOT: Self = Self::Root;

    fn child(self, name: &[u8], _: &Process) -> Result<Self, Errno> {
        match self {
            Self::Root => Self::DEVICES.into_iter().find(|node| node.name() == name).ok_or(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn parent(self) -> Option<Self> {
        (self != Self::Root).then_some(Self::Root)
    }

    fn attributes(self, _: &Process) -> Result<Attributes, Errno> {
        let inode = self as u64 + 1;
        Ok(match self {
            Self::Root => Attributes::made_up(FileType::Directory, 0o755, DEVICE, inode),
            _ => Attributes { rdev: self.number(), ..Attributes::made_up(FileType::Character, 0o666, DEVICE, inode) },
        })
    }

    fn link(self, _: &Process) -> Option<Vec<u8>> {
        None
    }

    fn entries(self, _: &Process, from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) {
        for (index, node) in (1..).zip(Self::DEVICES).skip(from as usize) {
            let entry = DirEntry { inode: node as u64 + 1, kind: FileType::Character, name: node.name(), next: index };
            if emit(entry).is_break() {
                return;
            }
        }
    }

    async fn open(self, _: Access, _: &Process) -> Result<Kind, Errno> {
        Ok(match self {
            Self::Root => return Err(Errno::EISDIR),
            Self::Null => Kind::Null,
            Self::Zero => Kind::Zero,
            Self::Full => Kind::Full,
            Self::Random | Self::Urandom => Kind::Random,
            Self::Tty | Self::Console => Kind::Console(Stream::Both),
        })
    }
}
