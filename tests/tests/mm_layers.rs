//! The layers of the memory manager, from a heap's request down to a frame: each does one thing, and none skips another.

use mm::addr::Pfn;
use mm::fault::{FaultKind, Holds};
use mm::frame::{FrameKind, Order};
use mm::heap::{Heap, Request, SlabHeader, SlabHeap, SlabId, SlabMemory};
use mm::platform::Access;
use mm::sim::{SimConfig, SimMachine};
use mm::space::{Placement, SpaceId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tests::mm::{PAGE, World, anonymous, ready, word};

/// One address is one thing to one program and another to another; frames are everybody's.
#[test]
fn a2_each_program_has_its_own_addresses_and_all_have_the_same_frames() {
    let mut world = World::seeded(SimConfig::new(128, 256), 1);
    let at = mm::addr::VirtAddr::new(0x4000_0000);
    let free = world.machine.mm().frames().free_frames();
    let spaces: Vec<_> = (0..3).map(|_| world.machine.create_space().expect("a root")).collect();
    for space in &spaces {
        assert_eq!(ready(world.machine.mm().map(*space, anonymous(Placement::Fixed(at), 8))), Ok(at));
    }
    let (machine, own) = (world.machine.clone(), spaces.clone());
    world.run("programs", async move {
        let mut holds = Holds::default();
        for page in 0..8 {
            for (number, space) in own.iter().enumerate() {
                machine.store(*space, word(at, page, 3), number as u64 * 100 + page, &mut holds).await.expect("memory");
            }
        }
        for page in 0..8 {
            for (number, space) in own.iter().enumerate() {
                let found = machine.load(*space, word(at, page, 3), &mut holds).await;
                assert_eq!(found, Ok(number as u64 * 100 + page), "page {page} of program {number}");
            }
        }
        machine.mm().release_holds(&mut holds);
    });
    let counts = world.machine.mm().frames().counts();
    assert_eq!(counts.used[FrameKind::User as usize], 24, "a frame of its own for each page of each program");
    assert_eq!(counts.total, counts.free + counts.used.iter().sum::<usize>());
    spaces.into_iter().for_each(|space| world.destroy(space));
    assert_eq!(world.machine.mm().frames().free_frames(), free, "what programs had is everybody's again");
    world.assert_empty();
}

/// What a heap stands on here: memory of a program, mapped and touched like any other.
struct Pages {
    machine: Arc<SimMachine>,
    space: SpaceId,
    headers: BTreeMap<u64, SlabHeader>,
    trace: Vec<&'static str>,
}

impl SlabMemory for Pages {
    fn take(&mut self, order: Order) -> Option<u64> {
        let pages = order.frames() as u64;
        let mm = self.machine.mm();
        let before = self.used();
        // The heap's addresses are those of physical memory, 44 bits at most.
        let low = Placement::Hint(mm::addr::VirtAddr::new(1 << 32));
        let at = ready(mm.map(self.space, anonymous(low, pages))).ok()?;
        assert_eq!(self.used(), before, "an area has no frames yet");
        self.trace.push("space: an area");
        for page in 0..pages {
            let mut holds = Holds::default();
            let addr = word(at, page, 0);
            assert!(self.frame(addr).is_none(), "nothing is mapped there yet");
            let kind = ready(mm.fault(self.space, addr, Access::Write, 0, &mut holds));
            assert_eq!(kind, Ok(FaultKind::Minor));
            self.trace.push("fault: a page");
            assert_eq!(self.used() - before, page + 1);
            self.trace.push("frames: a frame");
            assert!(self.frame(addr).is_some());
            self.trace.push("table: an entry");
            mm.release_holds(&mut holds);
        }
        Some(at.as_u64())
    }
    fn give(&mut self, at: u64, order: Order) {
        self.headers.remove(&at);
        let bytes = order.frames() as u64 * PAGE;
        ready(self.machine.mm().unmap(self.space, mm::addr::VirtAddr::new(at), bytes)).expect("an area of ours");
    }
    fn make_header(&mut self, slab: SlabId, header: SlabHeader) {
        self.headers.insert(slab.address(), header);
    }
    fn header(&mut self, slab: SlabId) -> &mut SlabHeader {
        self.headers.get_mut(&slab.address()).expect("a slab of ours")
    }
}

impl Pages {
    /// Frames of programs.
    fn used(&self) -> u64 {
        self.machine.mm().frames().counts().used[FrameKind::User as usize] as u64
    }
    /// What the page tables say.
    fn frame(&self, at: mm::addr::VirtAddr) -> Option<Pfn> {
        use mm::platform::PageTable;
        self.machine.mm().with_table(self.space, |table| table.lookup(at.page()).map(|m| m.frame)).flatten()
    }
}

#[test]
fn n1_five_bytes_go_from_heap_to_space_to_frames_to_table() {
    let mut world = World::seeded(SimConfig::new(128, 256), 1);
    let space = world.machine.create_space().expect("a root");
    let pages = Pages { machine: world.machine.clone(), space, headers: BTreeMap::new(), trace: vec!["heap: 5 bytes"] };
    let mut heap = SlabHeap::new(pages);
    let at = heap.alloc(Request::bytes(5)).expect("memory");
    let chain = ["heap: 5 bytes", "space: an area", "fault: a page", "frames: a frame", "table: an entry"];
    assert_eq!(heap.memory().trace, chain);
    // The next five bytes are there already: nothing below the heap hears of them.
    let next = heap.alloc(Request::bytes(5)).expect("memory");
    assert!(next != at && next / PAGE == at / PAGE);
    assert_eq!(heap.memory().trace.len(), chain.len());
    world.destroy(space);
    world.assert_empty();
}
