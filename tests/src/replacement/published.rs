//! Policies of the literature, told of every reference.

use super::bounds::pages;
use std::collections::{HashMap, VecDeque};

/// Pages in the order in which they were last moved to the end.
#[derive(Default)]
struct Queue {
    order: std::collections::BTreeMap<u64, u32>,
    at: HashMap<u32, u64>,
    clock: u64,
}

impl Queue {
    fn push(&mut self, page: u32) {
        self.remove(page);
        self.clock += 1;
        self.order.insert(self.clock, page);
        self.at.insert(page, self.clock);
    }
    fn pop(&mut self) -> Option<u32> {
        let (_, page) = self.order.pop_first()?;
        self.at.remove(&page);
        Some(page)
    }
    fn remove(&mut self, page: u32) -> bool {
        self.at.remove(&page).and_then(|at| self.order.remove(&at)).is_some()
    }
    fn len(&self) -> usize {
        self.order.len()
    }
}

/// Counts misses but for first touches.
fn count(references: &[u32], mut hits: impl FnMut(u32) -> bool) -> usize {
    let mut seen = vec![false; pages(references)];
    let mut costs = |page: u32| !hits(page) && std::mem::replace(&mut seen[page as usize], true);
    references.iter().map(|page| usize::from(costs(*page))).sum()
}

/// The least recently used goes.
pub fn lru(references: &[u32], frames: usize) -> usize {
    let mut queue = Queue::default();
    count(references, |page| {
        let hit = queue.remove(page);
        if !hit && queue.len() == frames {
            queue.pop();
        }
        queue.push(page);
        hit
    })
}

/// ARC (Megiddo and Modha, FAST 2003): those used once and those used again, in shares that their ghosts adjust.
pub fn arc(references: &[u32], frames: usize) -> usize {
    let [mut once, mut again, mut once_gone, mut again_gone] = std::array::from_fn(|_| Queue::default());
    let mut share = 0;
    count(references, |page| {
        if once.remove(page) || again.remove(page) {
            again.push(page);
            return true;
        }
        let (in_once, in_again) = (once_gone.at.contains_key(&page), again_gone.at.contains_key(&page));
        if in_once {
            share = (share + (again_gone.len() / once_gone.len()).max(1)).min(frames);
        } else if in_again {
            share = share.saturating_sub((once_gone.len() / again_gone.len()).max(1));
        } else if once.len() + once_gone.len() == frames {
            if once.len() < frames {
                once_gone.pop()
            } else {
                once.pop()
            };
        } else if once.len() + again.len() + once_gone.len() + again_gone.len() >= 2 * frames {
            again_gone.pop();
        }
        if once.len() + again.len() == frames {
            if once.len() > 0 && (once.len() > share || in_again && once.len() == share) {
                once.pop().into_iter().for_each(|gone| once_gone.push(gone));
            } else {
                again.pop().into_iter().for_each(|gone| again_gone.push(gone));
            }
        }
        once_gone.remove(page);
        again_gone.remove(page);
        if in_once || in_again {
            again.push(page)
        } else {
            once.push(page)
        }
        false
    })
}

/// S3-FIFO (Yang et al., SOSP 2023): a tenth of memory for new pages, a main queue, and ghosts of as many as main has.
pub fn s3_fifo(references: &[u32], frames: usize) -> usize {
    let small_share = frames / 10;
    let (mut small, mut main, mut ghosts) = (VecDeque::new(), VecDeque::new(), Queue::default());
    let mut uses: HashMap<u32, u8> = HashMap::new();
    count(references, |page| {
        if let Some(uses) = uses.get_mut(&page) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        while small.len() + main.len() >= frames {
            let from_small = small.len() >= small_share;
            let Some(old) = (if from_small { small.pop_front() } else { main.pop_front() }) else { break };
            match uses.insert(old, 0) {
                Some(1..) if from_small => main.push_back(old),
                Some(left @ 1..) => {
                    uses.insert(old, left - 1);
                    main.push_back(old);
                }
                _ => {
                    uses.remove(&old);
                    if from_small {
                        ghosts.push(old);
                    }
                    if ghosts.len() > frames - small_share {
                        ghosts.pop();
                    }
                }
            }
        }
        uses.insert(page, 0);
        if ghosts.remove(page) {
            main.push_back(page)
        } else {
            small.push_back(page)
        }
        false
    })
}
