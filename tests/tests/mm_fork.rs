//! Fork: two spaces with the same pages, until one of them writes.

use executor::Class;
use executor::sim::cancel_at_every_await;
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, FaultKind};
use mm::frame::FrameKind;
use mm::platform::{Access, Rights};
use mm::sim::{SimConfig, SimMachine};
use mm::space::{Move, Populate, SpaceId};
use mm::stats::PageClass;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use tests::mm::{
    PAGE, Thread, World, assert_empty, destroy, numbered, pages, ready, run, settings, settle, space_with, start, word,
};

/// A child of a space, all at once.
fn fork(world: &mut World, parent: SpaceId) -> SpaceId {
    let machine = world.machine.clone();
    world.run("fork", async move { fork_on(&machine, parent).await })
}

async fn fork_on(machine: &SimMachine, parent: SpaceId) -> SpaceId {
    let child = machine.create_space().expect("a frame for the root");
    machine.mm().fork_space(parent, child).await.expect("there is memory");
    child
}

fn store(world: &mut World, space: SpaceId, addr: VirtAddr, value: u64) {
    let machine = world.machine.clone();
    let stored = world.run("store", async move { Thread::new(&machine).store(space, addr, value).await });
    assert_eq!(stored, Ok(()));
}

fn load(world: &mut World, space: SpaceId, addr: VirtAddr) -> Result<u64, FaultError> {
    let machine = world.machine.clone();
    world.run("load", async move { Thread::new(&machine).load(space, addr).await })
}

fn user_frames(world: &World) -> usize {
    world.machine.mm().snapshot().frames.used[FrameKind::User as usize]
}

fn copies(world: &World) -> u64 {
    world.machine.mm().snapshot().counters.pgcow
}

#[test]
fn parent_and_child_share_frames_until_one_of_them_writes() {
    let mut world = World::seeded(SimConfig::new(128, 128), 1);
    let (parent, area) = world.space_with(8);
    (0..8).for_each(|page| store(&mut world, parent, word(area, page, 0), page + 1));
    let child = fork(&mut world, parent);
    world.settle();
    (0..8).for_each(|page| assert_eq!(load(&mut world, child, word(area, page, 0)), Ok(page + 1)));
    assert_eq!((user_frames(&world), copies(&world)), (8, 0), "each page once");
    store(&mut world, child, area, 100);
    store(&mut world, parent, word(area, 1, 0), 200);
    assert_eq!((user_frames(&world), copies(&world)), (10, 2));
    assert_eq!((load(&mut world, parent, area), load(&mut world, child, area)), (Ok(1), Ok(100)));
    let second = word(area, 1, 0);
    assert_eq!((load(&mut world, parent, second), load(&mut world, child, second)), (Ok(200), Ok(2)));
    let (_, counts) = world.machine.mm().space_pages(child).unwrap();
    assert_eq!((counts.get(PageClass::Shared), counts.resident()), (7, 1));
    world.settle();
    // The last one who has a page need not copy it.
    world.destroy(parent);
    (0..8).for_each(|page| store(&mut world, child, word(area, page, 1), 1));
    assert_eq!((user_frames(&world), copies(&world)), (8, 2));
    world.destroy(child);
    world.assert_empty();
}

#[test]
fn a_page_that_was_only_read_or_never_touched_is_shared_as_such() {
    let mut world = World::seeded(SimConfig::new(64, 64), 2);
    let (parent, area) = world.space_with(4);
    assert_eq!(load(&mut world, parent, area), Ok(0));
    let child = fork(&mut world, parent);
    (0..4).for_each(|page| assert_eq!(load(&mut world, child, word(area, page, 0)), Ok(0)));
    store(&mut world, child, area, 1);
    assert_eq!((load(&mut world, parent, area), load(&mut world, child, area)), (Ok(0), Ok(1)));
    assert_eq!((user_frames(&world), copies(&world)), (1, 0));
    world.destroy(child);
    world.destroy(parent);
    world.assert_empty();
}

