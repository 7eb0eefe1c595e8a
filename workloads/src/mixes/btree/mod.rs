//! A B+ tree of 4 KiB nodes that is larger than RAM: what a database does below its own cache.
//!
//! `node` has the layout of a page, `tree` the algorithms, and this file the workload.

mod node;
mod tree;

use super::options::Options;
use crate::failure::Failure;
use crate::mapping::Charge;
use crate::phase::Phase;
use crate::rng::Rng;
use crate::zipf::Zipf;
use tree::Tree;

/// Records of a walk: some seven leaves, which follow each other in the order of keys and nowhere else.
const WALK: u64 = 64;
/// Page 0, the root and what a first split takes.
const SPARE: u64 = 16;

/// Fills a tree, uses it, walks through all of it.
pub fn run(options: &Options) -> Result<(), Failure> {
    let name = options.kind.name();
    // At worst every insertion of the run phase splits a leaf; what is not touched costs nothing.
    let room = options.pages() + options.ops + SPARE;
    let mut tree = Tree::new(options.map(room, Charge::Reserved)?, options.seed);

    let phase = Phase::Populate.begin();
    while tree.nodes() < options.pages() {
        tree.insert()?;
    }
    phase.end(name, tree.records(), 0);

    let phase = Phase::Run.begin();
    let (changes, sum) = operate(&mut tree, options)?;
    phase.end(name, options.ops, sum);

    let phase = Phase::Verify.begin();
    let seen = tree.walk(0, u64::MAX)?;
    Failure::unless_equal("records", 0, tree.records(), seen.records)?;
    phase.end(name, seen.records, seen.sum);
    if seen.versions == changes { Ok(()) } else { Err(Failure::Versions { found: seen.versions, writes: changes }) }
}

/// The run phase. Returns how many records were changed, and a checksum.
fn operate(tree: &mut Tree, options: &Options) -> Result<(u64, u64), Failure> {
    let mut rng = Rng::new(options.seed);
    // Popular are the records that were there first, which by their keys are everywhere.
    let popularity = Zipf::new(tree.records());
    let (mut changes, mut sum) = (0, 0_u64);
    for _ in 0..options.ops {
        let seen = match rng.below(100) {
            0..50 => tree.look_up(popularity.draw(&mut rng))?,
            50..70 => {
                changes += 1;
                tree.change(popularity.draw(&mut rng)).map(|()| 0)?
            }
            70..90 => tree.insert().map(|()| 0)?,
            _ => tree.walk(rng.word(), WALK)?.sum,
        };
        sum = sum.wrapping_mul(31).wrapping_add(seen);
    }
    Ok((changes, sum))
}
