//! Interrupts: acknowledge, mark, wake.
//!
//! Owns: which vector means what. Does not own: the stubs (`arch::trap`), what happens after the wake-up.
//! Handlers run with interrupts off in one of the three places where interrupts are taken (ring 3, `hlt`, the window
//! between polls), so no lock is held; still they only mark and wake, neither allocate nor free (`irq-marks-tasks-work`).

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use drivers::interrupt::{Route, Vector};

use crate::arch::apic;
use crate::arch::ioapic::{self, NoLine};
use crate::arch::kernel_space::{OutOfTables, TableSource};
use crate::frames;
use crate::sync::Once;
use crate::time;

/// The timer of this CPU.
const TIMER: u8 = 0x20;
/// Devices, by message.
const FIRST_DEVICE: u8 = 0x40;
const DEVICES: u8 = 32;
/// What the controller sends when an interrupt went away; the low four bits must be set on old CPUs.
const SPURIOUS: u8 = 0xff;

/// What an interrupt was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// A deadline or the end of a time slice.
    Timer,
    /// A device has something to tell.
    Device,
    /// Nothing.
    Spurious,
}

/// What a device driver leaves here: it may mark and wake, nothing else.
pub type Handler = Box<dyn Fn() + Send + Sync>;

static HANDLERS: [Once<Handler>; DEVICES as usize] = [const { Once::new() }; DEVICES as usize];
static NEXT: AtomicU8 = AtomicU8::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Interrupts since boot.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// All vectors for devices are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no interrupt vector left")]
pub struct NoVector;

/// A vector that no other device has. Until it has a handler, its interrupts are acknowledged and forgotten.
#[derive(Debug)]
pub struct DeviceVector {
    index: u8,
}

impl DeviceVector {
    /// Takes the next one, for good.
    pub fn take() -> Result<Self, NoVector> {
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        if index < DEVICES { Ok(Self { index }) } else { Err(NoVector) }
    }

    /// Where the device's messages must go.
    pub fn route(&self) -> Route {
        Route { apic: apic::get().id(), vector: Vector(FIRST_DEVICE + self.index) }
    }

    /// Gives the vector its handler.
    pub fn handle(self, handler: Handler) {
        HANDLERS[usize::from(self.index)].call_once(|| handler);
    }
}

/// Sets up the controller.
pub fn init(source: &mut TableSource<'_>) -> Result<(), OutOfTables> {
    apic::init(Vector(SPURIOUS), Vector(TIMER), source)
}

/// Gives an ISA line a handler; where lines cannot be led anywhere, whoever listens has to look by the clock.
pub fn listen(line: u8, handler: Handler) {
    let routed = DeviceVector::take().map_err(|_| NoLine(line)).and_then(|vector| {
        ioapic::route(line, vector.route(), &mut frames::kernel_table)?;
        vector.handle(handler);
        Ok(())
    });
    if let Err(reason) = routed {
        log::warn!("{reason}: input will be seen late");
    }
}

/// Handles an interrupt. Called by whoever the CPU's trap went to, interrupts off.
pub fn dispatch(vector: u8) -> InterruptKind {
    COUNT.store(COUNT.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    let kind = match vector {
        TIMER => {
            time::on_interrupt();
            InterruptKind::Timer
        }
        SPURIOUS => return InterruptKind::Spurious,
        vector => {
            let index = usize::from(vector.wrapping_sub(FIRST_DEVICE));
            match HANDLERS.get(index).and_then(Once::get) {
                Some(handler) => {
                    handler();
                    InterruptKind::Device
                }
                None => InterruptKind::Spurious,
            }
        }
    };
    apic::get().end_of_interrupt();
    kind
}
