//! The swap area of a run: a fresh one, the user's own, or none.
//!
//! Owns: what `--swap` means, and the checks that keep a user's image whole: an image that is not a
//! valid, idle swap area is refused before QEMU opens it. Does not own the header (`disk-image`).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use disk_image::{HeaderError, PAGE_BYTES, Pages, SwapHeader};
use thiserror::Error;

use crate::size::{Bytes, SizeError};

/// Header and nine slots, as mkswap has it: less is a mistake and not an area.
const LEAST: Pages = Pages(10);

/// What `--swap` asked for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// No swap disk.
    None,
    /// A new image of this size, for this run only.
    Fresh(Pages),
    /// The user's image, used as it is.
    Image {
        /// Where it is.
        path: PathBuf,
        /// Its size by its header.
        pages: Pages,
    },
}

/// Why `--swap` cannot be had. Each reads as one sentence.
#[derive(Debug, Error)]
pub enum SwapError {
    /// Neither a size nor a file.
    #[error("--swap {word} {source}; there is no image of that name either")]
    Word {
        /// What was given.
        word: String,
        /// Why it is not a size.
        source: SizeError,
    },
    /// A path to nothing.
    #[error("the swap image {0} does not exist: give a size, such as --swap 256M, and one is made")]
    Missing(String),
    /// Below [`LEAST`].
    #[error("--swap {0} is too small: the least is {least}, and \"none\" means no swap", least = Bytes(LEAST.bytes()))]
    TooSmall(Bytes),
    /// More than the format can describe.
    #[error("--swap {0} is too large: a swap area has at most 2^32 pages of 4096 bytes")]
    TooLarge(Bytes),
    /// Not a regular file.
    #[error("the swap image {0} is not a file: give an image file made by mkswap, or a size")]
    NotAFile(String),
    /// The file system says no.
    #[error("the swap image {path} cannot be opened for writing: {source}")]
    Unusable {
        /// The image.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not a swap area that may be used.
    #[error("the swap image {path} is refused and left as it is: {source}")]
    Header {
        /// The image.
        path: String,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// This very machine swaps on it.
    #[error("the swap image {0} is in use by this machine: run swapoff on it first, or give another")]
    InUse(String),
}

impl Swap {
    /// Understands and checks what `--swap` was given. A size is a size even if a file is called so:
    /// write `./256M` for the file.
    ///
    /// # Errors
    /// When it is neither, or the image must not be used.
    pub fn parse(word: &OsStr) -> Result<Self, SwapError> {
        if word == "none" {
            return Ok(Self::None);
        }
        let shown = word.to_string_lossy();
        match shown.parse::<Bytes>() {
            Ok(size) => fresh(size),
            Err(_) if Path::new(word).exists() => image(Path::new(word)),
            Err(source) if shown.is_empty() || starts_like_a_size(&shown) => {
                Err(SwapError::Word { word: shown.into_owned(), source })
            }
            Err(_) => Err(SwapError::Missing(shown.into_owned())),
        }
    }

    /// Bytes of the area, its header included.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::None => Bytes(0),
            Self::Fresh(pages) | Self::Image { pages, .. } => Bytes(pages.bytes()),
        }
    }
}

fn starts_like_a_size(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && !word.contains('/')
}

fn fresh(size: Bytes) -> Result<Swap, SwapError> {
    let pages = Pages::in_bytes(size.0);
    if pages < LEAST {
        return Err(SwapError::TooSmall(size));
    }
    if pages.0 > 1 << 32 {
        return Err(SwapError::TooLarge(size));
    }
    Ok(Swap::Fresh(pages))
}

fn image(path: &Path) -> Result<Swap, SwapError> {
    let shown = || path.display().to_string();
    let unusable = |source| SwapError::Unusable { path: shown(), source };
    if !std::fs::metadata(path).map_err(unusable)?.is_file() {
        return Err(SwapError::NotAFile(shown()));
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(unusable)?;
    let device = Pages::in_bytes(file.metadata().map_err(unusable)?.len());
    let header = |source| SwapError::Header { path: shown(), source };
    let page = first_page(&file, device).map_err(unusable)?;
    let pages = SwapHeader::parse(&page, device).map_err(header)?.pages();
    if is_swapped_on(path) {
        return Err(SwapError::InUse(shown()));
    }
    Ok(Swap::Image { path: path.to_owned(), pages })
}

/// The header's page; zeroes, which are no header, if the file has not even one.
fn first_page(file: &File, device: Pages) -> io::Result<[u8; PAGE_BYTES]> {
    let mut page = [0; PAGE_BYTES];
    if device.0 > 0 {
        file.read_exact_at(&mut page, 0)?;
    }
    Ok(page)
}

/// Whether `/proc/swaps` lists the file (proc(5): the first column is its path, escaped like in fstab).
fn is_swapped_on(path: &Path) -> bool {
    let (Ok(swaps), Ok(path)) = (std::fs::read_to_string("/proc/swaps"), path.canonicalize()) else {
        return false;
    };
    swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).any(|used| Path::new(used) == path)
}

#[cfg(test)]
mod tests {
    use disk_image::builder::create_swap_image;

    use super::*;

    fn parse(word: impl AsRef<OsStr>) -> Result<Swap, String> {
        Swap::parse(word.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_and_none_need_no_file() {
        assert_eq!(parse("none"), Ok(Swap::None));
        assert_eq!(parse("256M"), Ok(Swap::Fresh(Pages(65536))));
        assert_eq!(parse("41000"), Ok(Swap::Fresh(Pages(10))));
        assert!(parse("4096").unwrap_err().contains("too small"));
        assert!(parse("99999999G").unwrap_err().contains("too large"));
    }

    #[test]
    fn what_is_neither_size_nor_file_is_named() {
        assert!(parse("256MB").unwrap_err().contains("unknown unit"));
        assert!(parse("").unwrap_err().contains("not a size"));
        for path in ["./none.img", "swap.img", "/nowhere/1M"] {
            let error = parse(path).unwrap_err();
            assert!(error.contains("does not exist") && error.contains("--swap 256M"), "{error}");
        }
    }

    #[test]
    fn a_valid_image_is_used_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("swap.img");
        create_swap_image(&path, Pages(64)).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(parse(&path), Ok(Swap::Image { path: path.clone(), pages: Pages(64) }));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_foreign_image_is_refused_and_left_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("disk.img");
        for contents in [&b""[..], b"short", &[7; 3 * PAGE_BYTES]] {
            std::fs::write(&path, contents).unwrap();
            assert!(parse(&path).unwrap_err().contains("no swap signature"));
            assert_eq!(std::fs::read(&path).unwrap(), contents);
        }
        assert!(parse(scratch.path()).unwrap_err().contains("is not a file"));
    }

    #[test]
    fn a_truncated_image_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("swap.img");
        create_swap_image(&path, Pages(64)).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(63 * PAGE_BYTES as u64).unwrap();
        assert!(parse(&path).unwrap_err().contains("truncated"));
    }
}
