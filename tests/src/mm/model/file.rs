//! What an object with an end should hold, by word: a file, or memory that is shared by name.
//!
//! Owns the expectation of one object. While a write or a cut is under way, or was given up half-way, a word has several answers and the
//! end may be in two places. What a word held before is remembered for as long as some private page is being copied from it.

use mm::addr::WORDS_PER_PAGE;
use mm::fault::FaultError;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Words in a page.
pub const WORDS: u64 = WORDS_PER_PAGE as u64;

/// An object with an end.
#[derive(Debug, Default)]
pub struct FileModel {
    /// Words that are not zero for certain.
    words: BTreeMap<u64, Vec<u64>>,
    /// Words the object has at least, and at most.
    size: (u64, u64),
    /// Words that somebody writes by system call.
    writing: Range<u64>,
    /// What is being written is known when it is over.
    blind: bool,
    /// Words behind the end, or before it, for as long as that moves; also after a cut that was given up.
    cut: Range<u64>,
    /// Of these and those, words that were stored to since.
    stored: BTreeSet<u64>,
    /// Values that words have no more, for who watches.
    past: Vec<(u64, u64)>,
    watchers: usize,
}

/// A moment in the life of a file, from which on somebody copies a page of it.
#[derive(Clone, Copy, Debug)]
pub struct Moment(usize);

/// A page that was copied from a file and belongs to a program.
#[derive(Clone, Default, Debug)]
pub struct OwnPage {
    words: Arc<BTreeMap<u64, Vec<u64>>>,
    /// Words of which nobody knew what they held when the page was copied.
    unknown: Arc<BTreeSet<u64>>,
}

impl FileModel {
    /// Words the object has at least.
    pub fn len(&self) -> u64 {
        self.size.0
    }

    /// Whether it may have none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a page is behind the end, or may be.
    pub fn may_be_behind(&self, page: u64) -> bool {
        page >= self.size.0.div_ceil(WORDS)
    }

    /// Whether a page is behind the end, wherever that is.
    pub fn is_behind(&self, page: u64) -> bool {
        page >= self.size.1.div_ceil(WORDS)
    }

    /// Whether a page is behind an end that moves, or has not quite got there.
    pub fn is_cut(&self, page: u64) -> bool {
        !self.cut.is_empty() && page >= self.cut.start.div_ceil(WORDS)
    }

    /// What a word may hold.
    fn held(&self, at: u64) -> &[u64] {
        self.words.get(&at).map_or(&[0], Vec::as_slice)
    }

    fn set(&mut self, at: u64, values: Vec<u64>) {
        if self.watchers > 0 {
            let old = self.held(at).to_vec();
            self.past.extend(old.into_iter().map(|value| (at, value)));
        }
        self.words.insert(at, values);
    }

    fn add(&mut self, at: u64, value: u64) {
        self.words.entry(at).or_insert_with(|| vec![0]).push(value);
    }

    /// Forgets what these words hold: they are zero.
    fn clear(&mut self, range: Range<u64>, except: &BTreeSet<u64>) {
        let gone: Vec<u64> = self.words.range(range).map(|(at, _)| *at).filter(|at| !except.contains(at)).collect();
        for at in gone {
            self.set(at, vec![0]);
            self.words.remove(&at);
        }
    }

    /// Whether nobody can say what a word holds: behind the end, anything that was stored there; and what is copied from who knows where.
    fn is_unknown(&self, at: u64) -> bool {
        at >= self.size.0 || (self.blind && self.writing.contains(&at))
    }

    fn is_open(&self, at: u64) -> bool {
        self.writing.contains(&at) || self.cut.contains(&at)
    }

    /// A word was read, or could not be, for which there may be a reason that the file knows nothing of.
    pub fn load(&mut self, at: u64, loaded: Result<u64, FaultError>, excused: bool) {
        let value = match loaded {
            Ok(value) => value,
            Err(error) => {
                let plausible = error == FaultError::BadPage && (excused || self.may_be_behind(at / WORDS));
                return assert!(
                    plausible,
                    "word {at} of {:?}, cut {:?}: {error:?}, excused {excused}",
                    self.size, self.cut
                );
            }
        };
        assert!(!self.is_behind(at / WORDS), "word {at} of {:?} was loaded", self.size);
        if self.is_unknown(at) {
            return;
        }
        let held = self.held(at);
        assert!(
            held.contains(&value),
            "word {at} is {value:#x}, not one of {held:x?}; {:?}, cut {:?}",
            self.size,
            self.cut
        );
        if held.len() > 1 && !self.is_open(at) {
            self.set(at, vec![value]);
        }
    }

    /// A word was stored to, or could not be.
    pub fn store(&mut self, at: u64, value: u64, stored: Result<(), FaultError>, excused: bool) {
        if stored.is_err() || at >= self.size.1 {
            return self.load(at, stored.map(|()| value), excused);
        }
        // Where the end is on its way, what is stored may or may not be behind it.
        if self.is_open(at) || at >= self.size.0 {
            self.add(at, value);
            self.stored.insert(at);
        } else {
            self.set(at, vec![value]);
        }
    }

    /// A system call is about to write these words; `None` if it is known afterwards which.
    pub fn begin_write(&mut self, first: u64, count: u64, values: Option<&[u64]>) {
        for (at, &value) in (first..).zip(values.unwrap_or(&[])) {
            self.add(at, value);
        }
        (self.writing, self.blind) = (first..first + count, values.is_none());
        self.size.1 = self.size.1.max(self.writing.end);
    }

