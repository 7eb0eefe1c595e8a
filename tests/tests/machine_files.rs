//! Files on the data disk: what a program writes is what it reads, what is on the disk afterwards, and a disk that is clean.
//!
//! After every run the image passes `e2fsck -fn`, and its contents are read by `debugfs`, which is not ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::harness::disk::{DataDisk, file_on, recover};
use tests::harness::power_cut::WriteLog;
use tests::harness::{Run, reduced_or_full, seed, soak};
use tests::programs::{Flavour, Program};
use workloads::rng::Rng;
use workloads::tree;

/// A run with a data disk; what is on it may be a program's name.
fn run(disk: &DataDisk, line: &str) -> Run {
    Run::line(line).option("--disk", disk.image())
}

/// What the program itself said it left, and what is there.
fn compare(left: &Path) {
    let list = fs::read_to_string(left.join("model.list")).expect("the program's list");
    let expected: Vec<&str> = list.lines().collect();
    assert_eq!(tree::lines(&left.join("model")).expect("what was left"), expected);
}

#[test]
fn a_program_on_the_data_disk_runs_and_leaves_the_disk_clean() {
    let hello = Program::Workload("hello").build().expect("a workload");
    let disk = DataDisk::new(|root| {
        fs::create_dir(root.join("bin")).expect("a directory");
        fs::copy(&hello, root.join("bin/hello")).expect("a program");
    });
    let finished = run(&disk, "disk:/bin/hello").finish().expect_ok();
    assert!(finished.text().contains("OK hello"), "{finished}");
    disk.expect_clean();
}

#[test]
fn a_directory_becomes_a_disk_and_is_left_as_it_is() {
    let hello = Program::Workload("hello").build().expect("a workload");
    let scratch = tempfile::tempdir().expect("a directory");
    fs::copy(&hello, scratch.path().join("hello")).expect("a program");
    let before = tree::lines(scratch.path()).expect("the directory");
    let finished = Run::line("disk:/hello").option("--disk", scratch.path()).finish().expect_ok();
    assert!(finished.text().contains("OK hello"), "{finished}");
    assert_eq!(tree::lines(scratch.path()).expect("the directory"), before);
}

/// Every other time with files of up to 1 MiB: only these have enough blocks to be cut, emptied and buried in several steps (of 64).
/// In a soak five seeds of either.
#[test]
fn random_operations_on_files_agree_with_a_model_and_survive_remounts_and_a_reboot() {
    for number in 0..reduced_or_full(2, 10) {
        let disk = DataDisk::empty();
        let (kib, ops) = if number % 2 == 0 {
            (96, reduced_or_full(2_000, 100_000))
        } else {
            (1024, reduced_or_full(2_000, 20_000))
        };
        let line = format!("file-model ops={ops} seed={} kib={kib}", seed());
        // Minutes of work, which other tests may run beside.
        let finished = run(&disk, &line).limit_s(1200).finish().expect_ok();
        disk.expect_clean();
        assert!(finished.text().contains("OK file-model"));
        assert!(!finished.log.contains("is not given back"), "{finished}");
        compare(&disk.read_back());
        assert!(run(&disk, "file-model verify=1").finish().expect_ok().text().contains("OK file-model"));
        disk.expect_clean();
    }
}

#[test]
fn files_work_with_little_memory() {
    let disk = DataDisk::empty();
    let line = format!("file-model ops={} seed={}", reduced_or_full(1_000, 20_000), seed());
    let finished = run(&disk, &line).options("--ram 16M").finish();
    disk.expect_clean();
    assert!(finished.expect_ok().text().contains("OK file-model"));
    compare(&disk.read_back());
}

#[test]
fn p13_windows_of_files_show_what_they_name_and_nothing_else() {
    let program = Program::C("file-windows", Flavour::Glibc).build().expect("a C compiler");
    let disk = DataDisk::empty();
    let finished = Run::new([program]).option("--disk", disk.image()).finish();
    disk.expect_clean();
    assert!(finished.expect_ok().text().contains("OK file-windows"));
}

