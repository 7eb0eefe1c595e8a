//! A user thread: an async task that enters user mode, and serves each trap that ends its stay there.
//!
//! Owns the thread's registers, signal mask and holds on pages. Faults are `mm`'s work and system calls
//! `syscall/`'s: this file only carries the traps to them and decides when signals are looked at.
//!
//! A thread's task can be dropped at any await: it is polled through [`Life`], which stops polling it once the
//! process is ending.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};

use executor::yield_now;
use x86_64::structures::idt::ExceptionVector;

use super::futex::Waiter;
use super::memory::{Fault, FaultError, FaultKind, HeldPages, WhileStalled};
use super::process::{Outcome, Process, Tid};
use super::signal::{AltStack, DefaultAction, Disposition, Handler, Origin, Pending, SigInfo, Signal, SignalSet, code};
use super::space::AddressSpace;
use super::{promptness, stats};
use crate::arch::cpu::timestamp;
use crate::arch::user::{Access, Trap, UserThread};
use crate::cache::{Live, Type};
use crate::irq::InterruptKind;
use crate::load;
use crate::sync::Mutex;
use crate::syscall::abi::USER_END;
use crate::syscall::errno::Errno;
use crate::syscall::{self, Verdict};

/// The timer's period, credited to the thread it interrupts.
const TICK_NS: u64 = crate::time::TIME_SLICE.as_nanos();
/// Vector of #PF, as `sigcontext` reports it.
const PAGE_FAULT_VECTOR: u64 = 14;

/// What other threads may see and do to this one.
pub struct ThreadState {
    /// Its number; execve gives the thread that called it the number of the process.
    tid: AtomicU32,
    /// Signals sent to this thread alone.
    pub pending: Pending,
    /// Its place in the futex queue.
    pub waiter: Arc<Waiter>,
    /// Memory that it has made and nobody uses yet, or nobody uses any more: what the thread does not live to take down
    /// itself is taken down at its end.
    pub doomed: Mutex<Option<Arc<AddressSpace>>>,
    blocked: AtomicU64,
    /// It has to end, though the process goes on: another thread has called execve.
    is_leaving: AtomicBool,
    waker: Mutex<Option<Waker>>,
    _live: Live,
}

impl ThreadState {
    /// A thread that has not run yet.
    #[track_caller]
    pub fn new(tid: Tid, waiter: Arc<Waiter>) -> Self {
        Self {
            tid: AtomicU32::new(tid.number()),
            pending: Pending::default(),
            waiter,
            doomed: Mutex::new(None),
            blocked: AtomicU64::new(0),
            is_leaving: AtomicBool::new(false),
            waker: Mutex::new(None),
            _live: Type::ThreadState.object(),
        }
    }

    /// Its number.
    pub fn tid(&self) -> Tid {
        Tid::from_number(self.tid.load(Ordering::Relaxed).into())
    }

    /// Gives it another number.
    pub fn set_tid(&self, tid: Tid) {
        self.tid.store(tid.number(), Ordering::Relaxed);
    }

    /// Has its task polled.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Ends it, wherever it waits.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.wake();
    }

    /// The signals it blocks.
    pub fn blocked(&self) -> SignalSet {
        SignalSet::from_mask(self.blocked.load(Ordering::Acquire))
    }

    /// Blocks exactly these.
    pub fn set_blocked(&self, set: SignalSet) {
        self.blocked.store(set.bits(), Ordering::Release);
    }

    fn remember_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// A thread, as its own task sees it.
pub struct Thread {
    /// Registers, FPU state, TLS pointer.
    pub machine: UserThread,
    /// What it shares with its siblings.
    pub process: Arc<Process>,
    /// The memory it runs in: that of its process, at hand without a lock.
    pub space: Arc<AddressSpace>,
    /// What its siblings see of it.
    pub state: Arc<ThreadState>,
    /// Its alternate signal stack.
    pub alt_stack: AltStack,
    /// Where to write zero and wake a futex when it exits (set_tid_address(2)); 0: nowhere.
    pub clear_child_tid: u64,
    /// Its name, for `prctl`.
    pub name: [u8; 16],
    /// The number of the system call a signal interrupted, while that can still be restarted.
    pub restartable_call: Option<u64>,
    /// The signal whose handler is called next.
    pub delivery: Option<(SigInfo, Handler)>,
    /// The mask that comes back once the handler has been given its frame (rt_sigsuspend, ppoll, pselect6).
    pub mask_to_restore: Option<SignalSet>,
    held: HeldPages,
    _live: Live,
}

