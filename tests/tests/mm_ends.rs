//! The end of an object moves: what was behind it does not come back, whatever its pages go through, and whoever gives up half-way.
//!
//! Each of these was found by the storm (`mm_storm`).

use executor::Class;
use executor::sim::cancel_at_every_await;
use mm::addr::VirtAddr;
use mm::file_store::FileId;
use mm::object::{ObjectId, ObjectPage, Sharing};
use mm::sim::{FilesConfig, SimConfig, SimMachine};
use mm::space::{Move, Placement, SpaceId};
use std::sync::Arc;
use tests::mm::{
    PAGE, Thread, World, anonymous, assert_empty, destroy, pages, poll_once, ready, run, settings, settle, start,
    window, word,
};

const FILE: FileId = FileId::new(3);
/// Words in a page.
const WORDS: u64 = PAGE / 8;

fn config() -> SimConfig {
    SimConfig { files: Some(FilesConfig::good(64)), ..SimConfig::new(96, 256) }
}

/// A space with a shared window of eight pages of an object, and a private one.
fn windows(machine: &SimMachine, object: ObjectId) -> (SpaceId, VirtAddr, VirtAddr) {
    let space = machine.create_space().expect("a root");
    let map = |sharing| ready(machine.mm().map(space, window(object, 0, 8, sharing))).expect("there is room");
    (space, map(Sharing::Shared), map(Sharing::Private))
}

/// Pages out a page of shared memory whose rest is behind the end, and has the object grow: the rest is zero.
#[test]
fn p13_what_was_behind_the_end_of_shared_memory_does_not_come_back_by_way_of_swap() {
    // Stored there before the page left; there when the end came, in a page that has a copy; and in a page full of one word.
    for way in 0..3 {
        let mut world = World::seeded(config(), way);
        let object = world.machine.mm().create_object(2 * PAGE).unwrap();
        let (a, shared, _) = windows(&world.machine, object);
        let (machine, end) = (world.machine.clone(), PAGE + 80);
        let page_out = |world: &mut World| {
            world.machine.evict(a, pages(shared, 2));
            world.settle();
        };
        world.run("setup", async move {
            let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
            let bytes = if way == 2 { vec![0x11; PAGE as usize] } else { 5u64.to_le_bytes().to_vec() };
            mm.object_write_bytes(object, PAGE, a, &bytes).await.unwrap();
            if way == 0 {
                mm.truncate_object(object, end, a).await.unwrap();
            }
            thread.store(a, word(shared, 1, 100), if way == 2 { 0x1111_1111_1111_1111 } else { 7 }).await.unwrap();
        });
        page_out(&mut world);
        let machine = world.machine.clone();
        world.run("cut", async move {
            let _there = Thread::new(&machine).load(a, word(shared, 1, 0)).await;
            machine.mm().truncate_object(object, end, a).await.unwrap();
        });
        page_out(&mut world);
        let machine = world.machine.clone();
        world.run("grow", async move {
            machine.mm().truncate_object(object, 2 * PAGE, a).await.unwrap();
            let mut thread = Thread::new(&machine);
            assert_eq!(thread.load(a, word(shared, 1, 100)).await, Ok(0), "way {way}");
            let first = if way == 2 { 0x1111_1111_1111_1111 } else { 5 };
            assert_eq!(thread.load(a, word(shared, 1, 0)).await, Ok(first), "way {way}");
        });
        world.machine.mm().close_object(object);
        world.destroy(a);
        world.assert_empty();
    }
}

#[test]
fn memory_that_is_no_files_has_nothing_to_be_written() {
    let mut world = World::seeded(config(), 1);
    let object = world.machine.mm().create_object(8 * PAGE).unwrap();
    let (a, shared, _) = windows(&world.machine, object);
    let machine = world.machine.clone();
    world.machine.disk().stop();
    world.run("sync", async move {
        let mut thread = Thread::new(&machine);
        thread.store(a, shared, 1).await.unwrap();
        machine.mm().release_holds(&mut thread.holds);
        machine.evict(a, pages(shared, 1));
        // On its way to swap, and stored to meanwhile: that is reclaim's business.
        thread.store(a, shared, 2).await.unwrap();
        machine.mm().sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await.unwrap();
    });
    world.machine.disk().resume();
    world.settle();
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

/// How an object grows after a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Growth {
    Write,
    Truncate,
}

