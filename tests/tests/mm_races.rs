//! Whatever happens to a page or its space while a fault on it waits, at each of its waits: the fault never maps what it should not,
//! and every fault on a page joins the one read (X20).

use executor::sim::Sim;
use executor::{Class, yield_now};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::platform::{Access, Rights};
use mm::sim::{SimConfig, SimMachine, Trap};
use mm::space::{Placement, SpaceId};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tests::mm::{
    PAGE, Thread, anonymous, assert_empty, destroy, numbered, pages, ready, run, settings, settle, space_with, start,
    word,
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
}

const ALL: [Meanwhile; 9] = [
    Meanwhile::Unmap,
    Meanwhile::Replace,
    Meanwhile::Forbid,
    Meanwhile::ReadOnly,
    Meanwhile::Discard,
    Meanwhile::Destroy,
    Meanwhile::DropTable,
    Meanwhile::Evict,
    Meanwhile::CopyOut,
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
fn while_a_fault_waits_for_its_page() {
    all_races(Because::Away);
}

#[test]
fn while_a_fault_waits_for_a_second_attempt() {
    all_races(Because::AwayTwice);
}

#[test]
fn while_a_fault_waits_for_room() {
    all_races(Because::NoRoom);
}

#[test]
fn while_a_fault_waits_for_a_frame() {
    all_races(Because::NoFrame);
}

#[test]
fn while_the_page_is_leaving() {
    all_races(Because::Leaving);
}

#[test]
fn any_number_of_faults_on_a_page_is_one_read() {
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
