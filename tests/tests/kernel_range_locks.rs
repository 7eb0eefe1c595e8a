//! Locks on ranges of a file, held against a model that knows of each byte who has it; the file is the kernel's own.

extern crate alloc;

#[path = "../../kernel/src/fs/range_locks.rs"]
mod range_locks;

use range_locks::{Held, Mode, Range, RangeLocks, Refused};
use tests::harness::seed;
use workloads::rng::Rng;

/// Bytes that the model knows; the last stands for all behind it.
const BYTES: usize = 24;
const OWNERS: usize = 3;

/// Of each byte and owner, how it is held.
type Model = [[Option<Mode>; OWNERS]; BYTES];

fn covers(range: Range, byte: usize) -> bool {
    let last = byte == BYTES - 1;
    range.start <= byte as u64 && (range.end > byte as u64 || last && range.end == u64::MAX)
}

fn may_lock(model: &Model, owner: usize, mode: Mode, range: Range) -> bool {
    let others =
        |byte: usize| (0..OWNERS).filter(move |other| *other != owner).filter_map(move |other| model[byte][other]);
    let in_the_way = |held: Mode| mode == Mode::Exclusive || held == Mode::Exclusive;
    (0..BYTES).filter(|byte| covers(range, *byte)).all(|byte| !others(byte).any(in_the_way))
}

fn random_range(rng: &mut Rng) -> Range {
    let (one, other) = (rng.below(BYTES as u64 - 1), rng.below(BYTES as u64 - 1));
    let end = if rng.percent(20) { u64::MAX } else { one.max(other) + 1 };
    Range { start: one.min(other), end }
}

/// What each owner may still lock is what the model says, which is all that anybody can find out.
fn compare(locks: &RangeLocks<usize>, model: &Model) {
    for byte in 0..BYTES - 1 {
        let range = Range { start: byte as u64, end: byte as u64 + 1 };
        for owner in 0..OWNERS {
            for mode in [Mode::Shared, Mode::Exclusive] {
                let free = locks.conflict(owner, mode, range).is_none();
                assert_eq!(free, may_lock(model, owner, mode, range), "byte {byte}, owner {owner}, {mode:?}");
            }
        }
    }
}

#[test]
fn random_locks_are_what_a_model_of_single_bytes_says() {
    let seed = seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..40 {
        let (mut locks, mut model) = (RangeLocks::default(), Model::default());
        for _ in 0..200 {
            let (owner, range) = (rng.below(OWNERS as u64) as usize, random_range(&mut rng));
            let mode = if rng.percent(50) { Mode::Shared } else { Mode::Exclusive };
            let wanted = match rng.below(10) {
                0 => {
                    let held = model.iter().any(|byte| byte[owner].is_some());
                    assert_eq!(locks.release(owner), held);
                    model.iter_mut().for_each(|byte| byte[owner] = None);
                    continue;
                }
                1..4 => {
                    locks.unlock(owner, range).expect("room");
                    None
                }
                _ => {
                    let given = locks.lock(owner, mode, range);
                    assert_eq!(given.is_ok(), may_lock(&model, owner, mode, range), "{owner} {mode:?} {range:?}");
                    match given {
                        Ok(()) => Some(mode),
                        Err(Refused::Conflict(Held { owner: other, .. })) => {
                            assert_ne!(other, owner);
                            continue;
                        }
                        Err(Refused::Full) => unreachable!("there is room"),
                    }
                }
            };
            (0..BYTES).filter(|byte| covers(range, *byte)).for_each(|byte| model[byte][owner] = wanted);
            compare(&locks, &model);
        }
    }
}

#[test]
fn one_file_has_only_so_many_ranges_and_neighbours_are_one() {
    let mut locks = RangeLocks::default();
    let single = |at: u64| Range { start: at, end: at + 1 };
    let refused = (0..u64::MAX).find(|number| locks.lock((), Mode::Shared, single(2 * number)).is_err());
    assert!((1000..=RangeLocks::<()>::MOST as u64).contains(&refused.expect("a bound")));
    locks.unlock((), single(2)).expect("giving up what one holds needs no room");
    let mut locks = RangeLocks::default();
    (0..100_000).for_each(|at| locks.lock((), Mode::Shared, single(at)).expect("one range that grows"));
    locks.lock((), Mode::Exclusive, Range::ALL).expect("one's own are in nobody's way");
}
