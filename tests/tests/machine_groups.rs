//! On the machine: memory groups through the files of cgroup2.

use tests::harness::disk::DataDisk;
use tests::harness::{Finished, Run, soak};
use tests::programs::{Flavour, Program};

#[test]
fn x17_a_group_of_8_mib_thrashes_alone_and_dies_alone() {
    let program = Program::C("memgroup", Flavour::Glibc);
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    let run = Run::new([&path]).options("--ram 48M --swap 256M").finish().expect_ok().expect_line("OK memgroup");
    assert!(run.count("vmstat/pswpin") > 4096, "it thrashed\n{run}");
    assert_eq!(run.count("vmstat/oom_kill"), 2, "{run}");
}

#[test]
fn x17_a_process_that_is_moved_while_it_is_in_execve_or_fork_stays_where_it_was_moved() {
    let program = Program::C("moved-while-made", Flavour::Glibc).build().unwrap_or_else(|error| panic!("{error}"));
    let run = Run::new([&program]).options("--ram 32M --swap 64M --append module=keep").finish();
    run.expect_ok().expect_line("OK moved-while-made").expect_sound();
}

/// How 64 threads of 8 copies each begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// As they are made, each with another way of copying within two pages.
    OneByOne,
    /// All with the same eight pages, as many as a copy pins.
    Together,
}

/// What they come to in a group of twelve pages, beside a neighbour that goes round so many MiB.
fn e8_copies(begin: Begin, neighbour_mib: u64, refusals_a_copy: u64) -> Finished {
    const COPIES: u64 = 64 * 8;
    // All pins are an eighth of the frames: in 9 MiB enough for 24 copies of eight pages.
    let (ram, together): (_, &[&str]) = match begin {
        Begin::OneByOne => ("12M", &[]),
        Begin::Together => ("9M", &["together"]),
    };
    let program = Program::C("self-copies", Flavour::Glibc).build().unwrap_or_else(|error| panic!("{error}"));
    let disk = DataDisk::empty();
    let mib = neighbour_mib.to_string();
    let words = [&[program.to_str().expect("a path in UTF-8"), "64", "12", &mib], together].concat();
    let run = Run::new(words).option("--disk", disk.image()).options(&format!("--ram {ram} --swap 64M")).finish();
    disk.expect_clean();
    let run = run.expect_ok().expect_line("OK self-copies").expect_sound();
    let refused = run.value("REFUSED", "times");
    println!("{refused} refusals and {} major faults for {COPIES} copies", run.count("vmstat/pgmajfault"));
    assert!(refused >= 64, "the group has less than it needs\n{run}");
    assert!(refused <= refusals_a_copy * COPIES, "{refused} refusals for {COPIES} copies\n{run}");
    run
}

/// Design D4 and D11: the simulator has the same with twelve frames in all (`mm_files`). The neighbour only computes, so
/// each thread is got on by what its group does. Seen: at most 500 refusals, and 390 major faults, when the disk is slow.
#[test]
fn e8_64_copies_between_a_file_and_a_mapping_of_it_get_on_with_twelve_frames() {
    let run = e8_copies(Begin::OneByOne, 0, 4);
    assert!(run.count("vmstat/pgmajfault") <= 64 * 8, "less than one for each copy\n{run}");
}

/// 64 copies want 512 pins of the machine's 191, so most of them wait for pins first, having pinned nothing; those who have them share eight
/// of twelve frames. Seen: 61 to 69 waits for pins, 4 or 5 refusals a copy.
#[test]
fn e8_64_copies_at_once_get_on_with_twelve_frames_when_all_pins_are_taken() {
    let run = e8_copies(Begin::Together, 0, 16);
    assert!(run.count("vmstat/ebb_pin_waits") >= 8, "the pins were all taken, and copies waited for them\n{run}");
    assert!(run.count("frames/total") / 8 < 64 * 8, "{run}");
}

/// A copy needs its stack, the program's text and the C library's data, and two pages of the file: beside a neighbour that
/// has them taken away again and again, twelve pages are too few for more than one or two of 64 threads. Seen: less than
/// one refusal for each copy.
#[test]
fn e8_64_copies_get_on_with_twelve_frames_while_the_rest_of_the_machine_thrashes() {
    if soak() {
        e8_copies(Begin::OneByOne, 16, 8);
    }
}
