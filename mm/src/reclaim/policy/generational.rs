//! Generations: most of memory is for pages that have shown their worth, and what only passes through takes an eleventh.
//!
//! Owns four queues and the contest for a place among the proven. Its parts are well known: the small queue in which new pages have to
//! show that they are used again is S3-FIFO's (Yang et al., SOSP 2023), the worth of a page that comes back soon is the refault
//! distance of Linux (mm/workingset.c), and the idea that a resident page goes only for one that is used at shorter distances is
//! LIRS's (Jiang and Zhang, SIGMETRICS 2002). docs/decisions/replacement.md has the measurements.
//!
//! ```text
//!                 A bit cleared                idle: goes
//!   came ──► new ───────────────► cold ─────────────────────────────────►
//!             │                   │  ▲
//!             │ main has room, or │  │ the contest is lost
//!             │ came back soon    │  │
//!             └───── contest ◄────┘ used again
//!                        │
//!                        ▼        idle twice, if it came back early or was used: goes, for the winner of a contest
//!                       main ────────────────────────────────────────────►
//! ```
//! A contest: the challenger takes the place of the first idle page among a few of main's oldest. If all of those were used, it stays
//! outside. So a loop that is larger than memory keeps a part of itself resident instead of driving itself out, and a scan passes.

use super::{Arrival, PageList, Policy, Sample, Verdict};
use crate::addr::Pfn;
use crate::frame::{Links, Mark};
use crate::reclaim::Distance;

/// With fewer pages all are main's, which is then a clock: a queue of an eleventh would be shorter than what reclaim frees at once, and a page
/// would have come, passed through it and gone before anybody could have used it again.
const FEWEST: usize = 512;
/// Of all pages, one in so many may be new: long enough that the accesses that belong to the first one are over.
const NEW_SHARE: usize = 128;
/// One in so many may be cold: more keep less of a loop, fewer see later that a hot set has moved (docs/decisions/replacement.md).
const COLD_SHARE: usize = 11;
/// Pages of main that a page challenges that came back, and as what it comes there.
const FOR_RETURNED: (u8, Standing) = (1, Standing::Main);
/// The same for one that came back early, before half as many had gone as there are pages: it has shown what one shows in main by a use.
const FOR_RETURNED_EARLY: (u8, Standing) = (1, Standing::Proven);
/// The same for one that was used again while it was cold. That proves less: two uses that belong together may be that far apart.
const FOR_USED: (u8, Standing) = (16, Standing::Main);
/// Of the pages that came back before they were wanted, because those beside them were, so many challenge one of main's together: each is
/// as good as one that was waited for, but in a loop there are more of them than pages in main, which would be looked at twice before
/// the loop comes to them.
const RETURNED_TOGETHER: u8 = 8;
/// The queues, by number.
const DOOMED: usize = 0;
const NEWCOMERS: usize = 1;
const COLD: usize = 2;
const MAIN: usize = 3;

/// Where a page stands. Kept with its links; the lower two bits are its queue, so that who leaves memory for good finds it at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Of no use: the next to go.
    Doomed = DOOMED as isize,
    New = NEWCOMERS as isize,
    Cold = COLD as isize,
    Main = MAIN as isize,
    /// New, and came back after it had gone.
    Returned = 4 + NEWCOMERS as isize,
    /// In main, and came back early, or was used when it was last looked at.
    Proven = 4 + MAIN as isize,
    /// New, and came back early after it had gone.
    ReturnedEarly = 8 + NEWCOMERS as isize,
}

impl Standing {
    const fn mark(self) -> Mark {
        Mark::new(self as u8)
    }

    fn of(mark: Mark) -> Self {
        let known = [Self::Doomed, Self::New, Self::Cold, Self::Main, Self::Returned, Self::ReturnedEarly];
        known.into_iter().find(|standing| standing.mark() == mark).unwrap_or(Self::Proven)
    }
}

#[inline(always)]
fn queue_of(mark: Mark) -> usize {
    usize::from(mark.get() & 3)
}

/// How many of `all` pages main has, if there are enough that are worth it.
fn main_share(all: usize) -> usize {
    if all < FEWEST { all } else { all - all / COLD_SHARE - all / NEW_SHARE }
}

