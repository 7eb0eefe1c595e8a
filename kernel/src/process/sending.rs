//! Sending a signal: what happens at once, and who is woken for the rest.
//!
//! Owns the moment of sending. What ends a process does so here and not when some thread looks: a thread that waits for
//! a page stuck on the disk looks at nothing (issue row U1). Delivery to handlers is `thread.rs`'s and `deliver.rs`'s.
//!
//! Semantics: signal(7), kill(2).

use super::process::{Outcome, Process};
use super::signal::{DefaultAction, Disposition, SigInfo, Signal};
use super::table::{self, News};
use super::thread::ThreadState;

impl Process {
    /// Sends a signal to the process: any thread that does not block it may take it. One of those is woken, for only one
    /// wait is to be cut short by it; where all block it, whoever unblocks it first will see it.
    pub fn send(&self, info: SigInfo) {
        let taker = self.find_thread(|thread| !thread.blocked().contains(info.signal));
        if !self.acts_at_once(info, taker.as_deref()) {
            return;
        }
        self.pending.send(info);
        match taker {
            Some(taker) => taker.wake(),
            // Somebody may wait for a signal that is blocked (sigwait(3)).
            None => self.wake_threads(),
        }
    }

    /// Sends a signal to one of its threads.
    pub fn send_to_thread(&self, thread: &ThreadState, info: SigInfo) {
        let taker = Some(thread).filter(|thread| !thread.blocked().contains(info.signal));
        if self.acts_at_once(info, taker) {
            thread.pending.send(info);
            thread.wake();
        }
    }

    /// What a signal does the moment it is sent; says whether it is to be pending after that.
    fn acts_at_once(&self, info: SigInfo, taker: Option<&ThreadState>) -> bool {
        let signal = info.signal;
        if signal == Signal::CONT {
            self.forget_pending(Signal::is_stop);
            if self.go_on() {
                table::note(self, News::Continued);
            }
        } else if signal.is_stop() {
            self.forget_pending(|pending| pending == Signal::CONT);
        }
        if taker.is_none() {
            return true;
        }
        let disposition = self.actions.lock().peek(signal);
        let action = match disposition {
            Disposition::Ignore => DefaultAction::Ignore,
            Disposition::Handle(_) => return true,
            Disposition::Default => signal.default_action(),
        };
        match action {
            DefaultAction::Ignore => {}
            DefaultAction::Terminate => self.begin_end(Outcome::Signalled(signal)),
            DefaultAction::Stop => self.stop_by(signal),
        }
        false
    }

    /// Stops the process and tells its parent.
    pub fn stop_by(&self, signal: Signal) {
        if self.stop() {
            table::note(self, News::Stopped(signal));
        }
    }

    fn forget_pending(&self, is_gone: impl Fn(Signal) -> bool) {
        self.pending.forget(&is_gone);
        // Kept short: only what is told to the process stops it in practice, but a thread's own queue counts as well.
        let _none = self.find_thread(|thread| {
            thread.pending.forget(&is_gone);
            false
        });
    }
}
