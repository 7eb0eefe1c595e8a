//! `just features`: runs the check of every row of the table of features, and prints one line a row.
//!
//! Owns: the command line and the lines. Neighbours: `tests::features` has the table, `checks` finds and runs the tests.
//! The status is 0 only if every row that is planned has a test and all its tests pass.

mod checks;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use tests::features::{Plan, Row, page, rows};

use checks::{Check, Verdict};

/// Runs the check of every feature and prints one line a row. Checks are tests whose names begin with a row's id.
#[derive(Debug, Parser)]
#[command(name = "just features")]
struct Arguments {
    /// Only these rows.
    #[arg(long = "row", value_name = "ID", num_args = 1..)]
    rows: Vec<String>,
    /// Says which tests show which row, and runs nothing.
    #[arg(long)]
    list: bool,
    /// Prints docs/features.md, and runs nothing.
    #[arg(long)]
    page: bool,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Failed,
    Missing,
    Later,
    NotPlanned,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Missing => "missing",
            Self::Later => "later",
            Self::NotPlanned => "not planned",
        }
    }
}

fn chosen(arguments: &Arguments) -> Result<Vec<&'static Row>, String> {
    let wanted: Vec<_> = arguments.rows.iter().map(|id| id.to_ascii_uppercase()).collect();
    if let Some(unknown) = wanted.iter().find(|id| !rows().any(|row| row.id == id.as_str())) {
        return Err(format!(
            "there is no row {unknown}: rows are P1 to P23, X1 to X20, M1 to M14, A1 to A12, N1 to N13, G1 to G5, E1 to E10, U5, U7, U9, F1 to F9, F13 and F14"
        ));
    }
    Ok(rows().filter(|row| wanted.is_empty() || wanted.iter().any(|id| id == row.id)).collect())
}

/// The checks that show a row.
fn checks_of<'a>(row: &Row, checks: &'a [Check]) -> Vec<(usize, &'a Check)> {
    let ids = row.shown_by();
    checks.iter().enumerate().filter(|(_, check)| check.rows.iter().any(|id| ids.contains(id))).collect()
}

/// A row is missing if any row that shows it has no check.
fn is_missing(row: &Row, checks: &[Check]) -> bool {
    row.shown_by().iter().any(|id| !checks.iter().any(|check| check.rows.contains(id)))
}

fn state(row: &Row, checks: &[Check], verdicts: &BTreeMap<usize, Verdict>) -> State {
    match row.plan {
        Plan::Later => State::Later,
        Plan::NotPlanned => State::NotPlanned,
        Plan::Checked | Plan::CheckedAs(_) if is_missing(row, checks) => State::Missing,
        Plan::Checked | Plan::CheckedAs(_) => {
            let failed = checks_of(row, checks).iter().any(|(index, _)| !verdicts[index].is_ok());
            if failed { State::Failed } else { State::Ok }
        }
    }
}

/// The row with its first check; `--list` has them all.
fn line(row: &Row, state: State, checks: &[Check]) -> String {
    let shown = checks_of(row, checks);
    let names = match shown.as_slice() {
        [] if row.shown_by().is_empty() => row.how.to_owned(),
        [] => String::new(),
        [(_, only)] => only.to_string(),
        [(_, first), rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    format!("{:<4} {:<66} {:<11} {names}", row.id, row.what, state.word()).trim_end().to_owned()
}

fn list(rows: &[&Row], checks: &[Check]) {
    for row in rows {
        let note = match row.plan {
            Plan::Later => "  (later)",
            Plan::NotPlanned => "  (not planned)",
            _ if is_missing(row, checks) => "  (missing)",
            _ => "",
        };
        println!("{:<4} {}{note}", row.id, row.what);
        checks_of(row, checks).iter().for_each(|(_, check)| println!("       {check}"));
    }
}

/// Prints each row as soon as its checks and all rows before it are done.
fn run(rows: &[&'static Row], checks: &[Check]) -> BTreeMap<State, usize> {
    let needed: Vec<_> = (0..checks.len())
        .filter(|index| rows.iter().any(|row| checks_of(row, checks).iter().any(|(i, _)| i == index)))
        .collect();
    let mut verdicts = BTreeMap::new();
    let mut results = checks::start(checks, &needed);
    let mut totals = BTreeMap::new();
    for row in rows {
        for (index, _) in checks_of(row, checks) {
            while !verdicts.contains_key(&index) {
                let (done, verdict) = results.next().expect("every check has a verdict");
                verdicts.insert(done, verdict);
            }
        }
        let state = state(row, checks, &verdicts);
        println!("{}", line(row, state, checks));
        *totals.entry(state).or_default() += 1;
    }
    for (index, verdict) in &verdicts {
        if let Verdict::Failed(said) = verdict {
            eprintln!("\n--- {}\n{said}", checks[*index]);
        }
    }
    totals
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.page {
        print!("{}", page());
        return ExitCode::SUCCESS;
    }
    let (rows, checks) = match chosen(&arguments).and_then(|rows| Ok((rows, checks::find()?))) {
        Ok(found) => found,
        Err(message) => {
            eprintln!("features: {message}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        list(&rows, &checks);
        return ExitCode::SUCCESS;
    }
    let totals = run(&rows, &checks);
    let parts: Vec<_> = totals.iter().map(|(state, count)| format!("{count} {}", state.word())).collect();
    println!("{} rows: {}", rows.len(), parts.join(", "));
    if totals.contains_key(&State::Failed) || totals.contains_key(&State::Missing) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
