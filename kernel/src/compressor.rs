//! What the compressed tier compresses pages with: LZ4 (`swap.compress=on` and `auto`).
//!
//! Owns the table of places that the compressor looks for repetitions by, and how long it took. Does not own which pages, nor where they are kept: that is
//! `mm::tier`. The block format of <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>, without frames around it: lengths are
//! known, and contents are audited.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};
use mm::addr::PAGE_SIZE;
use mm::platform::{Compressor, Corrupt, Spent};
use mm::tier::COMPRESSED_ROOM;

use crate::arch::cpu::timestamp;
use crate::process::stats;

/// See the module's head.
pub struct Lz4 {
    /// Of 8 KiB. With a table of its own, compressing a page allocates nothing.
    table: CompressTable,
    /// Ticks of the TSC.
    compressing: u64,
    decompressing: u64,
}

impl Lz4 {
    /// A compressor.
    pub fn new() -> Self {
        Self { table: CompressTable::small(), compressing: 0, decompressing: 0 }
    }
}

impl Compressor for Lz4 {
    fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8; COMPRESSED_ROOM]) -> Option<usize> {
        // It only fails for want of room, of which there is enough for any page.
        let begun = timestamp();
        let bytes = compress_into_with_table(page, out, &mut self.table);
        self.compressing += timestamp().saturating_sub(begun);
        bytes.ok()
    }

    fn decompress(&mut self, bytes: &[u8], page: &mut [u8; PAGE_SIZE]) -> Result<(), Corrupt> {
        let begun = timestamp();
        let made = decompress_into(bytes, page);
        self.decompressing += timestamp().saturating_sub(begun);
        match made {
            Ok(PAGE_SIZE) => Ok(()),
            _ => Err(Corrupt),
        }
    }

    fn spent(&self) -> Spent {
        let Self { compressing, decompressing, .. } = *self;
        Spent { compressing, decompressing, waiting: stats::stall_ticks() }
    }
}
