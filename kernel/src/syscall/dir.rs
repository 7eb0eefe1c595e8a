//! getdents64(2): the entries of an open directory.

use alloc::vec::Vec;

use super::errno::{Errno, SysResult};
use super::file::file;
use crate::fs::Kind;
use crate::fs::vnode::Listed;
use crate::process::thread::Thread;

/// Bytes of `struct linux_dirent64` before the name.
const HEADER: usize = 19;
/// Most bytes filled in by one call: what a program's buffer has beyond that, the next call fills.
const MOST: usize = 8192;

/// Appends `struct linux_dirent64`, if it fits.
fn push(record: &Listed, out: &mut Vec<u8>, room: usize) -> bool {
    let len = (HEADER + record.name.len() + 1).next_multiple_of(8);
    if out.len() + len > room {
        return false;
    }
    let end = out.len() + len;
    out.extend_from_slice(&record.inode.to_ne_bytes());
    out.extend_from_slice(&record.next.to_ne_bytes());
    out.extend_from_slice(&(len as u16).to_ne_bytes());
    out.push(record.kind.directory_type());
    out.extend_from_slice(&record.name);
    out.resize(end, 0);
    true
}

/// getdents64(2).
pub(super) async fn getdents64(thread: &Thread, fd: u64, out: u64, len: u64) -> SysResult {
    let file = file(thread, fd)?;
    let node = match (&file.kind, &file.node) {
        (Kind::Place, Some(node)) if file.access.read => node,
        (Kind::Place, _) => return Err(Errno::EBADF),
        _ => return Err(Errno::ENOTDIR),
    };
    let _turn = file.turn().await;
    let room = MOST.min(len as u32 as usize);
    let mut bytes = Vec::new();
    let mut at = file.offset();
    'full: loop {
        let batch = node.entries(at, &thread.process).await?;
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            if !push(record, &mut bytes, room) {
                break 'full;
            }
            at = record.next;
        }
    }
    if bytes.is_empty() {
        // Nothing left, or nothing fits.
        return if node.entries(at, &thread.process).await?.is_empty() { Ok(0) } else { Err(Errno::EINVAL) };
    }
    thread.process.write_bytes(out, &bytes).await?;
    file.set_offset(at);
    Ok(bytes.len() as u64)
}
