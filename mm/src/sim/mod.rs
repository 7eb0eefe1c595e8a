//! The machine the manager runs on in tests.

/// Bugs that tests plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// A victim's translation is not flushed.
    SkippedFlush,
}