/// A cut is dropped at each await; whoever has the object grow next finds zeroes between the end and what is new.
fn dropped_at_each_await(is_file: bool, growth: Growth) {
    let dropped = cancel_at_every_await(settings(3), "victim", |sim| {
        let machine = start(sim, config());
        let mm = machine.mm();
        let object = if is_file { mm.create_file_object(FILE, 0) } else { mm.create_object(0) }.unwrap();
        let (a, shared, private) = windows(&machine, object);
        let own = machine.clone();
        run(sim, "setup", async move {
            let words: Vec<u8> = (0..8 * WORDS).flat_map(|at| (at / WORDS + 1).to_le_bytes()).collect();
            own.mm().object_write_bytes(object, 0, a, &words).await.unwrap();
            let mut thread = Thread::new(&own);
            for page in 0..8 {
                thread.store(a, word(private, page, 100), 77).await.unwrap();
            }
            own.mm().sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await.unwrap();
        });
        machine.evict(a, pages(shared, 8));
        settle(sim, &machine);
        let own = machine.clone();
        let victim = async move { own.mm().truncate_object(object, PAGE + 80, a).await.unwrap() };
        sim.spawn(Class::User, "victim", victim).detach();
        sim.run().unwrap_or_else(|stuck| panic!("{stuck}"));
        settle(sim, &machine);
        // It may have been dropped before it began.
        if machine.mm().object_size(object) == Some(PAGE + 80) {
            run(sim, "growth", grow_and_look(machine.clone(), object, growth, (a, shared, private)));
        }
        machine.mm().close_object(object);
        destroy(sim, &machine, a);
        assert_empty(sim, &machine);
    });
    println!("{growth:?}: dropped at {dropped} awaits");
    assert!(dropped > 1);
}

async fn grow_and_look(
    machine: Arc<SimMachine>,
    object: ObjectId,
    growth: Growth,
    (a, shared, private): (SpaceId, VirtAddr, VirtAddr),
) {
    let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
    if mm.object_file(object).is_some() {
        // As whoever keeps files does it; then the blocks may go.
        mm.complete_cut(object, None).await.unwrap();
        mm.forget_prepared(object).await;
        machine.files().cut(FILE, 2);
    }
    match growth {
        Growth::Write => drop(mm.object_write_bytes(object, 7 * PAGE, a, &[9; 8]).await.unwrap()),
        Growth::Truncate => mm.truncate_object(object, 8 * PAGE, a).await.unwrap(),
    }
    assert_eq!(thread.load(a, word(shared, 1, 9)).await, Ok(2));
    assert_eq!(thread.load(a, word(private, 1, 100)).await, Ok(77), "a copy of the last page keeps its bytes");
    for (page, at) in [(1, 10), (1, 100), (2, 0), (2, 100), (5, 100), (6, 511)] {
        assert_eq!(thread.load(a, word(shared, page, at)).await, Ok(0), "word {at} of page {page}");
        if page > 1 {
            assert_eq!(thread.load(a, word(private, page, at)).await, Ok(0), "word {at} of the copy of page {page}");
        }
    }
}

#[test]
fn what_a_cut_given_up_half_way_has_left_does_not_come_back_when_memory_grows() {
    dropped_at_each_await(false, Growth::Write);
    dropped_at_each_await(false, Growth::Truncate);
}

#[test]
fn what_a_cut_given_up_half_way_has_left_does_not_come_back_when_a_file_grows() {
    dropped_at_each_await(true, Growth::Write);
    dropped_at_each_await(true, Growth::Truncate);
}

