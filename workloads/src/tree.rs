//! A directory tree as a list of lines, one per file, so that two trees can be compared: the one a program left on a disk,
//! and what is read back from it elsewhere.
//!
//! Owns the walk, the sum of a file's bytes, and the form of a line. Read with plain `std::fs`.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::rng::mix;

/// The sum of bytes by which two contents are told apart (64 bits, every bit of every byte counts).
#[derive(Clone, Copy, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        Self(words.fold(bytes.len() as u64, |sum, word| mix(sum.rotate_left(7) ^ word)))
    }
}

/// The line of a regular file.
pub fn file_line(path: &str, bytes: &[u8]) -> String {
    format!("file {path} {} {:016x}", bytes.len(), Sum::of(bytes).0)
}

/// The line of a directory.
pub fn directory_line(path: &str) -> String {
    format!("directory {path}")
}

/// The line of a symbolic link.
pub fn link_line(path: &str, target: &str) -> String {
    format!("link {path} {target}")
}

/// The lines of everything below a directory, sorted; paths are relative to it.
///
/// # Errors
/// When something cannot be read.
pub fn lines(root: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    walk(root, "", &mut lines)?;
    lines.sort();
    Ok(lines)
}

fn walk(directory: &Path, prefix: &str, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = if prefix.is_empty() {
            name.to_string_lossy().into_owned()
        } else {
            format!("{prefix}/{}", name.to_string_lossy())
        };
        let kind = entry.metadata()?.file_type();
        if kind.is_dir() {
            lines.push(directory_line(&path));
            walk(&entry.path(), &path, lines)?;
        } else if kind.is_symlink() {
            lines.push(link_line(&path, &fs::read_link(entry.path())?.to_string_lossy()));
        } else {
            let mut bytes = Vec::new();
            fs::File::open(entry.path())?.read_to_end(&mut bytes)?;
            lines.push(file_line(&path, &bytes));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_the_length_count() {
        let bytes = vec![7_u8; 1000];
        let sum = Sum::of(&bytes).0;
        for at in [0, 1, 7, 8, 500, 999] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(Sum::of(&other).0, sum, "byte {at}");
        }
        assert_ne!(Sum::of(&[0; 8]).0, Sum::of(&[0; 9]).0);
    }
}
