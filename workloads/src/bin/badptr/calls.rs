//! The table: which calls are made, where the bad pointer goes, and what Linux answers.

use std::ffi::CStr;

use libc::{EAGAIN, EBUSY, EFAULT, EINVAL, ENOENT, ENOSYS, ENOTTY, EPERM};

use super::pointers::Bad;

/// One argument of a call.
#[derive(Clone, Copy)]
pub enum Argument {
    /// A plain number.
    Number(i64),
    /// An open file with something to read.
    File,
    /// The bad pointer.
    Bad,
    /// A pointer to memory that may be read and written.
    Good,
    /// A pointer to text.
    Text(&'static CStr),
    /// A pointer to an `iovec` whose base is the bad pointer.
    VectorToBad,
}

/// What the kernel does with the memory behind the pointer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Reads,
    Writes,
}

/// Whether programs need the call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Start-up code or std makes it.
    Required,
    /// May be absent.
    Optional,
}

/// What a call may answer.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// This error.
    Error(i32),
    /// One of these errors.
    OneOf(&'static [i32]),
    /// EFAULT, or the number of bytes before the bad part.
    FaultOrUpTo(i64),
    /// Not a claim: the pointer is good here, or the answer is left to the kernel.
    Skipped,
}

impl Outcome {
    /// Whether a result is among them.
    pub fn allows(self, result: i64) -> bool {
        let is = |errno: i32| result == -i64::from(errno);
        match self {
            Self::Error(errno) => is(errno),
            Self::OneOf(errors) => errors.iter().any(|&errno| is(errno)),
            Self::FaultOrUpTo(bytes) => is(EFAULT) || (1..=bytes).contains(&result),
            Self::Skipped => true,
        }
    }
}

/// A row of the table.
pub struct Call {
    pub name: &'static str,
    pub number: i64,
    pub arguments: [Argument; 6],
    pub access: Access,
    /// Bytes behind the pointer.
    pub size: usize,
    /// What most bad pointers lead to.
    pub usual: Outcome,
    /// Which do not.
    pub exceptions: &'static [(Bad, Outcome)],
    pub need: Need,
}

impl Call {
    /// What a kind of bad pointer must lead to.
    pub fn outcome(&self, bad: Bad) -> Outcome {
        match self.exceptions.iter().find(|(kind, _)| *kind == bad) {
            Some((_, outcome)) => *outcome,
            None if bad == Bad::ReadOnly && self.access == Access::Reads => Outcome::Skipped,
            None => self.usual,
        }
    }
}

const fn call(name: &'static str, number: i64, access: Access, size: usize, arguments: &[Argument]) -> Call {
    let mut all = [Argument::Number(0); 6];
    let mut index = 0;
    while index < arguments.len() {
        all[index] = arguments[index];
        index += 1;
    }
    Call {
        name,
        number,
        arguments: all,
        access,
        size,
        usual: Outcome::Error(EFAULT),
        exceptions: &[],
        need: Need::Required,
    }
}

impl Call {
    const fn but(self, exceptions: &'static [(Bad, Outcome)]) -> Self {
        Self { exceptions, ..self }
    }

    const fn answers(self, usual: Outcome) -> Self {
        Self { usual, ..self }
    }

    const fn optional(self) -> Self {
        Self { need: Need::Optional, ..self }
    }
}

const NULL_IS_FINE: &[(Bad, Outcome)] = &[(Bad::Null, Outcome::Skipped)];
const PARTLY: &[(Bad, Outcome)] = &[(Bad::Crossing, Outcome::FaultOrUpTo(32))];
/// The result may be shorter than the part before the hole.
const SHORT: &[(Bad, Outcome)] = &[(Bad::Crossing, Outcome::Skipped)];
const FUTEX: &[(Bad, Outcome)] = &[(Bad::One, Outcome::Error(EINVAL)), (Bad::Crossing, Outcome::Error(EINVAL))];
/// Any other address would become the thread's FS base.
const FS_BASE: &[(Bad, Outcome)] = &[
    (Bad::Null, Outcome::Skipped),
    (Bad::One, Outcome::Skipped),
    (Bad::Hole, Outcome::Skipped),
    (Bad::Inaccessible, Outcome::Skipped),
    (Bad::Crossing, Outcome::Skipped),
    (Bad::NonCanonical, Outcome::Error(EPERM)),
    (Bad::KernelHalf, Outcome::Error(EPERM)),
    (Bad::Wrapping, Outcome::Error(EPERM)),
];
/// A kernel need not know which file it runs.
const EXE: Outcome = Outcome::OneOf(&[EFAULT, ENOENT]);
/// Depends on what the file or the C library did before; only that there is an error is claimed.
const ANY_ERROR: Outcome = Outcome::OneOf(&[EFAULT, EINVAL, EPERM, EBUSY, ENOTTY, EAGAIN, ENOSYS]);

use Access::{Reads, Writes};
use Argument::{Bad as P, File, Good, Number as N, Text, VectorToBad};

const HERE: Argument = N(libc::AT_FDCWD as i64);
const MONOTONIC: Argument = N(libc::CLOCK_MONOTONIC as i64);
const STACK: Argument = N(libc::RLIMIT_STACK as i64);
const USER_SIGNAL: Argument = N(libc::SIGUSR1 as i64);
const SIGSET: Argument = N(8);
const ARCH_SET_FS: Argument = N(0x1002);
const ARCH_GET_FS: Argument = N(0x1003);

