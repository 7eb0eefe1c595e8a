//! How an ext2/3/4 file system is known by its first page.
//!
//! Owns the place of the superblock's magic number (Linux, Documentation/filesystems/ext4/super.rst). Does not own the
//! rest of the superblock: whoever mounts checks that. Neighbours: `kernel` tells its disks apart by this and by the
//! [swap header](crate::SwapHeader), `ebb` checks an image before it boots.

use crate::PAGE_BYTES;

/// Where the superblock begins.
const SUPERBLOCK: usize = 1024;
/// `s_magic` in the superblock.
const MAGIC_OFFSET: usize = SUPERBLOCK + 0x38;
/// Its value.
const MAGIC: [u8; 2] = 0xef53_u16.to_le_bytes();

/// Whether a disk whose first page this is holds an ext file system.
pub fn is_ext(first_page: &[u8; PAGE_BYTES]) -> bool {
    first_page[MAGIC_OFFSET..][..MAGIC.len()] == MAGIC
}
