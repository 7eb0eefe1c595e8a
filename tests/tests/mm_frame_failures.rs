//! Frames that cannot be had although there are some, and frees that are wrong: neither may harm anybody.

use mm::addr::{Pfn, VirtAddr};
use mm::frame::{FrameKind, FreeError, Order};
use mm::sim::SimConfig;
use mm::space::{Placement, SpaceId};
use tests::harness::reduced_or_full;
use tests::mm::{Thread, World, anonymous, pages, word};

/// More pages than the machine has frames, so that they go out and come back.
const PAGES: u64 = 96;
const FRAMES: usize = 64;

/// A program's life: it fills memory, reads it all back, changes the rights, gives a part up, and maps again.
async fn life(machine: std::sync::Arc<mm::sim::SimMachine>, space: SpaceId, area: VirtAddr) {
    let mut thread = Thread::new(&machine);
    for page in 0..PAGES {
        thread.store(space, word(area, page, 3), page + 1).await.expect("memory has not run out");
    }
    for page in 0..PAGES {
        assert_eq!(thread.load(space, word(area, page, 3)).await, Ok(page + 1), "page {page}");
    }
    machine.mm().unmap(space, area, 32 * tests::mm::PAGE).await.expect("an area to unmap");
    let again = machine.mm().map(space, anonymous(Placement::Fixed(area), 32)).await.expect("a gap to map into");
    assert_eq!(again, area);
    for page in 0..32 {
        assert_eq!(thread.load(space, word(area, page, 3)).await, Ok(0), "fresh memory");
        thread.store(space, word(area, page, 3), 7).await.expect("memory has not run out");
    }
}

/// Runs the life with the `nth` frame allocation failing; returns whether it got that far.
fn fails_at(nth: u32, seed: u64) -> bool {
    let mut world = World::seeded(SimConfig::new(FRAMES, 512), seed);
    world.machine.frames().fail(nth, nth);
    let Some(space) = world.machine.create_space() else {
        assert_eq!(world.machine.frames().failed(), 1, "a root is refused only if its frame is");
        world.assert_empty();
        return true;
    };
    let own = world.machine.clone();
    let area = world.run("map", async move { own.mm().map(space, anonymous(Placement::Anywhere, PAGES)).await });
    let area = area.expect("a fresh space has room");
    let own = world.machine.clone();
    world.run("life", life(own, space, area));
    let failed = world.machine.frames().failed() == 1;
    world.destroy(space);
    world.assert_empty();
    failed
}

#[test]
fn e1_whichever_frame_allocation_fails_nothing_is_lost() {
    let seed = tests::harness::seed();
    println!("seed {seed}");
    let last = (1..).find(|nth| !fails_at(*nth, seed)).expect("it ends");
    // Every page takes a frame at least once, and most of them again when they come back.
    assert!(u64::from(last) > PAGES + 32, "only {last} allocations");
    println!("{} allocations, each failed once", last - 1);
}

#[test]
fn e1_failures_in_a_row_are_survived_as_well() {
    let mut world = World::seeded(SimConfig::new(FRAMES, 512), tests::harness::seed());
    let (space, area) = world.space_with(PAGES);
    world.machine.frames().fail(1, reduced_or_full(20, 200));
    for _ in 0..reduced_or_full(4, 120) {
        let own = world.machine.clone();
        world.run("life", life(own, space, area));
    }
    assert!(world.machine.frames().failed() >= 15, "{} failed", world.machine.frames().failed());
    world.machine.frames().fail(0, 0);
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn m13_pages_get_frames_that_were_zeroed_in_advance() {
    let mut world = World::seeded(SimConfig::new(256, 512), 13);
    let zeroed = (0..1000).take_while(|_| world.machine.mm().zero_in_advance()).count() as u64;
    assert!((1..1000).contains(&zeroed), "{zeroed} frames are zeroed, and that is enough");
    let (space, area) = world.space_with(PAGES);
    let own = world.machine.clone();
    world.run("life", life(own, space, area));
    let counters = world.machine.mm().snapshot().counters;
    assert_eq!(counters.pgzero_pre, zeroed, "each was given to a page");
    assert_eq!(counters.pgzero_pre + counters.pgzeroed, PAGES + 32, "and the others were zeroed when they were needed");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a4_a_frame_that_is_mapped_or_under_io_is_not_freed() {
    let mut world = World::seeded(SimConfig::new(FRAMES, 512), 11);
    let (space, area) = world.space_with(8);
    let own = world.machine.clone();
    world.run("writer", async move {
        let mut thread = Thread::new(&own);
        for page in 0..8 {
            thread.store(space, word(area, page, 0), page + 1).await.unwrap();
        }
    });
    let machine = world.machine.clone();
    let (mm, frames) = (machine.mm(), machine.frames());
    let free = |frame: Pfn| mm.release(frame, FrameKind::User, Order::PAGE);
    let mapped = machine.frame_of(space, area).expect("it is resident");
    assert_eq!(free(mapped), Err(FreeError::Mapped));
    // Sent to the disk, which has not answered.
    machine.disk().stop();
    machine.evict(space, pages(area, 8));
    let before = frames.counts();
    let under_io = (0..FRAMES as u32).map(Pfn::new).filter(|frame| free(*frame) == Err(FreeError::UnderIo)).count();
    assert_eq!(under_io, 8, "all eight are on their way out");
    assert_eq!(frames.counts(), before, "nothing was freed");
    let misuses = frames.misuses();
    assert_eq!((misuses[FreeError::Mapped as usize], misuses[FreeError::UnderIo as usize]), (1, 8));
    machine.disk().resume();
    world.settle();
    world.destroy(space);
    world.assert_empty();
}
