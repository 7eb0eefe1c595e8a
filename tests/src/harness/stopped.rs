//! A machine that is stopped while most pages of its program are on the swap disk, and what can be done to those.
//!
//! Owns: the image, the run of `altered-swap`, and finding pages on the image by what they hold. Does not own what a
//! fault is to lead to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use disk_image::{Pages, builder::create_swap_image};
use tempfile::TempDir;
use workloads::content::Content;

use super::qmp::{self, Monitor};
use super::{Finished, Run, Running, reduced_or_full, seed};

/// Bytes in a slot.
pub const SLOT: usize = 4096;
const SLOTS_PER_MIB: u64 = 256;
/// Of each process beside the two of [`Stopped::beside`].
const OTHER_MIB: u64 = 4;

/// What a slot holds.
pub type Bytes = [u8; SLOT];

/// A page of the program's and where on the image it is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub page: u64,
    /// Where.
    pub at: u64,
}

/// A swap image, and `altered-swap` stopped in the middle of its run with most of its pages in it.
#[derive(Debug)]
pub struct Stopped {
    scratch: TempDir,
    image: File,
    run: Running,
    /// Of the process whose slots are altered.
    content: Content,
    pages: u64,
}

impl Stopped {
    /// One process. With `handle=1` it replaces pages that it loses and says which, with `handle=0` the first is its
    /// end.
    pub fn new(handle: u32) -> Self {
        let (seed, (ram, mib)) = (seed(), reduced_or_full(("24M", 48), ("64M", 192)));
        let line = format!("altered-swap mib={mib} seed={seed} handle={handle}");
        Self::begin(Run::line(&line).options(&format!("--ram {ram}")), seed, mib, 1)
    }

    /// One process that replaces what it loses, with swap that only this boot can read.
    pub fn encrypted() -> Self {
        let (seed, (ram, mib)) = (seed(), reduced_or_full(("24M", 48), ("64M", 192)));
        let line = format!("altered-swap mib={mib} seed={seed} handle=1");
        let run = Run::line(&line).options(&format!("--ram {ram}")).option("--append", "swap.encrypt=on");
        Self::begin(run, seed, mib, 1)
    }

    /// As [`Self::encrypted`], but all pages of the program hold the same. They are written as often as `rounds` says, and the machine stops
    /// after each time: [`Self::next_round`] lets it go on to the next. The area is so small that they have to leave to slots that they had.
    pub fn encrypted_and_equal(rounds: u32) -> Self {
        let (seed, (ram, mib)) = (seed(), reduced_or_full(("24M", 48), ("64M", 192)));
        let line = format!("altered-swap mib={mib} seed={seed} equal=1 rounds={rounds}");
        let run = Run::line(&line).options(&format!("--ram {ram}")).option("--append", "swap.encrypt=on");
        Self::begin_with(run, seed, (mib, mib + mib / 6), 1)
    }

    /// Lets machine and program go on, and stops both when the program has written all its pages once more.
    pub fn next_round(&mut self) {
        self.run.monitor().execute("cont");
        self.run.send(b"go on\n");
        self.run.wait_for("READY");
        self.run.monitor().execute("stop");
    }

    /// What the slots hold that were ever written, by where they are.
    pub fn slots(&self) -> BTreeMap<u64, Bytes> {
        let length = self.image.metadata().expect("its length").len();
        let slots = (SLOT as u64..length).step_by(SLOT).map(|at| (at, self.read(at)));
        slots.filter(|(_, bytes)| *bytes != [0; SLOT]).collect()
    }

    /// Several: the first outlives the second, whose slots are altered and which ends with the first page it loses.
    /// What the `others` lose they say, and the first says what it has lost.
    pub fn beside(others: u32) -> Self {
        let (seed, (ram, mib)) = (seed(), reduced_or_full(("24M", 24), ("64M", 96)));
        // The second is gone when half of what it has is not there beside what the others have, and stay with.
        let outlive = mib / 2 + u64::from(others) * OTHER_MIB;
        let first = format!("altered-swap mib={mib} seed={} handle=0 outlive={outlive}", seed + 1);
        let second = format!("beside=altered-swap mib={mib} seed={seed} handle=0 wait=0");
        let mut run = Run::line(&first).option("--append", second).options(&format!("--ram {ram}"));
        for other in 0..others {
            let seed = seed + 2 + u64::from(other);
            run = run.option("--append", format!("beside=altered-swap mib={OTHER_MIB} seed={seed} handle=1 wait=0"));
        }
        Self::begin(run, seed, mib, 2 + others)
    }