/// While there are so many cold pages, main loses none without a contest, even if it has more than its share: reclaim works ahead, so
/// that there are fewer pages in all before each is replaced, and if main had its share of those at every moment, most would leave it.
fn fewest_cold(all: usize) -> usize {
    all / (2 * COLD_SHARE)
}

/// Who wants a place in main, and how many of main's pages it may still be compared with. It waits among the cold.
#[derive(Clone, Copy)]
struct Contest {
    challenger: Pfn,
    looks: u8,
    /// As what it comes into main if it wins.
    prize: Standing,
}

/// The queues, and who wants to get into main.
#[derive(Default)]
pub struct Generational {
    queues: [PageList; 4],
    contest: Option<Contest>,
    /// Pages that came back before they were wanted, since the last of them that challenged.
    together: u8,
    /// Looks at main since one of its pages went.
    fruitless: usize,
    /// As many as there were before the last verdict, which may turn out to be one that cannot be carried out.
    fruitless_before: usize,
}

impl Generational {
    /// Whether there are so few pages that they are one queue.
    fn is_small(&self) -> bool {
        self.len() < FEWEST
    }

    /// Whether all of main was looked at, twice, and nothing went: it is held or locked, or there is no room for it in swap. Then the others
    /// go first, however few they are.
    fn main_is_stuck(&self) -> bool {
        self.fruitless > 2 * self.queues[MAIN].len
    }

    /// One of the others did not go either while main is stuck. When all of them were looked at twice, it is main's turn again: whatever it
    /// was stuck for, a lack of slots, or locks, may be over.
    fn note_kept(&mut self) {
        self.fruitless += 1;
        if self.fruitless > 2 * self.len() {
            self.fruitless = 0;
        }
    }

    #[inline(always)]
    fn push(&mut self, links: &mut impl Links, frame: Pfn, standing: Standing) {
        let mark = standing.mark();
        self.queues[queue_of(mark)].push_back(links, frame, mark);
    }

    #[inline(always)]
    fn remove(&mut self, links: &mut impl Links, frame: Pfn) {
        let queue = queue_of(links.mark(frame));
        self.queues[queue].remove(links, frame);
        // A challenger waits among the cold.
        if queue == COLD {
            self.end_contest_of(frame);
        }
    }

    /// The challenger is gone, or has got what it wanted.
    fn end_contest_of(&mut self, frame: Pfn) {
        if self.contest.is_some_and(|contest| contest.challenger == frame) {
            self.contest = None;
        }
    }

    /// Whether main has fewer pages than its share, while a page is being judged that is in no list.
    fn has_room(&self) -> bool {
        self.queues[MAIN].len < main_share(self.len() + 1)
    }

    /// A page wants to get into main.
    fn challenge(&mut self, links: &mut impl Links, frame: Pfn, (looks, prize): (u8, Standing)) {
        if self.has_room() {
            self.push(links, frame, prize);
        } else {
            self.push(links, frame, Standing::Cold);
            self.contest = Some(Contest { challenger: frame, looks, prize });
        }
    }

    /// The oldest page of main was compared with the challenger, or too few are cold.
    fn judge_main(&mut self, links: &mut impl Links, frame: Pfn, standing: Standing, sample: Sample) -> Verdict {
        let stays = match (sample, standing) {
            (Sample::Idle, Standing::Proven) if !self.is_small() => Some(Standing::Main),
            (Sample::Idle, _) => None,
            (Sample::Used | Sample::FirstUse, _) => Some(Standing::Proven),
        };
        if let Some(standing) = stays {
            self.push(links, frame, standing);
            self.fruitless += 1;
            self.contest = self.contest.filter(|contest| contest.looks > 1);
            self.contest.iter_mut().for_each(|contest| contest.looks -= 1);
            return Verdict::Keep;
        }
        if let Some(Contest { challenger, prize, .. }) = self.contest.take() {
            self.remove(links, challenger);
            self.push(links, challenger, prize);
        }
        self.fruitless_before = core::mem::take(&mut self.fruitless);
        Verdict::Evict
    }
}

