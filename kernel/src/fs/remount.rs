//! Mounting the data disk anew: mount(2) with `MS_REMOUNT`.
//!
//! Owns the order in which everything goes to the disk, leaves memory, and the library's instance is replaced. Does not own the
//! files (`disk.rs`), nor how an instance ends and begins (`ext4.rs`).
//!
//! ```text
//!   nameless inodes buried ─► files written, journal committed ─► files that nobody maps leave memory
//!     ─► fiber, in one turn: unmounted, mark for recovery removed ─► mounted anew
//! ```
//! The data disk is the root of the tree, with the working directories and mapped programs of whoever asks on it; so it cannot be taken
//! off and put back by umount(2) and mount(2), on Linux neither. Remounting keeps what is open: descriptors and directories know their
//! inodes by number, and a file comes back from the disk when it is used. On the disk it is all the same as an unmount: at one moment it
//! is marked clean, its journal empty, and there is no need for recovery.
//!
//! What stays in memory are files that are mapped, or in use by somebody else right now: their blocks do not move. An inode that has lost
//! its last name but is in use is on the list of orphans, with which no file system can be marked clean: EBUSY, as Linux has it for a
//! remount that ends all writing (`sb_prepare_remount_readonly`).

use alloc::sync::Arc;

use super::blocks::Blocks;
use super::disk::DataVolume;
use super::ext4::Volume;
use super::file::FileData;
use crate::syscall::errno::Errno;

impl DataVolume {
    /// Writes everything, forgets it, and mounts the file system anew.
    pub async fn remount(&self) -> Result<(), Errno> {
        self.release_kept();
        let _no_burials = self.no_burials().await;
        if self.has_nameless() {
            return Err(Errno::EBUSY);
        }
        self.sync().await?;
        self.let_files_go(0).await;
        let settings = self.settings;
        self.call(move |volume| volume.remount(settings)).await
    }

    /// Lets files go that nobody uses, until so many are left. What they have to tell the disk is told first. Under the lock of burials.
    pub(super) async fn let_files_go(&self, keep: usize) {
        for file in self.all_files() {
            if self.files.lock().len() <= keep {
                return;
            }
            // Not on an error: it is for somebody who syncs the file to see.
            let is_unused = |file: &Arc<FileData>| Arc::strong_count(file) == 2 && !file.is_mapped();
            if is_unused(&file) && file.write_back(self).await.is_ok() {
                let mut files = self.files.lock();
                // Whoever uses it has taken it from the table, and nobody can while this is locked.
                if is_unused(&file) && file.is_idle() {
                    files.remove(&file.ino());
                    file.close();
                }
            }
        }
    }
}

impl<B: Blocks> Volume<'_, B> {
    /// Ends this instance of the library and begins another. The old one is there until the new one is: should the disk fail in between, it
    /// refuses everything, as what is not mounted does.
    pub fn remount(&mut self, settings: super::actor::Settings) -> Result<(), Errno> {
        self.end()?;
        let cleared = self.clear_mark();
        let fresh = self.mount_again(settings);
        let (fresh, _) = fresh.inspect_err(|error| log::error!("data disk: {error}")).map_err(|_| Errno::EIO)?;
        *self = fresh;
        cleared.map_err(|_| Errno::EIO)
    }
}
