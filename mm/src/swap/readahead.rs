//! How far to read ahead: from which pages of a space were missing, and how what was read ahead fared, to a window.
//!
//! Owns the evidence of one address space and the decision. Pure: it sees no records, no frames and no device, so that traces can be tried
//! on the host. [`crate::swapin`] does what it says and tells it what became of the pages.
//!
//! ```text
//!              the next page, or the one before           at the edge of the window: twice as wide
//!   no course ─────────────────────────────────► a course ──────────────────────────────────────┐
//!      ▲                                            │  ▲ └─────────────────────────────────────►┘
//!      └── elsewhere too often: forgotten           ▼  │ inside the window: half as wide, its pages did not last
//! ```
//! From eight pages on, the first page of a window is its *herald*: whoever comes there has the window after this one read, and does not
//! wait for it. That costs a fault, but one that waits for nothing; and the disk and the program work at the same time.
//!
//! Two things are evidence: missing pages one after another in *address order*, and missing pages in the order of their *slots*, which are
//! those that were written out together. How wide a window may be is a matter of *credit*: pages that were used earn it, pages
//! that left unused cost twice as much. Without credit nothing is read ahead, until pages missing in order earn some.

use crate::addr::Vpn;
use crate::platform::Slot;

/// Sequences of missing pages that are told apart in one space: threads each have their own.
const STREAMS: usize = 4;
/// Pages in the first window of a sequence.
const FIRST: u16 = 4;
/// Most pages in a window: beyond it a disk's request costs by the page, and what is read waits in frames that others could use.
pub const WIDEST: u16 = 32;
/// Pages of a window from which on the next one is read when this one begins to be used, not when it ends: by then the sequence has
/// been told twice.
const SURE: u64 = 2 * FIRST as u64;
/// Credit that is enough for the widest window: two for a page.
const FULL: u16 = 2 * WIDEST;
/// How far beyond the edge of its window a sequence may go on: pages in between may be resident.
const SLACK: u64 = 8;
/// Missing pages in slot order, one after another, that make a sequence.
const SLOT_EVIDENCE: u8 = 2;

/// Which way a sequence goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// To higher addresses.
    Up,
    /// To lower addresses.
    Down,
}

/// What to read beside a page that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// Nothing.
    Alone,
    /// So many pages next to it.
    Pages(Course, u16),
    /// Pages in its neighbourhood, if they are in the so many slots after its own.
    Slots(u16),
}

impl Course {
    /// The page so many steps from `page`, if there is one.
    pub fn step(self, page: Vpn, steps: u64) -> Option<Vpn> {
        match self {
            Self::Up => page.as_u64().checked_add(steps),
            Self::Down => page.as_u64().checked_sub(steps),
        }
        .map(Vpn::new)
    }

    /// How many steps `to` is beyond `from`; `None` if it is not beyond.
    fn steps(self, from: u64, to: u64) -> Option<u64> {
        match self {
            Self::Up => to.checked_sub(from),
            Self::Down => from.checked_sub(to),
        }
        .filter(|&steps| steps > 0)
    }
}

/// A sequence of missing pages.
#[derive(Clone, Copy, Default, Debug)]
struct Stream {
    /// The last page that was missing.
    at: u64,
    /// Pages after it that were read, or need not be.
    covered: u64,
    course: Option<Course>,
    window: u16,
    /// The first page after `at` that is read ahead: whoever comes there will soon need what is after the window. 0: none.
    herald: u64,
    /// When it went on, in decisions.
    used: u32,
}

impl Stream {
    /// How many steps on `page` is, and in which direction, if it belongs to the sequence.
    fn continues(&self, page: u64) -> Option<(Course, u64)> {
        let reach = self.course.map_or(1, |_| self.covered + SLACK);
        // Most pages are far from all sequences.
        if self.used == 0 || page.abs_diff(self.at) > reach {
            return None;
        }
        let ways = self.course.map_or([Course::Up, Course::Down], |course| [course; 2]);
        ways.into_iter().find_map(|course| Some((course, course.steps(self.at, page)?)))
    }
}

