//! The table: every capability that the memory manager is measured by, one row each.
//!
//! Owns: the rows' ids, which never change, their sentences and the facility by which each is had. Neighbour: `super`, which
//! says what the columns mean.

use super::{Plan, Row};

const fn row(id: &'static str, what: &'static str, how: &'static str) -> Row {
    Row { id, what, how, plan: Plan::Checked }
}

const fn same(id: &'static str, what: &'static str, how: &'static str, rows: &'static [&'static str]) -> Row {
    Row { id, what, how, plan: Plan::CheckedAs(rows) }
}

const fn unplanned(id: &'static str, what: &'static str, reason: &'static str) -> Row {
    Row { id, what, how: reason, plan: Plan::NotPlanned }
}

const fn later(id: &'static str, what: &'static str, reason: &'static str) -> Row {
    Row { id, what, how: reason, plan: Plan::Later }
}

/// P: what Phobos describes.
const P: &[Row] = &[
    row("P1", "kernel memory in any size and alignment", "`GlobalAlloc` over slabs over the buddy allocator"),
    row("P2", "typed caches know where each of their objects was made", "`/proc/slabinfo`"),
    row("P3", "an object that stays alone makes no cache", "the hint of the heap"),
    row("P4", "few empty slabs are kept, and none when asked", "hysteresis and shrinker"),
    row("P5", "an address space is a map of areas with a page table", "`mm::space`"),
    row("P6", "submaps limit allocations", "nested ranges"),
    row("P7", "one buddy allocator for ranges of anything, in any length", "`mm::range`"),
    row("P8", "every area is a record", "`/proc/self/maps`"),
    row("P9", "reserved space costs nothing and cannot be touched", "`PROT_NONE`, `Committed_AS`"),
    row("P10", "space without contents", "areas that hold no object"),
    row("P11", "a memory object can be mapped", "`MAP_SHARED`"),
    row("P12", "an object in two spaces is one memory", "`MAP_SHARED`"),
    row("P13", "windows of an object", "offset and length of `mmap`"),
    row("P14", "space and pages at once", "`MAP_POPULATE`, `mincore`"),
    row("P15", "space now, pages when touched", "`mmap`, `mincore`"),
    row("P16", "one way to free for all kinds, in parts too", "`munmap`"),
    row("P17", "holes that allocation goes round", "`MAP_FIXED_NOREPLACE`"),
    row("P18", "the layout in the documentation is the layout of the machine", "live tables"),
    row("P19", "every frame is in one queue, and the queues' lengths add up", "counters"),
    row("P20", "one contract for all pagers, many pages at a time", "`BackingStore`"),
    same("P21", "a program's heap on nothing but pages", "`mmap`, `brk`; as M11", &["M11"]),
    row("P22", "device registers are never cached and never reclaimed", "PAT"),
    row("P23", "a completion between request and first wait is not lost", "waker before submission"),
];

/// X: what Phoenix-RTOS describes.
const X: &[Row] = &[
    row("X1", "every frame has an owner, and the owners add up", "the frame table"),
    row("X2", "frames in runs, found and merged in logarithmic time", "`/proc/buddyinfo`"),
    row("X3", "a free range among very many areas is found fast", "a tree that knows the largest gap"),
    row("X4", "equal neighbours become one area", "`mmap`, `mprotect`"),
    row("X5", "freeing needs no memory", "reserves, an allocator that always fails"),
    row("X6", "the same memory manager on machine and simulator", "`mm::platform::PageTable`"),
    row("X7", "zones of equal chunks", "`Zone`"),
    same("X8", "objects of powers of two, empty zones given back", "as P4", &["P4"]),
    row("X9", "a program is loaded page by page as it runs", "file mappings"),
    row("X10", "those who only read share, those who write have copies", "`smaps_rollup`"),
    row("X11", "chains of forks cost what is alive in them", "counted pages instead of shadow chains"),
    row("X12", "a fixed mapping over another one fails if asked to", "`MAP_FIXED_NOREPLACE`"),
    row("X13", "pages at once or when needed", "`MADV_POPULATE_READ`, `MADV_POPULATE_WRITE`"),
    row("X14", "a program serves the pages of another mapping", "`userfaultfd`"),
    row("X15", "written pages reach the file: synced, under pressure, at the end", "`msync`"),
    row("X16", "what `/proc` says about memory adds up", "`meminfo`, `smaps`, `pagemap`"),
    row("X17", "a group of processes has a limit of its own", "cgroup2: `memory.max`, `memory.swap.max`"),
    later("X18", "shared libraries", "dynamic executables are refused with a sentence"),
    unplanned("X19", "a machine without an MMU", "the simulator is the other architecture"),
    row("X20", "what changes while a fault waits is seen, and a page is read once", "looking up again"),
];

/// M: what The Möbius describes.
const M: &[Row] = &[
    row("M1", "pages are uncommitted, committed or paged out, and counted so", "`pagemap`, `vmstat`"),
    row("M2", "the first access commits, and reading alone needs no frame", "the shared frame of zeroes"),
    row("M3", "only what was written is written out", "the dirty bit"),
    row("M4", "clean pages are dropped, dirty ones go to their own file or to swap", "counters"),
    row("M5", "the first page is never mapped", "`mmap_min_addr`"),
    row("M6", "user space ends where it says", "errno at the limits"),
    row("M7", "executables are loaded by segments, and damaged ones refused", "ELF"),
    row("M8", "a program that can stand anywhere does", "static-PIE, randomised bases"),
    row("M9", "a wish for an address is met or moved nearby", "`mmap` with a hint"),
    row("M10", "only whole blocks are freed, and only one's own", "`vm_free`"),
    row("M11", "allocators of others work unmodified", "glibc, musl"),
    row("M12", "shared memory is swapped once", "`memfd_create`"),
    row("M13", "frames are zeroed while nobody needs the processor", "`pgzero_pre`"),
    row("M14", "any amount of RAM", "boots of many sizes"),
];

/// A: what Azalea describes.
const A: &[Row] = &[
    row("A1", "frames, spaces and tables do not know each other", "the graph of modules"),
    row("A2", "a space per process, frames for all", "`mm::space`, `mm::frame`"),
    row("A3", "a bit per frame, and another page size compiles", "`mm::addr`"),
    row("A4", "every way to free wrongly is named", "typed errors"),
    same("A5", "a buddy allocator for addresses", "as P7", &["P7"]),
    same("A6", "how a mapping is cached is part of its rights", "as A8", &["A8"]),
    same("A7", "the kernel's heap runs on the host", "as P1 to P4", &["P1", "P3", "P4"]),
    row("A8", "one setup of the page attribute table throughout", "MSR 0x277"),
    row("A9", "the kernel's half is the same in every space", "top-level entries filled at boot"),
    unplanned("A10", "NUMA", "one node"),
    row("A11", "every test ends without a leak", "the simulator's inspection"),
    row("A12", "a poll that takes too long is measured and named", "`poll_max_us`, the log"),
];

/// N: what OSDev-Notes describes.
const N: &[Row] = &[
    row("N1", "an allocation of five bytes goes down through every layer", "a trace"),
    row("N2", "every usable frame is managed once", "the memory map"),
    row("N3", "memory that is not usable is never given out", "the memory map"),
    row("N4", "frames in magazines by processor", "two marks, stealing; host tests, the kernel has one processor"),
    same("N5", "one upper half for all", "as A9", &["A9"]),
    same("N6", "whoever asks for memory need not know how it comes", "page faults; as M1", &["M1"]),
    row("N7", "segments are flat", "GDT"),
    row("N8", "programs cannot harm each other or the kernel", "NX, W^X, SMEP, SMAP, UMIP"),
    row("N9", "one process's idle memory serves another", "global reclaim"),
    row("N10", "heaps can be chained, and compared", "list, buddy, slab"),
    row("N11", "a heap takes any size", "1 byte to 1 GiB"),
    row("N12", "the end of a process returns all it had", "frames, slots and tables as after boot"),
    row("N13", "neighbours of a page come with it", "fault-around"),
];

/// G: the project's own line.
const G: &[Row] = &[
    row("G1", "a program that computes never stops the pager", "time slices"),
    row("G2", "while one fault waits others are served", "faults are futures"),
    row("G3", "dirty pages are on the swap disk, byte for byte", "the raw image"),
    row("G4", "what was synced survives a power cut", "`msync`, FLUSH, `e2fsck`"),
    row("G5", "one command boots, presses, reports and judges", "`just run`"),
];

/// E: what exhausts memory, and U: what we promise then.
const E: &[Row] = &[
    row(
        "E1",
        "any frame allocation may fail, and nothing is lost",
        "retries, reserves; once and for good, `fail_frame=`",
    ),
    row("E2", "pages leave while every allocation fails", "everything page-out needs is there from the start"),
    row(
        "E3",
        "when memory has run out the worst program ends, one at a time, and the first one last",
        "`oom_score_adj`",
    ),
    row("E4", "after a fork bomb everything is as before it", "limits; frames, slots and tables as before"),
    row("E5", "page tables are no way to use up memory", "a cache that gives way like pages"),
    row("E6", "one area too many is refused, and its program lives", "`max_map_count`"),
    row("E7", "locking ends before the machine is stuck", "`RLIMIT_MEMLOCK`, a share of RAM"),
    row("E8", "with twelve usable frames every instruction comes to its end", "pages held for the fault they came for"),
    row(
        "E9",
        "a thousand who wait for one page are one read; who wait for frames have them in turn",
        "one operation a page; a queue",
    ),
    row("E10", "what happens to a page or its space while a fault waits is seen", "looking up again"),
    row("U5", "how many reads more RAM would save is told, and how many any policy would need", "`more_ram`, `belady`"),
    same("U7", "page-out needs no memory", "as E2", &["E2"]),
    row("U9", "the end of a program for want of memory is explained", "a record that programs can read"),
];

/// F: what goes wrong with the disk that is swapped to.
const F: &[Row] = &[
    row("F1", "a slot that cannot be read costs its owners that page", "one retry; `SIGBUS` with the address"),
    row("F2", "a slot that cannot be written costs nothing", "the page stays; the bad slot is found and retired"),
    row("F3", "a disk without room, or shorter than it was, loses what is not there and nothing else", "as F1 and F2"),
    row("F4", "a disk that does not answer holds up who waits for it, and is named", "`disk_timeout_ms=`, the log"),
    row("F5", "a page of which half was written is never taken for whole", "audited swap"),
    row("F6", "a flipped bit is found", "audited swap"),
    row("F7", "a slot that is another's, old, or from another boot is found", "audited swap"),
    row("F8", "a device that breaks the protocol is reset, and every request ends once", "the driver"),
    row("F9", "with swap full what needs none goes on", "files' pages leave; else as E3"),
    row("F13", "what programs had in memory cannot be read off the disk", "`swap.encrypt=on`"),
    row("F14", "a disk that is not ours is refused with the reason and left alone", "the header of `mkswap`"),
];

/// The groups, in the order of the documentation.
pub(super) const GROUPS: &[(&str, &[Row])] = &[
    ("Phobos", P),
    ("Phoenix-RTOS", X),
    ("The Möbius", M),
    ("Azalea", A),
    ("OSDev-Notes", N),
    ("Of our own", G),
    ("Exhaustion", E),
    ("Faults of the disk", F),
];
