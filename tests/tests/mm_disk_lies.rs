//! A disk that gives back something else than it got, or nothing at all: every lie is found, and costs only whose page
//! it was (rows F4, F6, F7, F9). Disks that say that they failed are in `mm_disk`.

use std::collections::{BTreeMap, BTreeSet};

use executor::sim::{Rng, Seed};
use executor::{Class, Duration};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::file_store::FileId;
use mm::object::Sharing;
use mm::platform::Slot;
use mm::reclaim::Watermarks;
use mm::sim::{FilesConfig, SimConfig};
use mm::space::SpaceId;
use tests::harness::seed;
use tests::mm::{PAGE, Thread, World, numbered, pages, ready, window, word};

/// A page of a program.
type Page = (SpaceId, VirtAddr);

/// What a page of a program holds in its word 1: no two are equal.
fn content(addr: VirtAddr, owner: u64) -> u64 {
    addr.as_u64() << 8 | owner
}

/// Programs whose pages are all out on the disk.
struct Programs {
    world: World,
    areas: Vec<(SpaceId, VirtAddr)>,
    each: u64,
}

impl Programs {
    fn paged_out(config: SimConfig, seed: u64, programs: u64, each: u64) -> Self {
        let mut programs = Self::new(World::seeded(config, seed), programs, each);
        for owner in 0..programs.areas.len() {
            programs.write(owner, 0);
        }
        programs
    }

    fn new(mut world: World, programs: u64, each: u64) -> Self {
        let areas = (0..programs).map(|_| world.space_with(each)).collect();
        Self { world, areas, each }
    }

    /// Writes all pages of a program and sends them off; `version` tells this from other times.
    fn write(&mut self, owner: usize, version: u64) {
        let (machine, (space, area), each) = (self.world.machine.clone(), self.areas[owner], self.each);
        self.world.run("writer", async move {
            let mut thread = Thread::new(&machine);
            for page in 0..each {
                let at = word(area, page, 1);
                thread.store(space, at, content(word(area, page, 0), owner as u64) + (version << 48)).await.unwrap();
            }
        });
        // What cannot go at one time, because others are on their way, goes at another.
        for _ in 0..each.div_ceil(16) {
            self.world.machine.evict(space, pages(area, each));
            self.world.settle();
        }
    }

    fn pages(&self) -> impl Iterator<Item = (usize, Page)> + '_ {
        let owners = self.areas.iter().enumerate();
        owners
            .flat_map(|(owner, (space, area))| (0..self.each).map(move |page| (owner, (*space, word(*area, page, 0)))))
    }

    fn slot(&self, (space, addr): Page) -> Slot {
        self.world.machine.slot_of(space, addr).expect("it is in a slot")
    }

    /// Reads every page once, and says which are lost. Others must be as they were written last.
    fn lost(&mut self, version: u64) -> BTreeSet<Page> {
        let (machine, all) = (self.world.machine.clone(), self.pages().collect::<Vec<_>>());
        self.world.run("reader", async move {
            let mut thread = Thread::new(&machine);
            let mut lost = BTreeSet::new();
            for (owner, (space, addr)) in all {
                match thread.load(space, word(addr, 0, 1)).await {
                    Ok(found) => {
                        assert_eq!(found, content(addr, owner as u64) + (version << 48), "{addr:?} of {owner}")
                    }
                    Err(error) => {
                        assert_eq!(error, FaultError::BadPage);
                        lost.insert((space, addr));
                    }
                }
            }
            lost
        })
    }

    fn end(mut self) {
        for (space, _) in std::mem::take(&mut self.areas) {
            self.world.destroy(space);
        }
        self.world.assert_empty();
    }
}

/// Also: whoever lost nothing reads on, and the books say how many.
#[test]
fn f6_a_thousand_bit_flips_are_a_thousand_lost_pages_of_their_owners_and_nobody_else_s() {
    const FLIPS: usize = 1000;
    let seed = seed();
    let mut programs = Programs::paged_out(SimConfig::new(192, 2048), seed, 4, 400);
    let (mut rng, mut left) = (Rng::new(Seed(seed)), programs.pages().map(|(_, page)| page).collect::<Vec<_>>());
    let flipped: BTreeSet<Page> = (0..FLIPS).map(|_| left.swap_remove(rng.below(left.len() as u64) as usize)).collect();
    for page in &flipped {
        programs.world.machine.disk().alter(programs.slot(*page));
    }
    let lost = programs.lost(0);
    assert!(lost == flipped, "seed {seed}: lost and not flipped, or flipped and not lost: {:?}", &lost ^ &flipped);
    let now = programs.world.machine.mm().snapshot();
    assert_eq!((now.counters.swap_audit_err, now.slots.unwrap().bad), (FLIPS as u64, FLIPS as u32), "seed {seed}");
    assert_eq!(programs.lost(0), flipped, "seed {seed}: for good");
    programs.end();
}

