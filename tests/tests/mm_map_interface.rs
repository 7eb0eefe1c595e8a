//! What programs ask of their address space beyond map and unmap: move, populate, cool, lock, promise.

use mm::Config;
use mm::addr::VirtAddr;
use mm::platform::Rights;
use mm::sim::{SimConfig, SimMachine};
use mm::space::{
    Charge, Cooling, Label, Lock, LockLimit, MapError, MapRequest, Move, Overcommit, Placement, Populate,
    PopulateError, Residency, Scope, SpaceId,
};
use std::sync::Arc;
use tests::mm::{PAGE, Thread, World, anonymous, polled, ready, word};

/// Stores a word of its own in each page.
async fn write(machine: &Arc<SimMachine>, space: SpaceId, area: VirtAddr, pages: u64) {
    let mut thread = Thread::new(machine);
    for page in 0..pages {
        thread.store(space, word(area, page, 7), page + 1).await.unwrap();
    }
}

async fn check(machine: &Arc<SimMachine>, space: SpaceId, area: VirtAddr, pages: u64) {
    let mut thread = Thread::new(machine);
    for page in 0..pages {
        assert_eq!(thread.load(space, word(area, page, 7)).await, Ok(page + 1), "page {page}");
    }
}

fn resident(machine: &SimMachine, space: SpaceId, area: VirtAddr, pages: u64) -> u64 {
    let mut told = [Residency::Absent; 64];
    (0..pages)
        .step_by(64)
        .map(|first| {
            let told = &mut told[..(pages - first).min(64) as usize];
            machine.mm().residency(space, area.page().offset(first), told).unwrap();
            told.iter().filter(|page| **page == Residency::Resident).count() as u64
        })
        .sum()
}

fn at(area: VirtAddr, page: u64) -> VirtAddr {
    VirtAddr::new(area.as_u64() + page * PAGE)
}

#[test]
fn a_mapping_moves_with_all_that_is_in_it_wherever_that_is() {
    for seed in 0..6 {
        let mut world = World::seeded(SimConfig::new(64, 1024), seed);
        let (space, area) = world.space_with(120);
        let machine = world.machine.clone();
        world.run("program", async move {
            let mm = machine.mm();
            write(&machine, space, area, 100).await;
            assert_eq!(mm.remap(space, area, 120 * PAGE, 100 * PAGE, Move::Forbidden).await, Ok(area), "shrink");
            assert_eq!(mm.remap(space, area, 100 * PAGE, 110 * PAGE, Move::Forbidden).await, Ok(area), "grow in place");
            let blocker = MapRequest { rights: Rights::READ, ..anonymous(Placement::FixedNoReplace(at(area, 110)), 1) };
            mm.map(space, blocker).await.unwrap();
            let refused = mm.remap(space, area, 110 * PAGE, 200 * PAGE, Move::Forbidden).await;
            assert_eq!(refused, Err(MapError::NoRoom));
            let moved = mm.remap(space, area, 110 * PAGE, 200 * PAGE, Move::Allowed).await.unwrap();
            assert_ne!(moved, area);
            check(&machine, space, moved, 100).await;
            let mut thread = Thread::new(&machine);
            assert_eq!(thread.load(space, word(moved, 150, 7)).await, Ok(0));
            assert!(thread.load(space, area).await.is_err(), "the old place is free");
            assert_eq!(
                mm.remap(space, moved, 200 * PAGE, 100 * PAGE, Move::To(at(moved, 20))).await,
                Err(MapError::Invalid)
            );
            assert_eq!(mm.remap(space, moved, 200 * PAGE, 100 * PAGE, Move::To(area)).await, Ok(area));
            check(&machine, space, area, 100).await;
            assert_eq!(mm.remap(space, at(area, 90), 21 * PAGE, PAGE, Move::Allowed).await, Err(MapError::NotOneArea));
            machine.check();
        });
        world.destroy(space);
        world.assert_empty();
    }
}

