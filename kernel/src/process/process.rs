//! A process: what its threads share, and how it ends.
//!
//! Owns the open files, signal actions, futexes, heap bounds and thread list of one program. Does not own memory
//! (`mm` does; `memory.rs` is the way there) nor registers (each `Thread` has its own).
//!
//! ```text
//!   Running ──(1) begin_end──► Ending ──(2) last thread_gone──► Finished
//!      └──────(2) last thread_gone, by exit(2) ──────────────────►┘
//! ```
//! 1. `exit_group`, a fatal signal or out-of-memory, by any thread: the first reason stays. Every thread's task is
//!    woken, finds the process ending at its next poll and drops what it was doing, wherever it was waiting.
//! 2. The thread that leaves last takes the address space down; then whoever awaits `finished` gets the outcome.
//!
//! Locks here are leaves, held for a few instructions and never across an await.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use maitake_sync::WaitCell;
use mm::space::SpaceId;

use super::futex::FutexQueue;
use super::signal::{Actions, Pending, Signal, SignalSet};
use super::thread::ThreadState;
use crate::arch::paging::SpaceRoot;
use crate::cache::{Live, Type};
use crate::fs::FdTable;
use crate::sync::Mutex;
use crate::syscall::errno::Errno;

/// Most threads in one process: a page of wakers and queue places is the most a program can make us keep.
pub const MAX_THREADS: usize = 1024;

/// A process or thread number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid(u32);

impl Tid {
    /// One that nobody has. Numbers begin with 1 and are not used again: a machine's life is shorter than they are many.
    fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// As programs see it.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By `exit` or `exit_group`, with this status.
    Exited(u8),
    /// By this signal.
    Signalled(Signal),
    /// It needed a page and there was none to be had.
    OutOfMemory,
}

impl Outcome {
    /// The status a shell would show.
    pub fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => 128 + signal.number(),
            Self::OutOfMemory => 128 + Signal::KILL.number(),
        }
    }
}

/// The heap that `brk` moves the end of.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    /// Where it begins: the first page behind the image.
    pub start: u64,
    /// Its end, to the byte.
    pub end: u64,
}

/// See the module's head.
pub struct Process {
    /// Its number.
    pub pid: Tid,
    /// The path it was started by (`/proc/self/exe`).
    pub executable: Vec<u8>,
    /// Its address space.
    pub space: SpaceId,
    /// What CR3 gets while one of its threads runs.
    pub root: SpaceRoot,
    /// Its heap.
    pub heap: Mutex<Heap>,
    /// Its open files.
    pub files: Mutex<FdTable>,
    /// What it wants done about signals.
    pub actions: Mutex<Actions>,
    /// Signals sent to it as a whole.
    pub pending: Pending,
    /// Waits of its threads on its memory.
    pub futexes: FutexQueue,
    /// CPU time it used in user mode, by sampling at the timer's ticks.
    pub user_ns: AtomicU64,
    threads: Mutex<ThreadList>,
    is_ending: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
    /// What the first thread's own `exit` said.
    first_thread_status: AtomicU8,
    finished: WaitCell,
    _live: Live,
}

struct ThreadList {
    members: Vec<Arc<ThreadState>>,
    /// The first thread's number, until it has it: that of the process.
    first: Option<Tid>,
}

impl Process {
    /// A process without threads around a fresh address space.
    #[track_caller]
    pub fn new(space: SpaceId, root: SpaceRoot, heap_start: u64, executable: Vec<u8>) -> Arc<Self> {
        let pid = Tid::next();
        Arc::new(Self {
            _live: Type::Process.object(),
            pid,
            executable,
            space,
            root,
            heap: Mutex::new(Heap { start: heap_start, end: heap_start }),
            files: Mutex::new(FdTable::with_console()),
            actions: Mutex::new(Actions::default()),
            pending: Pending::default(),
            futexes: FutexQueue::new(),
            user_ns: AtomicU64::new(0),
            threads: Mutex::new(ThreadList { members: Vec::new(), first: Some(pid) }),
            is_ending: AtomicBool::new(false),
            outcome: Mutex::new(None),
            first_thread_status: AtomicU8::new(0),
            finished: WaitCell::new(),
        })
    }

