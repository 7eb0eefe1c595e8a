//! Whatever happens to a page or its space while a fault on it waits, at each of its waits: the fault never maps what it should not,
//! and every fault on a page joins the one read (X20).

use executor::sim::Sim;
use executor::{Class, yield_now};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::file_store::FileId;
use mm::object::{ObjectId, ObjectPage, Sharing};
use mm::platform::{Access, Rights};
use mm::sim::{FilesConfig, SimConfig, SimMachine, Trap};
use mm::space::{Placement, SpaceId};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tests::mm::{
    PAGE, Thread, anonymous, assert_empty, destroy, numbered, pages, ready, run, settings, settle, space_with, start,
    window, word,
};

/// Counts its polls, for others to see.
struct Counted<F> {
    inner: Pin<Box<F>>,
    polls: Arc<AtomicU64>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.inner.as_mut().poll(cx);
        self.polls.fetch_add(1, Relaxed);
        polled
    }
}

/// What is done to the page meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    Unmap,
    Replace,
    Forbid,
    ReadOnly,
    Discard,
    Destroy,
    DropTable,
    Evict,
    CopyOut,
    Fork,
    ForkAndLeave,
}

const ALL: [Meanwhile; 11] = [
    Meanwhile::Unmap,
    Meanwhile::Replace,
    Meanwhile::Forbid,
    Meanwhile::ReadOnly,
    Meanwhile::Discard,
    Meanwhile::Destroy,
    Meanwhile::DropTable,
    Meanwhile::Evict,
    Meanwhile::CopyOut,
    Meanwhile::Fork,
    Meanwhile::ForkAndLeave,
];

impl Meanwhile {
    async fn happen(self, machine: &SimMachine, space: SpaceId, area: VirtAddr) {
        let mm = machine.mm();
        match self {
            Self::Unmap => mm.unmap(space, area, PAGE).await.unwrap(),
            Self::Replace => drop(mm.map(space, anonymous(Placement::Fixed(area), 1)).await.unwrap()),
            Self::Forbid => mm.protect(space, area, PAGE, Rights::NONE).await.unwrap(),
            Self::ReadOnly => mm.protect(space, area, PAGE, Rights::READ).await.unwrap(),
            Self::Discard => mm.discard(space, area, PAGE).await.unwrap(),
            Self::Destroy => mm.destroy_space(space).await,
            Self::DropTable => mm.drop_page_table(space, area.page()),
            Self::Evict => machine.evict(space, pages(area, 1)),
            Self::Fork | Self::ForkAndLeave => {
                // The child reads what the parent has, writes to it, and goes; or goes at once.
                let child = machine.create_space().expect("a frame for the root");
                mm.fork_space(space, child).await.expect("there is memory");
                if self == Self::Fork {
                    let mut holds = mm::fault::Holds::default();
                    let there = machine.load(child, area, &mut holds).await;
                    assert_eq!(there, Ok(OLD));
                    machine.store(child, area, NEW, &mut holds).await.unwrap();
                    assert_eq!(machine.load(child, area, &mut holds).await, Ok(NEW));
                    mm.release_holds(&mut holds);
                }
                mm.destroy_space(child).await;
            }
            Self::CopyOut => mm.copy_out(space, area, &NEW.to_le_bytes()).await.unwrap(),
        }
    }

    /// What a load of the page may say that began before and ended after.
    fn allows(self, value: Result<u64, Trap>) -> bool {
        match value {
            Ok(OLD) => true,
            Ok(0) => matches!(self, Self::Replace | Self::Discard),
            Ok(NEW) => self == Self::CopyOut,
            Err(FaultError::NotMapped) => matches!(self, Self::Unmap | Self::Replace | Self::Destroy),
            Err(FaultError::Forbidden) => self == Self::Forbid,
            Err(FaultError::SpaceGone) => self == Self::Destroy,
            _ => false,
        }
    }

    /// Whether an access of this kind succeeds for sure when it is over.
    fn leaves_accessible(self, access: Access) -> bool {
        match self {
            Self::Unmap | Self::Forbid | Self::Destroy => false,
            Self::ReadOnly => access == Access::Read,
            _ => true,
        }
    }
}

const OLD: u64 = 0x1111;
const NEW: u64 = 0x2222;

/// Why the fault has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Because {
    /// The page is on the disk.
    Away,
    /// And reads fail the first time.
    AwayTwice,
    /// There is no room in the operation table.
    NoRoom,
    /// There is no frame.
    NoFrame,
    /// It does not: the page is there, under write-out.
    Leaving,
}

