//! What is seen of pages and frames from outside agrees with what the manager counts.

use mm::addr::Pfn;
use mm::fault::Holds;
use mm::frame::Residence;
use mm::inspect::{FrameSight, Ownership, Presence, Sight};
use mm::sim::SimConfig;
use mm::space::SpaceId;
use tests::mm::{World, pages, word};

/// Sights of the pages of an area, gathered a few at a time.
fn look(world: &World, space: SpaceId, area: mm::addr::VirtAddr, count: u64, limit: usize) -> Vec<(u64, Sight)> {
    let range = pages(area, count);
    let (mut seen, mut next) = (Vec::new(), Some(range.start));
    while let Some(start) = next {
        let rest = mm::addr::PageRange { start, ..range };
        next = world.machine.mm().look(space, rest, limit, &mut |page, sight| {
            seen.push((page.as_u64() - range.start.as_u64(), sight));
        });
    }
    seen
}

#[test]
fn every_page_is_seen_once_and_as_it_is_counted() {
    let mut world = World::seeded(SimConfig::new(512, 2048), 5);
    let (space, area) = world.space_with(300);
    assert!(look(&world, space, area, 300, 64).is_empty(), "nothing is touched");
    let machine = world.machine.clone();
    world.run("toucher", async move {
        let mut holds = Holds::default();
        for page in 0..100 {
            machine.store(space, word(area, page, 1), 1000 + page, &mut holds).await.unwrap();
        }
        for page in 200..210 {
            assert_eq!(machine.load(space, word(area, page, 0), &mut holds).await, Ok(0));
        }
        machine.mm().release_holds(&mut holds);
    });
    world.machine.evict(space, pages(area, 40));
    world.settle();
    for limit in [1, 7, 64, 1000] {
        let seen = look(&world, space, area, 300, limit);
        let expected: Vec<_> = (0..100).chain(200..210).collect();
        assert_eq!(seen.iter().map(|(page, _)| *page).collect::<Vec<_>>(), expected, "limit {limit}");
        let count = |wanted: fn(&Sight) -> bool| seen.iter().filter(|(_, sight)| wanted(sight)).count() as u64;
        let (_, counts) = world.machine.mm().space_pages(space).unwrap();
        assert_eq!(count(|sight| matches!(sight, Sight::Resident(_))), counts.resident());
        assert_eq!(count(|sight| matches!(sight, Sight::Slot(_) | Sight::Word)), counts.away());
        assert_eq!(count(|sight| matches!(sight, Sight::Zero(_))), 10);
        let private = |sight: &Sight| !matches!(sight, Sight::Resident(page) if page.ownership != Ownership::Private || page.mappings > 1);
        assert!(seen.iter().all(|(_, sight)| private(sight)));
    }
}

#[test]
fn a_page_that_two_spaces_have_is_seen_as_shared_where_it_is_mapped() {
    let mut world = World::seeded(SimConfig::new(512, 2048), 6);
    let (parent, area) = world.space_with(8);
    let machine = world.machine.clone();
    let child = world.run("parent", async move {
        let mut holds = Holds::default();
        for page in 0..8 {
            machine.store(parent, word(area, page, 1), 1 + page, &mut holds).await.unwrap();
        }
        machine.mm().release_holds(&mut holds);
        let child = machine.create_space().unwrap();
        machine.mm().fork_space(parent, child).await.unwrap();
        for space in [parent, child] {
            assert_eq!(machine.load(space, word(area, 3, 1), &mut holds).await, Ok(4));
            machine.mm().release_holds(&mut holds);
        }
        child
    });
    for space in [parent, child] {
        let seen = look(&world, space, area, 8, 3);
        let Some((3, Sight::Resident(page))) = seen.get(3) else { panic!("{seen:?}") };
        assert_eq!((page.ownership, page.mappings, page.here), (Ownership::Forked(2), 2, Presence::Mapped));
    }
}

#[test]
fn every_frame_has_an_owner_and_the_owners_add_up() {
    let mut world = World::seeded(SimConfig::new(512, 2048), 7);
    let (space, area) = world.space_with(600);
    let machine = world.machine.clone();
    world.run("toucher", async move {
        let mut holds = Holds::default();
        for page in 0..600 {
            machine.store(space, word(area, page, 1), page, &mut holds).await.unwrap();
        }
        machine.mm().release_holds(&mut holds);
    });
    world.settle();
    let mm = world.machine.mm();
    let (mut seen, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        next = mm.look_at_frames(from, 100, &mut |frame: Pfn, sight| seen.push((frame, sight)));
    }
    assert_eq!(seen.len(), mm.frame_span());
    assert!(seen.iter().enumerate().all(|(index, (frame, _))| frame.index() == index));
    let now = mm.snapshot();
    let count = |wanted: fn(FrameSight) -> bool| seen.iter().filter(|(_, sight)| wanted(*sight)).count();
    assert_eq!(count(|sight| sight == FrameSight::Free), now.frames.free);
    assert_eq!(count(|sight| sight == FrameSight::Zero), 1);
    let is_page = |sight| matches!(sight, FrameSight::Page(residence) if residence != Residence::Table);
    assert_eq!(count(is_page) as u64, now.pages.framed() + now.orphaned_io);
}
