//! One run of the machine: swap, memory manager, first program, last record.
//!
//! Owns the order of what happens once the executor runs, and which tasks there are. Does not own how anything is done.
//!
//! ```text
//!   swap disk ─► memory manager ─► pager, reclaim ─► program from the boot module ─► its end ─► last record, power off
//! ```
#![expect(unsafe_code, reason = "looks at the boot module, which is RAM nobody else uses")]

use alloc::string::String;
use alloc::vec::Vec;

use executor::{Class, Duration};
use mm::Config;
use mm::frame::FrameDesc;

use crate::arch::direct_map;
use crate::boot::{BootInfo, PhysRange, RegionKind};
use crate::cmdline::{Options, Stdin, Swap, Torture};
use crate::devices;
use crate::fs::stdio;
use crate::machine;
use crate::phys::Memory;
use crate::power::{self, End};
use crate::process::{self, Program, Running};
use crate::scheduler::executor;
use crate::storage::Storage;
use crate::telemetry::Command;
use crate::{arch, console, frames, report, selftest, telemetry};

/// How long the end of the machine waits for the swap disk to take the last discards.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

/// `mm.torture` evicts everything at one fault in so many: at every one, a program gets on by one instruction at a time.
const TORTURE_EVERY: u64 = 16;

/// What boot hands over.
pub struct Boot {
    /// What the loader told us.
    pub info: BootInfo,
    /// One descriptor per frame.
    pub descs: &'static mut [FrameDesc],
    /// The options.
    pub options: &'static Options,
}

/// From the first task to the end of the machine.
pub async fn run(mut boot: Boot) {
    let options = boot.options;
    let Some(module) = boot.info.module else { refuse_without_module(options) };
    let spans = Vec::from_iter(boot.info.memory.runs()).leak();
    let store = open_swap(options, Memory::new(spans)).await;
    let mut key = [0; 8];
    arch::random::fill(&mut key);
    let torture = options.torture == Torture::On;
    let config =
        Config { torture, torture_every: TORTURE_EVERY, audit_key: u64::from_le_bytes(key), ..Config::default() };
    let mm = machine::init(config, Memory::new(spans), core::mem::take(&mut boot.descs), store);
    executor().spawn(Class::Kernel, "pager", mm.run_pager()).detach();
    executor().spawn(Class::Kernel, "reclaim", mm.run_reclaim()).detach();
    let (program, beside) = start_programs(options, module).await;
    frames::reclaim(&mut boot.info.memory, RegionKind::Module);
    selftest::run(&options.selftests);
    report::started(&boot.info, options);
    if telemetry::is_on() {
        executor().spawn(Class::Kernel, "telemetry", send_snapshots(options.snapshot_ms)).detach();
    }
    let ended = program.finished().await;
    for other in beside {
        other.kill().await;
    }
    // The disk learns what is free, unless it is slow to listen.
    let _in_time = executor().timers().timeout(DISCARD_PATIENCE, mm.discards_done()).await;
    report::ended(&ended);
    power::end(End::Clean)
}

fn refuse_without_module(options: &Options) -> ! {
    match &options.init {
        Some(path) => power::refuse(format_args!(
            "init={path} needs a data disk, which this kernel cannot read yet; give the program as the boot module (QEMU's -initrd)"
        )),
        None => power::refuse(format_args!(
            "there is no program: give a static ELF file as the boot module (QEMU's -initrd)"
        )),
    }
}

async fn open_swap(options: &Options, memory: Memory) -> Option<Storage> {
    if options.swap == Swap::Off {
        return None;
    }
    let disk = match devices::first_disk() {
        Ok(disk) => disk?,
        Err(error) => power::refuse(format_args!("the swap disk cannot be used: {error}")),
    };
    match Storage::open(disk, &memory).await {
        Ok(storage) => Some(storage),
        Err(refusal) => power::refuse(format_args!("the first virtio disk is not used for swap: {refusal}")),
    }
}

/// Starts the first program, and those beside it: each a process of its own.
async fn start_programs(options: &Options, module: PhysRange) -> (Running, Vec<Running>) {
    if options.stdin == Stdin::Com1 {
        stdio::open_input();
        console::open_input(stdio::input_arrived);
        telemetry::listen(|command| match command {
            Command::EndOfInput(total) => stdio::end_of_input_after(total),
        });
    }
    let unnamed = [String::from("program")];
    let argv = if options.argv.is_empty() { &unnamed[..] } else { &options.argv[..] };
    let first = start(options, module, argv).await;
    let mut beside = Vec::new();
    for argv in &options.beside {
        beside.push(start(options, module, argv).await);
    }
    (first, beside)
}

async fn start(options: &Options, module: PhysRange, argv: &[String]) -> Running {
    let argv: Vec<&[u8]> = argv.iter().map(|word| word.as_bytes()).collect();
    let env = process::environment(options.env.iter().map(|entry| entry.as_bytes()));
    match process::start(&Program { file: module_bytes(module), argv: &argv, env: &env }).await {
        Ok(running) => running,
        Err(error) => power::refuse(format_args!("{}: {error}", String::from_utf8_lossy(argv[0]))),
    }
}

fn module_bytes(module: PhysRange) -> &'static [u8] {
    let bytes = direct_map::range(module);
    // SAFETY: RAM in the direct map that the memory map keeps from everybody until `run` gives it back, after the last use.
    unsafe { core::slice::from_raw_parts(bytes.start.as_ptr(), (bytes.end - bytes.start) as usize) }
}

async fn send_snapshots(every_ms: u64) {
    loop {
        executor().timers().sleep(Duration::from_millis(every_ms)).await;
        report::snapshot();
    }
}
