//! Calls about signals. The tables are `process/signal.rs`, frames `process/deliver.rs`.

use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;

use super::Verdict;
use super::abi::{SigActionRaw, SigInfoRaw, StackT, Timespec};
use super::errno::{Errno, SysResult};
use super::poll::use_mask;
use super::time::Deadline;
use crate::process::deliver::raw_info;
use crate::process::process::{Outcome, Tid};
use crate::process::signal::{AltStack, Origin, SigInfo, Signal, SignalSet, code};
use crate::process::table;
use crate::process::thread::Thread;

/// The only size of `sigset_t` there is.
const SIGSET_BYTES: u64 = 8;
const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
const SIG_SETMASK: u64 = 2;

/// rt_sigaction(2). `*oldact` must be written whenever it is asked for: Rust's std looks at it before it installs
/// its own handlers.
pub(super) async fn rt_sigaction(thread: &Thread, [number, new, old, size]: [u64; 4]) -> SysResult {
    if size != SIGSET_BYTES {
        return Err(Errno::EINVAL);
    }
    let signal = Signal::from_number(number)?;
    let wanted: Option<SigActionRaw> = thread.process.read_optional(new).await?;
    let before = {
        let mut actions = thread.process.actions.lock();
        let before = actions.get(signal);
        if let Some(wanted) = wanted {
            actions.set(signal, wanted)?;
        }
        before
    };
    thread.process.write_optional(old, &before).await?;
    Ok(0)
}

/// rt_sigprocmask(2).
pub(super) async fn rt_sigprocmask(thread: &Thread, [how, new, old, size]: [u64; 4]) -> SysResult {
    if size != SIGSET_BYTES {
        return Err(Errno::EINVAL);
    }
    let before = thread.state.blocked();
    let wanted: Option<u64> = thread.process.read_optional(new).await?;
    if let Some(wanted) = wanted.map(SignalSet::from_mask) {
        thread.state.set_blocked(match how {
            SIG_BLOCK => before.union(wanted),
            SIG_UNBLOCK => before.difference(wanted),
            SIG_SETMASK => wanted,
            _ => return Err(Errno::EINVAL),
        });
    }
    thread.process.write_optional(old, &before.bits()).await?;
    Ok(0)
}

/// rt_sigpending(2).
pub(super) async fn rt_sigpending(thread: &Thread, out: u64, size: u64) -> SysResult {
    if size > SIGSET_BYTES {
        return Err(Errno::EINVAL);
    }
    let pending = thread.state.pending.all().union(thread.process.pending.all());
    thread.process.write_object(out, &pending.bits()).await?;
    Ok(0)
}

/// sigaltstack(2).
pub(super) async fn sigaltstack(thread: &mut Thread, new: u64, old: u64) -> SysResult {
    let stack_pointer = thread.machine.context().sp();
    let before = thread.alt_stack.to_raw(stack_pointer);
    let wanted: Option<StackT> = thread.process.read_optional(new).await?;
    if let Some(wanted) = wanted {
        if thread.alt_stack.holds(stack_pointer) {
            return Err(Errno::EPERM);
        }
        thread.alt_stack = AltStack::from_raw(&wanted)?;
    }
    thread.process.write_optional(old, &before).await?;
    Ok(0)
}

/// pause(2).
pub(super) async fn pause(thread: &Thread) -> SysResult {
    let interrupted = thread.interruptible(core::future::pending::<()>()).await;
    // Never restarted: pause is over when a handler has run.
    interrupted.map(|()| 0).map_err(|_| Errno::EINTR)
}

/// rt_sigreturn(2): a forged or unmapped frame leaves nowhere to return to.
pub(super) async fn rt_sigreturn(thread: &mut Thread) -> Verdict {
    match thread.sigreturn().await {
        Ok(()) => Verdict::RegistersSet,
        Err(_) => {
            thread.process.begin_end(Outcome::Signalled(Signal::SEGV));
            Verdict::Exit
        }
    }
}

