//! Memory groups: a program in a group that is too small thrashes alone, and dies alone.

use executor::Class;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, FaultKind, Holds};
use mm::group::{GroupId, GroupLimits, GroupStats, MAX_GROUPS};
use mm::platform::Access;
use mm::sim::{SimConfig, SimMachine};
use mm::space::SpaceId;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tests::harness::reduced_or_full;
use tests::mm::{PAGE, World, numbered, poll_once, polled, word};

/// A space in a group of its own.
fn space_in_group(world: &mut World, pages: u64, limits: GroupLimits) -> (GroupId, SpaceId, VirtAddr) {
    let (space, area) = world.space_with(pages);
    let mm = world.machine.mm();
    let group = mm.create_group().expect("memory for a group");
    mm.set_group_limits(group, limits);
    mm.set_space_group(space, group);
    (group, space, area)
}

fn frames(most: u64) -> GroupLimits {
    GroupLimits { frames: Some(most), slots: None }
}

/// Stores to each of `count` pages, `rounds` times, and checks what was there.
async fn go_round(
    machine: Arc<SimMachine>,
    (space, area): (SpaceId, VirtAddr),
    count: u64,
    rounds: u64,
) -> Result<(), FaultError> {
    let mut holds = Holds::default();
    let mut end = Ok(());
    'all: for round in 0..rounds {
        for page in 0..count {
            let at = word(area, page, page % 512);
            let (found, stored) =
                (machine.load(space, at, &mut holds).await, machine.store(space, at, round + page, &mut holds).await);
            match (found, stored) {
                (Ok(found), Ok(())) if round > 0 => assert_eq!(found, round - 1 + page, "page {page}"),
                (Ok(found), Ok(())) => assert_eq!(found, 0, "page {page}"),
                (Err(error), _) | (_, Err(error)) => {
                    end = Err(error);
                    break 'all;
                }
            }
        }
    }
    machine.mm().release_holds(&mut holds);
    end
}

fn stats(world: &World, group: GroupId) -> GroupStats {
    world.machine.mm().group_stats(group).expect("the group is there")
}

fn remove(world: &mut World, group: GroupId) {
    let machine = world.machine.clone();
    world.run("rmdir", async move { machine.mm().remove_group(group).await });
    assert_eq!(world.machine.mm().group_stats(group), None);
}

#[test]
fn x17_a_group_thrashes_alone() {
    for seed in 0..20 {
        let mut world = World::seeded(SimConfig::new(512, 2048), seed);
        let (group, thrasher, its_area) = space_in_group(&mut world, 200, frames(64));
        // So large that what is free with the group at its limit is little more than what wakes reclaim.
        let marks = world.machine.mm().watermarks();
        let tables = 16;
        let pages = (world.machine.mm().frames().free_frames() - 64 - marks.low - tables) as u64;
        let (neighbour, area) = world.space_with(pages);
        let resident = go_round(world.machine.clone(), (neighbour, area), pages, 1);
        assert_eq!(world.run("neighbour", resident), Ok(()));
        let before = world.machine.mm().snapshot();
        assert_eq!(before.counters.pswpout, 0, "there is room for the neighbour");
        let thrash = go_round(world.machine.clone(), (thrasher, its_area), 200, 4);
        let thrash = world.sim.spawn(Class::User, "thrasher", thrash);
        // The neighbour goes round its own pages all the while; none of them ever leaves.
        let machine = world.machine.clone();
        let spin = async move {
            let mut majors = 0;
            let mut holds = Holds::default();
            for step in 0..4000_u64 {
                let at = word(area, step % pages, step % pages);
                let kind = machine.mm().fault(neighbour, at, Access::Read, step, &mut holds).await;
                majors += u64::from(kind == Ok(FaultKind::Major));
                assert!(machine.load(neighbour, at, &mut holds).await.is_ok());
                machine.mm().release_holds(&mut holds);
            }
            majors
        };
        assert_eq!(world.run("neighbour", spin), 0, "seed {seed}: the neighbour's pages stayed");
        assert_eq!(world.run("thrasher", thrash), Ok(()));
        let GroupStats { frames, frames_peak, slots, events, .. } = stats(&world, group);
        assert!(frames <= 64 && frames_peak == 64, "seed {seed}: {frames} frames, at most {frames_peak}");
        assert!(slots >= 136 && events.max > 0 && events.oom_kill == 0, "seed {seed}: {slots} slots, {events:?}");
        assert!(world.machine.mm().snapshot().counters.pswpin > 400, "seed {seed}: it did thrash");
        world.destroy(thrasher);
        assert_eq!((stats(&world, group).frames, stats(&world, group).slots), (0, 0), "what is gone is not charged");
        remove(&mut world, group);
        world.destroy(neighbour);
        world.assert_empty();
    }
}

