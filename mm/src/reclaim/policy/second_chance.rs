//! Second chance: a queue in order of arrival, whose head goes to the back if it was used (Corbató's clock, 1968, as a list).
//!
//! Owns nothing else. It is what [`super::Generational`] is compared with, which is in use.

use super::{Arrival, PageList, Policy, Sample, Verdict};
use crate::addr::Pfn;
use crate::frame::{Links, Mark};

/// The queue.
#[derive(Default)]
pub struct SecondChance {
    queue: PageList,
}

impl Policy for SecondChance {
    const LOOKS: usize = 2;
    const WINDOW: usize = 0;

    fn admit(&mut self, links: &mut impl Links, frame: Pfn, _: Arrival) {
        self.queue.push_back(links, frame, Mark::ZERO);
    }

    fn demote(&mut self, links: &mut impl Links, frame: Pfn) {
        self.forget(links, frame);
        self.queue.push_front(links, frame, Mark::ZERO);
    }

    fn forget(&mut self, links: &mut impl Links, frame: Pfn) {
        self.queue.remove(links, frame);
    }

    fn candidate(&self) -> Option<Pfn> {
        self.queue.head.frame()
    }

    fn judge(&mut self, links: &mut impl Links, frame: Pfn, sample: Sample) -> Verdict {
        self.queue.remove(links, frame);
        if sample == Sample::Idle {
            return Verdict::Evict;
        }
        self.queue.push_back(links, frame, Mark::ZERO);
        Verdict::Keep
    }

    fn each(&self, links: &impl Links, show: &mut dyn FnMut(Pfn)) {
        self.queue.each(links, show);
    }

    fn len(&self) -> usize {
        self.queue.len
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
        (0..6).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
        policy.forget(&mut links, Pfn::new(3));
        let used = [true, false, false, false, false, true];
        let mut seen = [false; 6];
        let mut evicted = Vec::new();
        while let Some(frame) = policy.candidate() {
            let first = !core::mem::replace(&mut seen[frame.index()], true);
            let sample = if used[frame.index()] && first { Sample::Used } else { Sample::Idle };
            if policy.judge(&mut links, frame, sample) != Verdict::Keep {
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
        (0..3).for_each(|f| policy.admit(&mut links, Pfn::new(f), Arrival::New));
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
