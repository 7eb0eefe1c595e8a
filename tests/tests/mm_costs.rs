//! What the memory manager's data structures and futures cost, counted to the byte.
//!
//! A file of its own, because the counter is the process's allocator.

use mm::addr::{Pfn, VirtAddr, Vpn};
use mm::fault::{FaultKind, Holds};
use mm::frame::FrameDesc;
use mm::index::PageIndex;
use mm::object::ObjectPage;
use mm::page::{PackedRecord, Record};
use mm::platform::{Access, Rights};
use mm::sim::{SimConfig, SimMachine};
use mm::space::Placement;
use tests::counting::{Counting, bytes, calls};
use tests::mm::{PAGE, anonymous, ready, space_with, word};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of index for each of `count` pages that `place` puts somewhere.
fn index_bytes(count: u64, place: impl Fn(u64) -> u64) -> f64 {
    let (index, bytes) = bytes(|| {
        let mut index = PageIndex::default();
        (0..count).for_each(|i| index.set(Vpn::new(place(i)), Record::Resident(Pfn::new(i as u32))));
        index
    });
    drop(index);
    bytes as f64 / count as f64
}

#[test]
fn the_futures_are_small() {
    let machine = SimMachine::new(SimConfig::new(64, 64));
    let (space, area) = space_with(&machine, 1);
    let (mm, mut holds, mut buffer) = (machine.mm(), Holds::default(), [0u8; 8]);
    let fault = size_of_val(&mm.fault(space, area, Access::Read, 0, &mut holds));
    let copy = size_of_val(&mm.copy_in(space, area, &mut buffer));
    let map = size_of_val(&mm.map(space, anonymous(Placement::Anywhere, 1)));
    let unmap = size_of_val(&mm.unmap(space, area, PAGE));
    let object = mm.create_object(PAGE).unwrap();
    let read = size_of_val(&mm.object_read(object, 0, space, area, PAGE));
    let truncate = size_of_val(&mm.truncate_object(object, 0, space));
    let sync = size_of_val(&mm.sync_object(object, ObjectPage::new(0)..ObjectPage::LAST));
    let fork = size_of_val(&mm.fork_space(space, space));
    println!("bytes: object_read {read}, truncate {truncate}, sync {sync}, fork {fork}");
    println!("bytes: fault {fault}, holds {}, copy_in {copy}, map {map}, unmap {unmap}", size_of::<Holds>());
    assert!(fault <= 256, "design D15");
    assert!(copy <= 512 && map <= 512 && unmap <= 512, "they are parts of a thread's task, which is at most 1 KiB");
}

#[test]
fn a_minor_fault_on_a_resident_page_allocates_nothing() {
    let machine = SimMachine::new(SimConfig::new(64, 64));
    let (space, area) = space_with(&machine, 4);
    let (mm, mut holds) = (machine.mm(), Holds::default());
    let mut fault = |addr: VirtAddr, access| ready(mm.fault(space, addr, access, addr.as_u64(), &mut holds));
    for page in 0..4 {
        assert_eq!(fault(word(area, page, 0), Access::Write), Ok(FaultKind::Minor));
    }
    // A page that is resident but not mapped, its neighbours being mapped; and one that is mapped already.
    ready(mm.protect(space, area, PAGE, Rights::READ)).unwrap();
    for _ in 0..2 {
        let calls = calls(|| assert_eq!(fault(area, Access::Read), Ok(FaultKind::Minor)));
        assert_eq!(calls, 0);
    }
    mm.release_holds(&mut holds);
}

#[test]
fn a_page_costs_what_the_design_says() {
    let lone = index_bytes(50_000, |i| i * 512 + i % 512);
    let scattered = index_bytes(50_000, |i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33);
    let dense = index_bytes(512 * 200, |i| i);
    println!("bytes of index a page: alone {lone:.1}, scattered {scattered:.1}, dense {dense:.2}");
    assert!(lone <= 64.0 && scattered <= 64.0, "design D6");
    assert!(dense <= 8.5);
    assert!(size_of::<PackedRecord>() + size_of::<FrameDesc>() <= 48, "record and descriptor of a resident page");
}
