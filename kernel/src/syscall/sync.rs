//! futex(2) and sched_yield(2). The queue of waiters is `process/futex.rs`.

use linux_raw_sys::general::{
    FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_WAIT, FUTEX_WAIT_BITSET,
    FUTEX_WAKE, FUTEX_WAKE_BITSET,
};

use super::abi::Timespec;
use super::errno::{Errno, SysResult};
use super::time::Deadline;
use crate::process::futex::{ANY_BITSET, Word};
use crate::process::memory::CopyAttempt;
use crate::process::thread::Thread;

/// The operations that only wake, and so never wait; `None` for the others.
pub(super) fn futex_now(thread: &Thread, args: &[u64; 6]) -> Option<SysResult> {
    let &[address, operation, value, fourth, second, third] = args;
    let (limit, moves, bitset) = (u64::from(value as u32), u64::from(fourth as u32), third as u32);
    let word = || word_at(thread, operation, address);
    let wake = |bitset| word().map(|word| thread.space.futexes_of(word).wake(word, bitset, limit));
    let result = match command(operation) {
        FUTEX_WAKE => wake(ANY_BITSET),
        FUTEX_WAKE_BITSET if bitset == 0 => Err(Errno::EINVAL),
        FUTEX_WAKE_BITSET => wake(bitset),
        FUTEX_REQUEUE => word().and_then(|from| {
            let to = word_at(thread, operation, second)?;
            let (woken, _) = thread.space.futexes_of(from).requeue(from, to, (limit, moves), || Ok(()))?;
            Ok(woken)
        }),
        _ => return None,
    };
    Some(result)
}

/// The operations that look at the word: WAIT, WAIT_BITSET, CMP_REQUEUE.
pub(super) async fn futex_wait(thread: &Thread, args: [u64; 6]) -> SysResult {
    let [address, operation, value, fourth, second, third] = args;
    check_word(address)?;
    let (expected, realtime) = (value as u32, operation & u64::from(FUTEX_CLOCK_REALTIME) != 0);
    match command(operation) {
        FUTEX_WAIT => {
            let timeout = read_timeout(thread, fourth).await?;
            let deadline = timeout.map(Deadline::after);
            wait(thread, (operation, address), expected, ANY_BITSET, deadline).await
        }
        FUTEX_WAIT_BITSET if third as u32 == 0 => Err(Errno::EINVAL),
        FUTEX_WAIT_BITSET => {
            let timeout = read_timeout(thread, fourth).await?;
            let deadline =
                timeout.map(|ns| if realtime { Deadline::at_wall_clock(ns) } else { Deadline::at_monotonic(ns) });
            wait(thread, (operation, address), expected, third as u32, deadline).await
        }
        FUTEX_CMP_REQUEUE => {
            let limits = (u64::from(value as u32), u64::from(fourth as u32));
            cmp_requeue(thread, operation, (address, second), limits, third as u32).await
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// sched_yield(2).
pub(super) async fn sched_yield() -> SysResult {
    crate::executor().end_turn().await;
    Ok(0)
}

fn command(operation: u64) -> u32 {
    operation as u32 & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
}

/// The word at an address. `FUTEX_PRIVATE_FLAG` promises that no other process waits on it, which spares looking.
fn word_at(thread: &Thread, operation: u64, address: u64) -> Result<Word, Errno> {
    check_word(address)?;
    let is_private = operation & u64::from(FUTEX_PRIVATE_FLAG) != 0;
    Ok(if is_private { Word::Own(address) } else { thread.space.word_at(address) })
}

fn check_word(address: u64) -> Result<(), Errno> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    super::abi::check_user_range(address, 4)
}

async fn read_timeout(thread: &Thread, at: u64) -> Result<Option<u64>, Errno> {
    let timeout: Option<Timespec> = thread.process.read_optional(at).await?;
    timeout.map(Timespec::to_ns).transpose()
}

async fn wait(
    thread: &Thread,
    (operation, address): (u64, u64),
    expected: u32,
    bitset: u32,
    deadline: Option<Deadline>,
) -> SysResult {
    let wait = loop {
        // Makes the word resident; whether it still is, is found out under the queue's lock.
        let _: u32 = thread.process.read_object(address).await?;
        let word = word_at(thread, operation, address)?;
        let queued = thread.space.futexes_of(word).begin_wait(&thread.state.waiter, word, bitset, || {
            match thread.process.try_read_u32(address) {
                CopyAttempt::Done(value) if value == expected => Ok(()),
                CopyAttempt::Done(_) => Err(Errno::EAGAIN),
                CopyAttempt::WouldWait => Err(Errno::ERESTART),
            }
        });
        match queued {
            Err(Errno::ERESTART) => executor::yield_now().await,
            queued => break queued?,
        }
    };
    let result = match deadline {
        None => thread.interruptible(wait.woken()).await,
        Some(deadline) => match thread.interruptible(deadline.limit(wait.woken())).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(Errno::ETIMEDOUT),
            // With a timeout the remaining time is unknown to a second attempt (signal(7)).
            Err(_) => Err(Errno::EINTR),
        },
    };
    if wait.is_woken() { Ok(0) } else { result.map(|()| 0) }
}

async fn cmp_requeue(
    thread: &Thread,
    operation: u64,
    (from, to): (u64, u64),
    limits: (u64, u64),
    expected: u32,
) -> SysResult {
    check_word(to)?;
    loop {
        let _: u32 = thread.process.read_object(from).await?;
        let words = [word_at(thread, operation, from)?, word_at(thread, operation, to)?];
        let queue = thread.space.futexes_of(words[0]);
        let moved = queue.requeue(words[0], words[1], limits, || match thread.process.try_read_u32(from) {
            CopyAttempt::Done(value) if value == expected => Ok(()),
            CopyAttempt::Done(_) => Err(Errno::EAGAIN),
            CopyAttempt::WouldWait => Err(Errno::ERESTART),
        });
        match moved {
            Err(Errno::ERESTART) => executor::yield_now().await,
            moved => return moved.map(|(woken, moved)| woken + moved),
        }
    }
}
