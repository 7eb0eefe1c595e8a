//! The second serial port: records for `ebb`, the kernel's log, and the few things `ebb` says.
//!
//! Owns: the port and its protocol. A line that begins with `@` is one JSON object, any other line is log. From the host
//! comes `stdin-eof N`: standard input ends after N bytes. Does not own: what the records say (whoever has the figures).
#![expect(unsafe_code, reason = "takes possession of the port")]

use alloc::boxed::Box;
use core::fmt::{self, Write as _};

use arrayvec::ArrayVec;
use drivers::uart::{ComPort, Uart};
use embedded_io::Write;

use crate::cmdline::Telemetry;
use crate::irq;
use crate::sync::Mutex;

/// Longer lines from the host are none of ours.
const COMMAND_LEN: usize = 64;

/// A multiple of what the port's transmitter takes at once.
const PIECE: usize = 128;

struct Port {
    uart: Option<Uart>,
    /// The line from the host that is not complete yet.
    line: ArrayVec<u8, COMMAND_LEN>,
}

static PORT: Mutex<Port> = Mutex::new(Port { uart: None, line: ArrayVec::new_const() });

/// What the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `stdin-eof N`: standard input ends after so many bytes.
    EndOfInput(u64),
}

/// Opens the channel if there is to be one.
pub fn init(telemetry: Telemetry) {
    if telemetry == Telemetry::Com2 {
        // SAFETY: ring 0, and nobody else drives the port; a panic opens it anew only when nothing else runs any more.
        PORT.lock().uart = unsafe { Uart::open(ComPort::Com2) }.ok();
    }
}

/// Whether there is a channel.
pub fn is_on() -> bool {
    PORT.lock().uart.is_some()
}

/// Sends a record: the argument is one JSON object, without a line break. Dropped when there is no channel.
pub fn record(object: fmt::Arguments<'_>) {
    if let Some(uart) = &mut PORT.lock().uart {
        send(uart, format_args!("@{object}\n"));
    }
}

/// Sends text in pieces of up to [`PIECE`] bytes, not in the words that it is put together from: the port is asked whether it is ready
/// before every 16 bytes, and before each word if they come alone.
fn send(uart: &mut Uart, text: fmt::Arguments<'_>) {
    let mut pieces = Pieces { uart, piece: ArrayVec::new() };
    // Neither a port nor a number fails.
    let _ = pieces.write_fmt(text);
    pieces.send();
}

struct Pieces<'a> {
    uart: &'a mut Uart,
    piece: ArrayVec<u8, PIECE>,
}

impl Pieces<'_> {
    fn send(&mut self) {
        let _ = self.uart.write_all(&self.piece);
        self.piece.clear();
    }
}

impl fmt::Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.piece.remaining_capacity()));
            let _fits = self.piece.try_extend_from_slice(now);
            rest = later;
            if self.piece.is_full() {
                self.send();
            }
        }
        Ok(())
    }
}

/// Sends a line of the log. Returns whether there was a channel for it.
pub fn log_line(line: fmt::Arguments<'_>) -> bool {
    let mut port = PORT.lock();
    let Some(uart) = &mut port.uart else { return false };
    send(uart, format_args!("{line}\n"));
    true
}

/// From now on, what the host says is handed to `obey`; it may mark and wake, nothing else.
pub fn listen(obey: fn(Command)) {
    if !is_on() {
        return;
    }
    // Without the lock: where the line leads nowhere, that is logged, and the log comes here.
    irq::listen(ComPort::Com2.irq(), Box::new(move || take_commands(obey)));
    if let Some(uart) = &mut PORT.lock().uart {
        uart.enable_receive_interrupt();
    }
}

fn take_commands(obey: fn(Command)) {
    while let Some(command) = next_command() {
        obey(command);
    }
}

fn next_command() -> Option<Command> {
    let mut port = PORT.lock();
    let Port { uart, line } = &mut *port;
    while let Some(byte) = uart.as_mut()?.try_read_byte() {
        if byte != b'\n' {
            // A line that is too long loses its end, and then means nothing.
            let _ = line.try_push(byte);
            continue;
        }
        let command = understand(line);
        line.clear();
        if command.is_some() {
            return command;
        }
    }
    None
}

fn understand(line: &[u8]) -> Option<Command> {
    let total = core::str::from_utf8(line).ok()?.trim_end().strip_prefix("stdin-eof ")?;
    total.parse().ok().map(Command::EndOfInput)
}

/// Waits until everything has left the port. Not if somebody is in the middle of sending: that is who panicked.
pub fn flush() {
    if let Some(uart) = PORT.try_lock().as_mut().and_then(|port| port.uart.as_mut()) {
        let _ = uart.flush();
    }
}

/// For a panic: sends a line whatever the state of the lock, if the channel had been opened.
pub fn line_in_panic(telemetry: Telemetry, line: fmt::Arguments<'_>) {
    if telemetry == Telemetry::Off {
        return;
    }
    if let Some(mut port) = PORT.try_lock() {
        if let Some(uart) = &mut port.uart {
            let _ = uart.write_fmt(format_args!("{line}\n"));
        }
        return;
    }
    // SAFETY: ring 0; whoever holds the lock is what panicked and will not go on. What it had begun to send ends here.
    if let Ok(mut uart) = unsafe { Uart::open(ComPort::Com2) } {
        let _ = uart.write_fmt(format_args!("\n{line}\n"));
    }
}

/// Text as a JSON string, quotes included.
pub struct Json<T>(pub T);

impl<T: fmt::Display> fmt::Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escape(f), "{}", self.0)?;
        f.write_char('"')
    }
}

struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                control @ '\0'..='\x1f' => write!(self.0, "\\u{:04x}", control as u32)?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}
