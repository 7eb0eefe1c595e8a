//! Holes in files: what is taken out is gone from every window and from the disk, what was copied before stays, and who faults
//! on the range meanwhile waits. (Random ones, among everything else, are in `mm_storm.rs`.)

use executor::Class;
use executor::sim::{Sim, cancel_at_every_await};
use mm::file_store::FileId;
use mm::object::{ObjectPage, Sharing};
use mm::sim::{FilesConfig, SimConfig};
use tests::mm::{
    PAGE, Thread, World, assert_empty, destroy, numbered, ready, run, settings, settle, start, window, word,
};

const FILE: FileId = FileId::new(3);
const PAGES: u64 = 12;

#[test]
fn a_hole_reads_as_zeroes_everywhere_but_in_copies_made_before() {
    let config = SimConfig { files: Some(FilesConfig::good(32)), ..SimConfig::new(96, 64) };
    let mut world = World::seeded(config, 8);
    for page in 0..PAGES {
        world.machine.files().put(FILE, page, [page + 1; 512]);
    }
    let object = world.machine.mm().create_file_object(FILE, PAGES * PAGE).expect("there is a store");
    let a = world.machine.create_space().expect("a frame for the root");
    let map = |sharing| ready(world.machine.mm().map(a, window(object, 0, PAGES, sharing))).expect("there is room");
    let (shared, private) = (map(Sharing::Shared), map(Sharing::Private));
    let machine = world.machine.clone();
    world.run("thread", async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        for page in 0..PAGES {
            assert_eq!(thread.load(a, word(shared, page, 1)).await, Ok(page + 1));
            assert_eq!(thread.load(a, word(private, page, 1)).await, Ok(page + 1));
        }
        thread.store(a, word(shared, 5, 0), 55).await.unwrap();
        thread.store(a, word(private, 6, 0), 66).await.unwrap();
        mm.release_holds(&mut thread.holds);
        let vacant = mm.vacate(object, ObjectPage::new(4)..ObjectPage::new(8)).await.unwrap();
        machine.files().punch(FILE, 4..8);
        drop(vacant);
        machine.check();
        for page in 0..PAGES {
            let expected = if (4..8).contains(&page) { 0 } else { page + 1 };
            assert_eq!(thread.load(a, word(shared, page, 1)).await, Ok(expected), "page {page}");
            let copied = if page == 6 { 7 } else { expected };
            assert_eq!(thread.load(a, word(private, page, 1)).await, Ok(copied), "page {page}, private");
        }
        assert_eq!(thread.load(a, word(shared, 5, 0)).await, Ok(0), "what was stored and not written is gone, too");
        assert_eq!(mm.object_size(object), Some(PAGES * PAGE), "a hole does not move the end");
        // A store makes a block anew.
        thread.store(a, word(shared, 5, 2), 52).await.unwrap();
        mm.sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await.unwrap();
        let on_disk = |page| machine.files().contents(FILE, page).map(|words| (words[1], words[2]));
        assert_eq!((on_disk(4), on_disk(5), on_disk(8)), (None, Some((0, 52)), Some((9, 9))));
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn who_faults_on_a_hole_that_is_being_made_waits_for_it() {
    let config = SimConfig { files: Some(FilesConfig::good(32)), ..SimConfig::new(96, 64) };
    let mut world = World::seeded(config, 9);
    (0..PAGES).for_each(|page| world.machine.files().put(FILE, page, [page + 1; 512]));
    let object = world.machine.mm().create_file_object(FILE, PAGES * PAGE).expect("there is a store");
    let a = world.machine.create_space().expect("a frame for the root");
    let at = ready(world.machine.mm().map(a, window(object, 0, PAGES, Sharing::Shared))).expect("there is room");
    let range = ObjectPage::new(2)..ObjectPage::new(6);
    let vacant = ready(world.machine.mm().vacate(object, range)).expect("nothing is under way");
    for page in 2..6 {
        let machine = world.machine.clone();
        let load = async move {
            let loaded = Thread::new(&machine).load(a, word(at, page, 0)).await;
            assert_eq!(loaded, Ok(0), "page {page} was not read from the block that it had");
        };
        world.sim.spawn(Class::User, numbered("user", page as usize), load).detach();
    }
    let stuck = world.sim.run();
    assert!(stuck.is_err(), "four threads wait");
    world.machine.files().punch(FILE, 2..6);
    drop(vacant);
    world.sim.run().unwrap_or_else(|stuck| panic!("{stuck}"));
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

/// Whoever empties a range is dropped at each of its waits, while others read and store there, and a part of it is on its way to the disk.
/// The range is open again: whoever waited goes on, and finds each page as it was, as the disk has it, or empty. What is beside it is as
/// it was; and the next one to empty the range does.
#[test]
fn a_hole_that_is_given_up_half_way_keeps_nobody_waiting_and_can_be_made_again() {
    let mut dropped = 0;
    for seed in 0..100 {
        dropped += cancel_at_every_await(settings(seed), "victim", hole_given_up);
    }
    assert!(dropped > 200, "dropped {dropped} times");
}

fn hole_given_up(sim: &mut Sim) {
    let hole = 2..8;
    let machine = start(sim, SimConfig { files: Some(FilesConfig::good(32)), ..SimConfig::new(96, 64) });
    (0..PAGES).for_each(|page| machine.files().put(FILE, page, [page + 1; 512]));
    let object = machine.mm().create_file_object(FILE, PAGES * PAGE).expect("there is a store");
    let a = machine.create_space().expect("a frame for the root");
    let at = ready(machine.mm().map(a, window(object, 0, PAGES, Sharing::Shared))).expect("there is room");
    let own = machine.clone();
    run(sim, "setup", async move {
        let mut thread = Thread::new(&own);
        for page in 0..PAGES / 2 {
            thread.store(a, word(at, page, 0), 100 + page).await.unwrap();
        }
    });
    let (own, range) = (machine.clone(), ObjectPage::new(hole.start)..ObjectPage::new(hole.end));
    let (pages, all) = (hole.clone(), range.clone());
    let victim = async move {
        let vacant = own.mm().vacate(object, range).await.expect("the object is there");
        own.files().punch(FILE, pages);
        drop(vacant);
    };
    let own = machine.clone();
    let writer = async move {
        let all = ObjectPage::new(0)..ObjectPage::LAST;
        own.mm().sync_object(object, all).await.expect("the disk is good");
    };
    sim.spawn(Class::User, "writer", writer).detach();
    for page in 0..PAGES {
        let own = machine.clone();
        let load = async move {
            let mut thread = Thread::new(&own);
            let found = thread.load(a, word(at, page, 0)).await.expect("it is mapped");
            let stored = if page < PAGES / 2 { 100 + page } else { page + 1 };
            let is_right = found == stored || (2..8).contains(&page) && [0, page + 1].contains(&found);
            assert!(is_right, "page {page} has {found}");
        };
        sim.spawn(Class::User, numbered("user", page as usize), load).detach();
    }
    sim.spawn(Class::User, "victim", victim).detach();
    sim.run().unwrap_or_else(|stuck| panic!("{stuck}"));
    settle(sim, &machine);
    let own = machine.clone();
    run(sim, "again", async move {
        let vacant = own.mm().vacate(object, all).await.expect("the object is there");
        own.files().punch(FILE, hole.clone());
        drop(vacant);
        let mut thread = Thread::new(&own);
        for page in 0..PAGES {
            let stored = if page < PAGES / 2 { 100 + page } else { page + 1 };
            let expected = if hole.contains(&page) { 0 } else { stored };
            assert_eq!(thread.load(a, word(at, page, 0)).await, Ok(expected), "page {page}");
        }
    });
    machine.mm().close_object(object);
    destroy(sim, &machine, a);
    assert_empty(sim, &machine);
}
