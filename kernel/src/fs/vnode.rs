//! What a path can name, and what is known about it.
//!
//! Owns: [`Vnode`], one value for a file or directory of any mount, and the trait of trees that are
//! made up instead of stored ([`Synthetic`]: `/proc`, `/sys` and `/dev`). Does not own how a path leads to one (`walk.rs`).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::ops::ControlFlow;

use linux_raw_sys::general as flag;

use super::attributes::{Attributes, FileType};
use super::disk::{self, Inode};
use super::{Kind, OpenFile, cgroup, dev, proc};
use crate::process::process::Process;
use crate::syscall::errno::Errno;

/// `st_dev` of the bare root.
const ROOT_DEVICE: u64 = 1;

/// The permission to read, write or execute, as an open file or access(2) wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Access {
    pub read: bool,
    pub write: bool,
}

impl Access {
    /// What open(2)'s flags ask for; O_PATH asks for nothing.
    pub fn of_flags(flags: u32) -> Self {
        let mode = flags & flag::O_ACCMODE;
        let is_path = flags & flag::O_PATH != 0;
        Self { read: !is_path && mode != flag::O_WRONLY, write: !is_path && mode != flag::O_RDONLY }
    }
}

/// A name in a directory, as getdents64(2) hands it out.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The inode it names.
    pub inode: u64,
    /// Of this type.
    pub kind: FileType,
    /// The name.
    pub name: &'a [u8],
    /// `d_off`: where the entry after it is.
    pub next: u64,
}

/// A tree that is made up, not stored.
pub trait Synthetic: Copy + Send + Sync + 'static {
    /// Its root directory.
    const ROOT: Self;

    /// One step down. `.` and `..` never arrive here.
    fn child(self, name: &[u8], who: &Process) -> Result<Self, Errno>;

    /// One step up; `None` from the root of the tree.
    fn parent(self) -> Option<Self>;

    /// What stat(2) shows.
    fn attributes(self, who: &Process) -> Result<Attributes, Errno>;

    /// The target of a symbolic link; `None` if it is none.
    fn link(self, who: &Process) -> Option<Vec<u8>>;

    /// The entries from a position on (0: the first; `.` and `..` are not among them), until `emit` breaks off.
    fn entries(self, who: &Process, from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>);

    /// Opens what is neither a directory nor a link.
    fn open(self, access: Access, who: &Process) -> impl Future<Output = Result<Kind, Errno>> + Send;
}

/// A file or directory of any mount.
#[derive(Clone)]
pub enum Vnode {
    /// On the data disk.
    Disk(Arc<Inode>),
    /// Under `/proc`.
    Proc(proc::Node),
    /// Under `/sys`.
    Sys(cgroup::Node),
    /// Under `/dev`.
    Dev(dev::Node),
    /// `/` where there is no data disk: it holds the mount points and nothing else.
    BareRoot,
}

/// What is mounted on a directory of the root, by its name.
fn mounted(name: &[u8]) -> Option<Vnode> {
    match name {
        b"proc" => Some(Vnode::Proc(proc::Node::ROOT)),
        b"sys" => Some(Vnode::Sys(cgroup::Node::ROOT)),
        b"dev" => Some(Vnode::Dev(dev::Node::ROOT)),
        _ => None,
    }
}

/// Entries of the bare root.
const MOUNT_POINTS: [&[u8]; 3] = [b"proc", b"sys", b"dev"];

impl Vnode {
    /// `/`.
    pub fn root() -> Self {
        disk::volume().map_or(Self::BareRoot, |volume| Self::Disk(volume.root()))
    }

    /// Whether something is mounted here.
    pub fn is_mount_point(&self) -> bool {
        match self {
            Self::Disk(_) | Self::BareRoot => self.is_root(),
            Self::Proc(node) => node.parent().is_none(),
            Self::Sys(node) => node.parent().is_none(),
            Self::Dev(node) => node.parent().is_none(),
        }
    }

    fn is_root(&self) -> bool {
        match self {
            Self::Disk(inode) => inode.is_root(),
            Self::BareRoot => true,
            Self::Proc(_) | Self::Sys(_) | Self::Dev(_) => false,
        }
    }

    /// One step down.
    pub async fn child(&self, name: &[u8], who: &Process) -> Result<Self, Errno> {
        if self.is_root()
            && let Some(mount) = mounted(name)
        {
            return Ok(mount);
        }
        match self {
            Self::Disk(inode) => inode.child(name).await.map(Self::Disk),
            Self::Proc(node) => node.child(name, who).map(Self::Proc),
            Self::Sys(node) => node.child(name, who).map(Self::Sys),
            Self::Dev(node) => node.child(name, who).map(Self::Dev),
            Self::BareRoot => Err(Errno::ENOENT),
        }
    }

    /// One step up; the root is its own parent.
    pub async fn parent(&self) -> Result<Self, Errno> {
        if self.is_root() {
            return Ok(self.clone());
        }
        match self {
            Self::Disk(inode) => inode.child(b"..").await.map(Self::Disk),
            Self::Proc(node) => Ok(node.parent().map_or_else(Self::root, Self::Proc)),
            Self::Sys(node) => Ok(node.parent().map_or_else(Self::root, Self::Sys)),
            Self::Dev(node) => Ok(node.parent().map_or_else(Self::root, Self::Dev)),
            Self::BareRoot => Ok(Self::BareRoot),
        }
    }

