//! When memory is short: who waits, who goes on, and who is told that there is none.

use executor::{Class, Duration};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::group::GroupLimits;
use mm::object::Sharing;
use mm::reclaim::Watermarks;
use mm::sim::{DiskConfig, SimConfig, SimMachine};
use mm::space::SpaceId;
use mm::victim::{Adjustment, Grounds, Scope, Standing, Verdict};
use std::sync::{Arc, Mutex};
use tests::harness::reduced_or_full;
use tests::mm::{PAGE, Thread, World, numbered, ready, window, word};

/// Pages that one table maps.
const ENTRIES: u64 = 512;

/// Stores to `count` pages, all different; returns how many were stored and how it ended.
async fn write_pages(
    machine: Arc<SimMachine>,
    space: SpaceId,
    area: VirtAddr,
    count: u64,
) -> (u64, Result<(), FaultError>) {
    let mut thread = Holds::default();
    let mut end = (count, Ok(()));
    for page in 0..count {
        if let Err(error) = machine.store(space, word(area, page, page % 512), page + 1, &mut thread).await {
            end = (page, Err(error));
            break;
        }
    }
    machine.mm().release_holds(&mut thread);
    end
}

/// Loads what was stored; an error ends it.
async fn check_pages(machine: Arc<SimMachine>, space: SpaceId, area: VirtAddr, count: u64) -> Result<(), FaultError> {
    let mut thread = Holds::default();
    let mut end = Ok(());
    for page in 0..count {
        match machine.load(space, word(area, page, page % 512), &mut thread).await {
            Ok(value) => assert_eq!(value, page + 1),
            Err(error) => end = Err(error),
        }
    }
    machine.mm().release_holds(&mut thread);
    end
}

#[test]
fn without_swap_memory_runs_out_for_who_asks_for_too_much_and_comes_back() {
    let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(64, 0) }, 1);
    let (space, area) = world.space_with(100);
    let writer = write_pages(world.machine.clone(), space, area, 100);
    let (written, end) = world.run("writer", writer);
    assert_eq!(end, Err(FaultError::OutOfMemory));
    assert!(written > 40, "only {written} of 64 frames were given out");
    // It held an empty page, whose frame is its table's once it has let go.
    world.settle();
    let checker = check_pages(world.machine.clone(), space, area, written);
    assert_eq!(world.run("reader", checker), Ok(()));
    // With half of it given back there is memory again, for the same program too.
    let machine = world.machine.clone();
    world.run("unmap", async move { machine.mm().unmap(space, area, 20 * PAGE).await.unwrap() });
    let (other, its_area) = world.space_with(10);
    let writer = write_pages(world.machine.clone(), other, its_area, 10);
    assert_eq!(world.run("writer", writer), (10, Ok(())));
    assert_eq!(world.machine.mm().snapshot().counters.oom_kill, 1);
    world.destroy(space);
    world.destroy(other);
    world.assert_empty();
}

/// A program's code and its stack are in use all the time, and so are their tables, which reclaim drops when nothing else can go. That is
/// no way on: it must not look at all pages for each table that is made again.
#[test]
fn e3_memory_runs_out_within_a_few_looks_at_each_page() {
    const FRAMES: usize = 4096;
    for seed in 0..reduced_or_full(10, 100) {
        let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(FRAMES, 0) }, seed);
        let (space, area) = world.space_with(12 * ENTRIES);
        let (code, stack) = (word(area, 10 * ENTRIES, 0), word(area, 11 * ENTRIES, 0));
        let machine = world.machine.clone();
        let program = async move {
            let mut holds = Holds::default();
            for page in 0..FRAMES as u64 {
                for at in [code, stack, word(area, page, 0)] {
                    machine.mm().release_holds(&mut holds);
                    if let Err(error) = machine.store(space, at, page + 1, &mut holds).await {
                        machine.mm().release_holds(&mut holds);
                        return Err(error);
                    }
                    // Reclaim is a task like others, and runs while the pages are held.
                    executor::yield_now().await;
                }
            }
            Ok(())
        };
        assert_eq!(world.run("program", program), Err(FaultError::OutOfMemory), "seed {seed}");
        let counters = world.machine.mm().snapshot().counters;
        println!("seed {seed}: {} looks, {} tables", counters.pgscan, counters.ptdrop);
        assert!(counters.pgscan < 40 * FRAMES as u64, "seed {seed}: {} looks at {FRAMES} frames", counters.pgscan);
        world.destroy(space);
        world.assert_empty();
    }
}

