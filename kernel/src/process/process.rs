//! A process: what its threads share, and how it ends.
//!
//! Owns the signal actions, open files, limits and thread list of one program. Does not own memory (`space.rs` and
//! `memory.rs`), registers (each `Thread` has its own) nor who its relatives are (`table.rs`).
//!
//! ```text
//!   Running ──(1) begin_end──► Ending ──(2) last thread_gone──► Finished
//!      └──────(2) last thread_gone, by exit(2) ──────────────────►┘
//! ```
//! 1. `exit_group`, a fatal signal or out-of-memory, by any thread: the first reason stays. Every thread's task is
//!    woken, finds the process ending at its next poll and drops what it was doing, wherever it was waiting.
//! 2. The thread that leaves last gives back files and memory; then the parent is told (`table::finish`), and whoever
//!    awaits `finished` gets the outcome.
//!
//! Locks here are leaves, held for a few instructions and never across an await.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use core::task::Poll;

use maitake_sync::WaitCell;
use mm::space::SpaceId;
use mm::victim::Adjustment;

use super::alarm::RealTimer;
use super::drought;
use super::limits::Limits;
use super::signal::{Actions, Pending, Signal, SignalSet};
use super::space::{AddressSpace, Resigned};
use super::table;
use super::thread::ThreadState;
use super::usage::{Usage, Used};
use crate::cache::{Live, Type};
use crate::fs::FdTable;
use crate::fs::exclusion::Executing;
use crate::fs::locks;
use crate::sync::Mutex;
use crate::syscall::errno::Errno;
use crate::time;

/// Most threads in one process: a page of wakers and queue places is the most a program can make us keep.
pub const MAX_THREADS: usize = 1024;

/// A process or thread number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid(u32);

impl Tid {
    /// The kernel's own: it is the parent of the first program and of orphans, as init is elsewhere.
    pub const KERNEL: Self = Self(1);
    /// That of the first program, with which the machine ends.
    pub const FIRST: Self = Self(2);

    /// One that nobody has. Numbers are not used again: a machine's life is shorter than they are many.
    fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(Tid::FIRST.0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// As a program names it.
    pub fn from_number(number: u64) -> Self {
        Self(number as u32)
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
    /// Memory had run out, and it was the one to end.
    OutOfMemory,
}

impl Outcome {
    /// As wait(2) tells it: the status in the second byte, or the signal in the first.
    pub fn to_wait_status(self) -> u32 {
        match self {
            Self::Exited(status) => u32::from(status) << 8,
            Self::Signalled(signal) => signal.number().into(),
            Self::OutOfMemory => Signal::KILL.number().into(),
        }
    }

    /// The status a shell would show.
    pub fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => 128 + signal.number(),
            Self::OutOfMemory => 128 + Signal::KILL.number(),
        }
    }
}

/// What becomes of a process's place in the world when its program changes: fork copies it, execve keeps it.
#[derive(Clone)]
pub struct Inherited {
    /// Its resource limits.
    pub limits: Limits,
    /// The program's path (`/proc/self/exe`).
    pub executable: Arc<[u8]>,
    /// What `/proc/PID/comm` says: the first thread's name.
    pub name: [u8; 16],
    /// The beginning of what the program was called with, each word with a zero byte (`/proc/PID/cmdline`).
    pub arguments: Arc<[u8]>,
    /// The program's file; none if it is the boot module.
    pub file: Option<Executing>,
    /// Signal it gets when its parent ends (`PR_SET_PDEATHSIG`); not copied by fork.
    pub parent_death_signal: Option<Signal>,
    /// How much larger than it is it counts when somebody must end for want of memory.
    pub oom_adjustment: Adjustment,
}

/// What stands in the way of a thread that goes back to user mode.
mod obstacle {
    /// The process is ending.
    pub const ENDING: u8 = 1;
    /// It is stopped (SIGSTOP).
    pub const STOPPED: u8 = 2;
}

/// See the module's head.
pub struct Process {
    /// Its number.
    pub pid: Tid,
    /// Signal its parent gets at its end; `None` for a child made without one.
    pub exit_signal: Option<Signal>,
    /// What fork copies and execve keeps.
    pub inherited: Mutex<Inherited>,
    /// Its open files.
    pub files: Mutex<FdTable>,
    /// What it wants done about signals.
    pub actions: Mutex<Actions>,
    /// Signals sent to it as a whole.
    pub pending: Pending,
    /// Its `ITIMER_REAL`.
    pub real_timer: Mutex<RealTimer>,
    /// When it was made, since boot.
    pub began_ns: u64,
    /// What it used.
    pub usage: Usage,
    /// What its children used that it has waited for.
    pub children_usage: Usage,
    space: Mutex<Arc<AddressSpace>>,
    threads: Mutex<ThreadList>,
    obstacles: AtomicU8,
    outcome: Mutex<Option<Outcome>>,
    /// What the first thread's own `exit` said.
    first_thread_status: AtomicU8,
    finished: WaitCell,
    _live: Live,
    /// The thread that made this process by vfork, until it may go on.
    borrowed_from: Mutex<Option<Arc<ThreadState>>>,
    /// Has called execve.
    has_execed: AtomicBool,
}