/// One page with [`OLD`] in it, and a machine in the state that makes a fault on it wait.
fn stage(sim: &mut Sim, because: Because, seed: u64) -> (Arc<SimMachine>, SpaceId, VirtAddr, Option<SpaceId>) {
    let operations = if because == Because::NoRoom { 2 } else { 96 };
    let torture = seed % 2 == 1 && because != Because::Leaving;
    let mm = Config { operations, torture, ..Config::default() };
    let machine = start(sim, SimConfig { mm, seed, ..SimConfig::new(48, 512) });
    let (space, area) = space_with(&machine, 1);
    let own = machine.clone();
    run(sim, "setup", async move { Thread::new(&own).store(space, area, OLD).await.unwrap() });
    machine.evict(space, pages(area, 1));
    if because == Because::Leaving {
        return (machine, space, area, None);
    }
    settle(sim, &machine);
    if because == Because::AwayTwice {
        machine.disk().fail_reads(machine.slot_of(space, area).unwrap(), 1);
    }
    if because == Because::Away || because == Because::AwayTwice {
        return (machine, space, area, None);
    }
    // Another program makes things scarce.
    let (other, its_area) = space_with(&machine, 60);
    for number in 0..3 {
        let own = machine.clone();
        let greedy = async move {
            let mut thread = Thread::new(&own);
            for page in (number..60).step_by(3) {
                thread.store(other, word(its_area, page, page), page + 1).await.unwrap();
            }
            for page in (number..60).step_by(3) {
                assert_eq!(thread.load(other, word(its_area, page, page)).await, Ok(page + 1));
            }
        };
        sim.spawn(Class::User, numbered("greedy", number as usize), greedy).detach();
    }
    (machine, space, area, Some(other))
}

/// The faulter is polled `after` times, then `meanwhile` happens, then all goes on. Returns how often the faulter was polled.
fn race(because: Because, access: Access, meanwhile: Meanwhile, after: u64, seed: u64) -> u64 {
    let mut sim = Sim::new(settings(seed));
    let sim = &mut sim;
    let (machine, space, area, other) = stage(sim, because, seed);
    let polls = Arc::new(AtomicU64::new(0));
    let own = machine.clone();
    let faulter = async move {
        let mut thread = Thread::new(&own);
        match access {
            Access::Write => thread.store(space, word(area, 0, 1), 5).await.map(|()| OLD),
            _ => thread.load(space, area).await,
        }
    };
    let faulter = Counted { inner: Box::pin(faulter), polls: polls.clone() };
    let faulter = sim.spawn(Class::User, "faulter", faulter);
    let (own, seen) = (machine.clone(), polls.clone());
    let injector = async move {
        let mut patience = 200;
        while seen.load(Relaxed) < after && patience > 0 {
            patience -= 1;
            yield_now().await;
        }
        meanwhile.happen(&own, space, area).await;
        own.check();
    };
    sim.spawn(Class::User, "injector", injector).detach();
    let what = format!("{because:?} {access:?} {meanwhile:?} after {after} polls, seed {seed}");
    sim.run().unwrap_or_else(|stuck| panic!("{what}: {stuck}\n{}", sim.journal().print()));
    let value = ready(faulter);
    let read_only = access == Access::Write && meanwhile == Meanwhile::ReadOnly && value == Err(FaultError::Forbidden);
    assert!(meanwhile.allows(value) || read_only, "{what}: {value:?}");
    settle(sim, &machine);
    if meanwhile.leaves_accessible(access) {
        let own = machine.clone();
        let value = run(sim, "again", async move { Thread::new(&own).load(space, area).await });
        assert!(meanwhile.allows(value) && value.is_ok(), "{what}: afterwards {value:?}");
    }
    destroy(sim, &machine, space);
    if let Some(other) = other {
        destroy(sim, &machine, other);
    }
    assert_empty(sim, &machine);
    polls.load(Relaxed)
}

fn all_races(because: Because) {
    let (mut races, mut most) = (0, 0);
    for meanwhile in ALL {
        for access in [Access::Read, Access::Write] {
            for after in 0..6 {
                for seed in 0..6 {
                    most = most.max(race(because, access, meanwhile, after, seed * 7 + after));
                    races += 1;
                }
            }
        }
    }
    println!("{because:?}: {races} races, a fault was polled up to {most} times");
    assert!(because == Because::Leaving || most > 1, "nothing ever waited");
}

#[test]
fn x20_e10_while_a_fault_waits_for_its_page() {
    all_races(Because::Away);
}

#[test]
fn x20_e10_while_a_fault_waits_for_a_second_attempt() {
    all_races(Because::AwayTwice);
}

#[test]
fn x20_e10_while_a_fault_waits_for_room() {
    all_races(Because::NoRoom);
}

