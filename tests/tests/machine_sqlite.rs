//! On the machine: a database on the data disk that is twice as large as the RAM.
//!
//! SQLite is Debian's source, built statically; the script is `programs/sqlite`, and the shell it needs is busybox. What both say
//! must be what they say on the host, and afterwards the host's SQLite looks at the databases that came out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::harness::disk::DataDisk;
use tests::harness::{Run, reduced_or_full};
use tests::programs::{Package, Program};

const SCRIPT: &str = "databases.sh";
/// Bytes of a row of the large database, about.
const ROW: u64 = 4096;

/// A program, and the RAM that it gets.
struct Sizes {
    ram_mib: u64,
    rows: u64,
}

fn sizes() -> Sizes {
    let ram_mib = reduced_or_full(12, 24);
    Sizes { ram_mib, rows: 2 * (ram_mib << 20) / ROW }
}

fn build(package: Package) -> PathBuf {
    Program::Debian(package).build().unwrap_or_else(|error| panic!("{}: {error}", package.name()))
}

fn command(script: &Path, work: &Path, sqlite: &Path, rows: u64) -> String {
    format!("ROWS={rows} SQLITE={} exec sh {} {}", sqlite.display(), script.display(), work.display())
}

fn output(program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).env_clear().stdin(Stdio::null()).output().expect("a program on the host");
    assert!(output.status.success(), "{arguments:?} on the host: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// A disk with the programs and room for the databases, their journals and logs.
fn disk(busybox: &Path, sqlite: &Path, script: &Path, rows: u64) -> DataDisk {
    DataDisk::new(|root| {
        fs::create_dir(root.join("work")).expect("a directory");
        for (from, to) in [(busybox, "busybox"), (sqlite, "sqlite3"), (script, SCRIPT)] {
            fs::copy(from, root.join(to)).expect("a file of the disk");
        }
        let room = fs::File::create(root.join("room")).expect("a file");
        room.set_len(3 * rows * ROW).expect("holes, as large as the disk is to be");
    })
}

#[test]
fn databases_larger_than_the_ram_are_whole_in_every_mode_and_with_several_processes() {
    let (busybox, sqlite) = (build(Package::Busybox), build(Package::Sqlite));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/sqlite").join(SCRIPT);
    let Sizes { ram_mib, rows } = sizes();
    let work = tempfile::tempdir().expect("a directory");
    let expected = output(&busybox, &["sh", "-c", &command(&script, work.path(), &sqlite, rows)]);

    let disk = disk(&busybox, &sqlite, &script, rows);
    let command = command(Path::new("/").join(SCRIPT).as_path(), Path::new("/work"), Path::new("/sqlite3"), rows);
    let run = Run::new(["disk:/busybox", "sh", "-c", &command]).option("--disk", disk.image());
    let run = run.options(&format!("--ram {ram_mib}M")).finish().expect_ok();
    disk.expect_clean();
    let text = run.text();
    if let Some((here, there)) = text.lines().zip(expected.lines()).find(|(here, there)| here != there) {
        panic!("{here:?} where the host says {there:?}\n{run}");
    }
    assert_eq!(text.len(), expected.len(), "{run}");

    let left = disk.read_back().join("work");
    let length = fs::metadata(left.join("base")).expect("the database").len();
    assert!(length >= (2 * ram_mib) << 20, "the database is as large as was meant: {length} bytes");
    for base in ["base", "shared"] {
        let path = left.join(base).display().to_string();
        let found = output(&sqlite, &[&path, "PRAGMA integrity_check; SELECT count(*) FROM sqlite_schema;"]);
        assert_eq!(found, if base == "base" { "ok\n2\n" } else { "ok\n1\n" }, "{base}, as the host sees it");
    }
}
