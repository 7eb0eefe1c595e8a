//! From a path to what it names.
//!
//! Owns: the walk over components, `.` and `..`, symbolic links (at most 40, as on Linux), trailing slashes, and the way
//! back from a directory to its path. Does not own what is in a directory ([`Vnode`]). See path_resolution(7).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::OpenFile;
use super::attributes::FileType;
use super::vnode::Vnode;
use crate::process::process::Process;
use crate::syscall::errno::Errno;

/// Most symbolic links on one way.
const MAX_LINKS: u32 = 40;
/// Longest name of one component.
const NAME_MAX: usize = 255;
/// Deepest directory that [`path_of`] finds the way from.
const MAX_DEPTH: usize = 1024;

/// Whether a symbolic link that is the last component is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LastLink {
    Follow,
    Keep,
}

/// Where a walk ended.
pub struct Walked {
    /// The directory of the last component.
    pub directory: Vnode,
    /// The last component; empty if the path ends in `/`-only, `.` or `..`.
    pub name: Vec<u8>,
    /// What it names, if it exists.
    pub node: Option<Vnode>,
    /// The path ends with a slash: only a directory will do.
    pub slash: bool,
    /// The open file by which it was found, if a link of `/proc/PID/fd` led there.
    pub by: Option<Arc<OpenFile>>,
}

impl Walked {
    /// What the path names.
    pub fn existing(self) -> Result<Vnode, Errno> {
        self.node.ok_or(Errno::ENOENT)
    }
}

/// Walks `path`, from `start` unless it begins with a slash. Only the last component may be missing.
pub async fn walk(who: &Process, start: Vnode, path: &[u8], last: LastLink) -> Result<Walked, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut at = if path.starts_with(b"/") { Vnode::root() } else { start };
    let mut rest = path.to_vec();
    let mut links = 0;
    let mut by = None;
    loop {
        let Some(step) = Step::first(&rest) else {
            at.require_directory(who)?;
            return Ok(Walked { directory: at.clone(), name: Vec::new(), node: Some(at), slash: true, by });
        };
        let (name, behind, is_last) = (step.name, step.behind, step.is_last());
        at.require_directory(who)?;
        if name == b"." || name == b".." {
            if name == b".." {
                at = at.parent().await?;
                by = None;
            }
            rest.drain(..behind);
            continue;
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut node = match at.child(name, who).await {
            Ok(node) => node,
            Err(Errno::ENOENT) if is_last => {
                return Ok(Walked { directory: at, name: name.to_vec(), node: None, slash: step.slash, by: None });
            }
            Err(errno) => return Err(errno),
        };
        let mut kind = node.kind(who)?;
        let follows = !is_last || step.slash || last == LastLink::Follow;
        by = None;
        if follows && let Some(file) = node.open_file() {
            let file = file?;
            // What has no node has nothing that could be opened anew.
            node = file.node.clone().ok_or(Errno::ENXIO)?;
            kind = node.kind(who)?;
            by = Some(file);
        }
        if kind == FileType::Symlink && follows {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            let mut target = node.link_target(who).await?;
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            if target.starts_with(b"/") {
                at = Vnode::root();
            }
            // What stands behind the name keeps its slash.
            target.extend_from_slice(&rest[step.end..]);
            rest = target;
            continue;
        }
        if is_last {
            if step.slash && kind != FileType::Directory {
                return Err(Errno::ENOTDIR);
            }
            return Ok(Walked { directory: at, name: name.to_vec(), node: Some(node), slash: step.slash, by });
        }
        at = node;
        rest.drain(..behind);
    }
}

/// The first component of what is left of a path.
struct Step<'a> {
    name: &'a [u8],
    /// Where the name ends.
    end: usize,
    /// Where the next one begins.
    behind: usize,
    /// At least one slash follows.
    slash: bool,
    total: usize,
}

impl<'a> Step<'a> {
    /// None if there are only slashes.
    fn first(rest: &'a [u8]) -> Option<Self> {
        let begin = rest.iter().position(|byte| *byte != b'/')?;
        let end = rest[begin..].iter().position(|byte| *byte == b'/').map_or(rest.len(), |len| begin + len);
        let behind = rest[end..].iter().position(|byte| *byte != b'/').map_or(rest.len(), |len| end + len);
        Some(Self { name: &rest[begin..end], end, behind, slash: behind > end, total: rest.len() })
    }

    fn is_last(&self) -> bool {
        self.behind == self.total
    }
}

impl Vnode {
    /// ENOTDIR, if it is none.
    pub fn require_directory(&self, who: &Process) -> Result<(), Errno> {
        if self.kind(who)? == FileType::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
    }
}

/// The path of a directory, by looking for its name in its parent, and so on up to the root. ENOENT if it has been removed.
pub async fn path_of(directory: &Vnode, who: &Process) -> Result<Vec<u8>, Errno> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut at = directory.clone();
    for _ in 0..MAX_DEPTH {
        let parent = at.parent().await?;
        if parent.is_same(&at) {
            let mut path = Vec::new();
            for name in names.iter().rev() {
                path.push(b'/');
                path.extend_from_slice(name);
            }
            if path.is_empty() {
                path.push(b'/');
            }
            return Ok(path);
        }
        names.push(name_in(&parent, &at, who).await?);
        at = parent;
    }
    Err(Errno::ENAMETOOLONG)
}

async fn name_in(parent: &Vnode, child: &Vnode, who: &Process) -> Result<Vec<u8>, Errno> {
    if let Some(name) = child.mount_point() {
        return Ok(name.to_vec());
    }
    let wanted = child.attributes(who).await?.inode;
    let mut from = 0;
    loop {
        let batch = parent.entries(from, who).await?;
        let Some(last) = batch.last() else { return Err(Errno::ENOENT) };
        from = last.next;
        let is_it = |entry: &&super::vnode::Listed| entry.inode == wanted && entry.name != b"." && entry.name != b"..";
        if let Some(entry) = batch.iter().find(is_it) {
            return Ok(entry.name.clone());
        }
    }
}
