//! The features that the memory manager is measured by, and which test shows each.
//!
//! Owns: the rows ([`rows`]), how a test is found by its name ([`rows_of_test`]) and the page of the documentation that is
//! made of them ([`page`]). Does not own the checks: they are ordinary tests anywhere in the workspace. Neighbour:
//! `src/bin/features`, which runs them.
//!
//! A test shows a row if its name begins with the row's id in lower case and an underscore: `p6_submaps_…`. Several ids at
//! the beginning show several rows: `p14_p15_…`. A row without a test is missing, and counts as failed.

mod table;

use std::fmt::Write;

use table::GROUPS;

/// One capability.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Stable: tests, commits and documents cite it.
    pub id: &'static str,
    /// What is claimed.
    pub what: &'static str,
    /// The facility by which one has it; where there is no check, the reason.
    pub how: &'static str,
    /// How it is shown.
    pub plan: Plan,
}

/// How a row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// By tests with its name.
    Checked,
    /// By those of other rows, which say the same in another system's words.
    CheckedAs(&'static [&'static str]),
    /// Not yet.
    Later,
    /// Never.
    NotPlanned,
}

impl Row {
    /// The rows whose tests show this one.
    pub fn shown_by(&self) -> Vec<&'static str> {
        match self.plan {
            Plan::Checked => vec![self.id],
            Plan::CheckedAs(rows) => rows.to_vec(),
            Plan::Later | Plan::NotPlanned => Vec::new(),
        }
    }
}

/// All rows, in order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The rows that a test shows, by its path.
pub fn rows_of_test(path: &str) -> impl Iterator<Item = &'static Row> {
    let name = path.rsplit("::").next().unwrap_or(path);
    name.split('_').map_while(|word| rows().find(|row| row.id.to_ascii_lowercase() == word))
}

const HEAD: &str = "\
# Features

<!-- Generated: `just features --page > docs/features.md`. -->

Every capability of the memory manager, with the facility by which one has it. The rows are those of five systems that
describe theirs, and a few of our own. `just features` runs the check of every row and prints a line for each; a check
is a test whose name begins with the row's id.
";

/// `docs/features.md`.
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    for (group, rows) in GROUPS {
        write!(text, "\n## {group}\n\n| row | what | by |\n|---|---|---|\n").expect("a string takes it");
        for row in *rows {
            let how = match row.plan {
                Plan::Checked | Plan::CheckedAs(_) => row.how.to_owned(),
                Plan::Later => format!("*later:* {}", row.how),
                Plan::NotPlanned => format!("*not planned:* {}", row.how),
            };
            writeln!(text, "| {} | {} | {how} |", row.id, row.what).expect("a string takes it");
        }
    }
    text
}
