//! The Ebb kernel: boot, from the loader's last instruction to the first program's first one.
//!
//! Read [`kernel_main`] as the table of contents. Owns the order of initialisation and nothing else.
#![no_std]
#![no_main]

extern crate alloc;

mod acpi;
mod address_space;
mod arch;
mod boot;
mod cache;
mod cmdline;
mod compressor;
mod console;
mod data_disk;
mod devices;
mod disks;
mod file_store;
mod frames;
mod fs;
mod heap;
mod irq;
mod load;
mod log;
mod machine;
mod options;
mod panic;
mod phys;
mod power;
mod process;
mod report;
mod scheduler;
mod selftest;
mod session;
mod storage;
mod sync;
mod syscall;
mod telemetry;
mod time;

use boot::{BootInfo, EarlyMemory, RegionKind};
use frames::TooLittleMemory;
use machine::{mm, try_mm};
use mm::frame::FrameDesc;
use scheduler::executor;

/// Where both ways of booting meet: on the kernel stack, on boot page tables, interrupts off.
fn kernel_main(mut boot: BootInfo) -> ! {
    console::init();
    let Ok(descs) = memory(&mut boot) else {
        power::refuse_early(boot.command_line, "the machine has too little RAM to boot");
    };
    arch::init();
    let mut tables = frames::kernel_table;
    acpi::init(boot.rsdp, &mut tables);
    let options = options::init(boot.command_line);
    boot.log_memory();
    irq::init(&mut tables).expect("no memory for the interrupt controller's mapping");
    time::init(boot.entry_tsc, &mut tables).expect("no memory for the clock's mapping");
    frames::reclaim(&mut boot.memory, RegionKind::BootOnly);
    let session = session::run(session::Boot { info: boot, descs, options });
    executor().spawn(executor::Class::Kernel, "session", session).detach();
    scheduler::run()
}

/// From the loader's memory map to our own page tables, the frame allocator and, with it, the heap. The result has one descriptor
/// for each frame.
fn memory(boot: &mut BootInfo) -> Result<&'static mut [FrameDesc], TooLittleMemory> {
    let mut early = EarlyMemory::new(&boot.memory, boot.window).ok_or(TooLittleMemory)?;
    arch::kernel_space::init(boot, &mut early).map_err(|_| TooLittleMemory)?;
    early.lift_window(&boot.memory);
    let descs = early.take_slice(frames::span(&boot.memory)).ok_or(TooLittleMemory)?;
    frames::init(&mut boot.memory, early)?;
    Ok(machine::descriptors(descs))
}
