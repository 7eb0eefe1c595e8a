//! The Linux x86-64 structures that cross the user boundary, byte for byte, and checks on user pointers.
//!
//! Owns layouts only: what the fields mean to us is decided by the callers. The structures are our own
//! instead of `linux-raw-sys`'s because bytes must become values without `unsafe` (zerocopy derives do that),
//! and every padding byte is named so that none can leak kernel memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::errno::Errno;

/// Bytes per page.
pub const PAGE_SIZE: u64 = 4096;
/// First address that is not the user's.
pub use crate::arch::layout::USER_END;

/// Refuses a range that is not wholly in user space. Addresses inside may still be unmapped.
pub fn check_user_range(start: u64, len: u64) -> Result<(), Errno> {
    match start.checked_add(len) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// What may be copied in from and out to a program.
pub trait Pod: FromBytes + IntoBytes + Immutable + KnownLayout {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Pod for T {}

macro_rules! abi_struct {
    ($(#[$meta:meta])* $name:ident, $size:literal { $($field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the fields carry their Linux names")]
        pub struct $name { $(pub $field: $ty,)* }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}

abi_struct! {
    /// `struct timespec`
    Timespec, 16 { tv_sec: i64, tv_nsec: i64, }
}
abi_struct! {
    /// `struct timeval`
    Timeval, 16 { tv_sec: i64, tv_usec: i64, }
}
abi_struct! {
    /// `struct itimerval`
    Itimerval, 32 { it_interval: Timeval, it_value: Timeval, }
}
abi_struct! {
    /// `struct tms`
    Tms, 32 { tms_utime: i64, tms_stime: i64, tms_cutime: i64, tms_cstime: i64, }
}
abi_struct! {
    /// `struct iovec`
    IoVec, 16 { iov_base: u64, iov_len: u64, }
}
abi_struct! {
    /// `struct flock`
    Flock, 32 { l_type: i16, l_whence: i16, pad0: i32, l_start: i64, l_len: i64, l_pid: i32, pad1: i32, }
}
abi_struct! {
    /// `struct uffd_msg`, for a missing page
    UffdMsg, 32 { event: u8, reserved: [u8; 7], flags: u64, address: u64, feat: u64, }
}
abi_struct! {
    /// `struct uffdio_api`
    UffdioApi, 24 { api: u64, features: u64, ioctls: u64, }
}
abi_struct! {
    /// `struct uffdio_range`
    UffdioRange, 16 { start: u64, len: u64, }
}
abi_struct! {
    /// `struct uffdio_register`
    UffdioRegister, 32 { range: UffdioRange, mode: u64, ioctls: u64, }
}
abi_struct! {
    /// `struct uffdio_copy`
    UffdioCopy, 40 { dst: u64, src: u64, len: u64, mode: u64, copy: u64, }
}
abi_struct! {
    /// `struct uffdio_zeropage`
    UffdioZeropage, 32 { range: UffdioRange, mode: u64, zeropage: u64, }
}
abi_struct! {
    /// `struct pollfd`
    PollFd, 8 { fd: i32, events: i16, revents: i16, }
}
abi_struct! {
    /// `struct rlimit64`
    Rlimit, 16 { rlim_cur: u64, rlim_max: u64, }
}
abi_struct! {
    /// `struct stat` of x86-64
    Stat, 144 {
        st_dev: u64, st_ino: u64, st_nlink: u64, st_mode: u32, st_uid: u32, st_gid: u32, pad0: u32,
        st_rdev: u64, st_size: i64, st_blksize: i64, st_blocks: i64,
        st_atim: Timespec, st_mtim: Timespec, st_ctim: Timespec, unused: [i64; 3],
    }
}
abi_struct! {
    /// `struct statx_timestamp`
    StatxTime, 16 { tv_sec: i64, tv_nsec: u32, pad: u32, }
}
abi_struct! {
    /// `struct statx`
    Statx, 256 {
        stx_mask: u32, stx_blksize: u32, stx_attributes: u64, stx_nlink: u32, stx_uid: u32, stx_gid: u32,
        stx_mode: u16, pad0: u16, stx_ino: u64, stx_size: u64, stx_blocks: u64, stx_attributes_mask: u64,
        stx_atime: StatxTime, stx_btime: StatxTime, stx_ctime: StatxTime, stx_mtime: StatxTime,
        stx_rdev_major: u32, stx_rdev_minor: u32, stx_dev_major: u32, stx_dev_minor: u32,
        stx_mnt_id: u64, spare: [u64; 13],
    }
}
abi_struct! {
    /// `struct statfs`
    Statfs, 120 {
        f_type: u64, f_bsize: u64, f_blocks: u64, f_bfree: u64, f_bavail: u64, f_files: u64, f_ffree: u64, f_fsid: u64,
        f_namelen: u64, f_frsize: u64, f_flags: u64, spare: [u64; 4],
    }
}
abi_struct! {
    /// `struct rusage`
    Rusage, 144 {
        ru_utime: Timeval, ru_stime: Timeval, ru_maxrss: i64, ru_ixrss: i64, ru_idrss: i64, ru_isrss: i64,
        ru_minflt: i64, ru_majflt: i64, ru_nswap: i64, ru_inblock: i64, ru_oublock: i64, ru_msgsnd: i64,
        ru_msgrcv: i64, ru_nsignals: i64, ru_nvcsw: i64, ru_nivcsw: i64,
    }
}
abi_struct! {
    /// `struct sysinfo`
    SysInfo, 112 {
        uptime: i64, loads: [u64; 3], totalram: u64, freeram: u64, sharedram: u64, bufferram: u64,
        totalswap: u64, freeswap: u64, procs: u16, pad: [u16; 3], totalhigh: u64, freehigh: u64,
        mem_unit: u32, pad1: u32,
    }
}
abi_struct! {
    /// `struct utsname`: system, node, release, version, machine, domain
    UtsName, 390 { fields: [[u8; 65]; 6], }
}
abi_struct! {
    /// `struct sigaction` as the kernel sees it
    SigActionRaw, 32 { handler: u64, flags: u64, restorer: u64, mask: u64, }
}
abi_struct! {
    /// `stack_t`
    StackT, 24 { ss_sp: u64, ss_flags: i32, pad: u32, ss_size: u64, }
}
abi_struct! {
    /// `siginfo_t`: the union holds `si_addr`, or pid and uid
    SigInfoRaw, 128 { si_signo: i32, si_errno: i32, si_code: i32, pad: i32, fields: [u64; 14], }
}
abi_struct! {
    /// `struct sigcontext` of x86-64: the interrupted registers
    SigContext, 256 {
        r8: u64, r9: u64, r10: u64, r11: u64, r12: u64, r13: u64, r14: u64, r15: u64,
        rdi: u64, rsi: u64, rbp: u64, rbx: u64, rdx: u64, rax: u64, rcx: u64, rsp: u64, rip: u64, eflags: u64,
        cs: u16, gs: u16, fs: u16, ss: u16, err: u64, trapno: u64, oldmask: u64, cr2: u64,
        fpstate: u64, reserved: [u64; 8],
    }
}
abi_struct! {
    /// `struct ucontext`
    UContext, 304 {
        uc_flags: u64, uc_link: u64, uc_stack: StackT, uc_mcontext: SigContext, uc_sigmask: u64,
    }
}
abi_struct! {
    /// `struct rt_sigframe`: what a signal handler's stack begins with
    RtSigFrame, 440 { pretcode: u64, uc: UContext, info: SigInfoRaw, }
}

impl Timespec {
    /// From nanoseconds.
    pub fn from_ns(ns: u64) -> Self {
        Self { tv_sec: (ns / NS_PER_S).cast_signed(), tv_nsec: (ns % NS_PER_S).cast_signed() }
    }

    /// To nanoseconds; refuses what the man pages call invalid, saturates at 584 years.
    pub fn to_ns(self) -> Result<u64, Errno> {
        let seconds = u64::try_from(self.tv_sec).map_err(|_| Errno::EINVAL)?;
        let rest = u64::try_from(self.tv_nsec).map_err(|_| Errno::EINVAL)?;
        if rest >= NS_PER_S {
            return Err(Errno::EINVAL);
        }
        Ok(seconds.saturating_mul(NS_PER_S).saturating_add(rest))
    }
}

impl Timeval {
    /// From nanoseconds.
    pub fn from_ns(ns: u64) -> Self {
        let spec = Timespec::from_ns(ns);
        Self { tv_sec: spec.tv_sec, tv_usec: spec.tv_nsec / 1000 }
    }

    /// To nanoseconds, as [`Timespec::to_ns`].
    pub fn to_ns(self) -> Result<u64, Errno> {
        let tv_nsec = self.tv_usec.checked_mul(1000).ok_or(Errno::EINVAL)?;
        Timespec { tv_sec: self.tv_sec, tv_nsec }.to_ns()
    }
}

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;
