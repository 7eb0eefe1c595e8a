//! `just bench`: the figures of this kernel, beside Linux' in the same machine, as a table in Markdown.
//!
//! Owns: the order of the measurements and where the table goes (standard output and `target/benchmarks.md`). Neighbours:
//! `measure` takes the figures, `linux` has the ones to compare with, `profile` says which functions they are made of. No figure here is a wall time: those need many
//! rounds on a quiet host. Instructions and sizes repeat exactly; paging counts repeat to a few per cent.

mod linux;
mod measure;
mod profile;

use std::fmt::Write;

use tests::harness::Finished;

use measure::{Counts, Pattern};

/// A line of the table.
struct Row {
    what: String,
    ours: String,
    linux: &'static str,
}

fn row(what: impl Into<String>, ours: impl ToString, linux: &'static str) -> Row {
    Row { what: what.into(), ours: ours.to_string(), linux }
}

fn instructions() -> Vec<Row> {
    let (fault, call, boot) =
        (measure::fault_instructions(), measure::call_instructions(), measure::boot_instructions());
    vec![
        row("instructions per anonymous 4 KiB fault, with its share of mmap and munmap", fault, linux::FAULT),
        row("instructions per null system call", call, linux::NULL_CALL),
        row("instructions from the kernel's entry to the first of the program", boot, linux::BOOT),
    ]
}

fn paging() -> Vec<Row> {
    let populate = measure::run(&Pattern::POPULATE_ONLY);
    let mut rows = Vec::new();
    for pattern in &Pattern::ALL {
        let linux = linux::paging(pattern.name);
        let run = measure::run(pattern);
        let Counts { major, swapped_in, swapped_out, resident, writes } = Counts::of(&run, pattern, &populate);
        let name = pattern.name;
        rows.push(row(format!("{name}: major faults"), major, linux.major));
        rows.push(row(format!("{name}: pages read from swap"), swapped_in, linux.swapped_in));
        rows.push(row(
            format!("{name}: pages per swap write request"),
            ratio(swapped_out, writes),
            linux.pages_per_write,
        ));
        rows.push(row(format!("{name}: resident pages of the program"), resident, linux.resident));
        if name == "random" {
            rows.push(row("random: p99.9 of one touch, µs", tail_us(&run), linux::RANDOM_TAIL));
        }
    }
    rows
}

fn ratio(pages: u64, requests: u64) -> String {
    format!("{:.1}", pages as f64 / requests.max(1) as f64)
}

/// From the workload's own measurement of every touch, in ticks of the time stamp counter.
fn tail_us(run: &Finished) -> String {
    let (ticks, hz) = (run.value("LATENCY kind=random", "p999"), run.count("boot/tsc_hz"));
    format!("{:.0}", ticks as f64 * 1e6 / hz as f64)
}

fn limits() -> Vec<Row> {
    vec![
        row(
            "smallest `--ram` that ends `random mib=32 ops=8192` well, MiB",
            measure::least_ram_mib(),
            linux::LEAST_RAM,
        ),
        row("largest `lazy gib=` that ends well in 64 MiB", measure::largest_reservation_gib(), linux::RESERVATION),
    ]
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("| figure | Ebb | Linux |\n|---|---:|---:|\n");
    for Row { what, ours, linux } in rows {
        writeln!(text, "| {what} | {ours} | {linux} |").expect("a string takes it");
    }
    text
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => benchmarks(),
        Some("profile") => print!("{}", profile::table()),
        Some(other) => {
            eprintln!("bench: {other}: there is `profile`, and nothing for all figures");
            std::process::exit(2);
        }
    }
}

fn benchmarks() {
    let conditions = "64 MiB of RAM, working set 128 MiB, 1 GiB of swap, unless said otherwise; every page verified";
    let mut text = format!("# Benchmarks\n\n`just bench` makes this table: {conditions}.\n{}\n\n", linux::SOURCE);
    print!("{text}");
    for part in [instructions, limits, paging] {
        let rows = part();
        let part = table(&rows) + "\n";
        print!("{part}");
        text.push_str(&part);
    }
    let path = tests::source::root().join("target/benchmarks.md");
    match std::fs::write(&path, text) {
        Ok(()) => eprintln!("written to {}", path.display()),
        Err(error) => eprintln!("{}: {error}", path.display()),
    }
}
