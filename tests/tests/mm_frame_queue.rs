//! Who has the next frame, one step at a time: nothing runs here but what a test polls, so frames are freed by unmapping only.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use mm::addr::VirtAddr;
use mm::fault::{FaultError, FaultKind, Holds, MAX_HOLDS};
use mm::platform::Access;
use mm::sim::{SimConfig, SimMachine};
use mm::space::SpaceId;
use std::sync::Arc;
use tests::mm::{PAGE, poll_once, ready, space_with, word};

const SERVED: Poll<Result<FaultKind, FaultError>> = Poll::Ready(Ok(FaultKind::Minor));

/// A machine all frames of which are used.
struct Full {
    machine: Arc<SimMachine>,
    space: SpaceId,
    /// More pages than there are frames. Those from the first on have frames, those from [`Self::FRESH`] on do not.
    area: VirtAddr,
}

impl Full {
    const FRAMES: u64 = 64;
    const FRESH: u64 = 100;

    fn new() -> Self {
        let machine = SimMachine::new(SimConfig::new(Self::FRAMES as usize, 64));
        let (space, area) = space_with(&machine, 2 * Self::FRESH);
        let full = Self { machine, space, area };
        let mut holds = Holds::default();
        let mut stored = 0;
        while poll_once(pin!(full.write(stored, stored, &mut holds))) == SERVED {
            stored += 1;
        }
        full.machine.mm().release_holds(&mut holds);
        assert!((40..Self::FRAMES).contains(&stored), "{stored} pages have frames");
        full
    }

    /// A write to a page, by an instruction at an address.
    fn write<'a>(
        &'a self,
        page: u64,
        anchor: u64,
        holds: &'a mut Holds,
    ) -> impl Future<Output = Result<FaultKind, FaultError>> {
        self.machine.mm().fault(self.space, word(self.area, page, 0), Access::Write, anchor, holds)
    }

    /// Frees so many frames, from page `first` on.
    fn free(&self, first: u64, frames: u64) {
        ready(self.machine.mm().unmap(self.space, word(self.area, first, 0), frames * PAGE)).expect("pages to unmap");
    }
}

/// Polls `fault`, which is to wait still.
fn waits(fault: Pin<&mut impl Future<Output = Result<FaultKind, FaultError>>>) {
    assert_eq!(poll_once(fault), Poll::Pending);
}

/// Polls `fault`, which is to be over.
fn is_served(fault: Pin<&mut impl Future<Output = Result<FaultKind, FaultError>>>) {
    assert_eq!(poll_once(fault), SERVED);
}

#[test]
fn a_frame_is_for_who_waited_longest_and_not_for_who_comes() {
    let full = Full::new();
    let [mut a, mut b, mut c] = [(); 3].map(|()| Holds::default());
    let mut first = pin!(full.write(Full::FRESH, 1, &mut a));
    let mut second = pin!(full.write(Full::FRESH + 1, 2, &mut b));
    waits(first.as_mut());
    waits(second.as_mut());
    full.free(0, 1);
    let mut newcomer = pin!(full.write(Full::FRESH + 2, 3, &mut c));
    waits(newcomer.as_mut());
    waits(second.as_mut());
    is_served(first);
    waits(second.as_mut());
    full.free(1, 2);
    is_served(newcomer);
    is_served(second);
}

#[test]
fn a_frame_that_is_not_needed_after_all_is_for_the_next() {
    let full = Full::new();
    let [mut a, mut b, mut c] = [(); 3].map(|()| Holds::default());
    let mut first = pin!(full.write(Full::FRESH, 1, &mut a));
    let mut third = pin!(full.write(Full::FRESH + 1, 3, &mut c));
    waits(first.as_mut());
    {
        let mut beside = pin!(full.write(Full::FRESH, 2, &mut b));
        waits(beside.as_mut());
        waits(third.as_mut());
        full.free(0, 2);
        waits(third.as_mut());
        is_served(first);
        is_served(beside);
    }
    is_served(third);
}

#[test]
fn who_is_dropped_leaves_its_frame_to_the_next_and_to_anybody_if_there_is_none() {
    let full = Full::new();
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| Holds::default());
    {
        let mut second = pin!(full.write(Full::FRESH + 1, 2, &mut b));
        {
            let mut first = pin!(full.write(Full::FRESH, 1, &mut a));
            waits(first.as_mut());
            waits(second.as_mut());
            full.free(0, 1);
        }
        is_served(second);
    }
    {
        let mut alone = pin!(full.write(Full::FRESH + 2, 3, &mut c));
        waits(alone.as_mut());
        full.free(1, 1);
    }
    is_served(pin!(full.write(Full::FRESH + 3, 4, &mut d)));
    // One that leaves without having been woken takes nobody's place.
    {
        let mut sleeper = pin!(full.write(Full::FRESH + 4, 5, &mut c));
        waits(sleeper.as_mut());
    }
    full.free(2, 1);
    is_served(pin!(full.write(Full::FRESH + 5, 6, &mut d)));
}

#[test]
fn who_has_begun_goes_first_until_it_has_had_all_that_an_instruction_can_need() {
    let full = Full::new();
    let [mut a, mut b] = [(); 2].map(|()| Holds::default());
    let mut page = Full::FRESH;
    full.free(0, 1);
    is_served(pin!(full.write(page, 1, &mut a)));
    let mut newcomer = pin!(full.write(2 * Full::FRESH - 1, 2, &mut b));
    waits(newcomer.as_mut());
    for round in 1..=MAX_HOLDS as u64 {
        page += 1;
        let mut next = pin!(full.write(page, 1, &mut a));
        waits(next.as_mut());
        full.free(round, 1);
        waits(newcomer.as_mut());
        is_served(next);
    }
    let mut more = pin!(full.write(page + 1, 1, &mut a));
    waits(more.as_mut());
    full.free(MAX_HOLDS as u64 + 1, 1);
    waits(more.as_mut());
    is_served(newcomer);
}

#[test]
fn news_of_another_kind_reach_everybody_and_take_nobodys_frame() {
    let full = Full::new();
    let [mut a, mut b, mut c] = [(); 3].map(|()| Holds::default());
    let (other, _) = space_with(&full.machine, 1);
    let mut first = pin!(full.write(Full::FRESH, 1, &mut a));
    let mut second = pin!(full.write(Full::FRESH + 1, 2, &mut b));
    waits(first.as_mut());
    waits(second.as_mut());
    // The end of a space wakes all, for it may be theirs. No page can have what it leaves.
    ready(full.machine.mm().destroy_space(other));
    full.free(0, 1);
    let mut newcomer = pin!(full.write(Full::FRESH + 2, 3, &mut c));
    waits(newcomer.as_mut());
    is_served(first);
    waits(second.as_mut());
    full.free(1, 1);
    waits(newcomer.as_mut());
    is_served(second);
}
