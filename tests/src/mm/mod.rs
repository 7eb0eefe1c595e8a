//! Worlds for the memory manager: a simulated machine, the seeded scheduler, and the tasks the kernel would run.
//!
//! Owns how the parts are put together. Scenarios are in `tests/mm_*.rs`; the property test's model and threads in [`model`] and [`storm`].

pub mod model;
pub mod storm;

use executor::sim::{Journal, Order, Rng, Seed, Settings, Sim};
use executor::{Class, Duration, TaskName};
use mm::addr::{PageRange, VirtAddr};
use mm::fault::Holds;
use mm::object::{Backing, ObjectId, ObjectPage, Sharing};
use mm::platform::Rights;
use mm::sim::{SimConfig, SimMachine, Trap};
use mm::space::{Label, MapRequest, Placement, SpaceId};
use mm::victim::Verdict;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Bytes in a page.
pub const PAGE: u64 = mm::addr::PAGE_SIZE as u64;

/// A machine on a scheduler, with pager, reclaim and disk running.
pub struct World {
    /// The scheduler.
    pub sim: Sim,
    /// The machine.
    pub machine: Arc<SimMachine>,
}

/// How fast the simulated disk is: each half of a request takes between nothing and this long.
pub const DISK_STEP: Duration = Duration::from_micros(40);

impl World {
    /// Switches a machine on.
    pub fn new(config: SimConfig, settings: Settings) -> Self {
        let mut sim = Sim::new(settings);
        let machine = start(&mut sim, config);
        Self { sim, machine }
    }

    /// The usual world of a seed.
    pub fn seeded(config: SimConfig, seed: u64) -> Self {
        Self::new(SimConfig { seed, ..config }, settings(seed))
    }

    /// As [`run`].
    pub fn run<F>(&mut self, name: &'static str, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        run(&mut self.sim, name, future)
    }

    /// As [`settle`].
    pub fn settle(&mut self) {
        settle(&mut self.sim, &self.machine);
    }

    /// As [`space_with`].
    pub fn space_with(&mut self, pages: u64) -> (SpaceId, VirtAddr) {
        space_with(&self.machine, pages)
    }

    /// As [`end_victims`].
    pub fn end_victims(&mut self, note: impl Fn(Verdict) + Send + 'static) {
        end_victims(&mut self.sim, &self.machine, note);
    }

    /// As [`destroy`].
    pub fn destroy(&mut self, space: SpaceId) {
        destroy(&mut self.sim, &self.machine, space);
    }

    /// As [`assert_empty`].
    pub fn assert_empty(&mut self) {
        assert_empty(&mut self.sim, &self.machine);
    }
}

/// Switches a machine on and spawns what the kernel would: pager and reclaim; and the disk.
pub fn start(sim: &mut Sim, config: SimConfig) -> Arc<SimMachine> {
    let machine = SimMachine::new(config);
    let rng = sim.split_rng();
    spawn_kernel_tasks(sim, &machine, rng, config.disk.is_some());
    machine
}

/// Runs a future as the only user task, until it is done; whatever else is going on goes on beside it.
///
/// # Panics
/// If it cannot come to its end.
pub fn run<F>(sim: &mut Sim, name: &'static str, future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    sim.block_on(name, future).unwrap_or_else(|stuck| panic!("{stuck}\n{}", sim.journal().print()))
}

/// Lets everything that can go on go on: the disk is idle after this, and reclaim content.
pub fn settle(sim: &mut Sim, machine: &SimMachine) {
    sim.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    machine.check();
}

/// A space with one area of so many pages, readable and writable: its name, and where the area is.
pub fn space_with(machine: &SimMachine, pages: u64) -> (SpaceId, VirtAddr) {
    let space = machine.create_space().expect("a frame for the root");
    let addr = ready(machine.mm().map(space, anonymous(Placement::Anywhere, pages)));
    (space, addr.expect("a fresh space has room"))
}

/// Spawns what ends programs in the kernel when memory has run out: takes down the spaces that verdicts name, once `note` knows.
pub fn end_victims(sim: &mut Sim, machine: &Arc<SimMachine>, note: impl Fn(Verdict) + Send + 'static) {
    sim.endless("victims");
    let own = machine.clone();
    let task = async move {
        loop {
            let verdict = own.mm().next_verdict().await;
            note(verdict);
            own.mm().destroy_space(verdict.victim).await;
        }
    };
    sim.spawn(Class::Kernel, "victims", Watched::new(machine, task)).detach();
}

/// Destroys a space and waits until nothing is under way any more.
pub fn destroy(sim: &mut Sim, machine: &Arc<SimMachine>, space: SpaceId) {
    let own = machine.clone();
    run(sim, "destroy", async move { own.mm().destroy_space(space).await });
    settle(sim, machine);
}

/// Asserts that nothing of any program is left: call it when all spaces are destroyed.
pub fn assert_empty(sim: &mut Sim, machine: &SimMachine) {
    settle(sim, machine);
    let end = machine.mm().snapshot();
    let (total, free) = (end.frames.total, end.frames.free);
    let bounce = end.tier.map_or(0, |tier| tier.bounce) as usize;
    assert_eq!(free, total - 1 - bounce, "all frames but the zero page are free: {end:?}");
    assert_eq!((end.held, end.orphaned_io, end.faults_waiting, end.batched), (0, 0, 0, 0), "{end:?}");
    assert!(!end.ops.any(), "nothing is under way: {end:?}");
    if let Some(slots) = end.slots {
        assert_eq!(slots.used, end.open_slots, "all slots are free: {end:?}");
    }
}

