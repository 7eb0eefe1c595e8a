//! Appends records to a file and makes each durable before it begins the next, by turns with fsync(2) and fdatasync(2);
//! every fourth record also changes a page of a mapped file, made durable by msync(2). Claim: none about itself; whoever
//! cuts the power can tell from what is on the disk which records must be whole.
//!
//! With `remount=R` the file system is mounted anew after every R records. Record N is `bytes` long and holds its number in every word. The mapped file's word 0 is the number of the last
//! record that went with an msync. Works in the current directory.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::ExitCode;

use workloads::mapping::{FileView, Mapping};
use workloads::volume;

fn main() -> ExitCode {
    let (mut records, mut bytes, mut remount) = (100, 5000, 0);
    workloads::arguments::parse(
        "appends records of bytes bytes to records.dat, each made durable before the next; remounts after each remount records",
        &mut [("records", &mut records), ("bytes", &mut bytes), ("remount", &mut remount)],
    );
    let mapped =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open("mapped.dat").expect("a file");
    mapped.set_len(4096).expect("a page");
    mapped.sync_all().expect("a file that is there");
    let page = Mapping::file(&mapped, 1, FileView::WriteShared).expect("a mapping");
    let mut file = File::create("records.dat").expect("a file");
    file.sync_all().expect("a file that is there");
    for number in 1..=records {
        let record: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(bytes as usize).collect();
        file.write_all(&record).expect("a record");
        if number % 2 == 0 { file.sync_all() } else { file.sync_data() }.expect("a durable record");
        if number % 4 == 0 {
            page.page_to_write(0).write(0, number);
            page.sync().expect("a durable page");
        }
        println!("SYNCED {number}");
        if remount != 0 && number % remount == 0 {
            volume::remount(c"/").expect("the disk is mounted anew");
        }
    }
    println!("OK sync-writer records={records}");
    ExitCode::SUCCESS
}
