//! The threads that move bytes between the machine's serial lines, QEMU's control socket and ebb.
//!
//! Owns: reading each of them to its end, splitting lines, and feeding the program's stdin. Does not
//! own what anything means: lines go to the session as they are.

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::console::Screen;
use crate::os::Signal;
use crate::qemu::process::Qemu;

/// How many threads report [`Event::Closed`] before all is read.
pub const SOURCES: usize = 3;
/// Events that may wait; beyond, the readers wait, and with them the machine's serial lines.
const QUEUE: usize = 1024;
/// The longest line; a machine gone mad must not fill the host's memory.
const LONGEST_LINE: u64 = 1 << 20;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A line from COM2.
    Telemetry(String),
    /// A line from QEMU.
    Control(String),
    /// stdout takes no more.
    StdoutClosed,
    /// A request from outside.
    Signal(Signal),
    /// One of the sockets has ended.
    Closed,
}

/// The threads.
pub struct Lines {
    sender: SyncSender<Event>,
    console: UnixStream,
    telemetry: UnixStream,
    fed: bool,
    ended_at: Arc<OnceLock<Instant>>,
}

impl Lines {
    /// Starts reading.
    ///
    /// # Errors
    /// When a socket cannot be duplicated for its thread.
    pub fn start(qemu: &Qemu, screen: &Arc<Screen>) -> io::Result<(Self, Receiver<Event>)> {
        let (sender, events) = sync_channel(QUEUE);
        let ended_at = Arc::new(OnceLock::new());
        relay_output(qemu.console.try_clone()?, Arc::clone(screen), sender.clone());
        read_lines(qemu.telemetry.try_clone()?, sender.clone(), Event::Telemetry, None);
        read_lines(qemu.control.try_clone()?, sender.clone(), Event::Control, Some(Arc::clone(&ended_at)));
        let (console, telemetry) = (qemu.console.try_clone()?, qemu.telemetry.try_clone()?);
        Ok((Self { sender, console, telemetry, fed: false, ended_at }, events))
    }

    /// Where other threads report.
    pub fn reporter(&self) -> SyncSender<Event> {
        self.sender.clone()
    }

    /// When QEMU's control socket closed, which is when it ended.
    pub fn ended_at(&self) -> Option<Instant> {
        self.ended_at.get().copied()
    }

    /// Starts passing ebb's stdin to the program; once.
    pub fn feed_stdin(&mut self, screen: &Arc<Screen>) {
        if std::mem::replace(&mut self.fed, true) {
            return;
        }
        let (Ok(console), Ok(telemetry)) = (self.console.try_clone(), self.telemetry.try_clone()) else {
            return;
        };
        let screen = Arc::clone(screen);
        std::thread::spawn(move || {
            // Fails when the machine ends before its input does: then nobody needs the rest.
            let _ = feed(&console, &telemetry, &screen);
        });
    }
}

/// Passes stdin on to its end, then says how long it was: the serial line itself has no end of file.
fn feed(mut console: &UnixStream, mut telemetry: &UnixStream, screen: &Screen) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let typed = stdin.is_terminal();
    let mut total = 0u64;
    let mut buffer = [0; 4096];
    loop {
        // An error ends the input like its end: a closed stdin, or a terminal that is not ours to read.
        let count = match stdin.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        if typed {
            screen.abandon_table();
        }
        if count == 0 {
            return writeln!(telemetry, "stdin-eof {total}");
        }
        console.write_all(&buffer[..count])?;
        total += count as u64;
    }
}

fn relay_output(mut console: UnixStream, screen: Arc<Screen>, sender: SyncSender<Event>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16384];
        let mut open = true;
        // Reads on after stdout is closed, so that the machine never waits for a reader.
        while let Ok(count @ 1..) = console.read(&mut buffer) {
            if open && screen.output(&buffer[..count]).is_err() {
                open = false;
                let _ = sender.send(Event::StdoutClosed);
            }
        }
        let _ = sender.send(Event::Closed);
    });
}

fn read_lines(
    stream: UnixStream,
    sender: SyncSender<Event>,
    event: fn(String) -> Event,
    ended_at: Option<Arc<OnceLock<Instant>>>,
) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        // A reset is how a socket ends whose other side still had something to read: an end like any other.
        while let Ok(1..) = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
            while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                bytes.pop();
            }
            if sender.send(event(String::from_utf8_lossy(&bytes).into_owned())).is_err() {
                return;
            }
            bytes.clear();
        }
        if let Some(ended_at) = ended_at {
            let _ = ended_at.set(Instant::now());
        }
        let _ = sender.send(Event::Closed);
    });
}
