//! Page tables are a cache, and give way like pages when frames are short (design D6, row E5).

use executor::Class;
use executor::sim::{Order, Settings};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::Holds;
use mm::platform::Access;
use mm::sim::{SimConfig, SimMachine};
use mm::space::SpaceId;
use std::sync::Arc;
use tests::mm::{PAGE, World, numbered, settings, word};

/// Bytes that a last-level table covers.
const REGION: u64 = 2 << 20;

/// Where region `index` begins that has room for its pages; areas need not begin at the border of a table.
fn region(area: VirtAddr, index: u64) -> VirtAddr {
    VirtAddr::new(area.as_u64() + index * REGION)
}

/// Reads a word of each region; all of it is zeroes.
async fn read_one_page_each(machine: Arc<SimMachine>, space: SpaceId, area: VirtAddr, regions: u64) {
    let mut holds = Holds::default();
    for index in 0..regions {
        let addr = VirtAddr::new(region(area, index).as_u64() + index % 512 * 8);
        assert_eq!(machine.load(space, addr, &mut holds).await, Ok(0), "region {index}");
    }
    machine.mm().release_holds(&mut holds);
}

#[test]
fn x6_the_page_tables_of_the_simulator_keep_the_contract() {
    let machine = SimMachine::new(SimConfig::new(256, 64));
    let before = machine.frames().counts().free;
    for seed in 0..20 {
        let walked = machine.walk_table(20_000, seed);
        let all = [walked.mapped, walked.refused, walked.unmapped, walked.retired];
        assert!(all.iter().all(|count| *count > 50), "seed {seed}: {walked:?}");
        assert_eq!(machine.frames().counts().free, before, "seed {seed}: every table's frame is back");
    }
}

#[test]
fn e5_a_page_read_in_every_table_s_range_is_no_end_of_memory() {
    const REGIONS: u64 = 3000;
    for seed in 0..4 {
        let mut world = World::seeded(SimConfig::new(96, 256), seed);
        let (space, area) = world.space_with(REGIONS * REGION / PAGE);
        for _ in 0..2 {
            let reader = read_one_page_each(world.machine.clone(), space, area, REGIONS);
            world.run("reader", reader);
        }
        world.settle();
        let end = world.machine.mm().snapshot();
        assert!(end.counters.ptdrop > 2 * REGIONS - 200, "{end:?}");
        assert_eq!((end.counters.oom_kill, end.visible.committed_clean), (0, REGIONS), "{end:?}");
        world.destroy(space);
        world.assert_empty();
    }
}

#[test]
fn tables_that_are_used_stay_while_idle_ones_go() {
    let mut world = World::seeded(SimConfig::new(128, 1024), 5);
    let (space, area) = world.space_with(400 * REGION / PAGE);
    let machine = world.machine.clone();
    let (rounds, rereads) = world.run("reader", async move {
        let mut holds = Holds::default();
        let (mut again, mut faults) = (0, 0);
        for index in 16..400 {
            machine.load(space, region(area, index), &mut holds).await.unwrap();
            for hot in 0..4 {
                let before = machine.mm().snapshot().counters.pgfault;
                machine.load(space, region(area, hot), &mut holds).await.unwrap();
                faults += machine.mm().snapshot().counters.pgfault - before;
                again += 1;
            }
        }
        machine.mm().release_holds(&mut holds);
        (again, faults)
    });
    assert!(rereads < rounds / 20, "{rereads} faults in {rounds} reads of four hot pages");
    world.destroy(space);
    world.assert_empty();
}

/// What a table maps keeps its contents, its D bits and its place on the way out.
#[test]
fn tables_full_of_dirty_pages_give_way_and_nothing_is_lost() {
    const REGIONS: u64 = 300;
    for seed in 0..4 {
        let mut world = World::seeded(SimConfig::new(160, 4096), seed);
        let (space, area) = world.space_with(REGIONS * REGION / PAGE);
        let machine = world.machine.clone();
        world.run("program", async move {
            let mut holds = Holds::default();
            for round in 0..3u64 {
                for index in 0..REGIONS {
                    // Two pages, so that a table does not go with its only one.
                    for page in 0..2 {
                        let addr = word(region(area, index), page, 0);
                        let found = machine.load(space, addr, &mut holds).await.unwrap();
                        let stored = if round == 0 { 0 } else { round << 32 | index << 1 | page };
                        assert_eq!(found, stored, "round {round} region {index} page {page}");
                        machine.store(space, addr, (round + 1) << 32 | index << 1 | page, &mut holds).await.unwrap();
                    }
                }
            }
            machine.mm().release_holds(&mut holds);
        });
        assert!(world.machine.mm().snapshot().counters.ptdrop > 0);
        world.destroy(space);
        world.assert_empty();
    }
}

/// An instruction that needs several pages of zeroes at once, each behind a table of its own, gets them all: nothing holds the frame
/// of zeroes, so it is the tables that are held (design D4).
#[test]
fn an_instruction_keeps_the_tables_of_the_zeroes_it_reads() {
    const AT_ONCE: u64 = 4;
    for seed in 0..8 {
        let mm = Config { torture: true, ..Config::default() };
        // Reclaim runs before the thread does, as in the kernel: what is not held is gone.
        let settings = Settings { max_steps: 400_000, order: Order::AsInKernel, ..settings(seed) };
        let mut world = World::new(SimConfig { mm, seed, ..SimConfig::new(40, 256) }, settings);
        let (space, area) = world.space_with(4 * AT_ONCE * REGION / PAGE);
        for number in 0..2 {
            let machine = world.machine.clone();
            let work = async move {
                let mut holds = Holds::default();
                for round in 0..50u64 {
                    let first = (number * 2 + round % 2) * AT_ONCE;
                    'again: loop {
                        for index in first..first + AT_ONCE {
                            let addr = region(area, index);
                            if machine.try_access(space, addr, Access::Read, |word| assert_eq!(*word, 0)).is_none() {
                                machine.mm().fault(space, addr, Access::Read, round + 1, &mut holds).await.unwrap();
                                // Back in user mode, where a timer may strike before the instruction gets anywhere.
                                executor::yield_now().await;
                                continue 'again;
                            }
                        }
                        break;
                    }
                    machine.mm().release_holds(&mut holds);
                }
            };
            world.sim.spawn(Class::User, numbered("thread", number as usize), work).detach();
        }
        world.sim.run().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}\n{}", world.sim.journal().print()));
        assert!(world.machine.mm().snapshot().counters.ptdrop > 50);
        world.destroy(space);
        world.assert_empty();
    }
}
