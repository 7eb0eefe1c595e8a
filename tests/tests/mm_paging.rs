//! Pages go out and come back: what is written, what is not, and what the counts say at each step.

use mm::addr::VirtAddr;
use mm::fault::Holds;
use mm::platform::PageTable;
use mm::sim::SimConfig;
use mm::space::SpaceId;
use mm::stats::VisiblePages;
use tests::mm::{PAGE, World, pages, word};

/// Stores a word of its own to each of `count` pages from `first` on, and holds nothing afterwards.
fn touch(world: &mut World, space: SpaceId, area: VirtAddr, first: u64, count: u64) {
    let machine = world.machine.clone();
    world.run("writer", async move {
        let mut thread = Holds::default();
        for page in first..first + count {
            machine.store(space, word(area, page, page % 512), 1000 + page, &mut thread).await.unwrap();
        }
        machine.mm().release_holds(&mut thread);
    });
}

/// Loads what [`touch`] stored.
fn check(world: &mut World, space: SpaceId, area: VirtAddr, first: u64, count: u64) {
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Holds::default();
        for page in first..first + count {
            let value = machine.load(space, word(area, page, page % 512), &mut thread).await;
            assert_eq!(value, Ok(1000 + page));
        }
        machine.mm().release_holds(&mut thread);
    });
}

fn evict(world: &mut World, space: SpaceId, area: VirtAddr, count: u64) {
    world.machine.evict(space, pages(area, count));
    world.settle();
}

fn visible(world: &mut World) -> VisiblePages {
    let machine = world.machine.clone();
    world.run("dirty bits", async move { machine.mm().take_in_dirty_bits().await });
    world.machine.mm().snapshot().visible
}

/// M1: nothing is set aside before it is touched, and each page is in one of four states, to the page.
#[test]
fn m1_the_four_counts_are_right_at_each_step() {
    // Pages that come along would be counted, too.
    let mm = mm::Config { read_ahead: 0, ..mm::Config::default() };
    let mut world = World::seeded(SimConfig { mm, ..SimConfig::new(512, 2048) }, 3);
    let before = world.machine.mm().snapshot();
    let (space, area) = world.space_with(256);
    let mapped = VisiblePages { uncommitted: 256, ..VisiblePages::default() };
    assert_eq!(visible(&mut world), mapped);
    let now = world.machine.mm().snapshot();
    assert_eq!(now.frames.free, before.frames.free - 1, "mapping costs the root and nothing else");
    assert_eq!(now.slots, before.slots);

    touch(&mut world, space, area, 0, 128);
    let touched = VisiblePages { uncommitted: 128, committed_dirty: 128, ..mapped };
    assert_eq!(visible(&mut world), touched);

    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Holds::default();
        for page in 128..136 {
            assert_eq!(machine.load(space, word(area, page, 0), &mut thread).await, Ok(0));
        }
        machine.mm().release_holds(&mut thread);
    });
    let read = VisiblePages { uncommitted: 120, committed_clean: 8, ..touched };
    assert_eq!(visible(&mut world), read);

    evict(&mut world, space, area, 100);
    let out = VisiblePages { committed_dirty: 28, paged_out: 100, ..read };
    assert_eq!(visible(&mut world), out);

    check(&mut world, space, area, 0, 40);
    let back = VisiblePages { committed_clean: 48, paged_out: 60, ..out };
    assert_eq!(visible(&mut world), back);

    touch(&mut world, space, area, 0, 10);
    let again = VisiblePages { committed_clean: 38, committed_dirty: 38, ..back };
    assert_eq!(visible(&mut world), again);

    let machine = world.machine.clone();
    world.run("unmap", async move { machine.mm().unmap(space, area, 128 * PAGE).await.unwrap() });
    assert_eq!(visible(&mut world), VisiblePages { uncommitted: 120, committed_clean: 8, ..VisiblePages::default() });
    world.destroy(space);
    world.assert_empty();
    assert_eq!(visible(&mut world), VisiblePages::default());
}

