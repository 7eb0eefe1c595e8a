//! wait4(2) and waitid(2). What there is to learn of children is `process/table.rs`.

use core::future::poll_fn;
use core::task::Poll;

use linux_raw_sys::general as flag;
use zerocopy::FromZeros;

use super::abi::SigInfoRaw;
use super::errno::{Errno, SysResult};
use super::limits::to_rusage;
use crate::process::deliver::raw_info;
use crate::process::process::{Outcome, Tid};
use crate::process::signal::{Origin, SigInfo, Signal, code};
use crate::process::table::{self, Event, News, Question, Report, Whose};
use crate::process::thread::Thread;

/// Options that change nothing here: every child is one of the process, however it was made.
const ANY_CHILD: u32 = flag::__WALL | flag::__WNOTHREAD | flag::__WCLONE;

/// Waits for an answer to `question`; `None` if there is none yet and the caller does not want to wait.
async fn wait(thread: &Thread, question: Question, options: u32) -> Result<Option<Report>, Errno> {
    let parent = &thread.process;
    let answer = match table::ask(parent.pid, question)? {
        None if options & flag::WNOHANG == 0 => {
            // Every change of a child's state has this task polled.
            let asked = poll_fn(|_| match table::ask(parent.pid, question) {
                Ok(None) => Poll::Pending,
                answer => Poll::Ready(answer),
            });
            thread.interruptible(asked).await??
        }
        answer => answer,
    };
    if let Some(Report { event: Event::Ended(_), used, .. }) = answer
        && !question.leave
    {
        parent.children_usage.add(used);
    }
    Ok(answer)
}

/// wait4(2).
pub(super) async fn wait4(thread: &Thread, [pid, status, options, usage]: [u64; 4]) -> SysResult {
    let options = options as u32;
    let known = flag::WNOHANG | flag::WUNTRACED | flag::WCONTINUED | ANY_CHILD;
    if options & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let whose = match pid as u32 as i32 {
        -1 => Whose::Anyone,
        pid @ 1.. => Whose::Process(Tid::from_number(pid as u64)),
        group => Whose::Group(Tid::from_number(group.unsigned_abs().into())),
    };
    let question = Question {
        whose,
        ended: true,
        stopped: options & flag::WUNTRACED != 0,
        continued: options & flag::WCONTINUED != 0,
        leave: false,
    };
    let Some(report) = wait(thread, question, options).await? else { return Ok(0) };
    thread.process.write_optional(status, &wait_status(report.event)).await?;
    if usage != 0 {
        thread.process.write_object(usage, &to_rusage(report.used)).await?;
    }
    Ok(report.pid.number().into())
}

/// As the macros of wait(2) take it apart.
fn wait_status(event: Event) -> u32 {
    const CONTINUED: u32 = 0xffff;
    match event {
        Event::Ended(outcome) => outcome.to_wait_status(),
        Event::Changed(News::Stopped(signal)) => u32::from(signal.number()) << 8 | 0x7f,
        Event::Changed(News::Continued) => CONTINUED,
    }
}

/// waitid(2).
pub(super) async fn waitid(thread: &Thread, [kind, id, out, options, usage]: [u64; 5]) -> SysResult {
    let (options, id) = (options as u32, Tid::from_number(id));
    let asked = flag::WEXITED | flag::WSTOPPED | flag::WCONTINUED;
    if options & !(asked | flag::WNOHANG | flag::WNOWAIT | ANY_CHILD) != 0 || options & asked == 0 {
        return Err(Errno::EINVAL);
    }
    let whose = match kind as u32 {
        flag::P_ALL => Whose::Anyone,
        flag::P_PID => Whose::Process(id),
        flag::P_PGID => Whose::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    let has = |wanted: u32| options & wanted != 0;
    let question = Question {
        whose,
        ended: has(flag::WEXITED),
        stopped: has(flag::WSTOPPED),
        continued: has(flag::WCONTINUED),
        leave: has(flag::WNOWAIT),
    };
    let report = wait(thread, question, options).await?;
    thread.process.write_optional(out, &report.map_or_else(SigInfoRaw::new_zeroed, child_info)).await?;
    if let Some(report) = report
        && usage != 0
    {
        thread.process.write_object(usage, &to_rusage(report.used)).await?;
    }
    Ok(0)
}

fn child_info(report: Report) -> SigInfoRaw {
    let (code, status) = match report.event {
        Event::Ended(Outcome::Exited(status)) => (code::CLD_EXITED, status.into()),
        Event::Ended(outcome) => (code::CLD_KILLED, outcome.to_wait_status().cast_signed()),
        Event::Changed(News::Stopped(signal)) => (code::CLD_STOPPED, signal.number().into()),
        Event::Changed(News::Continued) => (code::CLD_CONTINUED, Signal::CONT.number().into()),
    };
    let origin = Origin::Child { pid: report.pid.number(), status };
    raw_info(&SigInfo { signal: Signal::CHLD, code, origin })
}
