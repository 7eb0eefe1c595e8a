//! Each frame allocation of a life that has everything in it fails once, or fails and so do all after it, for good: nothing panics,
//! nothing hangs, nothing is lost, and when allocations succeed again work goes on.

use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::file_store::FileId;
use mm::group::{GroupId, GroupLimits};
use mm::object::{ObjectError, ObjectId, ObjectPage, Sharing};
use mm::platform::Rights;
use mm::sim::{FilesConfig, SimConfig, SimMachine};
use mm::space::{MapError, Move, Placement, SpaceId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tests::mm::{PAGE, Thread, World, anonymous, pages, poll_once, window, word};

const FILE: FileId = FileId::new(5);
const FRAMES: usize = 72;
/// Pages of memory of the program's own: with the rest, more than its group may have.
const OWN: u64 = 40;
/// Pages of each object.
const SHARED: u64 = 10;

/// What may be refused, and how. A space is only gone under somebody's hands if a verdict was on it.
const FAULTS: [FaultError; 2] = [FaultError::OutOfMemory, FaultError::SpaceGone];
const AREAS: [MapError; 2] = [MapError::NoRoom, MapError::SpaceGone];

/// How allocations fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failing {
    Once,
    /// And so do all others, until the life has come to its end.
    ForGood,
}

/// A program with memory of its own, a file, shared memory, and what it has stored where.
struct Life {
    machine: Arc<SimMachine>,
    group: GroupId,
    file: ObjectId,
    memory: ObjectId,
    thread: Thread,
    stored: BTreeMap<u64, u64>,
    fresh: u64,
    /// Calls that were refused for want of memory.
    refused: u32,
}

impl Life {
    fn begin(world: &World) -> Self {
        let machine = world.machine.clone();
        let mm = machine.mm();
        let group = mm.create_group().expect("room");
        mm.set_group_limits(group, GroupLimits { frames: Some(36), slots: None });
        let file = mm.create_file_object(FILE, SHARED * PAGE).expect("a store");
        let memory = mm.create_object(SHARED * PAGE).expect("room");
        let thread = Thread::new(&machine);
        Self { machine, group, file, memory, thread, stored: BTreeMap::new(), fresh: 0, refused: 0 }
    }

