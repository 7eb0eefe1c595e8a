//! Calls about limits and use: prlimit(2), getrusage(2), prctl(2), sched_*(2).

use zerocopy::FromZeros;

use super::abi::{Rlimit, Rusage, Timeval};
use super::errno::{Errno, SysResult};
use crate::process::limits::{Limit, Resource};
use crate::process::process::{Process, Tid};
use crate::process::signal::Signal;
use crate::process::table;
use crate::process::thread::Thread;
use crate::process::usage::Used;

/// KiB per page.
const KIB_PER_PAGE: u64 = 4;

/// prlimit64(2), getrlimit(2), setrlimit(2).
pub(super) async fn prlimit64(thread: &Thread, [pid, resource, new, old]: [u64; 4]) -> SysResult {
    let other = match Tid::from_number(pid) {
        own if own.number() == 0 || own == thread.process.pid => None,
        pid => Some(table::find(pid).ok_or(Errno::ESRCH)?),
    };
    let process = other.as_deref().unwrap_or(&thread.process);
    let resource = Resource::from_number(resource)?;
    let wanted: Option<Rlimit> = thread.process.read_optional(new).await?;
    let before = process.inherited.lock().limits.get(resource);
    if let Some(wanted) = wanted {
        let limit = Limit { current: wanted.rlim_cur, most: wanted.rlim_max };
        process.inherited.lock().limits.set(resource, limit)?;
        if resource == Resource::NOFILE {
            process.files.lock().set_limit(limit.current);
        }
    }
    let Limit { current, most } = before;
    thread.process.write_optional(old, &Rlimit { rlim_cur: current, rlim_max: most }).await?;
    Ok(0)
}

/// `struct rusage` of these figures.
pub(super) fn to_rusage(used: Used) -> Rusage {
    let mut usage = Rusage::new_zeroed();
    usage.ru_utime = Timeval::from_ns(used.user_ns);
    usage.ru_minflt = used.minor_faults.cast_signed();
    usage.ru_majflt = used.major_faults.cast_signed();
    usage.ru_maxrss = (used.most_resident * KIB_PER_PAGE).cast_signed();
    usage
}

/// What a process used, to this moment.
async fn used_by(process: &Process) -> Used {
    process.usage.note_resident(process.footprint().await.resident);
    process.usage.used()
}

/// getrusage(2).
pub(super) async fn getrusage(thread: &Thread, who: u64, out: u64) -> SysResult {
    const RUSAGE_SELF: i32 = 0;
    const RUSAGE_CHILDREN: i32 = -1;
    const RUSAGE_THREAD: i32 = 1;
    let used = match who as i32 {
        // Threads are not counted one by one: the process's figures are the nearest there are.
        RUSAGE_SELF | RUSAGE_THREAD => used_by(&thread.process).await,
        RUSAGE_CHILDREN => thread.process.children_usage.used(),
        _ => return Err(Errno::EINVAL),
    };
    thread.process.write_object(out, &to_rusage(used)).await?;
    Ok(0)
}

/// getpriority(2): 20 less the nice value, which is 0 for everybody.
pub(super) fn getpriority() -> SysResult {
    Ok(20)
}

/// sched_get_priority_max(2) and sched_get_priority_min(2); `of_real_time` is the answer for SCHED_FIFO and SCHED_RR.
pub(super) fn priority_bound(policy: u64, of_real_time: u64) -> SysResult {
    const SCHED_OTHER: u64 = 0;
    const SCHED_RR: u64 = 2;
    const SCHED_BATCH: u64 = 3;
    const SCHED_IDLE: u64 = 5;
    match policy {
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE => Ok(0),
        1..=SCHED_RR => Ok(of_real_time),
        _ => Err(Errno::EINVAL),
    }
}

/// Checks the thread that a scheduling call is about: 0 is the caller.
fn check_thread(tid: u64) -> Result<(), Errno> {
    let tid = Tid::from_number(tid);
    if tid.number() == 0 || table::find_by_thread(tid).is_some() { Ok(()) } else { Err(Errno::ESRCH) }
}

/// sched_getscheduler(2): SCHED_OTHER.
pub(super) fn sched_getscheduler(tid: u64) -> SysResult {
    check_thread(tid).map(|()| 0)
}

/// sched_getparam(2): priority 0, as that policy has it.
pub(super) async fn sched_getparam(thread: &Thread, tid: u64, out: u64) -> SysResult {
    check_thread(tid)?;
    thread.process.write_object(out, &0_u32).await?;
    Ok(0)
}

/// setuid(2) and its kin: root stays root. -1 is "as it is" where several are set at once.
pub(super) fn set_identity(ids: &[u64]) -> SysResult {
    let stays = |id: &u64| matches!(*id as u32, 0 | u32::MAX);
    if ids.iter().all(stays) { Ok(0) } else { Err(Errno::EPERM) }
}

/// getresuid(2) and getresgid(2).
pub(super) async fn get_identity(thread: &Thread, places: [u64; 3]) -> SysResult {
    for place in places {
        thread.process.write_object(place, &0_u32).await?;
    }
    Ok(0)
}

/// prctl(2): the thread's name, the signal at the parent's end, and flags nothing here depends on.
pub(super) async fn prctl(thread: &mut Thread, what: u64, argument: u64) -> SysResult {
    const PR_SET_PDEATHSIG: u64 = 1;
    const PR_GET_PDEATHSIG: u64 = 2;
    const PR_GET_DUMPABLE: u64 = 3;
    const PR_SET_DUMPABLE: u64 = 4;
    const PR_SET_NAME: u64 = 15;
    const PR_GET_NAME: u64 = 16;
    const PR_GET_NO_NEW_PRIVS: u64 = 39;
    const PR_SET_NO_NEW_PRIVS: u64 = 38;
    const PR_SET_THP_DISABLE: u64 = 41;
    match what {
        PR_SET_NAME => {
            let mut name = [0; 16];
            thread.process.read_string(argument, &mut name).await?;
            name[15] = 0;
            thread.name = name;
            if thread.state.tid() == thread.process.pid {
                thread.process.inherited.lock().name = name;
            }
            Ok(0)
        }
        PR_GET_NAME => {
            thread.process.write_bytes(argument, &thread.name).await?;
            Ok(0)
        }
        PR_SET_PDEATHSIG => {
            let signal = if argument == 0 { None } else { Some(Signal::from_number(argument)?) };
            thread.process.inherited.lock().parent_death_signal = signal;
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            let signal = thread.process.inherited.lock().parent_death_signal;
            let number = signal.map_or(0, |signal| u32::from(signal.number()));
            thread.process.write_object(argument, &number).await?;
            Ok(0)
        }
        // There are neither core dumps nor privileges to gain.
        PR_SET_DUMPABLE if argument > 1 => Err(Errno::EINVAL),
        PR_SET_DUMPABLE | PR_SET_THP_DISABLE | PR_SET_NO_NEW_PRIVS => Ok(0),
        PR_GET_DUMPABLE | PR_GET_NO_NEW_PRIVS => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}
