//! One run of the machine: swap, memory manager, first program, last record.
//!
//! Owns the order of what happens once the executor runs, and which tasks there are. Does not own how anything is done.
//!
//! ```text
//!   disks ─► memory manager ─► pager, reclaim ─► data disk mounted ─► program from the boot module or the disk
//!         ─► its end ─► data disk unmounted ─► last record, power off
//! ```
#![expect(unsafe_code, reason = "looks at the boot module, which is RAM nobody else uses")]

use alloc::string::String;
use alloc::vec::Vec;

use executor::{Class, Duration};
use mm::Config;
use mm::frame::FrameDesc;
use mm::space::{MAX_AREAS, Overcommit};
use mm::tier::Compression;

use crate::arch::direct_map;
use crate::boot::{BootInfo, PhysRange, RegionKind};
use crate::cmdline::{Compress, FailFrame, Failing, Module, Options, Promises, Stdin, Torture};
use crate::disks;
use crate::fs::{self, stdio};
use crate::machine;
use crate::phys::Memory;
use crate::power::{self, End};
use crate::process::{self, Program, Running, Source};
use crate::scheduler::executor;
use crate::telemetry::Command;
use crate::{arch, console, frames, report, selftest, telemetry};

/// How long the end of the machine waits for the swap disk to take the last discards.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

/// `mm.torture` evicts everything at one fault in so many: at every one, a program gets on by one instruction at a time.
const TORTURE_EVERY: u64 = 16;
/// Areas that one address space may have for each frame of RAM: 32 of them fill a frame, so it takes half of RAM at most.
const AREAS_PER_FRAME: usize = 16;

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
    let spans = Vec::from_iter(boot.info.memory.runs()).leak();
    let found = disks::find(options, &Memory::new(spans)).await;
    // Before the manager, whose pager listens to the disk of whatever is mounted.
    if let Some(disk) = found.data {
        disks::mount(disk, Memory::new(spans)).await;
    }
    let mut key = [0; 8];
    arch::random::fill(&mut key);
    let torture = options.torture == Torture::On;
    let overcommit = match options.promises {
        Promises::Any => Overcommit::Always,
        Promises::Plausible => Overcommit::Guess,
        Promises::Kept => Overcommit::Never { percent: 50 },
    };
    let audit_key = u64::from_le_bytes(key);
    let areas = MAX_AREAS.min(frames::get().counts().total * AREAS_PER_FRAME);
    let compression = match options.compress {
        Compress::Off => Compression::Off,
        Compress::On => Compression::On,
        Compress::Auto => Compression::Auto,
    };
    let torture_every = TORTURE_EVERY;
    let config = Config { torture, torture_every, audit_key, areas, overcommit, compression, ..Config::default() };
    let mm = machine::init(config, Memory::new(spans), core::mem::take(&mut boot.descs), found.swap)
        .unwrap_or_else(|_| power::refuse(format_args!("there is no memory for a compressed tier: swap.compress=off")));
    executor().spawn(Class::Kernel, "pager", mm.run_pager()).detach();
    executor().spawn(Class::Kernel, "reclaim", mm.run_reclaim()).detach();
    executor().spawn(Class::Kernel, "victims", process::victims::run()).detach();
    disks::serve();
    let timeout = Duration::from_millis(options.disk_timeout_ms);
    executor().spawn(Class::Kernel, "disk watch", disks::watch(timeout)).detach();
    executor().spawn(Class::Kernel, "alarms", process::alarm::run_alarms()).detach();
    let program = start_programs(options, boot.info.module).await;
    match (options.module, boot.info.module) {
        (Module::Keep, Some(module)) => process::exec::keep_boot_program(module_bytes(module)),
        _ => frames::reclaim(&mut boot.info.memory, RegionKind::Module),
    }
    selftest::run(&options.selftests, &boot.info.memory);
    report::started(&boot.info, options);
    if telemetry::is_on() {
        executor().spawn(Class::Kernel, "telemetry", send_snapshots(options.snapshot_ms)).detach();
    }
    match options.fail_frame {
        Some(FailFrame { first, last, failing: Failing::Once }) => frames::get().fail(first, last),
        Some(FailFrame { first, last, failing: Failing::ForGood }) => process::drought::plan(first, last),
        None => {}
    }
    let ended = program.finished().await;
    // Those beside it and its descendants have nobody to run for any more.
    process::end_all().await;
    // The disk learns what is free, unless it is slow to listen.
    let _in_time = executor().timers().timeout(DISCARD_PATIENCE, mm.discards_done()).await;
    disks::unmount().await;
    match options.fail_frame.map(|fail_frame| fail_frame.failing) {
        Some(Failing::Once) => log::info!("fail_frame: {} frame allocations failed", frames::get().failed()),
        Some(Failing::ForGood) => log::info!("fail_frame: for good in {} children", process::drought::begun()),
        None => {}
    }
    report::ended(&ended);
    power::end(End::Clean)
}

/// Starts the first program, and those beside it: each a process of its own.
async fn start_programs(options: &Options, module: Option<PhysRange>) -> Running {
    if options.stdin == Stdin::Com1 {
        stdio::open_input();
        console::open_input(stdio::input_arrived);
        telemetry::listen(|command| match command {
            Command::EndOfInput(total) => stdio::end_of_input_after(total),
        });
    }
    let source = first_program(options, module).await;
    let unnamed = [options.init.clone().unwrap_or_else(|| String::from("program"))];
    let argv = if options.argv.is_empty() { &unnamed[..] } else { &options.argv[..] };
    let first = start(options, &source, argv).await;
    for argv in &options.beside {
        start(options, &source, argv).await;
    }
    first
}

/// The boot module, or else the program on the data disk that `init=` names.
async fn first_program(options: &Options, module: Option<PhysRange>) -> Source<'static> {
    let path = match (module, &options.init) {
        (Some(module), None) => return Source::Bytes(module_bytes(module)),
        (Some(_), Some(path)) => {
            power::refuse(format_args!("there are two programs, a boot module and init={path}: give one"))
        }
        (None, None) => power::refuse(format_args!(
            "there is no program: give a static ELF file as the boot module (QEMU's -initrd), or init=PATH and a data disk"
        )),
        (None, Some(path)) => path,
    };
    if fs::disk::volume().is_none() {
        power::refuse(format_args!(
            "init={path} needs a data disk, and there is none: give an ext4 image as a virtio disk"
        ));
    }
    match fs::find_program(path.as_bytes()).await {
        Ok(file) => Source::File(file),
        Err(errno) => power::refuse(format_args!("init={path}: there is no such program on the data disk ({errno:?})")),
    }
}

async fn start(options: &Options, source: &Source<'static>, argv: &[String]) -> Running {
    let argv: Vec<&[u8]> = argv.iter().map(|word| word.as_bytes()).collect();
    let env = process::environment(options.env.iter().map(|entry| entry.as_bytes()));
    let path = match &options.init {
        Some(path) => process::exec::from_root(path.as_bytes()),
        None => process::exec::from_root(argv[0]),
    };
    match process::start(&Program { file: source.clone(), path: &path, argv: &argv, env: &env }).await {
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
