//! Instructions, counted by QEMU one by one: the plugin (`tests/linux/count.c`), and what it writes.
//!
//! The counter of the guest's time stamps does as much with `-icount` for what never waits. Where a disk is involved,
//! and for a kernel that sleeps while it starts, only this counts instructions and not time. Neighbour: `guest`, whose
//! machines are counted.

use std::fs;
use std::io::Write as _;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use ::tests::harness::Artifacts;
use ::tests::source;
use elf::{ElfBytes, abi::PT_NOTE, endian::LittleEndian, note::Note};

/// The note that holds the address at which a kernel is entered (`XEN_ELFNOTE_PHYS32_ENTRY`;
/// include/xen/interface/elfnote.h in Linux).
const ENTRY: u64 = 18;

/// How many instructions there have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// In the lower half of the address space: a program's.
    pub lower: u64,
    /// In the upper half: the kernel's.
    pub upper: u64,
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { lower: self.lower - before.lower, upper: self.upper - before.upper }
    }
}

/// What the plugin wrote: names of places, and the count at each.
#[derive(Clone, Debug, Default)]
pub struct Counts(String);

impl Counts {
    /// Empty if nothing was counted.
    pub fn read(path: &Path) -> Self {
        Self(fs::read_to_string(path).unwrap_or_default())
    }

    /// From one place to another, each reached for the last time.
    pub fn between(&self, from: &str, to: &str) -> Count {
        self.at(to) - self.at(from)
    }

    fn at(&self, place: &str) -> Count {
        let line = self.0.lines().rfind(|line| line.split(' ').next() == Some(place));
        let line = line.unwrap_or_else(|| panic!("{place} was not reached:\n{}", self.0));
        let mut numbers = line.split(' ').skip(1).map(|number| number.parse().expect("a number"));
        let mut number = || numbers.next().expect("two numbers");
        Count { lower: number(), upper: number() }
    }
}

/// What `-plugin` is given.
pub fn option(kernel: &Path, out: &Path) -> String {
    format!("{},out={},entry={:#x}", plugin().display(), out.display(), entry(kernel))
}

/// Why this QEMU cannot count, if it cannot: it is older than the plugin's interface, or was built without plugins. It
/// is tried on a machine without anything.
pub fn unavailable() -> Option<String> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args("-accel tcg -machine none -nodefaults -display none -monitor stdio".split(' '));
    qemu.arg("-plugin").arg(format!("{},out=/dev/null,entry=0x0", plugin().display()));
    qemu.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut machine = qemu.spawn().unwrap_or_else(|error| panic!("{qemu:?}: {error}"));
    // One that ends at once does not read this.
    let _ = machine.stdin.take().expect("a pipe").write_all(b"quit\n");
    let output = machine.wait_with_output().expect("QEMU ends");
    let said = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| said.trim().replace(&format!("{}", plugin().display()), "tests/linux/count.c"))
}

/// Built once.
fn plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = Artifacts::release().workloads.join("bench-count.so");
        let flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-o"];
        let mut gcc = Command::new("gcc");
        gcc.args(flags).arg(&path).arg(source::root().join("tests/linux/count.c"));
        let status = gcc.status().unwrap_or_else(|error| panic!("gcc: {error}"));
        assert!(status.success(), "{gcc:?}: {status}");
        path
    })
}

/// Where the kernel's first instruction is.
fn entry(kernel: &Path) -> u32 {
    let data = fs::read(kernel).unwrap_or_else(|error| panic!("{}: {error}", kernel.display()));
    let file = ElfBytes::<LittleEndian>::minimal_parse(&data).expect("a kernel is an ELF file");
    let segments = file.segments().expect("a kernel has segments");
    let notes = segments.iter().filter(|segment| segment.p_type == PT_NOTE);
    let mut notes = notes.flat_map(|segment| file.segment_data_as_notes(&segment).expect("a segment of notes"));
    let entry = notes.find_map(|note| match note {
        Note::Unknown(note) if note.n_type == ENTRY && note.name_str().ok() == Some("Xen") => note.desc.first_chunk(),
        _ => None,
    });
    u32::from_le_bytes(*entry.unwrap_or_else(|| panic!("{} says where it is entered", kernel.display())))
}

#[cfg(test)]
mod tests {
    use super::{Count, Counts};

    #[test]
    fn what_is_between_two_places_is_counted_by_half() {
        let counts = Counts("entry 100 0\nuser 150 4000\nmark-22 160 5000\nmark-23 1160 9000\n".to_owned());
        assert_eq!(counts.between("entry", "user"), Count { lower: 50, upper: 4000 });
        assert_eq!(counts.between("mark-22", "mark-23"), Count { lower: 1000, upper: 4000 });
    }
}