/// What a thread does next.
enum Next {
    /// Back to user mode.
    Continue,
    /// The handler that `delivery` says. Kept there, so that what every trap returns stays one byte.
    Handle,
    /// Nothing until the process goes on.
    Pause,
    /// Nothing any more.
    Stop,
}

impl Thread {
    /// A thread of `process` that starts with these registers.
    #[track_caller]
    pub fn new(process: Arc<Process>, state: Arc<ThreadState>, machine: UserThread) -> Self {
        Self {
            machine,
            space: process.address_space(),
            process,
            state,
            alt_stack: AltStack::default(),
            clear_child_tid: 0,
            name: [0; 16],
            restartable_call: None,
            delivery: None,
            mask_to_restore: None,
            held: HeldPages::default(),
            _live: Type::Thread.object(),
        }
    }

    /// Makes the thread a task; gives it back if there are too many.
    pub fn spawn(self) -> Result<(), Errno> {
        let name = executor::TaskName::numbered("thread", self.state.tid().number());
        let life = Life {
            process: Arc::clone(&self.process),
            state: Arc::clone(&self.state),
            stage: Stage::Running(small(Box::new(self).run())),
        };
        let task = crate::executor().try_spawn(executor::Class::User, name, life);
        task.map(executor::Task::detach).map_err(|_| Errno::EAGAIN)
    }

    async fn run(mut self: Box<Self>) {
        loop {
            let next = if self.needs_attention() {
                self.attend()
            } else {
                match self.machine.enter(self.space.root) {
                    Trap::Syscall => match self.syscall_now() {
                        Ok(()) => continue,
                        Err(number) => {
                            let verdict = syscall::dispatch(&mut self).await;
                            self.finish_syscall(number, verdict)
                        }
                    },
                    Trap::PageFault { address, access } => {
                        let began = timestamp();
                        // Most faults are over before anything becomes a future.
                        let served = match self.begin_fault(address, access) {
                            Fault::Over { result } => result,
                            waits => WhileStalled::of(waits).await,
                        };
                        match served {
                            Ok(kind) => {
                                self.count_fault(kind, began);
                                // Reclaim works ahead only if it gets to run: a thread that faults on and on must not wait
                                // for its tick.
                                if crate::executor().has_urgent() {
                                    yield_now().await;
                                }
                                if kind == FaultKind::Major {
                                    promptness::count_resumed(crate::executor().overtaken());
                                }
                                continue;
                            }
                            Err(error) => self.fail_fault(error, address, access),
                        }
                    }
                    Trap::Interrupt(kind) => self.interrupt(kind).await,
                    Trap::Exception { vector, error } => self.exception(vector, error),
                }
            };
            match next {
                Next::Continue => {}
                Next::Handle => {
                    // The copies of the frame wait for frames of their own, and nobody may do that with pages in hand.
                    self.held.release();
                    // A signal whose frame cannot be written ends the process (signal(7)).
                    if self.deliver().await.is_err() {
                        self.process.begin_end(Outcome::Signalled(Signal::SEGV));
                        return;
                    }
                }
                Next::Pause => {
                    poll_fn(|_| if self.process.is_stopped() { Poll::Pending } else { Poll::Ready(()) }).await
                }
                Next::Stop => return,
            }
        }
    }

    /// Calls that never wait are answered without becoming a future; for the others, the number comes back.
    fn syscall_now(&mut self) -> Result<(), u64> {
        self.held.release();
        let request = self.machine.syscall();
        let result = syscall::try_now(self, request).ok_or(request.number)?;
        self.machine.set_syscall_result(to_register(result));
        Ok(())
    }

    fn finish_syscall(&mut self, number: u64, verdict: Verdict) -> Next {
        match verdict {
            Verdict::Return(Err(Errno::ERESTART)) => {
                self.restartable_call = Some(number);
                self.machine.set_syscall_result(Errno::EINTR.to_register());
                Next::Continue
            }
            Verdict::Return(result) => {
                self.machine.set_syscall_result(to_register(result));
                Next::Continue
            }
            Verdict::RegistersSet => Next::Continue,
            Verdict::Exit => Next::Stop,
        }
    }

