//! `/proc/zoneinfo`: the watermarks, and every frame in one queue.
//!
//! Owns the text. There is one zone, because no device that we drive is limited to low memory. The lines `ebb_…` are
//! the queues that each frame is in exactly one of; their sum is `managed`, which [`mm::stats::Snapshot::check`] asserts.

use core::fmt::{self, Write};

use mm::frame::FrameKind;
use mm::stats::PageClass;

use super::{Text, meminfo};
use crate::process::memory;

pub(super) fn write(text: &mut Text) -> fmt::Result {
    let (snapshot, marks) = (memory::snapshot(), crate::mm().watermarks());
    let total = snapshot.frames.total;
    writeln!(text, "Node 0, zone   Normal")?;
    writeln!(text, "  pages free     {}", snapshot.frames.free)?;
    writeln!(text, "        min      {}\n        low      {}\n        high     {}", marks.min, marks.low, marks.high)?;
    writeln!(text, "        spanned  {total}\n        present  {total}\n        managed  {total}")?;
    writeln!(text, "      nr_free_pages {}", snapshot.frames.free)?;
    writeln!(text, "      nr_anon_pages {}", meminfo::anonymous(&snapshot))?;
    let laundry = snapshot.pages.get(PageClass::Cleaning) + snapshot.pages.get(PageClass::Evicting);
    let active = snapshot.pages.get(PageClass::Clean) + snapshot.pages.get(PageClass::Dirty);
    let used = snapshot.frames.used;
    let user = used[FrameKind::User as usize];
    let queues = [
        ("free", snapshot.frames.free as u64),
        ("active", active),
        ("laundry", laundry),
        ("filling", snapshot.pages.get(PageClass::Filling)),
        ("orphaned", snapshot.orphaned_io),
        ("wired", (used.iter().sum::<usize>() - user) as u64),
    ];
    queues.iter().try_for_each(|(name, count)| writeln!(text, "      ebb_{name} {count}"))
}