    fn begin(run: Run, seed: u64, mib: u64, processes: u32) -> Self {
        Self::begin_with(run, seed, (mib, reduced_or_full(96, 512)), processes)
    }

    fn begin_with(run: Run, seed: u64, (mib, area_mib): (u64, u64), processes: u32) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = image_in(&scratch);
        create_swap_image(&path, Pages(area_mib * SLOTS_PER_MIB)).expect("a swap image");
        let image = OpenOptions::new().read(true).write(true).open(&path).expect("the image");
        let mut run = run.option("--swap", path).swap_drive(&qmp::name_swap()).begin();
        for _ in 0..processes {
            run.wait_for("READY");
        }
        run.monitor().execute("stop");
        Self { scratch, image, run, content: Content::new(seed, 100), pages: mib * SLOTS_PER_MIB }
    }

    /// The image.
    pub fn path(&self) -> PathBuf {
        image_in(&self.scratch)
    }

    /// Pages of the program.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// For what is done to the disk.
    pub fn monitor(&self) -> Monitor {
        self.run.monitor()
    }

    /// The pages that are in slots, in the order of the slots.
    pub fn found(&self) -> Vec<Found> {
        let by_tag: HashMap<u64, u64> = (0..self.pages).map(|page| (self.content.tag(page), page)).collect();
        let length = self.image.metadata().expect("its length").len();
        let slots = (SLOT as u64..length).step_by(SLOT).map(|at| {
            let mut word = [0; 8];
            self.image.read_exact_at(&mut word, at).expect("a word");
            (at, u64::from_le_bytes(word))
        });
        slots.filter_map(|(at, tag)| Some(Found { page: *by_tag.get(&tag)?, at })).collect()
    }

    /// So many of the pages that are in slots, spread over all of them: some may be in memory as well, and stay there.
    pub fn some(&self, count: usize) -> Vec<Found> {
        let found = self.found();
        assert!(found.len() >= count, "{} pages are on disk", found.len());
        let step = found.len() / count;
        found.into_iter().step_by(step).take(count).collect()
    }

    /// So many pages of the first half, spread over them. A page that has been written to the disk is not in memory: the
    /// program has read none back, and what was on its way when it stopped is of the other half.
    pub fn oldest(&self, count: usize) -> Vec<Found> {
        let mut found = self.found();
        found.retain(|found| found.page < self.pages / 2);
        found.sort_by_key(|found| found.page);
        found.dedup_by_key(|found| found.page);
        assert!(found.len() >= count, "only {} pages of the first {} are on disk", found.len(), self.pages / 2);
        let step = found.len() / count;
        found.into_iter().step_by(step).take(count).collect()
    }

    /// What a slot holds.
    pub fn read(&self, at: u64) -> Bytes {
        let mut bytes = [0; SLOT];
        self.image.read_exact_at(&mut bytes, at).expect("a slot");
        bytes
    }

    /// Changes what a slot holds.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.image.write_all_at(bytes, at).expect("a slot");
    }

    /// What a page holds by the program's rule.
    pub fn expected(&self, page: u64) -> Bytes {
        let mut bytes = [0; SLOT];
        self.content.bytes(page, &mut bytes);
        bytes
    }

    /// Cuts the image off.
    pub fn truncate(&self, length: u64) {
        self.image.set_len(length).expect("a shorter image");
    }

    /// Lets machine and program go on, to the program's end.
    pub fn finish(mut self) -> Finished {
        self.run.monitor().execute("cont");
        self.run.send(b"go on\n");
        self.run.close_stdin();
        self.run.finish()
    }
}

fn image_in(scratch: &TempDir) -> PathBuf {
    scratch.path().join("swap.img")
}

/// Which pages these are.
pub fn pages(found: &[Found]) -> BTreeSet<u64> {
    found.iter().map(|found| found.page).collect()
}

/// The pages that the program says it has lost.
pub fn lost(run: &Finished) -> BTreeSet<u64> {
    let text = run.text();
    text.lines().filter_map(|line| line.strip_prefix("BUS page=")?.split(' ').next()?.parse().ok()).collect()
}
