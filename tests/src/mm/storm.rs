//! The property test: threads of several programs do random things to their memory, and the model says what they may see.
//!
//! Owns the threads and their choice of operations. The page tables are dropped and the machine is inspected at random between them.

use super::model::{Change, Key, Model};
use super::{PAGE, Watched, World, anonymous, numbered, settings};
use executor::sim::{Journal, Order, Rng, Settings, Spurious};
use executor::{Class, yield_now};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::platform::{Access, Rights};
use mm::sim::{DiskConfig, PerMille, SimConfig, SimMachine};
use mm::space::{CopyError, Label, MapError, MapRequest, Placement, SpaceId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

/// Pages in an arena; arenas lie 1 GiB apart, so that each has page tables of its own.
const ARENA_PAGES: usize = 48;

/// What a storm is like.
#[derive(Clone, Copy, Debug)]
pub struct StormConfig {
    /// The machine.
    pub machine: SimConfig,
    /// Address spaces.
    pub spaces: usize,
    /// Threads in each.
    pub threads: usize,
    /// Arenas in each.
    pub arenas: usize,
    /// Operations, of all threads together.
    pub operations: u64,
    /// Every so many operations of a thread, the whole state is inspected.
    pub inspect_every: u64,
    /// Whether there may be too little swap. A program that is out of memory ends, as it would in the kernel.
    pub supply: Supply,
}

/// How much memory there is, disk and all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Supply {
    /// Enough for everybody.
    Ample,
    /// About as much as is asked for.
    Tight,
}

impl StormConfig {
    /// Three programs of three threads in few frames with much to do, torture on, a disk that reorders and fails now and then.
    pub fn usual(seed: u64, operations: u64) -> Self {
        let mut rng = Rng::new(executor::sim::Seed(seed));
        let disk = DiskConfig {
            depth: 1 + rng.below(16) as usize,
            read_errors: PerMille(rng.below(60) as u16),
            write_errors: PerMille(rng.below(4) as u16),
            torn_writes: PerMille(rng.below(10) as u16),
            reorders: true,
            discards: rng.below(2) == 0,
            ..DiskConfig::good(16_384)
        };
        let mm = Config { torture: rng.below(3) != 0, operations: 8 + rng.below(89) as usize, ..Config::default() };
        let frames = 52 + rng.below(70) as usize;
        let machine = SimConfig { frames, disk: Some(disk), mm, tlb: 1 + rng.below(48) as usize, seed };
        Self { machine, spaces: 3, threads: 3, arenas: 3, operations, inspect_every: 64, supply: Supply::Ample }
    }

    /// The same with a disk that may not hold what RAM does not.
    pub fn tight(seed: u64, operations: u64) -> Self {
        let mut config = Self::usual(seed, operations);
        let slots = 40 + Rng::new(executor::sim::Seed(!seed)).below(120) as u32;
        config.machine.disk = config.machine.disk.map(|disk| DiskConfig { slots, write_errors: PerMille(0), ..disk });
        Self { supply: Supply::Tight, ..config }
    }
}

/// What came of a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of the event log.
    pub hash: u64,
    /// Operations done.
    pub operations: u64,
    /// Pages that were read in.
    pub swapped_in: u64,
    /// Pages that were written out.
    pub swapped_out: u64,
    /// Pages that the disk lost and a program noticed.
    pub lost: usize,
    /// Programs that ended because memory was out.
    pub out_of_memory: usize,
}

/// What all threads share.
struct Stage {
    machine: Arc<SimMachine>,
    journal: Journal,
    spaces: Vec<SpaceId>,
    model: Mutex<Model>,
    /// Arenas that somebody is changing.
    busy: Mutex<Vec<bool>>,
    /// Programs that are out of memory.
    ended: Mutex<BTreeSet<usize>>,
    config: StormConfig,
}

/// A thread of a program.
struct Thread {
    stage: Arc<Stage>,
    space: usize,
    rng: Rng,
    holds: Holds,
}

