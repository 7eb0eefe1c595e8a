//! On the machine: memory groups through the files of cgroup2.

use tests::harness::Run;
use tests::programs::{Flavour, Program};

#[test]
fn x17_a_group_of_8_mib_thrashes_alone_and_dies_alone() {
    let program = Program::C("memgroup", Flavour::Glibc);
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    let run = Run::new([&path]).options("--ram 48M --swap 256M").finish().expect_ok().expect_line("OK memgroup");
    assert!(run.count("vmstat/pswpin") > 4096, "it thrashed\n{run}");
    assert_eq!(run.count("vmstat/oom_kill"), 1, "{run}");
}
