//! The system calls: one table from Linux numbers to small functions.
//!
//! Owns the dispatch and the split between calls that never wait (`try_now`: answered on the spot, no future) and
//! those that may (`dispatch`). The calls themselves are grouped by what they are about; state lives in
//! `process/` and `fs/`, memory in `mm`. A number in neither table is answered ENOSYS and counted.
//!
//! ABI: number in rax, arguments in rdi rsi rdx r10 r8 r9, result or -errno in rax (psABI appendix A.2.1).

pub mod abi;
mod across;
mod advice;
mod clone;
mod descriptor;
mod dir;
pub mod errno;
mod fd;
mod file;
mod limits;
mod lock;
mod mem;
mod mount;
mod names;
mod native;
mod path;
mod poll;
mod process;
mod relations;
mod signal;
mod stat;
mod sync;
mod time;
mod userfault;
mod wait;

use alloc::boxed::Box;

use linux_raw_sys::general as nr;
use mm::space::Lock;

use crate::arch::user::SyscallRequest;
use crate::process::exec;
use crate::process::memory::wait_for_room;
use crate::process::thread::Thread;
use across::{Direction, process_vm};
use errno::{Errno, SysResult};
use file::Position;
use poll::Timeout;

/// What a dispatched call leaves its thread to do.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// Put this into rax and go on.
    Return(SysResult),
    /// Go on with the registers as the call set them (`rt_sigreturn`).
    RegistersSet,
    /// The thread is over.
    Exit,
}

/// Answers a call that never waits, if `request` is one.
pub fn try_now(thread: &mut Thread, request: SyscallRequest) -> Option<SysResult> {
    let [a, b, c, ..] = request.args;
    Some(match u32::try_from(request.number).ok()? {
        nr::__NR_getpid => Ok(thread.process.pid.number().into()),
        nr::__NR_gettid => Ok(thread.state.tid().number().into()),
        nr::__NR_getppid => relations::getppid(thread),
        nr::__NR_getuid | nr::__NR_geteuid | nr::__NR_getgid | nr::__NR_getegid => Ok(0),
        nr::__NR_getgroups => Ok(0),
        nr::__NR_setuid | nr::__NR_setgid => limits::set_identity(&[a]),
        nr::__NR_setreuid | nr::__NR_setregid => limits::set_identity(&[a, b]),
        nr::__NR_setresuid | nr::__NR_setresgid => limits::set_identity(&[a, b, c]),
        nr::__NR_getpriority => limits::getpriority(),
        nr::__NR_sched_get_priority_max => limits::priority_bound(a, 99),
        nr::__NR_sched_get_priority_min => limits::priority_bound(a, 1),
        nr::__NR_sched_getscheduler => limits::sched_getscheduler(a),
        nr::__NR_getpgrp => relations::getpgid(thread, 0),
        nr::__NR_getpgid => relations::getpgid(thread, a),
        nr::__NR_getsid => relations::getsid(thread, a),
        nr::__NR_setsid => relations::setsid(thread),
        nr::__NR_setpgid => relations::setpgid(thread, a, b),
        nr::__NR_set_tid_address => process::set_tid_address(thread, a),
        nr::__NR_set_robust_list => process::set_robust_list(b),
        nr::__NR_alarm => time::alarm(thread, a),
        nr::__NR_umask => path::umask(thread, a),
        nr::__NR_kill => signal::kill(thread, a, b),
        nr::__NR_tkill => signal::tgkill(thread, None, a, b),
        nr::__NR_tgkill => signal::tgkill(thread, Some(a), b, c),
        nr::__NR_close => fd::close(thread, a),
        nr::__NR_close_range => fd::close_range(thread, a, b, c),
        nr::__NR_lseek => return descriptor::lseek_now(thread, a, b, c),
        nr::__NR_dup => fd::dup(thread, a),
        nr::__NR_dup2 => fd::dup2(thread, a, b),
        nr::__NR_dup3 => fd::dup3(thread, a, b, c),
        nr::__NR_fcntl if !lock::is_about_locks(b) => fd::fcntl(thread, a, b, c),
        nr::__NR_ioctl => return descriptor::ioctl_now(thread, a),
        nr::__NR_futex => return sync::futex_now(thread, &thread.machine.syscall().args),
        nr::__NR_sched_setaffinity => Ok(0),
        nr::__NR_rseq | nr::__NR_clone3 => Err(Errno::ENOSYS),
        _ => return None,
    })
}

