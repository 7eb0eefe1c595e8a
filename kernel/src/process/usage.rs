//! What a process used: time, faults, and the most memory it was seen with.
//!
//! Owns the counters only; getrusage(2), times(2) and wait4(2) read them. One thread runs at a time, so a counter is added
//! to by a load and a store: on the fault path an atomic addition would cost ten times as much.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mm::fault::FaultKind;

/// The counters of one process, or of the children it has waited for.
#[derive(Debug, Default)]
pub struct Usage {
    user_ns: AtomicU64,
    minor_faults: AtomicU64,
    major_faults: AtomicU64,
    most_resident: AtomicU64,
}

/// Their values at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Time in user mode, by sampling at the timer's ticks.
    pub user_ns: u64,
    /// Faults that needed no I/O.
    pub minor_faults: u64,
    /// Faults that did.
    pub major_faults: u64,
    /// Resident pages, at the end or when somebody asked, whichever was more.
    pub most_resident: u64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed) + amount, Relaxed);
}

impl Usage {
    /// A fault has been served.
    pub fn count_fault(&self, kind: FaultKind) {
        match kind {
            FaultKind::Minor => add(&self.minor_faults, 1),
            FaultKind::Major => add(&self.major_faults, 1),
        }
    }

    /// A thread ran in user mode.
    pub fn add_user_ns(&self, ns: u64) {
        add(&self.user_ns, ns);
    }

    /// So many pages are resident now.
    pub fn note_resident(&self, pages: u64) {
        self.most_resident.store(self.most_resident.load(Relaxed).max(pages), Relaxed);
    }

    /// A child that was waited for used this.
    pub fn add(&self, used: Used) {
        add(&self.user_ns, used.user_ns);
        add(&self.minor_faults, used.minor_faults);
        add(&self.major_faults, used.major_faults);
        self.note_resident(used.most_resident);
    }

    /// The values now.
    pub fn used(&self) -> Used {
        Used {
            user_ns: self.user_ns.load(Relaxed),
            minor_faults: self.minor_faults.load(Relaxed),
            major_faults: self.major_faults.load(Relaxed),
            most_resident: self.most_resident.load(Relaxed),
        }
    }
}

impl Used {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            user_ns: self.user_ns + other.user_ns,
            minor_faults: self.minor_faults + other.minor_faults,
            major_faults: self.major_faults + other.major_faults,
            most_resident: self.most_resident.max(other.most_resident),
        }
    }
}
