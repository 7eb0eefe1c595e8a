//! Claim (X16, P8, P19): what `/proc` says about memory has the format of proc(5) and adds up, before, under and after
//! pressure: lines with each other, files with each other, and all with what this program knows of its own memory.
//!
//! Files are read one after the other, and the machine goes on meanwhile; so what is compared exactly comes from one file,
//! and what is compared between files is read until it stands still.

mod machine;
mod process;
mod shared;
mod text;

use std::process::ExitCode;

use workloads::claim::Claims;
use workloads::content::Content;
use workloads::mapping::{Charge, Mapping};

const PAGES_PER_MIB: u64 = 256;

fn main() -> ExitCode {
    let mut mib = 4;
    workloads::arguments::parse(
        "reads /proc and adds up, also while mib MiB are touched: pressure, if there is less RAM",
        &mut [("mib", &mut mib)],
    );
    let mut claims = Claims::new("proc-sums");
    check(&mut claims, "at the start");
    let content = Content::new(1, 50);
    let memory = Mapping::anonymous(mib * PAGES_PER_MIB, Charge::Committed).expect("mmap");
    let all = memory.pages() as u64;
    claims.equal(
        "pages of a new mapping in pagemap: untouched, present, swapped",
        process::pages(&memory),
        [all, 0, 0],
    );
    for page in 0..memory.pages() {
        content.write(page as u64, memory.page_to_write(page));
    }
    check(&mut claims, "under pressure");
    let [untouched, present, swapped] = process::pages(&memory);
    claims.equal("pages that were touched and are not in pagemap", (untouched, present + swapped), (0, all));
    for page in 0..memory.pages() {
        claims_content(&mut claims, &content, &memory, page);
    }
    check(&mut claims, "after reading back");
    machine::check_stalls(&mut claims, swapped);
    let arguments: String = std::env::args().map(|word| word + "\0").collect();
    claims.equal("cmdline", text::read("/proc/self/cmdline"), arguments);
    drop(memory);
    check(&mut claims, "at the end");
    shared::check(&mut claims);
    claims.finish(format_args!("swapped={swapped}"))
}

fn check(claims: &mut Claims, when: &str) {
    machine::check(claims, when);
    process::check(claims, when);
    process::check_frames(claims, when);
}

fn claims_content(claims: &mut Claims, content: &Content, memory: &Mapping, page: usize) {
    if content.verify(page as u64, memory.page(page)).is_err() {
        claims.holds(format_args!("page {page} reads as it was written"), false);
    }
}
