//! The property test: threads of several programs do random things to their memory, and the model says what they may see.
//!
//! Owns the threads and their choice of operations: everything that programs may do, all of it at once, in proportions that the seed
//! chooses. The page tables are dropped and the machine is inspected at random in between.
//!
//! - [`accesses`]: words and bytes of memory. [`areas`], [`advice`]: what is mapped. [`forks`]: children. [`windows`]: an object for all.
//! - [`files`]: objects with an end, by system call. [`mappings`]: windows of them. [`lives`]: what comes and goes. [`patience`]: what is given up.

mod accesses;
mod advice;
mod areas;
mod files;
mod forks;
mod lives;
mod mappings;
mod patience;
mod windows;

use self::files::File;
use self::mappings::LANES;
use super::model::file::{FileModel, WORDS};
use super::model::{Key, Model};
use super::{PAGE, Watched, World, numbered, settings};
use executor::sim::{Journal, Order, Rng, Settings, Spurious};
use executor::{Class, yield_now};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::group::{GroupId, GroupLimits};
use mm::object::ObjectId;
use mm::sim::{DiskConfig, FilesConfig, PerMille, SimConfig, SimMachine};
use mm::space::SpaceId;
use mm::tier::Compression;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

/// Pages in an arena; arenas lie 1 GiB apart, so that each has page tables of its own.
const ARENA_PAGES: usize = 48;

/// Whose pages the model says those are that all programs share: an object that each has as an arena of its own.
const SHARED: usize = 63;

/// Programs that there may be at a time besides those that are there from the beginning, as children of theirs.
const CHILDREN: usize = 3;

/// Memory groups that programs move between.
const GROUPS: usize = 2;

/// Objects with an end: files, and in the last place memory that is shared by name.
const FILES: usize = 3;

/// Most pages of each.
const FILE_PAGES: usize = 24;

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
    /// Whether programs fork.
    pub forks: Forks,
    /// Whether there may be too little swap. A program that is out of memory ends, as it would in the kernel.
    pub supply: Supply,
    /// Of a hundred operations, how many are about objects with an end.
    pub filing: u64,
}

/// Whether programs fork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forks {
    /// Never.
    Never,
    /// Now and then.
    Some,
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
            slow_writes: PerMille(if seed.is_multiple_of(2) { 900 } else { 0 }),
            ..DiskConfig::good(16_384)
        };
        let mm = Config {
            torture: rng.below(3) != 0,
            operations: 8 + rng.below(89) as usize,
            dirty_pages: Some(2 + rng.below(12) as usize),
            mappings: (rng.below(2) == 0).then(|| rng.below(40) as usize),
            ..Config::default()
        };
        let frames = 56 + 11 * CHILDREN + rng.below(70) as usize;
        let fails = rng.below(3) == 0;
        let mut errors = || PerMille(if fails { rng.below(60) as u16 } else { 0 });
        // Room for all files at their longest, and a few that come and go.
        let files = FilesConfig { read_errors: errors(), write_errors: errors(), ..FilesConfig::good(3 * FILE_PAGES) };
        let files = Some(FilesConfig { depth: 1 + rng.below(8) as usize, ..files });
        let machine = SimConfig { frames, disk: Some(disk), files, mm, tlb: 1 + rng.below(48) as usize, seed };
        let (spaces, threads, arenas) = (3, 3, 3);
        let (supply, forks, filing) = (Supply::Ample, Forks::Some, [10, 30, 70][rng.below(3) as usize]);
        Self { machine, spaces, threads, arenas, operations, inspect_every: 64, forks, supply, filing }
    }

    /// The same with a disk that may not hold what RAM does not.
    pub fn tight(seed: u64, operations: u64) -> Self {
        let mut config = Self::usual(seed, operations);
        let slots = 100 + Rng::new(executor::sim::Seed(!seed)).below(400) as u32;
        config.machine.disk = config.machine.disk.map(|disk| DiskConfig { slots, write_errors: PerMille(0), ..disk });
        Self { supply: Supply::Tight, ..config }
    }

    /// The same with a compressed tier, of a few frames up to a third of all.
    pub fn with_tier(mut self, seed: u64, compression: Compression) -> Self {
        let most = self.machine.frames as u64 / 3;
        let frames = 2 + Rng::new(executor::sim::Seed(seed.rotate_left(17))).below(most - 2) as usize;
        self.machine.mm = Config { compression, tier_frames: Some(frames), ..self.machine.mm };
        self
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
    /// Pages that came back from the compressed tier.
    pub decompressed: u64,
    /// Pages that went on from there to the disk.
    pub written_back: u64,
    /// Pages that the disk lost and a program noticed.
    pub lost: usize,
    /// Programs that ended because memory was out.
    pub out_of_memory: usize,
    /// Children that were forked.
    pub forks: u64,
    /// Pages that were copied because somebody wrote to a shared one.
    pub copied: u64,
    /// Pages of files that were read in.
    pub filed_in: u64,
    /// Pages of files that were written out.
    pub filed_out: u64,
    /// Calls that were given up half-way.
    pub given_up: usize,
    /// Programs that were killed.
    pub killed: usize,
}

