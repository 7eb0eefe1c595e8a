//! Replacement policies: which resident page goes next.
//!
//! A policy is pure: it is told of pages that come, go and were used, and names candidates. It owns the order, threaded through the
//! frame descriptors' links; it sees neither page tables nor the store, so that the same code runs on traces on the host.

use crate::addr::Pfn;
use crate::frame::Links;

/// What is known of a candidate when it is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// Used since it was last judged.
    Used,
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
pub trait Policy: Send + 'static {
    /// A page became resident.
    fn admit(&mut self, links: &mut impl Links, frame: Pfn);
    /// A page that it does not know is the next to go.
    fn admit_first(&mut self, links: &mut impl Links, frame: Pfn);
    /// A page is no longer resident, or cannot be evicted now.
    fn forget(&mut self, links: &mut impl Links, frame: Pfn);
    /// A page it knows is of no use: the next to be looked at.
    fn demote(&mut self, links: &mut impl Links, frame: Pfn);
    /// The page to look at next.
    fn candidate(&self) -> Option<Pfn>;
    /// Decides about the candidate.
    fn judge(&mut self, links: &mut impl Links, frame: Pfn, sample: Sample) -> Verdict;
    /// Pages it knows.
    fn len(&self) -> usize;
    /// Whether it knows none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Second chance: a queue in order of arrival, whose head goes to the back if it was used (Corbató's clock, 1968, as a list).
#[derive(Default)]
pub struct SecondChance {
    head: Option<Pfn>,
    tail: Option<Pfn>,
    len: usize,
}

impl Policy for SecondChance {
    #[inline(always)]
    fn admit(&mut self, links: &mut impl Links, frame: Pfn) {
        links.set_prev(frame, self.tail);
        links.set_next(frame, None);
        match self.tail {
            Some(tail) => links.set_next(tail, Some(frame)),
            None => self.head = Some(frame),
        }
        self.tail = Some(frame);
        self.len += 1;
    }

    fn admit_first(&mut self, links: &mut impl Links, frame: Pfn) {
        links.set_prev(frame, None);
        links.set_next(frame, self.head);
        match self.head {
            Some(head) => links.set_prev(head, Some(frame)),
            None => self.tail = Some(frame),
        }
        self.head = Some(frame);
        self.len += 1;
    }

    #[inline(always)]
    fn forget(&mut self, links: &mut impl Links, frame: Pfn) {
        let (prev, next) = links.neighbours(frame);
        match prev {
            Some(prev) => links.set_next(prev, next),
            None => self.head = next,
        }
        match next {
            Some(next) => links.set_prev(next, prev),
            None => self.tail = prev,
        }
        self.len -= 1;
    }

    fn demote(&mut self, links: &mut impl Links, frame: Pfn) {
        self.forget(links, frame);
        self.admit_first(links, frame);
    }

    fn candidate(&self) -> Option<Pfn> {
        self.head
    }

    fn judge(&mut self, links: &mut impl Links, frame: Pfn, sample: Sample) -> Verdict {
        self.forget(links, frame);
        match sample {
            Sample::Used => {
                self.admit(links, frame);
                Verdict::Keep
            }
            Sample::Idle => Verdict::Evict,
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameDesc, FrameTable};
    use alloc::{boxed::Box, vec, vec::Vec};

    #[test]
    fn used_pages_get_a_second_chance_and_the_rest_go_in_order() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; 8].into_boxed_slice()));
        let mut policy = SecondChance::default();
        (0..6).for_each(|f| policy.admit(&mut links, Pfn::new(f)));
        policy.forget(&mut links, Pfn::new(3));
        let used = [true, false, false, false, false, true];
        let mut seen = [false; 6];
        let mut evicted = Vec::new();
        while let Some(frame) = policy.candidate() {
            let first = !core::mem::replace(&mut seen[frame.index()], true);
            let sample = if used[frame.index()] && first { Sample::Used } else { Sample::Idle };
            if policy.judge(&mut links, frame, sample) == Verdict::Evict {
                evicted.push(frame.as_u32());
            }
        }
        assert_eq!(evicted, [1, 2, 4, 0, 5]);
        assert!(policy.is_empty());
    }

    #[test]
    fn a_demoted_page_is_next() {
        let mut links = FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; 4].into_boxed_slice()));
        let mut policy = SecondChance::default();
        (0..3).for_each(|f| policy.admit(&mut links, Pfn::new(f)));
        policy.demote(&mut links, Pfn::new(1));
        policy.demote(&mut links, Pfn::new(1));
        let mut order = Vec::new();
        while let Some(frame) = policy.candidate() {
            order.push(frame.as_u32());
            policy.forget(&mut links, frame);
        }
        assert_eq!((order, policy.len()), (vec![1, 0, 2], 0));
    }
}
