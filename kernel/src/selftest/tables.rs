//! The page tables of programs keep the contract that the simulator's keep (feature X6).

use alloc::vec::Vec;

use mm::addr::Pfn;
use mm::contract::{self, TableFrames};
use mm::frame::{Frame, FrameKind};
use mm::platform::PageTable;

use crate::address_space::UserTables;
use crate::frames;

/// Operations in each of the walks.
const STEPS: u64 = 4000;
/// Walks, each from another seed.
const WALKS: u64 = 5;

struct Tables;

impl TableFrames for Tables {
    fn take(&mut self) -> Option<Frame> {
        frames::get().alloc_page(FrameKind::PageTable)
    }
    fn give(&mut self, frame: Frame) {
        frames::get().free(frame);
    }
}

/// Walks at random over page tables that no program runs on.
pub(super) fn contract() {
    let allocator = frames::get();
    let take = |kind| allocator.alloc_page(kind).expect("memory for a check");
    let targets: Vec<Frame> = (0..8).map(|_| take(FrameKind::User)).collect();
    let names: Vec<Pfn> = targets.iter().map(Frame::pfn).collect();
    let tables_in_use = || allocator.counts().used[FrameKind::PageTable as usize];
    let before = tables_in_use();
    for seed in 0..WALKS {
        let mut tables = UserTables::new(take(FrameKind::PageTable));
        let walked = contract::walk(&mut tables, &mut Tables, &names, STEPS, seed);
        allocator.free(tables.into_root());
        log::info!("selftest page-tables: seed {seed}: {walked:?}");
    }
    assert_eq!(tables_in_use(), before, "every table's frame is back");
    targets.into_iter().for_each(|frame| allocator.free(frame));
}
