//! clone(2), fork(2), vfork(2): new threads and new processes.
//!
//! Owns which flags mean what. Two forms are there: everything shared (a thread), and nothing shared but, if asked for,
//! the memory (a process). What lies between has no user left since thread libraries have threads. clone3(2) is answered
//! ENOSYS, and the libraries fall back.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::Poll;

use linux_raw_sys::general as flag;
use x86_64::VirtAddr;

use super::abi::USER_END;
use super::errno::{Errno, SysResult};
use crate::process::limits::Resource;
use crate::process::process::{Inherited, Process, Seed, Unstarted};
use crate::process::signal::{AltStack, Signal};
use crate::process::space::AddressSpace;
use crate::process::thread::Thread;
use crate::process::{drought, groups, memory, table};

/// What every thread library asks for.
const THREAD_FLAGS: u32 =
    flag::CLONE_VM | flag::CLONE_FS | flag::CLONE_FILES | flag::CLONE_SIGHAND | flag::CLONE_THREAD;
/// What a process may share with its parent.
const PROCESS_FLAGS: u32 = flag::CLONE_VM | flag::CLONE_VFORK;
/// Flags beside those that mean something here, or ask for what is the case anyway.
const OPTIONAL_FLAGS: u32 = flag::CLONE_SYSVSEM
    | flag::CLONE_SETTLS
    | flag::CLONE_PARENT_SETTID
    | flag::CLONE_CHILD_SETTID
    | flag::CLONE_CHILD_CLEARTID
    | flag::CLONE_DETACHED
    | flag::CLONE_IO
    | EXIT_SIGNAL;
/// The low byte of the flags is the signal sent to the parent of a new process; threads have none.
const EXIT_SIGNAL: u32 = 0xff;

