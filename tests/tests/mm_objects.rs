//! Memory objects: pages that stand on their own, mapped in any number of spaces.

use executor::Class;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::frame::FrameKind;
use mm::object::{ObjectId, Sharing};
use mm::platform::Rights;
use mm::sim::SimConfig;
use mm::space::{MapError, MapRequest, SpaceId};
use mm::stats::PageClass;
use tests::mm::{PAGE, Thread, World, numbered, pages, ready, window, word};

fn object(world: &World, pages: u64) -> ObjectId {
    world.machine.mm().create_object(pages * PAGE).expect("there is room for its name")
}

fn space(world: &World) -> SpaceId {
    world.machine.create_space().expect("a frame for the root")
}

/// Maps a part of an object somewhere in a space.
fn map(world: &World, space: SpaceId, request: MapRequest) -> VirtAddr {
    ready(world.machine.mm().map(space, request)).expect("there is room")
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

fn unmap(world: &mut World, space: SpaceId, addr: VirtAddr, pages: u64) {
    let machine = world.machine.clone();
    world.run("unmap", async move { machine.mm().unmap(space, addr, pages * PAGE).await.unwrap() });
    world.settle();
}

#[test]
fn p12_one_object_in_two_spaces_a_store_in_one_is_seen_in_the_other_and_one_mapping_outlives_the_other() {
    let mut world = World::seeded(SimConfig::new(64, 64), 1);
    let shared = object(&world, 4);
    let (a, b) = (space(&world), space(&world));
    let in_a = map(&world, a, window(shared, 0, 4, Sharing::Shared));
    let in_b = map(&world, b, window(shared, 0, 4, Sharing::Shared));
    (0..4).for_each(|page| store(&mut world, a, word(in_a, page, 5), page + 1));
    (0..4).for_each(|page| assert_eq!(load(&mut world, b, word(in_b, page, 5)), Ok(page + 1)));
    store(&mut world, b, word(in_b, 0, 5), 77);
    assert_eq!(load(&mut world, a, word(in_a, 0, 5)), Ok(77));
    assert_eq!(user_frames(&world), 4, "each page once");
    world.settle();
    unmap(&mut world, a, in_a, 4);
    assert_eq!(load(&mut world, a, in_a), Err(FaultError::NotMapped));
    assert_eq!(load(&mut world, b, word(in_b, 0, 5)), Ok(77));
    // The handle goes, and the mapping keeps the object; with the last mapping all of it goes.
    world.machine.mm().close_object(shared);
    world.settle();
    assert_eq!(load(&mut world, b, word(in_b, 3, 5)), Ok(4));
    unmap(&mut world, b, in_b, 4);
    assert_eq!(user_frames(&world), 0);
    assert_eq!(ready(world.machine.mm().map(b, window(shared, 0, 4, Sharing::Shared))), Err(MapError::NoObject));
    world.destroy(a);
    world.destroy(b);
    world.assert_empty();
}

#[test]
fn p11_an_object_keeps_what_was_written_while_nobody_maps_it() {
    let mut world = World::seeded(SimConfig::new(64, 64), 2);
    let (shared, a) = (object(&world, 3), space(&world));
    let first = map(&world, a, window(shared, 0, 3, Sharing::Shared));
    (0..3).for_each(|page| store(&mut world, a, word(first, page, 0), page + 1));
    unmap(&mut world, a, first, 3);
    assert_eq!(user_frames(&world), 3);
    let again = map(&world, a, window(shared, 0, 3, Sharing::Shared));
    (0..3).for_each(|page| assert_eq!(load(&mut world, a, word(again, page, 0)), Ok(page + 1)));
    world.machine.mm().close_object(shared);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn p13_a_window_of_an_object_shows_that_part_and_ends_where_it_ends_or_the_object_does() {
    let mut world = World::seeded(SimConfig::new(64, 64), 3);
    let (shared, a) = (object(&world, 16), space(&world));
    let whole = map(&world, a, window(shared, 0, 16, Sharing::Shared));
    (0..16).for_each(|page| store(&mut world, a, word(whole, page, 0), page + 1));
    let b = space(&world);
    let part = map(&world, b, window(shared, 3, 5, Sharing::Shared));
    (0..5).for_each(|page| assert_eq!(load(&mut world, b, word(part, page, 0)), Ok(page + 4)));
    assert_eq!(load(&mut world, b, word(part, 5, 0)), Err(FaultError::NotMapped), "past the window");
    let beyond = map(&world, b, window(shared, 14, 4, Sharing::Shared));
    assert_eq!(load(&mut world, b, word(beyond, 1, 0)), Ok(16));
    assert_eq!(load(&mut world, b, word(beyond, 2, 0)), Err(FaultError::BadPage), "past the object's end");
    // A hole in a window leaves two windows, each of the right part.
    unmap(&mut world, b, word(part, 2, 0), 1);
    assert_eq!(load(&mut world, b, word(part, 1, 0)), Ok(5));
    assert_eq!(load(&mut world, b, word(part, 2, 0)), Err(FaultError::NotMapped));
    assert_eq!(load(&mut world, b, word(part, 3, 0)), Ok(7));
    world.machine.check();
    world.machine.mm().close_object(shared);
    world.destroy(a);
    world.destroy(b);
    world.assert_empty();
}

/// X10, as far as it is mm's: who maps to read has the same frames; who writes to a private mapping has copies, and nobody else sees it.
#[test]
fn x10_readers_share_the_frames_of_an_object_and_private_writers_have_copies() {
    let mut world = World::seeded(SimConfig::new(128, 64), 4);
    let text = object(&world, 8);
    let writer = space(&world);
    let at = map(&world, writer, window(text, 0, 8, Sharing::Shared));
    (0..8).for_each(|page| store(&mut world, writer, word(at, page, 0), page + 1));
    let readers: Vec<_> = (0..8).map(|_| space(&world)).collect();
    let mut places = Vec::new();
    for &reader in &readers {
        let request = MapRequest { rights: Rights::READ_EXECUTE, ..window(text, 0, 8, Sharing::Private) };
        places.push(map(&world, reader, request));
    }
    for (&reader, &place) in readers.iter().zip(&places) {
        (0..8).for_each(|page| assert_eq!(load(&mut world, reader, word(place, page, 0)), Ok(page + 1)));
        let (_, counts) = world.machine.mm().space_pages(reader).unwrap();
        assert_eq!((counts.get(PageClass::ObjectMapped), counts.resident()), (8, 8));
    }
    assert_eq!(user_frames(&world), 8, "eight programs, and each page once");
    let private = map(&world, readers[0], window(text, 0, 8, Sharing::Private));
    assert_eq!(load(&mut world, readers[0], word(private, 2, 0)), Ok(3));
    store(&mut world, readers[0], word(private, 2, 0), 99);
    store(&mut world, readers[0], word(private, 3, 1), 98);
    assert_eq!(user_frames(&world), 10);
    assert_eq!(load(&mut world, readers[0], word(private, 3, 0)), Ok(4), "the rest of the page came along");
    assert_eq!(load(&mut world, readers[1], word(places[1], 2, 0)), Ok(3));
    assert_eq!(load(&mut world, writer, word(at, 2, 0)), Ok(3));
    // What is written to the object is seen in what was not copied, and in nothing else.
    store(&mut world, writer, word(at, 2, 0), 1000);
    store(&mut world, writer, word(at, 4, 0), 1000);
    assert_eq!(load(&mut world, readers[0], word(private, 2, 0)), Ok(99));
    assert_eq!(load(&mut world, readers[0], word(private, 4, 0)), Ok(1000));
    // A child of the writer-to-copies shares those, and the rest of the object.
    let child = space(&world);
    let (machine, parent) = (world.machine.clone(), readers[0]);
    world.run("fork", async move { machine.mm().fork_space(parent, child).await.unwrap() });
    assert_eq!(load(&mut world, child, word(private, 2, 0)), Ok(99));
    assert_eq!(load(&mut world, child, word(private, 4, 0)), Ok(1000));
    store(&mut world, child, word(private, 2, 0), 5);
    assert_eq!(load(&mut world, parent, word(private, 2, 0)), Ok(99));
    world.settle();
    world.machine.mm().close_object(text);
    world.destroy(child);
    world.destroy(writer);
    readers.into_iter().for_each(|reader| world.destroy(reader));
    world.assert_empty();
}

/// M12: four sharers of memory that does not fit in RAM. It swaps once, not once a sharer, and all read the same.
#[test]
fn m12_memory_that_four_programs_share_swaps_once() {
    const PAGES: u64 = 300;
    for seed in 0..4 {
        let mut world = World::seeded(SimConfig::new(160, 2048), seed);
        let shared = object(&world, PAGES);
        let sharers: Vec<_> = (0..4).map(|_| space(&world)).collect();
        let places: Vec<_> =
            sharers.iter().map(|&s| map(&world, s, window(shared, 0, PAGES, Sharing::Shared))).collect();
        // Each writes a quarter, all at once.
        for (number, (&space, &at)) in sharers.iter().zip(&places).enumerate() {
            let machine = world.machine.clone();
            let writer = async move {
                let mut thread = Thread::new(&machine);
                for page in (number as u64..PAGES).step_by(4) {
                    thread.store(space, word(at, page, page % 512), page + 1).await.unwrap();
                }
            };
            world.sim.spawn(Class::User, numbered("writer", number), writer).detach();
        }
        world.sim.run().unwrap();
        let sums: Vec<u64> = sharers
            .iter()
            .zip(&places)
            .map(|(&space, &at)| {
                let machine = world.machine.clone();
                world.run("reader", async move {
                    let (mut thread, mut sum) = (Thread::new(&machine), 0);
                    for page in 0..PAGES {
                        sum += thread.load(space, word(at, page, page % 512)).await.unwrap();
                    }
                    sum
                })
            })
            .collect();
        assert_eq!(sums, [PAGES * (PAGES + 1) / 2; 4]);
        world.settle();
        let end = world.machine.mm().snapshot();
        assert!(
            u64::from(end.slots.unwrap().used - end.open_slots) <= PAGES,
            "each page has one slot at most: {end:?}"
        );
        assert!(end.counters.pswpout > 100, "nothing was paged: {end:?}");
        assert_eq!(world.machine.mm().object_pages(shared).unwrap().framed() + end.pages.away(), PAGES);
        world.machine.mm().close_object(shared);
        sharers.into_iter().for_each(|space| world.destroy(space));
        world.assert_empty();
    }
}

#[test]
fn an_object_goes_with_its_last_handle_whatever_its_pages_are_going_through() {
    for seed in 0..20 {
        let mut world = World::seeded(SimConfig::new(128, 512), seed);
        let (shared, a) = (object(&world, 600), space(&world));
        let at = map(&world, a, window(shared, 0, 600, Sharing::Shared));
        let machine = world.machine.clone();
        world.run("writer", async move {
            let mut thread = Thread::new(&machine);
            for page in 0..400 {
                thread.store(a, word(at, page, 0), page + 1).await.unwrap();
            }
        });
        for number in 0..3 {
            let machine = world.machine.clone();
            let reader = async move {
                let mut thread = Thread::new(&machine);
                for page in (number..400).step_by(3) {
                    match thread.load(a, word(at, page, 0)).await {
                        Ok(value) => assert_eq!(value, page + 1),
                        Err(error) => return assert!(matches!(error, FaultError::NotMapped | FaultError::SpaceGone)),
                    }
                }
            };
            world.sim.spawn(Class::User, numbered("reader", number as usize), reader).detach();
        }
        let machine = world.machine.clone();
        world.run("unmap", async move {
            machine.evict(a, pages(at, 400));
            for _ in 0..5 {
                executor::yield_now().await;
            }
            machine.mm().close_object(shared);
            machine.mm().unmap(a, at, 600 * PAGE).await.unwrap();
        });
        world.settle();
        assert_eq!((user_frames(&world), world.machine.mm().object_size(shared)), (0, None));
        world.destroy(a);
        world.assert_empty();
    }
}

#[test]
fn rights_are_the_areas_own_and_taking_them_away_holds_for_an_objects_pages() {
    let mut world = World::seeded(SimConfig::new(64, 64), 5);
    let (shared, a, b) = (object(&world, 2), space(&world), space(&world));
    let in_a = map(&world, a, window(shared, 0, 2, Sharing::Shared));
    let in_b = map(&world, b, MapRequest { rights: Rights::READ, ..window(shared, 0, 2, Sharing::Shared) });
    store(&mut world, a, in_a, 1);
    assert_eq!(load(&mut world, b, in_b), Ok(1));
    let machine = world.machine.clone();
    world.run("thread", async move {
        let mut thread = Thread::new(&machine);
        assert_eq!(thread.store(b, in_b, 2).await, Err(FaultError::Forbidden));
        machine.mm().protect(a, in_a, PAGE, Rights::READ).await.unwrap();
        assert_eq!(thread.store(a, in_a, 2).await, Err(FaultError::Forbidden));
        machine.mm().protect(b, in_b, 2 * PAGE, Rights::READ_WRITE).await.unwrap();
        assert_eq!(thread.store(b, in_b, 3).await, Ok(()));
        assert_eq!(thread.load(a, in_a).await, Ok(3));
        // MADV_DONTNEED on shared memory drops the mapping, not the contents.
        machine.mm().discard(a, in_a, PAGE).await.unwrap();
        assert_eq!(thread.load(a, in_a).await, Ok(3));
        // The kernel's copies see the object, too, and may not do more than the program.
        machine.mm().copy_out(b, word(in_b, 1, 0), &8u64.to_le_bytes()).await.unwrap();
        let mut bytes = [0; 8];
        machine.mm().copy_in(a, word(in_a, 1, 0), &mut bytes).await.unwrap();
        assert_eq!(bytes, 8u64.to_le_bytes());
        machine.mm().copy_out(a, in_a, &bytes).await.unwrap_err();
    });
    world.machine.mm().close_object(shared);
    world.destroy(a);
    world.destroy(b);
    world.assert_empty();
}