/// What all threads share.
struct Stage {
    machine: Arc<SimMachine>,
    /// What all programs share.
    object: ObjectId,
    /// Objects with an end that all programs share.
    files: Vec<File>,
    journal: Journal,
    /// Spaces by number: those of the programs, and those of children.
    spaces: Mutex<Vec<SpaceId>>,
    groups: Vec<GroupId>,
    model: Mutex<Model>,
    /// Arenas that somebody is changing.
    busy: Mutex<Vec<bool>>,
    /// Programs that are out of memory.
    ended: Mutex<BTreeSet<usize>>,
    /// Children that there are.
    children: Mutex<BTreeSet<usize>>,
    counts: Mutex<Counts>,
    config: StormConfig,
}

/// What happened.
#[derive(Default)]
struct Counts {
    forks: u64,
    out_of_memory: usize,
    given_up: usize,
    killed: usize,
    /// Files that came and went.
    files: u64,
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
    let settings = Settings { order, spurious, max_steps: 200 * config.operations + 1_000_000, ..settings(seed) };
    let mut world = World::new(config.machine, settings);
    let spaces: Vec<_> = (0..config.spaces).map(|_| world.machine.create_space().expect("a root")).collect();
    let stage = Stage::new(&world, config, &spaces);
    stage.end_victims(&mut world);
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
    stage.take_down(&mut world);
    world.assert_empty();
    let (model, losses) = (stage.model.lock().expect("nobody panicked"), world.machine.disk().losses());
    assert!(counters.swap_read_err + counters.swap_audit_err <= losses.len() as u64, "losses nobody injected");
    let Counts { forks, out_of_memory: ended, given_up, killed, .. } = *stage.counts.lock().expect("nobody panicked");
    assert!(counters.oom_kill >= ended as u64 && (ended == 0 || config.supply == Supply::Tight));
    Outcome {
        hash: world.sim.journal().hash(),
        operations: config.operations / threads as u64 * threads as u64,
        swapped_in: counters.pswpin,
        swapped_out: counters.pswpout,
        decompressed: counters.tier_in,
        written_back: counters.tier_written,
        lost: model.lost_pages(),
        out_of_memory: ended,
        forks,
        copied: counters.pgcow,
        filed_in: counters.pgfilein,
        filed_out: counters.pgfileout,
        given_up,
        killed,
    }
}

impl Stage {
    fn new(world: &World, config: StormConfig, spaces: &[SpaceId]) -> Arc<Self> {
        let machine = world.machine.clone();
        let object = machine.mm().create_object(ARENA_PAGES as u64 * PAGE).expect("there is room");
        let files = File::all(&machine);
        let mut model = Model::default();
        model.files.resize_with(FILES, FileModel::default);
        let claims = (config.spaces + CHILDREN) * (config.arenas + 1 + LANES);
        let stage = Self {
            object,
            files,
            journal: world.sim.journal(),
            spaces: Mutex::new([spaces, &[spaces[0]; CHILDREN]].concat()),
            groups: (0..GROUPS).map(|_| machine.mm().create_group().expect("room")).collect(),
            model: Mutex::new(model),
            busy: Mutex::new(vec![false; claims]),
            ended: Mutex::default(),
            children: Mutex::default(),
            counts: Mutex::default(),
            config,
            machine,
        };
        stage.map_shared(spaces);
        stage.map_files(spaces);
        Arc::new(stage)
    }

