//! The data disk of a run: an image made from a directory, the user's own image, or none.
//!
//! Owns: what `--disk` means, what `disk:PATH` as the program means, and the checks that need no file system of ours. A
//! directory is copied into an image for the run and never written; an image is the user's and is changed by what
//! programs write. Does not own how images are made (`disk-image`) nor mounting (the kernel).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use disk_image::{PAGE_BYTES, ext_block_bytes};
use thiserror::Error;

/// Bytes in a block of a file system that the kernel mounts: a page.
const BLOCK: u64 = PAGE_BYTES as u64;
/// What a program's name begins with if the program is on the data disk.
const ON_DISK: &[u8] = b"disk:";

/// What `--disk` asked for, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// No data disk.
    #[default]
    None,
    /// A fresh image with a copy of what is in this directory, for this run only.
    Directory(PathBuf),
    /// The user's image, used as it is.
    Image(PathBuf),
}

/// Why `--disk` cannot be had. Each reads as one sentence.
#[derive(Debug, Error)]
pub enum DataError {
    /// A path to nothing.
    #[error("--disk {0} does not exist: give a directory, whose contents are copied, or an ext4 image")]
    Missing(String),
    /// Neither a file nor a directory.
    #[error("--disk {0} is neither a directory nor an image file")]
    Special(String),
    /// The file system says no.
    #[error("the data image {path} cannot be opened for writing: {source}")]
    Unusable {
        /// The image.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No ext superblock.
    #[error(
        "the data image {0} is refused and left as it is: it holds no ext4 file system (make one with mke2fs -t ext4 -b 4096)"
    )]
    NotExt(String),
    /// An ext file system whose blocks are not pages. Small images get such blocks unless mke2fs is told otherwise.
    #[error(
        "the data image {0} is refused and left as it is: its file system has blocks of {1} bytes, and only 4096 can be used (mke2fs -b 4096)"
    )]
    BlockSize(String, u64),
    /// A program on a disk that is not there.
    #[error("{0} is a program on the data disk, but no data disk is given: add --disk DIR or --disk IMAGE")]
    NoDisk(String),
    /// `disk:` and no absolute path.
    #[error("{0}: what follows disk: is a path from the data disk's root, such as disk:/bin/sh")]
    NotAbsolute(String),
}

impl Data {
    /// Understands and checks what `--disk` was given.
    ///
    /// # Errors
    /// When it is neither a directory nor an image that may be used.
    pub fn parse(path: Option<&Path>) -> Result<Self, DataError> {
        let Some(path) = path else { return Ok(Self::None) };
        let shown = || path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|_| DataError::Missing(shown()))?;
        if metadata.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if !metadata.is_file() {
            return Err(DataError::Special(shown()));
        }
        let unusable = |source| DataError::Unusable { path: shown(), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(unusable)?;
        match ext_block_bytes(&head(&file).map_err(unusable)?) {
            None => Err(DataError::NotExt(shown())),
            Some(BLOCK) => Ok(Self::Image(path.to_owned())),
            Some(size) => Err(DataError::BlockSize(shown(), size)),
        }
    }

    /// The host's file behind a program's path on the disk, where it can be looked at before anything boots.
    pub fn host_file(&self, program: &OnDisk) -> Option<PathBuf> {
        let Self::Directory(directory) = self else { return None };
        let file = directory.join(program.0.strip_prefix("/").ok()?);
        // A symbolic link means something else on the disk than here: the kernel will see.
        file.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink()).then_some(file)
    }
}

/// The first page; zeroes where the file is shorter.
fn head(file: &File) -> io::Result<[u8; PAGE_BYTES]> {
    let mut page = [0; PAGE_BYTES];
    let mut have = 0;
    while have < page.len() {
        match file.read_at(&mut page[have..], have as u64)? {
            0 => break,
            count => have += count,
        }
    }
    Ok(page)
}

/// The absolute path of a program on the data disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk(pub PathBuf);

impl OnDisk {
    /// Whether a program's name means one on the data disk: `disk:/path`.
    ///
    /// # Errors
    /// When it does and cannot be.
    pub fn parse(name: &OsStr, data: &Data) -> Result<Option<Self>, DataError> {
        let Some(path) = name.as_bytes().strip_prefix(ON_DISK) else { return Ok(None) };
        let shown = || name.display().to_string();
        if *data == Data::None {
            return Err(DataError::NoDisk(shown()));
        }
        if !path.starts_with(b"/") {
            return Err(DataError::NotAbsolute(shown()));
        }
        Ok(Some(Self(PathBuf::from(OsStr::from_bytes(path)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_copied_and_an_image_is_used() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(Data::parse(None).unwrap(), Data::None);
        assert_eq!(Data::parse(Some(scratch.path())).unwrap(), Data::Directory(scratch.path().to_owned()));
        let image = scratch.path().join("data.img");
        std::fs::write(&image, [7; 5000]).unwrap();
        let refusal = Data::parse(Some(&image)).unwrap_err().to_string();
        assert!(refusal.contains("no ext4 file system"), "{refusal}");
        let mut page = [0; 5000];
        page[1024 + 56..][..2].copy_from_slice(&0xef53_u16.to_le_bytes());
        std::fs::write(&image, page).unwrap();
        let refusal = Data::parse(Some(&image)).unwrap_err().to_string();
        assert!(refusal.contains("blocks of 1024 bytes") && refusal.contains("mke2fs -b 4096"), "{refusal}");
        page[1024 + 24] = 2;
        std::fs::write(&image, page).unwrap();
        assert_eq!(Data::parse(Some(&image)).unwrap(), Data::Image(image.clone()));
        assert!(Data::parse(Some(&scratch.path().join("none"))).unwrap_err().to_string().contains("does not exist"));
    }

    #[test]
    fn a_program_on_the_disk_needs_the_disk_and_an_absolute_path() {
        let data = Data::Directory(PathBuf::from("."));
        let parse = |name: &str, data: &Data| OnDisk::parse(OsStr::new(name), data).map_err(|error| error.to_string());
        assert_eq!(parse("pressure", &Data::None), Ok(None));
        assert_eq!(parse("disk:/bin/a b", &data), Ok(Some(OnDisk(PathBuf::from("/bin/a b")))));
        assert!(parse("disk:/bin/a", &Data::None).unwrap_err().contains("add --disk"));
        assert!(parse("disk:a", &data).unwrap_err().contains("disk:/bin/sh"));
    }
}
