//! The kernel's own end: message, backtrace, status.
//!
//! Owns: what a panic prints and where. The addresses are resolved to names by `ebb`, which has the symbols. Uses no lock
//! that is held, no allocator, and ends at once if it panics itself.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::cpu;
use crate::arch::trap::{self, KernelTrap, Position};
use crate::cmdline::Telemetry;
use crate::power::{self, End};
use crate::telemetry::Json;
use crate::{console, options, telemetry};

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Deeper stacks are recursion, of which this much says enough.
const MAX_FRAMES: usize = 48;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    report(format_args!("{info}"), cpu::position())
}

/// A trap from ring 0 that is not an interrupt.
pub fn trap(trap: &KernelTrap<'_>) -> ! {
    report(format_args!("unexpected {trap}"), trap.position())
}

fn report(message: fmt::Arguments<'_>, position: Position) -> ! {
    if PANICKED.swap(true, Ordering::Relaxed) {
        power::end(End::Panic);
    }
    let telemetry = options::get().map_or(Telemetry::Off, |options| options.telemetry);
    match telemetry {
        Telemetry::Off => {
            console::print_in_panic(format_args!("\nkernel panic: {message}\n{}", Lines(position)));
        }
        Telemetry::Com2 => {
            let frames = List(position);
            let message = Json(message);
            let record = format_args!("@{{\"type\":\"panic\",\"message\":{message},\"frames\":[{frames}]}}");
            telemetry::line_in_panic(telemetry, record);
        }
    }
    power::end(End::Panic)
}

/// The backtrace, a line each.
struct Lines(Position);

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for address in trap::backtrace(self.0).take(MAX_FRAMES) {
            writeln!(f, "  at {address:#x}")?;
        }
        Ok(())
    }
}

/// The backtrace as a list of JSON strings.
struct List(Position);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in trap::backtrace(self.0).take(MAX_FRAMES).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}\"{address:#x}\"")?;
        }
        Ok(())
    }
}