    /// All programs are gone: what is in the objects is what the model has, word by word, and then they go, too.
    fn take_down(&self, world: &mut World) {
        let fails = self.files_fail();
        self.machine.files().reconfigure(|config| {
            (config.read_errors, config.write_errors) = (PerMille(0), PerMille(0));
        });
        for (number, file) in self.files.iter().enumerate() {
            let (machine, object, name) = (self.machine.clone(), file.object, file.name);
            let (words, space) = (file.words(&machine), self.spaces.lock().expect("nobody panicked")[0]);
            let contents = world.run("look", async move {
                let synced = machine.mm().sync_object(object, files::ALL).await;
                assert!(synced.is_ok() || fails, "{synced:?}");
                machine.mm().sync_object(object, files::ALL).await.expect("errors are told once");
                let mut bytes = vec![0; words as usize * 8];
                for (page, part) in (0..).zip(bytes.chunks_mut(PAGE as usize)) {
                    if let Some(name) = name {
                        let held = machine.files().contents(name, page).unwrap_or([0; WORDS as usize]);
                        let held: Vec<u8> = held.iter().flat_map(|word| word.to_le_bytes()).collect();
                        part.copy_from_slice(&held[..part.len()]);
                    } else {
                        let read = machine.mm().object_read_bytes(object, page * PAGE, space, part).await;
                        // A page that the disk has lost may be anything.
                        part.fill(if read.is_ok() { continue } else { 0xff });
                    }
                }
                bytes
            });
            let model = self.model();
            for (at, word) in (0..).zip(contents.chunks(8)) {
                let word = u64::from_le_bytes(word.try_into().expect("8 bytes"));
                let lost = word == u64::MAX && name.is_none();
                let excused = lost && model.was_any_lost();
                assert!(
                    excused || model.files[number].may_hold(at, word),
                    "word {at} of {number} is {word:#x} in the end"
                );
            }
            self.machine.mm().close_object(object);
        }
        self.machine.mm().close_object(self.object);
        world.settle();
        for &group in &self.groups {
            let left = self.machine.mm().group_stats(group).map(|stats| (stats.frames, stats.slots));
            assert_eq!(left, Some((0, 0)), "nothing is charged for programs that are gone");
            let machine = self.machine.clone();
            world.run("rmdir", async move { machine.mm().remove_group(group).await });
        }
    }

    /// Whether the disk with files fails now and then.
    fn files_fail(&self) -> bool {
        self.config.machine.files.is_some_and(|files| files.read_errors.0 > 0 || files.write_errors.0 > 0)
    }

    fn count<R>(&self, change: impl FnOnce(&mut Counts) -> R) -> R {
        change(&mut self.counts.lock().expect("nobody panicked"))
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.model.lock().expect("nobody panicked");
        model.note_losses(&self.machine.disk().losses());
        model
    }

    /// Programs that are chosen when memory has run out end like those that learn of it by a fault: what they see does not count.
    fn end_victims(self: &Arc<Self>, world: &mut World) {
        let stage = self.clone();
        world.end_victims(move |verdict| {
            assert_eq!(stage.config.supply, Supply::Tight, "there is memory: {verdict:?}");
            let children = stage.children.lock().expect("nobody panicked").clone();
            let spaces = stage.spaces.lock().expect("nobody panicked");
            // The numbers of children that are not there stand for nobody.
            let alive = (0..stage.config.spaces).chain(children);
            alive.filter(|&number| spaces[number] == verdict.victim).for_each(|number| stage.end(number));
        });
    }

