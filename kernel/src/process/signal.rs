//! Signals: numbers, sets, what a process wants done about each, and where a thread's handlers run.
//!
//! Owns the tables; does not touch registers or user memory (that is `deliver.rs`) and does not decide when a
//! thread looks at its pending signals (that is `thread.rs`).
//!
//! Semantics: signal(7), sigaction(2), sigaltstack(2).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::process::Tid;
use crate::sync::Mutex;
use crate::syscall::abi::{SigActionRaw, StackT};
use crate::syscall::errno::Errno;

/// SIGRTMIN, as the kernel counts.
const FIRST_REAL_TIME: u8 = 32;
/// Most signals that wait for one thread or one process.
const MAX_QUEUED: usize = 128;

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

#[allow(missing_docs, reason = "the names of signal(7)")]
impl Signal {
    pub const ILL: Self = Self(4);
    pub const TRAP: Self = Self(5);
    pub const BUS: Self = Self(7);
    pub const FPE: Self = Self(8);
    pub const KILL: Self = Self(9);
    pub const SEGV: Self = Self(11);
    pub const PIPE: Self = Self(13);
    pub const ALRM: Self = Self(14);
    pub const CHLD: Self = Self(17);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    const TSTP: Self = Self(20);
    const TTIN: Self = Self(21);
    const TTOU: Self = Self(22);
    const URG: Self = Self(23);
    const WINCH: Self = Self(28);

    /// From a program's argument.
    pub fn from_number(number: u64) -> Result<Self, Errno> {
        match u8::try_from(number) {
            Ok(number @ 1..=64) => Ok(Self(number)),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn number(self) -> u8 {
        self.0
    }

    fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// What happens when the program has not said.
    pub fn default_action(self) -> DefaultAction {
        match self {
            Self::CHLD | Self::CONT | Self::URG | Self::WINCH => DefaultAction::Ignore,
            Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU => DefaultAction::Stop,
            _ => DefaultAction::Terminate,
        }
    }

    /// Stops, unless the program says otherwise (SIGSTOP always).
    pub fn is_stop(self) -> bool {
        self.default_action() == DefaultAction::Stop
    }

    /// Real-time signals queue up; a standard one that waits already swallows the next.
    fn queues(self) -> bool {
        self.0 >= FIRST_REAL_TIME
    }

    fn is_catchable(self) -> bool {
        self != Self::KILL && self != Self::STOP
    }
}

/// See [`Signal::default_action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DefaultAction {
    Terminate,
    Ignore,
    Stop,
}

/// A set of signals as `sigset_t` holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u64);

impl SignalSet {
    /// From a program's word; SIGKILL and SIGSTOP can never be blocked.
    pub fn from_mask(bits: u64) -> Self {
        Self(bits & !(Signal::KILL.bit() | Signal::STOP.bit()))
    }

    /// As a program's word.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Membership.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// Union.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Difference.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The others.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(!self.0)
    }

    /// With one more.
    #[must_use]
    pub fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.bit())
    }
}

/// Signals sent and not yet delivered, to a thread or to a whole process.
#[derive(Debug, Default)]
pub struct Pending {
    /// Which there are: looked at before every entry to user mode.
    bits: AtomicU64,
    /// What is known of each, in the order they were sent.
    queue: Mutex<Vec<SigInfo>>,
}

