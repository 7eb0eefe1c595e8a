//! The part of the dispatch that may ask the disk: paths, attributes, directories, locks.
//!
//! These calls share one boxed future (`super::dispatch`), made for the length of the call.

use linux_raw_sys::general as nr;

use super::errno::{Errno, SysResult};
use super::{descriptor, dir, fd, lock, mount, path, stat};
use crate::process::stats;
use crate::process::thread::Thread;

/// The directory that calls without one mean.
const CWD: u64 = nr::AT_FDCWD as u64;
const REMOVE_DIRECTORY: u64 = nr::AT_REMOVEDIR as u64;
const KEEP_LINK: u64 = nr::AT_SYMLINK_NOFOLLOW as u64;
const CREAT_FLAGS: u64 = (nr::O_CREAT | nr::O_WRONLY | nr::O_TRUNC) as u64;

/// Answers a call on names; any other is unknown.
pub(super) async fn dispatch(thread: &Thread, number: u64, [a, b, c, d, e, _]: [u64; 6]) -> SysResult {
    match u32::try_from(number).unwrap_or(u32::MAX) {
        nr::__NR_open => path::openat(thread, CWD, a, b, c).await,
        nr::__NR_openat => path::openat(thread, a, b, c, d).await,
        nr::__NR_creat => path::openat(thread, CWD, a, CREAT_FLAGS, b).await,
        nr::__NR_mkdir => path::mkdirat(thread, CWD, a, b).await,
        nr::__NR_mkdirat => path::mkdirat(thread, a, b, c).await,
        nr::__NR_mknod => path::mknodat(thread, CWD, a, b).await,
        nr::__NR_mknodat => path::mknodat(thread, a, b, c).await,
        nr::__NR_unlink => path::unlinkat(thread, CWD, a, 0).await,
        nr::__NR_rmdir => path::unlinkat(thread, CWD, a, REMOVE_DIRECTORY).await,
        nr::__NR_unlinkat => path::unlinkat(thread, a, b, c).await,
        nr::__NR_rename => path::renameat(thread, [CWD, a, CWD, b, 0]).await,
        nr::__NR_renameat => path::renameat(thread, [a, b, c, d, 0]).await,
        nr::__NR_renameat2 => path::renameat(thread, [a, b, c, d, e]).await,
        nr::__NR_link => path::linkat(thread, [CWD, a, CWD, b, 0]).await,
        nr::__NR_linkat => path::linkat(thread, [a, b, c, d, e]).await,
        nr::__NR_symlink => path::symlinkat(thread, a, CWD, b).await,
        nr::__NR_symlinkat => path::symlinkat(thread, a, b, c).await,
        nr::__NR_readlink => path::readlinkat(thread, [CWD, a, b, c]).await,
        nr::__NR_readlinkat => path::readlinkat(thread, [a, b, c, d]).await,
        nr::__NR_chdir => path::chdir(thread, a).await,
        nr::__NR_fchdir => path::fchdir(thread, a),
        nr::__NR_getcwd => path::getcwd(thread, a, b).await,
        nr::__NR_getdents64 => dir::getdents64(thread, a, b, c).await,
        nr::__NR_memfd_create => fd::memfd_create(thread, a, b).await,
        nr::__NR_lseek => descriptor::lseek(thread, a, b, c).await,

        nr::__NR_stat => stat::newfstatat(thread, [CWD, a, b, 0]).await,
        nr::__NR_lstat => stat::newfstatat(thread, [CWD, a, b, KEEP_LINK]).await,
        nr::__NR_newfstatat => stat::newfstatat(thread, [a, b, c, d]).await,
        nr::__NR_fstat => stat::fstat(thread, a, b).await,
        nr::__NR_statx => stat::statx(thread, [a, b, c, d, e]).await,
        nr::__NR_access => stat::faccessat(thread, CWD, a, b).await,
        nr::__NR_faccessat | nr::__NR_faccessat2 => stat::faccessat(thread, a, b, c).await,
        nr::__NR_chmod => stat::fchmodat(thread, CWD, a, b).await,
        nr::__NR_fchmodat => stat::fchmodat(thread, a, b, c).await,
        nr::__NR_fchmod => stat::fchmod(thread, a, b).await,
        nr::__NR_chown => stat::fchownat(thread, [CWD, a, b, c, 0]).await,
        nr::__NR_lchown => stat::fchownat(thread, [CWD, a, b, c, KEEP_LINK]).await,
        nr::__NR_fchownat => stat::fchownat(thread, [a, b, c, d, e]).await,
        nr::__NR_fchown => stat::fchown(thread, a, b, c).await,
        nr::__NR_utimensat => stat::utimensat(thread, [a, b, c, d]).await,
        nr::__NR_truncate => stat::truncate(thread, a, b).await,
        nr::__NR_ftruncate => stat::ftruncate(thread, a, b).await,
        nr::__NR_fallocate => stat::fallocate(thread, a, b, c, d).await,
        nr::__NR_fsync | nr::__NR_fdatasync => stat::fsync(thread, a).await,
        nr::__NR_fcntl => lock::fcntl(thread, a, b, c).await,
        nr::__NR_flock => lock::flock(thread, a, b).await,
        nr::__NR_mount => mount::mount(thread, b, d).await,
        nr::__NR_umount2 => mount::umount(thread, a).await,
        nr::__NR_sync | nr::__NR_syncfs => stat::sync().await,
        nr::__NR_statfs => stat::statfs(thread, a, b).await,
        nr::__NR_fstatfs => stat::fstatfs(thread, a, b).await,
        _ => {
            stats::count_unknown_call(number);
            Err(Errno::ENOSYS)
        }
    }
}
