//! By which names the files of the data disk were found that are open, for people who look (`/proc/PID/fd`).
//!
//! Owns these names, and their change when a file is renamed. Does not own the directories, which know nothing of who has found something
//! in them; nor whether a name is there still, which is asked for when somebody looks. A name has its directory by number: it must not
//! keep a directory from going.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::ext4::{Ino, Rename};
use crate::sync::Mutex;

/// A name in a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub directory: Ino,
    /// The name in it.
    pub name: Vec<u8>,
}

/// Where the file is of those who have found it by one name.
pub type Name = Mutex<Place>;

/// The names of one file by which somebody has it open.
pub struct Names(Mutex<Vec<Weak<Name>>>);

impl Names {
    /// None.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Somebody has found the file here.
    pub fn found(&self, place: Place) -> Arc<Name> {
        let mut names = self.0.lock();
        names.retain(|name| name.strong_count() > 0);
        if let Some(known) = names.iter().filter_map(Weak::upgrade).find(|name| *name.lock() == place) {
            return known;
        }
        let name = Arc::new(Mutex::new(place));
        names.push(Arc::downgrade(&name));
        name
    }

    /// What was at `old` is at `new`; the other way round, too, if they were exchanged.
    pub fn renamed(&self, old: &Place, new: &Place, how: Rename) {
        for name in self.0.lock().iter().filter_map(Weak::upgrade) {
            let mut place = name.lock();
            if *place == *old {
                place.clone_from(new);
            } else if how == Rename::Exchange && *place == *new {
                place.clone_from(old);
            }
        }
    }
}
