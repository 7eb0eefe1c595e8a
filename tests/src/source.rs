//! The workspace's own files, for tests that judge the source.
//!
//! Owns: finding the files and telling code from comments and literals. Does not own what is demanded of them
//! (`tests/arrows.rs`).

use std::fs;
use std::path::{Path, PathBuf};

/// What holds nothing of ours; `.git` is a directory, or a file in a worktree of its own.
const FOREIGN: [&str; 2] = ["target", ".git"];

/// The workspace's directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

/// One text file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// Every text file of the workspace, in order of their paths.
pub fn files() -> Vec<Source> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file of the workspace.
pub fn rust_files() -> Vec<Source> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("a directory entry");
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if FOREIGN.iter().any(|foreign| name == *foreign) {
            continue;
        }
        if kind.is_dir() {
            collect(&path, found);
        } else if kind.is_file() {
            found.extend(read(&path));
        }
    }
}

/// A file that is no text, or that has just gone (somebody may be editing), is none of ours.
fn read(path: &PathBuf) -> Option<Source> {
    let text = fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
    Some(Source { path, text })
}

/// The code of a Rust file: comments become a space each, string and character literals lose their contents.
///
/// Knows nested comments, raw strings and lifetimes; enough of Rust's grammar to find keywords (Rust Reference, "Tokens").
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| string(rest, &code)).or_else(|| character(rest));
        match skipped {
            Some(length) => {
                code.push(' ');
                rest = &rest[length..];
            }
            None => {
                code.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    code
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then_some(())?;
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match (rest.starts_with(b"/*"), rest.starts_with(b"*/")) {
            (true, _) => (depth, at) = (depth + 1, at + 2),
            (_, true) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// `before` is the code so far: an `r` is a raw string's only if it does not end a longer word.
fn string(text: &str, before: &str) -> Option<usize> {
    let in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let raw = if in_word { None } else { text.strip_prefix('r').or_else(|| text.strip_prefix("br")) };
    if let Some(after) = raw {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &after[hashes + 1..];
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(text.len() - body.len() + length);
        }
    }
    text.starts_with('"').then(|| quoted(text, b'"'))
}

/// A character literal, not a lifetime: something between quotes that is one character or an escape.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if body.starts_with('\\') {
        return Some(quoted(text, b'\''));
    }
    let first = body.chars().next()?;
    body[first.len_utf8()..].starts_with('\'').then(|| 2 + first.len_utf8())
}

fn quoted(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Whether a word stands in code as a word of its own.
pub fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        for (text, hidden) in [
            ("a // unsafe\nb", "unsafe"),
            ("a /* x /* unsafe */ y */ b", "unsafe"),
            ("let a = \"un\\\"safe\"; b", "safe"),
            ("let a = r#\"unsafe \" more\"#; b", "unsafe"),
            ("let a = '\"'; /* unsafe */ b", "unsafe"),
        ] {
            let code = code_only(text);
            assert!(!code.contains(hidden) && code.contains('b') && code.contains('a'), "{text}: {code}");
        }
    }

    #[test]
    fn code_stays() {
        for text in
            ["fn f<'a>(x: &'a str) { unsafe {} }", "let c = '\\''; unsafe {}", "for r in \"\".chars() { unsafe {} }"]
        {
            assert!(has_word(&code_only(text), "unsafe"), "{text}: {}", code_only(text));
        }
        assert!(!has_word(&code_only("#![expect(unsafe_code)]"), "unsafe"));
    }
}