    /// A program is out of memory.
    fn end(&self, number: usize) {
        if self.ended.lock().expect("nobody panicked").insert(number) {
            self.counts.lock().expect("nobody panicked").out_of_memory += 1;
        }
        self.journal.note("out of memory", number as u64);
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
            _ if self.rng.below(100) < self.stage.config.filing => self.operate_on_files(choice).await,
            0..36 => self.load().await,
            36..70 => self.store().await,
            70..82 => self.store_across().await,
            82..84 => self.fill().await,
            84..87 => self.copy_out().await,
            87..90 => self.copy_in().await,
            90 if self.rng.below(2) == 0 => self.supplied_memory().await,
            90 => self.evict_some(),
            91 if self.rng.below(2) == 0 => self.killed_program().await,
            91 => self.short_lived_object().await,
            92 => self.map().await,
            93 if self.rng.below(2) == 0 => self.remap().await,
            93 => self.unmap().await,
            94 => self.protect().await,
            95 if self.rng.below(2) == 0 => self.advise().await,
            95 => self.discard().await,
            96 if self.rng.below(2) == 0 => self.drop_table(),
            96 => self.window().await,
            97 if self.stage.config.forks == Forks::Some && self.rng.below(2) == 0 => self.fork().await,
            97 => self.short_lived_space().await,
            98 if self.rng.below(8) == 0 => self.regroup(),
            98 => self.stage.machine.mm().release_holds(&mut self.holds),
            _ if self.rng.below(20) == 0 => self.stage.machine.disk().alter_any(),
            _ => yield_now().await,
        }
    }

    async fn operate_on_files(&mut self, choice: u64) {
        match choice {
            0..44 => self.load_file().await,
            44..82 => self.store_file().await,
            82..86 => self.read_file().await,
            86..91 => self.write_file().await,
            91 => self.copy_between_files().await,
            92..94 => self.cut_file().await,
            94 if self.rng.below(2) == 0 => self.cut_file().await,
            94 => self.punch_file().await,
            95 | 96 => self.write_back().await,
            97 => self.change_window().await,
            98 if self.stage.config.forks == Forks::Some && self.rng.below(2) == 0 => self.fork().await,
            98 => self
                .stage
                .machine
                .mm()
                .drop_page_table(self.id(), self.stage.file_addr(self::mappings::Lane::Shared(0), 0).page()),
            _ => yield_now().await,
        }
    }

    /// The program moves to another group, or its group gets other limits. Where swap is scarce for all it may be for a group as well.
    fn regroup(&mut self) {
        let groups = &self.stage.groups;
        let group = groups[self.rng.below(groups.len() as u64) as usize];
        let mm = self.stage.machine.mm();
        let frames = (self.rng.below(2) == 0).then(|| 32 + self.rng.below(64));
        let tight = self.stage.config.supply == Supply::Tight;
        let slots = (tight && self.rng.below(2) == 0).then(|| self.rng.below(40));
        mm.set_group_limits(group, GroupLimits { frames, slots });
        mm.set_space_group(self.id(), if self.rng.below(3) == 0 { GroupId::ROOT } else { group });
    }

    /// Whether the program has run out of memory: it ends then, and what it sees does not count any more.
    fn has_ended(&self) -> bool {
        self.stage.ended.lock().expect("nobody panicked").contains(&self.space)
    }

    /// An access has failed. If memory is out, the program ends.
    async fn failed(&mut self, error: FaultError) {
        if error == FaultError::OutOfMemory {
            assert_eq!(self.stage.config.supply, Supply::Tight, "there is memory");
            self.stage.end(self.space);
            self.stage.machine.mm().release_holds(&mut self.holds);
            self.stage.machine.mm().destroy_space(self.id()).await;
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    /// A page of the program's own, or one that all programs share; half of the time one of few.
    fn any_page(&mut self) -> Key {
        let key = self.own_page();
        if self.rng.below(6) == 0 { Key { space: SHARED, arena: self.stage.config.arenas, ..key } } else { key }
    }

    /// A page of the program's own; half of the time one of few.
    fn own_page(&mut self) -> Key {
        let hot = self.rng.below(2) == 0;
        let page = self.below(if hot { ARENA_PAGES / 8 } else { ARENA_PAGES });
        Key { space: self.space, arena: self.below(self.stage.config.arenas), page }
    }

    /// Some pages in a row, of the program's own or shared ones.
    fn any_range(&mut self, most: usize) -> Vec<Key> {
        let first = self.any_page();
        self.range_from(first, most)
    }

    /// Some pages in a row, of the program's own.
    fn own_range(&mut self, most: usize) -> Vec<Key> {
        let first = self.own_page();
        self.range_from(first, most)
    }

    fn range_from(&mut self, first: Key, most: usize) -> Vec<Key> {
        let count = 1 + self.below(most);
        (first.page..(first.page + count).min(ARENA_PAGES)).map(|page| Key { page, ..first }).collect()
    }

    fn id(&self) -> SpaceId {
        self.stage.spaces.lock().expect("nobody panicked")[self.space]
    }
}