#[test]
fn m3_a_clean_page_leaves_without_being_written_again() {
    let mut world = World::seeded(SimConfig::new(64, 256), 4);
    let (space, area) = world.space_with(16);
    touch(&mut world, space, area, 0, 16);
    evict(&mut world, space, area, 16);
    assert_eq!(world.machine.disk().counts().pages_written, 16);
    check(&mut world, space, area, 0, 16);
    evict(&mut world, space, area, 16);
    assert_eq!(world.machine.disk().counts().pages_written, 16, "their copies are still good");
    assert_eq!(world.machine.mm().snapshot().counters.pgdrop_clean, 16);
    check(&mut world, space, area, 0, 16);
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn victims_leave_in_clusters() {
    let mut world = World::seeded(SimConfig::new(256, 1024), 5);
    let (space, area) = world.space_with(128);
    touch(&mut world, space, area, 0, 128);
    evict(&mut world, space, area, 128);
    let counts = world.machine.disk().counts();
    assert_eq!(counts.pages_written, 128);
    assert!(counts.writes <= 3, "63 slots beside the header, then whole clusters: {counts:?}");
    world.destroy(space);
    world.assert_empty();
    assert!(world.machine.disk().counts().discards > 0, "the device is told what is gone for good");
}

#[test]
fn a_page_of_one_repeated_word_needs_no_disk() {
    let mut world = World::seeded(SimConfig::new(64, 256), 6);
    let (space, area) = world.space_with(3);
    let machine = world.machine.clone();
    world.run("writer", async move {
        let mm = machine.mm();
        for (page, byte) in [(0, 0xab), (1, 0u8)] {
            mm.copy_out(space, word(area, page, 0), &[byte; PAGE as usize]).await.unwrap();
        }
        mm.copy_out(space, word(area, 2, 0), &[0xab; PAGE as usize]).await.unwrap();
        mm.copy_out(space, word(area, 2, 511), &[1]).await.unwrap();
    });
    evict(&mut world, space, area, 3);
    assert_eq!(world.machine.disk().counts().pages_written, 1, "only the page that is not all the same");
    let counters = world.machine.mm().snapshot().counters;
    assert_eq!((counters.swpout_zero, counters.pswpout), (2, 1));
    let machine = world.machine.clone();
    world.run("reader", async move {
        let mut thread = Holds::default();
        for (page, expected) in [(0, 0xabab_abab_abab_abab), (1, 0), (2, 0xabab_abab_abab_ab01)] {
            assert_eq!(machine.load(space, word(area, page, 511), &mut thread).await, Ok(expected));
        }
        machine.mm().release_holds(&mut thread);
    });
    assert_eq!(world.machine.disk().counts().reads, 1);
    world.destroy(space);
    world.assert_empty();
}

/// A written page is under write-out, and the disk stands still until [`finish_write_out`].
fn begin_write_out(world: &mut World, space: SpaceId, area: VirtAddr) {
    touch(world, space, area, 0, 1);
    world.machine.disk().stop();
    evict(world, space, area, 1);
    assert_eq!(world.machine.disk().under_way().len(), 1);
    assert!(world.machine.frame_of(space, area).is_some(), "its frame is its own until the write is done");
}

fn finish_write_out(world: &mut World) {
    world.machine.disk().resume();
    world.settle();
}

#[test]
fn a_page_written_during_its_write_out_stays_and_is_dirty() {
    let mut world = World::seeded(SimConfig::new(64, 256), 7);
    let (space, area) = world.space_with(1);
    begin_write_out(&mut world, space, area);
    let machine = world.machine.clone();
    world.run("writer", async move {
        let mut thread = Holds::default();
        machine.store(space, area, 5, &mut thread).await.unwrap();
        machine.mm().release_holds(&mut thread);
    });
    assert_eq!(world.machine.mm().snapshot().counters.pgrescued, 1);
    finish_write_out(&mut world);
    assert_eq!(visible(&mut world).committed_dirty, 1);
    assert_eq!(world.machine.slot_of(space, area), None, "the slot holds what the page was");
    evict(&mut world, space, area, 1);
    let machine = world.machine.clone();
    let value = world.run("reader", async move {
        let mut thread = Holds::default();
        let value = machine.load(space, area, &mut thread).await;
        machine.mm().release_holds(&mut thread);
        value
    });
    assert_eq!(value, Ok(5));
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a_page_read_during_its_write_out_stays_and_is_clean() {
    let mut world = World::seeded(SimConfig::new(64, 256), 8);
    let (space, area) = world.space_with(1);
    begin_write_out(&mut world, space, area);
    check(&mut world, space, area, 0, 1);
    finish_write_out(&mut world);
    assert_eq!(visible(&mut world).committed_clean, 1);
    assert!(world.machine.slot_of(space, area).is_some());
    evict(&mut world, space, area, 1);
    assert_eq!(world.machine.disk().counts().writes, 1, "its copy is good");
    check(&mut world, space, area, 0, 1);
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a_page_written_by_the_kernel_during_its_write_out_is_dirty() {
    let mut world = World::seeded(SimConfig::new(64, 256), 9);
    let (space, area) = world.space_with(1);
    begin_write_out(&mut world, space, area);
    let copied = world.machine.mm().try_copy_out(space, word(area, 0, 9), &7u64.to_le_bytes());
    assert_eq!(copied, Some(()));
    finish_write_out(&mut world);
    assert_eq!((visible(&mut world).committed_dirty, world.machine.slot_of(space, area)), (1, None));
    evict(&mut world, space, area, 1);
    let mut bytes = [0; 8];
    assert_eq!(world.machine.mm().try_copy_in(space, word(area, 0, 9), &mut bytes), None, "it is away");
    check(&mut world, space, area, 0, 1);
    assert_eq!(world.machine.mm().try_copy_in(space, word(area, 0, 9), &mut bytes), Some(()));
    assert_eq!(u64::from_le_bytes(bytes), 7);
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a_page_written_and_unmapped_from_the_tables_during_its_write_out_is_dirty() {
    let mut world = World::seeded(SimConfig::new(64, 256), 10);
    let (space, area) = world.space_with(1);
    begin_write_out(&mut world, space, area);
    touch(&mut world, space, area, 0, 1);
    world.machine.mm().drop_page_table(space, area.page());
    finish_write_out(&mut world);
    assert_eq!(visible(&mut world).committed_dirty, 1, "the D bit was taken in when the table went");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a_page_unmapped_during_its_write_out_is_gone_at_once_and_its_frame_when_the_disk_is_done() {
    let mut world = World::seeded(SimConfig::new(64, 256), 11);
    let (space, area) = world.space_with(1);
    begin_write_out(&mut world, space, area);
    let machine = world.machine.clone();
    world.run("unmap", async move { machine.mm().unmap(space, area, PAGE).await.unwrap() });
    let now = world.machine.mm().snapshot();
    assert_eq!((now.orphaned_io, now.visible), (1, VisiblePages::default()));
    finish_write_out(&mut world);
    let after = world.machine.mm().snapshot();
    assert_eq!((after.orphaned_io, after.counters.pswpout), (0, 1), "it was written, wanted or not");
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn copies_are_given_up_when_slots_are_scarce() {
    // 64 slots, one of them the header's: less than RAM, so copies of clean pages cannot all be kept.
    let mut world = World::seeded(SimConfig::new(128, 64), 12);
    let (space, area) = world.space_with(60);
    touch(&mut world, space, area, 0, 60);
    evict(&mut world, space, area, 60);
    check(&mut world, space, area, 0, 60);
    let now = world.machine.mm().snapshot();
    assert!(now.counters.swap_copy_dropped > 0, "{now:?}");
    let slots = now.slots.expect("there is swap");
    assert!(slots.free >= slots.total / 4 - 1, "{slots:?}");
    check(&mut world, space, area, 0, 60);
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn page_tables_can_go_at_any_time() {
    let mut world = World::seeded(SimConfig::new(128, 256), 13);
    let (space, area) = world.space_with(32);
    touch(&mut world, space, area, 0, 32);
    let dirty = visible(&mut world);
    let tables = |world: &World| world.machine.mm().with_table(space, |table| table.tables());
    assert_eq!(tables(&world), Some(3));
    world.machine.mm().drop_page_table(space, area.page());
    world.machine.check();
    assert_eq!(tables(&world), Some(0));
    assert_eq!(visible(&mut world), dirty);
    check(&mut world, space, area, 0, 32);
    assert_eq!(world.machine.mm().snapshot().counters.pgmajfault, 0);
    world.destroy(space);
    world.assert_empty();
}