/// X11: a chain of 200 forks with a write at each level. A fault costs the same at its end as at its beginning: one poll, at most one copy, no
/// allocation that grows; and there are as many frames as there are different pages.
#[test]
fn x11_a_chain_of_two_hundred_forks_costs_each_fault_the_same_and_a_frame_for_each_live_copy() {
    const PAGES: u64 = 8;
    const DEPTH: u64 = 200;
    let mut world = World::seeded(SimConfig::new(4096, 1024), 3);
    let (mut space, area) = world.space_with(PAGES);
    let first = space;
    (0..PAGES).for_each(|page| store(&mut world, first, word(area, page, 0), page));
    let mut chain = vec![space];
    for level in 1..=DEPTH {
        space = fork(&mut world, space);
        chain.push(space);
        let page = level % PAGES;
        let mut thread = Thread::new(&world.machine);
        let target = word(area, page, 0);
        let kind = ready(world.machine.mm().fault(space, target, Access::Write, level, &mut thread.holds));
        assert_eq!(kind, Ok(FaultKind::Minor), "on the first poll, without the store");
        drop(thread);
        store(&mut world, space, target, level * 1000 + page);
        assert_eq!(copies(&world), level);
        assert_eq!(user_frames(&world) as u64, PAGES + level, "a frame for each different page");
    }
    world.settle();
    // Each level sees what was written at it or above it, and nothing of what came below.
    for (level, &space) in chain.iter().enumerate().step_by(17) {
        for page in 0..PAGES {
            let written = (1..=level as u64).rev().find(|l| l % PAGES == page);
            let expected = written.map_or(page, |l| l * 1000 + page);
            assert_eq!(load(&mut world, space, word(area, page, 0)), Ok(expected));
        }
    }
    assert_eq!(user_frames(&world) as u64, PAGES + DEPTH);
    // The middle of the chain goes: a copy lives as long as somebody has it.
    let last = chain.pop().unwrap();
    chain.into_iter().for_each(|space| world.destroy(space));
    assert_eq!(user_frames(&world) as u64, PAGES);
    let anons = world.machine.mm().snapshot().anons;
    assert_eq!((anons.pages, anons.refs), (PAGES - 1, PAGES - 1), "the page it wrote last was never shared");
    world.destroy(last);
    world.assert_empty();
}

#[test]
fn pages_shared_by_a_fork_swap_once_and_come_back_for_everybody() {
    let mut world = World::seeded(SimConfig::new(256, 512), 4);
    let (parent, area) = world.space_with(32);
    (0..32).for_each(|page| store(&mut world, parent, word(area, page, 3), page + 1));
    let mut family = vec![parent];
    for _ in 0..3 {
        family.push(fork(&mut world, parent));
    }
    for &space in &family {
        (0..32).for_each(|page| assert_eq!(load(&mut world, space, word(area, page, 3)), Ok(page + 1)));
    }
    world.machine.evict(parent, pages(area, 32));
    world.settle();
    let out = world.machine.mm().snapshot();
    assert_eq!((out.counters.pswpout, out.pages.get(PageClass::AwaySlot)), (32, 32), "each page once: {out:?}");
    assert_eq!(user_frames(&world), 0);
    for &space in &family {
        (0..32).for_each(|page| assert_eq!(load(&mut world, space, word(area, page, 3)), Ok(page + 1)));
    }
    assert_eq!(world.machine.mm().snapshot().counters.pswpin, 32);
    family.into_iter().for_each(|space| world.destroy(space));
    world.assert_empty();
}