#[test]
fn x17_a_group_without_swap_runs_out_alone() {
    for slots in [0, 10] {
        let mut world = World::seeded(SimConfig::new(512, 2048), slots);
        let limits = GroupLimits { frames: Some(40), slots: Some(slots) };
        let (group, greedy, its_area) = space_in_group(&mut world, 200, limits);
        let (neighbour, area) = world.space_with(100);
        let greed = go_round(world.machine.clone(), (greedy, its_area), 200, 1);
        let greed = world.sim.spawn(Class::User, "greedy", greed);
        let busy = go_round(world.machine.clone(), (neighbour, area), 100, 5);
        assert_eq!(world.run("neighbour", busy), Ok(()));
        assert_eq!(world.run("greedy", greed), Err(FaultError::OutOfMemory));
        let GroupStats { frames_peak, slots: used, events, .. } = stats(&world, group);
        assert_eq!((frames_peak, used, events.oom, events.oom_kill), (40, slots, 1, 1), "{events:?}");
        world.destroy(greedy);
        remove(&mut world, group);
        world.destroy(neighbour);
        world.assert_empty();
    }
}

#[test]
fn x17_of_two_programs_in_a_group_one_is_told_and_the_other_goes_on() {
    for seed in 0..20 {
        let mut world = World::seeded(SimConfig::new(512, 2048), seed);
        let limits = GroupLimits { frames: Some(64), slots: Some(0) };
        let (group, first, first_area) = space_in_group(&mut world, 50, limits);
        let (second, second_area) = world.space_with(50);
        world.machine.mm().set_space_group(second, group);
        world.end_victims(|_| {});
        let tasks: Vec<_> = [(first, first_area), (second, second_area)]
            .into_iter()
            .enumerate()
            .map(|(number, place)| {
                let machine = world.machine.clone();
                let program = async move {
                    let end = go_round(machine.clone(), place, 50, 3).await;
                    if end.is_err() {
                        machine.mm().destroy_space(place.0).await;
                    }
                    end
                };
                world.sim.spawn(Class::User, numbered("program", number), program)
            })
            .collect();
        let ends: Vec<_> = tasks.into_iter().map(|task| world.run("program", task)).collect();
        // One that had come to its end may be the one that is ended.
        let failed = ends.iter().filter(|end| end.is_err()).count();
        assert!(failed <= 1 && stats(&world, group).events.oom_kill == 1, "seed {seed}: {ends:?}");
        world.destroy(first);
        world.destroy(second);
        remove(&mut world, group);
        world.assert_empty();
    }
}

