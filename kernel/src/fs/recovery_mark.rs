//! The superblock's mark that the journal may hold what is not in its place yet (`needs_recovery`).
//!
//! Owns the two images of a superblock, with the mark and without. Does not own when which of them is on the disk: the device below
//! the library (`blocks.rs`) puts the mark there before the first write of a mount and keeps it, whatever the library writes, and the
//! volume (`ext4.rs`) takes it away when the journal is empty for good.
//!
//! The library itself sets and clears the mark through the journal, as any other change. A power cut while it mounts or unmounts can
//! then leave a journal with contents below a superblock without the mark, and whoever repairs that has to guess. Linux writes the mark
//! directly, before the journal is used and after it is empty (`ext4_load_journal`, `ext4_mark_recovery_complete`); so do we.

use alloc::boxed::Box;
use alloc::vec;

use rsext4::endian::DiskFormat;
use rsext4::superblock::Ext4Superblock;
use rsext4::{EXT4_SUPER_MAGIC, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};

use super::blocks::{BLOCK, BlockFailed, BlockNumber, Blocks};

/// Whether a superblock says that there is something to recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RecoveryMark {
    Set,
    Clear,
}

/// The first block of a file system with its mark like this; `None` where there is no journal, and so nothing to mark.
pub fn with_mark(block: &[u8], mark: RecoveryMark) -> Option<Box<[u8]>> {
    let place = SUPERBLOCK_OFFSET as usize..SUPERBLOCK_OFFSET as usize + SUPERBLOCK_SIZE;
    if block.len() != BLOCK {
        return None;
    }
    let mut superblock = Ext4Superblock::from_disk_bytes(&block[place.clone()]);
    if superblock.s_magic != EXT4_SUPER_MAGIC || !superblock.has_journal() {
        return None;
    }
    match mark {
        RecoveryMark::Set => superblock.s_feature_incompat |= Ext4Superblock::EXT4_FEATURE_INCOMPAT_RECOVER,
        RecoveryMark::Clear => superblock.s_feature_incompat &= !Ext4Superblock::EXT4_FEATURE_INCOMPAT_RECOVER,
    }
    superblock.update_checksum();
    let mut image: Box<[u8]> = block.into();
    superblock.to_disk_bytes(&mut image[place]);
    Some(image)
}

/// Takes the mark from a disk whose journal is empty and will not be used again.
pub async fn clear(blocks: &impl Blocks) -> Result<(), BlockFailed> {
    // That the journal is empty must be known before the mark is gone.
    blocks.flush().await?;
    let mut block = vec![0; BLOCK];
    blocks.read(BlockNumber(0), &mut block).await?;
    if let Some(clear) = with_mark(&block, RecoveryMark::Clear) {
        blocks.write(BlockNumber(0), &clear).await?;
    }
    blocks.flush().await
}
