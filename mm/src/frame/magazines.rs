//! Frames in magazines: each processor keeps a few free ones at hand, so that most requests take a lock that nobody else wants.
//!
//! Owns: the magazines, when they are filled and emptied, and the order of their locks. Does not own: which frames there are (the
//! shared [`FrameSource`] does, the [`FrameAllocator`] in practice), nor who waits for one: whoever gives a frame back wakes them.
//! The kernel runs on one processor and does not use this yet; there the allocator's own shelf is the one magazine
//! (docs/decisions/magazines.md). Tests look at all orders of a few steps, and let threads loose on it (`tests/tests/n4_magazines.rs`).
//!
//! ```text
//!              take: empty, so fill to `low`
//!         ┌────────────────────────────────────┐
//!   magazine of a processor  ◄── steal half ──  magazine of another     shared source
//!         └────────────────────────────────────┘                             ▲
//!              give: above `high`, so back to `low`; drain: all of it ───────┘
//! ```
//!
//! Two marks, as Linux' per-cpu page lists have `high` and `batch` (mm/page_alloc.c). Between two visits to the source lie at least
//! `low` takes or `high - low` gives, whatever the order of takes and gives: what Bonwick and Adams get from a second magazine
//! ("Magazines and Vmem", USENIX 2001, §3.1), because here as there a visit leaves room in both directions.
//!
//! **Lock order.** Magazines by number, lowest first, then the source's own lock. A frame moves between two places while both
//! are locked, so it is always in a place, or somebody's.
//!
//! **A request fails only if there is no frame.** Looking at one place after another could miss a frame that moves behind one's back.
//! So the last try ([`Magazines::take`], step 4) keeps every lock it has taken: at its end all places are empty at the same moment.

use super::{Frame, FrameAllocator, FrameKind};
use arrayvec::ArrayVec;
use maitake_sync::blocking::Mutex;
use mutex_traits::{ConstInit, ScopedRawMutex};

/// Most frames in a magazine, the one that goes over `high` included.
const ROOM: usize = 65;

/// Frames on their way between a magazine and the source.
pub type Batch<F> = ArrayVec<F, ROOM>;

/// Which processor asks. It decides only which magazine is tried first: a thread that has moved on since it looked where it runs
/// gets its frame all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProcessorId(usize);

impl ProcessorId {
    /// The processor with this number, counted from 0.
    pub const fn new(number: usize) -> Self {
        Self(number)
    }
}

/// How full magazines are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    low: usize,
    high: usize,
}

impl Marks {
    /// For machines with memory to spare: at least 32 requests between two visits to the source.
    pub const USUAL: Self = Self { low: 32, high: 64 };

    /// A magazine is filled to `low` when it is empty, and emptied to `low` when it has more than `high`. `None` unless
    /// `0 < low < high <= 64`: with nothing between the marks every other request would go to the source.
    pub const fn new(low: usize, high: usize) -> Option<Self> {
        if 0 < low && low < high && high < ROOM { Some(Self { low, high }) } else { None }
    }
}

/// Who has the frames that are in no magazine. Its methods lock what they need and nothing else, and never wait for a frame.
pub trait FrameSource {
    /// A frame that is somebody's: not `Clone`, so it is in one place at a time.
    type Frame;

    /// Puts up to `count` frames into an empty batch; none only if there is none.
    fn take(&self, batch: &mut Batch<Self::Frame>, count: usize);

    /// Takes back all of a batch.
    fn give(&self, batch: &mut Batch<Self::Frame>);

    /// Whether there are so few that nobody should keep any. May be out of date.
    fn is_short(&self) -> bool;
}

/// A lock around a value. The kernel's masks interrupts, so that a magazine is never met half changed on its own processor.
pub trait Lock<T> {
    /// An open lock.
    fn new(value: T) -> Self;
    /// Does `work` on the value, while nobody else does.
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

impl<T, L: ScopedRawMutex + ConstInit> Lock<T> for Mutex<T, L> {
    fn new(value: T) -> Self {
        Self::new_with_raw_mutex(value, L::INIT)
    }
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        self.with_lock(work)
    }
}

/// The free frames that one processor has at hand; the last one in is the first one out, because the cache still knows it.
pub struct Magazine<F>(Batch<F>);

/// Alone in its cache lines: neighbours' locks would otherwise be as dear as a shared one.
#[repr(align(128))]
struct Padded<M>(M);

/// The magazines of `PROCESSORS` processors over one source. `M` is the lock around each.
pub struct Magazines<S, M, const PROCESSORS: usize> {
    magazines: [Padded<M>; PROCESSORS],
    shared: S,
    marks: Marks,
}