/// Nearly all pages are dirty, and no slot is left: those that can go are the few that were read, and reclaim does not look at the others
/// again for each of them.
#[test]
fn pages_that_have_nowhere_to_go_are_not_looked_at_again_and_again() {
    const FRAMES: usize = 2048;
    const SLOTS: u32 = 1024;
    for seed in 0..reduced_or_full(4, 40) {
        let mut world =
            World::seeded(SimConfig { disk: Some(DiskConfig::good(SLOTS)), ..SimConfig::new(FRAMES, 0) }, seed);
        let pages = FRAMES as u64 + u64::from(SLOTS) - 60;
        let (space, area) = world.space_with(pages);
        let writer = write_pages(world.machine.clone(), space, area, pages);
        assert_eq!(world.run("writer", writer), (pages, Ok(())), "seed {seed}");
        let before = world.machine.mm().snapshot().counters;
        for _ in 0..3 {
            let checker = check_pages(world.machine.clone(), space, area, pages);
            assert_eq!(world.run("reader", checker), Ok(()), "seed {seed}");
        }
        let after = world.machine.mm().snapshot().counters;
        let (looks, reads) = (after.pgscan - before.pgscan, after.pgmajfault - before.pgmajfault);
        println!("seed {seed}: {looks} looks for {reads} pages read");
        assert!(reads > u64::from(SLOTS) && looks < 20 * reads, "seed {seed}: {looks} looks for {reads} pages read");
        world.destroy(space);
        world.assert_empty();
    }
}

/// Without swap, pages that reclaim has given up as having nowhere to go are overwritten with zeroes, which takes no fault: then they need
/// none, and memory has not run out.
#[test]
fn pages_of_one_word_by_now_go_before_memory_has_run_out() {
    const FRAMES: usize = 512;
    for seed in 0..reduced_or_full(20, 200) {
        let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(FRAMES, 0) }, seed);
        let (space, area) = world.space_with(2 * FRAMES as u64);
        let most = FRAMES as u64 * 15 / 16;
        let writer = write_pages(world.machine.clone(), space, area, most);
        assert_eq!(world.run("writer", writer), (most, Ok(())), "seed {seed}");
        world.settle();
        let machine = world.machine.clone();
        let program = async move {
            let mut thread = Holds::default();
            let mut end = Ok(());
            for page in (0..2 * most).filter(|page| *page < most / 2 || *page >= most * 3 / 2) {
                let word = word(area, page % (2 * FRAMES as u64), page % 512);
                end = end.and(machine.store(space, word, if page < most { 0 } else { page }, &mut thread).await);
            }
            machine.mm().release_holds(&mut thread);
            end
        };
        assert_eq!(world.run("program", program), Ok(()), "seed {seed}");
        world.destroy(space);
        world.assert_empty();
    }
}

/// A page that needs a table as well may get the last frame for itself and none for that: it is not a way on that this page can leave
/// again, as nothing is in it yet.
#[test]
fn e8_a_page_and_its_table_are_had_together_or_memory_has_run_out() {
    for frames in 64..80 {
        let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(frames, 0) }, 1);
        let (space, area) = world.space_with(frames as u64 * ENTRIES);
        let machine = world.machine.clone();
        let writer = async move {
            let mut thread = Thread::new(&machine);
            for table in 0..frames as u64 {
                thread.store(space, word(area, table * ENTRIES, 0), 1).await?;
            }
            Ok(())
        };
        assert_eq!(world.run("writer", writer), Err(FaultError::OutOfMemory), "{frames} frames");
        world.destroy(space);
        world.assert_empty();
    }
}

