//! Address spaces of very many areas, and what a map of areas promises.

use mm::addr::VirtAddr;
use mm::platform::Rights;
use mm::sim::{SimConfig, SimMachine};
use mm::space::{Lock, MapError, MapRequest, Placement, SpaceId};
use std::sync::Arc;
use tests::mm::{PAGE, World, anonymous, polled, ready};

/// More than fit in a few polls.
const AREAS: u64 = 10_000;

/// Looks at areas in one poll: 256 areas are looked for, changed and merged, each on a path of a tree of 14 levels, a few times.
const MOST_LOOKS: u64 = 256 * 300;

fn at(area: VirtAddr, page: u64) -> VirtAddr {
    VirtAddr::new(area.as_u64() + page * PAGE)
}

/// A space in which every other page has other rights, so that there are as many areas as pages.
fn striped(world: &mut World) -> (SpaceId, VirtAddr) {
    let (space, area) = world.space_with(AREAS);
    let mm = world.machine.mm();
    for page in (0..AREAS).step_by(2) {
        ready(mm.protect(space, at(area, page), PAGE, Rights::READ)).unwrap();
    }
    (space, area)
}

/// Polls to the end; no poll may look at more areas than that.
fn in_small_steps<F: Future>(machine: &Arc<SimMachine>, space: SpaceId, what: &str, future: F) -> F::Output {
    let (mut before, mut worst, mut polls) = (machine.mm().area_looks(space), 0, 0);
    let output = polled(future, || {
        let now = machine.mm().area_looks(space);
        worst = worst.max(now.saturating_sub(before));
        before = now;
        polls += 1;
    });
    println!("{what}: {polls} polls, at most {worst} looks in one");
    assert!(worst <= MOST_LOOKS, "{what}: {worst} looks in one poll");
    assert!(polls >= AREAS / 256, "{what}: {polls} polls");
    output
}

#[test]
fn x3_what_changes_very_many_areas_gives_way_in_between() {
    let mut world = World::seeded(SimConfig::new(256, 64), 1);
    let (space, area) = striped(&mut world);
    let machine = world.machine.clone();
    let mm = machine.mm();
    let len = AREAS * PAGE;
    // No page is resident, so that all the work is that with areas.
    in_small_steps(&machine, space, "munlock", mm.lock(space, area, len, Lock::Unlocked)).unwrap();
    in_small_steps(&machine, space, "mprotect", mm.protect(space, area, len, Rights::READ_WRITE)).unwrap();
    assert_eq!(areas(&world, space), 1, "they are alike now");
    world.destroy(space);

    let (space, area) = striped(&mut world);
    in_small_steps(&machine, space, "munmap", mm.unmap(space, area, len)).unwrap();
    assert_eq!(areas(&world, space), 0);
    assert_eq!(ready(mm.map(space, anonymous(Placement::FixedNoReplace(area), AREAS))), Ok(area), "all of it is free");
    world.destroy(space);

    let (space, _) = striped(&mut world);
    in_small_steps(&machine, space, "exit", mm.destroy_space(space));
    world.assert_empty();
}

fn areas(world: &World, space: SpaceId) -> usize {
    let mut count = 0;
    world.machine.mm().vmas(space, &mut |_| count += 1);
    count
}

#[test]
fn what_is_mapped_while_its_neighbours_go_stays() {
    let mut world = World::seeded(SimConfig::new(256, 64), 1);
    let (space, area) = striped(&mut world);
    let mm = world.machine.mm();
    let mut placed = false;
    // The first areas are gone and the last are not: somebody else takes a place among those that are free.
    polled(mm.unmap(space, area, AREAS * PAGE), || {
        placed = placed || ready(mm.map(space, anonymous(Placement::FixedNoReplace(area), 1))) == Ok(area);
    })
    .unwrap();
    assert!(placed);
    assert_eq!(mm.space_pages(space).map(|(mapped, _)| mapped), Some(1));
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn e6_one_area_too_many_is_refused_and_nothing_else_changes() {
    let mut world = World::seeded(SimConfig::new(8192, 64), 1);
    let (space, area) = world.space_with(70_000);
    let mm = world.machine.mm();
    let refused = (0..70_000).find(|page| {
        let done = ready(mm.protect(space, at(area, 2 * page), PAGE, Rights::READ));
        assert!(done == Ok(()) || done == Err(MapError::NoRoom), "{done:?}");
        done.is_err()
    });
    assert_eq!(refused.map(|page| 2 * page), Some(65_530), "as many as Linux allows");
    let now = areas(&world, space);
    assert_eq!(
        ready(mm.map(space, anonymous(Placement::Anywhere, 1))).err(),
        (now == 65_530).then_some(MapError::NoRoom)
    );
    ready(mm.unmap(space, area, PAGE)).unwrap();
    assert_eq!(areas(&world, space), now - 1);
    world.destroy(space);
    world.assert_empty();
}

/// Nearby is the highest gap that ends no higher than the wish. No program asks for that: Linux promises another place and no
/// more, and programs' claims are to hold there, too.
#[test]
fn m9_a_wish_that_cannot_be_met_is_moved_to_the_nearest_gap_below() {
    let mut world = World::seeded(SimConfig::new(64, 64), 1);
    let space = world.machine.create_space().expect("a root");
    let at = |page: u64| VirtAddr::new(0x4000_0000 + page * PAGE);
    // The wish, its pages, and where they are put: met; all of it taken; the same again; its first page taken.
    for (wish, pages, place) in [(100, 8, 100), (104, 4, 96), (104, 4, 92), (107, 2, 90), (95, 1, 89)] {
        let found = ready(world.machine.mm().map(space, anonymous(Placement::Hint(at(wish)), pages)));
        assert_eq!(found, Ok(at(place)), "{pages} pages wished for at {wish}");
    }
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn p10_space_without_contents_costs_areas_and_nothing_else() {
    let mut world = World::seeded(SimConfig::new(64, 64), 1);
    let mm = world.machine.mm();
    let before = mm.snapshot();
    let (space, _) = world.space_with(1);
    let mm = world.machine.mm();
    let reserved = MapRequest { rights: Rights::NONE, ..anonymous(Placement::Anywhere, 1 << 28) };
    let there = ready(mm.map(space, reserved)).unwrap();
    let after = mm.snapshot();
    assert_eq!(after.frames.free, before.frames.free - 1, "the root of its page tables");
    assert_eq!(mm.space_pages(space).map(|(mapped, pages)| (mapped, pages.resident())), Some((1 + (1 << 28), 0)));
    let elsewhere = ready(mm.map(space, anonymous(Placement::Hint(there), 4))).unwrap();
    assert!(elsewhere.page() < there.page() || elsewhere.page() >= there.page().offset(1 << 28), "{elsewhere:?}");
    world.destroy(space);
    world.assert_empty();
}
