//! How an ext2/3/4 file system is known by its first page.
//!
//! Owns the places of the superblock's magic number and of its block size (Linux, Documentation/filesystems/ext4/super.rst).
//! Does not own the rest of the superblock: whoever mounts checks that. Neighbours: `kernel` tells its disks apart by this
//! and by the [swap header](crate::SwapHeader), `ebb` checks an image before it boots.

use crate::PAGE_BYTES;

/// Where the superblock begins.
const SUPERBLOCK: usize = 1024;
/// `s_log_block_size` in the superblock: how often 1024 is doubled. Little-endian, four bytes.
const LOG_BLOCK_SIZE_OFFSET: usize = SUPERBLOCK + 0x18;
/// `s_magic` in the superblock.
const MAGIC_OFFSET: usize = SUPERBLOCK + 0x38;
/// Its value.
const MAGIC: [u8; 2] = 0xef53_u16.to_le_bytes();

/// Bytes in a block of the ext file system on a disk whose first page this is; `None` if there is none.
pub fn ext_block_bytes(first_page: &[u8; PAGE_BYTES]) -> Option<u64> {
    if first_page[MAGIC_OFFSET..][..MAGIC.len()] != MAGIC {
        return None;
    }
    let log = first_page[LOG_BLOCK_SIZE_OFFSET..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
    // A size that no number has is no size that anybody can use.
    Some(1024_u64.checked_shl(log).unwrap_or(0))
}