/// Programs on a machine: each writes its pages, checks them, and stays until it is told to go.
struct Programs {
    world: World,
    verdicts: Arc<Mutex<Vec<Verdict>>>,
    spaces: Vec<SpaceId>,
    ends: Vec<executor::Task<Result<(), FaultError>>>,
    seed: u64,
}

impl Programs {
    fn on(config: SimConfig, seed: u64) -> Self {
        let mut world = World::seeded(config, seed);
        let verdicts = Arc::<Mutex<Vec<Verdict>>>::default();
        let noted = verdicts.clone();
        world.end_victims(move |verdict| noted.lock().unwrap().push(verdict));
        Self { world, verdicts, spaces: Vec::new(), ends: Vec::new(), seed }
    }

    /// A program that writes so many pages.
    fn add(&mut self, pages: u64) -> SpaceId {
        let (space, area) = self.world.space_with(pages);
        let machine = self.world.machine.clone();
        let program = async move {
            let (_, mut end) = write_pages(machine.clone(), space, area, pages).await;
            if end.is_ok() {
                end = check_pages(machine.clone(), space, area, pages).await;
            }
            if end.is_err() {
                // What the kernel does with a program that is out of memory.
                machine.mm().destroy_space(space).await;
            }
            end
        };
        let name = numbered("program", self.spaces.len());
        self.ends.push(self.world.sim.spawn(Class::User, name, program));
        self.spaces.push(space);
        space
    }

    fn run(&mut self) {
        self.world.sim.run().unwrap_or_else(|stuck| {
            let (events, counts) = (self.world.sim.journal().print(), self.world.machine.mm().snapshot());
            panic!("seed {}: {stuck}\n{events}{counts:#?}", self.seed)
        });
    }

    /// Runs all to their ends, takes everything down and says who was chosen. Nobody else has failed, and nothing is left.
    fn finish(mut self) -> Vec<Verdict> {
        self.run();
        self.world.settle();
        let verdicts = self.verdicts.lock().unwrap().clone();
        for (space, task) in self.spaces.iter().zip(core::mem::take(&mut self.ends)) {
            let end = self.world.run("end", task);
            let is_chosen = verdicts.iter().any(|verdict| verdict.victim == *space);
            assert!(end.is_ok() || is_chosen, "seed {}: {space:?} {end:?}, {verdicts:#?}", self.seed);
        }
        assert_eq!(self.world.machine.mm().snapshot().counters.oom_kill, verdicts.len() as u64);
        self.spaces.iter().for_each(|space| self.world.destroy(*space));
        self.world.assert_empty();
        verdicts
    }
}

/// Several programs together ask for more than RAM and swap hold. One of them has to go; then there is enough for the others.
#[test]
fn f9_when_swap_is_full_one_program_ends_and_the_others_go_on() {
    for seed in 0..40 {
        // 70 frames or so and 74 slots for 4 × 40 pages; 3 × 40 fit.
        let mut programs = Programs::on(SimConfig::new(96, 75), seed);
        for _ in 0..4 {
            programs.add(40);
        }
        assert_eq!(programs.finish().len(), 1, "seed {seed}");
    }
}

#[test]
fn e3_the_largest_ends_whoever_asks() {
    for seed in 0..40 {
        let mut programs = Programs::on(SimConfig::new(96, 75), seed);
        let large = programs.add(80);
        programs.run();
        let small: Vec<_> = (0..3).map(|_| programs.add(30)).collect();
        let verdicts = programs.finish();
        let [verdict] = verdicts[..] else { panic!("seed {seed}: {verdicts:?}") };
        assert!(verdict.victim == large && small.contains(&verdict.asker), "seed {seed}: {verdict:?}");
        assert_eq!((verdict.scope, verdict.grounds), (Scope::Machine, Grounds::Worst));
        assert_eq!(verdict.holdings.resident + verdict.holdings.away, 80, "seed {seed}: {verdict:?}");
        let Verdict { frees_frames, frees_slots, tried, .. } = verdict;
        assert!(frees_frames + frees_slots >= 80 && tried.scanned > 0 && tried.waits > 0, "seed {seed}: {verdict:?}");
    }
}