#[test]
fn x17_a_lower_limit_brings_a_group_down_and_a_removed_group_leaves_its_pages_to_the_root() {
    let mut world = World::seeded(SimConfig::new(512, 2048), 3);
    let (group, space, area) = space_in_group(&mut world, 200, GroupLimits::default());
    assert_eq!(world.run("fill", go_round(world.machine.clone(), (space, area), 200, 1)), Ok(()));
    assert_eq!(stats(&world, group).frames, 200);
    world.machine.mm().set_group_limits(group, frames(50));
    world.settle();
    let after = stats(&world, group);
    assert!(after.frames <= 50 && after.slots >= 150, "{after:?}");
    // The program moves out; what it had stays charged until the group is dissolved.
    world.machine.mm().set_space_group(space, GroupId::ROOT);
    assert_eq!(stats(&world, group).frames, after.frames);
    remove(&mut world, group);
    world.settle();
    assert_eq!(world.run("check", go_round_again(world.machine.clone(), (space, area), 200)), Ok(()));
    world.destroy(space);
    world.assert_empty();
}

/// A program that is being loaded has a space in the group that is none of a process yet.
#[test]
fn x17_a_space_that_is_in_a_group_as_it_is_removed_goes_on_in_the_root() {
    for seed in 0..reduced_or_full(20, 200) {
        let mut world = World::seeded(SimConfig::new(512, 2048), seed);
        let (group, space, area) = space_in_group(&mut world, 200, frames(64));
        let fill = go_round(world.machine.clone(), (space, area), 200, 2);
        let fill = world.sim.spawn(Class::User, "loading", fill);
        let machine = world.machine.clone();
        let remove = async move {
            while machine.mm().group_stats(group).is_some_and(|stats| stats.slots < 20) {
                executor::yield_now().await;
            }
            machine.mm().remove_group(group).await;
        };
        world.run("rmdir", remove);
        assert!(world.machine.mm().snapshot().counters.pswpin < 100, "seed {seed}: it is not done");
        assert_eq!(world.machine.mm().space_group(space), GroupId::ROOT);
        assert_eq!(world.run("loading", fill), Ok(()), "seed {seed}");
        world.destroy(space);
        world.assert_empty();
    }
}

/// Slots are the group's until the last step, and what is read from them was charged to whom they are charged.
#[test]
fn x17_what_comes_back_while_a_group_is_removed_is_the_roots() {
    let mut world = World::seeded(SimConfig::new(512, 2048), 5);
    let (group, space, area) = space_in_group(&mut world, 200, frames(64));
    assert_eq!(world.run("fill", go_round(world.machine.clone(), (space, area), 200, 1)), Ok(()));
    world.settle();
    let machine = world.machine.clone();
    machine.mm().set_space_group(space, GroupId::ROOT);
    let away = stats(&world, group).slots;
    let reads_before = machine.mm().snapshot().counters.store_reads;
    {
        let mut removal = pin!(machine.mm().remove_group(group));
        assert_eq!(poll_once(removal.as_mut()), Poll::Pending, "frames are looked at, and slots are not yet");
        assert_eq!((stats(&world, group).frames, stats(&world, group).slots), (0, away));
        assert_eq!(polled(machine.mm().prefetch(space, area, 200 * PAGE), || {}), Ok(()));
        let reads = machine.mm().snapshot().counters.store_reads - reads_before;
        assert!(reads > 0, "some are on their way back");
        assert_eq!(stats(&world, group).frames, 0, "the root's");
        while poll_once(removal.as_mut()).is_pending() {}
    }
    world.settle();
    assert_eq!(world.run("check", go_round_again(machine.clone(), (space, area), 200)), Ok(()));
    world.destroy(space);
    world.assert_empty();
}

async fn go_round_again(
    machine: Arc<SimMachine>,
    (space, area): (SpaceId, VirtAddr),
    count: u64,
) -> Result<(), FaultError> {
    let mut holds = Holds::default();
    for page in 0..count {
        assert_eq!(machine.load(space, word(area, page, page % 512), &mut holds).await?, page);
    }
    machine.mm().release_holds(&mut holds);
    Ok(())
}

