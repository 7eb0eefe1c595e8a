//! A machine without `ebb`: one serial port, no debug-exit device, no options but the program's arguments.
//!
//! That is how another tool drives the kernel, and where a boot disk of any kind can be given to it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::artifacts::Artifacts;
use super::slots::Slot;

/// `timeout(1)` ends a machine that does not end by itself, and says so with this status.
const LIMIT_S: &str = "120";

/// What came out of it.
#[derive(Debug)]
pub struct Output {
    /// QEMU's status.
    pub status: i32,
    /// What came over the serial port.
    pub console: String,
    /// What QEMU said.
    pub messages: String,
}

/// Boots with the kernel's command line `line`; `program` becomes the boot module, `disk` the only disk.
pub fn run(ram: &str, program: Option<&Path>, line: &str, disk: Option<&Path>) -> Output {
    let _slot = Slot::take();
    let artifacts = Artifacts::checked();
    let mut command = Command::new("timeout");
    command.args(["-k", "5", LIMIT_S, "qemu-system-x86_64", "-accel", "tcg", "-machine", "q35"]);
    command.args(["-cpu", "max,la57=off,erms=off,fsrm=off", "-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-m", ram, "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(&artifacts.kernel).args(["-append", line]);
    if let Some(program) = program {
        command.arg("-initrd").arg(program);
    }
    if let Some(disk) = disk {
        let mut drive = OsStr::new("if=none,id=d0,format=raw,file=").to_owned();
        drive.push(disk);
        command.arg("-drive").arg(drive).args(["-device", "virtio-blk-pci,drive=d0"]);
    }
    let output = command.stdin(Stdio::null()).output().expect("QEMU runs");
    Output {
        status: output.status.code().unwrap_or(-1),
        console: String::from_utf8_lossy(&output.stdout).into_owned(),
        messages: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
