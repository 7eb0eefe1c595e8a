//! The simulated machine finds three bugs that are planted here: a skipped TLB flush, a double free, a lost wake-up.

use executor::Class;
use executor::sim::Stuck;
use mm::fault::Holds;
use mm::frame::{Frame, FrameKind};
use mm::sim::{Planted, SimConfig};
use mm::{Config, addr::VirtAddr, space::SpaceId};
use tests::mm::{World, pages, word};

fn world(plant: Option<Planted>) -> World {
    let mm = Config { plant, ..Config::default() };
    World::seeded(SimConfig { mm, ..SimConfig::new(64, 256) }, 1)
}

/// A page is written and goes to the disk.
fn page_out(world: &mut World) -> (SpaceId, VirtAddr) {
    let (space, area) = world.space_with(4);
    let machine = world.machine.clone();
    world.run("writer", async move {
        let mut thread = Holds::default();
        machine.store(space, word(area, 0, 7), 42, &mut thread).await.unwrap();
        machine.mm().release_holds(&mut thread);
        machine.evict(space, pages(area, 1));
    });
    world.sim.settle().unwrap();
    (space, area)
}

fn read_back(world: &mut World, space: SpaceId, area: VirtAddr) -> u64 {
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Holds::default();
        let value = machine.load(space, word(area, 0, 7), &mut thread).await;
        machine.mm().release_holds(&mut thread);
        value.unwrap()
    })
}

#[test]
fn without_a_planted_bug_the_page_comes_back() {
    let mut world = world(None);
    let (space, area) = page_out(&mut world);
    assert_eq!(read_back(&mut world, space, area), 42);
    world.destroy(space);
    world.assert_empty();
}

#[test]
#[should_panic(expected = "stale TLB entry")]
fn a_skipped_flush_is_found_when_the_translation_is_used() {
    let mut world = world(Some(Planted::SkippedFlush));
    let (space, area) = page_out(&mut world);
    read_back(&mut world, space, area);
}

#[test]
#[should_panic(expected = "stale TLB entry")]
fn a_skipped_flush_is_found_when_the_space_goes_without_another_access() {
    let mut world = world(Some(Planted::SkippedFlush));
    let (space, _) = page_out(&mut world);
    world.destroy(space);
}

#[test]
#[should_panic(expected = "double free of frame")]
fn a_double_free_of_a_frame_is_found() {
    let mut world = world(None);
    let (space, area) = page_out(&mut world);
    read_back(&mut world, space, area);
    let frame = world.machine.frame_of(space, area).expect("it was just read");
    world.machine.mm().frames().free(Frame::forge_for_test(frame, FrameKind::User));
    world.destroy(space);
}

#[test]
fn a_lost_wake_up_is_found_with_the_name_of_who_waits() {
    let mut world = world(Some(Planted::LostWakeup));
    let (space, area) = page_out(&mut world);
    let machine = world.machine.clone();
    let reader = async move {
        let mut thread = Holds::default();
        machine.load(space, area, &mut thread).await
    };
    world.sim.spawn(Class::User, "reader", reader).detach();
    let Err(Stuck::Deadlock { waiting, .. }) = world.sim.run() else { panic!("nobody noticed") };
    assert_eq!(waiting.iter().map(|task| task.name.kind()).collect::<Vec<_>>(), ["reader"]);
}
