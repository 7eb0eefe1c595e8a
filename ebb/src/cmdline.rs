//! The kernel's command line: how words are joined so that the kernel splits them again unchanged.
//!
//! Owns: the quoting rule and the length limit. The kernel implements the same rule on its side
//! (`kernel/src/cmdline.rs`), which the tests below are run against.
//!
//! ```text
//! line    = { word } [ "--" { word } ]     options, then argv of the first program; UTF-8
//! word    = piece { piece }                separated by ASCII white space
//! piece   = any character but white space and '"'
//!         | '"' { any character but '"' and '\' | '\' any character } '"'
//! ```
//! A backslash is special inside quotes only, so plain words, as people and scripts write them, need no
//! quoting. Only a bare `--` ends the options: a quoted one is an ordinary word, as is `""`, the empty one.
//! ebb quotes whole words.

use std::ffi::OsString;

use thiserror::Error;

/// The longest line that is passed on: QEMU's PVH start-up copies at most 4096 bytes of it, silently.
pub const LIMIT: usize = 3500;

/// Why a command line cannot be passed to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
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
    /// The kernel's command line is text.
    #[error("{0} is not valid UTF-8, and the kernel's command line must be: rename it or leave it out")]
    NotUtf8(String),
    /// An option that would end the options.
    #[error("\"--\" is not an option: give the program and its arguments after ebb's own \"--\"")]
    SeparatorAsOption,
}

/// Joins the kernel's options and the program's argv into one line.
///
/// # Errors
/// When the line is too long or not text, or an option is the separator.
pub fn join(options: &[OsString], argv: &[OsString]) -> Result<String, CmdlineError> {
    if options.iter().any(|option| option == "--") {
        return Err(CmdlineError::SeparatorAsOption);
    }
    let options = options.iter().map(quoted);
    let argv = argv.iter().map(quoted);
    let words: Vec<_> = options.chain([Ok("--".to_owned())]).chain(argv).collect::<Result<_, _>>()?;
    let line = words.join(" ");
    if line.len() > LIMIT {
        return Err(CmdlineError::TooLong { bytes: line.len() });
    }
    Ok(line)
}

fn quoted(word: &OsString) -> Result<String, CmdlineError> {
    let text = word.to_str().ok_or_else(|| CmdlineError::NotUtf8(word.display().to_string()))?;
    if !needs_quotes(text) {
        return Ok(text.to_owned());
    }
    Ok(format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#)))
}

fn needs_quotes(word: &str) -> bool {
    // The kernel splits at ASCII white space; quoting all white space does no harm.
    word.is_empty() || word == "--" || word.contains(|c: char| c.is_whitespace() || c == '"')
}

#[cfg(test)]
mod tests;
