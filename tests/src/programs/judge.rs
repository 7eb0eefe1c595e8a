//! Whether a program ended as it should have.
//!
//! Standard output and error are judged together, because a machine may have only one console. Lines are compared by
//! their beginnings: what follows are figures.

use std::fmt::Write;

/// What must come out of a program.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The exit status, or 128 and the signal that ended it.
    pub status: i32,
    /// Each of these is the beginning of some line, or is inside one if it starts with `…`.
    pub lines: &'static [&'static str],
}

/// What came out of a program.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit status, or 128 and the signal that ended it.
    pub status: i32,
    /// Everything it printed.
    pub text: String,
}

impl Expected {
    /// What is wrong with an outcome; `None` if nothing is.
    pub fn complaint(&self, outcome: &Outcome) -> Option<String> {
        let mut complaint = String::new();
        if outcome.status != self.status {
            let _ = writeln!(complaint, "status {} instead of {}", outcome.status, self.status);
        }
        for line in outcome.text.lines().filter(|line| line.starts_with("FAIL") || line.starts_with("BROKEN")) {
            let _ = writeln!(complaint, "it says: {line}");
        }
        for wanted in self.lines {
            let is_there = |line: &str| match wanted.strip_prefix('…') {
                Some(inside) => line.contains(inside),
                None => line.starts_with(wanted),
            };
            if !outcome.text.lines().any(is_there) {
                let _ = writeln!(complaint, "no line like {wanted:?}");
            }
        }
        if complaint.is_empty() {
            return None;
        }
        let lines: Vec<&str> = outcome.text.lines().collect();
        let _ = write!(complaint, "its last lines:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        Some(complaint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_end_wrongly_is_named() {
        let expected = Expected { status: 0, lines: &["OK x", "…inside"] };
        let outcome = |status, text: &str| Outcome { status, text: text.to_owned() };
        assert_eq!(expected.complaint(&outcome(0, "a line with inside\nOK x n=1\n")), None);
        for (status, text, part) in [
            (1, "inside\nOK x", "status 1 instead of 0"),
            (0, "inside", "no line like \"OK x\""),
            (0, "OK x", "no line like \"…inside\""),
            (0, "inside\nnot OK x", "no line like \"OK x\""),
            (0, "BROKEN y\ninside\nOK x", "it says: BROKEN y"),
        ] {
            let complaint = expected.complaint(&outcome(status, text)).expect(part);
            assert!(complaint.contains(part), "{complaint}");
        }
    }
}
