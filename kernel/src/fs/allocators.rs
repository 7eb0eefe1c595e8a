//! `/proc/slabinfo` and `/proc/buddyinfo`: what the kernel's allocators hold.
//!
//! Owns the texts, in Linux' format (proc(5), slabinfo(5)). Counts come from `heap`, `cache` and `frames`.

use core::fmt::{Result, Write};

use mm::heap::ClassStats;

use crate::cache::{CACHES, Cache, Counts};
use crate::{frames, heap};

/// Linux' heading; we have nothing to tune.
const HEADING: &str = "slabinfo - version: 2.1\n\
    # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> \
    : slabdata <active_slabs> <num_slabs> <sharedavail>\n";

/// A line for each size of slab, then one for each type that is counted; types share the slabs of their size.
pub(super) fn slabinfo(text: &mut dyn Write) -> Result {
    // Taken before the first byte is written: the text itself is on the heap.
    let (classes, caches) = (heap::class_stats(), CACHES.each_ref().map(Cache::counts));
    text.write_str(HEADING)?;
    for ClassStats { object, per_slab, slabs, empty, objects } in classes {
        let used = slabs - empty;
        write!(text, "kmalloc-{object:<9} {objects:>6} {:>6} {object:>6} {per_slab:>4}    1", slabs * per_slab)?;
        writeln!(text, " : tunables    0    0    0 : slabdata {used:>6} {slabs:>6}      0")?;
    }
    for (Cache { name, size, .. }, Counts { live, .. }) in CACHES.iter().zip(&caches) {
        write!(text, "{name:<17} {live:>6} {live:>6} {size:>6}    0    0")?;
        writeln!(text, " : tunables    0    0    0 : slabdata      0      0      0")?;
    }
    for (cache, counts) in CACHES.iter().zip(&caches) {
        for site in counts.sites.iter().filter(|site| site.live > 0) {
            writeln!(text, "# {} made at {}: {} live", cache.name, site.location, site.live)?;
        }
    }
    Ok(())
}

/// Free blocks of each order.
pub(super) fn buddyinfo(text: &mut dyn Write) -> Result {
    text.write_str("Node 0, zone   Normal")?;
    for blocks in frames::get().free_blocks() {
        write!(text, " {blocks:>6}")?;
    }
    writeln!(text)
}
