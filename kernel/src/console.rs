//! The first serial port: what the program prints and reads.
//!
//! Owns: the port, the program's bytes in both directions, unchanged. Kernel messages come here only when there is no
//! telemetry channel. Does not own: line discipline (there is none), who waits.
#![expect(unsafe_code, reason = "takes possession of the port")]

use core::fmt;

use drivers::uart::{ComPort, Uart};
use embedded_io::Write;
use executor::Duration;

use crate::cmdline::Stdin;
use crate::sync::Mutex;

static PORT: Mutex<Port> =
    Mutex::new(Port { uart: None, input: Input { source: Stdin::Empty, received: 0, end: None } });

/// How long a reader sleeps when the port has nothing: short against a person, long against a look at the port.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

struct Port {
    uart: Option<Uart>,
    input: Input,
}

/// The program's standard input so far.
struct Input {
    source: Stdin,
    received: u64,
    /// Bytes in all, once the host has said so.
    end: Option<u64>,
}

/// Opens the port; without one, output is lost and input empty.
pub fn init() {
    // SAFETY: ring 0, and nobody else drives the port; `panic` opens it anew only when nothing else runs any more.
    PORT.lock().uart = unsafe { Uart::open(ComPort::Com1) }.ok();
}

/// Says where standard input comes from.
pub fn set_input(source: Stdin) {
    PORT.lock().input.source = source;
}

/// The host has sent the last byte: there are `total`.
pub fn end_input(total: u64) {
    PORT.lock().input.end = Some(total);
}

/// Writes bytes of the program's.
pub fn write(bytes: &[u8]) {
    if let Some(uart) = &mut PORT.lock().uart {
        // Infallible: the port's error type has no values.
        let _ = uart.write_all(bytes);
    }
}

/// Writes a message of the kernel's.
pub fn print(message: fmt::Arguments<'_>) {
    if let Some(uart) = &mut PORT.lock().uart {
        let _ = uart.write_fmt(message);
    }
}

/// What [`try_read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// None yet.
    Nothing,
    /// None ever again.
    End,
}

/// Takes the bytes that are there.
pub fn try_read(buffer: &mut [u8]) -> Received {
    let mut port = PORT.lock();
    let Port { uart, input } = &mut *port;
    let (Stdin::Com1, Some(uart)) = (input.source, uart) else { return Received::End };
    let mut count = 0;
    for place in buffer.iter_mut() {
        if input.end == Some(input.received) {
            break;
        }
        let Some(byte) = uart.try_read_byte() else { break };
        *place = byte;
        input.received += 1;
        count += 1;
    }
    match count {
        0 if input.end == Some(input.received) => Received::End,
        0 => Received::Nothing,
        count => Received::Bytes(count),
    }
}

/// Waits for bytes; 0 is the end of the input (or of the buffer).
pub async fn read(timers: &executor::Timers<'_>, buffer: &mut [u8]) -> usize {
    // The port's interrupt line needs an I/O APIC, which nothing else of ours does: so the port is looked at. After a
    // byte the next one is likely to be on its way, so the looks are close together at first.
    const EAGER_LOOKS: u32 = 64;
    let mut looks = 0;
    loop {
        crate::telemetry::poll_commands();
        match try_read(buffer) {
            _ if buffer.is_empty() => return 0,
            Received::Bytes(count) => return count,
            Received::End => return 0,
            Received::Nothing if looks < EAGER_LOOKS => executor::yield_now().await,
            Received::Nothing => timers.sleep(POLL_INTERVAL).await,
        }
        looks += 1;
    }
}

/// For a panic: writes whatever the state of the lock.
pub fn print_in_panic(message: fmt::Arguments<'_>) {
    if let Some(mut port) = PORT.try_lock() {
        if let Some(uart) = &mut port.uart {
            let _ = uart.write_fmt(message);
        }
        return;
    }
    // SAFETY: ring 0; whoever holds the lock is what panicked and will not go on.
    if let Ok(mut uart) = unsafe { Uart::open(ComPort::Com1) } {
        let _ = uart.write_fmt(message);
    }
}