#[test]
fn e3_adjustments_say_who_ends() {
    let thousandths = |number| Adjustment::from_thousandths(number).expect("in range");
    for seed in 0..40 {
        // Small and willing; then large and sacrosanct.
        for (of_large, of_first, chosen) in [(0, 1000, 1), (-1000, 0, 2), (-999, -900, 3)] {
            let mut programs = Programs::on(SimConfig::new(96, 75), seed);
            let large = programs.add(60);
            let others = [programs.add(30), programs.add(10), programs.add(5)];
            programs.run();
            let mm = programs.world.machine.mm();
            mm.set_adjustment(large, thousandths(of_large));
            mm.set_adjustment(others[0], thousandths(of_first));
            mm.set_adjustment(others[1], thousandths(if chosen == 3 { -900 } else { 0 }));
            let asker = programs.add(if chosen == 1 { 70 } else { 90 });
            let verdicts = programs.finish();
            let victim = [large, others[0], if chosen == 2 { asker } else { others[1] }, asker][chosen];
            let found: Vec<_> = verdicts.iter().map(|verdict| verdict.victim).collect();
            assert_eq!(found[0], victim, "seed {seed}, case {chosen}: {verdicts:?}");
            assert!(found.len() == 1, "seed {seed}, case {chosen}: {verdicts:?}");
        }
    }
}

#[test]
fn e3_init_ends_when_nobody_else_is_left_and_one_that_never_ends_fails_by_itself() {
    for seed in 0..40 {
        let mut programs = Programs::on(SimConfig::new(96, 75), seed);
        let init = programs.add(60);
        let sacrosanct = programs.add(40);
        programs.run();
        let mm = programs.world.machine.mm();
        mm.set_standing(init, Standing::Last);
        mm.set_adjustment(sacrosanct, Adjustment::NEVER);
        // A program of its own beside init: init is larger by far, and stays.
        let other = programs.add(80);
        programs.run();
        programs.world.machine.mm().set_adjustment(other, Adjustment::NEVER);
        let last = programs.add(80);
        programs.run();
        programs.world.machine.mm().set_adjustment(last, Adjustment::NEVER);
        let found = programs.finish();
        let told: Vec<_> = found.iter().map(|verdict| (verdict.victim, verdict.grounds)).collect();
        assert_eq!(told, [(other, Grounds::Worst), (last, Grounds::Worst)], "seed {seed}: {found:?}");
    }
    for seed in 0..40 {
        let mut programs = Programs::on(SimConfig::new(96, 75), seed);
        let (init, sacrosanct) = (programs.add(60), programs.add(30));
        programs.run();
        programs.world.machine.mm().set_standing(init, Standing::Last);
        let asker = programs.add(90);
        for space in [sacrosanct, asker] {
            programs.world.machine.mm().set_adjustment(space, Adjustment::NEVER);
        }
        let found = programs.finish();
        assert_eq!((found[0].victim, found[0].grounds), (init, Grounds::OnlyInit), "seed {seed}: {found:?}");
        assert!(found[1..].iter().all(|verdict| verdict.grounds == Grounds::NobodyElse), "seed {seed}: {found:?}");
    }
}

/// Takes down who is chosen, but takes its time.
fn end_victims_slowly(world: &mut World) -> Arc<Mutex<Vec<SpaceId>>> {
    let (machine, verdicts) = (world.machine.clone(), Arc::<Mutex<Vec<SpaceId>>>::default());
    let (noted, executor) = (verdicts.clone(), world.sim.executor());
    world.sim.endless("slow victims");
    let ends = async move {
        loop {
            let Verdict { victim, .. } = machine.mm().next_verdict().await;
            noted.lock().unwrap().push(victim);
            executor.timers().sleep(Duration::from_millis(3)).await;
            machine.mm().destroy_space(victim).await;
        }
    };
    world.sim.spawn(Class::Kernel, "slow victims", ends).detach();
    verdicts
}