#[test]
fn x17_a_machine_short_of_frames_takes_from_groups_too() {
    let mut world = World::seeded(SimConfig::new(256, 2048), 5);
    let (group, idle, idle_area) = space_in_group(&mut world, 120, GroupLimits::default());
    assert_eq!(world.run("idle", go_round(world.machine.clone(), (idle, idle_area), 120, 1)), Ok(()));
    let (busy, area) = world.space_with(200);
    assert_eq!(world.run("busy", go_round(world.machine.clone(), (busy, area), 200, 2)), Ok(()));
    assert!(stats(&world, group).frames < 120, "{:?}", stats(&world, group));
    world.destroy(busy);
    world.destroy(idle);
    remove(&mut world, group);
    world.assert_empty();
}

/// Threads of a group that is too small for two of them, alone on the machine: whoever waits for room is served by what the others let
/// go of, and by nothing else.
fn thrash_together(seed: u64, threads: usize, pages_at_once: u64, room: u64) {
    let mut world = World::seeded(SimConfig::new(256, 2048), seed);
    let (group, space, area) = space_in_group(&mut world, 2 * threads as u64 * pages_at_once, frames(room));
    for number in 0..threads {
        let machine = world.machine.clone();
        let own = 2 * number as u64 * pages_at_once;
        let work = async move {
            let mut holds = Holds::default();
            for round in 0..8u64 {
                let first = own + round % 2 * pages_at_once;
                let stores: Vec<_> = (0..pages_at_once).map(|i| (word(area, first + i, round), round + 1)).collect();
                machine.store_all(space, &stores, round + 1, &mut holds).await.expect("there is swap");
                machine.mm().release_holds(&mut holds);
                executor::yield_now().await;
            }
        };
        world.sim.spawn(Class::User, numbered("thread", number), work).detach();
    }
    world.sim.run().unwrap_or_else(|stuck| {
        panic!("seed {seed}: {stuck}\n{}{:#?}", world.sim.journal().print(), world.machine.mm().snapshot())
    });
    let GroupStats { frames_peak, events, .. } = stats(&world, group);
    assert!(frames_peak == room && events.max > 0 && events.oom == 0, "seed {seed}: {events:?}");
    world.destroy(space);
    remove(&mut world, group);
    world.assert_empty();
}

#[test]
fn e8_twelve_pages_are_enough_for_a_group_of_threads_that_need_two_at_once() {
    for seed in 0..reduced_or_full(100, 2000) {
        thrash_together(seed, 16, 2, 12);
    }
}

#[test]
fn x17_there_is_an_end_to_groups() {
    let mut world = World::seeded(SimConfig::new(64, 64), 1);
    let groups: Vec<_> = (0..MAX_GROUPS).map(|_| world.machine.mm().create_group().expect("room")).collect();
    assert!(world.machine.mm().create_group().is_err());
    remove(&mut world, groups[3]);
    assert_eq!(world.machine.mm().create_group().ok(), Some(groups[3]));
    world.assert_empty();
}

/// A group that may have less than one instruction of its program needs, down to nothing at all: the program ends by the group's rule,
/// at once, and does not wait for room that never comes. With just enough it gets on.
#[test]
fn x17_a_group_with_less_than_an_instruction_needs_ends_its_program() {
    for (most, pages_at_once) in [(0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3)] {
        let mut world = World::seeded(SimConfig::new(128, 256), most);
        let (group, space, area) = space_in_group(&mut world, 8, frames(most));
        let machine = world.machine.clone();
        let end = world.run("program", async move {
            let mut holds = Holds::default();
            let mut end = Ok(());
            for round in 0..8 {
                let stores: Vec<_> =
                    (0..pages_at_once).map(|page| (word(area, (round + page) % 8, 0), round)).collect();
                end = machine.store_all(space, &stores, round + 1, &mut holds).await;
                machine.mm().release_holds(&mut holds);
                if end.is_err() {
                    break;
                }
            }
            end
        });
        let (fits, events) = (pages_at_once <= most, stats(&world, group).events);
        let expected = if fits { Ok(()) } else { Err(FaultError::OutOfMemory) };
        assert_eq!(end, expected, "{pages_at_once} of {most}: {events:?}");
        assert_eq!((events.oom, events.oom_kill), [(1, 1), (0, 0)][usize::from(fits)], "{pages_at_once} of {most}");
        world.destroy(space);
        remove(&mut world, group);
        world.assert_empty();
    }
}

