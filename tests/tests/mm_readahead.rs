//! N13: pages that will be wanted come along with one that is, and nothing comes that will not.

use executor::Class;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, FaultKind};
use mm::platform::{Access, Rights};
use mm::sim::{SimConfig, SimRng};
use mm::space::SpaceId;
use mm::stats::Counters;
use tests::mm::{PAGE, Thread, World, pages, ready, word};

/// A world in which `count` pages were written, each with a word of its own, and have left in this order.
fn paged_out(config: SimConfig, seed: u64, order: &[u64]) -> (World, SpaceId, VirtAddr) {
    let mut world = World::seeded(config, seed);
    let (space, area) = world.space_with(order.iter().max().expect("some page") + 1);
    let (machine, own) = (world.machine.clone(), order.to_vec());
    world.run("writer", async move {
        let mut thread = Thread::new(&machine);
        for page in own {
            thread.store(space, word(area, page, page % 512), 1000 + page).await.unwrap();
        }
    });
    for &page in order {
        world.machine.evict(space, pages(VirtAddr::new(area.as_u64() + page * PAGE), 1));
        // One request each, and there is room for so many only.
        world.settle();
    }
    (world, space, area)
}

/// Reads these pages in this order, and says what that added to the counters.
fn read(world: &mut World, space: SpaceId, area: VirtAddr, order: Vec<u64>) -> Counters {
    let before = world.machine.mm().snapshot().counters;
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Thread::new(&machine);
        for page in order {
            assert_eq!(thread.load(space, word(area, page, page % 512)).await, Ok(1000 + page));
        }
    });
    let now = world.machine.mm().snapshot().counters;
    Counters {
        pgfault: now.pgfault - before.pgfault,
        pgmajfault: now.pgmajfault - before.pgmajfault,
        pswpin: now.pswpin - before.pswpin,
        swap_ra: now.swap_ra - before.swap_ra,
        swap_ra_hit: now.swap_ra_hit - before.swap_ra_hit,
        store_reads: now.store_reads - before.store_reads,
        ..Counters::default()
    }
}

fn finish(mut world: World, space: SpaceId) {
    world.destroy(space);
    world.assert_empty();
    let end = world.machine.mm().snapshot();
    assert_eq!((end.on_probation, end.counters.swap_ra), (0, end.counters.swap_ra_hit + end.counters.swap_ra_waste));
}

/// N13: a sequential scan faults on at most one page of eight, whichever way it goes, and whether all pages fit or not.
#[test]
fn n13_a_scan_faults_on_one_page_of_eight_at_most() {
    for frames in [1024, 320] {
        for (seed, down) in [(1, false), (2, true)] {
            let written: Vec<u64> = (0..512).collect();
            let (mut world, space, area) = paged_out(SimConfig::new(frames, 2048), seed, &written);
            let order = if down { (0..512).rev().collect() } else { written };
            let did = read(&mut world, space, area, order);
            println!("{frames} frames, down {down}: {did:?}");
            assert!(did.pgfault <= 512 / 8, "{did:?}");
            assert!(did.pswpin <= 512 + 512 / 20, "hardly a page is read twice: {did:?}");
            finish(world, space);
        }
    }
}

/// N13: a program that jumps about gets the pages it asks for, and no others.
#[test]
fn n13_pages_at_random_bring_no_others() {
    for frames in [2048, 300] {
        let written: Vec<u64> = (0..1024).collect();
        let (mut world, space, area) = paged_out(SimConfig::new(frames, 4096), 3, &written);
        let mut rng = SimRng::new(9);
        let mut order = written;
        (1..order.len()).rev().for_each(|i| order.swap(i, rng.below(i + 1)));
        let did = read(&mut world, space, area, order);
        println!("{frames} frames: {did:?}");
        assert!(did.swap_ra <= did.pgmajfault / 33, "{did:?}");
        finish(world, space);
    }
}

#[test]
fn pages_that_were_written_out_together_come_back_together() {
    let order: Vec<u64> = (0..128).map(|i| i * 5).collect();
    let (mut world, space, area) = paged_out(SimConfig::new(1024, 2048), 4, &order);
    let did = read(&mut world, space, area, order);
    println!("{did:?}");
    assert!(did.pgfault <= 128 / 4 && did.store_reads <= 128 / 4, "{did:?}");
    finish(world, space);
}

