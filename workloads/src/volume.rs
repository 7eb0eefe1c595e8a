//! What programs ask of a file system that the standard library has no words for.
//!
//! Owns the system calls: holes, reserved blocks (fallocate(2)), and mounting anew (mount(2)).
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

/// What to do to a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Have blocks for it; what is there stays.
    Reserve,
    /// Give its blocks back; it reads as zeroes.
    Punch,
    /// Have blocks for it; it reads as zeroes.
    Zero,
}

/// Whether a range that ends behind the file's end moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It does.
    Moves,
    /// It does not.
    Stays,
}

/// fallocate(2).
///
/// # Errors
/// As the system call: EOPNOTSUPP, ENOSPC.
pub fn allocate(file: &File, range: Range, end: End, offset: u64, len: u64) -> io::Result<()> {
    let what = match range {
        Range::Reserve => 0,
        Range::Punch => libc::FALLOC_FL_PUNCH_HOLE,
        Range::Zero => libc::FALLOC_FL_ZERO_RANGE,
    };
    let keep = if end == End::Stays { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
    // SAFETY: the call touches no memory of ours.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), what | keep, offset.cast_signed(), len.cast_signed()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the file system that is mounted somewhere mounted anew: mount(2), `MS_REMOUNT`.
///
/// # Errors
/// As the system call: EBUSY, EPERM.
pub fn remount(target: &CStr) -> io::Result<()> {
    let (none, no_data) = (c"none".as_ptr(), ptr::null());
    // SAFETY: the strings end in a zero byte, and live until the call returns.
    let failed = unsafe { libc::mount(none, target.as_ptr(), none, libc::MS_REMOUNT, no_data) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