/// Every call that takes a pointer.
pub const CALLS: &[Call] = &[
    call("read", libc::SYS_read, Writes, 64, &[File, P, N(64)]).but(PARTLY),
    call("pread64", libc::SYS_pread64, Writes, 64, &[File, P, N(64)]).but(PARTLY).optional(),
    call("readv", libc::SYS_readv, Writes, 64, &[File, VectorToBad, N(1)]).but(PARTLY).optional(),
    call("readv of a bad vector", libc::SYS_readv, Reads, 16, &[File, P, N(1)]).optional(),
    call("write", libc::SYS_write, Reads, 16, &[N(1), P, N(16)]).but(PARTLY),
    call("writev", libc::SYS_writev, Reads, 16, &[N(1), VectorToBad, N(1)]).but(PARTLY),
    call("writev of a bad vector", libc::SYS_writev, Reads, 16, &[N(1), P, N(1)]),
    call("openat", libc::SYS_openat, Reads, 16, &[HERE, P]),
    call("newfstatat of a bad path", libc::SYS_newfstatat, Reads, 16, &[HERE, P, Good]),
    call("newfstatat", libc::SYS_newfstatat, Writes, 144, &[N(1), Text(c""), P, N(libc::AT_EMPTY_PATH as i64)]),
    call("fstat", libc::SYS_fstat, Writes, 144, &[N(1), P]).optional(),
    call("readlink of a bad path", libc::SYS_readlink, Reads, 16, &[P, Good, N(64)]),
    call("readlink", libc::SYS_readlink, Writes, 64, &[Text(c"/proc/self/exe"), P, N(64)]).but(SHORT).answers(EXE),
    call("getcwd", libc::SYS_getcwd, Writes, 256, &[P, N(256)]).but(SHORT),
    call("poll", libc::SYS_poll, Writes, 8, &[P, N(1), N(0)]),
    call("ioctl", libc::SYS_ioctl, Writes, 36, &[N(1), N(libc::TCGETS as i64), P]).answers(ANY_ERROR),
    call("rt_sigaction", libc::SYS_rt_sigaction, Reads, 32, &[USER_SIGNAL, P, N(0), SIGSET]).but(NULL_IS_FINE),
    call("rt_sigaction's old", libc::SYS_rt_sigaction, Writes, 32, &[USER_SIGNAL, N(0), P, SIGSET]).but(NULL_IS_FINE),
    call("rt_sigprocmask", libc::SYS_rt_sigprocmask, Reads, 8, &[N(0), P, N(0), SIGSET]).but(NULL_IS_FINE),
    call("rt_sigprocmask's old", libc::SYS_rt_sigprocmask, Writes, 8, &[N(0), N(0), P, SIGSET]).but(NULL_IS_FINE),
    call("sigaltstack", libc::SYS_sigaltstack, Reads, 24, &[P, N(0)]).but(NULL_IS_FINE),
    call("sigaltstack's old", libc::SYS_sigaltstack, Writes, 24, &[N(0), P]).but(NULL_IS_FINE),
    call("nanosleep", libc::SYS_nanosleep, Reads, 16, &[P, N(0)]),
    call("clock_nanosleep", libc::SYS_clock_nanosleep, Reads, 16, &[MONOTONIC, N(0), P, N(0)]),
    call("clock_gettime", libc::SYS_clock_gettime, Writes, 16, &[MONOTONIC, P]),
    call("clock_getres", libc::SYS_clock_getres, Writes, 16, &[MONOTONIC, P]).but(NULL_IS_FINE).optional(),
    call("gettimeofday", libc::SYS_gettimeofday, Writes, 16, &[P, N(0)]).but(NULL_IS_FINE).optional(),
    call("arch_prctl get", libc::SYS_arch_prctl, Writes, 8, &[ARCH_GET_FS, P]),
    call("arch_prctl set", libc::SYS_arch_prctl, Reads, 8, &[ARCH_SET_FS, P]).but(FS_BASE),
    call("futex", libc::SYS_futex, Reads, 4, &[P, N(libc::FUTEX_WAIT as i64 | 128), N(1), N(0)]).but(FUTEX),
    call("futex's timeout", libc::SYS_futex, Reads, 16, &[Good, N(libc::FUTEX_WAIT as i64 | 128), N(1), P])
        .but(NULL_IS_FINE),
    call("sched_getaffinity", libc::SYS_sched_getaffinity, Writes, 8, &[N(0), N(8), P]),
    call("prlimit64", libc::SYS_prlimit64, Reads, 16, &[N(0), STACK, P, N(0)]).but(NULL_IS_FINE),
    call("prlimit64's old", libc::SYS_prlimit64, Writes, 16, &[N(0), STACK, N(0), P]).but(NULL_IS_FINE),
    call("getrandom", libc::SYS_getrandom, Writes, 16, &[P, N(16), N(0)]).but(PARTLY),
    call("clone3", libc::SYS_clone3, Reads, 88, &[P, N(88)]).optional(),
    call("rseq", libc::SYS_rseq, Writes, 32, &[P, N(32), N(0), N(0x5305_3053)]).answers(ANY_ERROR).optional(),
    call("uname", libc::SYS_uname, Writes, 390, &[P]).optional(),
    call("getrusage", libc::SYS_getrusage, Writes, 144, &[N(0), P]).optional(),
    call("sysinfo", libc::SYS_sysinfo, Writes, 112, &[P]).optional(),
];
