//! Calls about threads, identity and limits.

use alloc::sync::Arc;

use linux_raw_sys::general as flag;
use x86_64::VirtAddr;
use zerocopy::FromZeros;

use super::Verdict;
use super::abi::{NS_PER_S, Rlimit, Rusage, SysInfo, Timeval, USER_END, UtsName, check_user_range};
use super::errno::{Errno, SysResult};
use super::time::user_ns;
use crate::arch;
use crate::process::futex::ANY_BITSET;
use crate::process::process::{MAX_THREADS, Outcome};
use crate::process::thread::Thread;
use crate::process::{memory, stats};
use crate::time;

/// What every thread library asks for: everything shared, or it would be a new process.
const THREAD_FLAGS: u32 =
    flag::CLONE_VM | flag::CLONE_FS | flag::CLONE_FILES | flag::CLONE_SIGHAND | flag::CLONE_THREAD;
/// Flags beside those that mean something here, or ask for what is the case anyway.
const OPTIONAL_FLAGS: u32 = flag::CLONE_SYSVSEM
    | flag::CLONE_SETTLS
    | flag::CLONE_PARENT_SETTID
    | flag::CLONE_CHILD_SETTID
    | flag::CLONE_CHILD_CLEARTID
    | flag::CLONE_DETACHED
    | flag::CLONE_IO
    | EXIT_SIGNAL;
/// The low byte of the flags is the signal sent to the parent of a new process; threads have none.
const EXIT_SIGNAL: u32 = 0xff;

/// set_tid_address(2).
pub(super) fn set_tid_address(thread: &mut Thread, address: u64) -> SysResult {
    thread.clear_child_tid = address;
    Ok(thread.state.tid.number().into())
}

/// set_robust_list(2): taken, and not looked at: a thread that dies takes its process along, so nobody is left to
/// be told about a mutex.
pub(super) fn set_robust_list(len: u64) -> SysResult {
    const ROBUST_LIST_HEAD: u64 = 24;
    if len == ROBUST_LIST_HEAD { Ok(0) } else { Err(Errno::EINVAL) }
}

/// clone(2) as far as it makes threads. A new process (fork, vfork) does not exist yet.
pub(super) async fn clone(thread: &mut Thread, [flags, stack, parent_tid, child_tid, tls]: [u64; 5]) -> SysResult {
    let has = |wanted: u32| flags & u64::from(wanted) != 0;
    if flags & u64::from(THREAD_FLAGS) != u64::from(THREAD_FLAGS) {
        stats::count_unknown_call(flag::__NR_clone.into());
        return Err(Errno::ENOSYS);
    }
    if flags & !u64::from(THREAD_FLAGS | OPTIONAL_FLAGS) != 0 || stack == 0 {
        return Err(Errno::EINVAL);
    }
    if has(flag::CLONE_SETTLS) && tls >= USER_END {
        return Err(Errno::EPERM);
    }
    let process = Arc::clone(&thread.process);
    memory::wait_for_room().await?;
    let unstarted = process.add_thread()?;
    unstarted.state().set_blocked(thread.state.blocked());
    let tid = unstarted.state().tid.number();

    let mut machine = thread.machine.duplicate();
    machine.set_syscall_result(0);
    machine.context_mut().set_sp(stack);
    if has(flag::CLONE_SETTLS) {
        machine.set_tls(VirtAddr::new(tls));
    }
    let mut child = Thread::new(Arc::clone(&process), Arc::clone(unstarted.state()), machine);
    child.name = thread.name;
    if has(flag::CLONE_CHILD_CLEARTID) {
        child.clear_child_tid = child_tid;
    }
    if has(flag::CLONE_PARENT_SETTID) {
        process.write_object(parent_tid, &tid).await?;
    }
    if has(flag::CLONE_CHILD_SETTID) {
        process.write_object(child_tid, &tid).await?;
    }
    child.spawn()?;
    unstarted.started();
    Ok(tid.into())
}

/// exit(2): this thread only.
pub(super) async fn exit(thread: &mut Thread, status: u64) -> Verdict {
    let process = &thread.process;
    process.note_thread_exit(&thread.state, status as u8);
    let address = thread.clear_child_tid;
    if address != 0 && process.write_object(address, &0_u32).await.is_ok() {
        process.futexes.wake(address, ANY_BITSET, 1);
    }
    Verdict::Exit
}

/// exit_group(2).
pub(super) fn exit_group(thread: &Thread, status: u64) -> Verdict {
    thread.process.begin_end(Outcome::Exited(status as u8));
    Verdict::Exit
}

/// getrandom(2): never blocks, so the flags change nothing.
pub(super) async fn getrandom(thread: &Thread, out: u64, len: u64, flags: u64) -> SysResult {
    const KNOWN: u64 = 7;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    check_user_range(out, len)?;
    // Linux gives at most 32 MiB - 1 at a time; a page is as legal an answer to those who ask for more.
    let len = len.min(4096);
    let mut done = 0;
    while done < len {
        let mut chunk = [0; 32];
        let part = chunk.len().min((len - done) as usize);
        arch::random::fill(&mut chunk[..part]);
        thread.process.write_bytes(out + done, &chunk[..part]).await?;
        done += part as u64;
    }
    Ok(len)
}

