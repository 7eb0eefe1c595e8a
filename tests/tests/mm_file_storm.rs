//! Random programs on one file: loads, stores, reads, writes, truncations, growth, holes, write-back and forks, over few frames and a slow store,
//! against a plain model of what each word of the file may be.
//!
//! `EBB_SEED=N` runs one seed; `EBB_SOAK=1` runs 20 with five times the operations.

use executor::sim::{Order, Rng, Seed, Settings};
use executor::{Class, yield_now};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::file_store::FileId;
use mm::object::{ObjectId, ObjectPage, Sharing};
use mm::sim::{FilesConfig, SimConfig, SimMachine};
use mm::space::SpaceId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tests::mm::{PAGE, Thread, Watched, World, numbered, pages, ready, settings, window, word};

const FILE: FileId = FileId::new(9);
/// Most pages of the file.
const PAGES: u64 = 24;
/// Words in a page.
const WORDS: u64 = 512;

/// What the file should hold, by word. While a write or a truncation is under way there are several answers for a word.
#[derive(Default)]
struct Model {
    /// Words that are not zero for certain.
    words: BTreeMap<u64, Vec<u64>>,
    /// Words the file has; two numbers while that changes, the smaller first.
    size: (u64, u64),
    /// Words that somebody changes by system call, and those of them that were stored to since.
    open: Range<u64>,
    stored: BTreeSet<u64>,
    fresh: u64,
}

impl Model {
    fn candidates(&mut self, at: u64) -> &mut Vec<u64> {
        self.words.entry(at).or_insert_with(|| vec![0])
    }

    fn load(&mut self, at: u64, loaded: Result<u64, FaultError>) {
        match loaded {
            Ok(_) => assert!(at / WORDS <= (self.size.1.max(1) - 1) / WORDS, "word {at} of {:?} was loaded", self.size),
            Err(error) => {
                let behind = at / WORDS >= self.size.0.div_ceil(WORDS);
                assert!(error == FaultError::BadPage && behind, "word {at} of {:?}: {error:?}", self.size);
                return;
            }
        }
        // Behind the end, in the last page, anything may be that was stored there.
        if let Ok(value) = loaded
            && at < self.size.0
        {
            let open = self.open.contains(&at);
            let candidates = self.candidates(at);
            assert!(candidates.contains(&value), "word {at} is {value:#x}, not one of {candidates:x?}");
            if !open {
                *candidates = vec![value];
            }
        }
    }

    fn store(&mut self, at: u64, value: u64, stored: Result<(), FaultError>) {
        if stored.is_err() || at >= self.size.1 {
            return self.load(at, stored.map(|()| value));
        }
        // Where the end is on its way, what is stored may or may not be behind it.
        let open = self.open.contains(&at) || at >= self.size.0;
        let candidates = self.candidates(at);
        if !open {
            candidates.clear();
        }
        candidates.push(value);
        if open {
            self.stored.insert(at);
        }
    }

    fn begin_write(&mut self, first: u64, values: &[u64]) {
        for (at, &value) in (first..).zip(values) {
            self.candidates(at).push(value);
        }
        self.open = first..first + values.len() as u64;
        self.size.1 = self.size.0.max(self.open.end);
    }

    fn finish_write(&mut self, first: u64, values: &[u64]) {
        for (at, &value) in (first..).zip(values) {
            if !self.stored.contains(&at) {
                *self.candidates(at) = vec![value];
            }
        }
        self.close(self.size.1);
    }

    fn begin_truncate(&mut self, words: u64) {
        let (old, end) = (self.size.0, self.size.0.max(words));
        self.size = (old.min(words), end);
        self.open = self.size.0..end;
        // What is cut off may be seen for a while, and so may zeroes.
        self.words.range_mut(self.open.clone()).for_each(|(_, values)| values.push(0));
    }

    fn finish_truncate(&mut self, words: u64) {
        self.words.retain(|at, _| *at < words);
        self.close(words);
    }

    fn begin_punch(&mut self, hole: Range<u64>) {
        self.words.range_mut(hole.clone()).for_each(|(_, values)| values.push(0));
        self.open = hole;
    }

    fn finish_punch(&mut self) {
        let (hole, stored) = (self.open.clone(), &self.stored);
        self.words.retain(|at, _| !hole.contains(at) || stored.contains(at));
        self.close(self.size.0);
    }

    fn close(&mut self, words: u64) {
        self.size = (words, words);
        self.open = 0..0;
        self.stored.clear();
    }
}

struct Stage {
    machine: Arc<SimMachine>,
    object: ObjectId,
    spaces: Vec<(SpaceId, VirtAddr)>,
    model: Mutex<Model>,
    /// Whether somebody changes the file by a system call: the inode's lock.
    busy: Mutex<bool>,
}

struct User {
    stage: Arc<Stage>,
    space: (SpaceId, VirtAddr),
    rng: Rng,
    thread: Thread,
}

