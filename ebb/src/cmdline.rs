//! The kernel's command line: how words are joined so that the kernel splits them again unchanged.
//!
//! Owns: the quoting rule and the length limit. The kernel implements the same rule on its side
//! (`kernel/src/cmdline.rs`); the model of it in the tests below is the specification.
//!
//! ```text
//! line    = { word } [ "--" { word } ]        options, then argv of the first program
//! word    = bare | quoted                      separated by spaces, tabs or newlines
//! bare    = any bytes but the separators; does not begin with a double quote
//! quoted  = '"' { any byte but '"' and '\' | '\' any byte } '"'    ends at a separator or the line's end
//! ```
//! A backslash inside quotes makes the next byte literal; in a bare word it is an ordinary byte, and so
//! is a double quote that is not first. So plain words, as people and scripts write them, need no
//! quoting. Only a bare `--` ends the options: a quoted one is an ordinary word.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use thiserror::Error;

/// The longest line that is passed on: QEMU's PVH start-up copies at most 4096 bytes of it, silently.
pub const LIMIT: usize = 3500;

/// Why a command line cannot be passed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CmdlineError {
    /// Too many or too long words.
    #[error(
        "the program's arguments and the kernel's options take {bytes} bytes, {} more than the {LIMIT} that fit the kernel's command line: shorten them",
        bytes - LIMIT
    )]
    TooLong {
        /// Quotes and separators included.
        bytes: usize,
    },
    /// An option that would end the options.
    #[error("\"--\" is not an option: give the program and its arguments after ebb's own \"--\"")]
    SeparatorAsOption,
}

/// Joins the kernel's options and the program's argv into one line.
///
/// # Errors
/// When the line is too long, or an option is the separator.
pub fn join(options: &[OsString], argv: &[OsString]) -> Result<OsString, CmdlineError> {
    if options.iter().any(|option| option == "--") {
        return Err(CmdlineError::SeparatorAsOption);
    }
    let mut line = Vec::new();
    for option in options {
        push_word(&mut line, option);
    }
    line.extend_from_slice(b" --");
    for argument in argv {
        push_word(&mut line, argument);
    }
    line.drain(..usize::from(line[0] == b' '));
    if line.len() > LIMIT {
        return Err(CmdlineError::TooLong { bytes: line.len() });
    }
    Ok(OsString::from_vec(line))
}

fn push_word(line: &mut Vec<u8>, word: &OsStr) {
    let bytes = word.as_bytes();
    line.push(b' ');
    if !needs_quotes(bytes) {
        line.extend_from_slice(bytes);
        return;
    }
    line.push(b'"');
    for &byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            line.push(b'\\');
        }
        line.push(byte);
    }
    line.push(b'"');
}

fn needs_quotes(word: &[u8]) -> bool {
    word.is_empty() || word == b"--" || word[0] == b'"' || word.iter().any(|byte| is_separator(*byte))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests;