/// The evidence of one address space.
#[derive(Clone, Debug)]
pub struct History {
    streams: [Stream; STREAMS],
    current: usize,
    /// The slot of the last missing page, and how many after it were read.
    slot: u32,
    slots_covered: u32,
    /// Missing pages in slot order so far.
    in_order: u8,
    credit: u16,
    decisions: u32,
}

impl Default for History {
    fn default() -> Self {
        Self {
            streams: [Stream::default(); STREAMS],
            current: 0,
            slot: 0,
            slots_covered: 0,
            in_order: 0,
            credit: FULL / 2,
            decisions: 0,
        }
    }
}

impl History {
    /// A page is missing, and its contents are in this slot: what to read beside it, at most `most` pages.
    pub fn decide(&mut self, page: Vpn, slot: Slot, most: usize) -> Window {
        self.decisions += 1;
        let found = self.streams.iter().enumerate().find_map(|(i, s)| Some((i, s.continues(page.as_u64())?)));
        let window = match found {
            Some((index, (course, steps))) => {
                self.in_order = 0;
                self.advance(index, page, course, steps, most)
            }
            None => {
                self.begin(page);
                self.in_slot_order(slot, most)
            }
        };
        (self.slot, self.slots_covered) = (slot.as_u32(), 0);
        window
    }

    /// The decision was carried out as far as the page so many steps on, and no further; which is the first page that is being read.
    pub fn covered_pages(&mut self, steps: u64, first: Option<Vpn>) {
        let stream = &mut self.streams[self.current];
        stream.covered = steps;
        stream.herald = first.filter(|_| steps >= SURE).map_or(0, Vpn::as_u64);
    }

    /// Whether somebody who comes to this page, which is read ahead, should be noticed: it is not to be mapped before.
    pub fn is_herald(&self, page: Vpn) -> bool {
        self.streams.iter().any(|stream| stream.herald == page.as_u64())
    }

    /// Somebody has come to a page that was read ahead. If it heralds what is after its window: the last page of that, and what to read
    /// after it, at most `most` pages. Where that would be few, the window's end is soon enough.
    pub fn go_on(&mut self, page: Vpn, most: usize) -> Option<(Vpn, Course, u16)> {
        let index = self.streams.iter().position(|stream| stream.herald == page.as_u64())?;
        let limit = self.limit();
        let stream = &mut self.streams[index];
        stream.herald = 0;
        let course = stream.course?;
        let last = course.step(Vpn::new(stream.at), stream.covered)?;
        let window = (stream.window * 2).min(WIDEST);
        let count = window.min(limit).min(most.min(usize::from(WIDEST)) as u16);
        if u64::from(count) < SURE || count < window / 2 {
            return None;
        }
        self.decisions += 1;
        *stream = Stream { at: last.as_u64(), covered: 0, window, used: self.decisions, ..*stream };
        self.current = index;
        Some((last, course, count))
    }

    /// The decision was carried out as far as so many slots on.
    pub fn covered_slots(&mut self, slots: u32) {
        self.slots_covered = slots;
    }

    /// A page that was read ahead was used.
    pub fn hit(&mut self) {
        self.credit = (self.credit + 1).min(FULL);
    }

    /// A page that was read ahead is gone, and nobody used it.
    pub fn waste(&mut self) {
        self.credit = self.credit.saturating_sub(2);
    }

    /// A read of several pages has failed: nothing is evidence any more, so that its pages are read one by one.
    pub fn forget(&mut self) {
        (self.streams, self.in_order) = ([Stream::default(); STREAMS], 0);
    }

    /// Pages a window may have.
    fn limit(&self) -> u16 {
        self.credit / 2
    }