#[test]
fn f6_a_shared_page_is_lost_to_those_who_share_it_and_not_to_who_has_a_copy() {
    for seed in 0..20 {
        let mut programs = Programs::paged_out(SimConfig::new(96, 256), seed, 1, 4);
        let (parent, area) = programs.areas[0];
        let shared = word(area, 2, 1);
        for _ in 0..2 {
            let machine = programs.world.machine.clone();
            let child = machine.create_space().expect("a frame for the root");
            programs.world.run("fork", async move { machine.mm().fork_space(parent, child).await.unwrap() });
            programs.areas.push((child, area));
        }
        let [_, (child, _), (other, _)] = programs.areas[..] else { panic!("a family") };
        let machine = programs.world.machine.clone();
        programs.world.run("copy", async move { Thread::new(&machine).store(other, shared, 7).await.unwrap() });
        for (space, _) in programs.areas.clone() {
            programs.world.machine.evict(space, pages(area, 4));
            programs.world.settle();
        }
        programs.world.machine.disk().alter(programs.slot((parent, word(area, 2, 0))));
        let machine = programs.world.machine.clone();
        let found = programs.world.run("load", async move {
            let mut thread = Thread::new(&machine);
            let mut found = Vec::new();
            for space in [parent, child, other] {
                found.push([thread.load(space, shared).await, thread.load(space, word(area, 3, 1)).await]);
            }
            found
        });
        let (lost, third) = (Err(FaultError::BadPage), Ok(content(word(area, 3, 0), 0)));
        assert_eq!(found, [[lost, third], [lost, third], [Ok(7), third]], "seed {seed}");
        assert_eq!(programs.world.machine.mm().snapshot().counters.swap_audit_err, 1, "seed {seed}");
        programs.end();
    }
}

#[test]
fn f7_slots_that_changed_places_are_nobody_s_pages() {
    for seed in 0..20 {
        let mut programs = Programs::paged_out(SimConfig::new(96, 256), seed, 2, 40);
        let [(a, first), (b, second)] = programs.areas[..] else { panic!("two programs") };
        // Between two programs, and within one.
        let exchanged = [
            [(a, word(first, 3, 0)), (b, word(second, 3, 0))],
            [(a, word(first, 7, 0)), (a, word(first, 8, 0))],
            [(b, word(second, 0, 0)), (b, word(second, 39, 0))],
        ];
        for pair in exchanged {
            let disk = programs.world.machine.disk();
            let [one, other] = pair.map(|page| programs.slot(page));
            let (words, others) = (disk.contents(one), disk.contents(other));
            disk.put(one, &others);
            disk.put(other, &words);
        }
        let expected: BTreeSet<Page> = exchanged.into_iter().flatten().collect();
        assert_eq!(programs.lost(0), expected, "seed {seed}");
        programs.end();
    }
}

/// What a slot held at an earlier time, perhaps another's, perhaps an older version of the very page.
#[test]
fn f7_slots_with_what_they_held_before_are_not_taken_for_what_they_hold() {
    for seed in 0..20 {
        // Only so many slots that the second version lies where the first did.
        let mut programs = Programs::paged_out(SimConfig::new(96, 64), seed, 1, 40);
        let old: BTreeMap<Slot, _> =
            (1..64).map(Slot::new).map(|slot| (slot, programs.world.machine.disk().contents(slot))).collect();
        programs.write(0, 1);
        let all: Vec<Page> = programs.pages().map(|(_, page)| page).collect();
        let mut stale = BTreeSet::new();
        for page in all.into_iter().step_by(2) {
            let slot = programs.slot(page);
            programs.world.machine.disk().put(slot, &old[&slot]);
            stale.insert(page);
        }
        assert_eq!(programs.lost(1), stale, "seed {seed}");
        programs.end();
    }
}

/// One request is never answered. Who waits for it can end, everybody else goes on; its frame is the disk's for so
/// long, and no longer.
#[test]
fn f4_a_request_that_is_never_answered_holds_up_only_who_waits_for_its_page() {
    for seed in 0..20 {
        let mut programs = Programs::paged_out(SimConfig::new(96, 512), seed, 2, 120);
        let [(stuck, area), (other, its_area)] = programs.areas[..] else { panic!("two programs") };
        let machine = programs.world.machine.clone();
        machine.disk().hold(programs.slot((stuck, area)));
        let own = machine.clone();
        let waits = async move { Thread::new(&own).load(stuck, area).await };
        let waiting = programs.world.sim.spawn(Class::User, "waits", waits);
        let own = machine.clone();
        let goes_on = async move {
            let mut thread = Thread::new(&own);
            // More pages than there are frames, there and back, so that others are written out, too.
            for pass in 0..3 {
                for page in 0..120 {
                    let at = word(its_area, page, 2);
                    assert_eq!(thread.load(other, at).await, Ok(if pass == 0 { 0 } else { page + 1 }));
                    thread.store(other, at, page + 1).await.unwrap();
                }
            }
        };
        programs.world.run("goes on", goes_on);
        assert!(machine.mm().snapshot().faults_waiting > 0, "seed {seed}: nobody waits");
        // It is killed.
        drop(waiting);
        let own = machine.clone();
        programs.world.run("destroy", async move { own.mm().destroy_space(stuck).await });
        assert!(machine.mm().snapshot().orphaned_io > 0, "seed {seed}: the disk has its frame still");
        machine.disk().let_go();
        programs.world.settle();
        assert_eq!(machine.mm().snapshot().orphaned_io, 0, "seed {seed}");
        programs.areas.remove(0);
        programs.end();
    }
}