    /// Adds a thread's shared half; its task is the caller's to spawn.
    pub fn add_thread(self: &Arc<Self>) -> Result<Unstarted, Errno> {
        let mut threads = self.threads.lock();
        if threads.members.len() >= MAX_THREADS {
            return Err(Errno::EAGAIN);
        }
        let tid = threads.first.take().unwrap_or_else(Tid::next);
        let waiter = self.futexes.register(threads.members.len() + 1);
        let thread = Arc::new(ThreadState::new(tid, waiter));
        threads.members.push(Arc::clone(&thread));
        Ok(Unstarted { process: Arc::clone(self), state: Some(thread) })
    }

    /// A thread by its number.
    pub fn thread(&self, tid: u64) -> Option<Arc<ThreadState>> {
        let threads = self.threads.lock();
        threads.members.iter().find(|t| u64::from(t.tid.0) == tid).cloned()
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().members.len()
    }

    /// Sends a signal to the process: any thread that does not block it may take it. One of those is woken, for only one wait is to be
    /// cut short by it; where all block it, whoever unblocks it first will see it.
    pub fn send(&self, signal: Signal) {
        self.pending.send(signal);
        let threads = self.threads.lock();
        if let Some(taker) = threads.members.iter().find(|thread| !thread.blocked().contains(signal)) {
            taker.wake();
        }
    }

    /// Ends the process, if nothing has ended it yet.
    pub fn begin_end(&self, outcome: Outcome) {
        self.outcome.lock().get_or_insert(outcome);
        if self.is_ending.swap(true, Ordering::AcqRel) {
            return;
        }
        if outcome == Outcome::OutOfMemory {
            crate::report::out_of_memory(self);
        }
        self.wake_threads();
    }

    /// Whether its threads have to stop.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    fn wake_threads(&self) {
        for thread in &self.threads.lock().members {
            thread.wake();
        }
    }

    /// The first thread's `exit` decides the status, unless something ends the whole process (wait(2)).
    pub fn note_thread_exit(&self, thread: &ThreadState, status: u8) {
        if thread.tid == self.pid {
            self.first_thread_status.store(status, Ordering::Release);
        }
    }

    /// A thread's task is over: its memory waits are dropped, its registers gone.
    pub async fn thread_gone(&self, thread: &Arc<ThreadState>) {
        let last = {
            let mut threads = self.threads.lock();
            threads.members.retain(|t| !Arc::ptr_eq(t, thread));
            threads.members.is_empty()
        };
        if !last && self.pending.any_outside(SignalSet::default()) {
            // It may have been woken for a signal that it did not live to take.
            self.wake_threads();
        }
        if last {
            self.release_memory().await;
            self.finished.close();
        }
    }

    /// Waits until the last thread is gone and its memory given back.
    pub async fn finished(&self) -> Outcome {
        // `close` is the only thing that happens to the cell, and it stays closed.
        let _ = self.finished.wait().await;
        let by_exit = Outcome::Exited(self.first_thread_status.load(Ordering::Acquire));
        self.outcome.lock().unwrap_or(by_exit)
    }
}

/// A thread that is on its process's list and has no task yet. Taken off the list when dropped: whoever makes it may be dropped at an
/// await, and a process ends only when its list is empty.
pub struct Unstarted {
    process: Arc<Process>,
    /// None once it has a task.
    state: Option<Arc<ThreadState>>,
}

impl Unstarted {
    /// Its shared half.
    pub fn state(&self) -> &Arc<ThreadState> {
        self.state.as_ref().expect("gone only when `self` is")
    }

    /// Its task exists, and will take it off the list.
    pub fn started(mut self) {
        self.state = None;
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(thread) = &self.state {
            self.process.threads.lock().members.retain(|t| !Arc::ptr_eq(t, thread));
        }
    }
}