/// A limit of nothing, set while a program is there: its pages leave, nobody is told that memory has run out until somebody needs some,
/// and a higher limit in between is in time.
#[test]
fn x17_a_limit_of_nothing_empties_a_group_and_ends_who_comes_back() {
    for raised in [false, true] {
        let mut world = World::seeded(SimConfig::new(128, 256), 7);
        let (group, space, area) = space_in_group(&mut world, 20, GroupLimits::default());
        assert_eq!(world.run("fill", go_round(world.machine.clone(), (space, area), 20, 1)), Ok(()));
        world.machine.mm().set_group_limits(group, frames(0));
        world.settle();
        let GroupStats { frames: left, events, .. } = stats(&world, group);
        assert_eq!((left, events.oom), (0, 0), "{events:?}");
        if raised {
            world.machine.mm().set_group_limits(group, frames(4));
        }
        let end = world.run("again", go_round_again(world.machine.clone(), (space, area), 20));
        assert_eq!(end, if raised { Ok(()) } else { Err(FaultError::OutOfMemory) });
        assert_eq!(stats(&world, group).events.oom_kill, u64::from(!raised));
        world.destroy(space);
        remove(&mut world, group);
        world.assert_empty();
    }
}

#[test]
fn x17_in_a_group_that_may_have_nothing_one_program_ends_after_the_other() {
    for seed in 0..20 {
        let mut world = World::seeded(SimConfig::new(128, 256), seed);
        let (group, first, first_area) = space_in_group(&mut world, 8, frames(0));
        let (second, second_area) = world.space_with(8);
        world.machine.mm().set_space_group(second, group);
        world.end_victims(|_| {});
        let tasks = [(first, first_area), (second, second_area)].map(|place| {
            let machine = world.machine.clone();
            let program = async move {
                let end = go_round(machine.clone(), place, 8, 1).await;
                machine.mm().destroy_space(place.0).await;
                end
            };
            world.sim.spawn(Class::User, "program", program)
        });
        for task in tasks {
            assert_eq!(world.run("program", task), Err(FaultError::OutOfMemory), "seed {seed}");
        }
        assert_eq!(stats(&world, group).events.oom_kill, 2, "seed {seed}");
        remove(&mut world, group);
        world.assert_empty();
    }
}

/// A copy between memory and an object pins eight pages of the program at once, and needs one of the object: in a group with less it
/// fails, and does not wait for what never comes; in one with enough it is made.
#[test]
fn x17_copies_in_a_group_with_less_than_they_need_fail() {
    let results = [0, 1, 2, 4, 8, 9].map(|most| {
        let mut world = World::seeded(SimConfig::new(128, 256), most);
        let (group, space, area) = space_in_group(&mut world, 8, frames(most));
        let machine = world.machine.clone();
        let object = machine.mm().create_object(8 * PAGE).expect("memory for an object");
        let done = world.run("copy", async move {
            let mm = machine.mm();
            let written = mm.object_write(object, 0, space, area, 8 * PAGE).await;
            let read = mm.object_read(object, 0, space, area, 8 * PAGE).await;
            mm.close_object(object);
            (written, read)
        });
        let events = stats(&world, group).events;
        world.destroy(space);
        remove(&mut world, group);
        world.assert_empty();
        let is_made = done == (Ok(8 * PAGE), Ok(8 * PAGE));
        assert_eq!(events.oom_kill, u64::from(!is_made), "{most} pages: {done:?}, {events:?}");
        is_made
    });
    assert_eq!(results, [false, false, false, false, false, true]);
}