#[test]
fn a_fork_takes_pages_along_in_whatever_state_they_are() {
    for seed in 0..30 {
        let mut world = World::seeded(SimConfig::new(128, 512), seed);
        let (parent, area) = world.space_with(64);
        (0..64).for_each(|page| store(&mut world, parent, word(area, page, 3), page + 1));
        // Some are out, some on their way out, some on their way in; and the disk has not moved.
        world.machine.evict(parent, pages(area, 24));
        world.settle();
        let reader = |world: &mut World, space, page: u64| {
            let machine = world.machine.clone();
            let load = async move { Thread::new(&machine).load(space, word(area, page, 3)).await };
            world.sim.spawn(Class::User, numbered("reader", page as usize), load)
        };
        let readers: Vec<_> = (8..16).map(|page| (page, reader(&mut world, parent, page))).collect();
        world.machine.evict(parent, pages(word(area, 40, 0), 24));
        let (machine, child) = (world.machine.clone(), world.machine.create_space().unwrap());
        let forked = async move { machine.mm().fork_space(parent, child).await };
        world.run("fork", forked).unwrap();
        for page in 0..64 {
            if page % 3 == 0 {
                store(&mut world, child, word(area, page, 3), 1000 + page);
            }
        }
        for (page, reader) in readers {
            assert_eq!(world.run("reader", reader), Ok(page + 1));
        }
        for page in 0..64 {
            assert_eq!(load(&mut world, parent, word(area, page, 3)), Ok(page + 1));
            let own = if page % 3 == 0 { 1000 + page } else { page + 1 };
            assert_eq!(load(&mut world, child, word(area, page, 3)), Ok(own));
        }
        world.settle();
        world.destroy(parent);
        world.destroy(child);
        world.assert_empty();
    }
}

#[test]
fn with_the_pool_of_mappings_empty_sharers_take_them_from_each_other() {
    let mm = Config { mappings: Some(3), ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(256, 64) }, 5);
    let (parent, area) = world.space_with(4);
    (0..4).for_each(|page| store(&mut world, parent, word(area, page, 0), page + 1));
    let mut family = vec![parent];
    for _ in 0..5 {
        family.push(fork(&mut world, parent));
    }
    for _ in 0..3 {
        for &space in &family {
            (0..4).for_each(|page| assert_eq!(load(&mut world, space, word(area, page, 0)), Ok(page + 1)));
            world.machine.check();
        }
    }
    let now = world.machine.mm().snapshot();
    assert_eq!((now.mappings.size, now.mappings.used, now.mappings.free), (3, 3, 0));
    assert!(now.counters.pgunmap_pool > 0);
    family.into_iter().for_each(|space| world.destroy(space));
    assert_eq!(world.machine.mm().snapshot().mappings.used, 0);
    world.assert_empty();
}

#[test]
fn rights_of_an_area_are_those_of_its_copy_and_a_shared_page_is_no_way_round_them() {
    let mut world = World::seeded(SimConfig::new(64, 64), 6);
    let (parent, area) = world.space_with(2);
    store(&mut world, parent, area, 7);
    let machine = world.machine.clone();
    world.run("protect", async move { machine.mm().protect(parent, area, PAGE, Rights::READ).await.unwrap() });
    let child = fork(&mut world, parent);
    let machine = world.machine.clone();
    let stored = world.run("store", async move { Thread::new(&machine).store(child, area, 8).await });
    assert_eq!(stored, Err(FaultError::Forbidden));
    // The kernel's copies copy on write, too.
    let machine = world.machine.clone();
    world.run("copies", async move {
        let mm = machine.mm();
        mm.protect(child, area, PAGE, Rights::READ_WRITE).await.unwrap();
        mm.copy_out(child, area, &9u64.to_le_bytes()).await.unwrap();
        let mut bytes = [0; 8];
        mm.copy_in(parent, area, &mut bytes).await.unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 7);
        mm.copy_in(child, area, &mut bytes).await.unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 9);
    });
    world.destroy(parent);
    world.destroy(child);
    world.assert_empty();
}