/// What clone is asked for.
#[derive(Clone, Copy)]
struct Wish {
    flags: u32,
    /// The child's stack pointer; 0: the same as the caller's.
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

impl Wish {
    fn has(&self, wanted: u32) -> bool {
        self.flags & wanted != 0
    }
}

/// fork(2).
pub(super) async fn fork(thread: &Thread) -> SysResult {
    let flags = u32::from(Signal::CHLD.number());
    Box::pin(new_process(thread, Wish { flags, stack: 0, parent_tid: 0, child_tid: 0, tls: 0 })).await
}

/// vfork(2).
pub(super) async fn vfork(thread: &Thread) -> SysResult {
    let flags = flag::CLONE_VM | flag::CLONE_VFORK | u32::from(Signal::CHLD.number());
    Box::pin(new_process(thread, Wish { flags, stack: 0, parent_tid: 0, child_tid: 0, tls: 0 })).await
}

/// clone(2).
pub(super) async fn clone(thread: &Thread, [flags, stack, parent_tid, child_tid, tls]: [u64; 5]) -> SysResult {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let wish = Wish { flags, stack, parent_tid, child_tid, tls };
    if wish.has(flag::CLONE_SETTLS) && tls >= USER_END {
        return Err(Errno::EPERM);
    }
    let shared = flags & !OPTIONAL_FLAGS;
    if shared == THREAD_FLAGS {
        return new_thread(thread, wish).await;
    }
    if shared & !PROCESS_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    // The call itself waits for a heap, and so may as well live on it: it is no part of the thread's own future.
    memory::wait_for_room().await?;
    Box::pin(new_process(thread, wish)).await
}

/// RLIMIT_NPROC counts the threads of everybody: all are of one user.
fn check_room_for_thread(process: &Process) -> Result<(), Errno> {
    let limit = process.inherited.lock().limits.get(Resource::NPROC).current;
    if table::thread_count() as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

async fn new_thread(thread: &Thread, wish: Wish) -> SysResult {
    if wish.stack == 0 {
        return Err(Errno::EINVAL);
    }
    let process = Arc::clone(&thread.process);
    memory::wait_for_room().await?;
    check_room_for_thread(&process)?;
    let unstarted = process.add_thread()?;
    let tid = unstarted.state().tid().number();
    tell_numbers(&process, &process, tid, wish).await?;
    first_steps(thread, &process, &unstarted, wish).spawn()?;
    unstarted.started();
    Ok(tid.into())
}

/// Writes the new thread's number where the flags say, before it runs. Linux does not look at what comes of that (`kernel_clone`,
/// `schedule_tail`), and neither do we if nothing can be written there. But its writes only fail for want of memory when their
/// process ends, while the memory of a child that is not there yet is refused a frame where somebody else would have to end: then
/// there is no child, because a C library that was promised the number relies on it (glibc's `fork`).
async fn tell_numbers(parent: &Process, child: &Process, number: u32, wish: Wish) -> Result<(), Errno> {
    if wish.has(flag::CLONE_CHILD_SETTID) {
        child.write_if_possible(wish.child_tid, &number).await?;
    }
    if wish.has(flag::CLONE_PARENT_SETTID) {
        parent.write_if_possible(wish.parent_tid, &number).await?;
    }
    Ok(())
}

/// The new thread, as it will come out of the call.
fn first_steps(thread: &Thread, process: &Arc<Process>, unstarted: &Unstarted, wish: Wish) -> Thread {
    unstarted.state().set_blocked(thread.state.blocked());
    let mut machine = thread.machine.duplicate();
    machine.set_syscall_result(0);
    if wish.stack != 0 {
        machine.context_mut().set_sp(wish.stack);
    }
    if wish.has(flag::CLONE_SETTLS) {
        machine.set_tls(VirtAddr::new(wish.tls));
    }
    let mut child = Thread::new(Arc::clone(process), Arc::clone(unstarted.state()), machine);
    child.name = thread.name;
    if wish.has(flag::CLONE_CHILD_CLEARTID) {
        child.clear_child_tid = wish.child_tid;
    }
    // Two threads in one memory cannot have one alternate stack; after vfork only one of them runs (sigaltstack(2)).
    let shares_memory = wish.has(flag::CLONE_VM) && !wish.has(flag::CLONE_VFORK);
    child.alt_stack = if shares_memory { AltStack::default() } else { thread.alt_stack };
    child
}

async fn new_process(thread: &Thread, wish: Wish) -> SysResult {
    let exit_signal = match wish.flags & EXIT_SIGNAL {
        0 => None,
        number => Some(Signal::from_number(number.into())?),
    };
    memory::wait_for_room().await?;
    let parent = &thread.process;
    check_room_for_thread(parent)?;
    let is_copy = !wish.has(flag::CLONE_VM);
    let space = if is_copy { copy_memory(thread).await? } else { Arc::clone(&thread.space) };
    let inherited = Inherited { parent_death_signal: None, ..parent.inherited.lock().clone() };
    let files = parent.files.lock().clone();
    let actions = parent.actions.lock().clone();
    let child = Process::new(Seed { space: Arc::clone(&space), inherited, files, actions, exit_signal });
    let pid = child.pid.number();
    // In memory that is lent it is the lender who answers for a fault.
    let told = tell_numbers(parent, if is_copy { &child } else { parent }, pid, wish).await;
    match told.and_then(|()| start(thread, &child, &space, wish)) {
        Ok(()) => {}
        Err(errno) => {
            thread.take_doomed_down().await;
            return Err(errno);
        }
    }
    if wish.has(flag::CLONE_VFORK) {
        poll_fn(|_| if child.is_borrowing() { Poll::Pending } else { Poll::Ready(()) }).await;
    }
    Ok(pid.into())
}

/// From here on the child is there, with its memory: no wait in between, so it is there wholly or not at all.
fn start(thread: &Thread, child: &Arc<Process>, space: &Arc<AddressSpace>, wish: Wish) -> Result<(), Errno> {
    let unstarted = child.add_thread()?;
    if wish.has(flag::CLONE_VFORK) {
        child.borrow_memory_from(Arc::clone(&thread.state));
    }
    first_steps(thread, child, &unstarted, wish).spawn()?;
    unstarted.started();
    table::enter(child, thread.process.pid);
    drought::child_made(child.pid, thread.process.pid);
    if wish.has(flag::CLONE_VM) {
        drop(space.join());
    } else {
        // It may have been moved while its memory was copied.
        groups::follow(space, &thread.process);
        *thread.state.doomed.lock() = None;
        child.stand();
    }
    Ok(())
}

/// A copy of the caller's memory. It is doomed until the child runs in it.
async fn copy_memory(thread: &Thread) -> Result<Arc<AddressSpace>, Errno> {
    let space = AddressSpace::create().map_err(|_| Errno::EAGAIN)?;
    *space.heap.lock() = *thread.space.heap.lock();
    *thread.state.doomed.lock() = Some(Arc::clone(&space));
    match thread.space.copy_to(&space).await {
        Ok(()) => Ok(space),
        Err(errno) => {
            thread.take_doomed_down().await;
            Err(errno)
        }
    }
}
