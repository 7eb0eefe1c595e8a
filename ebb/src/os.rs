//! The few things ebb asks of Linux that the standard library has no safe name for.
//!
//! Owns: signals received as values, the tie between ebb's life and QEMU's, and the terminal's width.
//! Does not own what is done about any of them. All of ebb's unsafe code is here.

#![expect(unsafe_code, reason = "libc calls without a safe wrapper in std")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::ending::Status;

/// A request from outside to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The terminal went away.
    HangUp,
    /// Ctrl-C.
    Interrupt,
    /// `kill`, `timeout`, a shutdown.
    Terminate,
}

const SIGNALS: [(libc::c_int, Signal, u8); 3] =
    [(libc::SIGHUP, Signal::HangUp, 1), (libc::SIGINT, Signal::Interrupt, 2), (libc::SIGTERM, Signal::Terminate, 15)];

impl Signal {
    /// The status of a command that this signal ended.
    pub fn status(self) -> Status {
        let number = SIGNALS.iter().find(|(_, signal, _)| *signal == self).map_or(0, |(_, _, number)| *number);
        Status::of_signal(number)
    }
}

/// The three signals, blocked so that one thread can receive them as values.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks the signals for this thread and all that it starts from now on; call it before any other
    /// thread runs, because an unblocked thread would receive them the deadly way. Also makes reading
    /// a terminal from the background an error instead of a stop (termios(3), SIGTTIN).
    pub fn block() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that the other calls then read; all arguments are valid
        // signal numbers and pointers to live locals, and a null old-set pointer is allowed.
        // SIG_IGN is a valid disposition for SIGTTIN and installs no code.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for (number, _, _) in SIGNALS {
                libc::sigaddset(&raw mut set, number);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signal(libc::SIGTTIN, libc::SIG_IGN);
            set
        };
        Self(set)
    }

    /// Waits for the next of the signals.
    pub fn wait(&self) -> Signal {
        loop {
            let mut number = 0;
            // SAFETY: both pointers are to live values of the right types; sigwait(3) needs no more.
            let result = unsafe { libc::sigwait(&raw const self.0, &raw mut number) };
            let known = SIGNALS.iter().find(|(known, _, _)| *known == number);
            if let (0, Some((_, signal, _))) = (result, known) {
                return *signal;
            }
        }
    }
}

/// Arranges that the child inherits `keep`, is out of reach of the terminal's Ctrl-C (ebb decides when
/// it ends), and is killed should ebb die in whatever way. Must be spawned from a thread that lives as
/// long as ebb: the death signal follows the *thread* that spawned (prctl(2)).
pub fn tie(command: &mut Command, keep: Vec<OwnedFd>) {
    let parent = std::process::id();
    let prepare = move || {
        for fd in &keep {
            // SAFETY: the descriptor is open, because `keep` owns it; F_SETFD changes only its flags.
            check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) })?;
        }
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // ebb may have died before the line above; then nothing would ever end the child.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it
    // makes fcntl, prctl and getppid calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Columns of the terminal, if it is one and knows.
pub fn terminal_width(terminal: impl AsFd) -> Option<usize> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ writes one winsize, for which there is room; the descriptor is open while borrowed.
    // A zeroed winsize is a valid value should the call fail.
    let (result, size) = unsafe {
        let result = libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr());
        (result, size.assume_init())
    };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
