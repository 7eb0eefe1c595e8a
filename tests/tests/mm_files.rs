//! Files as memory objects: read, write and mmap go through the same pages, which come from the store of files and go back to it.

use executor::Class;
use executor::sim::cancel_at_every_await;
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::file_store::FileId;
use mm::frame::FrameKind;
use mm::object::{ObjectError, ObjectId, ObjectPage, Sharing};
use mm::reclaim::Watermarks;
use mm::sim::SimMachine;
use mm::sim::{FilesConfig, PerMille, SimConfig};
use mm::space::Placement;
use mm::space::{MapRequest, SpaceId};
use std::future::Future;
use std::sync::Arc;
use tests::harness::reduced_or_full;
use tests::mm::{
    PAGE, Thread, World, anonymous, assert_empty, destroy, numbered, ready, run, settings, settle, start, window, word,
};

const FILE: FileId = FileId::new(7);

/// A machine with so many frames and a store of files of so many blocks.
fn config(frames: usize, blocks: usize) -> SimConfig {
    SimConfig { files: Some(FilesConfig::good(blocks)), ..SimConfig::new(frames, 512) }
}

fn world(frames: usize, blocks: usize, seed: u64) -> World {
    World::seeded(config(frames, blocks), seed)
}

/// A file of so many pages, each with a word at its beginning that says which it is, counted from 1.
fn file(machine: &SimMachine, pages: u64) -> ObjectId {
    for page in 0..pages {
        let mut words = [0; 512];
        words[0] = page + 1;
        machine.files().put(FILE, page, words);
    }
    machine.mm().create_file_object(FILE, pages * PAGE).expect("there is a store")
}

fn space(machine: &SimMachine) -> SpaceId {
    machine.create_space().expect("a frame for the root")
}

fn map(machine: &SimMachine, space: SpaceId, request: MapRequest) -> VirtAddr {
    ready(machine.mm().map(space, request)).expect("there is room")
}

fn on_disk(machine: &SimMachine, page: u64, at: usize) -> Option<u64> {
    machine.files().contents(FILE, page).map(|words| words[at])
}

fn all() -> std::ops::Range<ObjectPage> {
    ObjectPage::new(0)..ObjectPage::LAST
}

