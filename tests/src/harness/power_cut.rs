//! Power cuts: what a disk could hold if the machine had lost its power at some moment.
//!
//! Owns: the log of a data disk's writes (QEMU's `blklogwrites`, in the format of Linux' dm-log-writes), and making an
//! image from it: everything up to the last FLUSH before the cut, and some of what came after it. A disk keeps what it
//! was told to flush; of the rest it may have written any part, in whole sectors.
//!
//! Layout (dm-log-writes.rst): a superblock in sector 0, then entries, each a header of one sector and its data.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use workloads::rng::Rng;

const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// What a disk writes whole or not at all: a sector, as those of today have them.
const PIECE: usize = 4096;

/// One entry of the log.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where on the disk, in bytes.
    at: u64,
    /// What; empty for a flush or a discard.
    pub data: Vec<u8>,
    /// Everything before it is durable when it is done.
    is_flush: bool,
}

/// The writes of one run, in the order in which the disk got them.
#[derive(Clone, Debug)]
pub struct WriteLog(pub Vec<Write>);

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..][..8].try_into().expect("eight bytes"))
}

impl WriteLog {
    /// Reads a log.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the log");
        assert_eq!(word(&bytes, 0), MAGIC, "a log of dm-log-writes");
        let mut at = SECTOR as usize;
        let mut writes = Vec::new();
        for _ in 0..word(&bytes, 2) {
            let header = &bytes[at..];
            let (sector, sectors, flags) = (word(header, 0), word(header, 1), word(header, 2));
            at += SECTOR as usize;
            let len = if flags & DISCARD == 0 { (sectors * SECTOR) as usize } else { 0 };
            let data = bytes[at..at + len].to_vec();
            at += len;
            writes.push(Write { at: sector * SECTOR, data, is_flush: flags & FLUSH != 0 });
        }
        Self(writes)
    }

    /// How many flushes there are.
    pub fn flushes(&self) -> usize {
        self.0.iter().filter(|write| write.is_flush).count()
    }

    /// What was written over a place on the disk, from first to last.
    pub fn written_at(&self, at: u64, len: usize) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |write| {
            let from = at.checked_sub(write.at)? as usize;
            write.data.get(from..from + len)
        })
    }

    /// What the disk `before` the run could hold if the power went after `count` entries.
    pub fn replay(&self, before: &Path, count: usize, rng: &mut Rng, image: &Path) {
        fs::copy(before, image).expect("a copy of the disk");
        let file = OpenOptions::new().write(true).open(image).expect("the copy");
        let happened = &self.0[..count];
        let durable = happened.iter().rposition(|write| write.is_flush).map_or(0, |last| last + 1);
        for (index, write) in happened.iter().enumerate() {
            for (piece, at) in write.data.chunks(PIECE).zip((write.at..).step_by(PIECE)) {
                if index < durable || rng.percent(50) {
                    file.write_all_at(piece, at).expect("a write to the copy");
                }
            }
        }
    }
}
