//! The pool and its entries against a plain model.

use super::entries::{Entries, Entry, EntryId};
use super::pool::{LARGEST, MOST_BYTES, Pool};
use crate::addr::{PAGE_SIZE, Pfn, Vpn, WORDS_PER_PAGE};
use crate::group::GroupId;
use crate::home::Home;
use crate::page::Tag;
use crate::platform::PhysMemory;
use crate::sim::SimRng;
use crate::space::SpaceId;
use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};
use core::cell::RefCell;
use maitake_sync::blocking::Mutex;

/// Frames and who has them: a frame that the pool does not have is full of poison, and must stay so.
struct Frames {
    bytes: Mutex<RefCell<Vec<Box<[u8; PAGE_SIZE]>>>, crate::sim::SimLock>,
}

const POISON: u8 = 0xa5;

impl Frames {
    fn new(count: usize) -> Self {
        let bytes = (0..count).map(|_| Box::new([POISON; PAGE_SIZE])).collect();
        Self { bytes: Mutex::new_with_raw_mutex(RefCell::new(bytes), mutex_traits::ConstInit::INIT) }
    }
    fn with<R>(&self, frame: Pfn, work: impl FnOnce(&mut [u8; PAGE_SIZE]) -> R) -> R {
        self.bytes.with_lock(|bytes| work(&mut bytes.borrow_mut()[frame.index()]))
    }
    fn is_poisoned(&self, frame: Pfn) -> bool {
        self.with(frame, |bytes| bytes.iter().all(|byte| *byte == POISON))
    }
}

impl PhysMemory for Frames {
    fn zero(&self, _: Pfn) {
        unreachable!("the pool only reads and writes")
    }
    fn fill(&self, _: Pfn, _: u32) {
        unreachable!("the pool only reads and writes")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("the pool only reads and writes")
    }
    fn read(&self, frame: Pfn, offset: usize, out: &mut [u8]) {
        self.with(frame, |bytes| out.copy_from_slice(&bytes[offset..offset + out.len()]));
    }
    fn write(&self, frame: Pfn, offset: usize, data: &[u8]) {
        self.with(frame, |bytes| bytes[offset..offset + data.len()].copy_from_slice(data));
    }
    fn with_words<R>(&self, _: Pfn, _: impl FnOnce(&[u64; WORDS_PER_PAGE]) -> R) -> R {
        unreachable!("the pool only reads and writes")
    }
}

/// A pool, its entries, and what is in them.
struct Trial {
    pool: Pool,
    entries: Entries,
    frames: Frames,
    free: Vec<Pfn>,
    model: BTreeMap<EntryId, Vec<u8>>,
    scratch: Vec<u8>,
}

impl Trial {
    fn new(limit: usize) -> Self {
        Self {
            pool: Pool::new(limit).expect("there is memory"),
            entries: Entries::new(limit * PAGE_SIZE / 60).expect("there is memory"),
            frames: Frames::new(limit + 3),
            free: (0..limit as u32 + 3).map(Pfn::new).collect(),
            model: BTreeMap::new(),
            scratch: vec![0; LARGEST],
        }
    }

    fn push(&mut self, bytes: Vec<u8>) -> Option<EntryId> {
        let needed = self.pool.needs_frame(bytes.len());
        if needed && !self.pool.takes_frame() {
            return None;
        }
        let frame = needed.then(|| self.free.pop().expect("more frames than the pool takes"));
        let home = Home::Private(SpaceId::new(0), Vpn::new(1));
        if self.entries.is_full() {
            self.entries.grow();
        }
        let id = self.entries.insert(Entry::new(home, Tag::new(0), GroupId::ROOT, bytes.len()))?;
        self.entries.get_mut(id).chunk = self.pool.push(&self.frames, id, &bytes, frame);
        self.model.insert(id, bytes);
        Some(id)
    }

    fn remove(&mut self, id: EntryId) {
        let entry = self.entries.remove(id);
        let removed = self.pool.remove(&self.frames, entry.chunk, entry.bytes.into(), &mut self.scratch);
        if let Some((other, chunk)) = removed.moved {
            self.entries.get_mut(other).chunk = chunk;
        }
        if let Some(frame) = removed.frame {
            self.frames.with(frame, |bytes| bytes.fill(POISON));
            self.free.push(frame);
        }
        self.model.remove(&id);
    }

    fn check(&self) {
        assert_eq!(self.entries.len(), self.model.len());
        for (id, bytes) in &self.model {
            let entry = self.entries.get(*id);
            let mut found = vec![0; entry.bytes.into()];
            self.pool.read(&self.frames, entry.chunk, &mut found);
            assert_eq!(&found, bytes, "{id:?}");
        }
        assert!(self.free.iter().all(|frame| self.frames.is_poisoned(*frame)), "a frame was written that is free");
        // Nothing is lost but what sizes are rounded up to, and a part of one frame for each.
        let rounded: usize = self.model.values().map(|bytes| (bytes.len() + 4).next_multiple_of(64)).sum();
        let sizes = self.model.values().map(|bytes| (bytes.len() + 4).div_ceil(64));
        let sizes = sizes.collect::<alloc::collections::BTreeSet<_>>().len();
        assert!(self.pool.frames() <= rounded / PAGE_SIZE + sizes, "{} frames", self.pool.frames());
        assert!(self.pool.frames() * PAGE_SIZE >= rounded);
    }
}

