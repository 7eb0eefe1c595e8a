//! Ebb's device drivers: an asynchronous virtio-blk disk, PCI with MSI-X, the serial port and the clock hardware.
//!
//! Owns: register layouts, rings, and the memory of a disk request from the moment it is submitted until the device is
//! done with it. Does not own: address spaces, frames, tasks, policies. It knows nothing of the memory manager and
//! nothing of the executor: what it needs of either comes in through [`hal::DeviceMemory`] (memory a device may reach),
//! [`block::Buffers`] (memory a request owns) and `core::task::Waker`.
//!
//! ```text
//!   kernel/storage ──try_submit──▶ virtio_blk ──its queue─▶ pci::VirtioPci ──▶ device
//!        ▲                             │ slots own the requests              │ MSI-X
//!        └──────poll_complete──────────┘◀──── on_interrupt (marks, wakes) ◀──┘
//! ```
//!
//! The way of a disk request, top to bottom: [`block`] says what a request is; [`virtio_blk`] puts it into a slot,
//! which owns it, and its descriptors into the ring; the interrupt only marks and wakes; whoever polls next takes the
//! used entries off the ring, and request and result go back together. Nothing on that way allocates, and nothing waits
//! unless it is an `async fn`.
//!
//! What serialises what: one lock around ring and slots of a device, held for the length of one call and never across
//! an await; the interrupt handler does not take it. The kernel runs with interrupts off (design D3), so no lock here
//! is ever held when an interrupt arrives; [`virtio_blk`]'s waker table stays correct even if one were.
//!
//! Unsafe code lives in the modules that say so in their first lines: they touch ports, registers and device-visible
//! memory. `fake` (tests only) is a disk that misbehaves on command.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod block;
#[cfg(test)]
mod fake;
pub mod hal;
pub mod interrupt;
pub mod pci;
pub mod timer;
pub mod uart;
pub mod virtio_blk;
