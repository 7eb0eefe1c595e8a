//! The Linux to compare with: where its kernel is, how it is set, and what it starts from.
//!
//! Owns its command line and its initramfs: the first program (`workloads/src/bin/linux-init.rs`) and the one to be
//! run. The kernel is made by tests/linux/build.sh (`just linux`); without one, all figures are Ebb's alone.

use std::fs;
use std::path::{Path, PathBuf};

use tests::harness::Artifacts;
use tests::source;

/// What is the same for all: nothing that costs what Ebb does not do. A word that the kernel does not know would go to
/// the first program.
const LINE: &str = "console=ttyS0 quiet nokaslr panic=-1 rdinit=/init edd=off tsc=reliable random.trust_cpu=on init_on_alloc=0 \
                    randomize_kstack_offset=off";

/// A way to set paging up.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is called here.
    pub name: &'static str,
    /// What `linux-init` is told.
    words: &'static str,
}

/// As it comes.
pub const DEFAULT: Setting = Setting { name: "default", words: "" };

/// Those among which each workload's best one is taken.
pub const SETTINGS: [&Setting; 4] = [
    &DEFAULT,
    &Setting { name: "two lists instead of generations", words: "set=/sys/kernel/mm/lru_gen/enabled=n" },
    &Setting { name: "page-cluster 5", words: "set=/proc/sys/vm/page-cluster=5" },
    &Setting {
        name: "zswap",
        words: "set=/sys/module/zswap/parameters/compressor=lz4 set=/sys/module/zswap/parameters/enabled=Y",
    },
];

/// A kernel.
#[derive(Debug)]
pub struct Linux {
    /// Its ELF file.
    pub kernel: PathBuf,
    /// As it says itself.
    pub version: String,
}

impl Linux {
    /// The one that was built here.
    pub fn find() -> Option<Self> {
        let directory = source::root().join("target/linux");
        let version = fs::read_to_string(directory.join("version")).ok()?.trim().to_owned();
        let kernel = directory.join("vmlinux");
        kernel.is_file().then_some(Self { kernel, version })
    }

    /// Written to `path`.
    pub fn initramfs(&self, path: &Path, program: &Path) -> PathBuf {
        let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = program.file_name().expect("a file").to_string_lossy();
        let mut archive = Vec::new();
        for directory in ["proc", "sys", "dev"] {
            add(&mut archive, directory, DIRECTORY, &[]);
        }
        add(&mut archive, "init", EXECUTABLE, &read(&Artifacts::release().workloads.join("linux-init")));
        add(&mut archive, &name, EXECUTABLE, &read(program));
        add(&mut archive, "TRAILER!!!", 0, &[]);
        fs::write(path, archive).expect("an initramfs");
        path.to_owned()
    }

    /// The kernel's command line, and behind `--` the first program's.
    pub fn command_line(&self, setting: &Setting, swap: bool, program: &str) -> String {
        let swap = if swap { "swap=/dev/vda" } else { "" };
        format!("{LINE} -- {} {swap} run {program}", setting.words)
    }
}

/// Modes of files (inode(7)).
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Adds a file as "newc" has it (Documentation/driver-api/early-userspace/buffer-format.rst): a head of thirteen
/// numbers, eight hexadecimal digits each, the name, the contents; each filled up to four bytes.
fn add(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let fill_up = |archive: &mut Vec<u8>| archive.resize(archive.len().next_multiple_of(4), 0);
    let (ino, links, length) = (archive.len() as u32 + 1, 1, contents.len() as u32);
    // ino mode uid gid nlink mtime filesize, the devices, namesize, check
    let head = [ino, mode, 0, 0, links, 0, length, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    head.iter().for_each(|number| archive.extend(format!("{number:08x}").bytes()));
    archive.extend(name.bytes());
    archive.push(0);
    fill_up(archive);
    archive.extend(contents);
    fill_up(archive);
}