struct ThreadList {
    members: Vec<Arc<ThreadState>>,
    /// The first thread's number, until it has it: that of the process.
    first: Option<Tid>,
}

/// What a process is made from.
pub struct Seed {
    /// Its memory, which it has joined already.
    pub space: Arc<AddressSpace>,
    /// See [`Process::inherited`].
    pub inherited: Inherited,
    /// Its open files.
    pub files: FdTable,
    /// See [`Process::actions`].
    pub actions: Actions,
    /// See [`Process::exit_signal`].
    pub exit_signal: Option<Signal>,
}

impl Process {
    /// A process without threads.
    #[track_caller]
    pub fn new(seed: Seed) -> Arc<Self> {
        let pid = Tid::next();
        Arc::new(Self {
            _live: Type::Process.object(),
            pid,
            began_ns: time::now_ns(),
            exit_signal: seed.exit_signal,
            inherited: Mutex::new(seed.inherited),
            files: Mutex::new(seed.files),
            actions: Mutex::new(seed.actions),
            pending: Pending::default(),
            real_timer: Mutex::new(RealTimer::default()),
            usage: Usage::default(),
            children_usage: Usage::default(),
            space: Mutex::new(seed.space),
            threads: Mutex::new(ThreadList { members: Vec::new(), first: Some(pid) }),
            obstacles: AtomicU8::new(0),
            outcome: Mutex::new(None),
            first_thread_status: AtomicU8::new(0),
            finished: WaitCell::new(),
            borrowed_from: Mutex::new(None),
            has_execed: AtomicBool::new(false),
        })
    }

    /// Its address space, as `mm` names it.
    pub fn space(&self) -> SpaceId {
        self.space.lock().id
    }

    /// Its address space.
    pub fn address_space(&self) -> Arc<AddressSpace> {
        Arc::clone(&self.space.lock())
    }

    /// The path of the program it runs.
    pub fn executable(&self) -> Arc<[u8]> {
        Arc::clone(&self.inherited.lock().executable)
    }

    /// Its name, without the zero bytes behind it.
    pub fn name(&self) -> Vec<u8> {
        let name = self.inherited.lock().name;
        name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
    }

    /// Adds a thread's shared half; its task is the caller's to spawn.
    pub fn add_thread(self: &Arc<Self>) -> Result<Unstarted, Errno> {
        let mut threads = self.threads.lock();
        if threads.members.len() >= MAX_THREADS {
            return Err(Errno::EAGAIN);
        }
        let tid = threads.first.take().unwrap_or_else(Tid::next);
        let waiter = self.space.lock().futexes.register();
        let thread = Arc::new(ThreadState::new(tid, waiter));
        threads.members.push(Arc::clone(&thread));
        Ok(Unstarted { process: Arc::clone(self), state: Some(thread) })
    }

    /// A thread by its number.
    pub fn thread(&self, tid: Tid) -> Option<Arc<ThreadState>> {
        self.find_thread(|thread| thread.tid() == tid)
    }

    /// The first thread that is wanted.
    pub fn find_thread(&self, is_wanted: impl Fn(&ThreadState) -> bool) -> Option<Arc<ThreadState>> {
        self.threads.lock().members.iter().find(|thread| is_wanted(thread)).cloned()
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().members.len()
    }

    /// Ends the process, if nothing has ended it yet.
    pub fn begin_end(&self, outcome: Outcome) {
        self.outcome.lock().get_or_insert(outcome);
        if self.obstacles.fetch_or(obstacle::ENDING, Ordering::AcqRel) & obstacle::ENDING != 0 {
            return;
        }
        // What it has comes back: nobody needs to end for want of it.
        let space = self.address_space();
        if !space.is_shared() {
            space.stand_down();
        }
        self.wake_threads();
    }

    /// Whether its threads have to stop.
    pub fn is_ending(&self) -> bool {
        self.obstacles.load(Ordering::Acquire) & obstacle::ENDING != 0
    }

    /// Whether a thread may not go back to user mode just so.
    pub fn is_obstructed(&self) -> bool {
        self.obstacles.load(Ordering::Acquire) != 0
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.obstacles.load(Ordering::Acquire) & obstacle::STOPPED != 0
    }

    /// Stops its threads on their way back to user mode; says whether they were not stopped yet.
    pub fn stop(&self) -> bool {
        self.obstacles.fetch_or(obstacle::STOPPED, Ordering::AcqRel) & obstacle::STOPPED == 0
    }

