//! Names and open files.
//!
//! ```text
//!   syscall/{file,path,dir,stat}.rs
//!      │ descriptors            │ paths
//!   table.rs ─► open.rs       walk.rs ─► vnode.rs ──┬─► disk.rs ─► actor.rs ─► ext4.rs ─► blocks.rs ─► crate::data_disk
//!      (FdTable, OpenFile)                          ├─► proc.rs     (one fiber owns the mounted file system)
//!                                                   ├─► cgroup.rs
//!                                                   └─► dev.rs
//! ```
//! The data disk is mounted at `/`, with `/proc`, `/sys` and `/dev` over it; without a data disk there are only these.
//! Moving bytes to and from user memory is done by `syscall/file.rs`, where the console's bytes go and come from is
//! `stdio.rs`'s matter.

pub mod actor;
mod allocators;
pub mod attributes;
pub mod blocks;
pub mod cgroup;
pub mod context;
pub mod control;
pub mod dev;
pub mod disk;
pub mod exclusion;
pub mod ext4;
pub mod extents;
pub mod file;
pub mod holes;
pub mod locks;
pub mod memfd;
pub mod names;
pub mod open;
pub mod pipe;
pub mod proc;
pub mod range_locks;
pub mod recovery_mark;
mod remount;
pub mod stdio;
pub mod table;
pub mod userfault;
pub mod vnode;
pub mod walk;

pub use open::{Kind, OpenFile, Readiness, Stream, Whence};
pub use table::{FdTable, MAX_FILES, OnExec};

use core::sync::atomic::{AtomicU64, Ordering};

use crate::syscall::errno::Errno;
use attributes::FileType;
use disk::Inode;
use exclusion::Executing;

/// A number for something that has no name: larger than those of the console's streams.
fn fresh_inode() -> u64 {
    const FIRST: u64 = 1 << 10;
    static NEXT: AtomicU64 = AtomicU64::new(FIRST);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The program file at an absolute path of the data disk: a regular file that somebody may execute and nobody may write to.
pub async fn find_program(path: &[u8]) -> Result<Executing, Errno> {
    let volume = disk::volume().ok_or(Errno::ENOENT)?;
    let mut at = volume.root();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = at.child(name).await?;
    }
    check_executable(&at).await?;
    Executing::begin(at)
}

/// EACCES, if a file is no program.
pub async fn check_executable(file: &Inode) -> Result<(), Errno> {
    let attributes = file.attributes().await?;
    let is_program = attributes.kind == FileType::Regular && attributes.permissions & 0o111 != 0;
    if is_program { Ok(()) } else { Err(Errno::EACCES) }
}