/// Dropped at any of its awaits, a fork leaves a child that can be destroyed and a parent that has lost nothing.
#[test]
fn a_fork_that_is_given_up_half_way_leaves_nothing_behind() {
    const PAGES: u64 = 700;
    for seed in 0..3 {
        let dropped = cancel_at_every_await(settings(seed), "victim", |sim| {
            let machine = start(sim, SimConfig { seed, ..SimConfig::new(160, 2048) });
            let (parent, area) = space_with(&machine, PAGES);
            let own = machine.clone();
            run(sim, "setup", async move {
                let mut thread = Thread::new(&own);
                for page in 0..PAGES {
                    thread.store(parent, word(area, page, 0), page + 1).await.unwrap();
                }
            });
            let child = machine.create_space().expect("a root");
            let own = machine.clone();
            let victim = async move { own.mm().fork_space(parent, child).await.expect("there is memory") };
            sim.spawn(Class::User, "victim", victim).detach();
            let own: Arc<SimMachine> = machine.clone();
            let other = async move {
                let mut thread = Thread::new(&own);
                for page in (0..PAGES).step_by(7) {
                    assert_eq!(thread.load(parent, word(area, page, 0)).await, Ok(page + 1));
                    thread.store(parent, word(area, page, 1), page).await.unwrap();
                }
            };
            sim.spawn(Class::User, "other", other).detach();
            sim.run().unwrap_or_else(|stuck| panic!("{stuck}\n{}", sim.journal().print()));
            settle(sim, &machine);
            destroy(sim, &machine, child);
            let own = machine.clone();
            run(sim, "reader", async move {
                let mut thread = Thread::new(&own);
                for page in 0..PAGES {
                    assert_eq!(thread.load(parent, word(area, page, 0)).await, Ok(page + 1));
                }
            });
            destroy(sim, &machine, parent);
            assert_empty(sim, &machine);
        });
        assert!(dropped >= 3, "{dropped}");
    }
}

/// A mapping that another thread moves to and fro while its program forks is in the child once, with all it holds.
#[test]
fn areas_stand_still_while_they_are_copied() {
    const COUNT: u64 = 600;
    let mut waited = 0;
    for seed in 0..20 {
        let mut world = World::seeded(SimConfig::new(2048, 256), seed);
        let (parent, here) = world.space_with(COUNT);
        (0..COUNT).for_each(|page| store(&mut world, parent, word(here, page, 0), page + 1));
        let there = VirtAddr::new(here.as_u64() - (1 << 30));
        let machine = world.machine.clone();
        let mover = world.sim.spawn(Class::User, "mover", async move {
            let (mut from, mut to) = (here, there);
            for _ in 0..8 {
                let moved = machine.mm().remap(parent, from, COUNT * PAGE, COUNT * PAGE, Move::To(to)).await;
                assert_eq!(moved, Ok(to));
                (from, to) = (to, from);
                executor::yield_now().await;
            }
        });
        let machine = world.machine.clone();
        let (early, child) = world.run("fork", async move {
            for _ in 0..seed {
                executor::yield_now().await;
            }
            let mut before = 0;
            machine.mm().vmas(parent, &mut |_| before += 1);
            (before > 1, fork_on(&machine, parent).await)
        });
        // It was in both places when the fork began.
        waited += usize::from(early);
        let mut places = Vec::new();
        world.machine.mm().vmas(child, &mut |area| places.push(area.range));
        assert!(places == [pages(here, COUNT)] || places == [pages(there, COUNT)], "seed {seed}: {places:?}");
        let place = places[0].start.addr();
        (0..COUNT).for_each(|page| assert_eq!(load(&mut world, child, word(place, page, 0)), Ok(page + 1)));
        world.run("mover", mover);
        world.destroy(child);
        world.destroy(parent);
        world.assert_empty();
    }
    assert!(waited > 0, "no fork began in the middle of a move");
}

