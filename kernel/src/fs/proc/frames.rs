//! `/proc/ebb_frames`: what each frame of RAM is, a letter each (X1).
//!
//! Owns the letters and the form: lines of 64 frames, all of one length, so that any part can be computed alone.
//! ```text
//!   . free   C clean   D dirty   W being written   F being read   O orphaned by its page, still the device's
//!   T last-level page table   0 the frame of zeroes   k everything else: the kernel's, or no RAM
//! ```

use alloc::vec::Vec;

use mm::addr::Pfn;
use mm::frame::Residence;
use mm::inspect::FrameSight;

use crate::process::memory;
use crate::syscall::errno::Errno;

const FRAMES: usize = 64;
/// The first frame's number in eight digits, a colon, a blank.
const HEAD: usize = 10;
const LINE: usize = HEAD + FRAMES + 1;
/// Lines computed at once.
const MOST: usize = 32;

fn letter(sight: FrameSight) -> u8 {
    match sight {
        FrameSight::Free => b'.',
        FrameSight::Zero => b'0',
        FrameSight::Page(Residence::Clean) => b'C',
        FrameSight::Page(Residence::Dirty) => b'D',
        FrameSight::Page(Residence::Cleaning | Residence::Evicting) => b'W',
        FrameSight::Page(Residence::Filling) => b'F',
        FrameSight::Page(Residence::Orphaned) => b'O',
        FrameSight::Page(Residence::Table) => b'T',
        FrameSight::Page(Residence::None) | FrameSight::Other => b'k',
    }
}

/// Part of the file.
pub(super) async fn read(from: u64, most: usize) -> Result<Vec<u8>, Errno> {
    let lines = memory::frame_span().div_ceil(FRAMES);
    let first = usize::try_from(from / LINE as u64).unwrap_or(usize::MAX);
    let last = lines.min(first.saturating_add(MOST));
    let mut bytes = Vec::new();
    for line in first..last {
        bytes.extend_from_slice(alloc::format!("{:08x}: ", line * FRAMES).as_bytes());
        let begun = bytes.len();
        memory::look_at_frames(line * FRAMES, FRAMES, &mut |_: Pfn, sight| bytes.push(letter(sight)));
        bytes.resize(begun + FRAMES, b' ');
        bytes.push(b'\n');
    }
    // One poll looks at MOST lines.
    executor::yield_now().await;
    let skipped = (from % LINE as u64) as usize;
    bytes.drain(..skipped.min(bytes.len()));
    bytes.truncate(most);
    Ok(bytes)
}
