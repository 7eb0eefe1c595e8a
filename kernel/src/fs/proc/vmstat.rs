//! `/proc/vmstat`: counters since boot, and the states of pages now.
//!
//! Owns the names: Linux' where it has one, `ebb_…` elsewhere. The report has the same counters (`crate::report`).

use core::fmt::{self, Write};

use mm::stats::{Snapshot, VisiblePages};
use mm::tier::TierState;

use super::{KIB_PER_PAGE, Text, meminfo};
use crate::process::promptness;

/// The counters with their Linux names, and those of [`promptness`]. `kswapd` is our reclaim task; nobody else reclaims.
pub fn vmstat_counters(snapshot: &Snapshot) -> [(&'static str, u64); 45] {
    let c = &snapshot.counters;
    let kib = |pages: u64| pages * KIB_PER_PAGE;
    let [completions, completions_late, resumed, resumed_late] = promptness::counters();
    [
        ("nr_free_pages", snapshot.frames.free as u64),
        ("nr_anon_pages", meminfo::anonymous(snapshot)),
        ("pgpgin", kib(c.pswpin + c.pgfilein)),
        ("pgpgout", kib(c.pswpout + c.pgfileout)),
        ("pswpin", c.pswpin),
        ("pswpout", c.pswpout),
        ("pgalloc_normal", c.pgalloc),
        ("pgfree", c.pgfree),
        ("pgfault", c.pgfault),
        ("pgmajfault", c.pgmajfault),
        ("pgscan", c.pgscan),
        ("pgsteal", c.pgsteal),
        ("pgscan_kswapd", c.pgscan),
        ("pgsteal_kswapd", c.pgsteal),
        ("pgscan_direct", 0),
        ("pgsteal_direct", 0),
        ("allocstall_normal", c.allocstall),
        ("pgzero_pre", c.pgzero_pre),
        ("swap_ra", c.swap_ra),
        ("swap_ra_hit", c.swap_ra_hit),
        ("workingset_refault", c.workingset_refault),
        ("workingset_activate", c.workingset_activate),
        ("swpin_zero", c.swpin_zero),
        ("swpout_zero", c.swpout_zero),
        ("oom_kill", c.oom_kill),
        ("ebb_belady_reads", snapshot.judged.reads * snapshot.judged.one_in),
        ("ebb_belady_minimum", snapshot.judged.minimum * snapshot.judged.one_in),
        ("ebb_page_tables_dropped", c.ptdrop),
        ("ebb_pin_waits", c.pin_waits),
        ("ebb_swap_read_err", c.swap_read_err),
        ("ebb_swap_write_err", c.swap_write_err),
        ("ebb_swap_audit_err", c.swap_audit_err),
        ("ebb_swap_tier_out", c.tier_out),
        ("ebb_swap_tier_out_bytes", c.tier_out_bytes),
        ("ebb_swap_tier_in", c.tier_in),
        ("ebb_swap_tier_refused", c.tier_refused),
        ("ebb_swap_tier_written", c.tier_written),
        ("ebb_swap_tier_shed", c.tier_shed),
        ("ebb_swap_tier_frames", snapshot.tier.map_or(0, |tier| tier.frames)),
        ("ebb_swap_tier_on", u64::from(snapshot.tier.is_some_and(|tier| tier.state == TierState::Taking))),
        ("ebb_swap_bad_slots", snapshot.slots.map_or(0, |slots| slots.bad.into())),
        completions,
        completions_late,
        resumed,
        resumed_late,
    ]
}

/// Linux' names, and after them what Linux does not count: the four states of a page, and slots that are taken for pages to come.
pub(super) fn write(text: &mut Text, snapshot: &Snapshot) -> fmt::Result {
    let VisiblePages { uncommitted, committed_clean, committed_dirty, paged_out } = snapshot.visible;
    let states = [
        ("ebb_uncommitted", uncommitted),
        ("ebb_committed_clean", committed_clean),
        ("ebb_committed_dirty", committed_dirty),
        ("ebb_paged_out", paged_out),
        ("ebb_open_slots", snapshot.open_slots.into()),
    ];
    for (name, value) in vmstat_counters(snapshot).into_iter().chain(states) {
        writeln!(text, "{name} {value}")?;
    }
    Ok(())
}
