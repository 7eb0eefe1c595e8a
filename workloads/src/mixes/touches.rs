//! Mixes that are reference strings: what is touched is whole pages, and only their order is of interest. `pair` uses
//! the same touches in two processes.

use super::options::Options;
use crate::failure::Failure;
use crate::phase::Phase;
use crate::references::{Pattern, References};
use crate::working_set::WorkingSet;

/// Percent of the touches that write: most pages become dirty while they are popular, some stay clean.
const WR: u64 = 50;
/// Percent of the touches that fall into the window of `shifting`.
const IN_WINDOW: u64 = 90;

/// Touches what a pattern says, in pages from `first` on.
pub(super) fn touch_all(set: &mut WorkingSet, first: u64, mut references: References) -> Result<(), Failure> {
    while let Some(page) = references.next(set.rng()) {
        set.touch(first + page, WR)?;
    }
    Ok(())
}

/// In order, at random in the lower half, by popularity in the upper half, and again.
pub fn phases(options: &Options) -> Result<(), Failure> {
    let name = options.kind.name();
    let pages = options.pages();
    let half = pages / 2;
    let mut set = options.working_set(pages, options.seed)?;
    set.populate(name);
    let phase = Phase::Run.begin();
    for _ in 0..options.passes {
        touch_all(&mut set, 0, References::new(Pattern::Cyclic, pages, pages))?;
        touch_all(&mut set, 0, References::new(Pattern::Uniform, half, options.ops))?;
        touch_all(&mut set, half, References::new(Pattern::zipf(half), half, options.ops))?;
    }
    phase.end(name, options.passes * (pages + 2 * options.ops), set.sum());
    set.verify(name)
}

/// A window of popular pages moves on steadily, and has been everywhere at the end.
pub fn shifting(options: &Options) -> Result<(), Failure> {
    let name = options.kind.name();
    let pages = options.pages();
    let window = pages * 3 / 8;
    let mut set = options.working_set(pages, options.seed)?;
    set.populate(name);
    let phase = Phase::Run.begin();
    for touch in 0..options.ops {
        let start = (u128::from(touch) * u128::from(pages) / u128::from(options.ops)) as u64;
        let page = if set.rng().percent(IN_WINDOW) {
            (start + set.rng().below(window)) % pages
        } else {
            set.rng().below(pages)
        };
        set.touch(page, WR)?;
    }
    phase.end(name, options.ops, set.sum());
    set.verify(name)
}
