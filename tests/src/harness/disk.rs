//! Data disks of scenarios: made from a directory, checked and read back after the run.
//!
//! Owns: an image and its directory. Reading back is `debugfs`'s work, so that our own code is not its own witness.

use std::path::{Path, PathBuf};
use std::process::Command;

use disk_image::builder::create_ext4_image;
use tempfile::TempDir;

/// A data disk.
#[derive(Debug)]
pub struct DataDisk {
    scratch: TempDir,
}

impl DataDisk {
    /// A disk that holds what `fill` puts into a directory.
    pub fn new(fill: impl FnOnce(&Path)) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let files = scratch.path().join("files");
        std::fs::create_dir(&files).expect("a fresh directory");
        fill(&files);
        let disk = Self { scratch };
        create_ext4_image(&disk.image(), &files).expect("an image");
        disk
    }

    /// An empty disk.
    pub fn empty() -> Self {
        Self::new(|_| {})
    }

    /// The image.
    pub fn image(&self) -> PathBuf {
        self.scratch.path().join("data.img")
    }

    /// Where a log or a copy of the disk can go, for the life of the disk.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Fails the test unless the file system is clean: marked so, and without any fault.
    #[track_caller]
    pub fn expect_clean(&self) -> &Self {
        let output = Command::new("e2fsck").arg("-fn").arg(self.image()).output().expect("e2fsck");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "e2fsck -fn: {}\n{said}", output.status);
        let output = Command::new("dumpe2fs").arg("-h").arg(self.image()).output().expect("dumpe2fs");
        let header = String::from_utf8_lossy(&output.stdout);
        let state = header.lines().find(|line| line.starts_with("Filesystem state:")).unwrap_or_default();
        assert!(state.ends_with(" clean"), "{state}");
        assert!(!header.contains("needs_recovery"), "the journal is empty:\n{header}");
        self
    }

    /// Copies what is on the disk into a directory, and returns it.
    pub fn read_back(&self) -> PathBuf {
        let out = self.scratch.path().join("read-back");
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).expect("a fresh directory");
        let request = format!("rdump / {}", out.display());
        let output = Command::new("debugfs").args(["-R", &request]).arg(self.image()).output().expect("debugfs");
        assert!(output.status.success(), "{request}: {}", String::from_utf8_lossy(&output.stderr));
        out
    }
}

/// Repairs an image as a boot after a power cut does; fails the test if that takes more than replaying the journal safely.
#[track_caller]
pub fn recover(image: &Path, story: &str) {
    let output = Command::new("e2fsck").arg("-fp").arg(image).output().expect("e2fsck");
    let said = String::from_utf8_lossy(&output.stdout);
    // 1: errors were found and all corrected (e2fsck(8)).
    assert!(matches!(output.status.code(), Some(0 | 1)), "{story}: e2fsck -fp: {}\n{said}", output.status);
}

/// The bytes of a file on an image.
pub fn file_on(image: &Path, path: &str) -> Vec<u8> {
    let output = Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(image).output().expect("debugfs");
    assert!(output.status.success(), "cat {path}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
