//! How many pages of memory are in which state, as the kernel counts them.
//!
//! On Ebb the four counts stand in `/proc/vmstat`. On Linux they are worked out from `/proc/self/pagemap`, which knows
//! the mappings one asks about and does not tell clean from dirty; so the same claims can be checked there, a little
//! coarser. Reading allocates nothing and uses a page of stack.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{AddAssign, Sub};
use std::os::unix::fs::FileExt;

use crate::counters;
use crate::mapping::{Mapping, PAGE_SIZE};

/// Pages by state; also used for differences, hence signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Mapped, but nothing is set aside for them.
    pub uncommitted: i64,
    /// In memory, and equal to their copy elsewhere (or to zero).
    pub clean: i64,
    /// In memory, and nowhere else.
    pub dirty: i64,
    /// On disk, or known to be nothing but one repeated word.
    pub paged_out: i64,
}

impl PageCounts {
    /// Pages that were touched, wherever they are now.
    pub fn touched(self) -> i64 {
        self.clean + self.dirty + self.paged_out
    }
}

impl Sub for PageCounts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            uncommitted: self.uncommitted - other.uncommitted,
            clean: self.clean - other.clean,
            dirty: self.dirty - other.dirty,
            paged_out: self.paged_out - other.paged_out,
        }
    }
}

impl AddAssign for PageCounts {
    fn add_assign(&mut self, other: Self) {
        self.uncommitted += other.uncommitted;
        self.clean += other.clean;
        self.dirty += other.dirty;
        self.paged_out += other.paged_out;
    }
}

impl fmt::Display for PageCounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uncommitted, clean, dirty, paged_out } = self;
        write!(
            out,
            "uncommitted={uncommitted:+} committed_clean={clean:+} committed_dirty={dirty:+} paged_out={paged_out:+}"
        )
    }
}

/// Where the counts come from.
pub enum Source {
    /// `/proc/vmstat` with `ebb_…` lines: all of memory, all four states.
    Vmstat,
    /// `/proc/self/pagemap`: the given mappings, every committed page counted as dirty.
    Pagemap(File),
}

impl Source {
    /// The best source this kernel has.
    pub fn open() -> io::Result<Self> {
        match counters::vmstat("ebb_uncommitted") {
            Some(_) => Ok(Self::Vmstat),
            None => File::open("/proc/self/pagemap").map(Self::Pagemap),
        }
    }

    /// Whether clean pages can be told from dirty ones.
    pub fn knows_dirty(&self) -> bool {
        matches!(self, Self::Vmstat)
    }

    /// The counts now; `mappings` are those that matter.
    pub fn read(&self, mappings: [Option<&Mapping>; 2]) -> io::Result<PageCounts> {
        let mut counts = PageCounts::default();
        match self {
            Self::Vmstat => counters::for_each_vmstat(|name, value| {
                let field = match name {
                    "ebb_uncommitted" => &mut counts.uncommitted,
                    "ebb_committed_clean" => &mut counts.clean,
                    "ebb_committed_dirty" => &mut counts.dirty,
                    "ebb_paged_out" => &mut counts.paged_out,
                    _ => return,
                };
                *field = value as i64;
            })?,
            Self::Pagemap(file) => {
                for mapping in mappings.into_iter().flatten() {
                    counts += count_mapping(file, mapping)?;
                }
            }
        }
        Ok(counts)
    }
}

fn count_mapping(pagemap: &File, mapping: &Mapping) -> io::Result<PageCounts> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    let mut counts = PageCounts::default();
    let mut buffer = [0; 2048];
    let mut offset = mapping.address() / PAGE_SIZE * size_of::<u64>();
    let mut left = mapping.pages() * size_of::<u64>();
    while left > 0 {
        let length = left.min(buffer.len());
        pagemap.read_exact_at(&mut buffer[..length], offset as u64)?;
        for entry in buffer[..length].as_chunks::<8>().0 {
            match u64::from_ne_bytes(*entry) {
                entry if entry & PRESENT != 0 => counts.dirty += 1,
                entry if entry & SWAPPED != 0 => counts.paged_out += 1,
                _ => counts.uncommitted += 1,
            }
        }
        offset += length;
        left -= length;
    }
    Ok(counts)
}