#[test]
fn a_window_is_one_request_for_each_run_of_slots() {
    // Twice four pages in a row, in two places of the disk.
    let order = [0, 1, 2, 3, 20, 21, 22, 4, 5, 6, 7];
    let (mut world, space, area) = paged_out(SimConfig::new(256, 512), 5, &order);
    read(&mut world, space, area, vec![0]);
    world.machine.disk().stop();
    let machine = world.machine.clone();
    let reader = async move {
        let value = Thread::new(&machine).load(space, word(area, 1, 1)).await;
        assert_eq!(value, Ok(1001));
    };
    world.sim.spawn(Class::User, "reader", reader).detach();
    world.sim.settle().unwrap();
    let mut counts: Vec<u32> = world.machine.disk().under_way().iter().map(|(_, _, count)| *count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 3], "pages 1 to 3, and pages 4 and 5");
    world.machine.disk().resume();
    world.settle();
    finish(world, space);
}

/// N13: a scan that is under way does not wait for its pages: they are being read while it uses those before.
#[test]
fn n13_what_is_after_a_window_is_read_when_its_first_page_is_used() {
    let (mut world, space, area) = paged_out(SimConfig::new(512, 1024), 6, &(0..64).collect::<Vec<_>>());
    // 1 brings 2 to 5, and 6 brings 7 to 14.
    let did = read(&mut world, space, area, (0..=6).collect());
    assert_eq!((did.pgmajfault, did.pgfault), (3, 3), "{did:?}");
    world.machine.disk().stop();
    let did = read(&mut world, space, area, vec![7]);
    assert_eq!((did.pgmajfault, did.pgfault, did.swap_ra), (0, 1, 16), "{did:?}");
    let counts: Vec<u32> = world.machine.disk().under_way().iter().map(|(_, _, count)| *count).collect();
    assert_eq!(counts, [16], "pages 15 to 30");
    world.machine.disk().resume();
    world.settle();
    let did = read(&mut world, space, area, (8..=30).collect());
    assert_eq!((did.pgmajfault, did.pgfault), (0, 1), "on page 15, which heralds 31 and what is after it: {did:?}");
    finish(world, space);
}

/// N13: nor does it come to a halt where reclaim would begin: that begins before.
#[test]
fn n13_reclaim_begins_early_for_a_scan_that_is_under_way() {
    let (mut world, space, area) = paged_out(SimConfig::new(16384, 1024), 7, &(0..64).collect::<Vec<_>>());
    read(&mut world, space, area, (0..=6).collect());
    let low = world.machine.mm().watermarks().low;
    let frames = world.machine.mm().frames();
    let spare = frames.free_frames() - low - 63;
    let taken: Vec<_> = (0..spare).map(|_| frames.alloc_page(mm::frame::FrameKind::Dma).expect("it is free")).collect();
    assert_eq!(world.machine.mm().snapshot().counters.pgsteal, 64, "none since the pages left");
    let did = read(&mut world, space, area, vec![7]);
    assert_eq!(did.swap_ra, 16, "{did:?}");
    world.settle();
    assert!(world.machine.mm().snapshot().counters.pgsteal > 64, "at {} frames, where {low} is low", low + 63 - 16);
    taken.into_iter().for_each(|frame| frames.free(frame));
    finish(world, space);
}

/// N13: and where there are frames enough, it does not begin, although they have once been fewer than `high`.
#[test]
fn n13_a_scan_that_has_frames_enough_makes_nobody_reclaim() {
    let (mut world, space, area) = paged_out(SimConfig::new(16384, 1024), 9, &(0..128).collect::<Vec<_>>());
    let marks = world.machine.mm().watermarks();
    let frames = world.machine.mm().frames();
    let spare = frames.free_frames() - marks.high;
    let taken: Vec<_> = (0..spare).map(|_| frames.alloc_page(mm::frame::FrameKind::Dma).expect("it is free")).collect();
    let before = world.machine.mm().snapshot().counters;
    let did = read(&mut world, space, area, (0..=7).collect());
    assert_eq!(did.swap_ra, 4 + 8 + 16, "the third window was heralded: {did:?}");
    world.settle();
    let after = world.machine.mm().snapshot().counters;
    assert_eq!(after.pgsteal, before.pgsteal, "{} of {marks:?} are free", frames.free_frames());
    assert!((marks.low..marks.high).contains(&frames.free_frames()));
    taken.into_iter().for_each(|frame| frames.free(frame));
    finish(world, space);
}

/// N13: pages in more pieces than are read at once end the window where the pieces end; what is after it goes on from there.
#[test]
fn n13_a_window_ends_before_the_piece_that_is_one_too_many() {
    // Pages of neighbouring slots are 41 pages from each other: no two of a window in one piece.
    let order: Vec<u64> = (0..97).map(|i| i * 41 % 97).collect();
    let (mut world, space, area) = paged_out(SimConfig::new(512, 1024), 8, &order);
    read(&mut world, space, area, (0..=6).collect());
    world.settle();
    for page in [14, 22] {
        read(&mut world, space, area, vec![page]);
        world.settle();
        let did = read(&mut world, space, area, (page + 1..page + 8).collect());
        assert_eq!((did.pgmajfault, did.pswpin), (0, 0), "the seven pages after {page} came with it: {did:?}");
    }
    finish(world, space);
}