#[test]
fn holes_give_blocks_back_and_read_as_zeroes_everywhere() {
    let program = Program::C("file-holes", Flavour::Glibc).build().expect("a C compiler");
    let disk = DataDisk::empty();
    let program = program.to_str().expect("a path in UTF-8");
    let finished = Run::new([program, "refuses"]).option("--disk", disk.image()).finish();
    disk.expect_clean();
    assert!(finished.expect_ok().text().contains("OK file-holes"));
}

#[test]
fn a_remount_keeps_what_is_open_and_forgets_everything_else() {
    let program = Program::C("remount", Flavour::Glibc).build().expect("a C compiler");
    let disk = DataDisk::empty();
    let finished = Run::new([program]).option("--disk", disk.image()).finish();
    disk.expect_clean();
    assert!(finished.expect_ok().text().contains("OK remount"));
    assert_eq!(
        file_on(&disk.image(), "/mapped"),
        b"stored after".iter().chain(&[0; 4084]).copied().collect::<Vec<_>>()
    );
}

#[test]
fn sizes_on_the_disk_are_to_the_byte() {
    const SIZES: [usize; 9] = [0, 1, 1000, 4095, 4096, 4097, 8191, 8192, 12288];
    let program = Program::C("file-sizes", Flavour::Glibc).build().expect("a C compiler");
    let pairs = SIZES.into_iter().flat_map(|first| SIZES.map(|second| (first, second)));
    let files = pairs.flat_map(|(first, second)| ["w", "t", "m"].map(|how| (how, first, second)));
    let files: Vec<_> = files.filter(|(how, first, second)| *how != "w" || first <= second).collect();
    let name = |(how, first, second): (&str, usize, usize)| format!("{how}-{first}-{second}");
    let disk = DataDisk::new(|root| {
        let fill = |file: &(_, usize, _)| fs::write(root.join(name(*file)), vec![b'x'; file.1]);
        files.iter().for_each(|file| fill(file).expect("a file"));
    });
    let finished = Run::new([program]).option("--disk", disk.image()).finish();
    disk.expect_clean();
    assert!(finished.expect_ok().text().contains("OK file-sizes"));
    let left = disk.read_back();
    for (how, first, second) in files {
        let mut expected = vec![b'x'; if how == "t" { first.min(second) } else { second }];
        expected.resize(second, 0);
        let found = fs::read(left.join(name((how, first, second)))).expect("a file");
        assert!(found == expected, "{how}, {first} to {second}: {} bytes, or other ones", found.len());
    }
}

#[test]
fn processes_lock_ranges_of_files_and_whole_files_as_on_linux() {
    let program = Program::C("file-locks", Flavour::Glibc).build().expect("a C compiler");
    let scratch = tempfile::tempdir().expect("a directory");
    let output = Command::new(&program).current_dir(scratch.path()).output().expect("the program on the host");
    assert!(output.stdout.starts_with(b"OK file-locks"), "on the host: {}", String::from_utf8_lossy(&output.stdout));
    let disk = DataDisk::empty();
    Run::new([program]).option("--disk", disk.image()).finish().expect_ok().expect_line("OK file-locks");
    disk.expect_clean();
}

