//! The QEMU process and ebb's ends of its sockets.
//!
//! Owns: starting it with three socket pairs (no ports, no paths, nothing for another user to reach),
//! and that it is gone when the value is. Does not own when it should end (`session`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use super::{Emulator, Machine, Sockets};
use crate::os;

/// A running QEMU.
pub struct Qemu {
    child: Child,
    /// COM1.
    pub console: UnixStream,
    /// COM2.
    pub telemetry: UnixStream,
    /// QMP.
    pub control: UnixStream,
    /// When it was started.
    pub started: Instant,
}

impl Qemu {
    /// Starts QEMU; what it prints goes to the file `messages`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(emulator: &Emulator, machine: &Machine<'_>, messages: &Path) -> io::Result<Self> {
        let (console, console_theirs) = UnixStream::pair()?;
        let (telemetry, telemetry_theirs) = UnixStream::pair()?;
        let (control, control_theirs) = UnixStream::pair()?;
        let sockets = Sockets {
            console: console_theirs.as_raw_fd(),
            telemetry: telemetry_theirs.as_raw_fd(),
            control: control_theirs.as_raw_fd(),
        };
        let theirs = [console_theirs, telemetry_theirs, control_theirs].map(OwnedFd::from);
        let output = File::create(messages)?;
        let mut command = Command::new(&emulator.binary);
        command.args(machine.arguments(sockets)).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        os::tie(&mut command, theirs.into());
        let started = Instant::now();
        let child = command.spawn()?;
        // The command owns QEMU's ends: without this, ebb would never see them close.
        drop(command);
        Ok(Self { child, console, telemetry, control, started })
    }

    /// Its status, once it has ended.
    ///
    /// # Errors
    /// As `waitpid` has them.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it at once and returns its status.
    ///
    /// # Errors
    /// As `waitpid` has them.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        // It may have ended by itself a moment ago, which is as good.
        let _ = self.child.kill();
        self.child.wait()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
