//! Every future of the memory manager that waits is dropped at each of its awaits, before and after what it waits for has happened.
//! Whatever it was doing, the state is legal, everybody else gets on, and in the end nothing is left over.

use executor::Class;
use executor::sim::{Sim, cancel_at_every_await};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::FaultError;
use mm::platform::Rights;
use mm::sim::{DiskConfig, PerMille, SimConfig, SimMachine};
use mm::space::{Placement, SpaceId};
use std::sync::Arc;
use tests::mm::{
    PAGE, Thread, anonymous, assert_empty, destroy, numbered, pages, run, settings, settle, space_with, start, word,
};

/// A program with pages of its own, each with a word that says which it is.
#[derive(Clone)]
struct Program {
    machine: Arc<SimMachine>,
    space: SpaceId,
    area: VirtAddr,
    count: u64,
}

impl Program {
    /// Writes all its pages; then they are out on the disk, all but those that RAM has room for.
    fn start(sim: &mut Sim, machine: &Arc<SimMachine>, count: u64) -> Self {
        let (space, area) = space_with(machine, count);
        let program = Self { machine: machine.clone(), space, area, count };
        let own = program.clone();
        run(sim, "setup", async move {
            let mut thread = Thread::new(&own.machine);
            for page in 0..count {
                thread.store(space, own.word(page), page + 1).await.unwrap();
            }
        });
        program
    }

    /// Sends all its pages to the disk.
    fn evict(&self, sim: &mut Sim) {
        self.machine.evict(self.space, pages(self.area, self.count));
        settle(sim, &self.machine);
    }

    fn word(&self, page: u64) -> VirtAddr {
        word(self.area, page, page % 512)
    }

    fn bytes(&self) -> u64 {
        self.count * PAGE
    }

    /// Reads all its pages from another thread: each is as it was, or gone if it `may_go`.
    async fn read_all(self, may_go: bool) {
        let mut thread = Thread::new(&self.machine);
        for page in 0..self.count {
            let value = thread.load(self.space, self.word(page)).await;
            let gone = matches!(value, Ok(0) | Err(FaultError::NotMapped | FaultError::Forbidden));
            assert!(value == Ok(page + 1) || (may_go && gone), "page {page}: {value:?}");
        }
    }
}

/// A machine in which 300 pages do not fit: 96 frames, and a disk that is at work for a while with each request.
fn config() -> SimConfig {
    SimConfig::new(96, 1024)
}

/// Runs `act` as the victim, beside threads that read everything, and drops it everywhere. `may_go`: it takes pages away.
fn everywhere<F, A>(name: &str, may_go: bool, config: SimConfig, count: u64, evicted: bool, act: A) -> u64
where
    A: Fn(Program) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut dropped = 0;
    for seed in 0..3 {
        dropped += cancel_at_every_await(settings(seed), "victim", |sim| {
            let mm = Config { torture: seed == 1, ..config.mm };
            let machine = start(sim, SimConfig { seed, mm, ..config });
            let program = Program::start(sim, &machine, count);
            if evicted {
                program.evict(sim);
            }
            sim.spawn(Class::User, "victim", act(program.clone())).detach();
            for number in 0..2 {
                let reader = program.clone().read_all(may_go);
                sim.spawn(Class::User, numbered("reader", number), reader).detach();
            }
            sim.run().unwrap_or_else(|stuck| panic!("{stuck}\n{}", sim.journal().print()));
            settle(sim, &machine);
            destroy(sim, &machine, program.space);
            assert_empty(sim, &machine);
        });
    }
    println!("{name}: dropped at {dropped} awaits");
    dropped
}

#[test]
fn a_fault_that_waits_for_its_page() {
    let load = |program: Program| async move {
        let _value = Thread::new(&program.machine).load(program.space, program.word(3)).await;
    };
    assert!(everywhere("fault", false, config(), 6, true, load) > 3);
}

#[test]
fn a_fault_whose_page_is_lost() {
    let disk = DiskConfig { read_errors: PerMille(1000), ..DiskConfig::good(256) };
    for seed in 0..5 {
        let dropped = cancel_at_every_await(settings(seed), "victim", |sim| {
            let machine = start(sim, SimConfig { seed, disk: Some(disk), ..config() });
            let program = Program::start(sim, &machine, 2);
            program.evict(sim);
            let own = program.clone();
            let load = async move {
                let value = Thread::new(&own.machine).load(own.space, own.word(0)).await;
                assert_eq!(value, Err(FaultError::BadPage));
            };
            sim.spawn(Class::User, "victim", load).detach();
            sim.run().unwrap();
            settle(sim, &machine);
            destroy(sim, &machine, program.space);
            assert_empty(sim, &machine);
        });
        assert!(dropped > 1);
    }
}

