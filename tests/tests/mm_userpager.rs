//! User pagers on the simulated machine: who asks, who waits, who answers, and what happens when somebody goes away meanwhile.

use executor::Class;
use mm::addr::{PageRange, VirtAddr};
use mm::fault::FaultError;
use mm::sim::SimConfig;
use mm::space::{Contents, SpaceId, UserPagerError, UserPagerId, Wake};
use std::sync::{Arc, Mutex};
use tests::mm::{PAGE, Thread, World, ready, word};

type Seen = Arc<Mutex<Vec<Result<u64, FaultError>>>>;

/// A space with eight pages that a pager has, and one more.
fn watched() -> (World, SpaceId, VirtAddr, UserPagerId) {
    let mut world = World::seeded(SimConfig::new(128, 256), 1);
    let (space, area) = world.space_with(9);
    let pager = world.machine.mm().create_user_pager(space).expect("there is room");
    ready(world.machine.mm().register_user_pager(pager, area, 8 * PAGE)).expect("it is anonymous memory");
    (world, space, area, pager)
}

/// A thread that reads the first word of a page, whenever it may.
fn client(world: &mut World, space: SpaceId, addr: VirtAddr) -> Seen {
    let seen = Seen::default();
    let (machine, told) = (world.machine.clone(), seen.clone());
    let task = async move {
        let value = Thread::new(&machine).load(space, addr).await;
        told.lock().unwrap().push(value);
    };
    world.sim.spawn(Class::User, "client", task).detach();
    world.sim.settle().unwrap();
    seen
}

fn outcome(seen: &Seen) -> Option<Result<u64, FaultError>> {
    seen.lock().unwrap().first().copied()
}

#[test]
fn x14_a_missing_page_is_asked_for_once_and_both_who_want_it_get_the_answer() {
    let (mut world, space, area, pager) = watched();
    let machine = world.machine.clone();
    world.run("source", async move {
        Thread::new(&machine).store(space, word(area, 8, 0), 77).await.unwrap();
    });
    let (one, two) = (client(&mut world, space, word(area, 3, 0)), client(&mut world, space, word(area, 3, 0)));
    let mm = world.machine.mm();
    let question = mm.next_question(pager).expect("somebody asked");
    assert_eq!((question.addr, mm.next_question(pager)), (word(area, 3, 0), None));
    assert_eq!((outcome(&one), outcome(&two)), (None, None));
    let contents = Contents::Memory(space, word(area, 8, 0));
    ready(mm.answer(pager, question.addr, contents, Wake::Now)).expect("it is missing");
    assert_eq!(ready(mm.answer(pager, question.addr, Contents::Zero, Wake::Now)), Err(UserPagerError::Exists));
    world.settle();
    assert_eq!((outcome(&one), outcome(&two)), (Some(Ok(77)), Some(Ok(77))));
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn x14_who_waits_goes_on_when_the_pager_is_closed_the_range_is_unmapped_or_the_space_goes() {
    for way in 0..4 {
        let (mut world, space, area, pager) = watched();
        let seen = client(&mut world, space, word(area, 2, 0));
        assert_eq!(outcome(&seen), None);
        let mm = world.machine.mm();
        let expected = match way {
            0 => {
                mm.close_user_pager(pager);
                Ok(0)
            }
            1 => {
                ready(mm.unregister_user_pager(pager, area, 8 * PAGE)).unwrap();
                Ok(0)
            }
            2 => {
                ready(mm.unmap(space, area, 8 * PAGE)).unwrap();
                Err(FaultError::NotMapped)
            }
            _ => {
                world.destroy(space);
                Err(FaultError::SpaceGone)
            }
        };
        world.settle();
        assert_eq!(outcome(&seen), Some(expected), "way {way}");
        world.destroy(space);
        world.assert_empty();
    }
}

#[test]
fn woken_without_an_answer_it_asks_again_and_dropped_it_leaves_nothing() {
    let (mut world, space, area, pager) = watched();
    let seen = client(&mut world, space, word(area, 5, 0));
    let mm = world.machine.mm();
    assert!(mm.next_question(pager).is_some() && !mm.has_question(pager));
    mm.wake_user_pages(pager, PageRange::new(word(area, 5, 0).page(), 1));
    world.sim.settle().unwrap();
    let mm = world.machine.mm();
    assert!(mm.has_question(pager), "the page is still missing");
    {
        let mut thread = Thread::new(&world.machine);
        let mut load = Box::pin(thread.load(space, word(area, 6, 0)));
        assert!(tests::mm::poll_once(load.as_mut()).is_pending());
    }
    assert_eq!(mm.snapshot().faults_waiting, 1, "one was dropped");
    for page in [5, 6] {
        ready(mm.answer(pager, word(area, page, 0), Contents::Zero, Wake::Now)).unwrap();
    }
    world.settle();
    assert_eq!(outcome(&seen), Some(Ok(0)));
    world.destroy(space);
    world.assert_empty();
}

#[test]
fn a_pager_has_only_what_it_was_given() {
    let (mut world, space, area, pager) = watched();
    let mm = world.machine.mm();
    let outside = ready(mm.answer(pager, word(area, 8, 0), Contents::Zero, Wake::Now));
    assert_eq!(outside, Err(UserPagerError::NotRegistered));
    let other = mm.create_user_pager(space).expect("there is room");
    assert_eq!(ready(mm.register_user_pager(other, area, PAGE)), Err(UserPagerError::Busy));
    mm.close_user_pager(pager);
    assert_eq!(ready(mm.register_user_pager(other, area, PAGE)), Ok(()));
    assert_eq!(ready(mm.register_user_pager(pager, area, PAGE)), Err(UserPagerError::SpaceGone), "it is closed");
    world.destroy(space);
    world.assert_empty();
}
