//! Memory mappings, word by word: what every workload touches.
//!
//! Owns the mapping (unmapped on drop) and the promise that a page is only reached while it is mapped. Knows nothing of
//! what the words mean; that is `content`. Words are atomics with relaxed ordering: they cost a plain load or store, and
//! they stay sound when a file mapping changes underneath or another thread looks at the same page.
#![expect(unsafe_code, reason = "mmap and the memory it returns")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// Words in a page.
pub const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// A mapped page, to be read.
#[repr(C, align(4096))]
pub struct Page([AtomicU64; WORDS]);

impl Page {
    /// A page of zeroes outside any mapping.
    pub const fn zeroed() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Reads a word; the compiler neither repeats nor drops the access.
    #[inline(always)]
    pub fn read(&self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }
}

/// A mapped page that may be written as well.
#[repr(transparent)]
pub struct WritablePage(Page);

impl WritablePage {
    /// A page of zeroes outside any mapping.
    pub const fn zeroed() -> Self {
        Self(Page::zeroed())
    }

    /// Writes a word.
    #[inline(always)]
    pub fn write(&self, word: usize, value: u64) {
        self.0.0[word].store(value, Ordering::Relaxed);
    }
}

impl Deref for WritablePage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0
    }
}

/// Whether an anonymous mapping is charged against the memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The kernel may refuse what it could not hold.
    Committed,
    /// `MAP_NORESERVE`: only what is touched counts.
    Reserved,
}

/// How a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileView {
    /// Read-only, `MAP_PRIVATE`.
    ReadPrivate,
    /// Read-only, `MAP_SHARED`.
    ReadShared,
    /// Readable and writable, `MAP_SHARED`: stores reach the file.
    WriteShared,
}

/// Advice about a whole mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// `MADV_HUGEPAGE`
    HugePages,
    /// `MADV_NOHUGEPAGE`
    SmallPages,
    /// `MADV_DONTNEED`: forget the contents; anonymous pages read as zero afterwards.
    Discard,
}

/// A mapping of whole pages, unmapped on drop.
pub struct Mapping {
    base: NonNull<WritablePage>,
    pages: usize,
    writable: bool,
}

// SAFETY: a mapping belongs to the process, not to a thread, and its words are atomics.
unsafe impl Send for Mapping {}
// SAFETY: shared access is atomic loads and stores only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `pages` private anonymous pages, readable and writable.
    pub fn anonymous(pages: u64, charge: Charge) -> io::Result<Self> {
        let extra = match charge {
            Charge::Committed => 0,
            Charge::Reserved => libc::MAP_NORESERVE,
        };
        Self::new(pages, true, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | extra, -1)
    }

    /// Maps the first `pages` pages of `file`. A page past the file's end is a SIGBUS when touched.
    pub fn file(file: &File, pages: u64, view: FileView) -> io::Result<Self> {
        let (writable, flags) = match view {
            FileView::ReadPrivate => (false, libc::MAP_PRIVATE),
            FileView::ReadShared => (false, libc::MAP_SHARED),
            FileView::WriteShared => (true, libc::MAP_SHARED),
        };
        Self::new(pages, writable, flags, file.as_raw_fd())
    }

    fn new(pages: u64, writable: bool, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let pages = usize::try_from(pages).map_err(io::Error::other)?;
        let length = pages.checked_mul(PAGE_SIZE).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: without MAP_FIXED the kernel chooses a range nobody uses; nothing of ours changes.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, pages, writable })
    }

    /// How many pages are mapped.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The address of the first byte.
    pub fn address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// A page, to be read.
    ///
    /// # Panics
    /// If `index` is outside the mapping.
    #[inline(always)]
    pub fn page(&self, index: usize) -> &Page {
        assert!(index < self.pages, "page {index} of {}", self.pages);
        // SAFETY: inside the mapping, which lives as long as `self`; zero or any other bytes are valid atomics.
        unsafe { self.base.add(index).as_ref() }
    }

    /// A page, to be written.
    ///
    /// # Panics
    /// If `index` is outside the mapping or the mapping is read-only.
    #[inline(always)]
    pub fn page_to_write(&self, index: usize) -> &WritablePage {
        assert!(self.writable && index < self.pages, "page {index} of {}, writable: {}", self.pages, self.writable);
        // SAFETY: as in `page`; the protection allows stores.
        unsafe { self.base.add(index).as_ref() }
    }

    /// Gives the kernel advice about the whole mapping.
    pub fn advise(&self, advice: Advice) -> io::Result<()> {
        self.advise_pages(0, self.pages, advice)
    }

    /// Gives the kernel advice about `count` pages from `first` on.
    ///
    /// # Panics
    /// If the range is not inside the mapping.
    pub fn advise_pages(&self, first: usize, count: usize, advice: Advice) -> io::Result<()> {
        assert!(first <= self.pages && count <= self.pages - first);
        let advice = match advice {
            Advice::HugePages => libc::MADV_HUGEPAGE,
            Advice::SmallPages => libc::MADV_NOHUGEPAGE,
            Advice::Discard => libc::MADV_DONTNEED,
        };
        let start = self.address() + first * PAGE_SIZE;
        // SAFETY: the range is ours. Discarding changes words under shared references, which atomics allow.
        check(unsafe { libc::madvise(ptr::without_provenance_mut(start), count * PAGE_SIZE, advice) })
    }

    /// Waits until every store has reached the mapped file (`msync` with `MS_SYNC`).
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is ours and msync changes no memory.
        check(unsafe { libc::msync(self.base.as_ptr().cast(), self.pages * PAGE_SIZE, libc::MS_SYNC) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and every reference into it borrowed `self`.
        let unmapped = check(unsafe { libc::munmap(self.base.as_ptr().cast(), self.pages * PAGE_SIZE) });
        assert!(unmapped.is_ok(), "munmap of a mapping: {unmapped:?}");
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
