//! QEMU: which one, the machine it is told to make, and the process.
//!
//! Owns: QEMU's command line ([`Machine::arguments`]), its version, the process and its three sockets
//! ([`process`]), and the control protocol ([`qmp`]). Does not own what flows over the sockets.

pub mod process;
pub mod qmp;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ending::Ending;
use crate::size::Bytes;

/// The oldest QEMU the project is meant for (Debian 12's).
const OLDEST: Version = Version { major: 7, minor: 2 };
/// The processor all figures are taken with: five-level paging off, and the string operations that
/// TCG emulates byte by byte not advertised, so that libraries do not choose them.
const CPU: &str = "max,la57=off,erms=off,fsrm=off";

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// QEMU's translator.
    Tcg,
    /// The processor itself.
    Kvm,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        })
    }
}

/// What QEMU may do with writes to an image before they are on the host's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Flushes are not passed on: for images that nobody needs after the run.
    Unsafe,
    /// Flushes reach the host's disk: for images that belong to somebody.
    Writeback,
}

/// A raw image as a virtio disk.
#[derive(Clone, Copy, Debug)]
pub struct Drive<'a> {
    /// Its name in QEMU's statistics.
    pub id: &'static str,
    /// The image.
    pub path: &'a Path,
    /// How carefully it is written.
    pub cache: Cache,
}

/// Everything about the machine that differs between runs.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// TCG or KVM.
    pub accel: Accel,
    /// How much RAM.
    pub ram: Bytes,
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The first program's ELF file, passed as the boot module. `None`: it is on the data disk.
    pub program: Option<&'a Path>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The disk that the kernel takes for swap, by its header.
    pub swap: Option<Drive<'a>>,
    /// The disk that the kernel takes for the data disk, by its superblock.
    pub data: Option<Drive<'a>>,
}

/// QEMU's ends of the sockets, as numbers that it inherits.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// COM1: the program's bytes.
    pub console: RawFd,
    /// COM2: records and the kernel's log.
    pub telemetry: RawFd,
    /// QMP.
    pub control: RawFd,
}

impl Machine<'_> {
    /// QEMU's arguments.
    ///
    /// A guest that ends pauses QEMU instead (`-action`), so that its disk counters can still be read;
    /// `quit` then ends it with the guest's debug-exit status, as if it had not paused.
    pub fn arguments(&self, sockets: Sockets) -> Vec<OsString> {
        let mut list = Vec::<OsString>::new();
        let mut add = |words: &[&str]| list.extend(words.iter().map(OsString::from));
        add(&["-accel", &self.accel.to_string(), "-machine", "q35", "-cpu", CPU, "-smp", "1"]);
        add(&["-m", &format!("{}K", self.ram.0 >> 10)]);
        add(&["-nodefaults", "-no-user-config", "-display", "none"]);
        add(&["-action", "reboot=shutdown,shutdown=pause"]);
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        for (id, fd) in [("com1", sockets.console), ("com2", sockets.telemetry)] {
            add(&["-chardev", &format!("socket,id={id},fd={fd}"), "-serial", &format!("chardev:{id}")]);
        }
        add(&["-chardev", &format!("socket,id=qmp,fd={}", sockets.control), "-mon", "chardev=qmp,mode=control"]);
        for drive in [self.swap, self.data].iter().flatten() {
            list.extend(drive_arguments(drive));
        }
        let program = self.program.map(|program| ("-initrd", program.as_os_str()));
        let options =
            [Some(("-kernel", self.kernel.as_os_str())), program, Some(("-append", OsStr::new(self.cmdline)))];
        for (option, value) in options.into_iter().flatten() {
            list.extend([OsString::from(option), value.to_owned()]);
        }
        list
    }
}

/// An I/O error is the guest's to deal with: QEMU's default would stop the machine on ENOSPC for ever.
fn drive_arguments(drive: &Drive<'_>) -> [OsString; 4] {
    let cache = match drive.cache {
        Cache::Unsafe => "unsafe",
        Cache::Writeback => "writeback",
    };
    let id = drive.id;
    let mut option =
        format!("if=none,id={id},format=raw,cache={cache},aio=threads,discard=unmap,werror=report,rerror=report,file=")
            .into_bytes();
    for &byte in drive.path.as_os_str().as_bytes() {
        // QEMU's option syntax: a comma is doubled.
        option.extend(std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    }
    [
        "-drive".into(),
        OsString::from_vec(option),
        "-device".into(),
        format!("virtio-blk-pci,drive={id},id={id}-disk").into(),
    ]
}

/// A QEMU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// The program.
    pub binary: OsString,
    /// As it says itself, such as `10.0.2`.
    pub version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

impl Emulator {
    /// `EBB_QEMU`, or the one on the PATH.
    ///
    /// # Errors
    /// When there is none, or it is too old.
    pub fn find() -> Result<Self, Ending> {
        let binary = std::env::var_os("EBB_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
        let shown = binary.display();
        let output = Command::new(&binary).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| {
            Ending::qemu_failed(format!("cannot start {shown}: {error}; run ./setup.sh, which installs QEMU"))
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some((version, name)) = parse_version(&text) else {
            return Err(Ending::qemu_failed(format!(
                "{shown} does not say which version it is: run ./setup.sh, which installs QEMU"
            )));
        };
        if version < OLDEST {
            let Version { major, minor } = OLDEST;
            return Err(Ending::qemu_failed(format!(
                "QEMU {name} is too old, {major}.{minor} is the oldest that works: run ./setup.sh, which installs one"
            )));
        }
        Ok(Self { version: name.to_owned(), binary })
    }
}

/// Finds the version in `QEMU emulator version 10.0.2 (Debian …)`.
fn parse_version(text: &str) -> Option<(Version, &str)> {
    let (_, rest) = text.split_once("version ")?;
    let name = rest.split_whitespace().next()?;
    let mut numbers = name.split('.').map(|word| word.parse().ok());
    Some((Version { major: numbers.next()??, minor: numbers.next()?? }, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine<'_>) -> String {
        let list = machine.arguments(Sockets { console: 3, telemetry: 4, control: 5 });
        list.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_machine_is_the_one_the_figures_are_taken_with() {
        let swap = Drive { id: "swap", path: Path::new("/a,b/swap.img"), cache: Cache::Unsafe };
        let machine = Machine {
            accel: Accel::Tcg,
            ram: Bytes::mib(64),
            kernel: Path::new("kernel"),
            program: Some(Path::new("hello")),
            cmdline: "exit=debug -- hello",
            swap: Some(swap),
            data: None,
        };
        let line = line(&machine);
        for part in [
            "-accel tcg -machine q35 -cpu max,la57=off,erms=off,fsrm=off -smp 1 -m 65536K",
            "fd=3",
            "file=/a,,b/swap.img",
            "cache=unsafe",
            "werror=report",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(line.ends_with("-kernel kernel -initrd hello -append exit=debug -- hello"), "{line}");
    }

    #[test]
    fn versions_are_understood_and_compared() {
        let version = |text| parse_version(text).map(|(version, name)| (version.major, version.minor, name.to_owned()));
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\nCopyright"),
            Some((10, 0, "10.0.2".into()))
        );
        assert_eq!(version("QEMU emulator version 7.2.50"), Some((7, 2, "7.2.50".into())));
        assert_eq!(version("something else"), None);
        assert!(Version { major: 6, minor: 9 } < OLDEST && Version { major: 10, minor: 0 } > OLDEST);
    }
}