/// Row M4: a file larger than memory, mapped, needs no swap in either direction.
#[test]
fn m4_pages_of_files_are_dropped_or_go_to_their_file_but_never_to_swap() {
    let mib = reduced_or_full(24, 64);
    // An image is made with room beside what it holds: a file of nothing but holes makes the disk large enough for another.
    let disk = DataDisk::new(|root| {
        let holes = fs::File::create(root.join("holes")).expect("a file");
        holes.set_len(mib << 20).expect("a length");
    });
    for line in [
        format!("pressure mkfile mib={mib} file=data"),
        format!("pressure file-scan mib={mib} file=data order=1"),
        format!("pressure file-scan mib={mib} file=data shared=1"),
        format!("pressure file-write mib={mib} file=data order=1 ops=3000"),
    ] {
        let finished = run(&disk, &line).options("--ram 16M").finish();
        disk.expect_clean();
        let finished = finished.expect_ok();
        let count = |disk: &str, name: &str| finished.report["disk"][disk][name].as_u64().expect("a count");
        // The program's own pages may have to make room, a buffer of 1 MiB among them; how large the file is makes no difference.
        assert!(count("swap", "write_bytes") < 2 << 20, "{line}\n{finished}");
        assert!(count("data", "read_bytes") + count("data", "write_bytes") > mib << 20, "{line}\n{finished}");
    }
}

/// What page `page` of a file of `tests/programs/write-back.c` is full of; file 0 are its markers.
fn content(file: u64, page: u64) -> u64 {
    0x6562_6200_0000_0000 | file << 32 | page
}

/// Pages of each of its files.
const WRITTEN_BACK: u64 = 128;

/// Where in the log a page with this content is written first.
fn first_write(log: &WriteLog, content: u64) -> Option<usize> {
    let is_it = |page: &[u8]| page.chunks(8).all(|word| word == content.to_le_bytes());
    log.0.iter().position(|write| write.data.chunks(4096).any(is_it))
}

#[test]
fn x15_what_is_stored_in_a_window_reaches_the_disk_when_synced_under_pressure_and_in_the_end() {
    let program = Program::C("write-back", Flavour::Glibc).build().expect("a C compiler");
    let disk = DataDisk::empty();
    let log = disk.beside("writes.log");
    let run = Run::new([program.to_str().expect("a path in UTF-8"), "24"]).option("--disk", disk.image());
    let finished = run.options("--ram 16M --swap 64M").data_log(&log).finish();
    disk.expect_clean();
    let finished = finished.expect_ok().expect_line("OK write-back");
    let log = WriteLog::read(&log);
    let marks = [0, 1, 2, 3, 4].map(|number| first_write(&log, content(0, number)).expect("a marker"));
    let written = |file, from: Option<usize>, to: Option<usize>| {
        let is_between = |at: usize| from.is_none_or(|from| marks[from] < at) && to.is_none_or(|to| at < marks[to]);
        (0..WRITTEN_BACK).filter(|page| first_write(&log, content(file, *page)).is_some_and(is_between)).count() as u64
    };
    let synced = written(1, Some(0), Some(1));
    assert_eq!(synced, WRITTEN_BACK, "{synced} of {WRITTEN_BACK} pages written when synced\n{finished}");
    // Neither filling them nor the marker writes them; an old page may be written for its age, and a few may stay in RAM.
    for (file, from, to, why) in [(2, Some(2), Some(3), "for want of memory"), (3, Some(4), None, "in the end")] {
        let (found, least) = (written(file, from, to), WRITTEN_BACK / 2);
        assert!(found >= least, "{found} pages of file {file} written {why}, at least {least} expected\n{finished}");
    }
    for (file, name) in [(1, "/synced"), (2, "/pressed"), (3, "/ended")] {
        let found = file_on(&disk.image(), name);
        let expected = (0..WRITTEN_BACK).flat_map(|page| [content(file, page); 512]).flat_map(u64::to_le_bytes);
        let differ = found.iter().copied().zip(expected).filter(|(found, expected)| found != expected).count();
        let bytes = found.len() as u64;
        assert_eq!((bytes, differ), (WRITTEN_BACK * 4096, 0), "{name} on the disk: its length, bytes that differ");
    }
}

const RECORD: usize = 5000;