    /// Lets its threads go on; says whether they were stopped.
    pub fn go_on(&self) -> bool {
        let was_stopped = self.obstacles.fetch_and(!obstacle::STOPPED, Ordering::AcqRel) & obstacle::STOPPED != 0;
        if was_stopped {
            self.wake_threads();
        }
        was_stopped
    }

    /// Has the tasks of all its threads polled: something they may wait for has happened.
    pub fn wake_threads(&self) {
        for thread in &self.threads.lock().members {
            thread.wake();
        }
    }

    /// The first thread's `exit` decides the status, unless something ends the whole process (wait(2)).
    pub fn note_thread_exit(&self, thread: &ThreadState, status: u8) {
        if thread.tid() == self.pid {
            self.first_thread_status.store(status, Ordering::Release);
        }
    }

    /// A thread's task is over: its memory waits are dropped, its registers gone.
    pub async fn thread_gone(&self, thread: &Arc<ThreadState>) {
        let doomed = thread.doomed.lock().take();
        if let Some(space) = doomed {
            space.destroy().await;
        }
        self.space.lock().futexes.unregister();
        let left = {
            let mut threads = self.threads.lock();
            threads.members.retain(|t| !Arc::ptr_eq(t, thread));
            threads.members.len()
        };
        if left == 1 || self.pending.any_outside(SignalSet::default()) {
            // The one that is left may be in execve; and a signal may have woken the one that did not live to take it.
            self.wake_threads();
        }
        if left == 0 {
            self.finish().await;
        }
    }

    /// The last thread is gone.
    async fn finish(&self) {
        self.give_memory_back();
        self.close_files();
        let space = self.address_space();
        self.usage.note_resident(self.footprint().await.resident);
        if space.resign() == Resigned::Last {
            space.destroy().await;
        }
        // A zombie runs nothing any more.
        let program = self.inherited.lock().file.take();
        drop(program);
        drought::gone(self.pid);
        table::finish(self, self.outcome());
        self.finished.close();
    }

    /// Closes all its files.
    fn close_files(&self) {
        let files = core::mem::take(&mut *self.files.lock());
        files.files().for_each(|file| locks::closed_by(self.pid, file));
        // Dropped here, with no lock held: closing a pipe wakes others.
        drop(files);
    }

    fn outcome(&self) -> Outcome {
        let by_exit = Outcome::Exited(self.first_thread_status.load(Ordering::Acquire));
        self.outcome.lock().unwrap_or(by_exit)
    }

    /// Waits until the last thread is gone and its memory given back.
    pub async fn finished(&self) -> Outcome {
        // `close` is the only thing that happens to the cell, and it stays closed.
        let _ = self.finished.wait().await;
        self.outcome()
    }

    /// The process runs in memory that its parent lent it, until [`Self::give_memory_back`].
    pub fn borrow_memory_from(&self, parent: Arc<ThreadState>) {
        *self.borrowed_from.lock() = Some(parent);
    }

    /// Whether the parent still waits for its memory.
    pub fn is_borrowing(&self) -> bool {
        self.borrowed_from.lock().is_some()
    }

    fn give_memory_back(&self) {
        let parent = self.borrowed_from.lock().take();
        if let Some(parent) = parent {
            parent.wake();
        }
    }

    /// Ends all threads but `survivor`, which becomes the first, and waits until they are gone.
    pub async fn become_single(&self, survivor: &ThreadState) {
        for thread in &self.threads.lock().members {
            if !core::ptr::eq(&**thread, survivor) {
                thread.leave();
            }
        }
        poll_fn(|_| if self.thread_count() == 1 { Poll::Ready(()) } else { Poll::Pending }).await;
        survivor.set_tid(self.pid);
    }

    /// Puts other memory in place of what it has, with the program that is in it; what it had is for the caller to give up.
    pub fn change_program(&self, space: Arc<AddressSpace>, inherited: Inherited) -> Arc<AddressSpace> {
        self.actions.lock().forget_handlers();
        // Dropped with no lock held: with it goes the program that ran before.
        let program = core::mem::replace(&mut *self.inherited.lock(), inherited);
        drop(program);
        self.has_execed.store(true, Ordering::Release);
        let before = core::mem::replace(&mut *self.space.lock(), space);
        self.stand();
        self.give_memory_back();
        before
    }

    /// Whether children of its leave zombies for it.
    pub fn asks_for_children(&self) -> bool {
        self.actions.lock().asks_for_children()
    }

    /// What it and the children it has waited for used.
    pub fn total_used(&self) -> Used {
        self.usage.used().plus(self.children_usage.used())
    }

    /// Whether it has called execve since it was made.
    pub fn has_execed(&self) -> bool {
        self.has_execed.load(Ordering::Acquire)
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
            self.process.space.lock().futexes.unregister();
            self.process.threads.lock().members.retain(|t| !Arc::ptr_eq(t, thread));
            // One that calls execve waits until it is alone.
            self.process.wake_threads();
        }
    }
}
