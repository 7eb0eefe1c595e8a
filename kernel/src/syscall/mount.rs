//! mount(2), umount(2): what is mounted can be mounted anew, and nothing else.
//!
//! Owns what is refused, and how. The work is `fs/remount.rs`'s.

use linux_raw_sys::general as flag;

use super::errno::{Errno, SysResult};
use super::path::find;
use crate::fs::vnode::Vnode;
use crate::fs::walk::LastLink;
use crate::process::thread::Thread;

/// Flags that change nothing here: times of reading are kept by the library as it sees fit, nobody is told, and there are no special files.
const NO_MATTER: u32 = flag::MS_SILENT | flag::MS_RELATIME | flag::MS_NOATIME | flag::MS_NODIRATIME | flag::MS_NODEV;

/// mount(2). The tree is what it is: data disk, `/proc`, `/sys`, `/dev`; only `MS_REMOUNT` has something to do.
pub(super) async fn mount(thread: &Thread, target: u64, flags: u64) -> SysResult {
    let mut flags = flags as u32;
    // Old programs put a magic number there, which is ignored (mount(2)).
    if flags & flag::MS_MGC_MSK == flag::MS_MGC_VAL {
        flags &= !flag::MS_MGC_MSK;
    }
    let node = find(thread, flag::AT_FDCWD as u64, target, LastLink::Follow).await?;
    if flags & flag::MS_REMOUNT == 0 {
        // No file system that could be mounted somewhere.
        return Err(Errno::ENODEV);
    }
    if !node.is_mount_point() {
        return Err(Errno::EINVAL);
    }
    let read_only = flags & flag::MS_RDONLY != 0;
    let volume = match node {
        _ if flags & !(flag::MS_REMOUNT | flag::MS_RDONLY | NO_MATTER) != 0 => return Err(Errno::EOPNOTSUPP),
        Vnode::Disk(root) => root.volume(),
        // What the kernel makes up is made up anew anyway.
        _ if read_only => return Err(Errno::EOPNOTSUPP),
        _ => return Ok(0),
    };
    match (read_only, volume.check_writable()) {
        // A disk that is written to stays so.
        (true, Ok(())) => Err(Errno::EOPNOTSUPP),
        (false, Err(read_only)) => Err(read_only),
        _ => volume.remount().await.map(|()| 0),
    }
}

/// umount2(2): everything mounted is part of the tree that programs stand in, always.
pub(super) async fn umount(thread: &Thread, target: u64) -> SysResult {
    let node = find(thread, flag::AT_FDCWD as u64, target, LastLink::Follow).await?;
    Err(if node.is_mount_point() { Errno::EBUSY } else { Errno::EINVAL })
}
