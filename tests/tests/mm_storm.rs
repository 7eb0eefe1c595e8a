//! Random programs on the simulated machine see exactly the memory that a plain model has, whatever the disk and reclaim are at.
//!
//! `EBB_SEED=N` runs one seed; `EBB_SOAK=1` runs 100 seeds of 100 000 operations.

use std::time::{SystemTime, UNIX_EPOCH};
use tests::mm::storm::{self, StormConfig};

/// How much to do: seeds, and operations for each.
fn plan() -> (Vec<u64>, u64) {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64 >> 8);
    let first = std::env::var("EBB_SEED").ok().and_then(|seed| seed.parse().ok());
    match (first, std::env::var_os("EBB_SOAK").is_some()) {
        (Some(seed), soak) => (vec![seed], if soak { 100_000 } else { 20_000 }),
        (None, true) => ((fresh..fresh + 100).collect(), 100_000),
        (None, false) => ((fresh..fresh + 5).collect(), 20_000),
    }
}

#[test]
fn programs_see_the_memory_of_the_model() {
    let (seeds, operations) = plan();
    for seed in seeds {
        println!("EBB_SEED={seed}");
        let outcome = storm::run(StormConfig::usual(seed, operations), seed);
        println!("{outcome:?}");
        assert!(outcome.swapped_in > 0 && outcome.swapped_out > 0, "nothing was paged: {outcome:?}");
    }
}

#[test]
fn when_there_is_too_little_of_everything_some_programs_end_and_the_others_see_the_model() {
    let (seeds, operations) = plan();
    let mut ended = 0;
    for seed in seeds {
        println!("EBB_SEED={seed}");
        let outcome = storm::run(StormConfig::tight(seed, operations), seed);
        println!("{outcome:?}");
        ended += outcome.out_of_memory;
    }
    println!("{ended} programs were told that memory is out");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let run = |seed| storm::run(StormConfig::usual(seed, 3_000), seed);
    let (first, second) = (run(7), run(7));
    assert_eq!(first, second);
    assert_ne!(first.hash, run(8).hash);
}