fn random_bytes(rng: &mut SimRng, sizes: &[usize]) -> Vec<u8> {
    let most = sizes[rng.below(sizes.len())];
    let len = 1 + rng.below(most);
    let word = rng.word() as u8;
    (0..len).map(|i| word.wrapping_mul(i as u8).wrapping_add((i >> 8) as u8)).collect()
}

#[test]
fn what_is_put_into_the_pool_comes_back_and_nothing_is_lost_to_fragmentation() {
    for seed in 1..40 {
        let mut rng = SimRng::new(seed);
        let limit = 1 + rng.below(40);
        let mut trial = Trial::new(limit);
        let (mut refused, mut growing) = (0, true);
        for step in 0..4000 {
            if rng.below(200) == 0 {
                growing = !growing;
            }
            if rng.below(3) > usize::from(growing) {
                let nth = rng.below(trial.model.len().max(1));
                if let Some(id) = trial.model.keys().nth(nth).copied() {
                    trial.remove(id);
                }
            } else {
                let bytes = random_bytes(&mut rng, &[60, 700, 700, MOST_BYTES]);
                refused += usize::from(trial.push(bytes).is_none());
            }
            if step % 100 == 0 {
                trial.check();
            }
        }
        assert!(trial.pool.frames() <= limit && (limit > 20 || refused > 0), "seed {seed}");
        let ids: Vec<_> = trial.model.keys().copied().collect();
        ids.into_iter().for_each(|id| trial.remove(id));
        trial.check();
        assert_eq!((trial.pool.frames(), trial.free.len()), (0, limit + 3), "seed {seed}");
    }
}

#[test]
fn chunks_of_every_size_fill_frames_to_the_last_byte() {
    for size in (64..=LARGEST).step_by(64) {
        let mut trial = Trial::new(50);
        let whole = 40 * PAGE_SIZE / size;
        let ids: Vec<_> = (0..whole).map(|i| trial.push(vec![i as u8; size - 4]).expect("it fits")).collect();
        assert_eq!(trial.pool.frames(), (whole * size).div_ceil(PAGE_SIZE));
        trial.check();
        ids.into_iter().for_each(|id| trial.remove(id));
        assert_eq!(trial.pool.frames(), 0);
    }
}

#[test]
fn entries_wait_in_the_order_they_came_and_those_that_could_not_be_written_wait_again() {
    let mut entries = Entries::new(8).expect("there is memory");
    let new = || Entry::new(Home::Private(SpaceId::new(0), Vpn::new(1)), Tag::new(0), GroupId::ROOT, 9);
    let ids: Vec<_> = (0..8).map(|_| entries.insert(new()).expect("there is room")).collect();
    let order = |entries: &Entries| -> Vec<EntryId> {
        core::iter::successors(entries.oldest(), |id| entries.younger(*id)).collect()
    };
    assert_eq!(order(&entries), ids);
    entries.begin_write(ids[0], 0);
    entries.begin_write(ids[1], 1);
    entries.remove(ids[4]);
    entries.remove(ids[7]);
    entries.remove(ids[1]);
    assert_eq!(order(&entries), [ids[2], ids[3], ids[5], ids[6]]);
    entries.put_back(ids[0]);
    let again = entries.insert(new()).expect("there is room");
    assert_eq!(order(&entries), [ids[2], ids[3], ids[5], ids[6], ids[0], again]);
    assert_eq!(entries.iter().count(), entries.len());
    assert_eq!(entries.len(), 6);
}

#[test]
fn the_table_grows_by_pieces_as_far_as_it_may_and_is_small_again_when_it_is_empty() {
    let mut entries = Entries::new(300).expect("there is memory");
    let new = || Entry::new(Home::Private(SpaceId::new(0), Vpn::new(1)), Tag::new(0), GroupId::ROOT, 9);
    let mut ids = Vec::new();
    loop {
        match entries.insert(new()) {
            Some(id) => ids.push(id),
            None if entries.can_grow() => entries.grow(),
            None => break,
        }
    }
    assert!(ids.len() >= 300 && entries.len() == ids.len() && entries.is_full());
    assert!(core::iter::successors(entries.oldest(), |id| entries.younger(*id)).eq(ids.iter().copied()));
    for id in ids {
        entries.remove(id);
    }
    assert!(entries.has_grown());
    entries.shrink();
    assert!(!entries.has_grown() && entries.can_grow() && entries.insert(new()).is_some());
}
