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
//! await; address space changes are serialised by `mm`.

pub mod deliver;
pub mod elf;
pub mod elf_image;
pub mod futex;
pub mod memory;
#[expect(clippy::module_inception, reason = "a process is one of the things this module is about")]
pub mod process;
pub mod promptness;
pub mod signal;
pub mod stack;
pub mod stats;
pub mod thread;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

pub use elf::{Program, Source, StartError};
pub use process::Outcome;

use crate::sync::Mutex;
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

/// Loads `program` and starts it. The file's bytes are not needed any more when this returns.
pub async fn start(program: &Program<'_>) -> Result<Running, StartError> {
    let (process, machine) = elf::load(program).await?;
    let first = process.add_thread()?;
    Thread::new(Arc::clone(&process), Arc::clone(first.state()), machine).spawn()?;
    first.started();
    let mut all = ALL.lock();
    all.retain(|process| process.strong_count() > 0);
    all.push(Arc::downgrade(&process));
    Ok(Running { process })
}

/// Every process, for those who ask who holds what.
static ALL: Mutex<Vec<Weak<process::Process>>> = Mutex::new(Vec::new());

/// Every process there is now.
pub fn all() -> Vec<Arc<process::Process>> {
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}

/// A process under way.
pub struct Running {
    process: Arc<process::Process>,
}

impl Running {
    /// Ends it, and waits until all it had is given back.
    pub async fn kill(self) {
        self.process.begin_end(Outcome::Signalled(signal::Signal::KILL));
        self.process.finished().await;
    }

    /// Waits until its last thread is gone and its memory given back.
    pub async fn finished(self) -> ExitReport {
        ExitReport {
            outcome: self.process.finished().await,
            minor: stats::MINOR_FAULTS.latency(),
            major: stats::MAJOR_FAULTS.latency(),
        }
    }
}