#[test]
fn a_fault_that_waits_for_room_in_the_operation_table() {
    let mm = Config { operations: 2, ..Config::default() };
    let load = |program: Program| async move {
        let mut thread = Thread::new(&program.machine);
        for page in (0..program.count).rev() {
            let _value = thread.load(program.space, program.word(page)).await;
        }
    };
    assert!(everywhere("room", false, SimConfig { mm, ..config() }, 12, true, load) > 12);
}

#[test]
fn a_fault_that_waits_for_a_frame() {
    let store = |program: Program| async move {
        let mut thread = Thread::new(&program.machine);
        let (space, area) = (program.space, program.area);
        for page in 0..program.count {
            // Twice the word it has: dirty again, and the same to those who read.
            let value = thread.store(space, word(area, page, page % 512), page + 1).await;
            assert_eq!(value, Ok(()));
        }
    };
    assert!(everywhere("frame", false, SimConfig { frames: 40, ..config() }, 60, false, store) > 20);
}

#[test]
fn copies_in_and_out() {
    let copy_in = |program: Program| async move {
        let mut bytes = vec![0; program.bytes() as usize];
        program.machine.mm().copy_in(program.space, program.area, &mut bytes).await.unwrap();
    };
    assert!(everywhere("copy_in", false, config(), 50, true, copy_in) > 50);
    let copy_out = |program: Program| async move {
        let mut bytes = vec![0u8; program.bytes() as usize];
        for page in 0..program.count {
            let at = (page * PAGE + page % 512 * 8) as usize;
            bytes[at..at + 8].copy_from_slice(&(page + 1).to_le_bytes());
        }
        program.machine.mm().copy_out(program.space, program.area, &bytes).await.unwrap();
    };
    assert!(everywhere("copy_out", false, config(), 50, true, copy_out) > 50);
}

#[test]
fn unmapping() {
    let unmap = |program: Program| async move {
        program.machine.mm().unmap(program.space, program.area, program.bytes()).await.unwrap();
    };
    assert!(everywhere("unmap", true, config(), 600, false, unmap) >= 6);
}

#[test]
fn mapping_over_what_is_there() {
    let map = |program: Program| async move {
        let request = anonymous(Placement::Fixed(program.area), program.count);
        program.machine.mm().map(program.space, request).await.unwrap();
    };
    assert!(everywhere("map", true, config(), 600, false, map) >= 6);
}

#[test]
fn discarding() {
    let discard = |program: Program| async move {
        program.machine.mm().discard(program.space, program.area, program.bytes()).await.unwrap();
    };
    assert!(everywhere("discard", true, config(), 600, false, discard) >= 6);
}

#[test]
fn protecting() {
    let protect = |program: Program| async move {
        program.machine.mm().protect(program.space, program.area, program.bytes(), Rights::NONE).await.unwrap();
    };
    assert!(everywhere("protect", true, config(), 600, false, protect) >= 6);
}

#[test]
fn tearing_a_space_down() {
    for seed in 0..3 {
        let dropped = cancel_at_every_await(settings(seed), "victim", |sim| {
            let machine = start(sim, SimConfig { seed, ..config() });
            let program = Program::start(sim, &machine, 600);
            let (space, own) = (program.space, machine.clone());
            sim.spawn(Class::User, "victim", async move { own.mm().destroy_space(space).await }).detach();
            let own = program.clone();
            let reader = async move {
                let mut thread = Thread::new(&own.machine);
                for page in 0..own.count {
                    let value = thread.load(own.space, own.word(page)).await;
                    assert!(matches!(value, Err(FaultError::SpaceGone)) || value == Ok(page + 1), "{value:?}");
                }
            };
            sim.spawn(Class::User, "reader", reader).detach();
            sim.run().unwrap();
            // Whoever comes next finishes it.
            destroy(sim, &machine, space);
            assert_empty(sim, &machine);
        });
        assert!(dropped >= 4, "{dropped}");
    }
}
