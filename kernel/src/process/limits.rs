//! Resource limits: getrlimit(2), setrlimit(2), prlimit(2).
//!
//! Owns the numbers. Each is enforced where what it limits is given out: `memory.rs` (address space, data), `elf.rs`
//! (stack), `fs/fds.rs` (open files), `syscall/clone.rs` (threads). Everybody is root here, and root's limits bind as well:
//! Linux lets root pass `RLIMIT_NPROC`, which would make it worth nothing.

use linux_raw_sys::general as flag;

use crate::syscall::errno::Errno;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;
/// The kinds Linux has.
const KINDS: usize = 16;

/// A limit that a process may lower and raise again, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What binds (soft).
    pub current: u64,
    /// How far that may be raised (hard).
    pub most: u64,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource(usize);

#[allow(missing_docs, reason = "the names of getrlimit(2)")]
impl Resource {
    pub const DATA: Self = Self(flag::RLIMIT_DATA as usize);
    pub const STACK: Self = Self(flag::RLIMIT_STACK as usize);
    pub const NPROC: Self = Self(flag::RLIMIT_NPROC as usize);
    pub const NOFILE: Self = Self(flag::RLIMIT_NOFILE as usize);
    pub const MEMLOCK: Self = Self(flag::RLIMIT_MEMLOCK as usize);
    pub const AS: Self = Self(flag::RLIMIT_AS as usize);

    /// As a program names it.
    pub fn from_number(number: u64) -> Result<Self, Errno> {
        Some(number as u32 as usize).filter(|kind| *kind < KINDS).map(Self).ok_or(Errno::EINVAL)
    }
}

/// The limits of one process.
#[derive(Debug, Clone)]
pub struct Limits([Limit; KINDS]);

/// Lockable memory, as on Linux since 5.16.
const MEMLOCK: u64 = 8 << 20;

impl Default for Limits {
    fn default() -> Self {
        let mut limits = Self([Limit { current: UNLIMITED, most: UNLIMITED }; KINDS]);
        let mut set = |resource: Resource, current, most| limits.0[resource.0] = Limit { current, most };
        set(Resource::STACK, super::memory::STACK_BYTES, UNLIMITED);
        set(Resource(flag::RLIMIT_CORE as usize), 0, UNLIMITED);
        set(Resource::NPROC, super::process::MAX_THREADS as u64, super::process::MAX_THREADS as u64);
        set(Resource::NOFILE, crate::fs::MAX_FILES as u64, crate::fs::MAX_FILES as u64);
        set(Resource::MEMLOCK, MEMLOCK, MEMLOCK);
        set(Resource(flag::RLIMIT_SIGPENDING as usize), 64, 64);
        set(Resource(flag::RLIMIT_MSGQUEUE as usize), 0, 0);
        set(Resource(flag::RLIMIT_NICE as usize), 0, 0);
        set(Resource(flag::RLIMIT_RTPRIO as usize), 0, 0);
        limits
    }
}

impl Limits {
    /// One of them.
    pub fn get(&self, resource: Resource) -> Limit {
        self.0[resource.0]
    }

    /// Changes one. Root may raise the hard limit, but not what the machine's own tables end at.
    pub fn set(&mut self, resource: Resource, limit: Limit) -> Result<(), Errno> {
        let of_machine = Self::default().get(resource).most;
        if limit.current > limit.most {
            return Err(Errno::EINVAL);
        }
        if limit.most > of_machine {
            return Err(Errno::EPERM);
        }
        self.0[resource.0] = limit;
        Ok(())
    }
}
