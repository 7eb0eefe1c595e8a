//! `linux-init [set=/PATH=VALUE]… [swap=DEVICE] run PROGRAM [ARGUMENT…]`: the first program of the Linux that `just bench` compares with.
//!
//! Mounts what there is to mount, obeys its arguments in order, runs a program to its end, says `EXIT status`, and powers the machine off.
#![expect(unsafe_code, reason = "system calls that the standard library has no words for")]

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::process::Command;
use std::{env, ptr};

fn main() {
    for (what, at) in [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"devtmpfs", c"/dev")] {
        fs::create_dir_all(at.to_str().expect("ASCII")).and_then(|()| mount(what, at)).expect("a kernel with these");
    }
    // The kernel found no console to give to this program: /dev was empty.
    let mut console = OpenOptions::new().read(true).write(true).open("/dev/console").expect("a console");
    let outcome = obey(&console);
    let said = match outcome {
        Ok(status) => writeln!(console, "EXIT {status}"),
        Err(error) => writeln!(console, "EXIT linux-init: {error}"),
    };
    // If nobody can be told, there is nothing to be done about it.
    drop(said);
    power_off();
}

fn obey(console: &File) -> io::Result<String> {
    let mut arguments = env::args().skip(1);
    for argument in arguments.by_ref() {
        match argument.split_once('=') {
            Some(("set", setting)) => {
                let (path, value) = setting.split_once('=').unwrap_or((setting, ""));
                fs::write(path, value).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
            }
            Some(("swap", device)) => swap_on(&CString::new(device)?)?,
            _ if argument == "run" => break,
            _ => return Err(io::Error::other(format!("{argument} is not understood"))),
        }
    }
    let program = arguments.next().ok_or_else(|| io::Error::other("nothing to run"))?;
    let (stdin, stdout, stderr) = (console.try_clone()?, console.try_clone()?, console.try_clone()?);
    let status = Command::new(program).args(arguments).stdin(stdin).stdout(stdout).stderr(stderr).status()?;
    Ok(status.to_string())
}

fn mount(what: &CStr, at: &CStr) -> io::Result<()> {
    // SAFETY: the strings end in a zero byte and live until the call returns; there is no data.
    succeeded(unsafe { libc::mount(what.as_ptr(), at.as_ptr(), what.as_ptr(), 0, ptr::null()) })
}

fn swap_on(device: &CStr) -> io::Result<()> {
    // SAFETY: the string ends in a zero byte and lives until the call returns.
    succeeded(unsafe { libc::swapon(device.as_ptr(), 0) })
}

fn power_off() {
    // SAFETY: the call touches no memory of ours; it does not return.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
