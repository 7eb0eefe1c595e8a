//! `Errno`: the one way a system call says no. Neighbours: every file in this directory returns it.

use core::num::NonZeroU16;

use linux_raw_sys::errno as raw;

/// A Linux error number (errno(3)); on its way to the program it becomes `-number` in `rax`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(NonZeroU16);

/// What a system call hands back in `rax` when it succeeds.
pub type SysResult = Result<u64, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs, reason = "the names and meanings of errno(3)")]
        impl Errno {
            $(pub const $name: Self = Self::of(raw::$name);)*

            fn name(self) -> Option<&'static str> {
                $(if self == Self::$name { return Some(stringify!($name)); })*
                None
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE ERANGE ENAMETOOLONG ENOSYS ENOTEMPTY
    ELOOP EOVERFLOW EDEADLK ENOLCK EOPNOTSUPP ETIMEDOUT ESTALE
}

impl Errno {
    /// Kernel-internal: a wait was cut short by a signal and may be restarted when the handler asks for that
    /// (`SA_RESTART`, signal(7)). Never reaches a program: it becomes EINTR or a second attempt.
    pub const ERESTART: Self = Self::of(512);

    const fn of(number: u32) -> Self {
        match NonZeroU16::new(number as u16) {
            Some(number) => Self(number),
            None => panic!("zero is no error number"),
        }
    }

    /// As `rax` carries it.
    pub fn to_register(self) -> u64 {
        (-i64::from(self.0.get())).cast_unsigned()
    }
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}