#[test]
fn p14_p15_x13_populated_pages_are_resident_at_once_and_others_are_not() {
    let mut world = World::seeded(SimConfig::new(256, 1024), 1);
    let (space, area) = world.space_with(120);
    let machine = world.machine.clone();
    assert_eq!(resident(&machine, space, area, 120), 0);
    world.run("program", async move {
        let mm = machine.mm();
        mm.populate(space, area, 60 * PAGE, Populate::AsAllowed).await.unwrap();
        assert_eq!((resident(&machine, space, area, 60), resident(&machine, space, at(area, 60), 60)), (60, 0));
        let faults = mm.snapshot().counters.pgfault;
        write(&machine, space, area, 60).await;
        assert_eq!(mm.snapshot().counters.pgfault, faults, "nothing is left to fault on");
        mm.populate(space, at(area, 60), 60 * PAGE, Populate::Read).await.unwrap();
        assert_eq!(resident(&machine, space, area, 120), 120);
        mm.protect(space, area, PAGE, Rights::READ).await.unwrap();
        let refused = mm.populate(space, area, PAGE, Populate::Write).await;
        assert_eq!(refused, Err(PopulateError::Forbidden));
        let refused = mm.populate(space, at(area, 119), 2 * PAGE, Populate::Read).await;
        assert_eq!(refused, Err(PopulateError::Range(MapError::NotMapped)));
    });
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn pages_can_be_sent_out_and_fetched_ahead() {
    let mut world = World::seeded(SimConfig::new(256, 1024), 1);
    let (space, area) = world.space_with(100);
    let machine = world.machine.clone();
    world.run("out", async move {
        write(&machine, space, area, 100).await;
        machine.mm().cool(space, area, 100 * PAGE, Cooling::Out).await.unwrap();
    });
    world.settle();
    assert_eq!(resident(&world.machine, space, area, 100), 0);
    let machine = world.machine.clone();
    world.run("fetch", async move { machine.mm().prefetch(space, area, 40 * PAGE).await.unwrap() });
    world.settle();
    assert_eq!(resident(&world.machine, space, area, 100), 40);
    let machine = world.machine.clone();
    world.run("check", async move { check(&machine, space, area, 100).await });
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn cold_pages_go_first() {
    let mut world = World::seeded(SimConfig::new(128, 1024), 1);
    let (space, area) = world.space_with(200);
    let machine = world.machine.clone();
    world.run("program", async move {
        write(&machine, space, area, 80).await;
        machine.mm().cool(space, at(area, 40), 20 * PAGE, Cooling::Cold).await.unwrap();
        let mut thread = Thread::new(&machine);
        for page in 80..115 {
            thread.store(space, word(area, page, 7), page + 1).await.unwrap();
        }
    });
    world.settle();
    let (cold, others) = (resident(&world.machine, space, at(area, 40), 20), resident(&world.machine, space, area, 40));
    assert!(cold < 5 && others > 30, "{cold} of 20 cold pages, {others} of 40 others");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn e7_locked_pages_stay_and_there_is_a_limit_before_the_machine_is_stuck() {
    let mut world = World::seeded(SimConfig::new(128, 2048), 1);
    let (space, area) = world.space_with(400);
    let machine = world.machine.clone();
    world.run("program", async move {
        let mm = machine.mm();
        mm.lock(space, area, 20 * PAGE, Lock::Now).await.unwrap();
        assert_eq!((resident(&machine, space, area, 20), mm.locked_pages(space)), (20, 20));
        write(&machine, space, area, 400).await;
        assert_eq!(resident(&machine, space, area, 20), 20, "locked pages do not leave");
        check(&machine, space, area, 400).await;
        mm.set_lock_limit(space, LockLimit(30));
        let refused = mm.lock(space, at(area, 10), 21 * PAGE, Lock::OnFault).await;
        assert_eq!(refused, Err(PopulateError::Range(MapError::OverLimit)));
        mm.lock(space, at(area, 10), 20 * PAGE, Lock::OnFault).await.unwrap();
        mm.set_lock_limit(space, LockLimit(u64::MAX));
        // Half of the frames is the end, whatever the limit.
        let refused = mm.lock(space, at(area, 100), 60 * PAGE, Lock::OnFault).await;
        assert_eq!(refused, Err(PopulateError::Range(MapError::OverLimit)));
        assert_eq!(mm.discard(space, area, PAGE).await, Err(MapError::Locked));
        assert_eq!(mm.lock_all(space, Lock::Unlocked).await, Ok(()));
        assert_eq!(mm.locked_pages(space), 0);
        write(&machine, space, area, 400).await;
    });
    assert!(resident(&world.machine, space, area, 20) < 20, "what is not locked any more leaves");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn p9_what_may_not_be_written_to_is_not_promised() {
    let mm = Config { overcommit: Overcommit::Never { percent: 50 }, ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(256, 257) }, 1);
    let (space, _) = world.space_with(1);
    let mm = world.machine.mm();
    assert_eq!((mm.promised().promised, mm.promised().limit), (1, 128 + 256));
    let request = |rights, pages| MapRequest { rights, ..anonymous(Placement::Anywhere, pages) };
    let reserved = ready(mm.map(space, request(Rights::NONE, 1 << 18))).unwrap();
    assert_eq!(mm.promised().promised, 1, "PROT_NONE is only held");
    assert_eq!(ready(mm.map(space, request(Rights::READ_WRITE, 384))), Err(MapError::NoRoom));
    ready(mm.map_charged(space, request(Rights::READ_WRITE, 384), Charge::Never)).unwrap();
    ready(mm.map(space, request(Rights::READ_WRITE, 183))).unwrap();
    assert_eq!(ready(mm.protect(space, reserved, 201 * PAGE, Rights::READ_WRITE)), Err(MapError::NoRoom));
    ready(mm.protect(space, reserved, 200 * PAGE, Rights::READ_WRITE)).unwrap();
    assert_eq!(mm.promised().promised, 384);
    ready(mm.protect(space, reserved, 100 * PAGE, Rights::READ)).unwrap();
    assert_eq!(mm.promised().promised, 384, "what was promised stays promised");
    ready(mm.unmap(space, reserved, 200 * PAGE)).unwrap();
    assert_eq!(mm.promised().promised, 184);
    world.destroy(space);
    assert_eq!(world.machine.mm().promised().promised, 0);
}

#[test]
fn x4_neighbours_of_one_kind_are_one_area() {
    let mut world = World::seeded(SimConfig::new(64, 64), 1);
    let (space, area) = world.space_with(1);
    let mm = world.machine.mm();
    let areas = || {
        let mut count = 0;
        mm.vmas(space, &mut |_| count += 1);
        count
    };
    for page in 1..1000 {
        ready(mm.map(space, anonymous(Placement::FixedNoReplace(at(area, page)), 1))).unwrap();
    }
    assert_eq!(areas(), 1);
    for round in 0..10 {
        for page in (0..1000).step_by(2) {
            ready(mm.protect(space, at(area, page), PAGE, Rights::READ)).unwrap();
        }
        assert_eq!(areas(), 1000, "round {round}");
        polled(mm.protect(space, area, 1000 * PAGE, Rights::READ_WRITE), || ()).unwrap();
        assert_eq!(areas(), 1, "round {round}");
    }
    world.destroy(space);
}

#[test]
fn p17_what_is_put_anywhere_never_lands_in_a_reserved_hole() {
    let mut world = World::seeded(SimConfig::new(64, 64), 1);
    let (space, area) = world.space_with(4);
    let mm = world.machine.mm();
    let hole =
        MapRequest { rights: Rights::NONE, label: Label::Anonymous, ..anonymous(Placement::Fixed(at(area, 1)), 2) };
    ready(mm.map(space, hole)).unwrap();
    for i in 0..10_000u64 {
        let hint = VirtAddr::new(area.as_u64() + i % 4 * PAGE);
        let wish = if i % 2 == 0 { Placement::Anywhere } else { Placement::Hint(hint) };
        let there = ready(mm.map(space, anonymous(wish, 1 + i % 3))).unwrap();
        let pages = there.page()..there.page().offset(1 + i % 3);
        assert!(!(0..4).any(|page: u64| pages.contains(&area.page().offset(page))), "{there:?}");
    }
    world.destroy(space);
}

#[test]
fn m2_reading_commits_without_a_frame_and_writing_takes_one() {
    let mut world = World::seeded(SimConfig::new(128, 256), 1);
    let (space, area) = world.space_with(1000);
    let machine = world.machine.clone();
    world.run("program", async move {
        let mut thread = Thread::new(&machine);
        for page in 0..1000 {
            assert_eq!(thread.load(space, word(area, page, 3)).await, Ok(0));
        }
        let read = machine.mm().snapshot();
        assert_eq!((read.visible.committed_clean, read.visible.uncommitted, read.pages.framed()), (1000, 0, 0));
        for page in 0..50 {
            thread.store(space, word(area, page, 3), 1).await.unwrap();
        }
        let written = machine.mm().snapshot();
        assert_eq!((written.visible.committed_dirty, written.pages.framed()), (50, 50));
        assert_eq!(written.visible.committed_clean, 950);
    });
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn m3_a_page_that_was_only_read_is_not_written_out_again() {
    let mut world = World::seeded(SimConfig::new(256, 1024), 1);
    let (space, area) = world.space_with(100);
    let out = |world: &mut World| {
        let machine = world.machine.clone();
        world.run("out", async move { machine.mm().cool(space, area, 100 * PAGE, Cooling::Out).await.unwrap() });
        world.settle();
        assert_eq!(resident(&world.machine, space, area, 100), 0);
        world.machine.mm().snapshot().counters.pswpout
    };
    let machine = world.machine.clone();
    world.run("write", async move { write(&machine, space, area, 100).await });
    assert_eq!(out(&mut world), 100, "each page is written once");
    let machine = world.machine.clone();
    world.run("read", async move { check(&machine, space, area, 100).await });
    assert_eq!(out(&mut world), 100, "what was read only leaves for free");
    let machine = world.machine.clone();
    world.run("write", async move { write(&machine, space, area, 30).await });
    assert_eq!(out(&mut world), 130, "what was written is written");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn e7_locked_pages_that_a_child_shares_stay_whoever_uses_them() {
    let mut world = World::seeded(SimConfig::new(128, 2048), 1);
    let (space, area) = world.space_with(400);
    let machine = world.machine.clone();
    let child = world.run("programs", async move {
        let mm = machine.mm();
        mm.lock(space, area, 20 * PAGE, Lock::Now).await.unwrap();
        write(&machine, space, area, 20).await;
        let child = machine.create_space().unwrap();
        mm.fork_space(space, child).await.unwrap();
        // Locks are not inherited, and neither of the two uses the pages.
        write(&machine, child, at(area, 20), 380).await;
        write(&machine, space, at(area, 20), 380).await;
        assert_eq!(resident(&machine, space, area, 20), 20, "locked pages do not leave");
        check(&machine, child, area, 20).await;
        check(&machine, child, at(area, 20), 380).await;
        child
    });
    world.destroy(child);
    world.destroy(space);
    world.assert_empty();
}

/// A block of which nothing is left takes no place among those that there may be, however it went.
#[test]
fn m10_blocks_that_are_replaced_unmapped_or_moved_are_forgotten() {
    let mm = Config { areas: 8, ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(64, 64) }, 1);
    let (machine, space) = (world.machine.clone(), world.machine.create_space().expect("a root"));
    let mm = machine.mm();
    for turn in 0..30 {
        let block = ready(mm.allocate(space, Scope::Space, 4 * PAGE, Rights::READ_WRITE)).expect("there is room");
        match turn % 4 {
            0 => {
                assert_eq!(ready(mm.map(space, anonymous(Placement::Fixed(block), 4))), Ok(block));
                assert_eq!(ready(mm.free_block(space, block)), Err(MapError::Invalid), "it is another's now");
                ready(mm.unmap(space, block, 4 * PAGE)).unwrap();
            }
            1 => {
                ready(mm.unmap(space, word(block, 1, 0), 2 * PAGE)).unwrap();
                assert_eq!(ready(mm.unmap(space, block, 4 * PAGE)), Ok(()), "the rest");
            }
            2 => {
                let there = VirtAddr::new(1 << 33);
                polled(mm.remap(space, block, 4 * PAGE, 4 * PAGE, Move::To(there)), || ()).unwrap();
                ready(mm.unmap(space, there, 4 * PAGE)).unwrap();
            }
            _ => {
                ready(mm.unmap(space, word(block, 1, 0), 2 * PAGE)).unwrap();
                assert_eq!(ready(mm.free_block(space, block)), Ok(()), "what is left of it");
            }
        }
    }
    world.destroy(space);
}
