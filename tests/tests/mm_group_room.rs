//! Room in a full group: whatever makes some, as many get in as there is room for, and nobody who waits is forgotten.
//!
//! Threads are polled by hand, so that each test says who runs when, and sees who was woken.

use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::group::{GroupId, GroupLimits, GroupStats};
use mm::sim::{SimConfig, SimMachine};
use mm::space::SpaceId;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tests::mm::{PAGE, Thread, World, word};

/// Pages of the group.
const ROOM: u64 = 4;
/// Pages of each area.
const PAGES: u64 = 16;

/// Counts how often a thread was woken.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A thread that stores to one page and then lets go of it.
struct Storing {
    future: Pin<Box<dyn Future<Output = Result<(), FaultError>>>>,
    wakes: Arc<Wakes>,
}

impl Storing {
    fn poll(&mut self) -> Poll<Result<(), FaultError>> {
        self.future.as_mut().poll(&mut Context::from_waker(&Waker::from(self.wakes.clone())))
    }
    fn wakes(&self) -> u32 {
        self.wakes.0.load(Ordering::Relaxed)
    }
    fn is_woken(&self) -> bool {
        self.wakes() > 0
    }
}

/// A group that is full of pages which a thread holds, and a space in it for those who wait.
struct Scene {
    world: World,
    group: GroupId,
    /// Who has all the pages of the group.
    rich: (SpaceId, VirtAddr),
    holder: Option<Thread>,
    /// Who wants some.
    poor: (SpaceId, VirtAddr),
}

impl Scene {
    fn new() -> Self {
        let mut world = World::seeded(SimConfig::new(128, 256), 1);
        let (rich, poor) = (world.space_with(PAGES), world.space_with(PAGES));
        let mm = world.machine.mm();
        let group = mm.create_group().expect("memory for a group");
        mm.set_group_limits(group, GroupLimits { frames: Some(ROOM), slots: None });
        [rich, poor].into_iter().for_each(|(space, _)| mm.set_space_group(space, group));
        let machine = world.machine.clone();
        let holder = world.run("rich", async move {
            let mut thread = Thread::new(&machine);
            let stores: Vec<_> = (0..ROOM).map(|page| (word(rich.1, page, 0), page)).collect();
            machine.store_all(rich.0, &stores, 1, &mut thread.holds).await.expect("there is room");
            thread
        });
        Self { world, group, rich, holder: Some(holder), poor }
    }

    /// Threads that store to these pages of the poor space, one after the other; each waits.
    fn waiting<const N: usize>(&mut self, pages: [u64; N]) -> [Storing; N] {
        let threads = pages.map(|page| {
            let mut thread = self.storing(page);
            assert_eq!(thread.poll(), Poll::Pending, "the group is full");
            thread
        });
        self.world.settle();
        assert!(!threads.iter().any(Storing::is_woken), "nothing was freed");
        threads
    }

    fn storing(&self, page: u64) -> Storing {
        let (machine, (space, area)): (Arc<SimMachine>, _) = (self.world.machine.clone(), self.poor);
        let future = async move {
            let mut holds = Holds::default();
            let done = machine.store(space, word(area, page, 0), page, &mut holds).await;
            machine.mm().release_holds(&mut holds);
            done
        };
        Storing { future: Box::pin(future), wakes: Arc::default() }
    }

    /// The rich space gives up pages, all of them at once, of which `count` have frames.
    fn give_up(&mut self, first: u64, count: u64) {
        let (machine, (space, area)) = (self.world.machine.clone(), self.rich);
        self.world.run("unmap", async move {
            machine.mm().unmap(space, word(area, first, 0), count * PAGE).await.expect("it is mapped");
        });
    }

    fn stats(&self) -> GroupStats {
        self.world.machine.mm().group_stats(self.group).expect("the group is there")
    }

    /// Everybody comes to an end by what is left: the held pages go, then there is room for one after the other.
    fn end(mut self, threads: impl IntoIterator<Item = Storing>) {
        drop(self.holder.take());
        let mut threads: Vec<_> = threads.into_iter().collect();
        let mut woken = true;
        while woken && !threads.is_empty() {
            threads.retain_mut(|thread| thread.poll().is_pending());
            let before: u32 = threads.iter().map(Storing::wakes).sum();
            self.world.settle();
            woken = threads.iter().map(Storing::wakes).sum::<u32>() > before;
        }
        assert!(threads.is_empty(), "{} threads are forgotten", threads.len());
        assert!(self.stats().frames <= ROOM.max(self.stats().limits.frames.unwrap_or(0)));
        self.world.destroy(self.rich.0);
        self.world.destroy(self.poor.0);
        let (machine, group) = (self.world.machine.clone(), self.group);
        self.world.run("rmdir", async move { machine.mm().remove_group(group).await });
        self.world.assert_empty();
    }
}

/// Everybody looks; says who got in, and gives back who waits on.
fn look<const N: usize>(threads: [Storing; N]) -> ([bool; N], Vec<Storing>) {
    let mut rest = Vec::new();
    let done = threads.map(|mut thread| {
        let done = thread.poll();
        assert!(matches!(done, Poll::Pending | Poll::Ready(Ok(()))), "{done:?}");
        if done.is_pending() {
            rest.push(thread);
        }
        done.is_ready()
    });
    (done, rest)
}

