//! On the machine: a disk that lies, a disk that is not ours, and the end of the kernel itself.
//!
//! Disks that say that they fail are in `machine_disk_faults`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::process::Command;

use disk_image::{Pages, builder::create_swap_image};
use tests::harness::stopped::{Found, SLOT, Stopped, lost, pages};
use tests::harness::{Finished, Place, Run, Running, reduced_or_full, status};

/// Reads the image as a stranger would: it holds what the program wrote.
#[test]
fn g3_dirty_pages_are_on_the_swap_disk_byte_for_byte() {
    let stopped = Stopped::new(1);
    let found = stopped.found();
    for Found { page, at } in &found {
        assert!(stopped.read(*at) == stopped.expected(*page), "page {page} at {at} is not as it was written");
    }
    let (run, found) = (stopped.finish().expect_ok(), found.len() as u64);
    assert!(found > 1024, "{found} pages were found on the disk\n{run}");
    assert!(run.count("vmstat/pswpout") >= found && run.count("vmstat/pgsteal") >= found, "{run}");
}

/// Reads the image as a stranger would: no slot begins as any page of the program does, and none is in clear further on.
#[test]
fn f13_encrypted_swap_holds_nothing_that_a_program_wrote() {
    let stopped = Stopped::encrypted();
    let words: HashSet<u64> = (0..stopped.pages())
        .flat_map(|page| {
            let page = stopped.expected(page);
            let (words, _) = page.as_chunks();
            // The number of the page in clear, and words of its filler.
            [0, 2, 100].map(|at: usize| u64::from_le_bytes(words[at]))
        })
        .collect();
    let length = fs::metadata(stopped.path()).expect("the image").len();
    let mut used = 0;
    for at in (SLOT as u64..length).step_by(SLOT) {
        let slot = stopped.read(at);
        used += u64::from(slot != [0; SLOT]);
        let (found, _) = slot.as_chunks();
        // Zeroes are not the program's alone.
        let clear = found.iter().map(|word| u64::from_le_bytes(*word)).find(|word| *word != 0 && words.contains(word));
        assert_eq!(clear, None, "a word of the program's is in clear at {at}");
    }
    assert!(used > 1024, "{used} slots were written");
    let run = stopped.finish().expect_ok().expect_line("OK altered-swap");
    assert_eq!(lost(&run), BTreeSet::new(), "{run}");
}

/// A nonce that is used twice gives away what two pages have in common: of pages that are equal, whatever is written twice with it is the
/// same. So all that is on the disk of a program all of whose pages are equal differs, at one time and from one time to the next; and where
/// a page is written to a slot in which an equal one was, the slot changes.
#[test]
fn f13_of_equal_pages_no_two_are_equal_on_an_encrypted_disk_wherever_and_whenever_they_are_written() {
    const ROUNDS: u32 = 4;
    /// What the cipher makes of one nonce and one counter (RFC 8439 §2.3).
    const BLOCK: usize = 64;
    let mut stopped = Stopped::encrypted_and_equal(ROUNDS);
    let mut beginnings: HashMap<[u8; BLOCK], u64> = HashMap::new();
    let (mut before, mut rewritten) = (BTreeMap::new(), 0);
    for round in 1..=ROUNDS {
        let slots = stopped.slots();
        assert!(slots.len() > 1024, "{} slots are written in round {round}", slots.len());
        for (at, bytes) in &slots {
            let was = before.get(at);
            if was != Some(bytes) {
                rewritten += u64::from(was.is_some());
                let beginning = bytes.first_chunk().expect("a slot is longer");
                let twin = beginnings.insert(*beginning, *at);
                assert_eq!(twin, None, "what is written to {at} in round {round} was on the disk before");
            }
        }
        before = slots;
        if round < ROUNDS {
            stopped.next_round();
        }
    }
    println!("{} writes are seen, {rewritten} of them to a slot that had been written", beginnings.len());
    assert!(rewritten > 1024, "{rewritten} slots were written again");
    stopped.finish().expect_ok().expect_line("OK altered-swap");
}

