//! When memory is short: who waits, who goes on, and who is told that there is none.

use executor::Class;
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::reclaim::Watermarks;
use mm::sim::{SimConfig, SimMachine};
use mm::space::SpaceId;
use std::sync::Arc;
use tests::mm::{PAGE, World, numbered, word};

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

/// Several programs together ask for more than RAM and swap hold. One of them has to go; then there is enough for the others.
#[test]
fn when_swap_is_full_one_program_is_told_and_the_others_go_on() {
    for seed in 0..40 {
        let mut world = World::seeded(SimConfig::new(96, 75), seed);
        let programs = 4;
        // 70 frames or so and 74 slots for 4 × 40 pages; 3 × 40 fit.
        let tasks: Vec<_> = (0..programs)
            .map(|number| {
                let (space, area) = world.space_with(40);
                let machine = world.machine.clone();
                let program = async move {
                    let (_, mut end) = write_pages(machine.clone(), space, area, 40).await;
                    if end.is_ok() {
                        end = check_pages(machine.clone(), space, area, 40).await;
                    }
                    if end.is_err() {
                        // What the kernel does with a program that is out of memory.
                        machine.mm().destroy_space(space).await;
                    }
                    (space, end)
                };
                world.sim.spawn(Class::User, numbered("program", number), program)
            })
            .collect();
        world.sim.run().unwrap_or_else(|stuck| {
            panic!("seed {seed}: {stuck}\n{}{:#?}", world.sim.journal().print(), world.machine.mm().snapshot())
        });
        let ends: Vec<_> = tasks.into_iter().map(|task| world.run("end", task)).collect();
        let killed = ends.iter().filter(|(_, end)| *end == Err(FaultError::OutOfMemory)).count();
        assert_eq!(killed, 1, "seed {seed}: {ends:?}");
        assert_eq!(world.machine.mm().snapshot().counters.oom_kill, 1);
        ends.into_iter().for_each(|(space, _)| world.destroy(space));
        world.assert_empty();
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
