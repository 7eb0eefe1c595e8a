//! `/proc/PID/smaps` and `smaps_rollup` (proc_pid_smaps(5)): what the pages of each area are, and of all areas.
//!
//! Owns the sums. A page counts as resident while it has a frame, mapped or not, because page tables are a cache; one that
//! several processes have since a fork counts for each of them, and in `Pss` for its part. An object's page counts for who
//! has it mapped. So the sum of all areas is `VmRSS`, and `Pss`, summed over all processes, is the frames that they have.

use core::fmt::{self, Write};
use core::ops::AddAssign;

use mm::frame::Residence;
use mm::inspect::{Ownership, ResidentPage, Sight};
use mm::space::Vma;

use super::{KIB_PER_PAGE, Text, maps};
use crate::process::process::Process;

/// Pages are split among those who share them, down to this part of one.
const PARTS: u64 = 1 << 12;

/// What is summed up, in pages.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    size: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    anonymous: u64,
    swap: u64,
    /// In parts of a page.
    share: u64,
    dirty_share: u64,
    swap_share: u64,
}

impl Tally {
    fn add(&mut self, sight: Sight) {
        match sight {
            Sight::Resident(page) => self.add_resident(page),
            Sight::Slot(_, ownership) | Sight::Word(ownership) | Sight::Compressed(ownership) => {
                self.add_away(ownership)
            }
            // The frame of zeroes is nobody's, as on Linux; what is under way or lost is not resident.
            Sight::Zero(_) | Sight::Filling | Sight::Lost => {}
        }
    }

    /// Shared memory in swap is in nobody's share (proc_pid_smaps(5)).
    fn add_away(&mut self, ownership: Ownership) {
        self.swap += 1;
        self.swap_share += match ownership {
            Ownership::Private => PARTS,
            Ownership::Forked(spaces) => PARTS / u64::from(spaces.max(1)),
            Ownership::Object => 0,
        };
    }

    fn add_resident(&mut self, page: ResidentPage) {
        if !page.counts() {
            return;
        }
        let is_dirty = page.residence != Residence::Clean;
        let is_shared = page.sharers() > 1;
        *match (is_shared, is_dirty) {
            (false, false) => &mut self.private_clean,
            (false, true) => &mut self.private_dirty,
            (true, false) => &mut self.shared_clean,
            (true, true) => &mut self.shared_dirty,
        } += 1;
        self.anonymous += u64::from(page.ownership != Ownership::Object);
        let share = PARTS / page.sharers().max(1);
        self.share += share;
        self.dirty_share += if is_dirty { share } else { 0 };
    }

    fn resident(&self) -> u64 {
        self.shared_clean + self.shared_dirty + self.private_clean + self.private_dirty
    }

    fn write(&self, text: &mut Text) -> fmt::Result {
        let parts = |parts: u64| parts * KIB_PER_PAGE / PARTS;
        let kib = |pages: u64| pages * KIB_PER_PAGE;
        let lines = [
            ("Rss", kib(self.resident())),
            ("Pss", parts(self.share)),
            ("Pss_Dirty", parts(self.dirty_share)),
            ("Shared_Clean", kib(self.shared_clean)),
            ("Shared_Dirty", kib(self.shared_dirty)),
            ("Private_Clean", kib(self.private_clean)),
            ("Private_Dirty", kib(self.private_dirty)),
            ("Referenced", kib(self.resident())),
            ("Anonymous", kib(self.anonymous)),
            ("KSM", 0),
            ("LazyFree", 0),
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", kib(self.swap)),
            ("SwapPss", parts(self.swap_share)),
            ("Locked", 0),
        ];
        lines.iter().try_for_each(|(name, kib)| write_line(text, name, *kib))
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.size += other.size;
        self.shared_clean += other.shared_clean;
        self.shared_dirty += other.shared_dirty;
        self.private_clean += other.private_clean;
        self.private_dirty += other.private_dirty;
        self.anonymous += other.anonymous;
        self.swap += other.swap;
        self.share += other.share;
        self.dirty_share += other.dirty_share;
        self.swap_share += other.swap_share;
    }
}

fn write_line(text: &mut Text, name: &str, kib: u64) -> fmt::Result {
    let padding = 16_usize.saturating_sub(name.len() + 1);
    writeln!(text, "{name}:{:padding$}{kib:>8} kB", "")
}

async fn tally(process: &Process, area: &Vma) -> Tally {
    let mut tally = Tally { size: area.range.len(), ..Tally::default() };
    process.look(area.range, |_, sight| tally.add(sight)).await;
    tally
}

/// What `smaps` says of an area.
pub(super) async fn write_area(text: &mut Text, process: &Process, area: &Vma) -> fmt::Result {
    let tally = tally(process, area).await;
    maps::write_line(text, area, &process.executable())?;
    write_line(text, "Size", tally.size * KIB_PER_PAGE)?;
    write_line(text, "KernelPageSize", KIB_PER_PAGE)?;
    write_line(text, "MMUPageSize", KIB_PER_PAGE)?;
    tally.write(text)?;
    text.write_str("THPeligible:           0\nVmFlags:")?;
    let flags = [("rd", area.rights.access), ("wr", area.rights.write), ("ex", area.rights.execute)];
    flags.iter().filter(|(_, right)| right.is_allowed()).try_for_each(|(name, _)| write!(text, " {name}"))?;
    writeln!(text, " mr mw me ac ")
}

/// `smaps_rollup`: the same summed up.
pub(super) async fn write_rollup(text: &mut Text, process: &Process) -> fmt::Result {
    let (mut sum, mut bounds, mut next) = (Tally::default(), None, mm::addr::Vpn::new(0));
    while let Some(area) = process.area_from(next) {
        sum += tally(process, &area).await;
        bounds = Some((bounds.map_or(area.range.start, |(start, _)| start), area.range.end));
        next = area.range.end;
    }
    let Some((start, end)) = bounds else { return Ok(()) };
    let (start, end) = (start.addr().as_u64(), end.addr().as_u64());
    let begun = text.0.len();
    write!(text, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ")?;
    let padding = maps::NAME_COLUMN.saturating_sub(text.0.len() - begun);
    writeln!(text, "{:padding$}[rollup]", "")?;
    sum.write(text)
}