    /// What these words may hold now, or held since a moment.
    pub fn held_since(&self, words: Range<u64>, since: Moment) -> Vec<Vec<u64>> {
        let mut held: Vec<Vec<u64>> = words.clone().map(|at| self.held(at).to_vec()).collect();
        let past = self.past[since.0..].iter().filter(|(at, _)| words.contains(at));
        past.for_each(|(at, value)| held[(at - words.start) as usize].push(*value));
        held
    }

    /// A system call has written so many of the words, or nobody knows how many; and so long is the object. Whether a cut that had been
    /// given up is over.
    pub fn finish_write(&mut self, values: &[Vec<u64>], done: Option<u64>, len: u64) -> bool {
        let written = core::mem::take(&mut self.writing);
        let reached = written.start + done.unwrap_or(written.end - written.start);
        for (at, fresh) in written.clone().zip(values) {
            if self.stored.contains(&at) || done.is_none() || (self.blind && at >= reached) {
                fresh.iter().for_each(|value| self.add(at, *value));
            } else if at < reached {
                self.set(at, fresh.clone());
            }
        }
        self.blind = false;
        assert!(self.size.0 <= len && len <= self.size.1, "{len} words of {:?}", self.size);
        let grown = len > self.size.0;
        if self.cut.is_empty() || grown {
            let mut kept = core::mem::take(&mut self.stored);
            kept.extend(written);
            let cut = core::mem::take(&mut self.cut);
            self.clear(cut, &kept);
            self.settle(len);
        } else {
            self.size = (len, self.cut.end);
        }
        grown
    }

    /// A hole is about to be made.
    pub fn begin_hole(&mut self, hole: Range<u64>) {
        self.words.range_mut(hole.clone()).for_each(|(_, values)| values.push(0));
        self.writing = hole;
    }

    /// It is made: there is nothing but what was stored there since.
    pub fn finish_hole(&mut self) {
        let (hole, stored) = (core::mem::take(&mut self.writing), core::mem::take(&mut self.stored));
        self.clear(hole, &stored);
        if !self.cut.is_empty() {
            self.stored = stored;
        }
    }

    /// The end is about to move.
    pub fn begin_cut(&mut self, len: u64) {
        self.size = (self.size.0.min(len), self.size.1.max(len));
        self.cut = self.size.0..self.size.1;
        // What is cut off may be seen for a while, and so may zeroes.
        self.words.range_mut(self.cut.clone()).for_each(|(_, values)| values.push(0));
    }

    /// The end is where it was to be, and nothing is left of what was behind it. Returns the first page that lost what it had.
    pub fn finish_cut(&mut self, len: u64) -> u64 {
        let cut = core::mem::take(&mut self.cut);
        let stored = core::mem::take(&mut self.stored);
        let first = cut.start.div_ceil(WORDS);
        self.clear(cut, &stored);
        self.settle(len);
        first
    }

    /// Whoever moved the end has given up, with the end at `len`. As [`Self::finish_cut`] if it got there: only cuts are left half done.
    pub fn leave_cut(&mut self, len: u64) -> Option<u64> {
        if len > self.size.0 {
            return Some(self.finish_cut(len));
        }
        assert_eq!(len, self.size.0, "the end, of {:?}", self.size);
        None
    }

    fn settle(&mut self, len: u64) {
        self.size = (len, len);
        self.clear(len..u64::MAX, &BTreeSet::new());
        self.stored.clear();
    }

    /// From now on what words hold is remembered.
    pub fn watch(&mut self) -> Moment {
        self.watchers += 1;
        Moment(self.past.len())
    }

    /// Whoever watched has seen enough.
    pub fn end_watch(&mut self) {
        self.watchers -= 1;
        if self.watchers == 0 {
            self.past.clear();
        }
    }

    /// Whether a word may hold this, or might have since a moment.
    pub fn may_have_held(&self, at: u64, value: u64, since: Moment) -> bool {
        self.is_unknown(at) || self.held(at).contains(&value) || self.past[since.0..].contains(&(at, value))
    }

    /// A copy of a page, made at some moment since that one.
    pub fn copied_since(&self, page: u64, since: Moment) -> OwnPage {
        let range = page * WORDS..(page + 1) * WORDS;
        let known = |at: &u64| range.contains(at) && !self.is_unknown(*at);
        let mut words: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (at, values) in self.words.range(range.clone()).filter(|(at, _)| known(at)) {
            words.insert(at % WORDS, values.clone());
        }
        for (at, value) in self.past[since.0..].iter().filter(|(at, _)| known(at)) {
            words.entry(at % WORDS).or_insert_with(|| vec![0]).push(*value);
        }
        let unknown = range.clone().filter(|at| self.is_unknown(*at)).map(|at| at % WORDS).collect();
        OwnPage { words: Arc::new(words), unknown: Arc::new(unknown) }
    }

    /// Whether a word may hold this in the end.
    pub fn may_hold(&self, at: u64, value: u64) -> bool {
        self.held(at).contains(&value)
    }
}

impl OwnPage {
    /// Whether a word may hold this.
    pub fn may_hold(&self, at: u64, value: u64) -> bool {
        self.words.get(&at).map_or(value == 0 || self.unknown.contains(&at), |values| values.contains(&value))
    }

    /// A word holds this from now on, or has been seen to.
    pub fn set(&mut self, at: u64, value: u64) {
        Arc::make_mut(&mut self.words).insert(at, vec![value]);
    }
}