impl<S: FrameSource, M: Lock<Magazine<S::Frame>>, const PROCESSORS: usize> Magazines<S, M, PROCESSORS> {
    /// Empty magazines over `shared`.
    pub fn new(shared: S, marks: Marks) -> Self {
        let magazines = core::array::from_fn(|_| Padded(M::new(Magazine(Batch::new_const()))));
        Self { magazines, shared, marks }
    }

    /// One frame, from wherever there is one; `None` only if at one moment during the call there was none in any magazine nor at the
    /// source.
    ///
    /// 1. From the processor's own magazine. 2. From the source, and a batch with it. 3. Half of another processor's magazine.
    /// 4. From anywhere, with every lock that was passed still held.
    ///
    /// # Panics
    /// If there is no such processor.
    pub fn take(&self, processor: ProcessorId) -> Option<S::Frame> {
        let own = self.magazine(processor.0).with(|own| own.0.pop().or_else(|| self.refill(own)));
        own.or_else(|| self.steal(processor.0)).or_else(|| self.search(0))
    }

    /// Takes a frame back.
    ///
    /// # Panics
    /// If there is no such processor.
    pub fn give(&self, processor: ProcessorId, frame: S::Frame) {
        self.magazine(processor.0).with(|own| {
            own.0.push(frame);
            let keep = match own.0.len() {
                _ if self.shared.is_short() => 0,
                frames if frames > self.marks.high => self.marks.low,
                frames => frames,
            };
            self.give_oldest(own, keep);
        });
    }

    /// Gives all that magazines hold to the source, and says how many frames that were. For when frames are short: they are of use to
    /// whoever needs a run of them, and count as free again. While the source is short magazines stay empty.
    pub fn drain(&self) -> usize {
        let empty = |magazine: &Padded<M>| {
            magazine.0.with(|magazine| {
                let frames = magazine.0.len();
                self.give_oldest(magazine, 0);
                frames
            })
        };
        self.magazines.iter().map(empty).sum()
    }

    /// Frames in magazines: free, though the source counts them as given out.
    pub fn held(&self) -> usize {
        self.magazines.iter().map(|magazine| magazine.0.with(|magazine| magazine.0.len())).sum()
    }

    /// Who has the other frames.
    pub fn source(&self) -> &S {
        &self.shared
    }

    fn magazine(&self, number: usize) -> &M {
        &self.magazines[number].0
    }

    /// As many of `frames` as a magazine may take now.
    fn at_once(&self, frames: usize) -> usize {
        if self.shared.is_short() { 1 } else { frames }
    }

    fn refill(&self, empty: &mut Magazine<S::Frame>) -> Option<S::Frame> {
        self.shared.take(&mut empty.0, self.at_once(self.marks.low));
        empty.0.pop()
    }

    /// Leaves `keep` frames in a magazine.
    fn give_oldest(&self, magazine: &mut Magazine<S::Frame>, keep: usize) {
        let mut batch: Batch<_> = magazine.0.drain(..magazine.0.len() - keep).collect();
        if !batch.is_empty() {
            self.shared.give(&mut batch);
        }
    }

    /// Half of what another processor has, beginning with the next one, so that not all go to the same.
    fn steal(&self, thief: usize) -> Option<S::Frame> {
        (thief + 1..PROCESSORS).chain(0..thief).find_map(|victim| {
            self.with_both(thief, victim, |own, other| {
                if own.0.is_empty() {
                    let half = self.at_once(other.0.len().div_ceil(2)).min(other.0.len());
                    own.0.extend(other.0.drain(..half));
                }
                own.0.pop()
            })
        })
    }

    /// Does `work` on two magazines, locked in order.
    fn with_both<R>(
        &self,
        one: usize,
        two: usize,
        work: impl FnOnce(&mut Magazine<S::Frame>, &mut Magazine<S::Frame>) -> R,
    ) -> R {
        let (first, second) = (self.magazine(one.min(two)), self.magazine(one.max(two)));
        first.with(|first| second.with(|second| if one < two { work(first, second) } else { work(second, first) }))
    }

    /// A frame from magazine `from`, from a later one or from the source, locked one inside the other.
    fn search(&self, from: usize) -> Option<S::Frame> {
        if from == PROCESSORS {
            let mut one = Batch::new();
            self.shared.take(&mut one, 1);
            return one.pop();
        }
        self.magazine(from).with(|magazine| magazine.0.pop().or_else(|| self.search(from + 1)))
    }
}

/// Frames for programs' pages, one at a time: what nearly all requests are for.
impl<L: ScopedRawMutex + ConstInit> FrameSource for FrameAllocator<L> {
    type Frame = Frame;

    fn take(&self, batch: &mut Batch<Frame>, count: usize) {
        self.alloc_pages(FrameKind::User, batch, count);
    }
    fn give(&self, batch: &mut Batch<Frame>) {
        self.free_pages(batch);
    }
    fn is_short(&self) -> bool {
        self.below_low()
    }
}
