//! What a run will be, with everything checked that can be checked before anything boots.
//!
//! Owns: the order of the checks, RAM's lower bounds, and the kernel's options. Does not own the
//! checks themselves (`program_check`, `swap_image`, `data_image`, `cmdline`, `qemu`).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cargo::SourceTree;
use crate::cli::{AccelChoice, RunArguments};
use crate::cmdline;
use crate::data_image::{Data, OnDisk};
use crate::ending::Ending;
use crate::program::Named;
use crate::program_check::{self, ProgramFile};
use crate::qemu::Emulator;
use crate::size::Bytes;
use crate::swap_image::Swap;

/// The least RAM that is worth starting QEMU for: the kernel's image, its frame table and heap, and the
/// dozen frames without which no program makes progress.
const LEAST_RAM: Bytes = Bytes::mib(6);
/// What must be left beside the program's file, which is in RAM as a boot module while it starts.
const LEAST_BESIDE_PROGRAM: Bytes = Bytes::mib(4);
/// QEMU rounds RAM up to this; a size it would round is refused, so that figures mean what they say.
const RAM_STEP: u64 = 8192;
/// What ebb needs of the kernel, before the user's own options.
const OPTIONS: [&str; 3] = ["exit=debug", "telemetry=com2", "stdin=com1"];

/// What was asked for, as far as it could be understood; reported even if the rest was wrong.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// RAM.
    pub ram: Option<Bytes>,
    /// Swap, its header included.
    pub swap: Option<Bytes>,
}

/// A run that can be started.
#[derive(Debug)]
pub struct Plan {
    /// RAM of the machine.
    pub ram: Bytes,
    /// Its swap area.
    pub swap: Swap,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// Its data disk.
    pub data: Data,
    /// The program's file; none if the program is on the data disk.
    pub program: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    /// What was asked about KVM.
    pub accel: AccelChoice,
    /// How long it may take.
    pub limit: Duration,
    /// Which QEMU.
    pub emulator: Emulator,
}

/// Checks everything, cheap checks first and builds last; fills in `request` on the way.
///
/// # Errors
/// The first thing that is wrong, as one sentence.
pub fn make(arguments: &RunArguments, tree: Option<&SourceTree>, request: &mut Request) -> Result<Plan, Ending> {
    request.argv = arguments.argv();
    let ram = parse_ram(&arguments.ram)?;
    request.ram = Some(ram);
    let swap = Swap::parse(&arguments.swap).map_err(Ending::bad_input)?;
    request.swap = Some(swap.bytes());
    let data = Data::parse(arguments.disk.as_deref()).map_err(Ending::bad_input)?;
    let on_disk = OnDisk::parse(&request.argv[0], &data).map_err(Ending::bad_input)?;
    let mut options: Vec<_> = OPTIONS.iter().map(OsString::from).chain(arguments.append.iter().cloned()).collect();
    let mut argv = request.argv.clone();
    if let Some(OnDisk(path)) = &on_disk {
        options.push([OsStr::new("init="), path.as_os_str()].into_iter().collect());
        argv[0] = path.into();
    }
    let cmdline = cmdline::join(&options, &argv).map_err(Ending::bad_input)?;
    let program = match &on_disk {
        Some(on_disk) => {
            data.host_file(on_disk).map(|file| checked(&file)).transpose()?;
            None
        }
        None => {
            let program = Named::new(&request.argv[0]).locate(tree)?;
            check_fit(ram, checked(&program)?)?;
            Some(program)
        }
    };
    let emulator = Emulator::find()?;
    let kernel = find_kernel(arguments.kernel.as_deref(), tree)?;
    let limit = Duration::from_secs(arguments.timeout);
    Ok(Plan { ram, swap, data, kernel, program, cmdline, accel: arguments.accel, limit, emulator })
}

fn parse_ram(word: &OsStr) -> Result<Bytes, Ending> {
    let shown = word.to_string_lossy();
    let ram: Bytes = shown.parse().map_err(|error| Ending::bad_input(format!("--ram {shown} {error}")))?;
    if ram < LEAST_RAM {
        return Err(Ending::bad_input(format!("--ram {ram} is too small to boot: the least is {LEAST_RAM}")));
    }
    if !ram.0.is_multiple_of(RAM_STEP) {
        return Err(Ending::bad_input(format!("--ram {shown} is not a multiple of {}: round it", Bytes(RAM_STEP))));
    }
    Ok(ram)
}

fn checked(program: &Path) -> Result<ProgramFile, Ending> {
    program_check::check(program).map_err(|error| Ending::bad_input(format!("{} {error}", program.display())))
}

fn check_fit(ram: Bytes, program: ProgramFile) -> Result<(), Ending> {
    let least = program.len.0.saturating_add(LEAST_BESIDE_PROGRAM.0);
    if ram.0 >= least {
        return Ok(());
    }
    let least = Bytes(least.next_multiple_of(1 << 20));
    Err(Ending::bad_input(format!(
        "--ram {ram} is too small for this program: its file alone is {}, so give at least {least} (or strip the file)",
        program.len
    )))
}

fn find_kernel(given: Option<&Path>, tree: Option<&SourceTree>) -> Result<PathBuf, Ending> {
    if let Some(path) = given {
        if !path.is_file() {
            return Err(Ending::bad_input(format!("--kernel {} is not a file", path.display())));
        }
        return Ok(path.to_owned());
    }
    let missing = || {
        Ending::bad_input(
            "Ebb's source tree is not here to build the kernel: set EBB_ROOT to it, or give --kernel FILE",
        )
    };
    tree.ok_or_else(missing)?.build_kernel()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(word: &str) -> Result<Bytes, String> {
        parse_ram(OsStr::new(word)).map_err(|ending| ending.message)
    }

    #[test]
    fn ram_must_be_enough_and_even() {
        assert_eq!(ram("64M"), Ok(Bytes::mib(64)));
        assert_eq!(ram("6M"), Ok(LEAST_RAM));
        assert!(ram("1M").unwrap_err().contains("too small to boot: the least is 6 MiB"));
        assert!(ram("64000001").unwrap_err().contains("multiple of 8 KiB"));
        assert!(ram("lots").unwrap_err().contains("--ram lots is not a size"));
    }

    #[test]
    fn the_program_must_fit_beside_the_kernel() {
        let program = ProgramFile { len: Bytes::mib(20) };
        assert!(check_fit(Bytes::mib(24), program).is_ok());
        let message = check_fit(Bytes::mib(23), program).unwrap_err().message;
        assert!(message.contains("at least 24 MiB"), "{message}");
    }
}
