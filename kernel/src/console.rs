//! The first serial port: what the program prints and reads.
//!
//! Owns: the port, and bytes that have arrived and not been read. All bytes pass unchanged. Kernel messages come here only
//! when there is no telemetry channel. Does not own: where input ends and who waits for it (`fs::stdio`).
#![expect(unsafe_code, reason = "takes possession of the port")]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;

use drivers::uart::{ComPort, Uart};
use embedded_io::Write;

use crate::irq;
use crate::sync::Mutex;

static PORT: Mutex<Port> = Mutex::new(Port { uart: None, arrived: VecDeque::new() });

/// Bytes that may wait here for their reader; the port keeps 16 more, and QEMU the rest.
const ARRIVED: usize = 1024;

struct Port {
    uart: Option<Uart>,
    /// Has its full capacity from the start: it is filled by the interrupt handler.
    arrived: VecDeque<u8>,
}

impl Port {
    fn take_arrived(&mut self) {
        let Some(uart) = &mut self.uart else { return };
        while self.arrived.len() < ARRIVED {
            let Some(byte) = uart.try_read_byte() else { return };
            self.arrived.push_back(byte);
        }
    }
}

/// Opens the port; without one, output is lost and input never comes.
pub fn init() {
    // SAFETY: ring 0, and nobody else drives the port; a panic opens it anew only when nothing else runs any more.
    PORT.lock().uart = unsafe { Uart::open(ComPort::Com1) }.ok();
}

/// From now on, input is taken in and `arrived` called when some has come; it may mark and wake, nothing else.
pub fn open_input(arrived: fn()) {
    PORT.lock().arrived.reserve_exact(ARRIVED);
    let handler = move || {
        PORT.lock().take_arrived();
        arrived();
    };
    irq::listen(ComPort::Com1.irq(), Box::new(handler));
    if let Some(uart) = &mut PORT.lock().uart {
        uart.enable_receive_interrupt();
    }
}

/// Takes the bytes that are there; never waits.
pub fn read(buffer: &mut [u8]) -> usize {
    let mut port = PORT.lock();
    let mut count = 0;
    for place in buffer {
        if port.arrived.is_empty() {
            port.take_arrived();
        }
        let Some(byte) = port.arrived.pop_front() else { break };
        *place = byte;
        count += 1;
    }
    count
}

/// Whether [`read`] would return something.
pub fn has_input() -> bool {
    let mut port = PORT.lock();
    port.take_arrived();
    !port.arrived.is_empty()
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

/// Waits until everything has left the port. Not if somebody is in the middle of writing: that is who panicked.
pub fn flush() {
    if let Some(uart) = PORT.try_lock().as_mut().and_then(|port| port.uart.as_mut()) {
        let _ = uart.flush();
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
