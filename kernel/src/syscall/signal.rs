//! Calls about signals. The tables are `process/signal.rs`, frames `process/deliver.rs`.

use super::Verdict;
use super::abi::{SigActionRaw, StackT};
use super::errno::{Errno, SysResult};
use crate::process::process::Outcome;
use crate::process::signal::{AltStack, Signal, SignalSet};
use crate::process::thread::{Thread, ThreadState};

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

/// kill(2): there is one process to send to.
pub(super) fn kill(thread: &Thread, pid: u64, number: u64) -> SysResult {
    let pid = pid as u32 as i32;
    let own = thread.process.pid.number().cast_signed();
    if pid != own && pid != 0 && pid != -1 && pid != -own {
        return Err(Errno::ESRCH);
    }
    if number == 0 {
        return Ok(0);
    }
    let signal = Signal::from_number(number)?;
    // The sender takes its own signal before kill returns if it can (POSIX kill()), as abort() expects.
    if thread.state.blocked().contains(signal) {
        thread.process.send(signal);
    } else {
        send(thread, &thread.state, signal);
    }
    Ok(0)
}

/// tkill(2) and tgkill(2).
pub(super) fn tgkill(thread: &Thread, tid: u64, number: u64) -> SysResult {
    let target = thread.process.thread(tid).ok_or(Errno::ESRCH)?;
    if number != 0 {
        send(thread, &target, Signal::from_number(number)?);
    }
    Ok(0)
}

/// Sends a signal to a thread of the caller's process, if it means anything to it.
fn send(thread: &Thread, target: &ThreadState, signal: Signal) {
    if target.blocked().contains(signal) || !thread.process.actions.lock().ignores(signal) {
        target.send(signal);
    }
}