    /// Whether a call was done; what it may be refused for is want of memory.
    fn done<T, E: core::fmt::Debug + PartialEq>(&mut self, result: Result<T, E>, refusals: &[E]) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(refusals.contains(&error), "{error:?}");
                self.refused += 1;
                None
            }
        }
    }

    async fn store(&mut self, space: SpaceId, addr: VirtAddr) {
        self.fresh += 1;
        let stored = self.thread.store(space, addr, self.fresh).await;
        if self.done(stored, &FAULTS).is_some() {
            self.stored.insert(addr.as_u64(), self.fresh);
        }
    }

    /// All that was stored is there.
    async fn look(&mut self, space: SpaceId, stored: &BTreeMap<u64, u64>) {
        for (&addr, &value) in stored {
            let loaded = self.thread.load(space, VirtAddr::new(addr)).await;
            if let Some(loaded) = self.done(loaded, &FAULTS) {
                assert_eq!(loaded, value, "{addr:#x}");
            }
        }
    }

    async fn live(&mut self) {
        let Some(space) = self.machine.create_space() else { return self.refused += 1 };
        self.machine.mm().set_space_group(space, self.group);
        self.live_in(space).await;
        self.machine.mm().release_holds(&mut self.thread.holds);
        self.machine.mm().destroy_space(space).await;
        self.stored.clear();
    }

    async fn live_in(&mut self, space: SpaceId) {
        let machine = self.machine.clone();
        let mm = machine.mm();
        let requests = [
            anonymous(Placement::Anywhere, OWN),
            window(self.file, 0, SHARED, Sharing::Shared),
            window(self.file, 0, SHARED, Sharing::Private),
            window(self.memory, 0, SHARED, Sharing::Shared),
        ];
        // The life before may have been refused to let it grow again.
        let whole = mm.truncate_object(self.file, SHARED * PAGE, space).await;
        if self.done(whole, &[ObjectError::OutOfMemory]).is_none() {
            return;
        }
        let mut areas = Vec::new();
        for request in requests {
            let mapped = mm.map(space, request).await;
            match self.done(mapped, &AREAS) {
                Some(area) => areas.push((area, request.len / PAGE)),
                None => return,
            }
        }
        for &(area, count) in &areas {
            for page in 0..count {
                self.store(space, word(area, page, page + 20)).await;
            }
        }
        self.files(space, areas[1].0, areas[2].0).await;
        self.family(space, areas[0].0).await;
        for &(area, count) in &areas {
            machine.evict(space, pages(area, count));
            mm.drop_page_table(space, area.page());
        }
        let stored = self.stored.clone();
        self.look(space, &stored).await;
        self.change_areas(space, areas[0].0).await;
        let stored = self.stored.clone();
        self.look(space, &stored).await;
    }

    /// Reads, writes, cuts and syncs the file, which has a window.
    async fn files(&mut self, space: SpaceId, view: VirtAddr, copies: VirtAddr) {
        let machine = self.machine.clone();
        let (mm, refusals) = (machine.mm(), [ObjectError::OutOfMemory]);
        mm.release_holds(&mut self.thread.holds);
        let written = mm.object_write_bytes(self.file, PAGE, space, &[7; 3 * PAGE as usize]).await;
        if let Some(count) = self.done(written, &refusals) {
            let whole = view.as_u64() + PAGE..view.as_u64() + PAGE + count;
            self.stored
                .iter_mut()
                .filter(|(at, _)| whole.contains(*at))
                .for_each(|(_, value)| *value = 0x0707_0707_0707_0707);
        }
        // Behind the end the file is zero when it has grown again, and so are private pages there, whose copies are gone.
        let half = SHARED / 2;
        let cut = mm.truncate_object(self.file, half * PAGE + 8, space).await;
        let cut = self.done(cut, &refusals).is_some();
        if cut {
            // As whoever keeps files does it.
            mm.forget_prepared(self.file).await;
            machine.files().cut(FILE, half + 1);
        }
        let grown = mm.truncate_object(self.file, SHARED * PAGE, space).await;
        let whole = self.done(grown, &refusals).is_some() && cut;
        let gone = |at: u64| {
            let (of_view, of_copies) = (at.wrapping_sub(view.as_u64()), at.wrapping_sub(copies.as_u64()));
            (half * PAGE + 8..SHARED * PAGE).contains(&of_view)
                || ((half + 1) * PAGE..SHARED * PAGE).contains(&of_copies)
        };
        self.stored.retain(|at, _| whole || !gone(*at));
        self.stored.iter_mut().filter(|(at, _)| gone(**at)).for_each(|(_, value)| *value = 0);
        let synced = mm.sync_object(self.file, ObjectPage::new(0)..ObjectPage::LAST).await;
        self.done(synced, &refusals);
    }

    /// A child has the same, and its own once somebody stores.
    async fn family(&mut self, space: SpaceId, area: VirtAddr) {
        let machine = self.machine.clone();
        let Some(child) = machine.create_space() else { return self.refused += 1 };
        machine.mm().release_holds(&mut self.thread.holds);
        let forked = machine.mm().fork_space(space, child).await;
        if self.done(forked, &[mm::NoMemory]).is_some() {
            let before = self.stored.clone();
            for page in 0..OWN / 2 {
                self.store(space, word(area, page, 7)).await;
            }
            let own = |at: &u64| area.as_u64() <= *at && *at < area.as_u64() + OWN * PAGE;
            let inherited: BTreeMap<_, _> = before.into_iter().filter(|(at, _)| own(at)).collect();
            self.look(child, &inherited).await;
            let ours = self.stored.clone();
            for page in 0..OWN / 4 {
                self.store(child, word(area, page, 9)).await;
            }
            self.stored = ours;
        }
        machine.mm().release_holds(&mut self.thread.holds);
        machine.mm().destroy_space(child).await;
    }

    async fn change_areas(&mut self, space: SpaceId, area: VirtAddr) {
        let machine = self.machine.clone();
        let mm = machine.mm();
        mm.release_holds(&mut self.thread.holds);
        let protected = mm.protect(space, word(area, 4, 0), 4 * PAGE, Rights::READ).await;
        self.done(protected, &AREAS);
        let elsewhere = VirtAddr::new(1 << 32);
        let moved = mm.remap(space, word(area, 12, 0), 4 * PAGE, 4 * PAGE, Move::To(elsewhere)).await;
        let away = area.as_u64() + 12 * PAGE..area.as_u64() + 16 * PAGE;
        if self.done(moved, &AREAS).is_some() {
            let moved: Vec<_> = self.stored.range(away.clone()).map(|(at, value)| (*at, *value)).collect();
            for (at, value) in moved {
                self.stored.remove(&at);
                self.stored.insert(at - away.start + elsewhere.as_u64(), value);
            }
        }
        let unmapped = mm.unmap(space, word(area, 20, 0), 4 * PAGE).await;
        let hole = area.as_u64() + 20 * PAGE..area.as_u64() + 24 * PAGE;
        if self.done(unmapped, &AREAS).is_some() {
            self.stored.retain(|at, _| !hole.contains(at));
        }
    }
}