/// execve(2): on success there is nothing to return to. A future of its own, for it holds the arguments.
async fn execve(thread: &mut Thread, request: [u64; 3]) -> Verdict {
    match Box::pin(exec::execve(thread, request)).await {
        Ok(()) => Verdict::RegistersSet,
        Err(errno) => Verdict::Return(Err(errno)),
    }
}

/// Answers the call the thread has just made, any that [`try_now`] does not.
pub async fn dispatch(thread: &mut Thread) -> Verdict {
    let SyscallRequest { number, args: [a, b, c, d, e, f] } = thread.machine.syscall();
    // Numbers beyond 32 bits are none of Linux's; no call has this one.
    Verdict::Return(match u32::try_from(number).unwrap_or(u32::MAX) {
        nr::__NR_exit => return process::exit(thread, a).await,
        nr::__NR_exit_group => return process::exit_group(thread, a),
        nr::__NR_rt_sigreturn => return signal::rt_sigreturn(thread).await,
        nr::__NR_execve => return execve(thread, [a, b, c]).await,
        nr::__NR_clone => Box::pin(clone::clone(thread, [a, b, c, d, e])).await,
        nr::__NR_fork => clone::fork(thread).await,
        nr::__NR_vfork => clone::vfork(thread).await,
        nr::__NR_wait4 => Box::pin(wait::wait4(thread, [a, b, c, d])).await,
        nr::__NR_waitid => Box::pin(wait::waitid(thread, [a, b, c, d, e])).await,

        nr::__NR_brk => mem::brk(thread, a).await,
        nr::__NR_mmap => mem::mmap(thread, [a, b, c, d, e, f]).await,
        nr::__NR_munmap => mem::munmap(thread, a, b).await,
        nr::__NR_mprotect => mem::mprotect(thread, a, b, c).await,
        nr::__NR_msync => Box::pin(mem::msync(thread, a, b, c)).await,
        nr::__NR_madvise => advice::madvise(thread, a, b, c).await,
        nr::__NR_mremap => advice::mremap(thread, [a, b, c, d, e]).await,
        nr::__NR_mincore => advice::mincore(thread, a, b, c).await,
        nr::__NR_mlock => advice::mlock(thread, a, b, Lock::Now).await,
        nr::__NR_mlock2 => advice::mlock2(thread, a, b, c).await,
        nr::__NR_mlockall => advice::mlockall(thread, a).await,
        nr::__NR_munlock => advice::mlock(thread, a, b, Lock::Unlocked).await,
        nr::__NR_munlockall => advice::munlockall(thread).await,

        nr::__NR_read => file::read(thread, a, b, c, Position::Current).await,
        nr::__NR_write => file::write(thread, a, b, c, Position::Current).await,
        nr::__NR_pread64 => match Position::at(d) {
            Ok(position) => file::read(thread, a, b, c, position).await,
            Err(errno) => Err(errno),
        },
        nr::__NR_pwrite64 => match Position::at(d) {
            Ok(position) => file::write(thread, a, b, c, position).await,
            Err(errno) => Err(errno),
        },
        nr::__NR_readv => Box::pin(file::readv(thread, a, b, c, Position::Current)).await,
        nr::__NR_writev => Box::pin(file::writev(thread, a, b, c, Position::Current)).await,
        nr::__NR_preadv => match Position::at(d) {
            Ok(position) => Box::pin(file::readv(thread, a, b, c, position)).await,
            Err(errno) => Err(errno),
        },
        nr::__NR_pwritev => match Position::at(d) {
            Ok(position) => Box::pin(file::writev(thread, a, b, c, position)).await,
            Err(errno) => Err(errno),
        },
        nr::__NR_pipe => Box::pin(fd::pipe(thread, a, 0)).await,
        nr::__NR_pipe2 => Box::pin(fd::pipe(thread, a, b)).await,
        nr::__NR_userfaultfd => Box::pin(userfault::userfaultfd(thread, a)).await,
        nr::__NR_ioctl => Box::pin(userfault::ioctl(thread, a, b, c)).await,
        nr::__NR_poll => Box::pin(poll::poll(thread, a, b, Timeout::Milliseconds(c))).await,
        nr::__NR_ppoll => Box::pin(poll::ppoll(thread, [a, b, c, d, e])).await,
        nr::__NR_select => Box::pin(poll::select(thread, a, [b, c, d], Timeout::Timeval(e))).await,
        nr::__NR_pselect6 => Box::pin(poll::pselect6(thread, [a, b, c, d, e, f])).await,

        nr::__NR_rt_sigaction => signal::rt_sigaction(thread, [a, b, c, d]).await,
        nr::__NR_rt_sigprocmask => signal::rt_sigprocmask(thread, [a, b, c, d]).await,
        nr::__NR_rt_sigpending => signal::rt_sigpending(thread, a, b).await,
        nr::__NR_sigaltstack => signal::sigaltstack(thread, a, b).await,
        nr::__NR_pause => signal::pause(thread).await,
        nr::__NR_rt_sigsuspend => signal::rt_sigsuspend(thread, a, b).await,
        nr::__NR_rt_sigtimedwait => Box::pin(signal::rt_sigtimedwait(thread, [a, b, c, d])).await,
        nr::__NR_rt_sigqueueinfo => Box::pin(signal::sigqueueinfo(thread, a, None, b, c)).await,
        nr::__NR_rt_tgsigqueueinfo => Box::pin(signal::sigqueueinfo(thread, a, Some(b), c, d)).await,

        nr::__NR_futex => sync::futex_wait(thread, [a, b, c, d, e, f]).await,
        nr::__NR_sched_yield => sync::sched_yield().await,

        nr::__NR_nanosleep => time::nanosleep(thread, a, b).await,
        nr::__NR_clock_nanosleep => time::clock_nanosleep(thread, [a, b, c, d]).await,
        nr::__NR_clock_gettime => time::clock_gettime(thread, a, b).await,
        nr::__NR_clock_getres => time::clock_getres(thread, a, b).await,
        nr::__NR_gettimeofday => time::gettimeofday(thread, a).await,
        nr::__NR_time => time::time(thread, a).await,
        nr::__NR_times => time::times(thread, a).await,
        nr::__NR_getitimer => time::getitimer(thread, a, b).await,
        nr::__NR_setitimer => time::setitimer(thread, a, b, c).await,

        nr::__NR_getrandom => process::getrandom(thread, a, b, c).await,
        nr::__NR_uname => process::uname(thread, a).await,
        nr::__NR_arch_prctl => process::arch_prctl(thread, a, b).await,
        nr::__NR_prctl => limits::prctl(thread, a, b).await,
        nr::__NR_prlimit64 => Box::pin(limits::prlimit64(thread, [a, b, c, d])).await,
        nr::__NR_getrlimit => Box::pin(limits::prlimit64(thread, [0, a, 0, b])).await,
        nr::__NR_setrlimit => Box::pin(limits::prlimit64(thread, [0, a, b, 0])).await,
        nr::__NR_sysinfo => process::sysinfo(thread, a).await,
        nr::__NR_getrusage => limits::getrusage(thread, a, b).await,
        nr::__NR_sched_getparam => limits::sched_getparam(thread, a, b).await,
        nr::__NR_getresuid | nr::__NR_getresgid => limits::get_identity(thread, [a, b, c]).await,
        nr::__NR_sched_getaffinity => process::sched_getaffinity(thread, [a, b, c]).await,
        nr::__NR_process_vm_readv => Box::pin(process_vm(thread, [a, b, c, d, e, f], Direction::FromOther)).await,
        nr::__NR_process_vm_writev => Box::pin(process_vm(thread, [a, b, c, d, e, f], Direction::ToOther)).await,
        nr::__NR_getcpu => process::getcpu(thread, a, b).await,
        _ => match wait_for_room().await {
            Ok(()) if native::is_one(number) => Box::pin(native::dispatch(thread, number, [a, b, c])).await,
            // Boxed, because these are the longest futures, and the rest of the thread's should not carry them along.
            Ok(()) => Box::pin(names::dispatch(thread, number, [a, b, c, d, e, f])).await,
            Err(_) => Err(Errno::ENOMEM),
        },
    })
}
