//! On the machine: a shell and the tools that scripts use, on the data disk, in less RAM than they need.
//!
//! The scripts are `programs/busybox`; busybox is Debian's, with its own programs and no others. What they print must be what they
//! print on the host, but for `system.sh`, which shows the machine itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::harness::disk::DataDisk;
use tests::harness::{Run, reduced_or_full};
use tests::programs::{Package, Program};

/// Runs the others.
const RUNNER: &str = "all.sh";
/// Shows the machine.
const SYSTEM: &str = "system.sh";
/// RAM of the machine, and what a program may see of it at most.
const RAM_MIB: u64 = 24;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/busybox")
}

/// Those whose output is the same everywhere, in order.
fn portable() -> Vec<String> {
    let entries = fs::read_dir(scripts()).expect("the scripts").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().expect("a name in UTF-8")).collect();
    names.retain(|name| ![RUNNER, SYSTEM].contains(&name.as_str()));
    names.sort_unstable();
    names
}

/// Lets the scripts work in `work`, which must be there.
fn command(directory: &str, work: &str, names: &[String]) -> String {
    let rows = reduced_or_full(45_000, 150_000);
    format!("cd {directory} && ROWS={rows} exec sh {RUNNER} {work} {}", names.join(" "))
}

/// What they say on the host.
fn on_the_host(busybox: &Path, names: &[String]) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let script = command(&scripts().display().to_string(), &work.path().display().to_string(), names);
    let mut shell = Command::new(busybox);
    shell.args(["sh", "-c", &script]).env_clear().env("LANG", "C").stdin(Stdio::null());
    let output = shell.output().expect("busybox on the host");
    assert!(output.status.success(), "busybox on the host: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// A disk with the shell, the scripts and a place to work; and room there.
fn disk(busybox: &Path) -> DataDisk {
    DataDisk::new(|root| {
        for name in ["bin", "etc", "scripts", "work"] {
            fs::create_dir(root.join(name)).expect("a directory");
        }
        fs::copy(busybox, root.join("bin/busybox")).expect("a program");
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("the one user");
        for entry in fs::read_dir(scripts()).expect("the scripts") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), root.join("scripts").join(entry.file_name())).expect("a script");
        }
        let room = fs::File::create(root.join("room")).expect("a file");
        room.set_len(reduced_or_full(64 << 20, 192 << 20)).expect("holes, as large as the disk is to be");
    })
}

/// The part of `system.sh` between one mark and the next.
fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, after) = text.split_once(&format!("-- {name}\n")).unwrap_or_else(|| panic!("no part {name}:\n{text}"));
    after.split("\n-- ").next().expect("a split has a first part")
}

/// What the machine says of itself fits its RAM, its swap, and the two processes that there are.
fn check_system(text: &str) {
    let total: u64 = {
        let line = part(text, "free").lines().find(|line| line.starts_with("Mem:")).expect("a line of free");
        line.split_ascii_whitespace().nth(1).expect("a total").parse().expect("a number")
    };
    assert!((RAM_MIB << 9..=RAM_MIB << 10).contains(&total), "{total} KiB\n{text}");
    assert!(part(text, "meminfo").lines().any(|line| line == format!("MemTotal:       {total:8} kB")), "{text}");
    let processes: Vec<Vec<&str>> = part(text, "ps").lines().map(|line| line.split_whitespace().collect()).collect();
    let named = |name: &str| processes.iter().find(|columns| columns.last() == Some(&name));
    let sleeper = processes.iter().find(|columns| columns.ends_with(&["sleep", "600"])).expect("a process that sleeps");
    let shell = named("/scripts/system.sh").expect("the shell");
    assert_eq!((sleeper[1], sleeper[3]), (shell[0], "S"), "its parent and its state\n{text}");
    assert!(part(text, "top").contains("sleep 600"), "{text}");
    assert!(part(text, "uptime").contains("load average"), "{text}");
    assert_eq!(part(text, "ids").trim(), sleeper[0], "{text}");
    assert_eq!(part(text, "began").trim(), "since boot", "{text}");
    let links: Vec<&str> =
        part(text, "fd").lines().filter_map(|line| line.split_once(" -> ")).map(|link| link.1).collect();
    assert!(links.len() >= 3 && links.iter().any(|link| link.starts_with("pipe:[")), "{text}");
    assert!(part(text, "mounts").contains(" on / type ext4 "), "{text}");
}

#[test]
fn scripts_of_a_shell_say_on_the_machine_what_they_say_on_the_host() {
    let busybox = Program::Debian(Package::Busybox).build().unwrap_or_else(|error| panic!("busybox: {error}"));
    let (mut names, disk) = (portable(), disk(&busybox));
    let expected = on_the_host(&busybox, &names);
    names.push(SYSTEM.to_owned());
    let script = command("/scripts", "/work", &names);
    let run = Run::new(["disk:/bin/busybox", "sh", "-c", &script]).option("--disk", disk.image());
    let run = run.options(&format!("--ram {RAM_MIB}M")).finish().expect_ok();
    disk.expect_clean();
    let text = run.text();
    let (same, system) = text.split_once(&format!("== {SYSTEM}\n")).unwrap_or_else(|| panic!("{run}"));
    if let Some((here, there)) = same.lines().zip(expected.lines()).find(|(here, there)| here != there) {
        panic!("{here:?} where the host says {there:?}\n{run}");
    }
    assert_eq!(same.len(), expected.len(), "{run}");
    check_system(system);
    assert!(run.count("vmstat/pswpout") > 0, "all fitted into the RAM\n{run}");
    // Its copies of files ask for sendfile(2) first, and do without.
    let unknown: Vec<u64> = run.report["syscalls_unknown"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|call| call["number"].as_u64())
        .collect();
    assert!(unknown.iter().all(|number| *number == 40), "{unknown:?}\n{run}");
}