impl Pending {
    /// Sends one; a second of the same number before delivery is lost, as standard signals are.
    pub fn send(&self, info: SigInfo) {
        let bit = info.signal.bit();
        if self.bits.load(Ordering::Acquire) & bit != 0 && !info.signal.queues() {
            return;
        }
        let mut queue = self.queue.lock();
        if queue.len() < MAX_QUEUED {
            queue.push(info);
            self.bits.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Whether any signal outside `blocked` waits.
    pub fn any_outside(&self, blocked: SignalSet) -> bool {
        self.bits.load(Ordering::Acquire) & !blocked.0 != 0
    }

    /// Takes the lowest-numbered signal outside `blocked`, and of those the oldest.
    pub fn take_outside(&self, blocked: SignalSet) -> Option<SigInfo> {
        let ready = self.bits.load(Ordering::Acquire) & !blocked.0;
        if ready == 0 {
            return None;
        }
        let signal = Signal(ready.trailing_zeros() as u8 + 1);
        let mut queue = self.queue.lock();
        let place = queue.iter().position(|info| info.signal == signal)?;
        let info = queue.remove(place);
        if !queue.iter().any(|info| info.signal == signal) {
            self.bits.fetch_and(!signal.bit(), Ordering::AcqRel);
        }
        Some(info)
    }

    /// Forgets all of these that wait.
    pub fn forget(&self, is_gone: impl Fn(Signal) -> bool) {
        let mut queue = self.queue.lock();
        queue.retain(|info| !is_gone(info.signal));
        let bits = queue.iter().fold(0, |bits, info| bits | info.signal.bit());
        self.bits.store(bits, Ordering::Release);
    }

    /// All of them, for `rt_sigpending`.
    pub fn all(&self) -> SignalSet {
        SignalSet(self.bits.load(Ordering::Acquire))
    }
}

/// A signal on its way to a handler.
#[derive(Debug, Clone, Copy)]
pub struct SigInfo {
    /// Which.
    pub signal: Signal,
    /// `si_code`.
    pub code: i32,
    /// What else is known.
    pub origin: Origin,
}

/// Where a signal came from, with what `siginfo_t` and `sigcontext` tell about it.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    /// The thread's own instruction.
    Fault {
        /// `si_addr` and `cr2`.
        address: u64,
        /// Vector of the exception.
        trap: u64,
        /// Its error code.
        error: u64,
    },
    /// `kill` and its kin.
    Sent {
        /// `si_pid`.
        pid: u32,
        /// `si_value`.
        value: u64,
    },
    /// A child's end or change of state.
    Child {
        /// `si_pid`.
        pid: u32,
        /// `si_status`.
        status: i32,
    },
}

impl SigInfo {
    /// One that `sender` sent.
    pub fn sent(signal: Signal, code: i32, sender: Tid) -> Self {
        Self { signal, code, origin: Origin::Sent { pid: sender.number(), value: 0 } }
    }
}

/// `si_code` values (sigaction(2)).
pub mod code {
    #![allow(missing_docs, reason = "the names of sigaction(2)")]
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_TKILL: i32 = -6;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    /// "Hardware memory error consumed": what Linux sends when a swapped-out page cannot be read back.
    pub const BUS_MCEERR_AR: i32 = 4;
    pub const ILL_ILLOPN: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTINV: i32 = 7;
    pub const TRAP_TRACE: i32 = 2;
}

const SA_NOCLDSTOP: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const SA_RESTORER: u64 = 0x0400_0000;

/// What a process wants done about one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// As [`Signal::default_action`] says.
    Default,
    /// Nothing.
    Ignore,
    /// Call the program.
    Handle(Handler),
}

/// A handler and its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handler {
    /// Address of the function.
    pub entry: u64,
    /// Where it returns to: the program's stub that calls `rt_sigreturn`.
    pub restorer: u64,
    /// Signals blocked while it runs, besides its own.
    pub mask: SignalSet,
    flags: u64,
}

impl Handler {
    /// `SA_ONSTACK`.
    pub fn wants_alternate_stack(&self) -> bool {
        self.flags & SA_ONSTACK != 0
    }

    /// `SA_RESTART`.
    pub fn restarts_calls(&self) -> bool {
        self.flags & SA_RESTART != 0
    }

    /// The thread's mask while the handler runs.
    pub fn mask_while_running(&self, signal: Signal, before: SignalSet) -> SignalSet {
        let mask = before.union(self.mask);
        if self.flags & SA_NODEFER != 0 { mask } else { mask.with(signal) }
    }
}

/// The dispositions of all signals of one process, in the program's own words.
#[derive(Clone)]
pub struct Actions([SigActionRaw; 64]);

