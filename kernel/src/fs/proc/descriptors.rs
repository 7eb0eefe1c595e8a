//! `/proc/PID/fd` (proc_pid_fd(5)): a symbolic link for each open file, by the number of its descriptor.
//!
//! Owns the texts of the links. Does not own the tree (`node.rs`) nor where such a link leads: to the open file's node, whether the text is
//! a path to it or not (`walk.rs`).
//!
//! A file of the data disk does not know its names, so an open file keeps the one by which it was found (`../names.rs`).

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::node::{Node, Number, find};
use crate::fs::attributes::FileType;
use crate::fs::disk::Inode;
use crate::fs::names::Place;
use crate::fs::vnode::{Access, Vnode};
use crate::fs::walk::path_of;
use crate::fs::{Kind, OpenFile};
use crate::process::process::Process;
use crate::syscall::errno::Errno;

/// What Linux adds to the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// The open file behind a descriptor of a process.
pub(super) fn open_file(number: Number, fd: u16) -> Result<Arc<OpenFile>, Errno> {
    find(number)?.files.lock().get(fd.into()).map_err(|_| Errno::ENOENT)
}

/// The number that a name in the directory is.
pub(super) fn parse(name: &[u8]) -> Result<u16, Errno> {
    let is_number = name.iter().all(u8::is_ascii_digit) && (name.len() == 1 || name.first() != Some(&b'0'));
    let number = core::str::from_utf8(name).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
    number.ok_or(Errno::ENOENT)
}

/// The descriptors of a process from a number on, in order.
pub(super) fn each(number: Number, from: u64, mut emit: impl FnMut(Node, u16) -> ControlFlow<()>) -> ControlFlow<()> {
    let Ok(process) = find(number) else { return ControlFlow::Continue(()) };
    let end = process.files.lock().end();
    for fd in from..end {
        if process.files.lock().get(fd).is_ok() {
            emit(Node::Descriptor(number, fd as u16), fd as u16)?;
        }
    }
    ControlFlow::Continue(())
}

/// What the owner of the link may do: what the file was opened for.
pub(super) fn permissions(access: Access) -> u16 {
    let bits = |allowed, bits| if allowed { bits } else { 0 };
    bits(access.read, 0o500) | bits(access.write, 0o300)
}

/// The text of a link.
pub async fn text(file: &OpenFile, who: &Process) -> Result<Vec<u8>, Errno> {
    match (&file.node, &file.kind) {
        (Some(Vnode::Disk(inode)), _) if inode.kind() != FileType::Directory => of_inode(file, inode, who).await,
        (Some(node), _) => match path_of(node, who).await {
            // A directory that was removed, or of a process that is gone.
            Err(Errno::ENOENT) => Ok([b"/".as_slice(), DELETED].concat()),
            path => path,
        },
        (None, Kind::Memory(memory)) => Ok([b"/memfd:", memory.name(), DELETED].concat()),
        (None, Kind::UserFault(_)) => Ok(b"anon_inode:[userfaultfd]".to_vec()),
        // The console, where nobody has opened it by name, is shown as pipes.
        (None, _) => Ok(format!("pipe:[{}]", file.attributes(who).await?.inode).into_bytes()),
    }
}

async fn of_inode(file: &OpenFile, inode: &Arc<Inode>, who: &Process) -> Result<Vec<u8>, Errno> {
    let Some(name) = &file.name else { return Ok(format!("inode:[{}]", inode.ino().0).into_bytes()) };
    let Place { directory, name } = name.lock().clone();
    let directory = inode.volume().directory(directory).await;
    let is_there = match &directory {
        Ok(directory) => directory.child(&name).await.is_ok_and(|there| there.ino() == inode.ino()),
        Err(_) => false,
    };
    // Without its directory nothing is left but the name.
    let mut text = match directory {
        Ok(directory) => path_of(&Vnode::Disk(directory), who).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    if text.last() != Some(&b'/') {
        text.push(b'/');
    }
    text.extend_from_slice(&name);
    if !is_there {
        text.extend_from_slice(DELETED);
    }
    Ok(text)
}