/// Has each of these spaces write so many pages, beginning so long after the one before, and none fail.
fn write_all(world: &mut World, spaces: &[((SpaceId, VirtAddr), u64)], later: Duration, seed: u64) {
    let executor = world.sim.executor();
    let writer = |(number, &((space, area), count)): (usize, &((SpaceId, VirtAddr), u64))| {
        let pause = Duration::from_nanos(later.as_nanos() * number as u64);
        let writer = write_pages(world.machine.clone(), space, area, count);
        let writer = async move {
            executor.timers().sleep(pause).await;
            writer.await
        };
        (count, world.sim.spawn(Class::User, numbered("program", number), writer))
    };
    let tasks: Vec<_> = spaces.iter().enumerate().map(writer).collect();
    world.sim.run().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}\n{}", world.sim.journal().print()));
    for (count, task) in tasks {
        assert_eq!(world.run("end", task), (count, Ok(())), "seed {seed}");
    }
}

/// While one is being taken down, which takes a while, others ask and wait, and are not ended in its stead.
#[test]
fn e3_one_at_a_time() {
    for seed in 0..40 {
        let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(600, 0) }, seed);
        let large = world.space_with(420);
        write_all(&mut world, &[(large, 420)], Duration::ZERO, seed);
        let victims = end_victims_slowly(&mut world);
        let others: Vec<_> = (0..6).map(|_| (world.space_with(60), 60)).collect();
        write_all(&mut world, &others, Duration::ZERO, seed);
        assert_eq!(*victims.lock().unwrap(), [large.0], "seed {seed}");
        others.iter().for_each(|(other, _)| world.destroy(other.0));
        world.assert_empty();
    }
}

/// Memory that comes back to the machine because a group has run out is waited for by the machine, too.
#[test]
fn e3_one_at_a_time_in_a_group_and_in_the_machine() {
    for seed in 0..40 {
        let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(600, 0) }, seed);
        let (large, in_group, asks) = (world.space_with(340), world.space_with(90), world.space_with(60));
        let group = world.machine.mm().create_group().expect("room");
        world.machine.mm().set_group_limits(group, GroupLimits { frames: Some(130), slots: None });
        [in_group, asks].iter().for_each(|member| world.machine.mm().set_space_group(member.0, group));
        write_all(&mut world, &[(large, 340), (in_group, 90)], Duration::ZERO, seed);
        let victims = end_victims_slowly(&mut world);
        // The group is full 40 pages on, and while that is seen to, the machine.
        let other = world.space_with(140);
        write_all(&mut world, &[(asks, 60), (other, 140)], Duration::from_millis(1), seed);
        assert_eq!(*victims.lock().unwrap(), [in_group.0], "seed {seed}");
        [large, asks, other].iter().for_each(|space| world.destroy(space.0));
        let machine = world.machine.clone();
        world.run("rmdir", async move { machine.mm().remove_group(group).await });
        world.assert_empty();
    }
}

/// A space that is filled for a program to come is refused, where a program would be ended for it or in its stead.
#[test]
fn e3_a_space_that_is_no_programs_yet_is_refused_rather_than_init_ended() {
    let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(96, 0) }, 4);
    let (init, area) = world.space_with(40);
    assert_eq!(world.run("init", write_pages(world.machine.clone(), init, area, 40)).1, Ok(()));
    let (apart, its_area) = world.space_with(80);
    world.machine.mm().set_standing(init, Standing::Last);
    world.machine.mm().set_standing(apart, Standing::Apart);
    let writer = write_pages(world.machine.clone(), apart, its_area, 80);
    assert_eq!(world.run("apart", writer).1, Err(FaultError::OutOfMemory));
    assert_eq!(world.machine.mm().snapshot().counters.oom_kill, 0);
    assert!(!world.machine.mm().is_condemned(init) && !world.machine.mm().is_condemned(apart));
    world.destroy(apart);
    world.destroy(init);
    world.assert_empty();
}

