//! The Ebb kernel: boot, from the loader's last instruction to the first program's first one.
//!
//! Read [`kernel_main`] as the table of contents. Owns the order of initialisation and nothing else.
#![no_std]
#![no_main]

extern crate alloc;

mod acpi;
mod arch;
mod boot;
mod cmdline;
mod console;
mod frames;
mod heap;
mod irq;
mod log;
mod options;
mod panic;
mod power;
mod sync;
mod telemetry;
mod time;

use boot::{BootInfo, EarlyMemory, RegionKind};
use frames::TooLittleMemory;

/// Where both ways of booting meet: on the kernel stack, on boot page tables, interrupts off.
fn kernel_main(mut boot: BootInfo) -> ! {
    console::init();
    if let Err(TooLittleMemory) = memory(&mut boot) {
        power::refuse_early(boot.command_line, "the machine has too little RAM to boot");
    }
    arch::init();
    let mut tables = frames::kernel_table;
    acpi::init(boot.rsdp, &mut tables);
    options::init(boot.command_line);
    boot.log_memory();
    irq::init(&mut tables).expect("no memory for the interrupt controller's mapping");
    time::init(boot.entry_tsc, &mut tables).expect("no memory for the clock's mapping");
    frames::reclaim(&mut boot.memory, RegionKind::BootOnly);
    ::log::info!("ready {} ticks after entry", time::tsc() - boot.entry_tsc);
    power::refuse(format_args!("there is no program to run"))
}

/// From the loader's memory map to our own page tables, the frame allocator and, with it, the heap.
fn memory(boot: &mut BootInfo) -> Result<(), TooLittleMemory> {
    let mut early = EarlyMemory::new(&boot.memory, boot.window).ok_or(TooLittleMemory)?;
    arch::kernel_space::init(boot, &mut early).map_err(|_| TooLittleMemory)?;
    early.lift_window(&boot.memory);
    frames::init(&mut boot.memory, early)?;
    Ok(())
}
