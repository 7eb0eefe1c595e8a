//! A QEMU with some words more on its command line: what `ebb` starts instead of QEMU in a test.
//!
//! It becomes QEMU by exec, so process number, descriptors and status are QEMU's own. From the environment:
//! `QEMU_WITH_ARGUMENTS`, more arguments, one a line; `QEMU_WITH_SWAP_DRIVE`, more options for the swap disk's `-drive`;
//! `QEMU_WITH_SWAP_FAULTS`, a file that says what of the swap disk fails (QEMU's `blkdebug`); `QEMU_WITH_DATA_LOG`, a
//! file that gets a log of all writes to the data disk; `QEMU_WITH_PIDS`, a file to which the process number is added.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How `ebb` begins the swap disk's `-drive`.
const SWAP_DRIVE: &[u8] = b"if=none,id=swap,";

/// How `ebb` begins the data disk's `-drive`.
const DATA_DRIVE: &[u8] = b"if=none,id=data,";
/// What stands before the image's name, which comes last.
const FILE: &[u8] = b",file=";

fn main() {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if !arguments.iter().any(|word| word == "--version") {
        write_pid();
        widen_swap_drive(&mut arguments);
        break_swap_drive(&mut arguments);
        log_data_drive(&mut arguments);
        let more = env::var_os("QEMU_WITH_ARGUMENTS").unwrap_or_default();
        let words = more.as_bytes().split(|byte| *byte == b'\n').filter(|word| !word.is_empty());
        arguments.extend(words.map(|word| OsStr::from_bytes(word).to_owned()));
    }
    let error = Command::new("qemu-system-x86_64").args(arguments).exec();
    eprintln!("qemu-with: qemu-system-x86_64: {error}");
    std::process::exit(127);
}

fn write_pid() {
    let Some(path) = env::var_os("QEMU_WITH_PIDS") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file for process numbers");
    writeln!(file, "{}", std::process::id()).expect("the file for process numbers");
}

fn widen_swap_drive(arguments: &mut [OsString]) {
    let more = env::var_os("QEMU_WITH_SWAP_DRIVE").unwrap_or_default();
    if more.is_empty() {
        return;
    }
    // In front of the file's name, which may hold anything.
    for argument in arguments.iter_mut().filter(|argument| argument.as_bytes().starts_with(SWAP_DRIVE)) {
        let rest = &argument.as_bytes()[SWAP_DRIVE.len()..];
        *argument = OsString::from_vec([SWAP_DRIVE, more.as_bytes(), b",", rest].concat());
    }
}

/// Puts QEMU's `blkdebug` over the swap disk's image.
fn break_swap_drive(arguments: &mut [OsString]) {
    let faults = env::var_os("QEMU_WITH_SWAP_FAULTS").unwrap_or_default();
    if faults.is_empty() {
        return;
    }
    for argument in arguments.iter_mut().filter(|argument| argument.as_bytes().starts_with(SWAP_DRIVE)) {
        let words = argument.as_bytes();
        let at = words.windows(FILE.len()).position(|part| part == FILE).expect("the image's name") + FILE.len();
        *argument = OsString::from_vec([&words[..at], b"blkdebug:", faults.as_bytes(), b":", &words[at..]].concat());
    }
}

/// Puts QEMU's `blklogwrites` over the data disk's image.
fn log_data_drive(arguments: &mut [OsString]) {
    let log = env::var_os("QEMU_WITH_DATA_LOG").unwrap_or_default();
    if log.is_empty() {
        return;
    }
    for argument in arguments.iter_mut().filter(|argument| argument.as_bytes().starts_with(DATA_DRIVE)) {
        let words = argument.as_bytes();
        let at = words.windows(FILE.len()).position(|part| part == FILE).expect("the image's name") + FILE.len();
        let over = b"driver=blklogwrites,log-super-update-interval=1,werror=report,rerror=report,file.driver=file,";
        let log = [b"log.driver=file,log.filename=", log.as_bytes(), b",file.filename="].concat();
        *argument = OsString::from_vec([DATA_DRIVE, over, &log, &words[at..]].concat());
    }
}
