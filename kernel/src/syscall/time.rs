//! Clocks and sleeps. Time itself comes from `crate::time`, waiting from the executor's timers.

use core::future::Future;

use linux_raw_sys::general as nr;

use super::abi::{Itimerval, NS_PER_S, Timespec, Timeval, Tms};
use super::errno::{Errno, SysResult};
use crate::process::alarm::TimerValue;
use crate::process::thread::Thread;
use crate::time;
use executor::Instant;

/// Clock ticks per second that times(2) counts in (AT_CLKTCK).
const TICKS_PER_S: u64 = 100;

/// A point on the machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// This many nanoseconds from now.
    pub(super) fn after(ns: u64) -> Self {
        Self::at_monotonic(time::now_ns().saturating_add(ns))
    }

    /// At this time since boot.
    pub(super) fn at_monotonic(ns: u64) -> Self {
        Self(Instant::from_nanos(ns))
    }

    /// At this time of day. The wall clock is never set, so it and the monotonic one stay a fixed distance apart.
    pub(super) fn at_wall_clock(ns: u64) -> Self {
        Self::after(ns.saturating_sub(time::wall_clock_ns()))
    }

    /// `wait`'s output, or `None` when the deadline comes first.
    pub(super) async fn limit<T>(self, wait: impl Future<Output = T>) -> Option<T> {
        let span = self.0.since(time::now());
        crate::executor().timers().timeout(span, wait).await.ok()
    }

    async fn reached(self) {
        crate::executor().timers().sleep_until(self.0).await;
    }

    fn remaining_ns(self) -> u64 {
        self.0.as_nanos().saturating_sub(time::now_ns())
    }
}

/// One of the clocks of clock_gettime(2), as the program names it.
fn read_clock(thread: &Thread, id: u64) -> Result<u64, Errno> {
    match id as u32 {
        nr::CLOCK_REALTIME | nr::CLOCK_REALTIME_COARSE | nr::CLOCK_TAI => Ok(time::wall_clock_ns()),
        nr::CLOCK_MONOTONIC | nr::CLOCK_MONOTONIC_RAW | nr::CLOCK_MONOTONIC_COARSE | nr::CLOCK_BOOTTIME => {
            Ok(time::now_ns())
        }
        nr::CLOCK_PROCESS_CPUTIME_ID | nr::CLOCK_THREAD_CPUTIME_ID => Ok(user_ns(thread)),
        _ => Err(Errno::EINVAL),
    }
}

/// User time of the process, in whole timer ticks.
pub(super) fn user_ns(thread: &Thread) -> u64 {
    thread.process.usage.used().user_ns
}

/// clock_gettime(2).
pub(super) async fn clock_gettime(thread: &Thread, id: u64, out: u64) -> SysResult {
    let now = Timespec::from_ns(read_clock(thread, id)?);
    thread.process.write_object(out, &now).await?;
    Ok(0)
}

/// clock_getres(2).
pub(super) async fn clock_getres(thread: &Thread, id: u64, out: u64) -> SysResult {
    read_clock(thread, id)?;
    thread.process.write_optional(out, &Timespec::from_ns(1)).await?;
    Ok(0)
}

/// gettimeofday(2); the time zone argument has been meaningless for decades.
pub(super) async fn gettimeofday(thread: &Thread, out: u64) -> SysResult {
    thread.process.write_optional(out, &Timeval::from_ns(time::wall_clock_ns())).await?;
    Ok(0)
}

/// time(2).
pub(super) async fn time(thread: &Thread, out: u64) -> SysResult {
    let seconds = time::wall_clock_ns() / NS_PER_S;
    thread.process.write_optional(out, &seconds).await?;
    Ok(seconds)
}

/// times(2).
pub(super) async fn times(thread: &Thread, out: u64) -> SysResult {
    let ticks = |ns: u64| ns / (NS_PER_S / TICKS_PER_S);
    let used = ticks(user_ns(thread)).cast_signed();
    let children = ticks(thread.process.children_usage.used().user_ns).cast_signed();
    let tms = Tms { tms_utime: used, tms_stime: 0, tms_cutime: children, tms_cstime: 0 };
    thread.process.write_optional(out, &tms).await?;
    Ok(ticks(time::now_ns()))
}

/// alarm(2): what is left of the one before, in whole seconds, but never 0 if there was one.
pub(super) fn alarm(thread: &Thread, seconds: u64) -> SysResult {
    let value = TimerValue { in_ns: u64::from(seconds as u32) * NS_PER_S, every_ns: 0 };
    let before = thread.process.set_real_timer(value);
    Ok(before.in_ns.div_ceil(NS_PER_S))
}

fn to_itimerval(value: TimerValue) -> Itimerval {
    Itimerval { it_interval: Timeval::from_ns(value.every_ns), it_value: Timeval::from_ns(value.in_ns) }
}

/// Only the timer of real time is there: the others count CPU time, which is sampled too coarsely here.
fn check_timer(which: u64) -> Result<(), Errno> {
    const ITIMER_REAL: u32 = 0;
    if which as u32 == ITIMER_REAL { Ok(()) } else { Err(Errno::EINVAL) }
}

/// getitimer(2).
pub(super) async fn getitimer(thread: &Thread, which: u64, out: u64) -> SysResult {
    check_timer(which)?;
    let value = thread.process.real_timer.lock().value();
    thread.process.write_object(out, &to_itimerval(value)).await?;
    Ok(0)
}

/// setitimer(2).
pub(super) async fn setitimer(thread: &Thread, which: u64, new: u64, old: u64) -> SysResult {
    check_timer(which)?;
    let wanted: Option<Itimerval> = thread.process.read_optional(new).await?;
    // A null pointer disarms, on Linux to this day.
    let wanted = match wanted {
        None => TimerValue::default(),
        Some(wanted) => TimerValue { in_ns: wanted.it_value.to_ns()?, every_ns: wanted.it_interval.to_ns()? },
    };
    let before = thread.process.set_real_timer(wanted);
    thread.process.write_optional(old, &to_itimerval(before)).await?;
    Ok(0)
}

/// nanosleep(2).
pub(super) async fn nanosleep(thread: &Thread, request: u64, remaining: u64) -> SysResult {
    let span: Timespec = thread.process.read_object(request).await?;
    sleep(thread, Deadline::after(span.to_ns()?), Some(remaining)).await
}

/// clock_nanosleep(2).
pub(super) async fn clock_nanosleep(thread: &Thread, [clock, flags, request, remaining]: [u64; 4]) -> SysResult {
    let span: Timespec = thread.process.read_object(request).await?;
    let ns = span.to_ns()?;
    read_clock(thread, clock)?;
    let is_wall_clock = clock as u32 == nr::CLOCK_REALTIME;
    if flags & u64::from(nr::TIMER_ABSTIME) == 0 {
        return sleep(thread, Deadline::after(ns), Some(remaining)).await;
    }
    let deadline = if is_wall_clock { Deadline::at_wall_clock(ns) } else { Deadline::at_monotonic(ns) };
    sleep(thread, deadline, None).await
}

async fn sleep(thread: &Thread, deadline: Deadline, remaining_out: Option<u64>) -> SysResult {
    if thread.interruptible(deadline.reached()).await.is_ok() {
        return Ok(0);
    }
    if let Some(out) = remaining_out {
        let rest = Timespec::from_ns(deadline.remaining_ns());
        thread.process.write_optional(out, &rest).await?;
    }
    Err(Errno::EINTR)
}