impl Policy for Generational {
    /// More than any page takes: the longest way is that of one that was used in main, is found so, and then idle twice.
    const LOOKS: usize = 5;
    const WINDOW: usize = 2;

    #[inline(always)]
    fn admit(&mut self, links: &mut impl Links, frame: Pfn, arrival: Arrival) {
        match arrival {
            // Out of the way of those that can go; once too few of those are left, it is looked at in turn.
            Arrival::Stuck => {
                self.push(links, frame, Standing::Main);
                self.fruitless = self.fruitless_before + 1;
            }
            Arrival::New => self.push(links, frame, Standing::New),
            Arrival::Returned(Distance(away)) if away <= self.len() / 2 => {
                self.push(links, frame, Standing::ReturnedEarly)
            }
            Arrival::Returned(_) | Arrival::BroughtAlong | Arrival::Rescued => {
                self.push(links, frame, Standing::Returned)
            }
        }
    }

    fn demote(&mut self, links: &mut impl Links, frame: Pfn) {
        self.remove(links, frame);
        self.queues[DOOMED].push_front(links, frame, Standing::Doomed.mark());
    }

    #[inline(always)]
    fn forget(&mut self, links: &mut impl Links, frame: Pfn) {
        self.remove(links, frame);
    }

    fn candidate(&self) -> Option<Pfn> {
        let [doomed, new, cold, main] = self.queues.each_ref().map(|queue| queue.head.frame());
        let [_, new_len, cold_len, _] = self.queues.each_ref().map(|queue| queue.len);
        let all = self.len();
        if doomed.is_some() {
            return doomed;
        }
        if all < FEWEST || self.main_is_stuck() {
            return new.or(cold).or(main);
        }
        if self.contest.is_some() && main.is_some() {
            return main;
        }
        if new_len > all / NEW_SHARE {
            return new;
        }
        let first = if cold_len < fewest_cold(all) { main } else { cold };
        first.or(main).or(cold).or(new)
    }

    fn judge(&mut self, links: &mut impl Links, frame: Pfn, sample: Sample) -> Verdict {
        let standing = Standing::of(links.mark(frame));
        // If it is the challenger, main has been given up as a whole.
        self.remove(links, frame);
        match (standing, sample) {
            (Standing::Main | Standing::Proven, _) => return self.judge_main(links, frame, standing, sample),
            (Standing::Doomed, Sample::Idle) => {
                self.fruitless_before = self.fruitless;
                return Verdict::Evict;
            }
            (Standing::Cold, Sample::Idle) => {
                self.fruitless_before = self.fruitless;
                // One look at main for each that goes instead of one of main's: it may have come unstuck.
                self.fruitless = self.fruitless.min(2 * self.queues[MAIN].len + 1).saturating_sub(1);
                return Verdict::Evict;
            }
            (Standing::Cold, Sample::FirstUse) => self.push(links, frame, Standing::New),
            (Standing::Cold, Sample::Used) => self.challenge(links, frame, FOR_USED),
            (Standing::ReturnedEarly, Sample::Used) => self.challenge(links, frame, FOR_RETURNED_EARLY),
            (Standing::New | Standing::Returned | Standing::ReturnedEarly, _) if self.has_room() => {
                self.push(links, frame, Standing::Main);
            }
            (Standing::Returned, Sample::Used) => self.challenge(links, frame, FOR_RETURNED),
            (Standing::Returned, Sample::FirstUse) if self.together + 1 == RETURNED_TOGETHER => {
                self.together = 0;
                self.challenge(links, frame, FOR_RETURNED);
            }
            (Standing::Returned, Sample::FirstUse) => {
                self.together += 1;
                self.push(links, frame, Standing::Cold);
            }
            (Standing::New | Standing::Returned | Standing::ReturnedEarly | Standing::Doomed, _) => {
                self.push(links, frame, Standing::Cold);
            }
        }
        if self.main_is_stuck() {
            self.note_kept();
        }
        Verdict::Keep
    }

    fn each(&self, links: &impl Links, show: &mut dyn FnMut(Pfn)) {
        self.queues.iter().for_each(|queue| queue.each(links, show));
    }

    #[inline]
    fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.len).sum()
    }
}

#[cfg(test)]
mod tests;