/// kill(2).
pub(super) fn kill(thread: &Thread, pid: u64, number: u64) -> SysResult {
    let own = thread.process.pid;
    let pid = pid as u32 as i32;
    let targets = match pid {
        1.. if Tid::from_number(pid as u64) == Tid::KERNEL => return Err(Errno::EPERM),
        1.. => Vec::from_iter(table::find(Tid::from_number(pid as u64))),
        0 => table::relations(own).map_or(Vec::new(), |relations| table::group(relations.group)),
        // Everybody but the caller (kill(2), notes).
        -1 => table::all().into_iter().filter(|process| process.pid != own).collect(),
        _ => table::group(Tid::from_number(pid.unsigned_abs().into())),
    };
    if targets.is_empty() {
        // A zombie can be named, and is past caring.
        let is_zombie = pid > 0 && table::is_zombie(Tid::from_number(pid as u64));
        return if is_zombie { Ok(0) } else { Err(Errno::ESRCH) };
    }
    if number == 0 {
        return Ok(0);
    }
    let info = SigInfo::sent(Signal::from_number(number)?, code::SI_USER, own);
    for target in targets {
        // The sender takes its own signal before kill returns if it can (POSIX kill()), as abort() expects.
        if target.pid == own && !thread.state.blocked().contains(info.signal) {
            target.send_to_thread(&thread.state, info);
        } else {
            target.send(info);
        }
    }
    Ok(0)
}

/// tgkill(2), and tkill(2), which names no process.
pub(super) fn tgkill(thread: &Thread, group: Option<u64>, tid: u64, number: u64) -> SysResult {
    let tid = Tid::from_number(tid);
    let process = match group {
        Some(group) => table::find(Tid::from_number(group)),
        None => table::find_by_thread(tid),
    };
    let process = process.ok_or(Errno::ESRCH)?;
    let target = process.thread(tid).ok_or(Errno::ESRCH)?;
    if number != 0 {
        let info = SigInfo::sent(Signal::from_number(number)?, code::SI_TKILL, thread.process.pid);
        process.send_to_thread(&target, info);
    }
    Ok(0)
}

/// rt_sigqueueinfo(2) and rt_tgsigqueueinfo(2): a signal with a value. Only the kernel may say that it comes from the kernel.
pub(super) async fn sigqueueinfo(thread: &Thread, pid: u64, tid: Option<u64>, number: u64, at: u64) -> SysResult {
    let signal = Signal::from_number(number)?;
    let raw: SigInfoRaw = thread.process.read_object(at).await?;
    let process = table::find(Tid::from_number(pid)).ok_or(Errno::ESRCH)?;
    if raw.si_code >= 0 && process.pid != thread.process.pid {
        return Err(Errno::EPERM);
    }
    let origin = Origin::Sent { pid: raw.fields[0] as u32, value: raw.fields[1] };
    let info = SigInfo { signal, code: raw.si_code, origin };
    match tid {
        None => process.send(info),
        Some(tid) => {
            let target = process.thread(Tid::from_number(tid)).ok_or(Errno::ESRCH)?;
            process.send_to_thread(&target, info);
        }
    }
    Ok(0)
}

/// rt_sigsuspend(2): another mask until a handler has run.
pub(super) async fn rt_sigsuspend(thread: &mut Thread, mask: u64, size: u64) -> SysResult {
    use_mask(thread, mask, size).await?;
    pause(thread).await
}

/// rt_sigtimedwait(2): takes a signal instead of having it handled.
pub(super) async fn rt_sigtimedwait(thread: &Thread, [set, out, timeout, size]: [u64; 4]) -> SysResult {
    if size != SIGSET_BYTES {
        return Err(Errno::EINVAL);
    }
    let bits: u64 = thread.process.read_object(set).await?;
    let timeout: Option<Timespec> = thread.process.read_optional(timeout).await?;
    let deadline = timeout.map(Timespec::to_ns).transpose()?.map(Deadline::after);
    let others = SignalSet::from_mask(bits).complement();
    let take = || thread.state.pending.take_outside(others).or_else(|| thread.process.pending.take_outside(others));
    // Whoever sends a signal that is blocked everywhere has all threads polled.
    let taken = poll_fn(|_| take().map_or(Poll::Pending, Poll::Ready));
    let info = match deadline {
        None => thread.interruptible(taken).await.map(Some),
        Some(deadline) => thread.interruptible(deadline.limit(taken)).await,
    };
    let info = info.map_err(|_| Errno::EINTR)?.ok_or(Errno::EAGAIN)?;
    if out != 0 {
        thread.process.write_object(out, &raw_info(&info)).await?;
    }
    Ok(info.signal.number().into())
}
