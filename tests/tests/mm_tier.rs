//! The compressed tier: what is in it is there again without the disk, and leaves it for the disk in clusters.

use mm::Config;
use mm::addr::VirtAddr;
use mm::frame::FrameKind;
use mm::group::GroupLimits;
use mm::inspect::Sight;
use mm::object::Sharing;
use mm::reclaim::Watermarks;
use mm::sim::{DiskConfig, PerMille, SimConfig};
use mm::space::{Move, SpaceId};
use mm::stats::{PageClass, Snapshot};
use mm::tier::{Compression, TierState};
use tests::mm::{PAGE, Thread, World, pages, ready, window, word};

/// A machine with a tier of so many frames.
fn with_tier(frames: usize, tier: usize) -> SimConfig {
    let mm = Config { compression: Compression::On, tier_frames: Some(tier), ..Config::default() };
    SimConfig { mm, ..SimConfig::new(frames, 4096) }
}

fn store(world: &mut World, space: SpaceId, addr: VirtAddr, value: u64) {
    let machine = world.machine.clone();
    let stored = world.run("store", async move { Thread::new(&machine).store(space, addr, value).await });
    assert_eq!(stored, Ok(()));
}

fn expect(world: &mut World, space: SpaceId, addr: VirtAddr, value: u64) {
    let machine = world.machine.clone();
    let loaded = world.run("load", async move { Thread::new(&machine).load(space, addr).await });
    assert_eq!(loaded, Ok(value), "at {addr:?}");
}

/// What is stored in a page: few words, which get small or, one time in fourteen, do not.
fn value(page: u64) -> u64 {
    page * 0x1_0001 + 1
}

fn store_pages(world: &mut World, space: SpaceId, area: VirtAddr, count: u64) {
    (0..count).for_each(|page| store(world, space, word(area, page, page), value(page)));
}

fn expect_pages(world: &mut World, space: SpaceId, area: VirtAddr, count: u64) {
    (0..count).for_each(|page| expect(world, space, word(area, page, page), value(page)));
}

/// Evicts pages, one after another: none has to wait for another to leave the tier.
fn evict(world: &mut World, space: SpaceId, area: VirtAddr, count: u64) {
    for page in 0..count {
        world.machine.evict(space, pages(word(area, page, 0), 1));
        world.settle();
    }
}

fn in_tier(snapshot: &Snapshot) -> u64 {
    snapshot.tier.expect("there is one").pages
}

fn now(world: &World) -> Snapshot {
    world.machine.mm().snapshot()
}

#[test]
fn pages_that_get_smaller_are_there_again_without_the_disk_and_the_others_come_from_it() {
    let mut world = World::seeded(with_tier(256, 64), 1);
    let (space, area) = world.space_with(100);
    store_pages(&mut world, space, area, 100);
    evict(&mut world, space, area, 100);
    let out = now(&world);
    let compressed = out.counters.tier_out;
    assert_eq!((compressed + out.counters.tier_refused, out.counters.tier_refused), (100, out.counters.pswpout));
    assert!((80..100).contains(&compressed), "some get smaller, some do not: {out:?}");
    assert_eq!(in_tier(&out), compressed);
    assert!(out.tier.unwrap().frames < compressed / 2, "they take less room: {out:?}");
    let machine = world.machine.clone();
    let (mut sights, mut next) = ([0; 2], Some(area.page()));
    while let Some(start) = next {
        next = machine.mm().look(space, pages(start.addr(), 100), 100, &mut |page, sight| match sight {
            Sight::Compressed(_) => sights[0] += 1,
            Sight::Slot(..) => sights[1] += 1,
            other => panic!("{page:?} is {other:?}"),
        });
    }
    assert_eq!(sights, [compressed, 100 - compressed]);

    expect_pages(&mut world, space, area, 100);
    world.settle();
    let back = now(&world);
    assert_eq!((back.counters.tier_in, back.counters.pswpin), (compressed, 100 - compressed));
    assert!(back.counters.pgmajfault <= 100 - compressed, "the others are minor faults: {back:?}");
    assert_eq!((back.tier.unwrap().pages, back.tier.unwrap().frames), (0, 0));
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a_page_from_the_disk_is_compressed_and_leaves_again_without_being_written() {
    let mut world = World::seeded(with_tier(512, 8), 2);
    let (space, area) = world.space_with(200);
    store_pages(&mut world, space, area, 200);
    evict(&mut world, space, area, 200);
    expect_pages(&mut world, space, area, 200);
    world.settle();
    let before = now(&world);
    assert!(before.pages.get(PageClass::Clean) > 50, "they are as they are on the disk: {before:?}");
    // Nothing is written any more, and all of it passes through a tier that has room for a part.
    for _ in 0..2 {
        for page in 0..200 {
            expect(&mut world, space, word(area, page, page), value(page));
            evict(&mut world, space, word(area, page, 0), 1);
        }
    }
    let after = now(&world);
    assert!(after.counters.tier_shed > 100, "{after:?}");
    assert!(in_tier(&after) > 0, "{after:?}");
    expect_pages(&mut world, space, area, 200);
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn the_oldest_pages_leave_for_the_disk_in_clusters_however_many_of_their_neighbours_were_wanted() {
    let mm = Config {
        watermarks: Some(Watermarks { min: 16, low: 48, high: 176 }),
        compression: Compression::On,
        tier_frames: Some(600),
        ..Config::default()
    };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(1400, 16_384) }, 3);
    let (space, area) = world.space_with(6000);
    let machine = world.machine.clone();
    world.run("program", async move {
        let mut thread = Thread::new(&machine);
        for page in 0..6000 {
            thread.store(space, word(area, page, page % 512), value(page)).await.unwrap();
            // Every third page is wanted back from the tier soon: its neighbours there stay.
            if page > 900 && page % 3 == 0 {
                let earlier = page - 900;
                assert_eq!(thread.load(space, word(area, earlier, earlier % 512)).await, Ok(value(earlier)));
            }
        }
    });
    world.settle();
    let end = now(&world);
    assert!(end.counters.tier_in > 300 && end.counters.tier_written > 1000, "{end:?}");
    let a_request = end.counters.pswpout as f64 / end.counters.store_writes as f64;
    println!("{a_request:.1} pages a request");
    assert!(a_request > 16.0, "{a_request} pages a request: {end:?}");
    world.destroy(space);
    world.assert_empty();
}

