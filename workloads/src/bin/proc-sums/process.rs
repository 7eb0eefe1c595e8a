//! The files about one process: each read again, and the sums over its areas.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use workloads::claim::Claims;
use workloads::mapping::{Mapping, PAGE_SIZE};

use super::machine::is_exact;
use super::text::{read, values};

/// The fields of an area in `smaps` that are sums of pages.
const SUMS: [&str; 9] =
    ["Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Anonymous", "Swap", "SwapPss"];

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Areas of `smaps`: the line of `maps`, and the fields.
fn areas(text: &str) -> Vec<(String, BTreeMap<String, u64>)> {
    let mut areas: Vec<(String, BTreeMap<String, u64>)> = Vec::new();
    for line in text.lines() {
        // An area's line begins with its addresses, a field's with a capital letter.
        if line.starts_with(|first: char| first.is_ascii_uppercase() || first == 'T') {
            if let Some((_, fields)) = areas.last_mut() {
                fields.extend(values(line));
            }
        } else {
            areas.push((line.to_owned(), BTreeMap::new()));
        }
    }
    areas
}

/// P8: a line for each area, in order, none over another.
fn check_maps(claims: &mut Claims, when: &str) {
    let text = read("/proc/self/maps");
    let mut end = 0;
    for line in text.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let range = words.first().and_then(|range| range.split_once('-'));
        let address = |text| u64::from_str_radix(text, 16).ok();
        let range = range.and_then(|(start, end)| Some((address(start)?, address(end)?)));
        let rights = words.get(1).is_some_and(|rights| {
            rights.len() == 4 && rights.chars().zip(["r-", "w-", "x-", "sp"]).all(|(c, of)| of.contains(c))
        });
        let form = words.len() >= 5 && rights && words[3].contains(':');
        let in_order = range.is_some_and(|(from, to)| end <= from && from < to && from % PAGE_SIZE as u64 == 0);
        claims.holds(format_args!("{when}: a line of maps: {line:?}"), form && in_order);
        end = range.map_or(end, |(_, end)| end);
    }
    claims.holds(format_args!("{when}: maps has lines"), end > 0);
}

/// What `smaps` says, summed up, is what `smaps_rollup`, `status` and `statm` say.
fn check_smaps(claims: &mut Claims, when: &str) {
    let smaps = areas(&read("/proc/self/smaps"));
    let rollup = values(&read("/proc/self/smaps_rollup"));
    let status = values(&read("/proc/self/status"));
    let maps = read("/proc/self/maps");
    claims.equal(format_args!("{when}: areas in smaps and maps"), smaps.len(), maps.lines().count());
    let sum = |field: &str| smaps.iter().map(|(_, fields)| fields.get(field).copied().unwrap_or(0)).sum::<u64>();
    for (line, fields) in &smaps {
        let of = |field: &str| fields.get(field).copied().unwrap_or(u64::MAX / 8);
        let parts = of("Shared_Clean") + of("Shared_Dirty") + of("Private_Clean") + of("Private_Dirty");
        claims.equal(format_args!("{when}: Rss of {line:?}"), of("Rss"), parts);
        let fits = of("Rss") <= of("Size") && of("Pss") <= of("Rss");
        claims.holds(format_args!("{when}: Pss <= Rss <= Size of {line:?}"), fits);
    }
    if !is_exact() {
        return;
    }
    for field in SUMS {
        // Pages come and go between two reads, a few of the program's own.
        let (sum, total) = (sum(field), rollup.get(field).copied().unwrap_or(0));
        claims.holds(format_args!("{when}: sum of {field}: {sum}, rollup {total}"), sum.abs_diff(total) <= 256);
    }
    let (size, rss) = (sum("Size"), sum("Rss"));
    claims.equal(format_args!("{when}: VmSize"), status["VmSize"], size);
    claims.holds(format_args!("{when}: VmRSS {}, {rss}", status["VmRSS"]), status["VmRSS"].abs_diff(rss) <= 256);
    let swap = sum("Swap");
    claims.holds(format_args!("{when}: VmSwap {}, {swap}", status["VmSwap"]), status["VmSwap"].abs_diff(swap) <= 256);
}

pub fn check(claims: &mut Claims, when: &str) {
    check_maps(claims, when);
    check_smaps(claims, when);
    let stat = read("/proc/self/stat");
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    claims.equal(format_args!("{when}: fields of stat"), fields.split_ascii_whitespace().count(), 50);
    let statm = read("/proc/self/statm");
    claims.equal(format_args!("{when}: fields of statm"), statm.split_ascii_whitespace().count(), 7);
    let listed: Vec<_> = std::fs::read_dir("/proc/self").expect("a directory").flatten().collect();
    let has = |name: &str| listed.iter().any(|entry| entry.file_name() == name);
    claims.holds(format_args!("{when}: /proc/self has its files"), ["exe", "maps", "stat"].into_iter().all(has));
    let own = std::process::id().to_string();
    let mut all = std::fs::read_dir("/proc").expect("a directory").flatten();
    claims.holds(format_args!("{when}: /proc has {own}"), all.any(|entry| entry.file_name() == *own));
    let target = std::fs::read_link("/proc/self").expect("a link");
    claims.equal(format_args!("{when}: /proc/self"), target.to_str(), Some(own.as_str()));
}

/// Pages of a mapping by what `pagemap` says: never touched, present, in swap.
pub fn pages(memory: &Mapping) -> [u64; 3] {
    let file = File::open("/proc/self/pagemap").expect("pagemap");
    let mut counts = [0; 3];
    let first = memory.address() / PAGE_SIZE;
    let mut buffer = [0; 4096];
    for chunk in (0..memory.pages()).step_by(512) {
        let length = 8 * 512.min(memory.pages() - chunk);
        file.read_exact_at(&mut buffer[..length], 8 * (first + chunk) as u64).expect("entries");
        for entry in buffer[..length].chunks_exact(8) {
            let entry = u64::from_ne_bytes(entry.try_into().expect("eight bytes"));
            counts[if entry & PRESENT != 0 {
                1
            } else if entry & SWAPPED != 0 {
                2
            } else {
                0
            }] += 1;
        }
    }
    counts
}

/// X1: every frame has an owner, and the owners add up.
pub fn check_frames(claims: &mut Claims, when: &str) {
    if !is_exact() {
        return;
    }
    let zone = values(&read("/proc/zoneinfo"));
    let map = read("/proc/ebb_frames");
    let again = values(&read("/proc/zoneinfo"));
    let count = |letters: &str| {
        let frames = map.lines().filter_map(|line| line.split_once(": ")).map(|(_, frames)| frames);
        frames.map(|frames| frames.chars().filter(|letter| letters.contains(*letter)).count() as u64).sum::<u64>()
    };
    let mut near = |what: &str, found: u64, name: &str| {
        let (least, most) = (zone[name].min(again[name]), zone[name].max(again[name]));
        // Reading takes pages itself.
        let holds = found + 64 >= least && found <= most + 64;
        claims.holds(format_args!("{when}: {what} frames: {found}, by {name} {least} to {most}"), holds);
    };
    near("free", count("."), "ebb_free");
    near("resident", count("CD"), "ebb_active");
    near("filling", count("F"), "ebb_filling");
    near("orphaned", count("O"), "ebb_orphaned");
}
