//! Blocks of kernel addresses whose frames lie anywhere in RAM: for who needs several pages in a row when free memory is in pieces.
//!
//! Owns: which addresses of its window are taken, and what is mapped there. Needs no heap, because the heap needs it. Does not own the
//! frames: whoever maps a block gives them, and takes them back. Neighbours: `kernel_space` has the tables, `heap` asks.

use x86_64::{PhysAddr, VirtAddr};

use super::kernel_space::{self, TableSource};
use super::layout::{SCATTERED, SCATTERED_LEN};
use crate::boot::memory::PAGE;
use crate::sync::Mutex;

const WORDS: usize = (SCATTERED_LEN / PAGE / 64) as usize;

/// A bit for each page of the window that is taken.
struct Window([u64; WORDS]);

static WINDOW: Mutex<Window> = Mutex::new(Window([0; WORDS]));

impl Window {
    fn bit(page: usize) -> (usize, u64) {
        (page / 64, 1 << (page % 64))
    }

    fn is_free(&self, page: usize) -> bool {
        let (word, bit) = Self::bit(page);
        self.0[word] & bit == 0
    }

    /// Gives back what [`Self::take`] has given.
    fn give(&mut self, first: usize, pages: usize) {
        for page in first..first + pages {
            debug_assert!(!self.is_free(page), "page {page} of the window is given back twice");
            let (word, bit) = Self::bit(page);
            self.0[word] &= !bit;
        }
    }

    /// Takes the first free run of so many pages that begins at a multiple of their number.
    fn take(&mut self, pages: usize) -> Option<usize> {
        let first =
            (0..WORDS * 64).step_by(pages).find(|first| (*first..first + pages).all(|page| self.is_free(page)))?;
        for (word, bit) in (first..first + pages).map(Self::bit) {
            self.0[word] |= bit;
        }
        Some(first)
    }
}

/// Whether an address is that of a block of ours.
pub fn contains(address: VirtAddr) -> bool {
    (SCATTERED..SCATTERED + SCATTERED_LEN).contains(&address.as_u64())
}

/// Maps `pages` frames, a power of two, one behind the other, at a multiple of their length. `None` if there are not so many frames,
/// tables or addresses; then all is as before.
pub fn map(
    pages: usize,
    take: &mut dyn FnMut() -> Option<PhysAddr>,
    give: &mut dyn FnMut(PhysAddr),
    source: &mut TableSource<'_>,
) -> Option<VirtAddr> {
    debug_assert!(pages.is_power_of_two());
    if pages > WORDS * 64 {
        return None;
    }
    let first = WINDOW.lock().take(pages)?;
    let at = SCATTERED + first as u64 * PAGE;
    for address in (at..at + pages as u64 * PAGE).step_by(PAGE as usize) {
        let mapped = take().is_some_and(|frame| {
            let mapped = kernel_space::map_frame(address, frame, source).is_ok();
            if !mapped {
                give(frame);
            }
            mapped
        });
        if !mapped {
            unmap(VirtAddr::new(at), pages, give);
            return None;
        }
    }
    Some(VirtAddr::new(at))
}

/// Ends a block: tells which frames it was made of. Nobody uses its addresses any more.
pub fn unmap(at: VirtAddr, pages: usize, give: &mut dyn FnMut(PhysAddr)) {
    let end = at.as_u64() + pages as u64 * PAGE;
    (at.as_u64()..end).step_by(PAGE as usize).filter_map(kernel_space::unmap_frame).for_each(give);
    WINDOW.lock().give(((at.as_u64() - SCATTERED) / PAGE) as usize, pages);
}