/// Runs the life with the `nth` allocation failing; returns whether it got that far.
fn fails_at(nth: u32, how: Failing, seed: u64) -> bool {
    let config = SimConfig { files: Some(FilesConfig::good(64)), ..SimConfig::new(FRAMES, 512) };
    let mut world = World::seeded(config, seed);
    let verdicts = Arc::new(AtomicU32::new(0));
    let passed = Arc::clone(&verdicts);
    world.end_victims(move |_| {
        passed.fetch_add(1, Relaxed);
    });
    let mut life = Life::begin(&world);
    let frames = world.machine.frames();
    match how {
        Failing::Once => frames.fail(nth, nth),
        Failing::ForGood => world.machine.mm().fail_for_good(nth),
    }
    let (file, memory, group) = (life.file, life.memory, life.group);
    let failed = world.run("life", async move {
        life.live().await;
        let failed = frames.failed();
        life.machine.mm().relent();
        // One failure ends nobody; for want of memory there are two to end, the program and its child.
        let most = if how == Failing::Once { 0 } else { 2 };
        assert!(verdicts.load(Relaxed) <= most, "{verdicts:?} verdicts");
        // Nothing fails any more: all of it works, in the same machine.
        life.refused = 0;
        life.live().await;
        assert_eq!(life.refused, 0, "work goes on");
        failed
    });
    world.machine.mm().close_object(file);
    world.machine.mm().close_object(memory);
    world.settle();
    let left = world.machine.mm().group_stats(group).map(|stats| (stats.frames, stats.slots));
    assert_eq!(left, Some((0, 0)), "all charges are taken back");
    world.assert_empty();
    failed > 0
}

fn every(how: Failing, fails: impl Fn(u32) -> bool) {
    let last = (1..).find(|nth| !fails(*nth)).expect("it ends");
    println!("{how:?}: {} allocations", last - 1);
    // Each page of the program's takes a frame at least once, and so do tables, copies and pages that come back.
    assert!(u64::from(last) > 2 * OWN, "only {last} allocations");
}

#[test]
fn e1_whichever_frame_allocation_of_a_life_with_everything_fails_nothing_is_lost() {
    let seed = tests::harness::seed();
    println!("seed {seed}");
    every(Failing::Once, |nth| fails_at(nth, Failing::Once, seed));
}

#[test]
fn e1_from_whichever_frame_allocation_on_all_fail_for_good_nothing_is_lost() {
    let seed = tests::harness::seed();
    println!("seed {seed}");
    every(Failing::ForGood, |nth| fails_at(nth, Failing::ForGood, seed));
}

/// Preparing pages of a file needs memory, and reclaim waits for what is being prepared: whoever prepares learns that nobody else makes any.
#[test]
fn e1_who_prepares_pages_waits_for_no_frame_that_only_its_own_work_could_free() {
    let config = SimConfig { files: Some(FilesConfig::good(64)), ..SimConfig::new(FRAMES, 512) };
    let mut world = World::seeded(config, tests::harness::seed());
    let machine = world.machine.clone();
    let file = machine.mm().create_file_object(FILE, SHARED * PAGE).expect("a store");
    let space = machine.create_space().expect("a frame for the root");
    let own = machine.clone();
    let preparer = async move {
        own.mm().wait_for_frame_to_prepare().await.expect_err("all allocations fail");
        own.files().resume();
    };
    world.run("life", async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        let area = mm.map(space, window(file, 0, SHARED, Sharing::Shared)).await.expect("room");
        assert_eq!(thread.load(space, area).await, Ok(0), "it is there before the drought, to be read");
        mm.fail_for_good(1);
        assert_eq!(machine.create_space(), None, "the first fails");
        machine.files().stop();
        let mut store = Box::pin(thread.store(space, area, 7));
        assert!(poll_once(store.as_mut()).is_pending(), "it waits for the page to be prepared");
        preparer.await;
        // The page is there, but a page table may be what cannot be had.
        assert!(matches!(store.await, Ok(()) | Err(FaultError::OutOfMemory)));
        mm.relent();
        mm.release_holds(&mut thread.holds);
    });
    world.destroy(space);
    world.machine.mm().close_object(file);
    world.settle();
    world.assert_empty();
}
