//! On the machine: a disk that lies, a disk that is not ours, and the end of the kernel itself.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use disk_image::{Pages, builder::create_swap_image};
use tempfile::TempDir;
use tests::harness::{Finished, Place, Run, Running, reduced_or_full, seed, status};
use workloads::content::Content;

const PAGE: usize = 4096;
/// Slots that are altered.
const ALTERED: usize = 64;

/// A swap image, and `altered-swap` stopped in the middle of its run with most of its pages in it.
struct Stopped {
    scratch: TempDir,
    run: Running,
    /// Of the process whose slots are altered.
    seed: u64,
    pages: u64,
}

impl Stopped {
    /// One process.
    fn new(handle: u32) -> Self {
        let (seed, (ram, mib)) = (seed(), reduced_or_full(("24M", 48), ("64M", 192)));
        let line = format!("altered-swap mib={mib} seed={seed} handle={handle}");
        Self::begin(Run::line(&line).options(&format!("--ram {ram}")), seed, mib, 1)
    }

    /// Two: the first outlives the second, whose slots are altered.
    fn beside_another() -> Self {
        let (seed, (ram, mib)) = (seed(), reduced_or_full(("24M", 24), ("64M", 96)));
        let first = format!("altered-swap mib={mib} seed={} handle=0 outlive={}", seed + 1, mib / 2);
        let second = format!("beside=altered-swap mib={mib} seed={seed} handle=0 wait=0");
        let run = Run::line(&first).option("--append", second).options(&format!("--ram {ram}"));
        Self::begin(run, seed, mib, 2)
    }

    fn begin(run: Run, seed: u64, mib: u64, processes: usize) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let image = Self::image(scratch.path());
        create_swap_image(&image, Pages(reduced_or_full(96, 512) * 256)).expect("a swap image");
        let mut run = run.option("--swap", &image).begin();
        for _ in 0..processes {
            run.wait_for("READY");
        }
        run.monitor().execute("stop");
        Self { scratch, run, seed, pages: mib * 256 }
    }

    fn image(directory: &Path) -> PathBuf {
        directory.join("swap.img")
    }

    /// Flips one bit in each of some slots, and returns which pages they hold.
    fn alter(&self) -> BTreeSet<u64> {
        let path = Self::image(self.scratch.path());
        let image = OpenOptions::new().read(true).write(true).open(path).expect("the image");
        let content = Content::new(self.seed, 100);
        let by_tag: HashMap<u64, u64> = (0..self.pages).map(|page| (content.tag(page), page)).collect();
        let mut found: Vec<_> = slots(&image).filter_map(|(at, tag)| Some((at, *by_tag.get(&tag)?))).collect();
        assert!(found.len() > 4 * ALTERED, "only {} of {} pages are on disk", found.len(), self.pages);
        // Spread over all pages, because some are in memory as well.
        found.sort_by_key(|(_, page)| *page);
        let step = found.len() / ALTERED;
        let altered: Vec<_> = found.into_iter().step_by(step).take(ALTERED).collect();
        for (index, (at, _)) in altered.iter().enumerate() {
            let (byte, bit) = ((index * 61) % PAGE, index % 8);
            let mut old = [0];
            image.read_exact_at(&mut old, at + byte as u64).expect("a byte");
            image.write_all_at(&[old[0] ^ 1 << bit], at + byte as u64).expect("a byte");
        }
        altered.into_iter().map(|(_, page)| page).collect()
    }

    /// Lets machine and program go on.
    fn go_on(mut self) -> Running {
        self.run.monitor().execute("cont");
        self.run.send(b"go on\n");
        self.run
    }
}

/// Offset and first word of each slot of an image but the header's.
fn slots(image: &File) -> impl Iterator<Item = (u64, u64)> + '_ {
    let length = image.metadata().expect("its length").len();
    (PAGE as u64..length).step_by(PAGE).map(|at| {
        let mut word = [0; 8];
        image.read_exact_at(&mut word, at).expect("a word");
        (at, u64::from_le_bytes(word))
    })
}

/// Reads the image as a stranger would: it holds what the program wrote.
#[test]
fn g3_dirty_pages_are_on_the_swap_disk_byte_for_byte() {
    let stopped = Stopped::new(1);
    let image = File::open(Stopped::image(stopped.scratch.path())).expect("the image");
    let content = Content::new(stopped.seed, 100);
    let by_tag: HashMap<u64, u64> = (0..stopped.pages).map(|page| (content.tag(page), page)).collect();
    let mut found = 0;
    for (at, tag) in slots(&image) {
        let Some(page) = by_tag.get(&tag) else { continue };
        let (mut on_disk, mut expected) = ([0; PAGE], [0; PAGE]);
        image.read_exact_at(&mut on_disk, at).expect("a slot");
        content.bytes(*page, &mut expected);
        assert!(on_disk == expected, "page {page} at {at} is not as it was written");
        found += 1;
    }
    let run = stopped.go_on().finish().expect_ok();
    assert!(found > 1024, "{found} pages were found on the disk\n{run}");
    assert!(run.count("vmstat/pswpout") >= found && run.count("vmstat/pgsteal") >= found, "{run}");
}

#[test]
fn altered_slots_cost_exactly_their_pages_and_never_give_wrong_bytes() {
    let stopped = Stopped::new(1);
    let altered = stopped.alter();
    let run = stopped.go_on().finish().expect_ok().expect_line("OK altered-swap");
    let text = run.text();
    let lost: BTreeSet<u64> = text.lines().filter_map(|line| line.strip_prefix("BUS page=")?.parse().ok()).collect();
    assert!(lost.is_subset(&altered), "lost but not altered: {:?}\n{run}", lost.difference(&altered));
    // Some altered pages may be in memory still; most are not, with twice as many pages as there is RAM.
    assert!(lost.len() > ALTERED / 4, "{} of {ALTERED} altered pages were noticed\n{run}", lost.len());
}

#[test]
fn an_altered_slot_ends_its_owner_with_sigbus_and_not_the_kernel() {
    const SIGBUS: i32 = 7;
    let stopped = Stopped::new(0);
    stopped.alter();
    stopped.go_on().finish().expect_signal(SIGBUS);
}

#[test]
fn altered_slots_of_one_process_cost_another_one_nothing() {
    let stopped = Stopped::beside_another();
    stopped.alter();
    // The first process ends only when the second is gone, and its own pages were right all the time.
    let run = stopped.go_on().finish().expect_ok();
    assert_eq!(run.value("OK altered-swap", "lost"), 0, "{run}");
}

#[test]
fn slots_that_nobody_altered_come_back_right_after_a_stop() {
    let run = Stopped::new(1).go_on().finish().expect_ok();
    assert_eq!(run.value("OK altered-swap", "lost"), 0, "{run}");
}

#[test]
fn the_kernel_itself_refuses_a_disk_that_is_no_swap_area() {
    // ebb refuses such an image before anything boots; this one it does not see.
    let scratch = tempfile::tempdir().expect("a directory");
    let disk = scratch.path().join("foreign.img");
    let contents = vec![0x5a; 1 << 20];
    std::fs::write(&disk, &contents).expect("an image");
    let drive = format!("if=none,id=foreign,format=raw,file={}", disk.display());
    let run = Run::line("hello").options("--swap none");
    let run = run.qemu_arguments(&format!("-drive {drive} -device virtio-blk-pci,drive=foreign")).finish();
    let run = run.expect("bad_input", status::REFUSED);
    assert!(run.stderr.contains("swap"), "it says what is refused\n{run}");
    assert_eq!(std::fs::read(&disk).expect("the image"), contents, "the foreign disk is as it was");
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