/// Fails the test unless the program has lost exactly these pages, and the kernel knows that it was lied to about each.
#[track_caller]
fn expect_lost(stopped: Stopped, pages: &BTreeSet<u64>) {
    let run = stopped.finish().expect_ok().expect_line("OK altered-swap");
    let lost = lost(&run);
    assert!(lost == *pages, "lost and not altered, or altered and not lost: {:?}\n{run}", &lost ^ pages);
    let counts = ["audit_err", "bad_slots", "read_err"].map(|name| run.count(&format!("vmstat/ebb_swap_{name}")));
    assert_eq!(counts, [pages.len() as u64, pages.len() as u64, 0], "{run}");
}

/// Flips one bit in each of these slots, all bits in turn.
fn flip(stopped: &Stopped, slots: &[Found]) {
    for (index, Found { at, .. }) in slots.iter().enumerate() {
        let mut bytes = stopped.read(*at);
        bytes[index * 61 % SLOT] ^= 1 << (index % 8);
        stopped.write(*at, &bytes);
    }
}

#[test]
fn f6_a_thousand_flipped_bits_are_a_thousand_lost_pages_and_never_wrong_bytes() {
    let stopped = Stopped::new(1);
    let altered = stopped.oldest(1000);
    flip(&stopped, &altered);
    expect_lost(stopped, &pages(&altered));
}

/// Slots of which only the first half was written, slots that changed places, and slots as they were at another boot.
#[test]
fn f5_f7_torn_misdirected_and_stale_slots_are_lost_pages_and_never_wrong_bytes() {
    let other = Stopped::new(1);
    let image = fs::read(other.path()).expect("the other boot's image");
    other.finish().expect_ok();
    let stopped = Stopped::new(1);
    let altered = stopped.oldest(192);
    let (torn, rest) = altered.split_at(64);
    let (exchanged, stale) = rest.split_at(64);
    for pair in torn.chunks_exact(2) {
        let [one, two] = [pair[0].at, pair[1].at].map(|at| stopped.read(at));
        // The second half of a slot is what somebody else wrote, or nothing yet.
        stopped.write(pair[0].at + SLOT as u64 / 2, &two[SLOT / 2..]);
        stopped.write(pair[1].at + SLOT as u64 / 2, &[0; SLOT / 2]);
        assert!(one != two, "no two pages are alike");
    }
    for pair in exchanged.chunks_exact(2) {
        let [one, two] = [pair[0].at, pair[1].at].map(|at| stopped.read(at));
        stopped.write(pair[0].at, &two);
        stopped.write(pair[1].at, &one);
    }
    for Found { at, .. } in stale {
        stopped.write(*at, &image[*at as usize..][..SLOT]);
    }
    expect_lost(stopped, &pages(&altered));
}

#[test]
fn f6_an_altered_slot_ends_its_owner_with_sigbus_and_not_the_kernel() {
    const SIGBUS: i32 = 7;
    let stopped = Stopped::new(0);
    flip(&stopped, &stopped.oldest(64));
    stopped.finish().expect_signal(SIGBUS);
}

#[test]
fn f6_altered_slots_of_one_process_cost_another_one_nothing() {
    let stopped = Stopped::beside(0);
    flip(&stopped, &stopped.some(reduced_or_full(256, 1024)));
    // The first process ends only when the second is gone, and its own pages were right all the time.
    let run = stopped.finish().expect_ok();
    assert_eq!(run.value("OK altered-swap", "lost"), 0, "{run}");
}

#[test]
fn slots_that_nobody_altered_come_back_right_after_a_stop() {
    expect_lost(Stopped::new(1), &BTreeSet::new());
}

/// Has the kernel itself look at a disk that `ebb` would refuse before anything boots; returns what it said. The disk
/// stays as it is.
fn refused_by_the_kernel(contents: &[u8]) -> String {
    let scratch = tempfile::tempdir().expect("a directory");
    let disk = scratch.path().join("foreign.img");
    fs::write(&disk, contents).expect("an image");
    let drive = format!("if=none,id=foreign,format=raw,file={}", disk.display());
    let run = Run::line("hello").options("--swap none");
    let run = run.qemu_arguments(&format!("-drive {drive} -device virtio-blk-pci,drive=foreign")).finish();
    let run = run.expect("bad_input", status::REFUSED);
    assert!(fs::read(&disk).expect("the image") == contents, "the foreign disk is as it was\n{run}");
    run.stderr
}