/// One of the first clusters that are written is never answered. What is on its way with it is not waited for by those who need a frame.
#[test]
fn f4_a_write_that_is_never_answered_holds_up_nobody() {
    const PAGES: u64 = 300;
    for seed in 0..10 {
        // From `low` to `high` it is a cluster, and so as much as is on its way.
        let mm = Config { watermarks: Some(Watermarks { min: 8, low: 16, high: 80 }), ..Config::default() };
        let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(256, 1024) }, seed);
        world.machine.disk().hold(Slot::new(70));
        let (space, area) = world.space_with(PAGES);
        let machine = world.machine.clone();
        let program = async move {
            let mut thread = Thread::new(&machine);
            for pass in 0..3 {
                for page in 0..PAGES {
                    let at = word(area, page, 2);
                    assert_eq!(thread.load(space, at).await, Ok(if pass == 0 { 0 } else { page + 1 }));
                    thread.store(space, at, page + 1).await.unwrap();
                }
            }
        };
        world.run("program", program);
        assert!(world.machine.mm().snapshot().ops.any(), "seed {seed}: a write is under way for ever");
        world.machine.disk().let_go();
        world.destroy(space);
        world.assert_empty();
    }
}

/// Nothing can be written out, and what need not be written out leaves all the same.
#[test]
fn f9_with_swap_full_pages_of_files_still_come_and_go() {
    const FILE: FileId = FileId::new(3);
    const LENGTH: u64 = 200;
    for seed in 0..10 {
        let config = SimConfig { files: Some(FilesConfig::good(256)), ..SimConfig::new(96, 33) };
        let mut programs = Programs::new(World::seeded(config, seed), 1, 80);
        let machine = programs.world.machine.clone();
        for page in 0..LENGTH {
            machine.files().put(FILE, page, [page + 1; 512]);
        }
        let object = machine.mm().create_file_object(FILE, LENGTH * PAGE).expect("there is a store");
        // 80 pages in 60 frames or so and 32 slots: both are nearly used up by these alone.
        programs.write(0, 0);
        assert_eq!(machine.mm().snapshot().slots.unwrap().free, 0, "seed {seed}");
        let (reader, own) = (machine.create_space().expect("a frame"), machine.clone());
        let at = ready(machine.mm().map(reader, window(object, 0, LENGTH, Sharing::Shared))).expect("there is room");
        programs.world.run("reader", async move {
            let mut thread = Thread::new(&own);
            for page in (0..LENGTH).chain(0..LENGTH) {
                assert_eq!(thread.load(reader, word(at, page, 5)).await, Ok(page + 1));
            }
        });
        assert!(programs.lost(0).is_empty(), "seed {seed}");
        let now = machine.mm().snapshot();
        assert_eq!((now.counters.oom_kill, now.counters.pgfileout), (0, 0), "seed {seed}: {now:?}");
        assert!(now.counters.pgfilein > LENGTH, "seed {seed}: they came again");
        programs.world.destroy(reader);
        machine.mm().close_object(object);
        programs.end();
    }
}

/// Every read waits long, and they overtake each other: all come back right.
#[test]
fn f4_a_slow_disk_that_reorders_loses_nothing() {
    for seed in 0..10 {
        let mut programs = Programs::paged_out(SimConfig::new(96, 512), seed, 4, 60);
        for (reader, (space, area)) in programs.areas.clone().into_iter().enumerate() {
            let (machine, executor) = (programs.world.machine.clone(), programs.world.sim.executor());
            let reads = async move {
                let mut thread = Thread::new(&machine);
                for page in (0..60).rev() {
                    let at = word(area, page, 1);
                    assert_eq!(thread.load(space, at).await, Ok(content(word(area, page, 0), reader as u64)));
                    executor.timers().sleep(Duration::from_micros(page % 7)).await;
                }
            };
            programs.world.sim.spawn(Class::User, numbered("reader", reader), reads).detach();
        }
        programs.world.sim.run().unwrap();
        programs.end();
    }
}
