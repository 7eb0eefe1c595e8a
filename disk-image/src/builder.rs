//! Makes image files on the host.
//!
//! Owns: the creation of a swap image (sparse, with a header) and of an ext4 image from a directory
//! (through `mke2fs`). Never touches a file that exists already. Does not own: where images are put
//! and when they are removed (`ebb`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::{HeaderError, Label, PAGE_BYTES, Pages, SwapHeader, Uuid};

/// Room in an ext4 image beside the directory's contents: metadata, journal, and what a program writes.
const EXT4_SLACK: u64 = 64 << 20;

/// What the file system has, whatever the host's mke2fs.conf says: newer versions turn on what the kernel's library
/// does not know (`orphan_file`, `metadata_csum_seed`).
const EXT4_FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                             huge_file,dir_nlink,extra_isize,metadata_csum";
/// Everything is initialised now, so that nobody has to do it later, and the root directory is the superuser's.
const EXT4_OPTIONS: &str = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0";
/// MiB, the least that mke2fs makes: the kernel's library keeps in memory what is in the journal and not yet in its place.
const EXT4_JOURNAL: &str = "size=4";

/// Why an image was not made. Each reads as one sentence.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The size cannot be had.
    #[error("cannot make a swap image: {0}")]
    Header(#[from] HeaderError),
    /// The file system said no.
    #[error("cannot make {}: {source}", path.display())]
    Io {
        /// The file being made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `mke2fs` is not there, or failed.
    #[error("mke2fs could not make {}: {message}", path.display())]
    Mke2fs {
        /// The file being made.
        path: PathBuf,
        /// What it printed, or why it did not start.
        message: String,
    },
}

/// Makes a sparse swap image of `pages`, which must not exist yet, with a fresh identity.
///
/// # Errors
/// When the size is out of range or the file cannot be made; a half-made file is removed.
pub fn create_swap_image(path: &Path, pages: Pages) -> Result<SwapHeader, BuildError> {
    let io_error = |source| BuildError::Io { path: path.to_owned(), source };
    let uuid = random_uuid().map_err(io_error)?;
    let header = SwapHeader::new(pages, uuid, Label::new("ebb"))?;
    let file = create_new(path).map_err(io_error)?;
    fill_swap_image(file, &header).map_err(|source| {
        // It was made a moment ago by this function, so it is ours to remove; the first error matters more.
        let _ = std::fs::remove_file(path);
        io_error(source)
    })?;
    Ok(header)
}

fn fill_swap_image(mut file: File, header: &SwapHeader) -> io::Result<()> {
    let mut page = [0; PAGE_BYTES];
    header.write(&mut page);
    file.write_all(&page)?;
    file.set_len(header.pages().bytes())
}

/// Makes an ext4 image, which must not exist yet, that holds a copy of what is in `directory`.
///
/// 4 KiB blocks, so that a block is a page and data can move by DMA between extents and frames.
///
/// # Errors
/// When `mke2fs` is missing or refuses, or the directory cannot be read.
pub fn create_ext4_image(path: &Path, directory: &Path) -> Result<(), BuildError> {
    let io_error = |source| BuildError::Io { path: path.to_owned(), source };
    let contents = tree_bytes(directory).map_err(io_error)?;
    let file = create_new(path).map_err(io_error)?;
    let bytes = (contents + contents / 4 + EXT4_SLACK).next_multiple_of(PAGE_BYTES as u64);
    file.set_len(bytes).map_err(io_error)?;
    drop(file);
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", EXT4_FEATURES, "-E", EXT4_OPTIONS]);
    command.args(["-J", EXT4_JOURNAL]);
    command.arg("-d").arg(directory).arg(path);
    let failed = |message: String| {
        let _ = std::fs::remove_file(path);
        BuildError::Mke2fs { path: path.to_owned(), message }
    };
    let output = command.output().map_err(|error| failed(format!("{error} (./setup.sh installs it)")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}

/// Bytes the files under `directory` take, each rounded up to a block, symbolic links not followed.
fn tree_bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += metadata.len().next_multiple_of(PAGE_BYTES as u64);
        if metadata.is_dir() {
            total += tree_bytes(&entry.path())?;
        }
    }
    Ok(total)
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Uuid::from_random(bytes))
}

#[cfg(test)]
mod tests;
