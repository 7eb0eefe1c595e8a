//! Who ends for want of memory: carries out what `mm` decides, and keeps what processes have to say to it.
//!
//! Owns the task that ends processes, what a space stands for when somebody must end, and `oom_score_adj`. Does not own the choice
//! (`mm::victim`) nor how it is told (`report.rs`). A process that finds out by a fault of its own is ended there and then; for the
//! others there is the task. Whichever is first takes the verdict, so each is told once.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mm::space::SpaceId;
use mm::victim::{Adjustment, Standing, Verdict};

use super::process::{Outcome, Process, Tid};
use super::space::AddressSpace;
use super::table;
use crate::{mm, report};

/// Ends who is named, one after the other.
pub async fn run() -> ! {
    loop {
        carry_out(&mm().next_verdict().await);
    }
}

/// The processes in a space: more than one after vfork, and then none of them can go on without it (as Linux's
/// `__oom_kill_process` has it).
pub fn those_in(space: SpaceId) -> Vec<Arc<Process>> {
    let mut all = table::all();
    all.retain(|process| process.space() == space);
    all
}

fn carry_out(verdict: &Verdict) {
    // Nobody if its last thread has left it meanwhile: then its memory comes back by itself.
    let victims = those_in(verdict.victim);
    report::out_of_memory(verdict, victims.first().map(|process| &**process));
    for process in victims {
        process.begin_end(Outcome::OutOfMemory);
    }
}

impl AddressSpace {
    /// It is filled for a program to come.
    pub(super) fn stand_apart(&self) {
        mm().set_standing(self.id, Standing::Apart);
    }

    /// Its program has been ended.
    pub(super) fn stand_down(&self) {
        mm().set_standing(self.id, Standing::Leaving);
    }
}

impl Process {
    /// Its memory is that of a program from now on, which may have to end for others.
    pub fn stand(&self) {
        let standing = if self.pid == Tid::FIRST { Standing::Last } else { Standing::Candidate };
        mm().set_standing(self.space(), standing);
        mm().set_adjustment(self.space(), self.oom_adjustment());
    }

    /// One of its faults was refused a frame: if that is because it is to end, it does.
    pub fn end_if_condemned(&self) {
        let space = self.space();
        if let Some(verdict) = mm().take_verdict_on(space) {
            carry_out(&verdict);
        } else if mm().is_condemned(space) {
            self.begin_end(Outcome::OutOfMemory);
        }
    }

    /// `oom_score_adj`
    pub fn oom_adjustment(&self) -> Adjustment {
        self.inherited.lock().oom_adjustment
    }

    /// Changes it. In memory that is lent to it the lender's stays, and its own is in force once it has called execve.
    pub fn set_oom_adjustment(&self, adjustment: Adjustment) {
        self.inherited.lock().oom_adjustment = adjustment;
        if !self.is_borrowing() {
            mm().set_adjustment(self.space(), adjustment);
        }
    }

    /// `oom_score`
    pub fn oom_score(&self) -> u64 {
        mm().oom_score(self.space())
    }
}
