//! On the machine: program files are mapped, not loaded. What is read when, who shares it, and what becomes of it under pressure.

use std::fs;

use tests::harness::disk::DataDisk;
use tests::harness::{Finished, Run};
use tests::programs::{Flavour, Program};

/// Of `tests/programs/images.c`: its constants, and what eight of it share.
const PAGES: u64 = 4096;
const SHARED: u64 = 256;
const VARIABLES: u64 = 64;
const KIB: u64 = 4;

/// A disk with the program on it.
fn disk(flavour: Flavour) -> DataDisk {
    let images = Program::C("images", flavour).build().unwrap_or_else(|error| panic!("{error}"));
    DataDisk::new(|root| {
        fs::copy(&images, root.join("images")).expect("a program");
    })
}

fn run(disk: &DataDisk, mode: &str, options: &str) -> Finished {
    let run = Run::line(&format!("disk:/images {mode}")).option("--disk", disk.image()).options(options).finish();
    disk.expect_clean();
    run.expect_ok().expect_line("OK images").expect_sound()
}

#[test]
fn x9_a_program_of_16_mib_is_read_page_by_page_as_it_runs() {
    for flavour in [Flavour::Glibc, Flavour::GlibcPie, Flavour::Musl] {
        let run = run(&disk(flavour), "lazy", "--ram 64M");
        let read = |what| run.value("READ", what);
        // Headers, and what of the C library runs by then. A position-independent one has relocated itself.
        assert!(read("begin") < 150, "pages read before main\n{run}");
        assert_eq!(
            [read("three"), read("majors")],
            [3, 3],
            "pages read, and faults that waited, for three touches\n{run}"
        );
        assert!((PAGES - 16..PAGES + 64).contains(&read("all")), "each page is read once\n{run}");
        assert!(run.value("RESIDENT", "kib") < 1024, "{run}");
    }
}

#[test]
fn x10_eight_processes_of_one_program_have_its_constants_once_and_its_variables_each() {
    let run = run(&disk(Flavour::Glibc), "share 8", "--ram 64M");
    let [read, rss, pss, shared, dirty] =
        ["read", "rss", "pss", "shared", "dirty"].map(|what| run.value("SHARE", what));
    // The parent has touched the constants; of the variables and the rest each page comes once.
    assert!(read < VARIABLES + 64, "pages read for eight processes\n{run}");
    assert!(shared >= 8 * SHARED * KIB && rss >= 8 * (SHARED + VARIABLES) * KIB, "{run}");
    assert!(dirty >= 8 * VARIABLES * KIB, "{run}");
    // Nine share the constants.
    assert!(pss <= dirty + (shared + 8) / 8, "what is shared counts once\n{run}");
}

#[test]
fn x9_pages_of_a_program_are_dropped_under_pressure_and_not_swapped() {
    let run = run(&disk(Flavour::Glibc), "lazy", "--ram 12M --swap 64M");
    assert!(run.value("READ", "all") > 3 * PAGES / 2, "the second round had to read again\n{run}");
    // The little that is its own may go, but nothing of the size of its file.
    assert!(run.count("vmstat/pswpout") < 64 && run.count("vmstat/pswpin") < 64, "{run}");
}

#[test]
fn nobody_writes_to_a_program_that_runs_or_runs_what_is_written_to() {
    for flavour in [Flavour::Glibc, Flavour::Musl] {
        run(&disk(flavour), "busy", "--ram 64M");
    }
}
