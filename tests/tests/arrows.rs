//! The rules about the source that no compiler checks: who depends on whom, where unsafe code may be, how files look.
//!
//! Owns: the list of arrows (docs/architecture.md draws them) and of places with unsafe code. Neighbour: clippy, which
//! demands a SAFETY note at every unsafe block and implementation.

use std::collections::BTreeSet;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use tests::source::{self, code_only, has_word};

/// The only edges between crates of the workspace; `tests` may use all.
const ARROWS: [(&str, &str); 5] =
    [("kernel", "mm"), ("kernel", "drivers"), ("kernel", "executor"), ("kernel", "disk-image"), ("ebb", "disk-image")];

/// Where unsafe code may be: files, and directories that end with a slash. Everything that can be done without it is
/// elsewhere: all of `mm`, `disk-image` and `executor`, system calls, processes, user threads, the file system.
const UNSAFE_PLACES: [&str; 22] = [
    "kernel/src/arch/",
    "kernel/src/boot/",
    "kernel/src/acpi.rs",
    "kernel/src/address_space.rs",
    "kernel/src/console.rs",
    "kernel/src/devices.rs",
    "kernel/src/frames.rs",
    "kernel/src/heap.rs",
    "kernel/src/machine.rs",
    "kernel/src/phys.rs",
    "kernel/src/selftest/",
    "kernel/src/session.rs",
    "kernel/src/storage.rs",
    "kernel/src/sync.rs",
    "kernel/src/telemetry.rs",
    "kernel/src/time.rs",
    "drivers/src/",
    "ebb/src/os.rs",
    "ebb/tests/double/fake_qemu.rs",
    "tests/src/counting.rs",
    "tests/tests/mm_no_allocation.rs",
    "workloads/src/",
];

/// The longest file that is tolerated.
const MOST_LINES: usize = 700;

/// Hosts that may be named: specifications and documentation, never somebody's mirror.
const HOSTS: [&str; 10] = [
    "docs.oasis-open.org",
    "docs.rs",
    "doc.rust-lang.org",
    "github.com",
    "man7.org",
    "refspecs.linuxfoundation.org",
    "uefi.org",
    "wiki.osdev.org",
    "www.kernel.org",
    "www.qemu.org",
];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(source::root().join("Cargo.toml")).no_deps().other_options(["--offline".to_owned()]);
    command.exec().expect("cargo metadata")
}

fn dependencies<'a>(package: &'a Package, members: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
    package.dependencies.iter().map(|dependency| dependency.name.as_str()).filter(|name| members.contains(*name))
}

#[test]
fn no_crate_depends_on_another_but_along_the_arrows() {
    let metadata = metadata();
    let members: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    for name in ["ebb", "disk-image", "kernel", "mm", "drivers", "executor", "workloads", "tests"] {
        assert!(members.contains(name), "{name} is a member of the workspace");
    }
    let mut wrong = Vec::new();
    for package in metadata.packages.iter().filter(|package| package.name.as_str() != "tests") {
        let edges = dependencies(package, &members).map(|to| (package.name.as_str(), to));
        wrong.extend(edges.filter(|edge| !ARROWS.contains(edge)).map(|(from, to)| format!("{from} -> {to}")));
    }
    assert!(wrong.is_empty(), "edges that the design does not have: {wrong:?}");
}

#[test]
fn every_crate_has_the_workspace_s_lints() {
    for package in metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} takes the workspace's lints", package.name);
    }
    let workspace = std::fs::read_to_string(source::root().join("Cargo.toml")).expect("the workspace's manifest");
    for lint in ["unsafe_code", "unsafe_op_in_unsafe_fn", "undocumented_unsafe_blocks", "await_holding_lock"] {
        assert!(workspace.contains(&format!("{lint} = \"deny\"")), "{lint} is denied");
    }
}

/// Which frame is free, where an address space has room, and what page tables look like are three matters; only one place of the
/// memory manager brings them together.
#[test]
fn a1_frames_spaces_and_tables_do_not_know_each_other() {
    let files = source::rust_files();
    let code = |path: &str| {
        let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is there"));
        code_only(&file.text)
    };
    for (path, unknown) in [
        ("mm/src/frame/allocator.rs", &["space", "vma", "platform", "index", "fault", "home"][..]),
        ("mm/src/space/vma.rs", &["frame", "index", "fault", "Pfn", "PhysMemory"]),
        ("mm/src/range/mod.rs", &["frame", "space", "page", "platform"]),
        ("kernel/src/arch/x86_64/paging.rs", &["mm", "space", "frames"]),
    ] {
        let code = code(path);
        let is_path = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let knows = |word: &&&str| code.match_indices(&format!("{word}::")).any(|(at, _)| is_path(at));
        let known: Vec<_> = unknown.iter().filter(knows).collect();
        assert!(known.is_empty(), "{path} knows of {known:?}");
    }
    // The simulator stands for the machine, and the contract is the check of tables themselves.
    let is_check = |path: &str| path.contains("/sim/") || path == "mm/src/contract.rs";
    let maps = |file: &&source::Source| {
        file.path.starts_with("mm/src/") && !is_check(&file.path) && code_only(&file.text).contains("table.map(")
    };
    let places: Vec<_> = files.iter().filter(maps).map(|file| &file.path).collect();
    assert_eq!(places, ["mm/src/mapping.rs"], "one place makes a page of a space refer to a frame");
}

#[test]
fn mm_forbids_unsafe_code() {
    let root = std::fs::read_to_string(source::root().join("mm/src/lib.rs")).expect("mm's root");
    assert!(code_only(&root).contains("#![forbid(unsafe_code)]"), "mm/src/lib.rs forbids unsafe code");
}

#[test]
fn unsafe_code_is_only_where_it_may_be() {
    let is_listed = |path: &str| {
        UNSAFE_PLACES.iter().any(|place| if place.ends_with('/') { path.starts_with(place) } else { path == *place })
    };
    let mut wrong = Vec::new();
    for file in source::rust_files() {
        let code = code_only(&file.text);
        if has_word(&code, "unsafe") && !is_listed(&file.path) {
            wrong.push(format!("{}: unsafe code outside the listed places", file.path));
        }
        // `expect` fails once there is nothing to expect; `allow` would stay for ever.
        if code.contains("allow(unsafe_code") {
            wrong.push(format!("{}: allow(unsafe_code) instead of expect with a reason", file.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_owns_and_is_not_too_long() {
    let mut wrong = Vec::new();
    for file in source::rust_files() {
        if !file.text.starts_with("//!") {
            wrong.push(format!("{}: does not open with //!", file.path));
        }
        let lines = file.text.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!("{}: {lines} lines, at most {MOST_LINES}", file.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_names_a_machine_s_paths_or_a_mirror() {
    // Put together here, so that this file does not hold what it looks for.
    let homes = ["work", "root", "home"].map(|directory| format!("/{directory}/"));
    let mut wrong = Vec::new();
    for file in source::files() {
        for (number, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, number + 1);
            wrong.extend(homes.iter().filter(|home| names_path(line, home)).map(|home| format!("{place}: {home}")));
            for (at, _) in line.match_indices("://") {
                let host =
                    line[at + 3..].split(|c: char| !c.is_alphanumeric() && !"-.".contains(c)).next().unwrap_or("");
                let plain = host.contains('.') && !HOSTS.contains(&host);
                wrong.extend(plain.then(|| format!("{place}: {host}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether an absolute path begins so: what stands before it is no part of a longer path.
fn names_path(line: &str, start: &str) -> bool {
    line.match_indices(start)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-})*".contains(c)))
}
