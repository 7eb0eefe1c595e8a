//! Processes and threads: from an ELF file to an exit status.
//!
//! ```text
//!   run_first ─► elf::load ─► Thread::spawn ─┐            trap
//!                                            ▼     ┌───────────────┐
//!                                  thread: enter user mode         │
//!                                     │         │        │         │
//!                                 page fault  syscall  exception   │
//!                                     ▼         ▼        ▼         │
//!                                  memory    syscall/  signal,     │
//!                                   (mm)       fs/     deliver ────┘
//! ```
//! Owns who runs what. Does not own memory (`mm`), system call semantics (`syscall/`) or files (`fs/`).
//! What serialises: one task per thread; what threads share is in `process.rs` behind leaf locks never held across an
//! await; who is whose child is in `table.rs`; address space changes are serialised by `mm`.

pub mod alarm;
pub mod deliver;
pub mod drought;
pub mod elf;
pub mod elf_image;
pub mod exec;
pub mod futex;
pub mod groups;
pub mod limits;
pub mod mapping;
pub mod memory;
#[expect(clippy::module_inception, reason = "a process is one of the things this module is about")]
pub mod process;
pub mod promptness;
pub mod sending;
pub mod signal;
pub mod space;
pub mod stack;
pub mod stats;
pub mod table;
pub mod thread;
pub mod usage;
pub mod userpager;
pub mod victims;

use alloc::sync::Arc;
use alloc::vec::Vec;

pub use elf::{Program, Source, StartError};
pub use process::Outcome;
pub use table::all;

use mm::victim::Adjustment;

use crate::fs::FdTable;
use limits::Limits;
use process::{Inherited, Process, Seed, Tid};
use signal::Actions;
use thread::Thread;

/// What the machine's last record says about the first process.
#[derive(Debug, Clone, Copy)]
pub struct ExitReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Latency of the faults that needed no I/O.
    pub minor: stats::Latency,
    /// Latency of those that did.
    pub major: stats::Latency,
}

/// What every program finds in its environment unless `env=` says otherwise.
const DEFAULT_ENVIRONMENT: [&[u8]; 5] = [b"PATH=/bin", b"HOME=/", b"PWD=/", b"TERM=dumb", b"LANG=C"];

/// The default environment with `wishes` put in: `NAME=VALUE` replaces the default of that name.
pub fn environment<'a>(wishes: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let name = |entry: &[u8]| entry.iter().position(|b| *b == b'=').unwrap_or(entry.len());
    let mut env: Vec<&[u8]> = DEFAULT_ENVIRONMENT.to_vec();
    for wish in wishes {
        env.retain(|entry| entry[..name(entry)] != wish[..name(wish)]);
        env.push(wish);
    }
    env
}

/// Loads `program` and starts it, a child of the kernel. The file's bytes are not needed any more when this returns.
pub async fn start(program: &Program<'_>) -> Result<Running, StartError> {
    let limits = Limits::default();
    let loaded = elf::load(program, &limits).await?;
    let file = match &program.file {
        Source::File(file) => Some(file.clone()),
        Source::Bytes(_) => None,
    };
    let inherited = Inherited {
        limits,
        executable: program.path.into(),
        name: exec::name_of(program.path),
        arguments: exec::shown_arguments(program.argv),
        file,
        parent_death_signal: None,
        oom_adjustment: Adjustment::default(),
    };
    let process = Process::new(Seed {
        space: loaded.space,
        inherited,
        files: FdTable::with_console(),
        actions: Actions::default(),
        exit_signal: None,
    });
    let first = process.add_thread()?;
    let mut thread = Thread::new(Arc::clone(&process), Arc::clone(first.state()), loaded.machine);
    thread.name = exec::name_of(program.path);
    thread.spawn()?;
    first.started();
    process.stand();
    table::enter(&process, Tid::KERNEL);
    Ok(Running { process })
}

/// A process under way.
pub struct Running {
    process: Arc<Process>,
}

/// Ends every process there is, and waits until all they had is given back.
pub async fn end_all() {
    loop {
        let all = all();
        if all.is_empty() {
            return;
        }
        for process in &all {
            process.begin_end(Outcome::Signalled(signal::Signal::KILL));
        }
        for process in all {
            process.finished().await;
        }
    }
}

impl Running {
    /// Waits until its last thread is gone and its memory given back.
    pub async fn finished(self) -> ExitReport {
        ExitReport {
            outcome: self.process.finished().await,
            minor: stats::MINOR_FAULTS.latency(),
            major: stats::MAJOR_FAULTS.latency(),
        }
    }
}
