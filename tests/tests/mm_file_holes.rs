//! Holes in files: what is taken out is gone from every window and from the disk, what was copied before stays, and who faults
//! on the range meanwhile waits. (Random ones, among everything else, are in `mm_storm.rs`.)

use executor::Class;
use mm::file_store::FileId;
use mm::object::{ObjectPage, Sharing};
use mm::sim::{FilesConfig, SimConfig};
use tests::mm::{PAGE, Thread, World, numbered, ready, window, word};

const FILE: FileId = FileId::new(3);
const PAGES: u64 = 12;

#[test]
fn a_hole_reads_as_zeroes_everywhere_but_in_copies_made_before() {
    let config = SimConfig { files: Some(FilesConfig::good(32)), ..SimConfig::new(96, 64) };
    let mut world = World::seeded(config, 8);
    for page in 0..PAGES {
        world.machine.files().put(FILE, page, [page + 1; 512]);
    }
    let object = world.machine.mm().create_file_object(FILE, PAGES * PAGE).expect("there is a store");
    let a = world.machine.create_space().expect("a frame for the root");
    let map = |sharing| ready(world.machine.mm().map(a, window(object, 0, PAGES, sharing))).expect("there is room");
    let (shared, private) = (map(Sharing::Shared), map(Sharing::Private));
    let machine = world.machine.clone();
    world.run("thread", async move {
        let (mm, mut thread) = (machine.mm(), Thread::new(&machine));
        for page in 0..PAGES {
            assert_eq!(thread.load(a, word(shared, page, 1)).await, Ok(page + 1));
            assert_eq!(thread.load(a, word(private, page, 1)).await, Ok(page + 1));
        }
        thread.store(a, word(shared, 5, 0), 55).await.unwrap();
        thread.store(a, word(private, 6, 0), 66).await.unwrap();
        mm.release_holds(&mut thread.holds);
        let vacant = mm.vacate(object, ObjectPage::new(4)..ObjectPage::new(8)).await.unwrap();
        machine.files().punch(FILE, 4..8);
        drop(vacant);
        machine.check();
        for page in 0..PAGES {
            let expected = if (4..8).contains(&page) { 0 } else { page + 1 };
            assert_eq!(thread.load(a, word(shared, page, 1)).await, Ok(expected), "page {page}");
            let copied = if page == 6 { 7 } else { expected };
            assert_eq!(thread.load(a, word(private, page, 1)).await, Ok(copied), "page {page}, private");
        }
        assert_eq!(thread.load(a, word(shared, 5, 0)).await, Ok(0), "what was stored and not written is gone, too");
        assert_eq!(mm.object_size(object), Some(PAGES * PAGE), "a hole does not move the end");
        // A store makes a block anew.
        thread.store(a, word(shared, 5, 2), 52).await.unwrap();
        mm.sync_object(object, ObjectPage::new(0)..ObjectPage::LAST).await.unwrap();
        let on_disk = |page| machine.files().contents(FILE, page).map(|words| (words[1], words[2]));
        assert_eq!((on_disk(4), on_disk(5), on_disk(8)), (None, Some((0, 52)), Some((9, 9))));
    });
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}

#[test]
fn who_faults_on_a_hole_that_is_being_made_waits_for_it() {
    let config = SimConfig { files: Some(FilesConfig::good(32)), ..SimConfig::new(96, 64) };
    let mut world = World::seeded(config, 9);
    (0..PAGES).for_each(|page| world.machine.files().put(FILE, page, [page + 1; 512]));
    let object = world.machine.mm().create_file_object(FILE, PAGES * PAGE).expect("there is a store");
    let a = world.machine.create_space().expect("a frame for the root");
    let at = ready(world.machine.mm().map(a, window(object, 0, PAGES, Sharing::Shared))).expect("there is room");
    let range = ObjectPage::new(2)..ObjectPage::new(6);
    let vacant = ready(world.machine.mm().vacate(object, range)).expect("nothing is under way");
    for page in 2..6 {
        let machine = world.machine.clone();
        let load = async move {
            let loaded = Thread::new(&machine).load(a, word(at, page, 0)).await;
            assert_eq!(loaded, Ok(0), "page {page} was not read from the block that it had");
        };
        world.sim.spawn(Class::User, numbered("user", page as usize), load).detach();
    }
    let stuck = world.sim.run();
    assert!(stuck.is_err(), "four threads wait");
    world.machine.files().punch(FILE, 2..6);
    drop(vacant);
    world.sim.run().unwrap_or_else(|stuck| panic!("{stuck}"));
    world.machine.mm().close_object(object);
    world.destroy(a);
    world.assert_empty();
}
