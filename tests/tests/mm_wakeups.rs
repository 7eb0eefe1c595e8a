//! Very many tasks that wait for the same thing: how much is done twice, and how long the last one waits (E9).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use executor::sim::{Order, Settings, Sim};
use executor::{Class, Clock, Duration, Instant};
use mm::addr::VirtAddr;
use mm::object::Sharing;
use mm::sim::{FilesConfig, SimConfig, SimMachine};
use mm::space::SpaceId;
use tests::mm::{
    DISK_STEP, PAGE, Thread, assert_empty, destroy, numbered, pages, ready, run, settings, settle, space_with, start,
    window, word,
};

/// Tasks that wait.
const TASKS: usize = 1000;

const WORD: u64 = 0x1111;

fn many_tasks(seed: u64) -> Settings {
    Settings { max_tasks: TASKS + 8, order: Order::AsInKernel, ..settings(seed) }
}

/// Counts the polls of all futures that share `polls`.
struct Counted<F> {
    inner: Pin<Box<F>>,
    polls: Arc<AtomicU64>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Relaxed);
        self.inner.as_mut().poll(cx)
    }
}

/// A thousand threads load the word at their address, all of which are in one page that is not in RAM; the store answers when all of
/// them wait.
fn storm(sim: &mut Sim, machine: &Arc<SimMachine>, threads: impl Iterator<Item = (SpaceId, VirtAddr)>) {
    let (clock, polls) = (sim.clock(), Arc::new(AtomicU64::new(0)));
    machine.disk().stop();
    machine.files().stop();
    let loads: Vec<_> = threads
        .enumerate()
        .map(|(number, (space, area))| {
            let own = machine.clone();
            let load = async move {
                let loaded = Thread::new(&own).load(space, area).await;
                (loaded, clock.now())
            };
            sim.spawn(Class::User, numbered("thread", number), Counted { inner: Box::pin(load), polls: polls.clone() })
        })
        .collect();
    let (own, begun) = (machine.clone(), polls.clone());
    let begin = sim.block_on("store", async move {
        while begun.load(Relaxed) < TASKS as u64 {
            executor::yield_now().await;
        }
        own.disk().resume();
        own.files().resume();
        clock.now()
    });
    let begin = begin.expect("every thread begins");
    sim.run().expect("every thread ends");
    let ends: Vec<Instant> = loads
        .into_iter()
        .map(|load| {
            let (loaded, end) = ready(load);
            assert_eq!(loaded, Ok(WORD));
            end
        })
        .collect();
    // One wake-up each: it begins to wait, and has its page.
    assert_eq!((ends.len(), polls.load(Relaxed)), (TASKS, 2 * TASKS as u64), "threads, and their polls");
    // Nobody waits longer than for the read and a poll of each of the others, of a microsecond.
    let longest = ends.iter().max().map(|end| end.since(begin)).expect("some threads");
    let most = DISK_STEP + DISK_STEP + Duration::from_micros(TASKS as u64 + 20);
    assert!(longest <= most, "{longest:?}, at most {most:?}");
    settle(sim, machine);
}

#[test]
fn e9_a_thousand_threads_on_one_page_of_swap_are_one_read_and_one_wake_up_each() {
    for seed in 0..5 {
        let mut sim = Sim::new(many_tasks(seed));
        let machine = start(&mut sim, SimConfig { seed, files: Some(FilesConfig::good(4)), ..SimConfig::new(64, 64) });
        let (space, area) = space_with(&machine, 1);
        let own = machine.clone();
        run(&mut sim, "writer", async move { Thread::new(&own).store(space, area, WORD).await }).expect("memory");
        machine.evict(space, pages(area, 1));
        settle(&mut sim, &machine);
        storm(&mut sim, &machine, (0..TASKS).map(|_| (space, area)));
        let counters = machine.mm().snapshot().counters;
        assert_eq!((machine.disk().counts().reads, counters.store_reads, counters.pswpin), (1, 1, 1), "seed {seed}");
        destroy(&mut sim, &machine, space);
        assert_empty(&mut sim, &machine);
    }
}

