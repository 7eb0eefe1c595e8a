//! A disk that fails, lies and changes its mind costs the owner of the page at most that page, and nobody else anything.

use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::platform::Slot;
use mm::sim::{DiskConfig, PerMille, SimConfig, Trap};
use mm::space::{CopyError, SpaceId};
use tests::mm::{PAGE, World, pages, word};

/// Pages of one program, all of them out on the disk.
fn paged_out(world: &mut World, count: u64) -> (SpaceId, VirtAddr) {
    let (space, area) = world.space_with(count);
    let machine = world.machine.clone();
    world.run("writer", async move {
        let mut thread = Holds::default();
        for page in 0..count {
            machine.store(space, word(area, page, 1), page + 1, &mut thread).await.unwrap();
        }
        machine.mm().release_holds(&mut thread);
        machine.evict(space, pages(area, count));
    });
    world.settle();
    (space, area)
}

fn load(world: &mut World, space: SpaceId, addr: VirtAddr) -> Result<u64, Trap> {
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Holds::default();
        let value = machine.load(space, addr, &mut thread).await;
        machine.mm().release_holds(&mut thread);
        value
    })
}

fn end(mut world: World, space: SpaceId) {
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn f1_a_read_that_fails_once_is_tried_again() {
    let mut world = World::seeded(SimConfig::new(64, 256), 1);
    let (space, area) = paged_out(&mut world, 4);
    let slot = world.machine.slot_of(space, area).unwrap();
    world.machine.disk().fail_reads(slot, 1);
    assert_eq!(load(&mut world, space, word(area, 0, 1)), Ok(1));
    let counters = world.machine.mm().snapshot().counters;
    assert_eq!((counters.swap_read_err, counters.store_reads), (0, 2));
    end(world, space);
}

#[test]
fn f1_a_read_that_fails_twice_costs_the_owner_that_page_and_the_slot_is_never_used_again() {
    let mut world = World::seeded(SimConfig::new(64, 256), 2);
    let (space, area) = paged_out(&mut world, 4);
    let slot = world.machine.slot_of(space, word(area, 2, 0)).unwrap();
    world.machine.disk().fail_reads(slot, 2);
    assert_eq!(load(&mut world, space, word(area, 2, 1)), Err(FaultError::BadPage));
    assert_eq!(load(&mut world, space, word(area, 2, 1)), Err(FaultError::BadPage), "and for good");
    for page in [0, 1, 3] {
        assert_eq!(load(&mut world, space, word(area, page, 1)), Ok(page + 1));
    }
    let (machine, mut bytes) = (world.machine.clone(), [0; 8]);
    let copied = world.run("copy", async move { machine.mm().copy_in(space, word(area, 2, 0), &mut bytes).await });
    assert_eq!(copied, Err(CopyError::BadAddress));
    let now = world.machine.mm().snapshot();
    assert_eq!((now.counters.swap_read_err, now.slots.unwrap().bad), (1, 1));
    // A fresh mapping makes the page usable again.
    let machine = world.machine.clone();
    world.run("discard", async move { machine.mm().discard(space, word(area, 2, 0), PAGE).await.unwrap() });
    assert_eq!(load(&mut world, space, word(area, 2, 1)), Ok(0));
    end(world, space);
}

#[test]
fn f1_everybody_who_waits_for_a_lost_page_is_told_once() {
    let mut world = World::seeded(SimConfig::new(64, 256), 3);
    let (space, area) = paged_out(&mut world, 1);
    let slot = world.machine.slot_of(space, area).unwrap();
    world.machine.disk().fail_reads(slot, 2);
    let tasks: Vec<_> = (0..5)
        .map(|number| {
            let machine = world.machine.clone();
            let load = async move {
                let mut thread = Holds::default();
                machine.load(space, area, &mut thread).await
            };
            world.sim.spawn(executor::Class::User, tests::mm::numbered("reader", number), load)
        })
        .collect();
    world.sim.run().unwrap();
    for task in tasks {
        assert_eq!(world.run("result", task), Err(FaultError::BadPage));
    }
    let counters = world.machine.mm().snapshot().counters;
    assert_eq!((counters.store_reads, counters.swap_read_err), (2, 1));
    end(world, space);
}

#[test]
fn f6_an_altered_slot_is_found_whichever_bit_it_is() {
    for seed in 0..50 {
        let mut world = World::seeded(SimConfig::new(64, 256), seed);
        let (space, area) = paged_out(&mut world, 3);
        let slot = world.machine.slot_of(space, word(area, 1, 0)).unwrap();
        world.machine.disk().alter(slot);
        assert_eq!(load(&mut world, space, word(area, 1, 1)), Err(FaultError::BadPage));
        assert_eq!(load(&mut world, space, word(area, 0, 1)), Ok(1));
        assert_eq!(load(&mut world, space, word(area, 2, 1)), Ok(3));
        assert_eq!(world.machine.mm().snapshot().counters.swap_audit_err, 1);
        end(world, space);
    }
}

#[test]
fn f5_a_torn_write_is_found_when_the_page_comes_back() {
    let disk = DiskConfig { torn_writes: PerMille(1000), ..DiskConfig::good(256) };
    let mut world = World::seeded(SimConfig { disk: Some(disk), ..SimConfig::new(64, 256) }, 4);
    let (space, area) = world.space_with(1);
    let machine = world.machine.clone();
    world.run("writer", async move {
        machine.mm().copy_out(space, word(area, 0, 500), &[1, 2, 3]).await.unwrap();
        machine.evict(space, pages(area, 1));
    });
    world.settle();
    assert_eq!(load(&mut world, space, area), Err(FaultError::BadPage));
    end(world, space);
}

#[test]
fn f2_a_failed_write_keeps_the_pages_and_condemns_no_slot_for_another_s_fault() {
    let disk = DiskConfig { write_errors: PerMille(1000), ..DiskConfig::good(256) };
    let mut world = World::seeded(SimConfig { disk: Some(disk), ..SimConfig::new(64, 256) }, 5);
    let (space, area) = paged_out(&mut world, 8);
    let now = world.machine.mm().snapshot();
    assert_eq!(now.visible.committed_dirty, 8, "they stay: {now:?}");
    assert_eq!((now.counters.swap_write_err, now.slots.unwrap().bad), (8, 0));
    world.machine.disk().reconfigure(|disk| disk.write_errors = PerMille(0));
    world.machine.evict(space, pages(area, 8));
    world.settle();
    assert_eq!(world.machine.mm().snapshot().visible.paged_out, 8);
    for page in 0..8 {
        assert_eq!(load(&mut world, space, word(area, page, 1)), Ok(page + 1));
    }
    end(world, space);
}

/// Writes all pages and sends them off, as often as it takes for those that could not go.
fn write_out(world: &mut World, space: SpaceId, area: VirtAddr, count: u64, value: u64) {
    let machine = world.machine.clone();
    world.run("writer", async move {
        let mut thread = Holds::default();
        for page in 0..count {
            machine.store(space, word(area, page, 1), value + page, &mut thread).await.unwrap();
        }
        machine.mm().release_holds(&mut thread);
    });
    for _ in 0..20 {
        world.machine.evict(space, pages(area, count));
        world.settle();
    }
}

#[test]
fn f2_one_slot_that_cannot_be_written_is_found_and_costs_nothing_else() {
    for seed in 0..10 {
        // So few slots that every one is needed.
        let mut world = World::seeded(SimConfig::new(192, 128), seed);
        let (space, area) = world.space_with(120);
        world.machine.disk().fail_writes(Slot::new(70), u32::MAX);
        for round in 1..4 {
            write_out(&mut world, space, area, 120, round * 1000);
            for page in 0..120 {
                assert_eq!(load(&mut world, space, word(area, page, 1)), Ok(round * 1000 + page), "seed {seed}");
            }
            assert_eq!(world.machine.mm().snapshot().slots.unwrap().bad, 1, "seed {seed}");
        }
        end(world, space);
    }
}

/// A thin image on a full host: no write succeeds any more. That is seen soon, and no page is lost.
#[test]
fn f3_when_every_write_fails_slots_go_by_the_run_and_pages_stay() {
    let mut world = World::seeded(SimConfig::new(192, 4096), 6);
    let (space, area) = world.space_with(100);
    write_out(&mut world, space, area, 100, 1000);
    world.machine.disk().reconfigure(|disk| disk.write_errors = PerMille(1000));
    let before = world.machine.disk().counts().writes;
    write_out(&mut world, space, area, 100, 2000);
    while world.machine.mm().snapshot().slots.unwrap().free > 0 {
        world.machine.evict(space, pages(area, 100));
        world.settle();
    }
    let (now, writes) = (world.machine.mm().snapshot(), world.machine.disk().counts().writes - before);
    assert!(now.slots.unwrap().bad > 4000, "{now:?}");
    assert!(writes < 1000, "{writes} writes for 4096 slots");
    for page in 0..100 {
        assert_eq!(load(&mut world, space, word(area, page, 1)), Ok(2000 + page));
    }
    end(world, space);
}

/// What is on a disk that takes no writes any more can be read as often as anybody likes: a page that came in keeps its
/// copy, since that is its only way out.
#[test]
fn f3_a_disk_that_takes_no_writes_is_still_good_for_reading() {
    for seed in 0..10 {
        let mut world = World::seeded(SimConfig::new(96, 512), seed);
        let (space, area) = world.space_with(200);
        write_out(&mut world, space, area, 200, 1000);
        world.machine.disk().reconfigure(|disk| disk.write_errors = PerMille(1000));
        // Some pages cannot leave, and every slot that is free is lost on them.
        write_out(&mut world, space, area, 20, 2000);
        while world.machine.mm().snapshot().slots.unwrap().free > 0 {
            world.machine.evict(space, pages(area, 20));
            world.settle();
        }
        let machine = world.machine.clone();
        let reads = async move {
            let mut thread = Holds::default();
            for page in (0..200).cycle().take(1000) {
                let expected = if page < 20 { 2000 + page } else { 1000 + page };
                let found = machine.load(space, word(area, page, 1), &mut thread).await;
                assert_eq!(found, Ok(expected), "seed {seed}");
            }
            machine.mm().release_holds(&mut thread);
        };
        world.run("reader", reads);
        let now = world.machine.mm().snapshot();
        assert!(now.counters.swap_write_err > 0, "seed {seed}: {now:?}");
        assert_eq!((now.counters.oom_kill, now.counters.swap_read_err), (0, 0), "seed {seed}");
        end(world, space);
    }
}

/// A disk that takes one request at a time, whose reads fail: each retry takes the place, and queued requests must follow.
#[test]
fn requests_queued_behind_a_retry_are_not_forgotten() {
    let disk = DiskConfig { depth: 1, read_errors: PerMille(300), ..DiskConfig::good(256) };
    for seed in 0..20 {
        let mut world = World::seeded(SimConfig { disk: Some(disk), ..SimConfig::new(64, 256) }, seed);
        let (space, area) = paged_out(&mut world, 8);
        for page in 0..8 {
            let machine = world.machine.clone();
            let load = async move {
                let mut thread = Holds::default();
                let value = machine.load(space, word(area, page, 1), &mut thread).await;
                assert!(value == Ok(page + 1) || value == Err(FaultError::BadPage), "{value:?}");
                machine.mm().release_holds(&mut thread);
            };
            world.sim.spawn(executor::Class::User, tests::mm::numbered("reader", page as usize), load).detach();
        }
        world.sim.run().unwrap();
        end(world, space);
    }
}
