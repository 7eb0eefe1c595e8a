//! Swap slots stay in runs worth a request, also when swap is not much larger than what is in it (design D8, §4).

use executor::sim::{Rng, Seed};
use mm::Config;
use mm::addr::VirtAddr;
use mm::fault::Holds;
use mm::reclaim::Watermarks;
use mm::sim::{DiskConfig, PerMille, SimConfig, SimMachine};
use mm::space::SpaceId;
use mm::stats::Counters;
use std::sync::Arc;
use tests::mm::{World, word};

/// Writes pages at random and checks what it finds; returns the counters after each quarter.
async fn dirty_at_random(machine: Arc<SimMachine>, space: SpaceId, area: VirtAddr, seed: u64) -> Vec<Counters> {
    let (pages, touches) = (PAGES, 20 * PAGES);
    let (mut rng, mut holds) = (Rng::new(Seed(seed)), Holds::default());
    let mut versions = vec![0u64; pages as usize];
    let mut quarters = Vec::new();
    for page in 0..pages {
        machine.store(space, word(area, page, 1), page << 32, &mut holds).await.unwrap();
    }
    for touch in 0..touches {
        if touch % (touches / 4) == 0 {
            quarters.push(machine.mm().snapshot().counters);
        }
        let page = rng.below(pages);
        let version = &mut versions[page as usize];
        let addr = word(area, page, 1);
        assert_eq!(machine.load(space, addr, &mut holds).await, Ok(page << 32 | *version), "page {page}");
        *version += 1;
        machine.store(space, addr, page << 32 | *version, &mut holds).await.unwrap();
    }
    quarters.push(machine.mm().snapshot().counters);
    machine.mm().release_holds(&mut holds);
    quarters
}

/// Pages of a working set; half of them fit into RAM.
const PAGES: u64 = 4096;

fn disk(slots: u64) -> DiskConfig {
    DiskConfig::good(slots as u32)
}

/// Pages per write request in each quarter of 20 touches a page, and the counters at the end.
fn pages_per_request(disk: DiskConfig, seed: u64) -> (Vec<f64>, Counters) {
    // From `low` to `high` two clusters, as on a machine of some size: a request is no larger than what reclaim has to free.
    let mm = Config { watermarks: Some(Watermarks { min: 16, low: 48, high: 176 }), ..Config::default() };
    let ram = SimConfig::new(PAGES as usize / 2, disk.slots);
    let mut world = World::seeded(SimConfig { mm, disk: Some(disk), ..ram }, seed);
    let (space, area) = world.space_with(PAGES);
    let program = dirty_at_random(world.machine.clone(), space, area, seed);
    let quarters = world.run("program", program);
    world.destroy(space);
    world.assert_empty();
    let delta = |two: &[Counters]| (two[1].pswpout - two[0].pswpout, two[1].store_writes - two[0].store_writes);
    let ratios = quarters.windows(2).map(delta).map(|(pages, requests)| pages as f64 / requests as f64);
    (ratios.collect(), quarters[quarters.len() - 1])
}

#[test]
fn runs_stay_long_with_swap_a_quarter_larger_than_the_working_set() {
    for seed in 1..4 {
        let (ratios, end) = pages_per_request(disk(PAGES * 5 / 4), seed);
        println!("pages per request {ratios:.1?}, {} of {} moved", end.swap_rewritten, end.pswpout);
        assert!(ratios[3] >= 8.0, "seed {seed}: {ratios:?}");
        assert!(end.swap_rewritten < end.pswpout / 8, "the work is bounded: {end:?}");
    }
}

#[test]
fn nothing_is_moved_while_runs_are_long() {
    let (ratios, end) = pages_per_request(disk(PAGES * 40), 1);
    assert!(ratios[3] >= 16.0, "{ratios:?}");
    assert_eq!((end.swap_rewritten, end.swap_copy_dropped), (0, 0));
}

/// Reads complete while writes are under way. Reclaim made up for each page that came in as soon as it had: requests of one or two pages.
#[test]
fn requests_stay_large_when_writes_take_long() {
    for seed in 1..4 {
        let slow = DiskConfig { slow_writes: PerMille(980), ..disk(PAGES * 40) };
        let (ratios, _) = pages_per_request(slow, seed);
        println!("pages per request {ratios:.1?}");
        assert!(ratios.iter().all(|ratio| *ratio >= 16.0), "seed {seed}: {ratios:?}");
    }
}