/// Runs a storm to its end.
///
/// # Panics
/// If anything is not as the model has it; the message ends with the last events.
pub fn run(config: StormConfig, seed: u64) -> Outcome {
    let spurious = if seed.is_multiple_of(2) { Spurious::OneIn(50) } else { Spurious::Never };
    let order = if seed.is_multiple_of(5) { Order::AsInKernel } else { Order::Shuffled };
    let settings = Settings { order, spurious, ..settings(seed) };
    let mut world = World::new(config.machine, settings);
    let spaces: Vec<_> = (0..config.spaces).map(|_| world.machine.create_space().expect("a root")).collect();
    let stage = Arc::new(Stage {
        machine: world.machine.clone(),
        journal: world.sim.journal(),
        spaces: spaces.clone(),
        model: Mutex::default(),
        busy: Mutex::new(vec![false; config.spaces * config.arenas]),
        ended: Mutex::default(),
        config,
    });
    let threads = config.spaces * config.threads;
    for number in 0..threads {
        let rng = world.sim.split_rng();
        let thread = Thread { stage: stage.clone(), space: number % config.spaces, rng, holds: Holds::default() };
        let watched = Watched::new(&world.machine, thread.live(config.operations / threads as u64));
        world.sim.spawn(Class::User, numbered("thread", number), watched).detach();
    }
    world.sim.run().unwrap_or_else(|stuck| {
        let (events, counts) = (world.sim.journal().print(), world.machine.mm().snapshot());
        panic!("{stuck}\n{events}{counts:#?}\n{:?}", world.machine.mm().watermarks())
    });
    world.settle();
    let counters = world.machine.mm().snapshot().counters;
    spaces.into_iter().for_each(|space| world.destroy(space));
    world.assert_empty();
    let (model, losses) = (stage.model.lock().expect("nobody panicked"), world.machine.disk().losses());
    assert!(counters.swap_read_err + counters.swap_audit_err <= losses.len() as u64, "losses nobody injected");
    let ended = stage.ended.lock().expect("nobody panicked").len();
    assert!(counters.oom_kill >= ended as u64 && (ended == 0 || config.supply == Supply::Tight));
    Outcome {
        hash: world.sim.journal().hash(),
        operations: config.operations / threads as u64 * threads as u64,
        swapped_in: counters.pswpin,
        swapped_out: counters.pswpout,
        lost: model.lost_pages(),
        out_of_memory: ended,
    }
}

impl Stage {
    fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.model.lock().expect("nobody panicked");
        model.note_losses(&self.machine.disk().losses());
        model
    }

    fn addr(&self, key: Key, word: u64) -> VirtAddr {
        VirtAddr::new(((key.arena as u64 + 1) << 30) + key.page as u64 * PAGE + word * 8)
    }
}

impl Thread {
    async fn live(mut self, operations: u64) {
        for arena in 0..self.stage.config.arenas {
            self.map_arena(arena).await;
        }
        for operation in 0..operations {
            if self.has_ended() {
                break;
            }
            self.operate().await;
            if operation % self.stage.config.inspect_every == 0 {
                self.stage.machine.check();
            }
        }
        self.stage.machine.mm().release_holds(&mut self.holds);
    }

    async fn operate(&mut self) {
        let choice = self.rng.below(100);
        if choice >= 82 {
            // A system call: the instruction before it is over.
            self.stage.machine.mm().release_holds(&mut self.holds);
        }
        match choice {
            0..38 => self.load().await,
            38..74 => self.store().await,
            74..82 => self.store_across().await,
            82..84 => self.fill().await,
            84..88 => self.copy_out().await,
            88..92 => self.copy_in().await,
            92 => self.map().await,
            93 => self.unmap().await,
            94 => self.protect().await,
            95 => self.discard().await,
            96 => self.drop_table(),
            97 => self.short_lived_space().await,
            98 => self.stage.machine.mm().release_holds(&mut self.holds),
            _ if self.rng.below(20) == 0 => self.stage.machine.disk().alter_any(),
            _ => yield_now().await,
        }
    }

    /// Whether the program has run out of memory: it ends then, and what it sees does not count any more.
    fn has_ended(&self) -> bool {
        self.stage.ended.lock().expect("nobody panicked").contains(&self.space)
    }