#[test]
fn x20_e10_while_a_fault_waits_for_a_frame() {
    all_races(Because::NoFrame);
}

#[test]
fn x20_e10_while_the_page_is_leaving() {
    all_races(Because::Leaving);
}

#[test]
fn x20_e9_any_number_of_faults_on_a_page_is_one_read() {
    for seed in 0..20 {
        let mut sim = Sim::new(settings(seed));
        let (machine, space, area, _) = stage(&mut sim, Because::Away, seed);
        let faulters: Vec<_> = (0..10)
            .map(|number| {
                let own = machine.clone();
                let load = async move { Thread::new(&own).load(space, area).await };
                sim.spawn(Class::User, numbered("faulter", number), load)
            })
            .collect();
        sim.run().unwrap();
        faulters.into_iter().for_each(|faulter| assert_eq!(ready(faulter), Ok(OLD)));
        assert_eq!(machine.disk().counts().reads, 1);
        let counters = machine.mm().snapshot().counters;
        assert_eq!((counters.store_reads, counters.pswpin), (1, 1));
        destroy(&mut sim, &machine, space);
        assert_empty(&mut sim, &machine);
    }
}

/// What is done to a file while somebody faults on a page of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ToFile {
    /// The page is cut off, and its block is freed.
    CutOff,
    /// And comes back, as a hole.
    CutOffAndGrow,
    /// The file ends in the page, before the word.
    EndWithin,
    Sync,
    /// Twice, so that the page is old.
    Age,
    Write,
    Unmap,
    /// The last mapping goes, and the handle.
    Close,
    Evict,
    Fork,
}

const ALL_TO_FILES: [ToFile; 10] = [
    ToFile::CutOff,
    ToFile::CutOffAndGrow,
    ToFile::EndWithin,
    ToFile::Sync,
    ToFile::Age,
    ToFile::Write,
    ToFile::Unmap,
    ToFile::Close,
    ToFile::Evict,
    ToFile::Fork,
];

const FILE: FileId = FileId::new(3);
/// Where the word is in its page: in its second half.
const AT: u64 = 400;

impl ToFile {
    async fn happen(self, machine: &SimMachine, object: ObjectId, space: SpaceId, area: VirtAddr) {
        let mm = machine.mm();
        let all = ObjectPage::new(0)..ObjectPage::LAST;
        match self {
            Self::CutOff | Self::CutOffAndGrow => {
                mm.truncate_object(object, PAGE, space).await.unwrap();
                // Panics if anything is under way for it.
                machine.files().cut(FILE, 1);
                if self == Self::CutOffAndGrow {
                    mm.truncate_object(object, 3 * PAGE, space).await.unwrap();
                }
            }
            Self::EndWithin => mm.truncate_object(object, PAGE + 8 * AT, space).await.unwrap(),
            Self::Sync => mm.sync_object(object, all).await.unwrap(),
            Self::Age => {
                mm.write_back_old().await;
                mm.write_back_old().await;
            }
            Self::Write => {
                let written = mm.object_write_bytes(object, PAGE + 8 * AT, space, &NEW.to_le_bytes()).await;
                assert_eq!(written, Ok(8));
            }
            Self::Unmap => mm.unmap(space, area, 3 * PAGE).await.unwrap(),
            Self::Close => {
                mm.close_object(object);
                mm.unmap(space, area, 3 * PAGE).await.unwrap();
            }
            Self::Evict => machine.evict(space, pages(area, 3)),
            Self::Fork => {
                let child = machine.create_space().expect("a frame for the root");
                mm.fork_space(space, child).await.expect("there is memory");
                mm.destroy_space(child).await;
            }
        }
    }

    /// What the word may be for somebody who began before this and ended after.
    fn allows(self, value: Result<u64, Trap>) -> bool {
        match value {
            Ok(OLD | STORED) => true,
            Ok(0) => matches!(self, Self::CutOffAndGrow | Self::EndWithin),
            Ok(NEW) => self == Self::Write,
            Err(FaultError::BadPage) => matches!(self, Self::CutOff | Self::CutOffAndGrow),
            Err(FaultError::NotMapped) => matches!(self, Self::Unmap | Self::Close),
            _ => false,
        }
    }
}

const STORED: u64 = 0x3333;