/// Whoever is dropped where it waits for its turn, or has it, leaves it to the others.
#[test]
fn a_fork_or_a_change_that_is_dropped_leaves_the_turn_to_others() {
    for is_fork in [true, false] {
        let dropped = cancel_at_every_await(settings(3), "victim", |sim| {
            let machine = start(sim, SimConfig::new(2048, 256));
            let (parent, area) = space_with(&machine, 600);
            let child = machine.create_space().expect("a root");
            let own = machine.clone();
            run(sim, "fill", async move {
                for page in 0..600 {
                    Thread::new(&own).store(parent, word(area, page, 0), page + 1).await.unwrap();
                }
            });
            let own = machine.clone();
            let fork = async move { own.mm().fork_space(parent, child).await.expect("there is memory") };
            let own = machine.clone();
            let change =
                async move { own.mm().protect(parent, area, 600 * PAGE, Rights::READ).await.expect("its own") };
            let (first, second) = if is_fork { ("victim", "other") } else { ("other", "victim") };
            sim.spawn(Class::User, first, fork).detach();
            sim.spawn(Class::User, second, change).detach();
            sim.run().unwrap_or_else(|stuck| panic!("{stuck}\n{}", sim.journal().print()));
            destroy(sim, &machine, child);
            destroy(sim, &machine, parent);
            assert_empty(sim, &machine);
        });
        assert!(dropped > 2, "dropped {dropped} times");
    }
}

/// Three threads change areas without end, one always in the middle of it; and then two fork without end beside one that changes them.
#[test]
fn neither_forks_nor_changes_starve_beside_each_other() {
    for seed in 0..10 {
        let mut world = World::seeded(SimConfig::new(512, 256), seed);
        let (parent, area) = world.space_with(900);
        let machine = world.machine.clone();
        world.run("fill", async move {
            machine.mm().populate(parent, area, 900 * PAGE, Populate::Read).await.expect("zeroes are free");
        });
        let done = Arc::new(AtomicBool::new(false));
        let changes = Arc::new(AtomicU32::new(0));
        for number in 0..3 {
            let (machine, done, changes) = (world.machine.clone(), done.clone(), changes.clone());
            let changer = async move {
                for turn in 0.. {
                    let rights = if turn % 2 == 0 { Rights::READ } else { Rights::READ_WRITE };
                    machine.mm().protect(parent, area, 900 * PAGE, rights).await.expect("its own");
                    changes.fetch_add(1, Relaxed);
                    if done.load(Relaxed) {
                        return;
                    }
                }
            };
            world.sim.spawn(Class::User, numbered("changer", number), changer).detach();
        }
        let (machine, count) = (world.machine.clone(), changes.clone());
        let (begun, ended) = world.run("fork", async move {
            while count.load(Relaxed) < 5 {
                executor::yield_now().await;
            }
            let begun = count.load(Relaxed);
            let child = fork_on(&machine, parent).await;
            let ended = count.load(Relaxed);
            machine.mm().destroy_space(child).await;
            (begun, ended)
        });
        assert!(ended <= begun + 3, "seed {seed}: {} changes went before", ended - begun);
        // Now forks in plenty.
        let forks = Arc::new(AtomicU32::new(0));
        for number in 0..2 {
            let (machine, done, forks) = (world.machine.clone(), done.clone(), forks.clone());
            let forker = async move {
                while !done.load(Relaxed) {
                    let child = fork_on(&machine, parent).await;
                    forks.fetch_add(1, Relaxed);
                    machine.mm().destroy_space(child).await;
                }
            };
            world.sim.spawn(Class::User, numbered("forker", number), forker).detach();
        }
        let (before, own) = (changes.load(Relaxed), changes.clone());
        world.run("wait", async move {
            while own.load(Relaxed) < before + 20 {
                executor::yield_now().await;
            }
        });
        assert!(forks.load(Relaxed) > 2, "seed {seed}: they took turns");
        done.store(true, Relaxed);
        world.sim.run().unwrap_or_else(|stuck| panic!("{stuck}"));
        world.destroy(parent);
        world.assert_empty();
    }
}
