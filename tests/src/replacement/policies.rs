//! The kernel's policies over a reference string: the same code, and A bits that say no more than the machine's.

use mm::addr::Pfn;
use mm::frame::{FrameDesc, FrameTable};
use mm::reclaim::{Arrival, Distance, Judged, Optimum, PageKey, Policy, Sample, Use, Verdict};

/// A page that is in a frame, or when it left.
#[derive(Clone, Copy)]
enum Place {
    Unknown,
    In(Pfn),
    Left { evictions: usize },
}

/// Frames that are freed at once, as reclaim does between its watermarks.
const AHEAD: usize = 128;

struct Run<P> {
    links: FrameTable,
    policy: P,
    places: Vec<Place>,
    page_in: Vec<u32>,
    free: Vec<Pfn>,
    used: Vec<bool>,
    evictions: usize,
    /// What the kernel would say of Belady's minimum.
    optimum: Optimum,
    frames: usize,
    first: u64,
}

/// Misses but for first touches.
pub fn misses<P: Policy>(references: &[u32], frames: usize) -> usize {
    missed::<P>(references, frames).len()
}

/// Which references miss, but for first touches.
pub fn missed<P: Policy>(references: &[u32], frames: usize) -> Vec<usize> {
    run::<P>(references, frames, 1).0
}

/// Misses but for first touches, and what the kernel would say of how many of them had to be. `first` is the name of page zero, by which it
/// depends which pages are in the sample.
pub fn judged<P: Policy>(references: &[u32], frames: usize, first: u64) -> (usize, Judged) {
    let (missed, judged) = run::<P>(references, frames, first);
    (missed.len(), judged)
}

fn run<P: Policy>(references: &[u32], frames: usize, first: u64) -> (Vec<usize>, Judged) {
    let mut run = Run {
        links: FrameTable::new(Box::leak(vec![FrameDesc::EMPTY; frames].into_boxed_slice())),
        policy: P::default(),
        places: vec![Place::Unknown; super::bounds::pages(references)],
        page_in: vec![u32::MAX; frames],
        free: (0..frames as u32).map(Pfn::new).rev().collect(),
        used: vec![false; frames],
        evictions: 0,
        optimum: Optimum::for_frames(frames),
        frames,
        first,
    };
    let mut seen = vec![false; run.places.len()];
    let mut costs = |page: u32| run.touch(page) && std::mem::replace(&mut seen[page as usize], true);
    let missed = (0..references.len()).filter(|nth| costs(references[*nth])).collect();
    (missed, run.optimum.judged())
}

impl<P: Policy> Run<P> {
    fn note_use(&mut self, page: u32, how: Use) {
        self.optimum.note_use(PageKey::new(self.first + u64::from(page)), how);
    }

    /// A reference. Whether it missed.
    fn touch(&mut self, page: u32) -> bool {
        let place = self.places[page as usize];
        if let Place::In(frame) = place {
            self.used[frame.index()] = true;
            return false;
        }
        if let Place::Left { .. } = place {
            self.note_use(page, Use::Read);
        }
        if self.free.is_empty() {
            self.free = (0..AHEAD).map(|_| self.evict()).collect();
        }
        let frame = self.free.pop().expect("just filled");
        self.page_in[frame.index()] = page;
        self.places[page as usize] = Place::In(frame);
        self.used[frame.index()] = true;
        let arrival = match place {
            Place::Left { evictions } if self.evictions - evictions <= P::WINDOW * self.policy.len() => {
                Arrival::Returned(Distance(self.evictions - evictions))
            }
            _ => Arrival::New,
        };
        self.policy.admit(&mut self.links, frame, arrival);
        true
    }

    fn evict(&mut self) -> Pfn {
        loop {
            let frame = self.policy.candidate().expect("all pages are known to the policy");
            let used = std::mem::take(&mut self.used[frame.index()]);
            let sample = if used { Sample::Used } else { Sample::Idle };
            // As in the kernel: whatever is found used when it is looked at.
            if used {
                self.note_use(self.page_in[frame.index()], Use::Found);
            }
            if self.policy.judge(&mut self.links, frame, sample) == Verdict::Evict {
                self.evictions += 1;
                self.optimum.note_eviction(|| self.frames);
                self.places[self.page_in[frame.index()] as usize] = Place::Left { evictions: self.evictions };
                return frame;
            }
        }
    }
}