/// A thread stores to or loads from a page of a file, and after so many of its polls something happens to the file.
fn file_race(meanwhile: ToFile, access: Access, sharing: Sharing, after: u64, seed: u64) -> u64 {
    let mut sim = Sim::new(settings(seed));
    let sim = &mut sim;
    let mm = Config { torture: seed % 2 == 1, dirty_pages: Some(1 + seed as usize % 3), ..Config::default() };
    let files = Some(FilesConfig::good(16));
    let machine = start(sim, SimConfig { mm, seed, files, ..SimConfig::new(48, 512) });
    for page in 0..3 {
        machine.files().put(FILE, page, [OLD; 512]);
    }
    let object = machine.mm().create_file_object(FILE, 3 * PAGE).unwrap();
    let space = machine.create_space().unwrap();
    let area = ready(machine.mm().map(space, window(object, 0, 3, sharing))).unwrap();
    let polls = Arc::new(AtomicU64::new(0));
    let own = machine.clone();
    let faulter = async move {
        let (mut thread, word) = (Thread::new(&own), word(area, 1, AT));
        if access == Access::Write {
            thread.store(space, word, STORED).await?;
        }
        thread.load(space, word).await
    };
    let faulter = sim.spawn(Class::User, "faulter", Counted { inner: Box::pin(faulter), polls: polls.clone() });
    let (own, seen) = (machine.clone(), polls.clone());
    let injector = async move {
        let mut patience = 200;
        while seen.load(Relaxed) < after && patience > 0 {
            patience -= 1;
            yield_now().await;
        }
        meanwhile.happen(&own, object, space, area).await;
        own.check();
    };
    sim.spawn(Class::User, "injector", injector).detach();
    let what = format!("{meanwhile:?} {access:?} {sharing:?} after {after} polls, seed {seed}");
    sim.run().unwrap_or_else(|stuck| panic!("{what}: {stuck}\n{}", sim.journal().print()));
    let value = ready(faulter);
    assert!(meanwhile.allows(value), "{what}: {value:?}");
    settle(sim, &machine);
    if meanwhile != ToFile::Close {
        let own = machine.clone();
        let synced =
            run(sim, "sync", async move { own.mm().sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await });
        assert_eq!(synced, Ok(()), "{what}");
        let on_disk = machine.files().contents(FILE, 1).map_or(0, |words| words[AT as usize]);
        let cut = matches!(meanwhile, ToFile::CutOff | ToFile::CutOffAndGrow | ToFile::EndWithin);
        let private = sharing == Sharing::Private && on_disk == STORED;
        assert!(!private, "{what}: a private store is in the file");
        assert!([OLD, STORED].contains(&on_disk) || cut || on_disk == NEW, "{what}: {on_disk:#x} is in the file");
        machine.mm().close_object(object);
    }
    destroy(sim, &machine, space);
    assert_empty(sim, &machine);
    polls.load(Relaxed)
}

/// E10: whatever happens to a file while a fault on a page of it waits, at each of its waits.
#[test]
fn e10_while_a_fault_on_a_page_of_a_file_waits() {
    let (mut races, mut most) = (0, 0);
    for meanwhile in ALL_TO_FILES {
        for access in [Access::Read, Access::Write] {
            for sharing in [Sharing::Shared, Sharing::Private] {
                for after in 0..7 {
                    for seed in 0..6 {
                        most = most.max(file_race(meanwhile, access, sharing, after, seed * 7 + after));
                        races += 1;
                    }
                }
            }
        }
    }
    println!("{races} races, a fault was polled up to {most} times");
    assert!(most > 2, "a store waits for its page, and for its block");
}

/// X20: any number of faults on a page of an object, in any number of spaces, are one read.
#[test]
fn x20_faults_of_several_programs_on_a_page_of_a_file_are_one_read() {
    for seed in 0..20 {
        let mut sim = Sim::new(settings(seed));
        let machine = start(&mut sim, SimConfig { seed, files: Some(FilesConfig::good(4)), ..SimConfig::new(64, 64) });
        machine.files().put(FILE, 0, [OLD; 512]);
        let object = machine.mm().create_file_object(FILE, PAGE).unwrap();
        let spaces: Vec<_> = (0..6).map(|_| machine.create_space().unwrap()).collect();
        let faulters: Vec<_> = spaces
            .iter()
            .enumerate()
            .map(|(number, &space)| {
                let area = ready(machine.mm().map(space, window(object, 0, 1, Sharing::Shared))).unwrap();
                let own = machine.clone();
                let load = async move { Thread::new(&own).load(space, area).await };
                sim.spawn(Class::User, numbered("faulter", number), load)
            })
            .collect();
        sim.run().unwrap();
        faulters.into_iter().for_each(|faulter| assert_eq!(ready(faulter), Ok(OLD)));
        assert_eq!((machine.files().counts().reads, machine.mm().snapshot().counters.file_reads), (1, 1));
        machine.mm().close_object(object);
        spaces.into_iter().for_each(|space| destroy(&mut sim, &machine, space));
        assert_empty(&mut sim, &machine);
    }
}