impl User {
    async fn live(mut self, operations: u64) {
        for operation in 0..operations {
            match self.rng.below(100) {
                0..40 => self.load().await,
                40..75 => self.store().await,
                75..79 => self.read().await,
                79..81 => self.punch().await,
                81..88 => self.write().await,
                88..91 => self.truncate().await,
                91..93 => self.sync().await,
                93 => self.stage.machine.mm().write_back_old().await,
                94 => self.stage.machine.evict(self.space.0, pages(self.space.1, PAGES)),
                95 => self.stage.machine.mm().drop_page_table(self.space.0, self.space.1.page()),
                96 => self.fork().await,
                97 => self.stage.machine.mm().discard(self.space.0, self.space.1, PAGES * PAGE).await.unwrap(),
                _ => yield_now().await,
            }
            if operation % 64 == 0 {
                self.stage.machine.check();
            }
        }
    }

    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.stage.model.lock().expect("nobody panicked")
    }

    /// A word; half of the time in one of few pages.
    fn any_word(&mut self) -> u64 {
        let pages = if self.rng.below(2) == 0 { PAGES / 4 } else { PAGES };
        self.rng.below(pages) * WORDS + self.rng.below(WORDS)
    }

    async fn load(&mut self) {
        let at = self.any_word();
        let loaded = self.thread.load(self.space.0, word(self.space.1, at / WORDS, at % WORDS)).await;
        self.model().load(at, loaded);
    }

    async fn store(&mut self) {
        let at = self.any_word();
        let value = self.fresh();
        let stored = self.thread.store(self.space.0, word(self.space.1, at / WORDS, at % WORDS), value).await;
        self.model().store(at, value, stored);
    }

    fn fresh(&mut self) -> u64 {
        let mut model = self.model();
        model.fresh += 1;
        model.fresh << 8 | 1
    }

    async fn read(&mut self) {
        let (machine, at) = (self.stage.machine.clone(), self.any_word());
        let mut bytes = [0; 8];
        machine.mm().release_holds(&mut self.thread.holds);
        let read = machine.mm().object_read_bytes(self.stage.object, at * 8, self.space.0, &mut bytes).await;
        let mut model = self.model();
        match read {
            Ok(8) => model.load(at, Ok(u64::from_le_bytes(bytes))),
            Ok(0) => assert!(at >= model.size.0, "word {at} of {:?} is not there", model.size),
            other => panic!("{other:?}"),
        }
    }

    /// The right to change the file by system calls.
    fn claim(&self) -> bool {
        !core::mem::replace(&mut *self.stage.busy.lock().expect("nobody panicked"), true)
    }

    fn give_back(&self) {
        *self.stage.busy.lock().expect("nobody panicked") = false;
    }

    async fn write(&mut self) {
        if !self.claim() {
            return;
        }
        let (machine, first) = (self.stage.machine.clone(), self.any_word());
        let count = (1 + self.rng.below(6 * WORDS)).min(PAGES * WORDS - first);
        let values: Vec<u64> = (0..count).map(|_| self.fresh()).collect();
        // A file that grows has no hole in the model's eyes: what is between is zero, as for words never heard of.
        self.model().begin_write(first, &values);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        machine.mm().release_holds(&mut self.thread.holds);
        let written = machine.mm().object_write_bytes(self.stage.object, first * 8, self.space.0, &bytes).await;
        assert_eq!(written, Ok(count * 8));
        self.model().finish_write(first, &values);
        self.give_back();
    }

    async fn truncate(&mut self) {
        if !self.claim() {
            return;
        }
        let (machine, words) = (self.stage.machine.clone(), self.any_word());
        self.model().begin_truncate(words);
        machine.mm().release_holds(&mut self.thread.holds);
        machine.mm().truncate_object(self.stage.object, words * 8, self.space.0).await.unwrap();
        // Panics if anything is under way for what is cut off.
        machine.files().cut(FILE, words.div_ceil(WORDS));
        self.model().finish_truncate(words);
        self.give_back();
    }

    /// A hole of whole pages, within the file.
    async fn punch(&mut self) {
        let end = self.model().size.0.div_ceil(WORDS);
        if end == 0 || !self.claim() {
            return;
        }
        let machine = self.stage.machine.clone();
        // Nobody changes the size from here on, but it may have changed since it was looked at.
        let end = self.model().size.0.div_ceil(WORDS).min(end);
        let first = self.rng.below(end + 1);
        let hole = first..(first + 1 + self.rng.below(PAGES / 2)).min(end).max(first);
        self.model().begin_punch(hole.start * WORDS..hole.end * WORDS);
        machine.mm().release_holds(&mut self.thread.holds);
        let range = ObjectPage::new(hole.start)..ObjectPage::new(hole.end);
        let vacant = machine.mm().vacate(self.stage.object, range).await.unwrap();
        for _ in 0..self.rng.below(8) {
            yield_now().await;
        }
        // Panics if anything is under way for what is freed.
        machine.files().punch(FILE, hole);
        drop(vacant);
        self.model().finish_punch();
        self.give_back();
    }

    async fn sync(&mut self) {
        let machine = self.stage.machine.clone();
        let all = ObjectPage::new(0)..ObjectPage::LAST;
        machine.mm().sync_object(self.stage.object, all).await.unwrap();
    }

    /// A child sees the same file at the same place.
    async fn fork(&mut self) {
        let (machine, at, value) = (self.stage.machine.clone(), self.any_word(), self.fresh());
        let Some(child) = machine.create_space() else { return };
        machine.mm().release_holds(&mut self.thread.holds);
        machine.mm().fork_space(self.space.0, child).await.unwrap();
        let addr = word(self.space.1, at / WORDS, at % WORDS);
        let mut thread = Thread::new(&machine);
        let stored = thread.store(child, addr, value).await;
        self.model().store(at, value, stored);
        let loaded = thread.load(child, addr).await;
        self.model().load(at, loaded);
        drop(thread);
        machine.mm().destroy_space(child).await;
    }
}