/// Loads pages at random and checks them, a tenth of them with a store: for so many touches.
fn touch_at_random(world: &mut World, (space, area): (SpaceId, VirtAddr), count: u64, touches: u64) {
    let (machine, mut rng) = (world.machine.clone(), world.sim.split_rng());
    world.run("program", async move {
        let mut thread = Thread::new(&machine);
        for _ in 0..touches {
            let page = rng.below(count);
            let at = word(area, page, page % 512);
            assert_eq!(thread.load(space, at).await, Ok(value(page)));
            if rng.below(10) == 0 {
                thread.store(space, at, value(page)).await.unwrap();
            }
        }
    });
}

#[test]
fn in_automatic_pages_are_compressed_while_the_disk_is_slow_and_not_while_it_is_fast() {
    let mm = Config { compression: Compression::Auto, ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(1024, 8192) }, 7);
    let (space, area) = world.space_with(2000);
    let machine = world.machine.clone();
    machine.prices().set(50, 100);
    (0..2000).for_each(|page| store(&mut world, space, word(area, page, page % 512), value(page)));
    touch_at_random(&mut world, (space, area), 2000, 20_000);
    let fast = now(&world);
    assert_eq!((fast.counters.tier_out, fast.tier.unwrap().state), (0, TierState::Resting), "{fast:?}");

    machine.prices().set(5000, 100);
    touch_at_random(&mut world, (space, area), 2000, 10_000);
    let before = now(&world);
    touch_at_random(&mut world, (space, area), 2000, 10_000);
    let slow = now(&world);
    assert_eq!(slow.tier.unwrap().state, TierState::Taking, "{slow:?}");
    let [reads, saved] =
        [slow.counters.pswpin - before.counters.pswpin, slow.counters.tier_in - before.counters.tier_in];
    println!("of 10000 touches {reads} pages were read, {saved} came from the tier");
    assert!(saved > reads / 4 && reads < 5000, "{reads} pages were read, {saved} came from the tier");

    machine.prices().set(50, 100);
    touch_at_random(&mut world, (space, area), 2000, 20_000);
    let again = now(&world);
    assert_eq!(again.tier.map(|tier| (tier.pages, tier.state)), Some((0, TierState::Resting)), "{again:?}");
    assert_eq!(again.frames.used[FrameKind::Tier as usize], 0, "while it rests it has no frames");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn in_automatic_a_page_that_came_with_many_others_has_cost_its_part_of_their_read() {
    let mm = Config { compression: Compression::Auto, ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(1024, 8192) }, 7);
    let (space, area) = world.space_with(1100);
    // A request is dear beside a page's compression, but brings many pages.
    world.machine.clone().prices().set(600, 100);
    (0..1100).for_each(|page| store(&mut world, space, word(area, page, page % 512), value(page)));
    for _ in 0..20 {
        (0..1100).for_each(|page| expect(&mut world, space, word(area, page, page % 512), value(page)));
    }
    let after = now(&world);
    let [pages, requests] = [after.counters.pswpin, world.machine.disk().counts().reads];
    assert!(pages > 4 * requests, "{pages} pages in {requests} requests: {after:?}");
    assert_eq!(after.counters.tier_out, 0, "{after:?}");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn writes_that_fail_cost_nothing_that_is_in_the_tier() {
    let disk = DiskConfig { write_errors: PerMille(1000), ..DiskConfig::good(4096) };
    let mut world = World::seeded(SimConfig { disk: Some(disk), ..with_tier(512, 16) }, 4);
    let (space, area) = world.space_with(300);
    store_pages(&mut world, space, area, 300);
    evict(&mut world, space, area, 300);
    evict(&mut world, space, area, 300);
    let failed = now(&world);
    assert!(failed.counters.swap_write_err > 0 && failed.counters.tier_written == 0, "{failed:?}");
    assert!(in_tier(&failed) > 16, "{failed:?}");
    expect_pages(&mut world, space, area, 300);
    world.destroy(space);
    world.settle();
    let end = now(&world);
    assert_eq!((end.counters.pgfailfault, end.tier.unwrap().pages), (0, 0));
}

