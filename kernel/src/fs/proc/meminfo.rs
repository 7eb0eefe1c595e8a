//! `/proc/meminfo` (proc_meminfo(5)): where the memory is, in KiB.
//!
//! Owns the lines and how ours map to Linux' names. Every figure comes from one snapshot, so that they add up:
//! `Active(anon) + Inactive(anon) = AnonPages + Shmem`, and `MemTotal - MemFree` is the sum of what frames serve as.

use core::fmt::{self, Write};

use mm::frame::FrameKind;
use mm::stats::{PageClass, Snapshot};

use super::{KIB_PER_PAGE, Text};
use crate::arch::stack;
use crate::heap;
use crate::process::memory;

/// What the kernel's one stack and those for its traps take; there is none per thread.
const KERNEL_STACK_KIB: u64 = (stack::STACK_BYTES / 1024) as u64;

pub(super) fn write(text: &mut Text) -> fmt::Result {
    let snapshot = memory::snapshot();
    let pages = |class| snapshot.pages.get(class);
    let frames = |kind: FrameKind| snapshot.frames.used[kind as usize] as u64;
    let (total, free) = (snapshot.frames.total as u64, snapshot.frames.free as u64);
    // Evicting is what reclaim has given up on; everything else stands in the policy's queues.
    let writeback = pages(PageClass::Evicting) + pages(PageClass::Cleaning);
    let resident = anonymous(&snapshot);
    // Each page of an object counts once, however many have it mapped.
    let objects = memory::objects_in_ram();
    let of_files = objects.of_files.min(resident);
    let anonymous = resident - of_files;
    let shared = objects.shared.min(anonymous);
    let inactive = pages(PageClass::Evicting);
    let slab = heap::stats().slab_frames as u64;
    let (swap, swap_free) = snapshot.slots.map_or((0, 0), |slots| (u64::from(slots.total), u64::from(slots.free)));
    let mut line = |name: &str, kib: u64| write_line(text, name, kib);
    let mut in_pages = |name: &str, pages: u64| line(name, pages * KIB_PER_PAGE);
    in_pages("MemTotal", total)?;
    in_pages("MemFree", free)?;
    in_pages("MemAvailable", available(&snapshot))?;
    in_pages("Buffers", 0)?;
    in_pages("Cached", shared + of_files)?;
    in_pages("SwapCached", pages(PageClass::Clean))?;
    in_pages("Active", resident - inactive)?;
    in_pages("Inactive", inactive)?;
    in_pages("Active(anon)", anonymous - inactive.min(anonymous))?;
    in_pages("Inactive(anon)", inactive.min(anonymous))?;
    in_pages("Active(file)", of_files - inactive.saturating_sub(anonymous))?;
    in_pages("Inactive(file)", inactive.saturating_sub(anonymous))?;
    in_pages("Unevictable", 0)?;
    in_pages("Mlocked", crate::mm().all_locked_pages())?;
    in_pages("SwapTotal", swap)?;
    in_pages("SwapFree", swap_free)?;
    let tier = snapshot.tier.unwrap_or_default();
    in_pages("Zswap", tier.frames)?;
    in_pages("Zswapped", tier.pages)?;
    in_pages("Dirty", snapshot.dirty_files)?;
    in_pages("Writeback", writeback)?;
    in_pages("AnonPages", anonymous - shared)?;
    in_pages("Mapped", 0)?;
    in_pages("Shmem", shared)?;
    in_pages("KReclaimable", 0)?;
    in_pages("Slab", slab)?;
    in_pages("SReclaimable", 0)?;
    in_pages("SUnreclaim", slab)?;
    line("KernelStack", KERNEL_STACK_KIB)?;
    let mut in_pages = |name: &str, pages: u64| line(name, pages * KIB_PER_PAGE);
    in_pages("PageTables", frames(FrameKind::PageTable))?;
    in_pages("NFS_Unstable", 0)?;
    in_pages("Bounce", 0)?;
    in_pages("WritebackTmp", 0)?;
    let promises = crate::mm().promised();
    in_pages("CommitLimit", promises.limit)?;
    in_pages("Committed_AS", promises.promised)
}

/// Pages of programs in RAM, their own and those of objects, those that wait to be written out included.
pub(super) fn anonymous(snapshot: &Snapshot) -> u64 {
    use PageClass::{Clean, Cleaning, Dirty, Evicting};
    [Clean, Dirty, Cleaning, Evicting].map(|class| snapshot.pages.get(class)).iter().sum()
}

/// What a program could have without anything being written first: free frames but for the reserve, and pages whose
/// copy is still good.
fn available(snapshot: &Snapshot) -> u64 {
    let reserve = crate::mm().watermarks().min as u64;
    (snapshot.frames.free as u64).saturating_sub(reserve) + snapshot.pages.get(PageClass::Clean)
}

/// Names in 16 columns with their colon, values in 8 (Linux' `show_val_kb`).
fn write_line(text: &mut Text, name: &str, kib: u64) -> fmt::Result {
    let padding = 16_usize.saturating_sub(name.len() + 1);
    writeln!(text, "{name}:{:padding$}{kib:>8} kB", "")
}