    /// What stat(2) shows.
    pub async fn attributes(&self, who: &Process) -> Result<Attributes, Errno> {
        match self {
            Self::Disk(inode) => inode.attributes().await,
            Self::Proc(node) => node.attributes(who),
            Self::Sys(node) => node.attributes(who),
            Self::Dev(node) => node.attributes(who),
            Self::BareRoot => Ok(Attributes::made_up(FileType::Directory, 0o755, ROOT_DEVICE, 1)),
        }
    }

    /// What kind of file it is.
    pub fn kind(&self, who: &Process) -> Result<FileType, Errno> {
        match self {
            Self::Disk(inode) => Ok(inode.kind()),
            Self::Proc(node) => node.attributes(who).map(|attributes| attributes.kind),
            Self::Sys(node) => node.attributes(who).map(|attributes| attributes.kind),
            Self::Dev(node) => node.attributes(who).map(|attributes| attributes.kind),
            Self::BareRoot => Ok(FileType::Directory),
        }
    }

    /// The target of a symbolic link.
    pub async fn link_target(&self, who: &Process) -> Result<Vec<u8>, Errno> {
        match self {
            Self::Disk(inode) => inode.link_target().await,
            Self::Proc(node) => match node.open_file() {
                Some(file) => proc::text_of_link(&*file?, who).await,
                None => node.link(who).ok_or(Errno::EINVAL),
            },
            Self::Sys(node) => node.link(who).ok_or(Errno::EINVAL),
            Self::Dev(node) => node.link(who).ok_or(Errno::EINVAL),
            Self::BareRoot => Err(Errno::EINVAL),
        }
    }

    /// The open file that a link leads to, whatever its text says (`/proc/PID/fd`).
    pub fn open_file(&self) -> Option<Result<Arc<OpenFile>, Errno>> {
        match self {
            Self::Proc(node) => node.open_file(),
            _ => None,
        }
    }

    /// Some entries of a directory, from a position on; none at its end.
    pub async fn entries(&self, from: u64, who: &Process) -> Result<Vec<Listed>, Errno> {
        match self {
            Self::Disk(inode) => inode.entries(from).await,
            Self::Proc(node) => made_up_entries(*node, from, who),
            Self::Sys(node) => made_up_entries(*node, from, who),
            Self::Dev(node) => made_up_entries(*node, from, who),
            Self::BareRoot => {
                let listed = |(index, name): (usize, &&[u8])| Listed {
                    inode: 2 + index as u64,
                    kind: FileType::Directory,
                    name: name.to_vec(),
                    next: DOTS + index as u64 + 1,
                };
                let mut all = dots(from, 1, 1);
                all.extend(MOUNT_POINTS.iter().enumerate().map(listed).skip(from.saturating_sub(DOTS) as usize));
                Ok(all)
            }
        }
    }

    /// The name of the directory that this is mounted on.
    pub fn mount_point(&self) -> Option<&'static [u8]> {
        match self {
            Self::Proc(node) => node.parent().is_none().then_some(b"proc"),
            Self::Sys(node) => node.parent().is_none().then_some(b"sys"),
            Self::Dev(node) => node.parent().is_none().then_some(b"dev"),
            Self::Disk(_) | Self::BareRoot => None,
        }
    }

    /// The inode on the data disk, for calls that other trees refuse.
    pub fn on_disk(&self) -> Result<&Arc<Inode>, Errno> {
        match self {
            Self::Disk(inode) => Ok(inode),
            _ => Err(Errno::EPERM),
        }
    }

    /// Whether both are the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Disk(a), Self::Disk(b)) => a.ino() == b.ino(),
            (Self::Proc(a), Self::Proc(b)) => a == b,
            (Self::Sys(a), Self::Sys(b)) => a == b,
            (Self::Dev(a), Self::Dev(b)) => a == b,
            (Self::BareRoot, Self::BareRoot) => true,
            _ => false,
        }
    }
}

/// An entry of a directory, kept.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields of DirEntry")]
pub struct Listed {
    pub inode: u64,
    pub kind: FileType,
    pub name: Vec<u8>,
    pub next: u64,
}

/// Positions that `.` and `..` take in a made-up directory.
const DOTS: u64 = 2;
/// Most entries of a made-up directory handed out at once.
const BATCH: usize = 64;

fn dots(from: u64, own: u64, parent: u64) -> Vec<Listed> {
    let dot = |inode, name: &[u8], next| Listed { inode, kind: FileType::Directory, name: name.to_vec(), next };
    [dot(own, b".", 1), dot(parent, b"..", DOTS)].into_iter().skip(from as usize).collect()
}

fn made_up_entries<T: Synthetic>(node: T, from: u64, who: &Process) -> Result<Vec<Listed>, Errno> {
    let attributes = node.attributes(who)?;
    if attributes.kind != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let parent = node.parent().map_or(Ok(1), |parent| parent.attributes(who).map(|parent| parent.inode))?;
    let mut all = dots(from, attributes.inode, parent);
    node.entries(who, from.saturating_sub(DOTS), &mut |entry| {
        let DirEntry { inode, kind, name, next } = entry;
        all.push(Listed { inode, kind, name: name.to_vec(), next: next + DOTS });
        if all.len() < BATCH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    Ok(all)
}
