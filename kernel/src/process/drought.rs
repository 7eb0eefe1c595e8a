//! Frame allocations that fail for good, in one child of the first program after the other (`fail_frame=children:FIRST..LAST`).
//!
//! Owns whose turn it is, and at which allocation. Does not own how allocations fail (`mm::frame`) nor what becomes of who asks for a
//! frame then (`mm::shortage`, `mm::victim`): a drought is like memory that has run out, and nobody can bring it back.
//!
//! ```text
//!   idle ──(1) the first program has a child──► counting allocations ──the n-th──► drought
//!     ▲                                                  └──────────(2) the child is gone──┴──► next n, idle
//!     └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! 1. `child_made`: nothing the child does is before it. A second child meanwhile has no turn.
//! 2. `gone`: its memory has been given back by then, which needs no frame; its parent is told after that.

use super::process::Tid;
use crate::sync::Mutex;
use crate::{frames, mm};

struct Droughts {
    next: u32,
    last: u32,
    /// Whose turn it is.
    child: Option<Tid>,
    /// How many children were still there at their allocation.
    begun: u32,
}

static DROUGHTS: Mutex<Droughts> = Mutex::new(Droughts { next: 1, last: 0, child: None, begun: 0 });

/// From now on each child of the first program has its turn: the `first`-th allocation, then the next, up to the `last`-th.
pub fn plan(first: u32, last: u32) {
    let mut droughts = DROUGHTS.lock();
    (droughts.next, droughts.last) = (first, last);
}

/// A process has been made.
pub fn child_made(child: Tid, parent: Tid) {
    if parent != Tid::FIRST {
        return;
    }
    let nth = {
        let mut droughts = DROUGHTS.lock();
        if droughts.child.is_some() || droughts.next > droughts.last {
            return;
        }
        droughts.child = Some(child);
        let nth = droughts.next;
        droughts.next = nth.saturating_add(1);
        nth
    };
    mm().fail_for_good(nth);
}

/// A process has ended and given its memory back.
pub(super) fn gone(process: Tid) {
    {
        let mut droughts = DROUGHTS.lock();
        if droughts.child.take_if(|child| *child == process).is_none() {
            return;
        }
        droughts.begun += u32::from(frames::get().failed() > 0);
    }
    mm().relent();
}

/// In how many children allocations have failed for good.
pub fn begun() -> u32 {
    DROUGHTS.lock().begun
}
