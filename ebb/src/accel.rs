//! Whether QEMU may use KVM.
//!
//! Owns: the decision and its trial boot. A `/dev/kvm` that opens is no proof: on nested and
//! paravirtual hosts the guest then hangs in its first instructions. So KVM is used only if the
//! processor says that it virtualises *and* this very kernel boots on it within seconds.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::AccelChoice;
use crate::ending::Ending;
use crate::qemu::process::Qemu;
use crate::qemu::{Accel, Emulator, Machine};
use crate::telemetry::{Line, Record};

/// How long the trial boot may take; a working one takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Decides, trying `machine` (without its disks) if that is needed.
///
/// # Errors
/// When KVM was asked for and does not work.
pub fn decide(
    choice: AccelChoice,
    emulator: &Emulator,
    machine: &Machine<'_>,
    messages: &Path,
) -> Result<Accel, Ending> {
    if choice == AccelChoice::Tcg {
        return Ok(Accel::Tcg);
    }
    let usable = offered().and_then(|()| trial(emulator, machine, messages));
    match (usable, choice) {
        (Ok(()), _) => Ok(Accel::Kvm),
        (Err(_), AccelChoice::Auto) => Ok(Accel::Tcg),
        (Err(why), _) => {
            Err(Ending::bad_input(format!("KVM does not work here: {why}; use --accel tcg, or leave --accel out")))
        }
    }
}

/// Whether the processor has it and the device opens.
fn offered() -> Result<(), String> {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")) {
        return Err("the processor does not offer virtualisation (neither vmx nor svm in /proc/cpuinfo)".to_owned());
    }
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    open.map(drop).map_err(|error| format!("/dev/kvm cannot be opened: {error}"))
}

/// Boots the kernel and waits for its boot record; the program gets no further than that matters,
/// because the machine has no disks and nobody reads its output.
fn trial(emulator: &Emulator, machine: &Machine<'_>, messages: &Path) -> Result<(), String> {
    let machine = Machine { accel: Accel::Kvm, swap: None, data: None, ..*machine };
    let failed = |error| format!("QEMU could not be tried: {error}");
    let mut qemu = Qemu::spawn(emulator, &machine, messages).map_err(failed)?;
    let end = Instant::now() + PATIENCE;
    let hung = format!("a trial boot did not reach the program within {} s", PATIENCE.as_secs());
    let mut reader = BufReader::new(qemu.telemetry.try_clone().map_err(failed)?);
    let mut line = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(hung);
        }
        reader.get_ref().set_read_timeout(Some(left)).map_err(failed)?;
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => {
                return Err(format!("a trial boot ended ({})", qemu.kill().map_err(failed)?));
            }
            Ok(_) if is_boot(&line) => return Ok(()),
            Ok(_) => line.clear(),
            Err(_) => return Err(hung),
        }
    }
}

fn is_boot(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    matches!(Line::parse(text.trim_end()), Line::Record(record) if matches!(record, Record::Boot(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_record_ends_a_trial() {
        assert!(is_boot(b"@{\"type\":\"boot\",\"ram_bytes\":1}\r\n"));
        assert!(!is_boot(b"@{\"type\":\"panic\"}\n"));
        assert!(!is_boot(b"INFO boot\n"));
    }
}