/// The second page of a sequence is missing: it and the next four are being read when this returns, and the disk stands still.
fn begin_window(seed: u64) -> (World, SpaceId, VirtAddr) {
    let written: Vec<u64> = (0..32).collect();
    let (mut world, space, area) = paged_out(SimConfig::new(256, 512), seed, &written);
    read(&mut world, space, area, vec![8]);
    world.machine.disk().stop();
    let machine = world.machine.clone();
    let reader = async move {
        let value = Thread::new(&machine).load(space, word(area, 9, 9)).await;
        assert!(matches!(value, Ok(1009) | Err(FaultError::SpaceGone)), "{value:?}");
    };
    world.sim.spawn(Class::User, "reader", reader).detach();
    world.sim.settle().unwrap();
    assert_eq!(world.machine.mm().snapshot().on_probation, 4);
    (world, space, area)
}

fn go_on(world: &mut World) {
    world.machine.disk().resume();
    world.settle();
}

#[test]
fn who_wants_a_page_that_is_being_read_ahead_joins_the_fill() {
    let (mut world, space, area) = begin_window(6);
    let machine = world.machine.clone();
    let joiner = async move {
        let mut thread = Thread::new(&machine);
        let addr = word(area, 11, 11);
        let kind = machine.mm().fault(space, addr, Access::Read, 1, &mut thread.holds).await;
        assert_eq!(kind, Ok(FaultKind::Major));
        assert_eq!(thread.load(space, addr).await, Ok(1011));
    };
    world.sim.spawn(Class::User, "joiner", joiner).detach();
    world.sim.settle().unwrap();
    assert_eq!(world.machine.disk().under_way().len(), 1, "one fill a page");
    go_on(&mut world);
    let counters = world.machine.mm().snapshot().counters;
    assert_eq!((counters.swap_ra, counters.swap_ra_hit), (4, 1));
    finish(world, space);
}

/// The A bit says whether a page was used: until then it is mapped and not accessed, and counts as neither hit nor waste.
#[test]
fn a_page_read_ahead_is_mapped_and_not_accessed_until_it_is() {
    let (mut world, space, area) = begin_window(7);
    go_on(&mut world);
    let at = |page: u64| area.page().offset(page);
    let accessed = |world: &World, page: u64| {
        use mm::platform::PageTable;
        let look = world.machine.mm().with_table(space, |table| table.lookup(at(page)));
        look.flatten().map(|mapping| (mapping.accessed, mapping.dirty))
    };
    for page in 10..14 {
        assert_eq!(accessed(&world, page), Some((false, false)), "page {page}");
    }
    let did = read(&mut world, space, area, vec![10, 12]);
    assert_eq!((did.pgfault, did.swap_ra_hit), (0, 0), "no fault, so nobody noticed yet");
    let machine = world.machine.clone();
    world.run("writer", async move {
        Thread::new(&machine).store(space, word(area, 13, 0), 7).await.unwrap();
    });
    // Whatever takes in A bits settles it.
    world.machine.evict(space, pages(area, 32));
    world.settle();
    let now = world.machine.mm().snapshot();
    assert_eq!((now.counters.swap_ra_hit, now.counters.swap_ra_waste, now.on_probation), (3, 1, 0));
    finish(world, space);
}

#[test]
fn pages_read_ahead_and_not_used_leave_before_older_ones_that_were() {
    let written: Vec<u64> = (0..200).collect();
    let (mut world, space, area) = paged_out(SimConfig::new(256, 1024), 8, &written);
    let anywhere = tests::mm::anonymous(mm::space::Placement::Anywhere, 400);
    let other = ready(world.machine.mm().map(space, anywhere)).unwrap();
    let write = |world: &mut World, from: u64, to: u64| {
        let machine = world.machine.clone();
        world.run("writer", async move {
            let mut thread = Thread::new(&machine);
            for page in from..to {
                thread.store(space, word(other, page, 1), page + 1).await.unwrap();
            }
        });
    };
    write(&mut world, 0, 170);
    // A sequence that stops in its second window.
    read(&mut world, space, area, vec![0, 1, 6]);
    let resident = |world: &World, area: VirtAddr, pages: std::ops::Range<u64>| {
        pages.filter(|page| world.machine.frame_of(space, word(area, *page, 0)).is_some()).count()
    };
    assert_eq!(resident(&world, area, 7..15), 8);
    // Reclaim has to take more than it is patient for.
    write(&mut world, 170, 270);
    assert_eq!(resident(&world, area, 7..15), 0, "{:?}", world.machine.mm().snapshot());
    assert!(resident(&world, other, 0..170) > 50, "{:?}", world.machine.mm().snapshot());
    finish(world, space);
}