fn storm(seed: u64, operations: u64) -> u64 {
    let mut rng = Rng::new(Seed(seed));
    let mm = Config {
        torture: rng.below(3) == 0,
        operations: 8 + rng.below(60) as usize,
        dirty_pages: Some(2 + rng.below(12) as usize),
        mappings: Some(rng.below(40) as usize),
        ..Config::default()
    };
    let config = SimConfig {
        mm,
        seed,
        files: Some(FilesConfig { depth: 1 + rng.below(8) as usize, ..FilesConfig::good(PAGES as usize) }),
        ..SimConfig::new(48 + rng.below(40) as usize, 512)
    };
    let order = if seed.is_multiple_of(5) { Order::AsInKernel } else { Order::Shuffled };
    let mut world = World::new(config, Settings { order, ..settings(seed) });
    let object = world.machine.mm().create_file_object(FILE, 0).unwrap();
    let spaces: Vec<_> = (0..3)
        .map(|_| {
            let space = world.machine.create_space().unwrap();
            (space, ready(world.machine.mm().map(space, window(object, 0, PAGES, Sharing::Shared))).unwrap())
        })
        .collect();
    let (machine, model, busy) = (world.machine.clone(), Mutex::default(), Mutex::new(false));
    let stage = Arc::new(Stage { machine, object, spaces: spaces.clone(), model, busy });
    for number in 0..6 {
        let (rng, thread) = (world.sim.split_rng(), Thread::new(&world.machine));
        let user = User { stage: stage.clone(), space: stage.spaces[number % 3], rng, thread };
        let watched = Watched::new(&world.machine, user.live(operations / 6));
        world.sim.spawn(Class::User, numbered("user", number), watched).detach();
    }
    world.sim.run().unwrap_or_else(|stuck| {
        panic!("seed {seed}: {stuck}\n{}{:#?}", world.sim.journal().print(), world.machine.mm().snapshot())
    });
    world.settle();
    // What is in the file in the end is what the model has, word by word.
    let machine = world.machine.clone();
    world.run("sync", async move {
        machine.mm().sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await.unwrap();
    });
    let mut model = stage.model.lock().unwrap();
    assert_eq!(world.machine.mm().object_size(object), Some(model.size.0 * 8));
    let end = model.size.0;
    for page in 0..end.div_ceil(WORDS) {
        let held = world.machine.files().contents(FILE, page).unwrap_or([0; 512]);
        for at in (page * WORDS..(page + 1) * WORDS).take_while(|at| *at < end) {
            let value = held[(at % WORDS) as usize];
            assert!(model.candidates(at).contains(&value), "word {at} is {value:#x} on the disk, in the end");
        }
    }
    drop(model);
    let counters = world.machine.mm().snapshot().counters;
    assert!(counters.pgfileout > 0 && counters.pswpout == 0, "{counters:?}");
    world.machine.mm().close_object(object);
    spaces.into_iter().for_each(|(space, _)| world.destroy(space));
    world.assert_empty();
    println!("{} pages in, {} out", counters.pgfilein, counters.pgfileout);
    world.sim.journal().hash()
}

#[test]
fn programs_see_the_file_of_the_model() {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64 >> 8);
    let wanted = std::env::var("EBB_SEED").ok().and_then(|seed| seed.parse().ok());
    let (count, operations) = if std::env::var_os("EBB_SOAK").is_some() { (20, 100_000) } else { (4, 20_000) };
    for seed in wanted.map_or_else(|| (fresh..fresh + count).collect(), |seed: u64| vec![seed]) {
        println!("EBB_SEED={seed}");
        storm(seed, operations);
    }
}

#[test]
fn the_same_seed_gives_the_same_events_with_files() {
    assert_eq!(storm(11, 2_000), storm(11, 2_000));
    assert_ne!(storm(11, 2_000), storm(12, 2_000));
}
