//! On the machine: a swap disk that says that it fails, has no room, gets smaller or does not answer (rows F1 to F4).
//!
//! QEMU's `blkdebug` filter fails what it is told to; QEMU's own counts say that it did. Disks that lie are in
//! `machine_damage`.

use std::collections::BTreeSet;

use tests::harness::stopped::{Found, SLOT, Stopped, lost, pages};
use tests::harness::{Fails, Fault, Finished, Run};
use tests::programs::{Flavour, Program};

fn faults(fails: Fails, slots: &[Found]) -> Vec<Fault> {
    slots.iter().map(|found| Fault { fails, at: Some(found.at) }).collect()
}

fn swap_counts<const N: usize>(run: &Finished, names: [&str; N]) -> [u64; N] {
    names.map(|name| run.count(&format!("vmstat/ebb_swap_{name}")))
}

/// Fails the test unless the kernel was told of every request that QEMU failed, and knows of each other one, too.
#[track_caller]
fn expect_counted(run: &Finished) {
    let qemu = |name: &str| run.count(&format!("disk/qemu/swap/{name}"));
    let failed = ["rd", "wr", "unmap"].map(|kind| qemu(&format!("failed_{kind}_operations")));
    assert_eq!(run.count("disk/swap/errors"), failed.iter().sum::<u64>(), "{run}");
    assert_eq!(run.count("disk/swap/reads"), qemu("rd_operations") + failed[0], "{run}");
    assert_eq!(run.count("disk/swap/writes"), qemu("wr_operations") + failed[1], "{run}");
}

#[test]
fn f1_slots_that_cannot_be_read_are_lost_pages_and_those_that_once_could_not_are_none() {
    let stopped = Stopped::new(1);
    let chosen = stopped.oldest(64);
    let (for_ever, once) = chosen.split_at(32);
    let rules = [faults(Fails::Reads, for_ever), faults(Fails::OneRead, once)].concat();
    stopped.monitor().break_swap(&rules);
    let run = stopped.finish().expect_ok().expect_line("OK altered-swap");
    assert_eq!(lost(&run), pages(for_ever), "{run}");
    assert_eq!(swap_counts(&run, ["read_err", "bad_slots", "audit_err", "write_err"]), [32, 32, 0, 0], "{run}");
    // Each was tried twice, and the others failed once.
    assert!(run.count("disk/swap/errors") >= 2 * 32 + 32, "{run}");
    expect_counted(&run);
}

#[test]
fn f1_a_slot_that_cannot_be_read_ends_its_owner_of_four_and_nobody_else() {
    let stopped = Stopped::beside(2);
    stopped.monitor().break_swap(&faults(Fails::Reads, &stopped.some(128)));
    // The first goes on until the second is gone; it has lost nothing, and the two others say nothing of having lost
    // any.
    let run = stopped.finish().expect_ok();
    assert_eq!((run.value("OK altered-swap", "lost"), lost(&run).len()), (0, 0), "{run}");
    assert!(swap_counts(&run, ["read_err"])[0] > 0, "{run}");
    expect_counted(&run);
}

/// Slots that cannot be written, from the start: of 24 MiB of slots that are all needed. QEMU may not merge requests:
/// of those that it did it would fail all, also those that the kernel had made of one slot each to find the bad one.
#[test]
fn f2_pages_whose_slots_cannot_be_written_stay_or_go_elsewhere() {
    const BAD: [u64; 3] = [70, 1000, 4000];
    let rules = BAD.map(|slot| Fault { fails: Fails::Writes, at: Some(slot * SLOT as u64) });
    let run = Run::line("pressure random mib=40 ops=8192 fill=100").options("--ram 24M --swap 32M");
    let run = run.qemu_arguments("-global virtio-blk-device.request-merging=off").break_swap(&rules);
    let run = run.finish().expect_ok().expect_line("OK random");
    let [write_err, bad, read_err, audit_err] = swap_counts(&run, ["write_err", "bad_slots", "read_err", "audit_err"]);
    assert!(write_err > bad && (1..=3).contains(&bad), "{write_err} failed writes, {bad} bad slots\n{run}");
    assert_eq!((read_err, audit_err), (0, 0), "{run}");
    expect_counted(&run);
}

