//! What is seen of pages and frames from outside agrees with what the manager counts.

use mm::addr::{Pfn, VirtAddr};
use mm::fault::Holds;
use mm::frame::Residence;
use mm::inspect::{FrameSight, Ownership, Sight};
use mm::sim::SimConfig;
use mm::space::SpaceId;
use tests::mm::{PAGE, Thread, World, pages, word};

/// Sights of the pages of an area, gathered a few at a time.
fn look(world: &World, space: SpaceId, area: VirtAddr, count: u64, limit: usize) -> Vec<(u64, Sight)> {
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
        assert_eq!(
            count(|sight| matches!(sight, Sight::Slot(..) | Sight::Word(_) | Sight::Compressed(_))),
            counts.away()
        );
        assert_eq!(count(|sight| matches!(sight, Sight::Zero(_))), 10);
        let private = |sight: &Sight| !matches!(sight, Sight::Resident(page) if page.ownership != Ownership::Private || page.sharers() > 1);
        assert!(seen.iter().all(|(_, sight)| private(sight)));
    }
}

/// Shares are counted in parts of a page that up to four spaces divide without a rest.
const PARTS: u64 = 12;

/// What `smaps` makes of the pages of an area: resident, their shares, away.
fn tally(world: &World, space: SpaceId, area: VirtAddr, count: u64) -> [u64; 3] {
    let (mut resident, mut shares, mut away) = (0, 0, 0);
    for (_, sight) in look(world, space, area, count, 7) {
        match sight {
            Sight::Resident(page) if page.counts() => {
                resident += 1;
                shares += PARTS / page.sharers();
            }
            Sight::Slot(..) | Sight::Word(_) | Sight::Compressed(_) => away += 1,
            _ => {}
        }
    }
    [resident, shares, away]
}

/// Each page in RAM is in the shares of those who have it, once in all; and what each space has is the sum over its pages.
fn check_shares(world: &mut World, spaces: &[SpaceId], area: VirtAddr, count: u64, when: &str) {
    world.settle();
    let mut shares = 0;
    for &space in spaces {
        let [resident, share, away] = tally(world, space, area, count);
        let machine = world.machine.clone();
        let whole = world.run("footprint", async move { machine.mm().footprint(space).await }).unwrap();
        assert_eq!((whole.resident, whole.away), (resident, away), "{when}: {space:?}");
        shares += share;
    }
    let in_ram = world.machine.mm().snapshot().pages.resident();
    assert_eq!(shares, in_ram * PARTS, "{when}: the shares of {in_ram} pages");
}

fn store(world: &mut World, space: SpaceId, addr: VirtAddr, value: u64) {
    let machine = world.machine.clone();
    world.run("store", async move { Thread::new(&machine).store(space, addr, value).await }).unwrap();
}

fn fork(world: &mut World, parent: SpaceId) -> SpaceId {
    let machine = world.machine.clone();
    world.run("fork", async move {
        let child = machine.create_space().unwrap();
        machine.mm().fork_space(parent, child).await.unwrap();
        child
    })
}

/// X16: page tables are a cache, so nothing that happens to them alone may change what a process is said to have.
#[test]
fn x16_the_shares_of_all_spaces_are_the_pages_in_ram_after_fork_eviction_unmapping_and_lost_tables() {
    const COUNT: u64 = 40;
    let mut world = World::seeded(SimConfig::new(512, 2048), 6);
    let (parent, area) = world.space_with(COUNT);
    (0..COUNT).for_each(|page| store(&mut world, parent, word(area, page, 1), 1 + page));
    let mut spaces = vec![parent];
    check_shares(&mut world, &spaces, area, COUNT, "one space");
    for generation in 0..3 {
        spaces.push(fork(&mut world, parent));
        check_shares(&mut world, &spaces, area, COUNT, "nobody has touched a page since the fork");
        store(&mut world, spaces[1], word(area, generation, 1), 100);
        store(&mut world, parent, word(area, 10 + generation, 1), 100);
        check_shares(&mut world, &spaces, area, COUNT, "two pages are copied");
    }
    for space in spaces.clone() {
        world.machine.evict(space, pages(word(area, 5, 0), 12));
    }
    check_shares(&mut world, &spaces, area, COUNT, "some pages are in swap");
    let machine = world.machine.clone();
    let child = spaces[2];
    world.run("load", async move {
        let mut thread = Thread::new(&machine);
        for page in 8..12 {
            thread.load(child, word(area, page, 1)).await.unwrap();
        }
    });
    check_shares(&mut world, &spaces, area, COUNT, "one space has read some of them back");
    let machine = world.machine.clone();
    world.run("unmap", async move { machine.mm().unmap(child, word(area, 3, 0), 20 * PAGE).await }).unwrap();
    check_shares(&mut world, &spaces, area, COUNT, "one space has unmapped a part");
    world.destroy(spaces.remove(1));
    check_shares(&mut world, &spaces, area, COUNT, "one space is gone");
    spaces.drain(..).for_each(|space| world.destroy(space));
    world.assert_empty();
}

/// As above, with so little memory that page tables go, too.
#[test]
fn x16_pages_stay_resident_when_reclaim_takes_their_page_tables() {
    const COUNT: u64 = 24;
    let mut world = World::seeded(SimConfig::new(96, 2048), 8);
    let (parent, area) = world.space_with(COUNT);
    (0..COUNT).for_each(|page| store(&mut world, parent, word(area, page, 1), 1 + page));
    let child = fork(&mut world, parent);
    let mut spaces = vec![parent, child];
    for round in 0..40 {
        let (other, wide) = world.space_with(1 << 16);
        (0..40).for_each(|far| store(&mut world, other, word(wide, far * 1000 + round, 0), round + 1));
        world.destroy(other);
        if round % 3 == 0 {
            store(&mut world, spaces[round as usize % 2], word(area, round % COUNT, 1), 7);
        }
        check_shares(&mut world, &spaces, area, COUNT, "under pressure");
    }
    let counters = world.machine.mm().snapshot().counters;
    assert!(counters.ptdrop > 0 && counters.pswpout > 0, "there was pressure: {counters:?}");
    spaces.drain(..).for_each(|space| world.destroy(space));
    world.assert_empty();
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
