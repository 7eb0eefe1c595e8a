//! Addresses and numbers of pages and frames, as types that cannot be mixed up.
//!
//! Owns nothing. A *page* is 4 KiB of somebody's virtual address space, a *frame* is 4 KiB of RAM (Intel SDM vol. 3A §4.5).

use core::fmt;

/// log2 of [`PAGE_SIZE`]. The kernel's is x86's; `page-16k` is for host tests, which show that nothing else says how large a page is.
pub const PAGE_SHIFT: u32 = if cfg!(feature = "page-16k") { 14 } else { 12 };
/// Bytes in a page or frame.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// 64-bit words in a page.
pub const WORDS_PER_PAGE: usize = PAGE_SIZE / 8;

/// A user virtual address; any 64-bit value, checked against the space's layout where it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(u64);

impl VirtAddr {
    /// The address `raw`.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The raw address.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
    /// The page that holds this address.
    pub const fn page(self) -> Vpn {
        Vpn(self.0 >> PAGE_SHIFT)
    }
    /// Offset of the address in its page, in bytes.
    pub const fn page_offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }
    /// Whether the address is the first byte of a page.
    pub const fn is_page_aligned(self) -> bool {
        self.page_offset() == 0
    }
    /// The address `bytes` further on, if there is one.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Number of a virtual page: its address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vpn(u64);

impl Vpn {
    /// Page number `raw`.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The raw page number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
    /// Address of the page's first byte.
    pub const fn addr(self) -> VirtAddr {
        VirtAddr(self.0 << PAGE_SHIFT)
    }
    /// The page `pages` further on.
    pub const fn offset(self, pages: u64) -> Self {
        Self(self.0 + pages)
    }
}

/// Number of a physical frame: its physical address divided by [`PAGE_SIZE`]. 32 bits reach 16 TiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pfn(u32);

impl Pfn {
    /// Frame number `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }
    /// The raw frame number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
    /// The frame number as an index into per-frame tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
    /// Physical address of the frame's first byte.
    pub const fn phys(self) -> u64 {
        (self.0 as u64) << PAGE_SHIFT
    }
}

/// Pages `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRange {
    /// First page.
    pub start: Vpn,
    /// One past the last page.
    pub end: Vpn,
}

impl PageRange {
    /// `pages` pages from `start` on.
    pub const fn new(start: Vpn, pages: u64) -> Self {
        Self { start, end: Vpn(start.0 + pages) }
    }
    /// Pages in the range.
    pub const fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
    /// Whether no page is in the range.
    pub const fn is_empty(self) -> bool {
        self.end.0 <= self.start.0
    }
    /// Whether `page` lies in the range.
    pub fn contains(self, page: Vpn) -> bool {
        self.start <= page && page < self.end
    }
    /// Whether the two ranges share a page.
    pub fn overlaps(self, other: PageRange) -> bool {
        self.start < other.end && other.start < self.end
    }
}
