//! ebb's own stdout and stderr, shared by the program's output, messages and the live table.
//!
//! Owns: that the program's bytes go to stdout unchanged, and that on a terminal the table never tears
//! them apart: it is erased before output and drawn again when the output stands at a line's start.
//! Does not own what the table says (`live`) or where the bytes come from (`session`).

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::os;

/// The table is cut at this width when the terminal does not say how wide it is.
const USUAL_WIDTH: usize = 80;

/// Where everything is shown.
pub struct Screen {
    /// Whether stderr can be drawn on.
    drawable: bool,
    /// Whether stdout appears on that same terminal.
    shared: bool,
    state: Mutex<State>,
}

struct State {
    /// Lines of the table that are on the screen now.
    drawn: usize,
    /// Whether the program's output so far ends with a line's end.
    at_line_start: bool,
}

impl Screen {
    /// The process's stdout and stderr.
    pub fn new() -> Self {
        let drawable = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let state = State { drawn: 0, at_line_start: true };
        Self { drawable, shared: drawable && io::stdout().is_terminal(), state: Mutex::new(state) }
    }

    /// Whether tables can be drawn in place; lines are to be printed otherwise.
    pub fn is_drawable(&self) -> bool {
        self.drawable
    }

    /// Passes the program's bytes on.
    ///
    /// # Errors
    /// When stdout does not take them, usually because its reader is gone.
    pub fn output(&self, bytes: &[u8]) -> io::Result<()> {
        // Only a shared terminal needs the lock while writing: a pipe may block for long, and must not
        // hold up whoever draws or reports.
        if !self.shared {
            return write_out(bytes);
        }
        let mut state = self.lock();
        erase(&mut state);
        state.at_line_start = bytes.last() == Some(&b'\n');
        write_out(bytes)
    }

    /// Prints a line of ebb's own.
    pub fn message(&self, text: &str) {
        let mut state = self.lock();
        erase(&mut state);
        if self.shared && !state.at_line_start {
            eprintln!();
            state.at_line_start = true;
        }
        eprintln!("ebb: {text}");
    }

    /// Draws the table in place of the last one.
    pub fn table(&self, lines: &[String]) {
        let mut state = self.lock();
        if !self.drawable || !state.at_line_start {
            return;
        }
        erase(&mut state);
        let width = os::terminal_width(io::stderr()).unwrap_or(USUAL_WIDTH);
        let cut = |line: &String| line.chars().take(width.saturating_sub(1)).collect::<String>() + "\n";
        let text: String = lines.iter().map(cut).collect();
        // A terminal that is gone is noticed by its SIGHUP.
        let _ = io::stderr().write_all(text.as_bytes());
        state.drawn = lines.len();
    }

    /// Removes the table for good or until the next is drawn.
    pub fn clear(&self) {
        erase(&mut self.lock());
    }

    /// Leaves the table where it is: the user's typing has moved the cursor, so it can no longer be erased.
    pub fn abandon_table(&self) {
        self.lock().drawn = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a stale table behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

fn erase(state: &mut State) {
    if state.drawn > 0 {
        // ECMA-48: cursor up N lines to the first column (CPL), erase to the end of the screen (ED).
        eprint!("\x1b[{}F\x1b[J", state.drawn);
        state.drawn = 0;
    }
}