/// Runs what a thread of a program does, to its end.
fn act<F>(world: &mut World, work: impl FnOnce(Arc<SimMachine>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let future = work(world.machine.clone());
    world.run("thread", future);
}

#[test]
fn what_is_stored_through_a_mapping_or_written_is_read_loaded_and_in_the_end_in_the_file() {
    let mut world = world(96, 64, 1);
    let (object, a) = (file(&world.machine, 8), space(&world.machine));
    let at = map(&world.machine, a, window(object, 0, 8, Sharing::Shared));
    let buffer = map(&world.machine, a, anonymous(Placement::Anywhere, 12));
    act(&mut world, |machine| async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        for page in 0..8 {
            assert_eq!(thread.load(a, word(at, page, 0)).await, Ok(page + 1));
        }
        thread.store(a, word(at, 3, 5), 55).await.unwrap();
        assert_eq!(on_disk(&machine, 3, 5), Some(0), "not yet");
        // A read sees what was stored, across pages, and ends where the file ends.
        assert_eq!(mm.object_read(object, PAGE, a, word(buffer, 0, 1), 11 * PAGE).await, Ok(7 * PAGE));
        assert_eq!(thread.load(a, word(buffer, 2, 1)).await, Ok(4));
        assert_eq!(thread.load(a, word(buffer, 2, 6)).await, Ok(55));
        // A write is seen through the mapping.
        thread.store(a, word(buffer, 9, 0), 99).await.unwrap();
        assert_eq!(mm.object_write(object, 6 * PAGE + 16, a, word(buffer, 9, 0), 8).await, Ok(8));
        assert_eq!(thread.load(a, word(at, 6, 2)).await, Ok(99));
        mm.sync_object(object, all()).await.unwrap();
        assert_eq!(
            (on_disk(&machine, 3, 5), on_disk(&machine, 6, 2), on_disk(&machine, 6, 0)),
            (Some(55), Some(99), Some(7))
        );
        assert_eq!(mm.snapshot().dirty_files, 0);
        // Stored to again after it was written, a page is written again.
        thread.store(a, word(at, 3, 5), 56).await.unwrap();
        mm.sync_object(object, all()).await.unwrap();
        assert_eq!(on_disk(&machine, 3, 5), Some(56));
        // The kernel's own reads and writes.
        let mut bytes = [0; 16];
        assert_eq!(mm.object_read_bytes(object, 3 * PAGE + 40, a, &mut bytes).await, Ok(16));
        assert_eq!(bytes[..8], 56u64.to_le_bytes());
        assert_eq!(mm.object_write_bytes(object, 8 * PAGE - 4, a, &[7; 8]).await, Ok(8));
        assert_eq!(mm.object_size(object), Some(8 * PAGE + 4));
        assert!(mm.object_is_mapped(object));
    });
    world.settle();
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

/// M4: clean pages of a file are dropped and read again, dirty ones go to the file; none of them goes to swap.
#[test]
fn m4_pages_of_files_under_pressure_go_to_their_file_and_never_to_swap() {
    for seed in 0..6 {
        let mut world = world(64, 300, seed);
        let (object, a) = (file(&world.machine, 200), space(&world.machine));
        let at = map(&world.machine, a, window(object, 0, 200, Sharing::Shared));
        act(&mut world, |machine| async move {
            let mut thread = Thread::new(&machine);
            for round in 0..2 {
                for page in 0..200 {
                    assert_eq!(thread.load(a, word(at, page, 0)).await, Ok(page + 1), "round {round}");
                }
            }
        });
        let scanned = world.machine.mm().snapshot().counters;
        assert_eq!((scanned.pswpout, scanned.swpout_zero), (0, 0));
        assert!(scanned.pgfilein >= 300 && scanned.pgdrop_clean > 200 && scanned.pgfileout == 0, "{scanned:?}");
        assert!(scanned.file_reads < scanned.pgfilein / 2, "read in order, so ahead: {scanned:?}");
        act(&mut world, |machine| async move {
            let mut thread = Thread::new(&machine);
            for page in 0..200 {
                thread.store(a, word(at, page, 9), page + 1000).await.unwrap();
            }
            for page in 0..200 {
                assert_eq!(thread.load(a, word(at, page, 9)).await, Ok(page + 1000));
            }
            machine.mm().sync_object(object, all()).await.unwrap();
            (0..200).for_each(|page| assert_eq!(on_disk(&machine, page, 9), Some(page + 1000)));
        });
        let end = world.machine.mm().snapshot().counters;
        assert_eq!((end.pswpout, end.swpout_zero), (0, 0), "{end:?}");
        assert!(end.pgfileout >= 200, "{end:?}");
        world.machine.mm().close_object(object);
        world.destroy(a);
        world.assert_empty();
    }
}

#[test]
fn private_pages_of_a_file_are_copies_that_swap_and_the_file_never_sees_them() {
    let mut world = world(64, 100, 3);
    let (object, a) = (file(&world.machine, 60), space(&world.machine));
    let at = map(&world.machine, a, window(object, 0, 60, Sharing::Private));
    act(&mut world, |machine| async move {
        let mut thread = Thread::new(&machine);
        for page in 0..60 {
            thread.store(a, word(at, page, 1), page + 500).await.unwrap();
        }
        for page in 0..60 {
            assert_eq!(thread.load(a, word(at, page, 0)).await, Ok(page + 1));
            assert_eq!(thread.load(a, word(at, page, 1)).await, Ok(page + 500));
        }
        machine.mm().sync_object(object, all()).await.unwrap();
        (0..60).for_each(|page| assert_eq!(on_disk(&machine, page, 1), Some(0)));
    });
    let end = world.machine.mm().snapshot().counters;
    assert!(end.pswpout > 10 && end.pgfileout == 0, "{end:?}");
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn a_full_disk_is_told_at_the_first_store_and_never_at_write_back() {
    let mut world = world(96, 10, 4);
    // Eight blocks are the file's; the rest of its 20 pages is a hole, and two more blocks are free.
    let (object, a) = (file(&world.machine, 8), space(&world.machine));
    let buffer = map(&world.machine, a, anonymous(Placement::Anywhere, 8));
    act(&mut world, |machine| async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        mm.truncate_object(object, 20 * PAGE, a).await.unwrap();
        let at = mm.map(a, window(object, 0, 20, Sharing::Shared)).await.unwrap();
        thread.store(a, word(at, 9, 0), 1).await.unwrap();
        thread.store(a, word(at, 12, 0), 2).await.unwrap();
        assert_eq!(thread.store(a, word(at, 15, 0), 3).await, Err(FaultError::BadPage), "no block for it: SIGBUS");
        assert_eq!(thread.load(a, word(at, 15, 0)).await, Ok(0), "a hole reads as zeroes");
        thread.store(a, word(at, 2, 0), 4).await.unwrap();
        assert_eq!(mm.object_write(object, 16 * PAGE, a, buffer, PAGE).await, Err(ObjectError::NoSpace));
        assert_eq!(mm.object_write(object, 7 * PAGE, a, buffer, 4 * PAGE).await, Ok(PAGE), "as far as there is room");
        mm.sync_object(object, all()).await.unwrap();
        assert_eq!(
            (on_disk(&machine, 9, 0), on_disk(&machine, 12, 0), on_disk(&machine, 2, 0)),
            (Some(1), Some(2), Some(4))
        );
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

/// P13, for files: within a window what the file has; past the file's end SIGBUS, also for what was copied; the last page's rest is zero.
#[test]
fn p13_behind_the_end_of_a_file_there_is_nothing_and_the_rest_of_its_last_page_is_zero() {
    let mut world = world(96, 64, 5);
    let (object, a) = (file(&world.machine, 16), space(&world.machine));
    let shared = map(&world.machine, a, window(object, 3, 16, Sharing::Shared));
    let private = map(&world.machine, a, window(object, 0, 16, Sharing::Private));
    act(&mut world, |machine| async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        assert_eq!(thread.load(a, word(shared, 4, 0)).await, Ok(8));
        assert_eq!(thread.load(a, word(shared, 13, 0)).await, Err(FaultError::BadPage));
        for page in 0..13 {
            thread.store(a, word(shared, page, 100), 77).await.unwrap();
            thread.store(a, word(private, page, 200), 88).await.unwrap();
        }
        mm.sync_object(object, all()).await.unwrap();
        // Shorter: ten pages and a bit, which ends before the word that was stored.
        mm.truncate_object(object, 10 * PAGE + 100, a).await.unwrap();
        machine.files().cut(FILE, 11);
        machine.check();
        assert_eq!(thread.load(a, word(shared, 6, 100)).await, Ok(77));
        assert_eq!(thread.load(a, word(shared, 7, 0)).await, Ok(11));
        assert_eq!(thread.load(a, word(shared, 7, 100)).await, Ok(0), "behind the end, in the last page");
        assert_eq!(thread.load(a, word(shared, 8, 0)).await, Err(FaultError::BadPage));
        assert_eq!(thread.load(a, word(private, 10, 200)).await, Ok(88), "a copy keeps its bytes");
        assert_eq!(thread.load(a, word(private, 11, 200)).await, Err(FaultError::BadPage), "a copy goes, too");
        assert_eq!(thread.store(a, word(private, 15, 0), 1).await, Err(FaultError::BadPage));
        // What is stored behind the end is no part of the file, and does not come back when it grows.
        thread.store(a, word(shared, 7, 300), 66).await.unwrap();
        mm.truncate_object(object, 12 * PAGE, a).await.unwrap();
        assert_eq!(thread.load(a, word(shared, 7, 300)).await, Ok(0));
        assert_eq!(thread.load(a, word(shared, 7, 100)).await, Ok(0));
        assert_eq!(thread.load(a, word(shared, 8, 0)).await, Ok(0), "a hole");
        assert_eq!(thread.load(a, word(shared, 7, 0)).await, Ok(11));
        mm.sync_object(object, all()).await.unwrap();
        assert_eq!(
            (on_disk(&machine, 10, 300), on_disk(&machine, 10, 100), on_disk(&machine, 10, 0)),
            (Some(0), Some(0), Some(11))
        );
    });
    world.settle();
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn a_short_file_grows_over_what_was_on_the_disk_behind_its_end_only_as_zeroes() {
    let mut world = world(64, 64, 6);
    let a = space(&world.machine);
    world.machine.files().put(FILE, 0, [0x11; 512]);
    let object = world.machine.mm().create_file_object(FILE, PAGE).unwrap();
    act(&mut world, |machine| async move {
        let mm = machine.mm();
        // The page is not in RAM when the file is cut.
        mm.truncate_object(object, 80, a).await.unwrap();
        mm.truncate_object(object, PAGE, a).await.unwrap();
        let mut bytes = [1; 4096];
        assert_eq!(mm.object_read_bytes(object, 0, a, &mut bytes).await, Ok(PAGE));
        assert_eq!(bytes[72..80], 0x11u64.to_le_bytes());
        assert!(bytes[80..].iter().all(|&byte| byte == 0));
        mm.sync_object(object, all()).await.unwrap();
        assert_eq!((on_disk(&machine, 0, 9), on_disk(&machine, 0, 10)), (Some(0x11), Some(0)));
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn dirty_pages_have_a_bound_and_an_age() {
    let mm = Config { dirty_pages: Some(8), ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..config(128, 64) }, 7);
    let (object, a) = (file(&world.machine, 60), space(&world.machine));
    let at = map(&world.machine, a, window(object, 0, 60, Sharing::Shared));
    let buffer = map(&world.machine, a, anonymous(Placement::Anywhere, 60));
    act(&mut world, |machine| async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        for page in 0..30 {
            thread.store(a, word(at, page, 1), page).await.unwrap();
            assert!(mm.snapshot().dirty_files <= 8);
        }
        assert_eq!(mm.object_write(object, 30 * PAGE, a, buffer, 30 * PAGE).await, Ok(30 * PAGE));
        let now = mm.snapshot();
        assert!(now.dirty_files <= 8 && now.counters.pgfileout >= 52, "{now:?}");
        mm.sync_object(object, all()).await.unwrap();
        let before = mm.snapshot().counters.pgfileout;
        thread.store(a, word(at, 5, 1), 1).await.unwrap();
        mm.write_back_old().await;
        thread.store(a, word(at, 9, 1), 2).await.unwrap();
        assert_eq!(mm.snapshot().counters.pgfileout, before, "dirty, but not old");
        mm.write_back_old().await;
        while mm.snapshot().dirty_files > 1 {
            executor::yield_now().await;
        }
        assert_eq!((on_disk(&machine, 5, 1), on_disk(&machine, 9, 1)), (Some(1), Some(9)), "one was old, one was not");
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

/// A copy needs up to four pages of its target dirty at once; each was cleaned again for the next, for ever.
#[test]
fn a_copy_to_more_pages_of_a_file_than_may_be_dirty_gets_on() {
    let mm = Config { dirty_pages: Some(2), ..Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..config(128, 64) }, 8);
    let (object, a) = (file(&world.machine, 24), space(&world.machine));
    let at = map(&world.machine, a, window(object, 0, 24, Sharing::Shared));
    act(&mut world, |machine| async move {
        assert_eq!(machine.mm().object_read(object, 0, a, word(at, 12, 0), 12 * PAGE).await, Ok(12 * PAGE));
        assert_eq!(Thread::new(&machine).load(a, word(at, 20, 0)).await, Ok(9));
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn errors_of_the_disk_are_told_to_who_asks_and_nothing_is_lost_by_them() {
    for seed in 0..10 {
        let mut world = world(96, 64, seed);
        let (object, a) = (file(&world.machine, 20), space(&world.machine));
        let at = map(&world.machine, a, window(object, 0, 20, Sharing::Shared));
        act(&mut world, |machine| async move {
            let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
            machine.files().reconfigure(|files| files.read_errors = PerMille(1000));
            assert_eq!(thread.load(a, at).await, Err(FaultError::BadPage));
            let mut bytes = [0; 8];
            assert_eq!(mm.object_read_bytes(object, 0, a, &mut bytes).await, Err(ObjectError::Io));
            machine.files().reconfigure(|files| files.read_errors = PerMille(0));
            assert_eq!(thread.load(a, at).await, Ok(1), "tried again, it can be read");
            thread.store(a, word(at, 0, 1), 5).await.unwrap();
            machine.files().reconfigure(|files| files.write_errors = PerMille(1000));
            assert_eq!(mm.sync_object(object, all()).await, Err(ObjectError::Io));
            assert_eq!(mm.snapshot().dirty_files, 1, "it is still to be written");
            machine.files().reconfigure(|files| files.write_errors = PerMille(0));
            assert_eq!(mm.sync_object(object, all()).await, Ok(()));
            assert_eq!(on_disk(&machine, 0, 1), Some(5));
        });
        world.machine.mm().close_object(object);
        world.destroy(a);
        world.assert_empty();
    }
}

/// D4, D11: reads of a page of a file into mappings of that same page, more of them than there are pins, with 12 usable frames.
#[test]
fn e8_64_copies_between_a_file_and_a_mapping_of_it_with_12_frames_and_all_pins_taken_get_on() {
    for seed in 0..reduced_or_full(20, 1000) {
        let watermarks = Watermarks { min: 2, low: 4, high: 6 };
        let mm = Config { watermarks: Some(watermarks), torture: seed % 3 == 0, ..Config::default() };
        // Zero page, root, three page tables for each of two areas at most, the reserve; and twelve.
        let mut world = World::seeded(SimConfig { mm, ..config(8 + 12, 64) }, seed);
        let (object, a) = (file(&world.machine, 2), space(&world.machine));
        let at = map(&world.machine, a, window(object, 0, 2, Sharing::Shared));
        for number in 0..64u64 {
            let machine = world.machine.clone();
            let copy = async move {
                // Half a page from the file to the other half of the same page; and across two pages, onto themselves.
                let (mm, half) = (machine.mm(), PAGE / 2);
                let (from, to, len) = match number % 4 {
                    0 => (0, word(at, 0, 256), half),
                    1 => (half, word(at, 0, 0), half),
                    2 => (0, at, 2 * PAGE),
                    _ => (PAGE, word(at, 0, 0), PAGE),
                };
                let done = if number % 8 < 4 {
                    mm.object_read(object, from, a, to, len).await
                } else {
                    mm.object_write(object, from, a, to, len).await
                };
                assert_eq!(done, Ok(len));
            };
            world.sim.spawn(Class::User, numbered("copy", number as usize), copy).detach();
        }
        world.sim.run().unwrap_or_else(|stuck| {
            panic!("seed {seed}: {stuck}\n{}{:#?}", world.sim.journal().print(), world.machine.mm().snapshot())
        });
        let end = world.machine.mm().snapshot();
        assert_eq!((end.pinned, end.held), (0, 0), "{end:?}");
        world.machine.mm().close_object(object);
        world.destroy(a);
        world.assert_empty();
    }
}

/// A large read or write by each of some threads, into memory of their own that does not fit in RAM.
#[test]
fn reads_and_writes_that_need_more_than_there_is_get_on() {
    for seed in 0..10 {
        let mm = Config { torture: seed % 2 == 0, ..Config::default() };
        let mut world = World::seeded(SimConfig { mm, ..config(80, 200) }, seed);
        let (object, a) = (file(&world.machine, 100), space(&world.machine));
        for number in 0..4u64 {
            let machine = world.machine.clone();
            let buffer = map(&world.machine, a, anonymous(Placement::Anywhere, 40));
            let copy = async move {
                let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
                let offset = number * 25 * PAGE;
                assert_eq!(mm.object_read(object, offset, a, word(buffer, 0, 3), 25 * PAGE).await, Ok(25 * PAGE));
                for page in 0..25 {
                    let addr = word(buffer, page, 3);
                    assert_eq!(thread.load(a, addr).await, Ok(number * 25 + page + 1));
                    thread.store(a, addr, 7000 + number * 25 + page).await.unwrap();
                }
                drop(thread);
                assert_eq!(mm.object_write(object, offset, a, word(buffer, 0, 3), 25 * PAGE).await, Ok(25 * PAGE));
            };
            world.sim.spawn(Class::User, numbered("copy", number as usize), copy).detach();
        }
        world.sim.run().unwrap_or_else(|stuck| {
            panic!("seed {seed}: {stuck}\n{}{:#?}", world.sim.journal().print(), world.machine.mm().snapshot())
        });
        act(&mut world, |machine| async move {
            machine.mm().sync_object(object, all()).await.unwrap();
            (0..100).for_each(|page| assert_eq!(on_disk(&machine, page, 0), Some(7000 + page)));
        });
        world.machine.mm().close_object(object);
        world.destroy(a);
        world.assert_empty();
    }
}

#[test]
fn a_copy_ends_where_the_programs_memory_does() {
    let mut world = world(96, 64, 8);
    let (object, a) = (file(&world.machine, 8), space(&world.machine));
    let buffer = map(&world.machine, a, anonymous(Placement::Anywhere, 12));
    act(&mut world, |machine| async move {
        let mm = machine.mm();
        mm.unmap(a, word(buffer, 10, 0), 2 * PAGE).await.unwrap();
        let bad = word(buffer, 10, 0);
        assert_eq!(mm.object_read(object, 0, a, bad, 8).await, Err(ObjectError::BadAddress));
        assert_eq!(mm.object_read(object, 0, a, word(buffer, 1, 0), 8 * PAGE).await, Ok(8 * PAGE));
        assert_eq!(
            mm.object_read(object, 8 * PAGE, a, bad, 8).await,
            Ok(0),
            "at the end of the file nothing is copied"
        );
        let far = VirtAddr::new(u64::MAX - 10);
        assert_eq!(mm.object_read(object, 0, a, far, 100).await, Err(ObjectError::BadAddress));
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

/// Runs `act` beside threads that use the file, and drops it at each of its awaits; nothing is left over.
fn everywhere<F>(name: &str, act: impl Fn(Arc<SimMachine>, ObjectId, SpaceId, VirtAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut dropped = 0;
    for seed in 0..3 {
        dropped += cancel_at_every_await(settings(seed), "victim", |sim| {
            let mm = Config { torture: seed == 1, dirty_pages: Some(6), ..Config::default() };
            let machine = start(sim, SimConfig { mm, seed, ..config(72, 100) });
            let (object, a) = (file(&machine, 40), space(&machine));
            let at = map(&machine, a, window(object, 0, 40, Sharing::Shared));
            let buffer = map(&machine, a, anonymous(Placement::Anywhere, 40));
            let own = machine.clone();
            run(sim, "setup", async move {
                let mut thread = Thread::new(&own);
                for page in 0..40 {
                    thread.store(a, word(buffer, page, 0), page + 1).await.unwrap();
                }
            });
            sim.spawn(Class::User, "victim", act(machine.clone(), object, a, buffer)).detach();
            let own = machine.clone();
            let other = async move {
                let mut thread = Thread::new(&own);
                for page in 0..40 {
                    match thread.store(a, word(at, page, 1), page).await {
                        Ok(()) | Err(FaultError::BadPage) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    let value = thread.load(a, word(at, page, 0)).await;
                    assert!(matches!(value, Ok(_) | Err(FaultError::BadPage)), "{value:?}");
                }
            };
            sim.spawn(Class::User, "other", other).detach();
            sim.run().unwrap_or_else(|stuck| panic!("{stuck}\n{}", sim.journal().print()));
            settle(sim, &machine);
            let end = machine.mm().snapshot();
            assert_eq!((end.pinned, end.held), (0, 0), "{end:?}");
            machine.mm().close_object(object);
            destroy(sim, &machine, a);
            assert_empty(sim, &machine);
        });
    }
    println!("{name}: dropped at {dropped} awaits");
    assert!(dropped > 4);
}

#[test]
fn a_read_is_dropped_at_each_await() {
    everywhere("read", |machine, object, a, buffer| async move {
        machine.mm().object_read(object, 100, a, buffer, 30 * PAGE).await.unwrap();
    });
}

#[test]
fn a_write_is_dropped_at_each_await() {
    everywhere("write", |machine, object, a, buffer| async move {
        machine.mm().object_write(object, 20 * PAGE, a, buffer, 30 * PAGE).await.unwrap();
    });
}

#[test]
fn a_sync_is_dropped_at_each_await() {
    everywhere("sync", |machine, object, _, _| async move {
        for _ in 0..3 {
            executor::yield_now().await;
            machine.mm().sync_object(object, all()).await.unwrap();
            machine.mm().write_back_old().await;
        }
    });
}

#[test]
fn a_truncation_is_dropped_at_each_await_and_done_again() {
    everywhere("truncate", |machine, object, a, _| async move {
        machine.mm().truncate_object(object, 10 * PAGE + 9, a).await.unwrap();
        machine.files().cut(FILE, 11);
        machine.mm().truncate_object(object, 40 * PAGE, a).await.unwrap();
    });
}

#[test]
fn a_file_goes_with_its_last_mapping_whatever_its_pages_are_going_through() {
    for seed in 0..10 {
        let mut world = world(96, 100, seed);
        let (object, a) = (file(&world.machine, 60), space(&world.machine));
        let at = map(&world.machine, a, window(object, 0, 60, Sharing::Shared));
        for number in 0..3 {
            let machine = world.machine.clone();
            let user = async move {
                let mut thread = Thread::new(&machine);
                for page in (number..60).step_by(3) {
                    match thread.store(a, word(at, page, 1), 1).await {
                        Ok(()) => {}
                        Err(error) => return assert_eq!(error, FaultError::NotMapped),
                    }
                }
            };
            world.sim.spawn(Class::User, numbered("user", number as usize), user).detach();
        }
        act(&mut world, |machine| async move {
            for _ in 0..20 {
                executor::yield_now().await;
            }
            machine.mm().write_back_old().await;
            machine.mm().write_back_old().await;
            machine.mm().close_object(object);
            machine.mm().unmap(a, at, 60 * PAGE).await.unwrap();
        });
        world.settle();
        assert_eq!(world.machine.mm().snapshot().frames.used[FrameKind::User as usize], 0);
        world.destroy(a);
        world.assert_empty();
    }
}
