//! The serial port: a 16550 as a byte stream.
//!
//! Owns one port's registers (through the `uart_16550` crate). Does not own what the bytes mean, buffering, or CR
//! translation: bytes pass unchanged. Writing spins while the transmitter is full, which under QEMU is never long;
//! reading never waits.
#![expect(unsafe_code, reason = "takes possession of I/O ports")]

use core::convert::Infallible;
use embedded_io::{ErrorType, Write};
use thiserror::Error;
use uart_16550::backend::{Backend, PioBackend};
use uart_16550::spec::registers::IER;
use uart_16550::{BaudRate, Config, Uart16550};

/// The two ports that a PC has at fixed addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComPort {
    /// At 0x3f8.
    Com1,
    /// At 0x2f8.
    Com2,
}

impl ComPort {
    /// The first of its eight I/O ports.
    pub const fn base(self) -> u16 {
        match self {
            ComPort::Com1 => 0x3f8,
            ComPort::Com2 => 0x2f8,
        }
    }

    /// Its ISA interrupt line.
    pub const fn irq(self) -> u8 {
        match self {
            ComPort::Com1 => 4,
            ComPort::Com2 => 3,
        }
    }
}

/// Why a port cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no serial port at {0:?}")]
pub struct NoPort(pub ComPort);

/// A serial port, 115200 8N1, with its FIFOs on.
pub struct Uart<B: Backend = PioBackend> {
    inner: Uart16550<B>,
}

impl Uart {
    /// Takes and initialises the port. No interrupt is enabled.
    ///
    /// # Safety
    ///
    /// To be called in ring 0, and nobody else uses the eight ports from `port.base()` on.
    pub unsafe fn open(port: ComPort) -> Result<Self, NoPort> {
        // SAFETY: the caller's promise.
        let inner = unsafe { Uart16550::new_port(port.base()) }.map_err(|_| NoPort(port))?;
        Self::start(inner).ok_or(NoPort(port))
    }
}

impl<B: Backend> Uart<B> {
    fn start(mut inner: Uart16550<B>) -> Option<Self> {
        let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
        inner.init(config).ok()?;
        Some(Self { inner })
    }

    /// Sends what the transmitter takes at once; says how many bytes that was.
    pub fn try_write(&mut self, bytes: &[u8]) -> usize {
        self.inner.send_bytes(bytes)
    }

    /// The next byte received, if there is one.
    pub fn try_read_byte(&mut self) -> Option<u8> {
        self.inner.try_receive_byte().ok()
    }

    /// Interrupt when bytes arrive (on [`ComPort::irq`]). Reading everything acknowledges it.
    pub fn enable_receive_interrupt(&mut self) {
        self.inner.enable_interrupts(IER::DATA_READY);
    }
}

impl<B: Backend> ErrorType for Uart<B> {
    type Error = Infallible;
}

impl<B: Backend> Write for Uart<B> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Write::write(&mut self.inner, bytes)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Write::flush(&mut self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// The registers of a port that is always ready.
    #[derive(Default)]
    struct Registers {
        plain: [u8; 8],
        incoming: VecDeque<u8>,
        sent: Vec<u8>,
    }

    impl Backend for &mut Registers {
        // SAFETY: no memory is touched beyond the array, whose length is the number of registers.
        unsafe fn read(&mut self, register: u8) -> u8 {
            let divisor_latch = self.plain[3] & 0x80 != 0;
            match register {
                0 if !divisor_latch => self.incoming.pop_front().unwrap_or(0),
                5 => 0x60 | u8::from(!self.incoming.is_empty()),
                other => self.plain[usize::from(other)],
            }
        }

        // SAFETY: as above.
        unsafe fn write(&mut self, register: u8, value: u8) {
            let divisor_latch = self.plain[3] & 0x80 != 0;
            match register {
                0 if !divisor_latch => self.sent.push(value),
                other => self.plain[usize::from(other)] = value,
            }
        }
    }

    #[test]
    fn bytes_pass_unchanged_in_both_directions() {
        let mut registers = Registers::default();
        // SAFETY: the backend is an array.
        let inner = unsafe { Uart16550::new_with_backend(&mut registers) };
        let mut uart = Uart::start(inner).expect("the port is present");
        let text: Vec<u8> = (0..=255).chain(*b"line\nline\r\n").collect();
        uart.write_all(&text).unwrap();
        uart.enable_receive_interrupt();
        assert_eq!(uart.try_read_byte(), None);
        uart.inner.backend_mut().incoming.extend([0, 13, 10]);
        let received: Vec<u8> = core::iter::from_fn(|| uart.try_read_byte()).collect();
        assert_eq!(received, [0, 13, 10]);
        assert_eq!(registers.sent, text);
        assert_eq!(registers.plain[1], 1, "only the receive interrupt is enabled");
    }
}