/// A thin image on a host without room: what is on it is still good, and what is in memory stays there.
#[test]
fn f3_when_the_host_has_no_room_left_everything_can_still_be_read() {
    let stopped = Stopped::new(1);
    stopped.monitor().break_swap(&[Fault { fails: Fails::Writes, at: None }]);
    let run = stopped.finish().expect_ok();
    assert_eq!(run.value("OK altered-swap", "lost"), 0, "{run}");
    assert_eq!((run.count("vmstat/oom_kill"), swap_counts(&run, ["read_err"])), (0, [0]), "{run}");
    expect_counted(&run);
}

/// From the start no write succeeds: the program that needs more than RAM is ended with an explanation.
#[test]
fn f3_with_no_room_at_all_it_is_as_without_swap() {
    let run = Run::line("exhaust").options("--ram 24M --swap 32M");
    let run = run.break_swap(&[Fault { fails: Fails::Writes, at: None }]).finish();
    let run = run.expect("out_of_memory", 137).expect_sound();
    assert_eq!((run.count("vmstat/pswpout"), run.count("vmstat/oom_kill")), (0, 1), "{run}");
    assert!(swap_counts(&run, ["write_err"])[0] > 0, "{run}");
    expect_counted(&run);
}

/// The image is cut off behind the machine's back, or the device says that it is smaller now.
#[test]
fn f3_what_was_behind_the_end_of_a_shorter_disk_is_lost_and_nothing_else() {
    for told in [false, true] {
        let stopped = Stopped::new(1);
        let oldest = stopped.oldest(1500);
        let mut slots: Vec<_> = oldest.iter().map(|found| found.at).collect();
        slots.sort_unstable();
        let end = slots[slots.len() * 9 / 10];
        let behind: BTreeSet<u64> =
            stopped.found().iter().filter(|found| found.at >= end).map(|found| found.page).collect();
        if told {
            stopped.monitor().resize_swap(end)
        } else {
            stopped.truncate(end)
        }
        let run = stopped.finish().expect_ok().expect_line("OK altered-swap");
        let lost = lost(&run);
        assert!(lost.is_subset(&behind), "lost and not behind the end: {:?}\n{run}", &lost - &behind);
        let oldest: BTreeSet<u64> = oldest.iter().filter(|found| found.at >= end).map(|found| found.page).collect();
        assert!(lost.is_superset(&oldest), "behind the end and not lost: {:?}\n{run}", &oldest - &lost);
        let [read_err, audit_err] = swap_counts(&run, ["read_err", "audit_err"]);
        let expected = if told { (lost.len() as u64, 0) } else { (0, lost.len() as u64) };
        assert_eq!((read_err, audit_err), expected, "{run}");
    }
}

/// Reads are not answered from some moment on.
#[test]
fn f4_a_disk_that_never_answers_holds_up_who_waits_for_it_and_is_named() {
    let program = Program::C("unanswered", Flavour::Glibc).build().unwrap_or_else(|error| panic!("{error}"));
    let run = Run::new([program.to_str().expect("a path in UTF-8"), "40", "800"]);
    let mut run = run.options("--ram 24M --append disk_timeout_ms=200").begin();
    run.wait_for("READY");
    run.monitor().limit_swap_reads(1);
    run.send(b"go on\n");
    run.close_stdin();
    let run = run.finish().expect_ok().expect_line("OK unanswered");
    let named = run.log.lines().filter(|line| line.contains("swap disk: a Read of") && line.contains("no answer"));
    assert!(named.count() > 0, "the log does not say so: {}", run.log);
    assert!(run.count("frames/orphaned_io") > 0, "the disk has the frame of the killed one still\n{run}");
}