/// uname(2). The release says which Linux the ABI follows: glibc refuses to start below 3.2.
pub(super) async fn uname(thread: &Thread, out: u64) -> SysResult {
    const VERSION: &str = concat!("Ebb ", env!("CARGO_PKG_VERSION"));
    let fields = ["Linux", "ebb", "6.1.0-ebb", VERSION, "x86_64", "(none)"];
    let names = || {
        let mut names = UtsName::new_zeroed();
        for (field, text) in names.fields.iter_mut().zip(fields) {
            field[..text.len()].copy_from_slice(text.as_bytes());
        }
        names
    };
    thread.process.write_made(out, names).await?;
    Ok(0)
}

/// arch_prctl(2).
pub(super) async fn arch_prctl(thread: &mut Thread, what: u64, address: u64) -> SysResult {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    match what {
        ARCH_SET_FS | ARCH_SET_GS if address >= USER_END => return Err(Errno::EPERM),
        ARCH_SET_FS => thread.machine.set_tls(VirtAddr::new(address)),
        ARCH_SET_GS => thread.machine.set_gs(VirtAddr::new(address)),
        ARCH_GET_FS => thread.process.write_object(address, &thread.machine.tls().as_u64()).await?,
        ARCH_GET_GS => thread.process.write_object(address, &thread.machine.gs().as_u64()).await?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// prctl(2): the thread's name, and flags nothing here depends on.
pub(super) async fn prctl(thread: &mut Thread, what: u64, argument: u64) -> SysResult {
    const PR_SET_PDEATHSIG: u64 = 1;
    const PR_GET_DUMPABLE: u64 = 3;
    const PR_SET_DUMPABLE: u64 = 4;
    const PR_SET_NAME: u64 = 15;
    const PR_GET_NAME: u64 = 16;
    const PR_SET_THP_DISABLE: u64 = 41;
    match what {
        PR_SET_NAME => {
            let mut name = [0; 16];
            thread.process.read_string(argument, &mut name).await?;
            name[15] = 0;
            thread.name = name;
            Ok(0)
        }
        PR_GET_NAME => {
            thread.process.write_bytes(argument, &thread.name).await?;
            Ok(0)
        }
        PR_SET_PDEATHSIG | PR_SET_DUMPABLE | PR_SET_THP_DISABLE => Ok(0),
        PR_GET_DUMPABLE => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

/// prlimit64(2): limits are as they are; setting one to less than it is would not be honoured, and is refused.
pub(super) async fn prlimit64(thread: &Thread, [pid, resource, new, old]: [u64; 4]) -> SysResult {
    if pid != 0 && pid != u64::from(thread.process.pid.number()) {
        return Err(Errno::ESRCH);
    }
    let unlimited = u64::MAX;
    let limit = match resource as u32 {
        flag::RLIMIT_STACK => memory::STACK_BYTES,
        flag::RLIMIT_NOFILE => crate::fs::MAX_FILES as u64,
        flag::RLIMIT_NPROC => MAX_THREADS as u64,
        flag::RLIMIT_CORE | flag::RLIMIT_MEMLOCK => 0,
        0..=15 => unlimited,
        _ => return Err(Errno::EINVAL),
    };
    let wanted: Option<Rlimit> = thread.process.read_optional(new).await?;
    if wanted.is_some_and(|wanted| wanted.rlim_cur < limit) {
        return Err(Errno::EPERM);
    }
    thread.process.write_optional(old, &Rlimit { rlim_cur: limit, rlim_max: limit }).await?;
    Ok(0)
}

/// sysinfo(2).
pub(super) async fn sysinfo(thread: &Thread, out: u64) -> SysResult {
    let usage = memory::Usage::of(&memory::snapshot());
    let mut info = SysInfo::new_zeroed();
    info.uptime = (time::now_ns() / NS_PER_S).cast_signed();
    info.totalram = usage.ram_bytes;
    info.freeram = usage.free_bytes;
    info.totalswap = usage.swap_bytes;
    info.freeswap = usage.swap_free_bytes;
    info.procs = thread.process.thread_count() as u16;
    info.mem_unit = 1;
    thread.process.write_object(out, &info).await?;
    Ok(0)
}

/// getrusage(2).
pub(super) async fn getrusage(thread: &Thread, who: u64, out: u64) -> SysResult {
    const RUSAGE_CHILDREN: i32 = -1;
    let mut usage = Rusage::new_zeroed();
    if who as i32 != RUSAGE_CHILDREN {
        usage.ru_utime = Timeval::from_ns(user_ns(thread));
        usage.ru_minflt = stats::MINOR_FAULTS.count().cast_signed();
        usage.ru_majflt = stats::MAJOR_FAULTS.count().cast_signed();
        usage.ru_maxrss = (thread.process.page_counts().1.resident() * 4).cast_signed();
    }
    thread.process.write_object(out, &usage).await?;
    Ok(0)
}

/// sched_getaffinity(2): there is one CPU.
pub(super) async fn sched_getaffinity(thread: &Thread, [tid, len, out]: [u64; 3]) -> SysResult {
    const MASK_BYTES: u64 = 8;
    if len < MASK_BYTES || !len.is_multiple_of(MASK_BYTES) {
        return Err(Errno::EINVAL);
    }
    if tid != 0 && thread.process.thread(tid).is_none() {
        return Err(Errno::ESRCH);
    }
    thread.process.write_object(out, &1_u64).await?;
    Ok(MASK_BYTES)
}

/// getcpu(2).
pub(super) async fn getcpu(thread: &Thread, cpu: u64, node: u64) -> SysResult {
    thread.process.write_optional(cpu, &0_u32).await?;
    thread.process.write_optional(node, &0_u32).await?;
    Ok(0)
}