/// A write that is given up has blocks prepared behind the end; once they are taken back, the next write asks for them again.
#[test]
fn blocks_prepared_for_a_write_that_is_given_up_are_asked_for_again() {
    for polls in 1..12 {
        let mut world = World::seeded(config(), polls);
        let object = world.machine.mm().create_file_object(FILE, 0).unwrap();
        let (a, shared, _) = windows(&world.machine, object);
        let buffer = ready(world.machine.mm().map(a, anonymous(Placement::Anywhere, 2))).unwrap();
        let machine = world.machine.clone();
        world.run("given up", async move {
            {
                let mut write = Box::pin(machine.mm().object_write(object, 0, a, buffer, 2 * PAGE));
                for _ in 0..polls {
                    if poll_once(write.as_mut()).is_ready() {
                        break;
                    }
                    executor::yield_now().await;
                    machine.files().step();
                }
            }
            machine.mm().write_back_old().await;
            machine.mm().write_back_old().await;
            let end = machine.mm().object_size(object).unwrap();
            machine.mm().truncate_object(object, end, a).await.unwrap();
            machine.mm().forget_prepared(object).await;
            machine.files().cut(FILE, end.div_ceil(PAGE));
            // Panics if it is written where there is no block.
            machine.mm().object_write_bytes(object, 0, a, &[3; 2 * PAGE as usize]).await.unwrap();
            machine.mm().sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await.unwrap();
            assert_eq!(machine.files().contents(FILE, 1).map(|words| words[7]), Some(0x0303_0303_0303_0303));
            assert_eq!(Thread::new(&machine).load(a, word(shared, 1, 7)).await, Ok(0x0303_0303_0303_0303));
        });
        world.machine.mm().close_object(object);
        world.destroy(a);
        world.assert_empty();
    }
}

/// A cut looks at one space after the other; a copy that moves, or is forked, from where it has not been to where it has
/// been already, goes all the same.
#[test]
fn copies_of_what_is_cut_off_go_although_they_are_forked_or_moved_meanwhile() {
    for (polls, forks, cut_last) in (0..48).map(|n: usize| (n / 4, n & 1 > 0, n & 2 > 0)) {
        beside_a_cut(polls, forks, cut_last);
    }
}

fn beside_a_cut(polls: usize, forks: bool, cut_last: bool) {
    let mut world = World::seeded(config(), 1);
    let object = world.machine.mm().create_file_object(FILE, 8 * PAGE).unwrap();
    // The child's space is looked at first.
    let child = world.machine.create_space().unwrap();
    let (a, _, private) = windows(&world.machine, object);
    let (machine, place) = (world.machine.clone(), VirtAddr::new(1 << 30));
    world.run("beside", async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        thread.store(a, word(private, 6, 1), 77).await.unwrap();
        mm.release_holds(&mut thread.holds);
        let mut cut = Box::pin(mm.truncate_object(object, PAGE, a));
        let mut other: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = if forks {
            Box::pin(async { mm.fork_space(a, child).await.unwrap() })
        } else {
            Box::pin(async { assert_eq!(mm.remap(a, private, 8 * PAGE, 8 * PAGE, Move::To(place)).await, Ok(place)) })
        };
        // One begins when the other has been polled so often; then they take turns, until both are done.
        let (mut cut_done, mut other_done) = (false, false);
        for step in 0.. {
            let (cut_waits, other_waits) = if cut_last { (step < polls, false) } else { (false, step < polls) };
            cut_done |= !cut_done && (!cut_waits || other_done) && poll_once(cut.as_mut()).is_ready();
            other_done |= !other_done && (!other_waits || cut_done) && poll_once(other.as_mut()).is_ready();
            if cut_done && other_done {
                break;
            }
        }
        mm.truncate_object(object, 8 * PAGE, a).await.unwrap();
        let (space, at) = if forks { (child, private) } else { (a, place) };
        assert_eq!(thread.load(space, word(at, 6, 1)).await, Ok(0), "polls {polls}, forks {forks}");
    });
    world.machine.mm().close_object(object);
    world.destroy(child);
    world.destroy(a);
    world.assert_empty();
}