#[test]
fn a_bad_page_in_a_window_costs_only_its_owner() {
    let (mut world, space, area) = begin_window(9);
    let slot = world.machine.slot_of(space, word(area, 20, 0)).expect("it is away");
    let bad = mm::platform::Slot::new(slot.as_u32() - 8);
    world.machine.disk().alter(bad);
    go_on(&mut world);
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Thread::new(&machine);
        for page in 9..32 {
            let value = thread.load(space, word(area, page, page)).await;
            assert_eq!(value, if page == 12 { Err(FaultError::BadPage) } else { Ok(1000 + page) }, "page {page}");
        }
    });
    finish(world, space);
}

/// A request of several pages fails: nobody can say which was at fault, so each is read alone, and only the bad one is lost.
#[test]
fn a_window_that_cannot_be_read_is_read_page_by_page() {
    let (mut world, space, area) = begin_window(10);
    let slot = world.machine.slot_of(space, word(area, 20, 0)).expect("it is away");
    let bad = mm::platform::Slot::new(slot.as_u32() - 8);
    world.machine.disk().fail_reads(bad, 3);
    go_on(&mut world);
    let now = world.machine.mm().snapshot();
    assert_eq!((now.counters.swap_read_err, now.counters.swap_ra_waste), (0, 4), "{now:?}");
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Thread::new(&machine);
        // Once with the others, and twice alone.
        assert_eq!(thread.load(space, word(area, 12, 12)).await, Err(FaultError::BadPage));
        for page in [10, 11, 13, 9] {
            assert_eq!(thread.load(space, word(area, page, page)).await, Ok(1000 + page), "page {page}");
        }
    });
    finish(world, space);
}

#[test]
fn a_page_nobody_wants_any_more_is_gone_at_once_and_its_frame_when_the_disk_is_done() {
    let (mut world, space, area) = begin_window(11);
    let machine = world.machine.clone();
    let from = VirtAddr::new(area.as_u64() + 11 * PAGE);
    world.run("unmap", async move { machine.mm().unmap(space, from, 2 * PAGE).await.unwrap() });
    let now = world.machine.mm().snapshot();
    assert_eq!((now.orphaned_io, now.on_probation, now.counters.swap_ra_waste), (2, 2, 2));
    go_on(&mut world);
    assert_eq!(world.machine.mm().snapshot().orphaned_io, 0);
    finish(world, space);

    let (mut world, space, _) = begin_window(12);
    let machine = world.machine.clone();
    world.run("destroy", async move { machine.mm().destroy_space(space).await });
    let before = world.machine.mm().snapshot();
    assert_eq!(before.orphaned_io, 5);
    go_on(&mut world);
    let after = world.machine.mm().snapshot().counters;
    assert_eq!(after.pswpin - before.counters.pswpin, 5, "they were read, wanted or not");
    world.assert_empty();
}

#[test]
fn a_page_whose_area_may_not_be_read_any_more_is_not_mapped() {
    let (mut world, space, area) = begin_window(13);
    let machine = world.machine.clone();
    let from = VirtAddr::new(area.as_u64() + 10 * PAGE);
    world.run("protect", async move { machine.mm().protect(space, from, 2 * PAGE, Rights::NONE).await.unwrap() });
    go_on(&mut world);
    let mapped = |page: u64| {
        use mm::platform::PageTable;
        let at = area.page().offset(page);
        world.machine.mm().with_table(space, |table| table.lookup(at)).flatten().is_some()
    };
    assert_eq!([10, 11, 12, 13].map(mapped), [false, false, true, true]);
    finish(world, space);
}

/// A machine whose free frames are at `low` reads what is asked for and nothing else.
#[test]
fn no_frame_is_taken_that_somebody_may_wait_for() {
    let written: Vec<u64> = (0..64).collect();
    let (mut world, space, area) = paged_out(SimConfig::new(256, 512), 14, &written);
    let low = world.machine.mm().watermarks().low;
    let frames = world.machine.mm().frames();
    let spare = frames.free_frames() - low;
    let taken: Vec<_> = (0..spare).map(|_| frames.alloc_page(mm::frame::FrameKind::Dma).expect("it is free")).collect();
    let did = read(&mut world, space, area, vec![0, 1, 2, 3]);
    assert_eq!((did.pswpin, did.swap_ra), (4, 0), "{did:?}");
    taken.into_iter().for_each(|frame| frames.free(frame));
    let did = read(&mut world, space, area, vec![4, 5, 6]);
    assert!(did.swap_ra > 0, "{did:?}");
    finish(world, space);
}
