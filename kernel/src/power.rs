//! The end of the machine.
//!
//! Owns: the ways to end it and the status that each outcome has. With `exit=debug` QEMU ends with a status (facts §1.14): 33
//! means a clean end, never 0, which is what a triple fault gives. Otherwise the machine powers off by ACPI.

use core::fmt;

use crate::arch::{cpu, port, stack};
use crate::cmdline::ExitMode;
use crate::telemetry::Json;
use crate::{acpi, console, heap, options, telemetry};

/// Why the machine ends; the values are what `isa-debug-exit` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first program has ended, however it did: the telemetry says.
    Clean = 0x10,
    /// The kernel has panicked.
    Panic = 0x11,
    /// The kernel was asked for something it does not do.
    Refused = 0x12,
}

/// Ends the machine.
pub fn end(end: End) -> ! {
    if end == End::Clean {
        log::debug!("{} bytes of the kernel stack were never used; {:?}", stack::unused(), heap::stats());
    }
    // A port takes 16 bytes ahead; where the host is slow to read, the last of them would go with the machine.
    console::flush();
    telemetry::flush();
    let mode = options::get().map_or(ExitMode::PowerOff, |options| options.exit);
    if mode == ExitMode::Debug {
        debug_exit(end);
    }
    acpi::power_off();
    linger();
    console::print_in_panic(format_args!("\nthis machine cannot power itself off: switch it off\n"));
    cpu::halt_forever()
}

fn debug_exit(end: End) {
    port::DEBUG_EXIT.write_u32(end as u32);
    linger();
}

/// QEMU ends a little after the instruction that asks for it.
fn linger() {
    for _ in 0..10_000_000 {
        core::hint::spin_loop();
    }
}

/// [`refuse`] before the command line is understood.
pub fn refuse_early(command_line: &[u8], sentence: &str) -> ! {
    const DEBUG: &[u8] = b"exit=debug";
    console::print(format_args!("ebb: {sentence}\n"));
    if command_line.windows(DEBUG.len()).any(|window| window == DEBUG) {
        debug_exit(End::Refused);
    }
    end(End::Refused)
}

/// Says in one sentence why the kernel does not go on, and ends the machine.
pub fn refuse(sentence: fmt::Arguments<'_>) -> ! {
    if telemetry::is_on() {
        telemetry::record(format_args!("{{\"type\":\"refused\",\"message\":{}}}", Json(sentence)));
    } else {
        console::print(format_args!("ebb: {sentence}\n"));
    }
    end(End::Refused)
}