    /// A sequence goes on.
    fn advance(&mut self, index: usize, page: Vpn, course: Course, steps: u64, most: usize) -> Window {
        let given_up = self.limit() < 2;
        let stream = &mut self.streams[index];
        if steps <= stream.covered {
            stream.window /= 2;
        } else {
            stream.window = (stream.window * 2).clamp(FIRST, WIDEST);
            self.credit += u16::from(given_up);
        }
        let count = stream.window.min(self.credit / 2).min(most.min(usize::from(WIDEST)) as u16);
        *stream =
            Stream { at: page.as_u64(), covered: 0, course: Some(course), herald: 0, used: self.decisions, ..*stream };
        self.current = index;
        if count == 0 || given_up { Window::Alone } else { Window::Pages(course, count) }
    }

    /// Perhaps the first page of a sequence: takes the place of the one that has not gone on for longest.
    fn begin(&mut self, page: Vpn) {
        let oldest = (0..STREAMS).min_by_key(|&i| self.streams[i].used).unwrap_or(0);
        self.streams[oldest] = Stream { at: page.as_u64(), used: self.decisions, ..Stream::default() };
        self.current = oldest;
    }

    fn in_slot_order(&mut self, slot: Slot, most: usize) -> Window {
        let steps = slot.as_u32().wrapping_sub(self.slot);
        self.in_order = match steps {
            0 => 0,
            steps if steps == self.slots_covered + 1 => (self.in_order + 1).min(SLOT_EVIDENCE + 3),
            steps if steps <= self.slots_covered => self.in_order,
            _ => 0,
        };
        if self.in_order < SLOT_EVIDENCE || self.limit() < 2 {
            return Window::Alone;
        }
        let wanted = FIRST << (self.in_order - SLOT_EVIDENCE);
        let count = wanted.min(self.limit()).min(most.min(usize::from(WIDEST)) as u16);
        if count == 0 { Window::Alone } else { Window::Slots(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const PLENTY: usize = 1000;

    /// Carries out every decision in full, as if no page near by were resident.
    fn missing(history: &mut History, page: u64, slot: u32) -> Window {
        let window = history.decide(Vpn::new(page), Slot::new(slot), PLENTY);
        match window {
            Window::Alone => {}
            Window::Pages(course, count) => history.covered_pages(count.into(), course.step(Vpn::new(page), 1)),
            Window::Slots(count) => history.covered_slots(count.into()),
        }
        window
    }

    /// Scans from `page` on; each page of a window is used.
    fn scan(history: &mut History, mut page: u64, course: Course, windows: usize) -> Vec<u16> {
        let mut widths = Vec::new();
        for _ in 0..windows {
            let width = match missing(history, page, 7) {
                Window::Alone => 0,
                Window::Pages(way, count) if way == course => count,
                other => panic!("{other:?}"),
            };
            (0..width).for_each(|_| history.hit());
            widths.push(width);
            page = course.step(Vpn::new(page), u64::from(width) + 1).expect("it is in range").as_u64();
        }
        widths
    }

    #[test]
    fn windows_of_a_scan_grow_as_their_pages_are_used() {
        assert_eq!(scan(&mut History::default(), 100, Course::Up, 7), [0, 4, 8, 16, 30, 32, 32]);
        assert_eq!(scan(&mut History::default(), 9000, Course::Down, 5), [0, 4, 8, 16, 30]);
    }

    #[test]
    fn the_first_page_of_a_window_heralds_the_next_window() {
        let mut history = History::default();
        scan(&mut history, 100, Course::Up, 2);
        assert!(!history.is_herald(Vpn::new(102)), "four pages may be chance");
        assert_eq!(missing(&mut history, 106, 7), Window::Pages(Course::Up, 8));
        assert!(history.is_herald(Vpn::new(107)) && !history.is_herald(Vpn::new(108)));
        assert_eq!(history.go_on(Vpn::new(108), PLENTY), None);
        assert_eq!(history.go_on(Vpn::new(107), PLENTY), Some((Vpn::new(114), Course::Up, 16)));
        history.covered_pages(16, Some(Vpn::new(115)));
        assert_eq!(history.go_on(Vpn::new(107), PLENTY), None, "once");
        assert_eq!(
            history.go_on(Vpn::new(115), 15),
            None,
            "when there are too few frames, the end of the window will do"
        );
        (0..28).for_each(|_| history.hit());
        assert_eq!(missing(&mut history, 131, 7), Window::Pages(Course::Up, 32));
        history.forget();
        assert!(!history.is_herald(Vpn::new(132)));
    }

    #[test]
    fn nothing_is_heralded_without_credit() {
        let mut history = History::default();
        scan(&mut history, 100, Course::Up, 3);
        (0..40).for_each(|_| history.waste());
        assert!(history.is_herald(Vpn::new(107)));
        assert_eq!(history.go_on(Vpn::new(107), PLENTY), None);
    }

    #[test]
    fn pages_at_random_are_read_alone() {
        let (mut history, mut x, mut ahead) = (History::default(), 5u64, 0);
        for slot in 0..10_000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match missing(&mut history, x >> 49, (x >> 20) as u32 % 50_000 + slot % 2) {
                Window::Alone => {}
                Window::Pages(_, count) | Window::Slots(count) => {
                    ahead += count;
                    (0..count).for_each(|_| history.waste());
                }
            }
        }
        assert!(ahead <= 100, "{ahead} of 10000");
    }

    #[test]
    fn threads_that_scan_at_once_each_have_a_window() {
        let mut history = History::default();
        let mut at = [1000u64, 50_000, 90_000];
        let mut widths = Vec::new();
        for round in 0..9 {
            let page = &mut at[round % 3];
            let window = missing(&mut history, *page, 7);
            let count = if let Window::Pages(Course::Up, count) = window { count } else { 0 };
            widths.push(count);
            *page += u64::from(count) + 1;
        }
        assert_eq!(widths, [0, 0, 0, 4, 4, 4, 8, 8, 8]);
    }

    #[test]
    fn what_does_not_pay_is_given_up_and_tried_again_when_pages_are_missing_in_order() {
        let mut history = History::default();
        scan(&mut history, 0, Course::Up, 2);
        (0..40).for_each(|_| history.waste());
        assert_eq!(scan(&mut history, 500, Course::Up, 6), [0, 0, 0, 0, 0, 2], "four pages in order earn a try");
        (0..2).for_each(|_| history.waste());
        assert_eq!(scan(&mut history, 5000, Course::Up, 2), [0, 0]);
    }

    #[test]
    fn a_window_whose_pages_do_not_last_is_halved() {
        let mut history = History::default();
        scan(&mut history, 0, Course::Up, 4);
        // The last window began at 15 and covers 16 pages; the fifth of them is missing again.
        assert_eq!(missing(&mut history, 20, 7), Window::Pages(Course::Up, 8));
    }

    #[test]
    fn pages_that_were_written_out_together_come_together() {
        let mut history = History::default();
        let at = |i: u32| (1000 + u64::from(i) * 7, 300 + i);
        let widths = [0, 1, 2, 7, 16].map(|i| missing(&mut history, at(i).0, at(i).1));
        let [Window::Alone, Window::Alone, rest @ ..] = widths else { panic!("{widths:?}") };
        assert_eq!(rest, [Window::Slots(4), Window::Slots(8), Window::Slots(16)]);
        assert_eq!(missing(&mut history, 80_000, 9), Window::Alone);
    }

    #[test]
    fn no_more_is_read_than_there_are_frames_for() {
        let mut history = History::default();
        history.decide(Vpn::new(10), Slot::new(1), 3);
        assert_eq!(history.decide(Vpn::new(11), Slot::new(2), 3), Window::Pages(Course::Up, 3));
        history.covered_pages(3, None);
        assert_eq!(history.decide(Vpn::new(15), Slot::new(6), 0), Window::Alone);
        assert_eq!(history.decide(Vpn::new(16), Slot::new(7), 100), Window::Pages(Course::Up, 16));
    }

    #[test]
    fn after_a_failed_read_pages_come_one_by_one() {
        let mut history = History::default();
        scan(&mut history, 100, Course::Up, 3);
        history.forget();
        assert_eq!(missing(&mut history, 115, 7), Window::Alone);
    }
}