/// Where each record first appears in the log: by then the program had been told that the one before it is durable.
fn first_seen(log: &WriteLog, records: u64) -> Vec<usize> {
    const ENOUGH: usize = 64;
    let mut seen = vec![usize::MAX; records as usize + 2];
    for (index, write) in log.0.iter().enumerate() {
        let words = write.data.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        let (mut last, mut count) = (0, 0);
        for word in words {
            count = if word == last { count + 1 } else { 1 };
            last = word;
            if count == ENOUGH && (1..=records).contains(&word) {
                seen[word as usize] = seen[word as usize].min(index);
            }
        }
    }
    seen
}

/// What must be on a disk whose power went when `durable` records had been acknowledged: all of them, and none torn.
fn check_records(image: &Path, durable: u64, records: u64, story: &str) {
    let found = file_on(image, "/records.dat");
    assert!(found.len() >= durable as usize * RECORD, "{story}: {} bytes", found.len());
    for number in 1..=durable {
        let record = &found[(number as usize - 1) * RECORD..][..RECORD];
        assert!(record.chunks(8).all(|word| word == number.to_le_bytes()), "{story}: record {number} is torn");
    }
    let mapped = file_on(image, "/mapped.dat");
    let word = u64::from_le_bytes(mapped[..8].try_into().expect("eight bytes"));
    assert!((durable / 4 * 4..=records).contains(&word), "{story}: {word} in the mapped file");
}

/// How often a disk was marked as one that needs no recovery.
fn clean_marks(log: &WriteLog) -> usize {
    // The superblock's s_feature_incompat, and in it INCOMPAT_RECOVER (ext4's data structures).
    const INCOMPAT: u64 = 1024 + 0x60;
    const RECOVER: u8 = 4;
    log.written_at(INCOMPAT, 4).filter(|features| features[0] & RECOVER == 0).count()
}

/// Row G4: at any moment from the mount to the unmount. What the disk had acknowledged is found out from the order of its writes alone,
/// not from the flushes: a kernel that does not flush loses records here. Three times in between the file system is mounted anew.
#[test]
fn g4_what_was_synced_survives_a_power_cut() {
    let (records, cuts) = (reduced_or_full(40, 200), reduced_or_full(10, 100));
    let disk = DataDisk::empty();
    let (before, log) = (disk.beside("before.img"), disk.beside("writes.log"));
    fs::copy(disk.image(), &before).expect("a copy of the disk");
    let remount = records / 4;
    let line = format!("sync-writer records={records} bytes={RECORD} remount={remount}");
    run(&disk, &line).data_log(&log).finish().expect_ok();
    disk.expect_clean();
    let log = WriteLog::read(&log);
    let (seen, seed) = (first_seen(&log, records), seed());
    let mut rng = Rng::new(seed);
    // While it is mounted and unmounted, little is written and much can be torn apart: there, every moment is tried in a soak.
    let (first, last, end) = (seen[1], seen[records as usize], log.0.len());
    let anew = (remount..records).step_by(remount as usize).map(|after| after as usize);
    let anew: Vec<usize> = anew.flat_map(|after| seen[after]..seen[after + 1]).collect();
    assert_eq!(clean_marks(&log), 4 + 1, "marked clean at each remount and at the end");
    let ends: Vec<usize> = (1..=first).chain(anew).chain(last..=end).filter(|_| soak() || rng.percent(20)).collect();
    let middle: Vec<usize> = (0..cuts).map(|_| first + rng.below((last - first) as u64) as usize).collect();
    for cut in ends.into_iter().chain(middle) {
        let image = disk.beside("cut.img");
        let durable = (1..=records).rfind(|number| seen[*number as usize + 1] < cut).unwrap_or(0);
        let story = format!("seed {seed}, cut after {cut} of {end} writes, {durable} records durable");
        log.replay(&before, cut, &mut rng, &image);
        recover(&image, &story);
        if durable > 0 {
            check_records(&image, durable, records, &story);
        }
    }
    assert!(log.flushes() as u64 >= records, "{} flushes for {records} records", log.flushes());
}