impl Default for Actions {
    fn default() -> Self {
        Self([SigActionRaw { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 }; 64])
    }
}

impl Actions {
    fn slot(&mut self, signal: Signal) -> &mut SigActionRaw {
        &mut self.0[usize::from(signal.0 - 1)]
    }

    /// As `rt_sigaction` reports it.
    pub fn get(&mut self, signal: Signal) -> SigActionRaw {
        *self.slot(signal)
    }

    /// As `rt_sigaction` sets it.
    pub fn set(&mut self, signal: Signal, action: SigActionRaw) -> Result<(), Errno> {
        if !signal.is_catchable() {
            return Err(Errno::EINVAL);
        }
        *self.slot(signal) = action;
        Ok(())
    }

    /// What would be done about `signal`.
    pub fn peek(&mut self, signal: Signal) -> Disposition {
        let action = *self.slot(signal);
        match action.handler {
            SIG_DFL => Disposition::Default,
            SIG_IGN => Disposition::Ignore,
            entry => {
                let restorer = if action.flags & SA_RESTORER != 0 { action.restorer } else { 0 };
                let mask = SignalSet::from_mask(action.mask);
                Disposition::Handle(Handler { entry, restorer, mask, flags: action.flags })
            }
        }
    }

    /// Whether children leave zombies: not if the parent has said that it will never ask (sigaction(2), SA_NOCLDWAIT).
    pub fn asks_for_children(&mut self) -> bool {
        let action = self.get(Signal::CHLD);
        action.handler != SIG_IGN && action.flags & SA_NOCLDWAIT == 0
    }

    /// SA_NOCLDSTOP: no SIGCHLD for children that stop or go on.
    pub fn hides_stops(&mut self) -> bool {
        self.get(Signal::CHLD).flags & SA_NOCLDSTOP != 0
    }

    /// Handlers are addresses in a program that goes: what was handled is as by default, what was ignored stays so (execve(2)).
    pub fn forget_handlers(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigActionRaw { handler, flags: 0, restorer: 0, mask: 0 };
        }
    }

    /// What to do about `signal` now; a one-shot handler (`SA_RESETHAND`) is used up by asking.
    pub fn take(&mut self, signal: Signal) -> Disposition {
        let disposition = self.peek(signal);
        if let Disposition::Handle(handler) = disposition
            && handler.flags & SA_RESETHAND != 0
        {
            self.slot(signal).handler = SIG_DFL;
        }
        disposition
    }
}

const SS_ONSTACK: i32 = 1;
const SS_DISABLE: i32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
const MIN_STACK: u64 = 2048;

/// A thread's alternate signal stack.
#[derive(Debug, Clone, Copy, Default)]
pub struct AltStack {
    base: u64,
    /// Zero: none.
    size: u64,
}

impl AltStack {
    /// As `sigaltstack` sets it.
    pub fn from_raw(raw: &StackT) -> Result<Self, Errno> {
        match raw.ss_flags & !SS_AUTODISARM.cast_signed() {
            SS_DISABLE => Ok(Self::default()),
            0 | SS_ONSTACK if raw.ss_size < MIN_STACK => Err(Errno::ENOMEM),
            0 | SS_ONSTACK => Ok(Self { base: raw.ss_sp, size: raw.ss_size }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// As `sigaltstack` and signal frames report it.
    pub fn to_raw(self, stack_pointer: u64) -> StackT {
        let ss_flags = match (self.size, self.holds(stack_pointer)) {
            (0, _) => SS_DISABLE,
            (_, true) => SS_ONSTACK,
            (_, false) => 0,
        };
        StackT { ss_sp: self.base, ss_flags, pad: 0, ss_size: self.size }
    }

    /// Whether a thread with this stack pointer is on it already.
    pub fn holds(self, stack_pointer: u64) -> bool {
        stack_pointer > self.base && stack_pointer - self.base <= self.size
    }

    /// Its upper end, if there is one.
    pub fn top(self) -> Option<u64> {
        if self.size == 0 { None } else { self.base.checked_add(self.size) }
    }
}