/// A thread of a program. Dropped wherever it is, it lets go of what it holds, as the kernel's threads do.
pub struct Thread {
    machine: Arc<SimMachine>,
    /// What reclaim leaves alone for it.
    pub holds: Holds,
}

impl Thread {
    /// A thread on this machine.
    pub fn new(machine: &Arc<SimMachine>) -> Self {
        Self { machine: machine.clone(), holds: Holds::default() }
    }

    /// Loads a word.
    pub async fn load(&mut self, space: SpaceId, addr: VirtAddr) -> Result<u64, Trap> {
        self.machine.load(space, addr, &mut self.holds).await
    }

    /// Stores a word.
    pub async fn store(&mut self, space: SpaceId, addr: VirtAddr, word: u64) -> Result<(), Trap> {
        self.machine.store(space, addr, word, &mut self.holds).await
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.machine.mm().release_holds(&mut self.holds);
    }
}

/// Settings the scenarios share: shuffled, nothing spurious.
pub fn settings(seed: u64) -> Settings {
    Settings { order: Order::Shuffled, max_steps: 400_000_000, keep_events: 60, ..Settings::new(Seed(seed)) }
}

/// A request for anonymous memory that can be read and written.
pub fn anonymous(placement: Placement, pages: u64) -> MapRequest {
    let (rights, label, backing) = (Rights::READ_WRITE, Label::Anonymous, Backing::Anonymous);
    MapRequest { placement, len: pages * PAGE, rights, label, backing }
}

/// A request for pages of an object, from its page `first` on, that can be read and written.
pub fn window(object: ObjectId, first: u64, pages: u64, sharing: Sharing) -> MapRequest {
    let backing = Backing::Object { object, first: ObjectPage::new(first), sharing };
    MapRequest { backing, ..anonymous(Placement::Anywhere, pages) }
}

/// A request for pages of an object, from its page `first` on, at a fixed place.
pub fn window_at(place: VirtAddr, object: ObjectId, first: u64, pages: u64, sharing: Sharing) -> MapRequest {
    MapRequest { placement: Placement::Fixed(place), ..window(object, first, pages, sharing) }
}

/// The pages of `pages` pages from `addr` on.
pub fn pages(addr: VirtAddr, pages: u64) -> PageRange {
    PageRange::new(addr.page(), pages)
}

/// The word `index` of page `page` of an area.
pub fn word(area: VirtAddr, page: u64, index: u64) -> VirtAddr {
    VirtAddr::new(area.as_u64() + page * PAGE + index * 8)
}

/// The output of a future that does not wait.
///
/// # Panics
/// If it does.
pub fn ready<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Polls to the end what gives way and waits for nobody, with a look after each poll.
///
/// # Panics
/// If it takes a million polls.
pub fn polled<F: Future>(future: F, mut look: impl FnMut()) -> F::Output {
    let mut future = std::pin::pin!(future);
    for _ in 0..1_000_000 {
        let poll = poll_once(future.as_mut());
        look();
        if let Poll::Ready(output) = poll {
            return output;
        }
    }
    panic!("it waits")
}

/// Polls once with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn spawn_kernel_tasks(sim: &mut Sim, machine: &Arc<SimMachine>, rng: Rng, disk: bool) {
    for name in ["pager", "reclaim", "disk"] {
        sim.endless(name);
    }
    let own = machine.clone();
    let pager = Watched::new(machine, async move { own.mm().run_pager().await });
    sim.spawn(Class::Kernel, "pager", pager).detach();
    let own = machine.clone();
    let reclaim = Watched::new(machine, async move { own.mm().run_reclaim().await });
    sim.spawn(Class::Kernel, "reclaim", reclaim).detach();
    if machine.mm().files().is_some() {
        sim.endless("files");
        let task = drive_files(machine.clone(), sim.executor(), sim.split_rng());
        sim.spawn(Class::Kernel, "files", task).detach();
    }
    if disk {
        let task = drive_disk(machine.clone(), sim.executor(), sim.journal(), rng);
        sim.spawn(Class::Kernel, "disk", task).detach();
    }
}

/// The task that is the disk: a step, a while, a step.
async fn drive_disk(machine: Arc<SimMachine>, executor: executor::Executor, journal: Journal, mut rng: Rng) {
    loop {
        poll_fn(|cx| machine.disk().poll_busy(cx)).await;
        let nanos = rng.below(DISK_STEP.as_nanos());
        executor.timers().sleep(Duration::from_nanos(nanos)).await;
        machine.disk().step();
        journal.note("disk: requests under way", machine.disk().load() as u64);
    }
}

/// The task that is the disk with files.
async fn drive_files(machine: Arc<SimMachine>, executor: executor::Executor, mut rng: Rng) {
    loop {
        poll_fn(|cx| machine.files().poll_busy(cx)).await;
        executor.timers().sleep(Duration::from_nanos(rng.below(DISK_STEP.as_nanos()))).await;
        machine.files().step();
    }
}

/// A future that shows the machine's identities to be kept after each of its polls.
pub struct Watched<F> {
    inner: Pin<Box<F>>,
    machine: Arc<SimMachine>,
}

impl<F> Watched<F> {
    /// Watches `future`.
    pub fn new(machine: &Arc<SimMachine>, future: F) -> Self {
        Self { inner: Box::pin(future), machine: machine.clone() }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.inner.as_mut().poll(cx);
        // In builds with debug assertions a snapshot checks itself.
        if cfg!(debug_assertions) {
            self.machine.mm().snapshot();
        }
        polled
    }
}

/// One of many tasks of a kind.
pub fn numbered(kind: &'static str, number: usize) -> TaskName {
    TaskName::numbered(kind, number as u32)
}