#[test]
fn pages_that_are_shared_moved_or_an_objects_are_found_in_the_tier_too() {
    let mut world = World::seeded(with_tier(512, 120), 5);
    let (parent, area) = world.space_with(60);
    store_pages(&mut world, parent, area, 60);
    evict(&mut world, parent, area, 60);
    // Forked while they are there: the home of each is another one now. Then the tier is disturbed, and they move.
    let machine = world.machine.clone();
    let child = world.run("fork", async move {
        let child = machine.create_space().expect("a frame for the root");
        machine.mm().fork_space(parent, child).await.expect("there is memory");
        child
    });
    world.settle();
    let machine = world.machine.clone();
    let moved = world.run("move", async move {
        let moved = machine.mm().remap(child, area, 60 * PAGE, 90 * PAGE, Move::Allowed).await;
        moved.expect("there is room")
    });
    world.settle();
    (0..20).for_each(|page| store(&mut world, child, word(moved, page, 500), 7));
    (0..20).for_each(|page| expect(&mut world, parent, word(area, page, page), value(page)));
    expect_pages(&mut world, child, moved, 60);
    evict(&mut world, child, moved, 60);
    world.destroy(parent);
    expect_pages(&mut world, child, moved, 60);
    evict(&mut world, child, moved, 60);
    let machine = world.machine.clone();
    let again = world.run("move", async move {
        machine.mm().remap(child, moved, 90 * PAGE, 200 * PAGE, Move::Allowed).await.expect("there is room")
    });
    world.settle();
    expect_pages(&mut world, child, again, 60);
    world.destroy(child);

    let machine = world.machine.clone();
    let object = machine.mm().create_object(40 * PAGE).expect("there is room for its name");
    let [sharer, private] = [(), ()].map(|()| machine.create_space().expect("a frame for the root"));
    let shared = ready(machine.mm().map(sharer, window(object, 0, 40, Sharing::Shared))).expect("there is room");
    store_pages(&mut world, sharer, shared, 40);
    evict(&mut world, sharer, shared, 40);
    assert!(in_tier(&now(&world)) > 20);
    let copied = ready(machine.mm().map(private, window(object, 0, 40, Sharing::Private))).expect("there is room");
    (0..10).for_each(|page| store(&mut world, private, word(copied, page, 400), 3));
    let reader = machine.clone();
    let bytes = world.run("read", async move {
        let mut bytes = [0; 8];
        let read = reader.mm().object_read_bytes(object, 30 * PAGE + 30 * 8, sharer, &mut bytes).await;
        assert_eq!(read, Ok(8));
        bytes
    });
    assert_eq!(u64::from_le_bytes(bytes), value(30));
    expect_pages(&mut world, private, copied, 40);
    expect_pages(&mut world, sharer, shared, 40);
    evict(&mut world, sharer, shared, 40);
    [sharer, private].into_iter().for_each(|space| world.destroy(space));
    machine.mm().close_object(object);
    world.assert_empty();
}

#[test]
fn compressed_pages_count_as_swap_of_their_group() {
    let mut world = World::seeded(with_tier(512, 120), 6);
    let (space, area) = world.space_with(80);
    let machine = world.machine.clone();
    let group = machine.mm().create_group().expect("memory for a group");
    machine.mm().set_group_limits(group, GroupLimits { frames: None, slots: Some(50) });
    machine.mm().set_space_group(space, group);
    store_pages(&mut world, space, area, 80);
    evict(&mut world, space, area, 80);
    let stats = || machine.mm().group_stats(group).expect("it is there");
    assert_eq!((stats().slots, stats().frames), (50, 30), "no more may go");
    expect_pages(&mut world, space, area, 40);
    world.settle();
    assert!(stats().slots < 20, "{:?}", stats());
    machine.mm().set_space_group(space, mm::group::GroupId::ROOT);
    let remover = machine.clone();
    world.run("remove", async move { remover.mm().remove_group(group).await });
    world.settle();
    expect_pages(&mut world, space, area, 80);
    world.destroy(space);
    world.assert_empty();
}