    /// Most faults are over when this returns, and nothing has become a future.
    #[inline]
    fn begin_fault(&mut self, address: u64, access: Access) -> Fault<'_> {
        if address >= USER_END {
            return Fault::Over { result: Err(FaultError::NotMapped) };
        }
        self.space.fault(address, access, self.machine.context().ip(), &mut self.held)
    }

    #[inline]
    fn count_fault(&self, kind: FaultKind, began: u64) {
        self.process.usage.count_fault(kind);
        stats::record_fault(kind, timestamp().wrapping_sub(began));
    }

    #[cold]
    fn fail_fault(&mut self, error: FaultError, address: u64, access: Access) -> Next {
        let (signal, code) = match error {
            FaultError::OutOfMemory => {
                self.process.end_if_condemned();
                return Next::Stop;
            }
            FaultError::SpaceGone => return Next::Stop,
            FaultError::NotMapped => (Signal::SEGV, code::SEGV_MAPERR),
            FaultError::Forbidden => (Signal::SEGV, code::SEGV_ACCERR),
            FaultError::BadPage => (Signal::BUS, code::BUS_MCEERR_AR),
        };
        let error = match access {
            Access::Read => 0b100,
            Access::Write => 0b110,
            Access::Execute => 0b1_0100,
        };
        let origin = Origin::Fault { address, trap: PAGE_FAULT_VECTOR, error };
        self.force(SigInfo { signal, code, origin })
    }

    async fn interrupt(&mut self, kind: InterruptKind) -> Next {
        if let InterruptKind::Timer = kind {
            self.process.usage.add_user_ns(TICK_NS);
            load::count_user(TICK_NS);
            crate::scheduler::begin_slice();
        }
        match kind {
            // A whole slice in user mode is progress, wherever the thread stands.
            InterruptKind::Timer => self.held.release(),
            _ => self.held.release_unless_at(self.machine.context().ip()),
        }
        // A device's interrupt that woke nobody of higher rank leaves the CPU to this thread until the tick.
        if kind == InterruptKind::Timer || crate::executor().has_urgent() {
            crate::executor().end_turn().await;
        } else {
            promptness::count_went_on();
        }
        Next::Continue
    }

    fn exception(&mut self, vector: ExceptionVector, error: u64) -> Next {
        let ip = self.machine.context().ip();
        let (signal, code, address) = match vector {
            ExceptionVector::Division => (Signal::FPE, code::FPE_INTDIV, ip),
            ExceptionVector::X87FloatingPoint | ExceptionVector::SimdFloatingPoint => {
                (Signal::FPE, code::FPE_FLTINV, ip)
            }
            ExceptionVector::InvalidOpcode => (Signal::ILL, code::ILL_ILLOPN, ip),
            ExceptionVector::Debug => (Signal::TRAP, code::TRAP_TRACE, ip),
            ExceptionVector::Breakpoint => (Signal::TRAP, code::SI_KERNEL, 0),
            ExceptionVector::AlignmentCheck => (Signal::BUS, code::BUS_ADRALN, 0),
            ExceptionVector::Stack | ExceptionVector::SegmentNotPresent => (Signal::BUS, code::SI_KERNEL, 0),
            _ => (Signal::SEGV, code::SI_KERNEL, 0),
        };
        let origin = Origin::Fault { address, trap: vector as u64, error };
        self.force(SigInfo { signal, code, origin })
    }

    /// The fast check before every entry.
    fn needs_attention(&self) -> bool {
        let blocked = self.state.blocked();
        self.state.pending.any_outside(blocked)
            || self.process.pending.any_outside(blocked)
            || self.process.is_obstructed()
            || self.restartable_call.is_some()
            || self.mask_to_restore.is_some()
    }

    /// Whether a signal waits that this thread would take now: such a wait is over (signal(7)).
    pub fn has_deliverable_signal(&self) -> bool {
        let blocked = self.state.blocked();
        self.state.pending.any_outside(blocked) || self.process.pending.any_outside(blocked)
    }

    /// Waits for `wait`, or until a signal comes.
    pub async fn interruptible<T>(&self, wait: impl Future<Output = T>) -> Result<T, Errno> {
        let mut wait = pin!(wait);
        poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if self.has_deliverable_signal() => Poll::Ready(Err(Errno::ERESTART)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The next signal, if one waits; none left to act on means back to user mode.
    fn attend(&mut self) -> Next {
        loop {
            if self.process.is_ending() {
                return Next::Stop;
            }
            if self.process.is_stopped() {
                return Next::Pause;
            }
            let blocked = self.state.blocked();
            let own = self.state.pending.take_outside(blocked);
            let Some(info) = own.or_else(|| self.process.pending.take_outside(blocked)) else {
                if let Some(mask) = self.mask_to_restore.take() {
                    // What the old mask lets through is looked at as well.
                    self.state.set_blocked(mask);
                    continue;
                }
                // Interrupted, and no handler ran (the signal was ignored): the call starts over.
                if let Some(number) = self.restartable_call.take() {
                    self.restart_call(number);
                }
                return Next::Continue;
            };
            match self.act_on(info) {
                Next::Continue => {}
                next => return next,
            }
        }
    }

    fn act_on(&mut self, info: SigInfo) -> Next {
        let disposition = self.process.actions.lock().take(info.signal);
        match disposition {
            Disposition::Ignore => Next::Continue,
            Disposition::Default => match info.signal.default_action() {
                DefaultAction::Ignore => Next::Continue,
                DefaultAction::Terminate => self.end_by(info.signal),
                DefaultAction::Stop => {
                    self.process.stop_by(info.signal);
                    Next::Continue
                }
            },
            Disposition::Handle(handler) => {
                match self.restartable_call.take() {
                    Some(number) if handler.restarts_calls() => self.restart_call(number),
                    _ => {}
                }
                self.delivery = Some((info, handler));
                Next::Handle
            }
        }
    }

    /// A signal the thread's own instruction caused: ignoring or blocking it would repeat the instruction for
    /// ever, so both end the process (sigaction(2), sigprocmask(2)).
    fn force(&mut self, info: SigInfo) -> Next {
        let disposition = self.process.actions.lock().peek(info.signal);
        let is_handled = matches!(disposition, Disposition::Handle(_));
        if !is_handled || self.state.blocked().contains(info.signal) {
            return self.end_by(info.signal);
        }
        self.act_on(info)
    }

    fn end_by(&self, signal: Signal) -> Next {
        self.process.begin_end(Outcome::Signalled(signal));
        Next::Stop
    }

    /// Puts the thread back before its `syscall` instruction, which is two bytes long.
    fn restart_call(&mut self, number: u64) {
        self.machine.set_syscall_result(number);
        let context = self.machine.context_mut();
        let ip = context.ip();
        context.set_ip(ip - 2);
    }
}

fn to_register(result: syscall::errno::SysResult) -> u64 {
    match result {
        Ok(value) => value,
        Err(errno) => errno.to_register(),
    }
}

/// A thread from its first instruction to its last, then its part in its process's end.
///
/// Written by hand, because an `async` block would hold the thread twice: as what it captured and as what it awaits.
struct Life {
    process: Arc<Process>,
    state: Arc<ThreadState>,
    stage: Stage,
}

/// Boxes a thread's future, once in its life; checks in debug builds that it stays as small as design D15 wants.
fn small(future: impl Future<Output = ()> + Send + 'static) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    const LIMIT: usize = 1024;
    let size = size_of_val(&future);
    debug_assert!(size <= LIMIT, "a thread's future takes {size} bytes");
    Box::pin(future)
}

/// ```text
///   Running ──run() returns, or the process is ending──► Leaving ──► done
/// ```
/// The step drops whatever the thread was waiting for, at whichever await it stood.
enum Stage {
    Running(Pin<Box<dyn Future<Output = ()> + Send>>),
    Leaving(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Future for Life {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let life = &mut *self;
        if let Stage::Running(thread) = &mut life.stage {
            life.state.remember_waker(cx);
            let is_over = life.process.is_ending() || life.state.is_leaving.load(Ordering::Acquire);
            if !is_over && thread.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let (process, state) = (Arc::clone(&life.process), Arc::clone(&life.state));
            let leaving = Box::pin(async move { process.thread_gone(&state).await });
            life.stage = Stage::Leaving(leaving);
        }
        match &mut life.stage {
            Stage::Leaving(leaving) => leaving.as_mut().poll(cx),
            Stage::Running(_) => unreachable!("left above"),
        }
    }
}
