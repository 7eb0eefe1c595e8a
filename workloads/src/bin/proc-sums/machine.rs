//! The files about the whole machine.

use std::collections::BTreeMap;

use workloads::claim::Claims;

use super::text::{numbers, read, values};

/// The lines that `free` and its like look for, in Linux' order.
const MEMINFO: [&str; 26] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "CommitLimit",
    "Committed_AS",
];

/// Whether this is the kernel whose figures come from one moment each and therefore agree exactly.
pub fn is_exact() -> bool {
    read("/proc/version").starts_with("Ebb")
}

pub fn check(claims: &mut Claims, when: &str) {
    check_meminfo(claims, when);
    check_times(claims, when);
    if is_exact() {
        check_queues(claims, when);
    }
}

fn check_meminfo(claims: &mut Claims, when: &str) {
    let text = read("/proc/meminfo");
    let found = values(&text);
    let missing: Vec<_> = MEMINFO.iter().filter(|name| !found.contains_key(**name)).collect();
    claims.holds(format_args!("{when}: lines of meminfo that are missing: {missing:?}"), missing.is_empty());
    let in_order = text.lines().filter_map(|line| line.split(':').next()).filter(|name| MEMINFO.contains(name));
    claims.holds(format_args!("{when}: meminfo is in Linux' order"), in_order.eq(MEMINFO));
    let kib = |name: &str| found.get(name).copied().unwrap_or(0);
    claims.holds(format_args!("{when}: free memory is part of all"), kib("MemFree") <= kib("MemTotal"));
    claims.holds(format_args!("{when}: available memory is part of all"), kib("MemAvailable") <= kib("MemTotal"));
    claims.holds(format_args!("{when}: free swap is part of all"), kib("SwapFree") <= kib("SwapTotal"));
    if !is_exact() {
        return;
    }
    let active = kib("Active(anon)") + kib("Active(file)");
    claims.equal(format_args!("{when}: Active"), kib("Active"), active);
    claims.equal(format_args!("{when}: Inactive"), kib("Inactive"), kib("Inactive(anon)") + kib("Inactive(file)"));
    let listed = kib("Active(anon)") + kib("Inactive(anon)");
    claims.equal(format_args!("{when}: anonymous pages on lists"), listed, kib("AnonPages") + kib("Shmem"));
    claims.equal(format_args!("{when}: Slab"), kib("Slab"), kib("SReclaimable") + kib("SUnreclaim"));
    let pages = kib("AnonPages") + kib("Cached");
    claims.holds(format_args!("{when}: pages are in used memory"), pages <= kib("MemTotal") - kib("MemFree"));
}

/// P19: every frame is in one queue.
fn check_queues(claims: &mut Claims, when: &str) {
    let zone = values(&read("/proc/zoneinfo"));
    let queues: BTreeMap<_, _> = zone.iter().filter(|(name, _)| name.starts_with("ebb_")).collect();
    let sum: u64 = queues.values().copied().sum();
    claims.equal(format_args!("{when}: frames in the queues {queues:?}"), Some(&sum), zone.get("managed"));
    let order = zone["min"] < zone["low"] && zone["low"] < zone["high"];
    claims.holds(format_args!("{when}: min < low < high"), order);
}

fn check_times(claims: &mut Claims, when: &str) {
    let hundredths = |text: &str| text.split(['.', ' ', '\n']).take(2).collect::<String>().parse::<u64>().unwrap_or(0);
    let before = hundredths(&read("/proc/uptime"));
    let stat = read("/proc/stat");
    let after = hundredths(&read("/proc/uptime"));
    claims.holds(format_args!("{when}: time passes: {before} {after}"), before <= after);
    let ticks: u64 = numbers(stat.lines().next().unwrap_or_default()).iter().sum();
    // Each of its numbers is rounded down.
    let near = |bound: u64| format!("{when}: the times of the CPU add up: {ticks} of {before} to {after}, {bound}");
    if is_exact() {
        claims.holds(near(10), ticks + 10 >= before && ticks <= after + 10);
    }
    for name in ["cpu0", "intr", "ctxt", "btime", "processes", "procs_running", "procs_blocked"] {
        claims.holds(format_args!("{when}: stat has {name}"), stat.lines().any(|line| line.starts_with(name)));
    }
    let load = read("/proc/loadavg");
    let words: Vec<_> = load.split_ascii_whitespace().collect();
    let decimal = |word: &&str| word.split_once('.').is_some_and(|(_, part)| part.len() == 2);
    claims.holds(format_args!("{when}: loadavg {load:?}"), words.len() == 5 && words[..3].iter().all(decimal));
}

/// A stall of one thread of one is a stall of all; who had to wait for pages from swap has been stalled.
pub fn check_stalls(claims: &mut Claims, swapped: u64) {
    if !is_exact() {
        return;
    }
    let text = read("/proc/pressure/memory");
    let total = |kind: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
        line.rsplit_once("total=").and_then(|(_, total)| total.parse().ok()).unwrap_or(0)
    };
    let (some, full) = (total("some"), total("full"));
    let was_stalled = full > 0 || swapped == 0;
    claims.holds(format_args!("stalled for {some} us, wholly for {full} us"), some >= full && was_stalled);
    let form = |line: &str| ["avg10=", "avg60=", "avg300=", "total="].iter().all(|word| line.contains(word));
    claims.holds(format_args!("pressure has its form: {text:?}"), text.lines().count() == 2 && text.lines().all(form));
    let swaps = read("/proc/swaps");
    let areas = swaps.lines().skip(1).count();
    claims.holds(format_args!("one swap area: {swaps:?}"), areas == 1 && swaps.starts_with("Filename\t"));
}
