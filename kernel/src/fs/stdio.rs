//! The program's standard streams on the console.
//!
//! Owns where standard input ends and who waits for it. The bytes themselves are `crate::console`'s, whose interrupt
//! handler calls [`input_arrived`]; the host says on the telemetry channel where input ends ([`end_of_input_after`]).

use core::sync::atomic::{AtomicU64, Ordering};

use maitake_sync::WaitQueue;
use mutex_traits::ConstInit;

use crate::console;
use crate::sync::IrqLock;

/// Bytes the program has read.
static CONSUMED: AtomicU64 = AtomicU64::new(0);
/// After how many bytes input ends. Without `stdin=com1` it ends before the first.
static END: AtomicU64 = AtomicU64::new(0);
/// Readers, and `poll(2)`.
static READERS: WaitQueue<IrqLock> = WaitQueue::new_with_raw_mutex(IrqLock::INIT);

/// Means: nobody knows yet where input ends.
const OPEN: u64 = u64::MAX;

/// The host will send input (`stdin=com1`).
pub fn open_input() {
    END.store(OPEN, Ordering::Release);
}

/// The host has no more than `total` bytes, counted from the beginning.
pub fn end_of_input_after(total: u64) {
    END.store(total, Ordering::Release);
    READERS.wake_all();
}

/// Bytes may have arrived.
pub fn input_arrived() {
    READERS.wake_all();
}

/// Bytes that may still be read.
fn left() -> u64 {
    END.load(Ordering::Acquire).saturating_sub(CONSUMED.load(Ordering::Acquire))
}

/// Whether a read would return at once: with bytes or at the end.
pub fn is_readable() -> bool {
    left() == 0 || console::has_input()
}

/// Waits for [`is_readable`].
pub async fn readable() {
    // The queue is never closed, so the wait cannot fail.
    let _ = READERS.wait_for(is_readable).await;
}

/// Reads what there is, at least one byte; 0 at the end of input or for an empty buffer.
pub async fn read(out: &mut [u8]) -> usize {
    let take = || {
        let room = out.len().min(usize::try_from(left()).unwrap_or(usize::MAX));
        let count = console::read(&mut out[..room]);
        CONSUMED.fetch_add(count as u64, Ordering::AcqRel);
        (room == 0 || count != 0).then_some(count)
    };
    READERS.wait_for_value(take).await.unwrap_or(0)
}

/// Writes program output. The UART is written synchronously, so the caller gives chunks and yields between them.
pub fn write(bytes: &[u8]) {
    console::write(bytes);
}