    /// An access has failed. If memory is out, the program ends.
    async fn failed(&mut self, error: FaultError) {
        if error == FaultError::OutOfMemory {
            assert_eq!(self.stage.config.supply, Supply::Tight, "there is memory");
            self.stage.ended.lock().expect("nobody panicked").insert(self.space);
            self.stage.journal.note("out of memory", self.space as u64);
            self.stage.machine.mm().release_holds(&mut self.holds);
            self.stage.machine.mm().destroy_space(self.id()).await;
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    /// A page; half of the time one of few.
    fn any_page(&mut self) -> Key {
        let hot = self.rng.below(2) == 0;
        let page = self.below(if hot { ARENA_PAGES / 8 } else { ARENA_PAGES });
        Key { space: self.space, arena: self.below(self.stage.config.arenas), page }
    }

    /// Some pages in a row.
    fn any_range(&mut self, most: usize) -> Vec<Key> {
        let first = self.any_page();
        let count = 1 + self.below(most);
        (first.page..(first.page + count).min(ARENA_PAGES)).map(|page| Key { page, ..first }).collect()
    }

    fn id(&self) -> SpaceId {
        self.stage.spaces[self.space]
    }

    async fn load(&mut self) {
        let (key, at) = (self.any_page(), self.rng.below(512));
        let addr = self.stage.addr(key, at);
        let loaded = self.stage.machine.load(self.stage.spaces[self.space], addr, &mut self.holds).await;
        if let Err(error) = loaded {
            self.failed(error).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        match loaded {
            Ok(value) => model.page(key).read(at as u16, value),
            Err(error) => model.judge_error(key, Access::Read, error),
        }
        self.stage.journal.note("load", loaded.unwrap_or_else(|error| error as u64));
    }

    async fn store(&mut self) {
        let (key, at) = (self.any_page(), self.rng.below(512));
        let word = self.stage.model().fresh_word(key);
        let addr = self.stage.addr(key, at);
        let stored = self.stage.machine.store(self.stage.spaces[self.space], addr, word, &mut self.holds).await;
        if let Err(error) = stored {
            self.failed(error).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        match stored {
            Ok(()) => model.page(key).write(at as u16, word),
            Err(error) => model.judge_error(key, Access::Write, error),
        }
        self.stage.journal.note("store", stored.map_or_else(|error| error as u64, |()| word));
    }

    /// One instruction that needs up to four pages at once.
    async fn store_across(&mut self) {
        let count = 2 + self.below(3);
        let (mut keys, at) = (Vec::new(), self.rng.below(512));
        (0..count).for_each(|_| keys.push(self.any_page()));
        let fresh = |&key: &Key| (self.stage.addr(key, at), self.stage.model().fresh_word(key));
        let stores: Vec<_> = keys.iter().map(fresh).collect();
        let anchor = self.rng.next_u64();
        let machine = self.stage.machine.clone();
        let stored = machine.store_all(self.id(), &stores, anchor, &mut self.holds).await;
        if let Err(error) = stored {
            self.failed(error).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        match stored {
            Ok(()) => keys.iter().zip(stores).for_each(|(&key, (_, word))| model.page(key).write(at as u16, word)),
            Err(FaultError::OutOfMemory | FaultError::SpaceGone) => panic!("store_all: {stored:?}"),
            Err(_) => {}
        }
    }

    /// Writes the same 32-bit word all over a page.
    async fn fill(&mut self) {
        let key = self.any_page();
        let pattern = if self.rng.below(3) == 0 { 0 } else { self.stage.model().fresh_pattern(key) };
        let word = u64::from(pattern) << 32 | u64::from(pattern);
        self.copy_words(&[key], 0, &[word; 512]).await;
    }

    async fn copy_out(&mut self) {
        let keys = self.any_range(20);
        let first = self.rng.below(512) as usize;
        let count = 1 + self.below(keys.len() * 512 - first);
        let words: Vec<u64> = {
            let mut model = self.stage.model();
            (0..count).map(|i| model.fresh_word(keys[(first + i) / 512])).collect()
        };
        self.copy_words(&keys, first, &words).await;
    }

    async fn copy_words(&mut self, keys: &[Key], first: usize, words: &[u64]) {
        let per_page = |index: usize| {
            let placed = words.iter().enumerate().map(move |(i, word)| (first + i, *word));
            placed.filter(move |(at, _)| at / 512 == index).map(|(at, word)| ((at % 512) as u16, word))
        };
        let touched = &keys[..(first + words.len()).div_ceil(512)];
        let mut versions = Vec::new();
        {
            let mut model = self.stage.model();
            for (index, &key) in touched.iter().enumerate() {
                model.page(key).begin_copy(per_page(index));
                versions.push(model.page(key).version());
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let addr = self.stage.addr(keys[0], first as u64);
        let copied = self.stage.machine.mm().copy_out(self.id(), addr, &bytes).await;
        if copied == Err(CopyError::OutOfMemory) {
            self.failed(FaultError::OutOfMemory).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        for (index, &key) in touched.iter().enumerate() {
            model.page(key).finish_copy(per_page(index), versions[index], copied.is_ok());
        }
        if copied.is_err() {
            assert_eq!(copied, Err(CopyError::BadAddress));
            model.judge_bad_address(touched, Access::Write);
        }
        self.stage.journal.note("copy_out", bytes.len() as u64);
    }

    async fn copy_in(&mut self) {
        let keys = self.any_range(20);
        let first = self.rng.below(512) as usize;
        let count = 1 + self.below(keys.len() * 512 - first);
        let touched = &keys[..(first + count).div_ceil(512)];
        let before: Vec<_> = touched.iter().map(|&key| self.stage.model().page(key).version()).collect();
        let mut bytes = vec![0; count * 8];
        let addr = self.stage.addr(keys[0], first as u64);
        let copied = self.stage.machine.mm().copy_in(self.id(), addr, &mut bytes).await;
        if copied == Err(CopyError::OutOfMemory) {
            self.failed(FaultError::OutOfMemory).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        if copied.is_err() {
            assert_eq!(copied, Err(CopyError::BadAddress));
            return model.judge_bad_address(touched, Access::Read);
        }
        for (i, word) in bytes.chunks(8).enumerate() {
            let (index, at) = ((first + i) / 512, ((first + i) % 512) as u16);
            let page = model.page(touched[index]);
            // If somebody was at the page meanwhile, the word may be one that nobody remembers.
            if page.version() == before[index] {
                let word = u64::from_le_bytes(word.try_into().expect("8 bytes"));
                assert!(page.may_hold(at, word), "{:?} copied in {word:#x}: {page:?}", touched[index]);
            }
        }
        self.stage.journal.note("copy_in", bytes.len() as u64);
    }

    /// Takes the right to change an arena; nobody else changes it meanwhile, but everybody goes on using it.
    fn claim(&self, arena: usize) -> Option<Claim> {
        let index = self.space * self.stage.config.arenas + arena;
        let mut busy = self.stage.busy.lock().expect("nobody panicked");
        (!core::mem::replace(&mut busy[index], true)).then(|| Claim { stage: self.stage.clone(), index })
    }

    fn any_rights(&mut self) -> Rights {
        match self.rng.below(8) {
            0 => Rights::NONE,
            1 => Rights::READ,
            2 => Rights::READ_EXECUTE,
            _ => Rights::READ_WRITE,
        }
    }

    async fn map(&mut self) {
        let most = if self.rng.below(8) == 0 { ARENA_PAGES } else { 8 };
        let keys = self.any_range(most);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let (rights, addr) = (self.any_rights(), self.stage.addr(keys[0], 0));
        let free = !keys.iter().any(|&key| self.stage.model().page(key).is_mapped());
        let choice = self.rng.below(3);
        let placement = match choice {
            0 => Placement::Fixed(addr),
            1 => Placement::FixedNoReplace(addr),
            _ => Placement::Hint(addr),
        };
        let there = choice == 0 || free;
        if there {
            self.begin(&keys, Change::Replace(rights));
        }
        let request = MapRequest { placement, len: keys.len() as u64 * PAGE, rights, label: Label::Anonymous };
        let mapped = self.stage.machine.mm().map(self.id(), request).await;
        if self.has_ended() {
            return;
        }
        if there {
            assert_eq!(mapped, Ok(addr));
            self.finish(&keys);
        } else if choice == 1 {
            assert_eq!(mapped, Err(MapError::Exists));
        } else {
            let elsewhere = mapped.expect("there is room somewhere");
            let unmapped = self.stage.machine.mm().unmap(self.id(), elsewhere, request.len).await;
            if self.has_ended() {
                return;
            }
            assert_eq!(unmapped, Ok(()), "mapped at {elsewhere:?} instead of {addr:?}");
        }
        self.stage.journal.note("map", keys.len() as u64);
    }

    /// Programs begin with all arenas mapped.
    async fn map_arena(&mut self, arena: usize) {
        let keys: Vec<_> = (0..ARENA_PAGES).map(|page| Key { space: self.space, arena, page }).collect();
        let Some(_claim) = self.claim(arena) else { return };
        if self.stage.model().page(keys[0]).is_mapped() {
            return;
        }
        self.begin(&keys, Change::Replace(Rights::READ_WRITE));
        let request = anonymous(Placement::Fixed(self.stage.addr(keys[0], 0)), ARENA_PAGES as u64);
        let mapped = self.stage.machine.mm().map(self.id(), request).await;
        if !self.has_ended() {
            mapped.expect("the arenas fit");
            self.finish(&keys);
        }
    }

    async fn unmap(&mut self) {
        let keys = self.any_range(8);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        self.begin(&keys, Change::Unmap);
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let unmapped = self.stage.machine.mm().unmap(self.id(), addr, len).await;
        if self.has_ended() {
            return;
        }
        assert_eq!(unmapped, Ok(()));
        self.finish(&keys);
        self.stage.journal.note("unmap", keys.len() as u64);
    }

    async fn protect(&mut self) {
        let keys = self.any_range(8);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let rights = self.any_rights();
        let mapped = keys.iter().all(|&key| self.stage.model().page(key).is_mapped());
        if mapped {
            self.begin(&keys, Change::Protect(rights));
        }
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let protected = self.stage.machine.mm().protect(self.id(), addr, len, rights).await;
        if self.has_ended() {
            return;
        }
        assert_eq!(protected, if mapped { Ok(()) } else { Err(MapError::NotMapped) });
        if mapped {
            self.finish(&keys);
        }
        self.stage.journal.note("protect", keys.len() as u64);
    }

    async fn discard(&mut self) {
        let keys = self.any_range(8);
        let Some(_claim) = self.claim(keys[0].arena) else { return };
        let all = keys.iter().all(|&key| self.stage.model().page(key).is_mapped());
        self.begin(&keys, Change::Discard);
        let (addr, len) = (self.stage.addr(keys[0], 0), keys.len() as u64 * PAGE);
        let discarded = self.stage.machine.mm().discard(self.id(), addr, len).await;
        if self.has_ended() {
            return;
        }
        assert_eq!(discarded, if all { Ok(()) } else { Err(MapError::NotMapped) });
        self.finish(&keys);
        self.stage.journal.note("discard", keys.len() as u64);
    }

    fn begin(&self, keys: &[Key], change: Change) {
        let mut model = self.stage.model();
        keys.iter().for_each(|&key| model.page(key).begin(change));
    }

    fn finish(&self, keys: &[Key]) {
        let mut model = self.stage.model();
        keys.iter().for_each(|&key| model.page(key).finish());
    }

    fn drop_table(&mut self) {
        let key = self.any_page();
        self.stage.machine.mm().drop_page_table(self.id(), self.stage.addr(key, 0).page());
        self.stage.journal.note("drop_table", key.arena as u64);
    }

    /// A program that writes some pages and is gone, whatever is under way for it.
    async fn short_lived_space(&mut self) {
        let machine = self.stage.machine.clone();
        let Some(space) = machine.create_space() else { return };
        let pages = 1 + self.rng.below(12);
        let area = machine.mm().map(space, anonymous(Placement::Anywhere, pages)).await.expect("it is empty");
        let mut holds = Holds::default();
        let tight = self.stage.config.supply == Supply::Tight;
        for page in 0..pages {
            let stored = machine.store(space, super::word(area, page, page), page + 1, &mut holds).await;
            assert!(stored.is_ok() || (tight && stored == Err(FaultError::OutOfMemory)), "{stored:?}");
            if stored.is_ok() && self.rng.below(2) == 0 {
                // With a disk that fails, a page may be lost.
                let loaded = machine.load(space, super::word(area, page, page), &mut holds).await;
                let excused = loaded == Err(FaultError::BadPage) || (tight && loaded == Err(FaultError::OutOfMemory));
                assert!(loaded == Ok(page + 1) || excused, "{loaded:?}");
            }
        }
        machine.mm().release_holds(&mut holds);
        machine.mm().destroy_space(space).await;
    }
}

/// The right to change an arena.
struct Claim {
    stage: Arc<Stage>,
    index: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(mut busy) = self.stage.busy.lock() {
            busy[self.index] = false;
        }
    }
}