#[test]
fn e9_of_frames_freed_by_the_chunk_each_is_had_by_one_who_waits() {
    let mut scene = Scene::new();
    let threads = scene.waiting([0, 1, 2, 3, 4, 5]);
    scene.give_up(0, 3);
    assert_eq!(threads.each_ref().map(Storing::wakes), [1, 1, 1, 0, 0, 0], "as many as there is room for");
    let (done, rest) = look(threads);
    assert_eq!(done, [true, true, true, false, false, false], "three frames, in the order in which they came");
    scene.end(rest);
}

#[test]
fn e9_a_woken_thread_that_is_dropped_keeps_nobody_from_its_room() {
    let mut scene = Scene::new();
    let [first, second, third] = scene.waiting([0, 1, 2]);
    scene.give_up(0, 1);
    assert!(first.is_woken());
    drop(first);
    assert!(second.is_woken());
    drop(second);
    assert!(third.is_woken());
    drop(third);
    let mut late = scene.storing(3);
    assert_eq!(late.poll(), Poll::Ready(Ok(())), "nobody is left who has a claim to it");
    scene.end([]);
}

#[test]
fn e9_a_woken_thread_that_needs_no_frame_any_more_keeps_nobody_from_its_room() {
    let mut scene = Scene::new();
    // Two of them store to one page; the third's is unmapped before it looks.
    let [mut first, mut same, mut unmapped, mut last] = scene.waiting([0, 0, 5, 7]);
    scene.give_up(0, 2);
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
    assert_eq!(same.poll(), Poll::Ready(Ok(())), "the page is there");
    let (machine, (space, area)) = (scene.world.machine.clone(), scene.poor);
    scene.world.run("unmap", async move { machine.mm().unmap(space, word(area, 5, 0), PAGE).await.expect("mapped") });
    assert_eq!(unmapped.poll(), Poll::Ready(Err(FaultError::NotMapped)));
    assert!(last.is_woken());
    assert_eq!(last.poll(), Poll::Ready(Ok(())), "two frames, and one was taken");
    scene.end([]);
}

#[test]
fn e9_a_newcomer_waits_behind_those_who_wait_and_more_is_looked_for_in_their_name() {
    let mut scene = Scene::new();
    let [mut first, mut second] = scene.waiting([0, 1]);
    scene.give_up(0, 1);
    let mut newcomer = scene.storing(9);
    assert_eq!(newcomer.poll(), Poll::Pending, "the room is set aside");
    scene.world.settle();
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
    assert!(!second.is_woken() && !newcomer.is_woken(), "it has been taken");
    drop(scene.holder.take());
    scene.world.settle();
    assert!(second.is_woken() && !newcomer.is_woken(), "of the pages that can go one went, though nobody asked again");
    assert_eq!(second.poll(), Poll::Ready(Ok(())));
    scene.end([newcomer]);
}

#[test]
fn e9_a_higher_limit_lets_in_as_many_as_it_has_room_for() {
    let mut scene = Scene::new();
    let threads = scene.waiting([0, 1, 2, 3]);
    let limits = GroupLimits { frames: Some(ROOM + 2), slots: None };
    scene.world.machine.mm().set_group_limits(scene.group, limits);
    let (done, rest) = look(threads);
    assert_eq!(done, [true, true, false, false]);
    scene.end(rest);
}

#[test]
fn e9_a_lower_limit_has_who_was_woken_wait_again() {
    let mut scene = Scene::new();
    let [mut first, second] = scene.waiting([0, 1]);
    scene.give_up(0, 1);
    assert!(first.is_woken());
    let limits = GroupLimits { frames: Some(ROOM - 1), slots: None };
    scene.world.machine.mm().set_group_limits(scene.group, limits);
    assert_eq!(first.poll(), Poll::Pending);
    scene.end([second, first]);
}

#[test]
fn e9_a_space_that_leaves_its_group_needs_its_room_no_more() {
    let mut scene = Scene::new();
    let [mut first, second] = scene.waiting([0, 1]);
    scene.world.machine.mm().set_space_group(scene.poor.0, GroupId::ROOT);
    assert!(first.is_woken() && second.is_woken());
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
    assert_eq!(scene.stats().frames, ROOM, "charged to the root");
    scene.end([second]);
}

/// A program that is being loaded has a space in the group, and is none of its processes yet.
#[test]
fn e9_who_waits_in_a_group_that_is_removed_gets_on() {
    let mut scene = Scene::new();
    let [mut first, mut second] = scene.waiting([0, 1]);
    drop(scene.holder.take());
    let (machine, group) = (scene.world.machine.clone(), scene.group);
    scene.world.run("rmdir", async move { machine.mm().remove_group(group).await });
    assert!(first.is_woken() && second.is_woken());
    assert_eq!([first.poll(), second.poll()], [Poll::Ready(Ok(())); 2]);
    assert_eq!(scene.world.machine.mm().space_group(scene.poor.0), GroupId::ROOT);
    [scene.rich.0, scene.poor.0].into_iter().for_each(|space| scene.world.destroy(space));
    scene.world.assert_empty();
}

#[test]
fn e9_when_a_program_of_the_group_is_gone_its_room_is_for_those_who_wait() {
    let mut scene = Scene::new();
    let threads = scene.waiting([0, 1, 2, 3]);
    drop(scene.holder.take());
    let (machine, rich) = (scene.world.machine.clone(), scene.rich.0);
    scene.world.run("exit", async move { machine.mm().destroy_space(rich).await });
    assert!(threads.iter().all(Storing::is_woken));
    let (done, rest) = look(threads);
    assert_eq!(done, [true; 4]);
    scene.end(rest);
}
