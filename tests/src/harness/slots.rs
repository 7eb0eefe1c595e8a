//! How many machines run at once: two, in all test processes of one target directory together.
//!
//! More would only make each slower, and the limits that scenarios have are for a machine that gets a processor. A slot is
//! a lock on a file, so that it is free again however its holder ends.

use std::fs::{self, File};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::artifacts::target;

const SLOTS: usize = 2;

static TAKEN: Mutex<[bool; SLOTS]> = Mutex::new([false; SLOTS]);
static FREED: Condvar = Condvar::new();

/// The right to run one machine.
#[derive(Debug)]
pub(super) struct Slot {
    index: usize,
    // Unlocked when it is closed.
    _file: File,
}

impl Slot {
    /// Waits for one.
    pub(super) fn take() -> Self {
        let free = |taken: &mut [bool; SLOTS]| !taken.contains(&false);
        let mut taken = FREED.wait_while(lock(), free).unwrap_or_else(PoisonError::into_inner);
        let index = taken.iter().position(|taken| !taken).expect("one is free");
        taken[index] = true;
        drop(taken);
        Self { index, _file: locked_file(index) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock()[self.index] = false;
        FREED.notify_one();
    }
}

/// A test that failed while it held the lock has left an array of flags, which is never half changed.
fn lock() -> MutexGuard<'static, [bool; SLOTS]> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locked_file(index: usize) -> File {
    let path = target().join(format!("machine-{index}.lock"));
    fs::create_dir_all(target()).expect("the target directory");
    let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file
}