/// What is in swap is given up where it is.
#[test]
fn e3_slots_of_who_ends_are_freed_without_reading_them() {
    for seed in 0..20 {
        let mut programs = Programs::on(SimConfig::new(96, 300), seed);
        let large = programs.add(300);
        programs.run();
        let before = programs.world.machine.mm().snapshot().counters;
        programs.add(90);
        // Only what the second one needs back is read from here on.
        programs.run();
        programs.world.settle();
        let after = programs.world.machine.mm().snapshot();
        assert!(after.counters.pswpin - before.pswpin <= 2 * 90, "seed {seed}");
        let slots = after.slots.expect("there is swap");
        assert!(slots.used <= 90 + after.open_slots, "seed {seed}: {slots:?}");
        let verdicts = programs.finish();
        assert!(verdicts.len() == 1 && verdicts[0].victim == large, "seed {seed}: {verdicts:?}");
        assert!(verdicts[0].frees_slots > 200, "seed {seed}: {verdicts:?}");
    }
}

/// Threads whose instructions need several pages at once share few frames: each gets all it needs at some time (design D4).
fn hungry_threads(frames: usize, threads: usize, pages_at_once: u64, seed: u64) {
    let watermarks = Watermarks { min: 2, low: 4, high: 6 };
    let mm = Config { watermarks: Some(watermarks), ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(frames, 512) }, seed);
    let (space, area) = world.space_with(64);
    for number in 0..threads {
        let machine = world.machine.clone();
        let own = number as u64 * pages_at_once * 2;
        let work = async move {
            let mut thread = Holds::default();
            for round in 0..20u64 {
                let first = own + round % 2 * pages_at_once;
                let stores: Vec<_> = (0..pages_at_once).map(|i| (word(area, first + i, round), round + 1)).collect();
                machine.store_all(space, &stores, round + 1, &mut thread).await.unwrap();
                // Back in user mode: the instruction is over.
                executor::yield_now().await;
                machine.mm().release_holds(&mut thread);
            }
        };
        world.sim.spawn(Class::User, numbered("thread", number), work).detach();
    }
    world.sim.run().unwrap_or_else(|stuck| {
        panic!("seed {seed}: {stuck}\n{}{:#?}", world.sim.journal().print(), world.machine.mm().snapshot())
    });
    world.destroy(space);
    world.assert_empty();
}

/// Zero page, root, three page tables and the reserve take 7 frames.
const OVERHEAD: usize = 7;

#[test]
fn e8_twelve_usable_frames_are_enough_for_threads_that_need_four_pages_at_once() {
    for seed in 0..60 {
        hungry_threads(OVERHEAD + 12, 4, 4, seed);
    }
}

#[test]
fn e8_twelve_usable_frames_are_enough_for_threads_that_need_eight_pages_at_once() {
    for seed in 0..60 {
        hungry_threads(OVERHEAD + 12, 3, 8, seed);
    }
}

/// Nothing of an object that nobody has any more can go anywhere without swap, but it can go.
#[test]
fn e3_what_an_ended_program_leaves_in_an_object_is_freed_before_another_ends_for_it() {
    let mut world = World::seeded(SimConfig { disk: None, ..SimConfig::new(64, 0) }, tests::harness::seed());
    let verdicts = Arc::new(Mutex::new(Vec::new()));
    let noted = verdicts.clone();
    world.end_victims(move |verdict| noted.lock().unwrap().push(verdict.victim));
    let (machine, memory) = (world.machine.clone(), world.machine.mm().create_object(40 * PAGE).expect("room"));
    let sharer = machine.create_space().expect("a frame for the root");
    let area = ready(machine.mm().map(sharer, window(memory, 0, 40, Sharing::Shared))).expect("room");
    assert_eq!(world.run("sharer", write_pages(machine.clone(), sharer, area, 40)), (40, Ok(())));
    // From here on it is there for as long as it is mapped.
    machine.mm().close_object(memory);
    let (other, area) = world.space_with(30);
    // The smaller one must not be the one to end.
    machine.mm().set_adjustment(sharer, Adjustment::from_thousandths(1000).expect("it is in range"));
    let ended = world.run("other", write_pages(machine, other, area, 30));
    assert_eq!((ended, &**verdicts.lock().unwrap()), ((30, Ok(())), &[sharer][..]));
    world.destroy(other);
    world.assert_empty();
}
