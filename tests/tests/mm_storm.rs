//! Random programs on the simulated machine see exactly the memory that a plain model has, whatever the disk and reclaim are at.
//!
//! `EBB_SEED=N` runs one seed; `EBB_SOAK=1` runs 100 seeds.

use mm::tier::Compression;
use std::time::{SystemTime, UNIX_EPOCH};
use tests::mm::storm::{self, StormConfig};

/// Operations of each storm.
const OPERATIONS: u64 = 100_000;

/// Five fresh seeds; or the one that is asked for, or a hundred.
fn seeds() -> Vec<u64> {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64 >> 8);
    let wanted = std::env::var("EBB_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = if std::env::var_os("EBB_SOAK").is_some() { 100 } else { 5 };
    wanted.map_or_else(|| (fresh..fresh + count).collect(), |seed| vec![seed])
}

#[test]
fn programs_see_the_memory_of_the_model() {
    for seed in seeds() {
        println!("EBB_SEED={seed}");
        let outcome = storm::run(StormConfig::usual(seed, OPERATIONS), seed);
        println!("{outcome:?}");
        assert!(outcome.swapped_in > 0 && outcome.swapped_out > 0, "nothing was paged: {outcome:?}");
    }
}

#[test]
fn when_there_is_too_little_of_everything_some_programs_end_and_the_others_see_the_model() {
    let mut ended = 0;
    for seed in seeds() {
        println!("EBB_SEED={seed}");
        let outcome = storm::run(StormConfig::tight(seed, OPERATIONS), seed);
        println!("{outcome:?}");
        ended += outcome.out_of_memory;
    }
    println!("{ended} programs were told that memory is out");
}

/// The same through a compressed tier: one that takes all it can, one that is on while it pays, and one with little swap behind it.
#[test]
fn programs_see_the_memory_of_the_model_through_a_compressed_tier() {
    for seed in seeds() {
        println!("EBB_SEED={seed}");
        let (usual, tight) = (StormConfig::usual(seed, OPERATIONS / 2), StormConfig::tight(seed, OPERATIONS / 2));
        let outcome = storm::run(usual.with_tier(seed, Compression::On), seed);
        println!("{outcome:?}");
        assert!(outcome.decompressed > 0, "nothing was compressed: {outcome:?}");
        for other in [usual.with_tier(seed, Compression::Auto), tight.with_tier(seed, Compression::On)] {
            println!("{:?}", storm::run(other, seed));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let run = |seed| storm::run(StormConfig::usual(seed, 3_000), seed);
    let (first, second) = (run(7), run(7));
    assert_eq!(first, second);
    assert_ne!(first.hash, run(8).hash);
}

/// Who waited for room in its group was woken whenever reclaim had looked, asked again, and had reclaim look again; and as threads that are
/// woken run before those that gave way, the program that had been told to make room never got to go.
#[test]
fn x17_who_waits_for_room_in_its_group_lets_the_program_go_that_was_told() {
    storm::run(StormConfig::tight(40, OPERATIONS), 40);
}

/// A group found that its pages were held and began anew while the machine still looked at all pages, and the other way round, for ever: one
/// of the two always had more to do, and so reclaim never waited for who held them.
#[test]
fn reclaim_waits_once_both_the_group_and_the_machine_have_found_nothing() {
    storm::run(StormConfig::tight(9530, OPERATIONS), 9530);
}
