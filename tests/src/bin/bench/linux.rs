//! What Linux does in the same machine: the figures to compare with.
//!
//! They were taken once and are constants: Linux 7.2 built as small as it goes (no modules, no SMP, no mitigations, PVH
//! entry), each workload at its best settings, the same QEMU command line, 64 MiB of RAM, 128 MiB of working set.

/// Says where the column comes from.
pub const SOURCE: &str =
    "Linux: the measured Linux 7.2 baseline, smallest configuration, best settings for each workload.";

pub const FAULT: &str = "3290";
pub const NULL_CALL: &str = "218";
pub const BOOT: &str = "62 000 000";
pub const LEAST_RAM: &str = "30";
pub const RESERVATION: &str = "< 48";
pub const RANDOM_TAIL: &str = "1500";

/// Paging counts of one workload.
pub struct Paging {
    pub major: &'static str,
    pub swapped_in: &'static str,
    pub pages_per_write: &'static str,
    pub resident: &'static str,
}

/// The run phase of a workload; write requests are those of the whole run without populating.
pub fn paging(name: &str) -> Paging {
    let (major, swapped_in, pages_per_write, resident) = match name {
        "seq-write" => ("2567", "66293", "17", "11126"),
        "random" => ("42706", "42709", "1.0", "10161"),
        "zipf" => ("22928", "22963", "1.0", "10845"),
        "hot-cold" => ("11830", "11852", "1.0", "11085"),
        other => unreachable!("no figures for {other}"),
    };
    Paging { major, swapped_in, pages_per_write, resident }
}