#[test]
fn f14_the_kernel_itself_refuses_a_disk_that_is_no_swap_area_and_leaves_it_alone() {
    let header = |pages: u64, change: fn(&mut [u8])| {
        let scratch = tempfile::tempdir().expect("a directory");
        let area = scratch.path().join("swap.img");
        create_swap_image(&area, Pages(pages)).expect("a swap image");
        let mut image = fs::read(&area).expect("the image");
        image.resize(64 * SLOT, 0x5a);
        change(&mut image);
        image
    };
    let cases: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        // Random bytes, of which the first page is not even like a file system's.
        ("no swap signature", vec![0x5a; 1 << 20]),
        ("truncated", header(65, |_| ())),
        ("version", header(64, |page| page[1024] = 2)),
        ("hibernated", header(64, |page| page[SLOT - 10..][..10].copy_from_slice(b"S1SUSPEND\0"))),
    ]);
    for (reason, contents) in cases {
        let said = refused_by_the_kernel(&contents);
        assert!(said.contains("swap") && said.contains(reason), "{reason:?} is not in {said}");
    }
}

/// mke2fs gives a small image blocks of 1 KiB unless it is told otherwise. `ebb` refuses one before it boots.
#[test]
fn the_kernel_itself_refuses_a_file_system_with_other_blocks_and_leaves_it_alone() {
    for size in ["1024", "2048"] {
        let scratch = tempfile::tempdir().expect("a directory");
        let image = scratch.path().join("data.img");
        let mke2fs = Command::new("mke2fs").args(["-q", "-t", "ext4", "-b", size]).arg(&image).arg("16M").status();
        assert!(mke2fs.expect("mke2fs").success());
        let said = refused_by_the_kernel(&fs::read(&image).expect("the image"));
        assert!(said.contains(&format!("blocks of {size} bytes")) && said.contains("mke2fs -b 4096"), "{said}");
    }
}

/// What lies on a swap area from another boot is nothing to this one: it is never read.
#[test]
fn f14_what_another_boot_left_on_a_swap_area_is_never_read() {
    let other = Stopped::new(1);
    let scratch = tempfile::tempdir().expect("a directory");
    let image = scratch.path().join("swap.img");
    fs::copy(other.path(), &image).expect("a copy");
    other.finish().expect_ok();
    // It has room for all it needs, and reads nothing but the header.
    let run = Run::line("pressure seq-write mib=4").options("--ram 24M").option("--swap", &image).finish().expect_ok();
    assert_eq!((run.count("vmstat/pswpin"), run.count("disk/swap/reads")), (0, 1), "{run}");
    let run = Run::line("pressure random mib=48 ops=4096").options("--ram 24M").option("--swap", &image).finish();
    let run = run.expect_ok();
    assert_eq!(run.count("vmstat/ebb_swap_audit_err"), 0, "{run}");
}

/// Has the machine's processor take a non-maskable interrupt, which means broken hardware, at `place`.
fn broken_hardware(mut run: Running, place: Place) -> Finished {
    let mut monitor = run.monitor();
    monitor.stop_at(place);
    monitor.execute("inject-nmi");
    monitor.execute("cont");
    run.close_stdin();
    let run = run.finish().expect("panic", status::PANIC);
    let backtrace = run.report["panic"]["backtrace"].as_array().expect("a backtrace");
    let named = backtrace.iter().filter(|frame| frame.as_str().is_some_and(|frame| frame.contains("kernel::"))).count();
    assert!(named > 0, "functions by name in {backtrace:?}\n{run}");
    assert!(run.stderr.contains("kernel::"), "ebb shows them\n{run}");
    run
}

#[test]
fn a_kernel_panic_has_its_own_status_and_names_functions() {
    let mut run = Run::line("stdin-cat").begin();
    run.send(b"awake\n");
    run.wait_for("awake");
    let run = broken_hardware(run, Place::Idle);
    assert!(run.stderr.contains("cs=0x8 "), "it was in the kernel\n{run}");
}

#[test]
fn a_kernel_panic_while_a_program_runs_names_the_kernel_s_functions() {
    let mut run = Run::line("spin").begin();
    run.wait_for("spinning");
    let run = broken_hardware(run, Place::Program);
    assert!(run.stderr.contains("cs=0x23 "), "it was in the program\n{run}");
}
