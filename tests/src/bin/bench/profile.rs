//! `just bench profile`: which functions of the kernel the instructions of a fault are spent in.
//!
//! Owns: QEMU's log of every block of instructions that is run (`-d exec,nochain,in_asm`), read through a pipe while it
//! is written, and the names of the kernel's functions. Two runs that differ only in the number of faults are
//! subtracted, so that boot, start and end do not count. Neighbour: `cases`, whose totals these tables break down.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use object::{Object as _, SymbolMap, SymbolMapName};
use tests::harness::{Artifacts, Run};

/// Where the kernel's half of the address space begins.
const KERNEL: u64 = 1 << 63;
/// Functions below so many instructions an event are summed up.
const LEAST: f64 = 1.5;

/// What a table is about: a program that does it a few times, and the same one that does it more often.
#[derive(Debug)]
pub struct Event {
    name: &'static str,
    few: &'static str,
    many: &'static str,
    /// Of the run phase: how often it was done.
    counted: &'static str,
    options: &'static str,
    /// One instruction a tick, so that nothing depends on time; without a disk, which does.
    qemu: &'static str,
}

/// The first write to a page.
pub const MINOR: Event = Event {
    name: "anonymous 4 KiB fault, with its share of mmap and munmap",
    few: "fault mib=8 passes=1",
    many: "fault mib=8 passes=9",
    counted: "units",
    options: "--swap none",
    qemu: "-icount shift=0,sleep=off",
};

/// A page that is read from swap, and its share of those that are written for it.
pub const MAJOR: Event = Event {
    name: "major fault, with its share of page-out; a string instruction is one",
    few: "random mib=32 ops=2000",
    many: "random mib=32 ops=14000",
    counted: "pgmajfault",
    options: "--ram 20M --swap 256M",
    qemu: "",
};

/// Instructions run, by the address of the block's first.
type Counts = HashMap<u64, u64>;

/// The table.
pub fn table(event: &Event, append: &[String]) -> String {
    let (few, before) = profile(event, event.few, append);
    let (many, after) = profile(event, event.many, append);
    let events = (after - before).max(1) as f64;
    let data = std::fs::read(&Artifacts::release().kernel).expect("the kernel's file");
    let symbols = object::File::parse(&*data).expect("an ELF file").symbol_map();
    let mut functions: HashMap<String, f64> = HashMap::new();
    for (address, count) in &many {
        let more = *count as f64 - few.get(address).copied().unwrap_or(0) as f64;
        *functions.entry(name(&symbols, *address)).or_default() += more / events;
    }
    let mut rows: Vec<_> = functions.into_iter().collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = format!("| instructions of one {} | |\n|---|---:|\n", event.name);
    for (name, count) in rows.iter().filter(|(_, count)| *count >= LEAST) {
        writeln!(text, "| `{name}` | {count:.0} |").expect("a string takes it");
    }
    let rest: f64 = rows.iter().map(|(_, count)| *count).filter(|count| *count < LEAST).sum();
    let all: f64 = rows.iter().map(|(_, count)| *count).sum();
    writeln!(text, "| the rest | {rest:.0} |\n| all | {all:.0} |").expect("a string takes it");
    text
}

fn name(symbols: &SymbolMap<SymbolMapName<'_>>, address: u64) -> String {
    if address < KERNEL {
        return "the program".to_owned();
    }
    symbols.containing(address).map_or_else(
        || format!("{address:#x}"),
        |symbol| {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name()));
            name.replace('|', "\\|")
        },
    )
}

/// Makes faults; what was executed, and how many there were.
fn profile(event: &Event, arguments: &str, append: &[String]) -> (Counts, u64) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let pipe = scratch.path().join("log");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success(), "mkfifo {}: {made}", pipe.display());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || read(&pipe))
    };
    let program = format!("pressure {arguments}");
    let log = format!("{} -d exec,nochain,in_asm -D {}", event.qemu, pipe.display());
    let run = Run::with(Artifacts::release(), program.split_ascii_whitespace()).options(event.options);
    let run = append.iter().fold(run, |run, option| run.option("--append", option));
    let run = run.qemu_arguments(&log).limit_s(900).finish().expect_ok();
    let kind = arguments.split(' ').next().expect("a kind");
    (reader.join().expect("the log is read"), run.value(&format!("RESULT kind={kind} phase=run"), event.counted))
}

/// Reads the log: `IN:` begins the listing of a block that was translated, a line an instruction; `Trace` says that one
/// is run.
fn read(pipe: &Path) -> Counts {
    let mut lengths: HashMap<u64, u64> = HashMap::new();
    let mut counts = Counts::new();
    let mut listed: Option<u64> = None;
    let mut log = BufReader::with_capacity(1 << 20, File::open(pipe).expect("the pipe opens"));
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).expect("the pipe is read") > 0 {
        let text = String::from_utf8_lossy(&line);
        if let Some(trace) = text.strip_prefix("Trace ") {
            listed = None;
            // "Trace 0: HOST [BASE/ADDRESS/FLAGS/CFLAGS] NAME"
            let address = trace.split_once('[').and_then(|(_, place)| place.split('/').nth(1));
            if let Some(address) = address.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                *counts.entry(address).or_default() += lengths.get(&address).copied().unwrap_or(1);
            }
        } else if text.starts_with("IN:") {
            listed = None;
        } else if let Some((digits, _)) = text.strip_prefix("0x").and_then(|rest| rest.split_once(':'))
            && let Ok(address) = u64::from_str_radix(digits, 16)
        {
            let first = *listed.get_or_insert_with(|| {
                lengths.remove(&address);
                address
            });
            *lengths.entry(first).or_default() += 1;
        }
        line.clear();
    }
    counts
}
