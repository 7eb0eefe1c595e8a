//! Replacement policies: which resident page goes next.
//!
//! A policy is pure: it is told of pages that come, go and were used, and names candidates. It owns the order, threaded through the
//! frame descriptors' links; it sees neither page tables nor the store, so that the same code runs on traces on the host. What left is
//! remembered elsewhere ([`super::ghosts`]); a policy is told when such a page comes back soon.

mod generational;
mod second_chance;

pub use generational::Generational;
pub use second_chance::SecondChance;

use super::Distance;
use crate::addr::Pfn;
use crate::frame::{Link, Links, Mark};

/// How a page comes to be resident.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Nothing is remembered of it.
    New,
    /// It left so many evictions ago, which is not long, and is wanted again.
    Returned(Distance),
    /// It left not long ago, and comes before anybody waits for it: read ahead, or to be moved.
    BroughtAlong,
    /// It was on its way out, or only being written, and stays.
    Rescued,
    /// It was to go, and could not.
    Stuck,
}

/// What is known of a candidate when it is judged. The access that brought a page in sets its A bit, too: a policy that wants to know
/// whether a page was used *again* has to have it judged soon after it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// Used since it was last judged.
    Used,
    /// Used for the first time since it was read ahead: as if it came now.
    FirstUse,
    /// Not used since it was last judged.
    Idle,
}

/// What becomes of a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It stays; the policy has put it where it belongs.
    Keep,
    /// It goes; the policy has forgotten it.
    Evict,
}

/// A replacement policy.
pub trait Policy: Default + Send + 'static {
    /// How often a page that is not used any more is looked at, at most, until it goes.
    const LOOKS: usize;
    /// A page has returned if it was away for at most so many evictions, as a multiple of the pages the policy knows.
    const WINDOW: usize;

    /// A page became resident.
    fn admit(&mut self, links: &mut impl Links, frame: Pfn, arrival: Arrival);
    /// A page is no longer resident, or cannot be evicted now.
    fn forget(&mut self, links: &mut impl Links, frame: Pfn);
    /// A page it knows is of no use: the next to be looked at.
    fn demote(&mut self, links: &mut impl Links, frame: Pfn);
    /// The page to look at next.
    fn candidate(&self) -> Option<Pfn>;
    /// Decides about the candidate.
    fn judge(&mut self, links: &mut impl Links, frame: Pfn, sample: Sample) -> Verdict;
    /// Shows all pages it knows.
    fn each(&self, links: &impl Links, show: &mut dyn FnMut(Pfn));
    /// How many it knows.
    fn len(&self) -> usize;
    /// Whether it knows none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A queue of pages, threaded through their descriptors.
#[derive(Default)]
pub(super) struct PageList {
    head: Link,
    tail: Link,
    len: usize,
}

impl PageList {
    pub fn first(&self) -> Option<Pfn> {
        self.head.frame()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub fn push_back(&mut self, links: &mut impl Links, frame: Pfn, mark: Mark) {
        links.place(frame, (self.tail, Link::NONE), mark);
        match self.tail.frame() {
            Some(tail) => links.set_next(tail, Link::to(frame)),
            None => self.head = Link::to(frame),
        }
        self.tail = Link::to(frame);
        self.len += 1;
    }

    fn push_front(&mut self, links: &mut impl Links, frame: Pfn, mark: Mark) {
        links.place(frame, (Link::NONE, self.head), mark);
        match self.head.frame() {
            Some(head) => links.set_prev(head, Link::to(frame)),
            None => self.tail = Link::to(frame),
        }
        self.head = Link::to(frame);
        self.len += 1;
    }

    #[inline(always)]
    pub fn remove(&mut self, links: &mut impl Links, frame: Pfn) {
        let (prev, next) = links.neighbours(frame);
        match prev.frame() {
            Some(prev) => links.set_next(prev, next),
            None => self.head = next,
        }
        match next.frame() {
            Some(next) => links.set_prev(next, prev),
            None => self.tail = prev,
        }
        self.len -= 1;
    }

    fn each(&self, links: &impl Links, show: &mut dyn FnMut(Pfn)) {
        let mut at = self.head;
        while let Some(frame) = at.frame() {
            show(frame);
            at = links.neighbours(frame).1;
        }
    }
}
