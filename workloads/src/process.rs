//! Processes: a fork whose child runs a closure, and waiting for it.
//!
//! Owns the two system calls. What parent and child say to each other goes through pipes, which are `std`'s.
#![expect(unsafe_code, reason = "fork and waitpid")]

use std::io::{self, Write};

/// A process to be waited for.
#[must_use]
pub struct Child(libc::pid_t);

/// Starts a process that runs `child` and exits with the status it returns.
///
/// # Safety
/// The calling process must have one thread only: a child of several may do next to nothing (fork(2)).
pub unsafe fn fork(child: impl FnOnce() -> u8) -> io::Result<Child> {
    // What is buffered would be written by both.
    io::stdout().flush()?;
    // SAFETY: one thread, by the caller's promise, so that no lock is held for ever in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => std::process::exit(i32::from(child())),
        pid => Ok(Child(pid)),
    }
}

impl Child {
    /// Waits for its end; the wait status, 0 when it ended well.
    pub fn wait(self) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: waitpid writes to `status` only.
        if unsafe { libc::waitpid(self.0, &raw mut status, 0) } == self.0 {
            Ok(status)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
