//! `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst): eight bytes for each page there could be (M1).
//!
//! Owns the format. A page that was never touched is 0; one that is only read is present on the frame of zeroes, as on
//! Linux; one whose contents are a repeated word is in swap, as far as a program can tell, at no place.

use alloc::vec;
use alloc::vec::Vec;

use mm::addr::{PageRange, Vpn};
use mm::inspect::{Ownership, Sight};

use crate::process::process::Process;
use crate::syscall::abi::{PAGE_SIZE, USER_END};
use crate::syscall::errno::Errno;

const ENTRY: usize = 8;
/// Entries computed at once.
const MOST: usize = 512;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_OBJECT: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;
/// The swap area's number stands in five bits, the place in it above.
const SWAP_TYPE_BITS: u32 = 5;

fn entry(sight: Sight) -> u64 {
    match sight {
        Sight::Zero(frame) => PRESENT | u64::from(frame.as_u32()),
        Sight::Resident(page) => {
            let shared = match page.ownership {
                Ownership::Object => OF_OBJECT,
                _ => 0,
            };
            let exclusive = if page.sharers() <= 1 { EXCLUSIVE } else { 0 };
            PRESENT | shared | exclusive | u64::from(page.frame.as_u32())
        }
        Sight::Slot(slot, _) => SWAPPED | u64::from(slot.as_u32()) << SWAP_TYPE_BITS,
        Sight::Filling | Sight::Word(_) | Sight::Compressed(_) | Sight::Lost => SWAPPED,
    }
}

/// Part of the file. Only whole entries can be read, as on Linux.
pub(super) async fn read(process: &Process, from: u64, most: usize) -> Result<Vec<u8>, Errno> {
    if !from.is_multiple_of(ENTRY as u64) || most < ENTRY {
        return Err(Errno::EINVAL);
    }
    let first = from / ENTRY as u64;
    let count = ((USER_END / PAGE_SIZE).saturating_sub(first)).min((most / ENTRY).min(MOST) as u64);
    let mut bytes = vec![0; count as usize * ENTRY];
    let show = |page: Vpn, sight: Sight| {
        let at = (page.as_u64() - first) as usize * ENTRY;
        bytes[at..at + ENTRY].copy_from_slice(&entry(sight).to_ne_bytes());
    };
    process.look(PageRange::new(Vpn::new(first), count), show).await;
    Ok(bytes)
}
