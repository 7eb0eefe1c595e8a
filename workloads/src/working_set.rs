//! Pages under test and what is known about them: each holds [`Content`], each writing touch is counted in the page and
//! here, so that at the end no write may be missing.
//!
//! Owns the mapping, the counts and the random numbers that decide what a touch does. Which page is touched next is the
//! workload's affair; it draws from [`WorkingSet::rng`] too, so that one seed fixes both.

use crate::content::Content;
use crate::failure::Failure;
use crate::mapping::{Advice, Charge, Mapping};
use crate::phase::Phase;
use crate::rng::Rng;

/// Pages in a MiB.
pub const PAGES_PER_MIB: u64 = 256;

/// Whether the kernel is to use huge pages: `huge=` on the command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// `MADV_NOHUGEPAGE`
    Never,
    /// As it likes.
    Default,
    /// `MADV_HUGEPAGE`
    Wanted,
}

impl HugePages {
    /// The meaning of 0, 1 and 2 in that order.
    pub fn of(number: u64) -> Self {
        match number {
            0 => Self::Never,
            2 => Self::Wanted,
            _ => Self::Default,
        }
    }
}

/// Maps fresh private pages.
pub fn map_anonymous(pages: u64, charge: Charge, huge: HugePages) -> Result<Mapping, Failure> {
    let memory = Mapping::anonymous(pages, charge).map_err(Failure::of("mmap"))?;
    let advised = match huge {
        HugePages::Never => memory.advise(Advice::SmallPages),
        HugePages::Wanted => memory.advise(Advice::HugePages),
        HugePages::Default => Ok(()),
    };
    // A kernel without huge pages may say so; that is no reason to end.
    if let Err(error) = advised {
        eprintln!("huge={huge:?} ignored: {error}");
    }
    Ok(memory)
}

/// Pages with content, and the sum of what was done to them.
pub struct WorkingSet {
    content: Content,
    memory: Mapping,
    rng: Rng,
    writes: u64,
    sum: u64,
}

impl WorkingSet {
    /// Pages that hold `content` already or will by [`populate`](Self::populate).
    pub fn new(content: Content, memory: Mapping, seed: u64) -> Self {
        Self { content, memory, rng: Rng::new(seed), writes: 0, sum: 0 }
    }

    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        self.memory.pages() as u64
    }

    /// The mapping.
    pub fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// The random numbers of the run.
    #[inline]
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// A checksum of all touches so far.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The phase that writes every page, in order.
    pub fn populate(&self, kind: &str) {
        let phase = Phase::Populate.begin();
        self.write_all();
        phase.end(kind, self.pages(), self.sum);
    }

    /// Writes every page, in order.
    pub fn write_all(&self) {
        for page in 0..self.pages() {
            self.content.write(page, self.memory.page_to_write(page as usize));
        }
    }

    /// Checks a page; `wr` percent of the touches write to it.
    #[inline]
    pub fn touch(&mut self, page: u64, wr: u64) -> Result<(), Failure> {
        let tag = self.content.check(page, self.memory.page(page as usize))?;
        if wr >= 100 || self.rng.percent(wr) {
            self.content.bump(self.memory.page_to_write(page as usize));
            self.writes += 1;
        }
        self.sum = self.sum.wrapping_mul(31).wrapping_add(tag);
        Ok(())
    }

    /// The same pages over another mapping, made after the present one is gone.
    pub fn remapped(self, map: impl FnOnce() -> Result<Mapping, Failure>) -> Result<Self, Failure> {
        drop(self.memory);
        Ok(Self { memory: map()?, ..self })
    }

    /// The phase that checks everything.
    pub fn verify(&self, kind: &str) -> Result<(), Failure> {
        let phase = Phase::Verify.begin();
        self.verify_all()?;
        phase.end(kind, self.pages(), self.sum);
        Ok(())
    }

    /// Checks every word of every page, and that no write is missing.
    pub fn verify_all(&self) -> Result<(), Failure> {
        let mut found = 0_u64;
        for page in 0..self.pages() {
            found = found.wrapping_add(self.content.verify(page, self.memory.page(page as usize))?);
        }
        if found == self.writes { Ok(()) } else { Err(Failure::Versions { found, writes: self.writes }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eight_pages() -> WorkingSet {
        let memory = map_anonymous(8, Charge::Committed, HugePages::Default).expect("maps");
        WorkingSet::new(Content::new(3, 50), memory, 3)
    }

    #[test]
    fn what_was_touched_verifies() {
        let mut set = eight_pages();
        set.populate("test");
        for page in [0, 7, 7, 3] {
            set.touch(page, 100).expect("right");
        }
        set.touch(1, 0).expect("right");
        set.verify("test").expect("right");
    }

    #[test]
    fn a_write_that_is_lost_is_noticed() {
        let mut set = eight_pages();
        set.populate("test");
        set.touch(5, 100).expect("right");
        // What the page would hold if it had been read back from before the write.
        set.content.write(5, set.memory.page_to_write(5));
        let failure = set.verify("test").expect_err("a lost write");
        assert!(matches!(failure, Failure::Versions { found: 0, writes: 1 }), "{failure}");
    }
}