#[test]
fn e9_a_thousand_threads_of_ten_programs_on_one_page_of_a_file_are_one_read_and_one_wake_up_each() {
    for seed in 0..5 {
        let mut sim = Sim::new(many_tasks(seed));
        let machine = start(&mut sim, SimConfig { seed, files: Some(FilesConfig::good(4)), ..SimConfig::new(128, 64) });
        let file = mm::file_store::FileId::new(7);
        machine.files().put(file, 0, [WORD; 512]);
        let object = machine.mm().create_file_object(file, PAGE).expect("room");
        let spaces: Vec<_> = (0..10).map(|_| machine.create_space().expect("a root")).collect();
        let areas: Vec<_> = spaces
            .iter()
            .map(|&space| (space, ready(machine.mm().map(space, window(object, 0, 1, Sharing::Shared))).expect("room")))
            .collect();
        storm(&mut sim, &machine, (0..TASKS).map(|number| areas[number % areas.len()]));
        assert_eq!(
            (machine.files().counts().reads, machine.mm().snapshot().counters.file_reads),
            (1, 1),
            "seed {seed}"
        );
        machine.mm().close_object(object);
        spaces.into_iter().for_each(|space| destroy(&mut sim, &machine, space));
        assert_empty(&mut sim, &machine);
    }
}

/// What it is to share few frames with many.
#[derive(Default, Debug)]
struct Crowd {
    /// Instructions that are done.
    done: usize,
    /// Most instructions of others that were done while one was under way.
    longest: usize,
    /// Polls of all threads.
    polls: u64,
    /// Faults that waited for the store.
    majors: u64,
}

/// A thousand threads on 128 frames each execute so many instructions, one after the other, that store to so many pages each, which nobody
/// else touches.
fn share_frames(seed: u64, instructions: usize, pages: usize) -> Crowd {
    let order = [Order::AsInKernel, Order::Shuffled][seed as usize % 2];
    let mut sim = Sim::new(Settings { order, ..many_tasks(seed) });
    let machine = start(&mut sim, SimConfig { seed, ..SimConfig::new(128, 16384) });
    let (space, area) = space_with(&machine, (TASKS * instructions * pages) as u64);
    let (polls, crowd) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Crowd::default())));
    for number in 0..TASKS {
        let (own, crowd) = (machine.clone(), crowd.clone());
        let work = async move {
            let mut thread = Thread::new(&own);
            for instruction in 0..instructions {
                let first = (instruction * TASKS + number) * pages;
                let stores: Vec<_> = (first..first + pages).map(|page| (word(area, page as u64, 0), WORD)).collect();
                let before = crowd.lock().unwrap().done;
                own.store_all(space, &stores, first as u64, &mut thread.holds).await.expect("memory");
                let mut crowd = crowd.lock().unwrap();
                crowd.longest = crowd.longest.max(crowd.done - before);
                crowd.done += 1;
            }
        };
        let work = Counted { inner: Box::pin(work), polls: polls.clone() };
        sim.spawn(Class::User, numbered("thread", number), work).detach();
    }
    sim.run().expect("every thread ends");
    let crowd = std::mem::take(&mut *crowd.lock().unwrap());
    let majors = machine.mm().snapshot().counters.pgmajfault;
    destroy(&mut sim, &machine, space);
    assert_empty(&mut sim, &machine);
    let crowd = Crowd { polls: polls.load(Relaxed), majors, ..crowd };
    println!("{instructions} x {pages} pages each, {order:?}, seed {seed}: {crowd:?}");
    assert_eq!(crowd.done, TASKS * instructions);
    crowd
}

#[test]
fn e9_a_thousand_threads_that_want_a_frame_have_one_each_in_turn() {
    for seed in 0..6 {
        let crowd = share_frames(seed, 4, 1);
        // Nobody is served twice while another waits, and nobody looks twice for one frame: a poll to fault and one to have it.
        assert!(crowd.longest < TASKS && crowd.polls <= 2 * 4 * TASKS as u64, "seed {seed}: {crowd:?}");
    }
}

#[test]
fn e9_who_has_some_of_what_an_instruction_needs_is_not_overtaken_by_who_has_nothing() {
    for seed in 0..6 {
        for pages in [2, 4] {
            let crowd = share_frames(seed, 1, pages);
            let most = 2 * (TASKS * pages) as u64;
            assert!(crowd.longest < TASKS && crowd.polls <= most, "seed {seed}, {pages} pages: {crowd:?}");
            // Nobody has lost a page when the next one comes.
            assert!(crowd.majors <= 10, "seed {seed}, {pages} pages: {crowd:?}");
        }
    }
}
