//! Where a file's pages are on the disk: all of its written extents, in memory while the file is in use.
//!
//! Owns the list and its arithmetic. It is complete: a page that is in no extent is a hole, so reading a page and writing one back
//! need neither the file system's fiber nor memory. What changes the mapping on disk (preparing pages, truncating, punching) goes
//! through the fiber first and is entered here after. Pure: host tests include this file as it is.

use alloc::vec::Vec;

/// The number of a page in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePage(pub u64);

/// Pages of a file that lie in consecutive, initialised blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first page.
    pub page: FilePage,
    /// Its block.
    pub block: u64,
    /// How many.
    pub pages: u64,
}

impl Extent {
    fn end(&self) -> u64 {
        self.page.0 + self.pages
    }
}

/// What the pages from some place on are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// In consecutive blocks, from this one on.
    Blocks {
        /// Block of the first page.
        first: u64,
        /// So many pages.
        pages: u64,
    },
    /// Without blocks.
    Hole {
        /// So many pages; at most those that were asked about.
        pages: u64,
    },
}

impl Run {
    /// Its length.
    pub fn pages(self) -> u64 {
        match self {
            Self::Blocks { pages, .. } | Self::Hole { pages } => pages,
        }
    }
}

/// See the module's head. In order, and none touches another on both sides.
#[derive(Debug, Default)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// The run that begins at a page, of at most `most` pages.
    pub fn run(&self, page: FilePage, most: u64) -> Run {
        let next = self.0.partition_point(|extent| extent.end() <= page.0);
        match self.0.get(next) {
            Some(extent) if extent.page <= page => {
                let inside = page.0 - extent.page.0;
                Run::Blocks { first: extent.block + inside, pages: (extent.pages - inside).min(most) }
            }
            Some(extent) => Run::Hole { pages: (extent.page.0 - page.0).min(most) },
            None => Run::Hole { pages: most },
        }
    }

    /// Whether each of these pages has a block.
    #[cfg(test)]
    pub fn covers(&self, page: FilePage, pages: u64) -> bool {
        let mut at = page.0;
        let end = page.0 + pages;
        while at < end {
            match self.run(FilePage(at), end - at) {
                Run::Blocks { pages, .. } => at += pages,
                Run::Hole { .. } => return false,
            }
        }
        true
    }

    /// Enters blocks; what was known about these pages before is replaced.
    pub fn add(&mut self, extent: Extent) {
        if extent.pages == 0 {
            return;
        }
        self.remove(extent.page, extent.pages);
        let at = self.0.partition_point(|other| other.page < extent.page);
        self.0.insert(at, extent);
        // With the one behind first, so that the place of `extent` stays.
        self.join(at);
        if at > 0 {
            self.join(at - 1);
        }
    }

    /// Makes one of an extent and the next, if they continue each other in the file and on the disk.
    fn join(&mut self, at: usize) {
        let [a, b] = match self.0.get(at..at + 2) {
            Some(&[a, b]) => [a, b],
            _ => return,
        };
        if a.end() == b.page.0 && a.block + a.pages == b.block {
            self.0[at].pages += b.pages;
            self.0.remove(at + 1);
        }
    }

    /// These pages have no blocks any more.
    pub fn remove(&mut self, page: FilePage, pages: u64) {
        let (start, end) = (page.0, page.0.saturating_add(pages));
        let mut left = Vec::new();
        self.0.retain_mut(|extent| {
            let (first, behind) = (extent.page.0, extent.end());
            if behind <= start || first >= end {
                return true;
            }
            if behind > end {
                let skip = end - first;
                left.push(Extent { page: FilePage(end), block: extent.block + skip, pages: behind - end });
            }
            extent.pages = start.saturating_sub(first);
            extent.pages > 0
        });
        for rest in left {
            let at = self.0.partition_point(|other| other.page < rest.page);
            self.0.insert(at, rest);
        }
    }

    /// The file ends before this page.
    pub fn cut(&mut self, page: FilePage) {
        self.remove(page, u64::MAX - page.0);
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
