//! How many objects of each type the kernel has, and, in builds with debug assertions, where they were made.
//!
//! Owns: the counts ([`Cache`]) and the tag that an object carries while it lives ([`Live`]). Does not own the objects' memory,
//! which is the heap's: types of one size share slabs. `/proc/slabinfo` shows both, so that what a program leaves behind is seen.

use core::panic::Location;

use arrayvec::ArrayVec;

use crate::process::process::Process;
use crate::process::thread::{Thread, ThreadState};
use crate::sync::Mutex;

/// Most places that are told apart for a type; objects made elsewhere are counted at the last.
const SITES: usize = 8;

/// Every type that is counted.
pub static CACHES: [Cache; Type::COUNT] =
    [Cache::new::<Process>("process"), Cache::new::<ThreadState>("thread"), Cache::new::<Thread>("user_thread")];

/// A type that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A process.
    Process,
    /// A thread, as its siblings see it.
    ThreadState,
    /// A thread's machine state, while it can run.
    Thread,
}

impl Type {
    const COUNT: usize = 3;

    /// Counts one more object; the result goes into it.
    #[track_caller]
    pub fn object(self) -> Live {
        CACHES[self as usize].object(self, Location::caller())
    }
}

/// The objects of one type.
pub struct Cache {
    /// Its name.
    pub name: &'static str,
    /// Bytes in an object.
    pub size: usize,
    counts: Mutex<Counts>,
}

/// What a cache holds at a moment.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Objects that live.
    pub live: usize,
    /// Where those that live were made; empty without debug assertions.
    pub sites: ArrayVec<Site, SITES>,
}

/// A place in the source that makes objects.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Where.
    pub location: &'static Location<'static>,
    /// How many of its objects live.
    pub live: usize,
}

impl Cache {
    const fn new<T>(name: &'static str) -> Self {
        let counts = Counts { live: 0, sites: ArrayVec::new_const() };
        Self { name, size: size_of::<T>(), counts: Mutex::new(counts) }
    }

    /// What it holds now.
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    fn object(&self, of: Type, location: &'static Location<'static>) -> Live {
        let mut counts = self.counts.lock();
        counts.live += 1;
        let site = if cfg!(debug_assertions) { counts.site(location) } else { 0 };
        Live { of, site }
    }
}

impl Counts {
    /// The index of a place, which has one more object now.
    fn site(&mut self, location: &'static Location<'static>) -> usize {
        let known = self.sites.iter().position(|site| site.location == location);
        let index = known.unwrap_or_else(|| {
            let _full = self.sites.try_push(Site { location, live: 0 });
            self.sites.len() - 1
        });
        self.sites[index].live += 1;
        index
    }
}

/// Carried by an object that is counted, as long as it lives.
#[derive(Debug)]
pub struct Live {
    of: Type,
    site: usize,
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut counts = CACHES[self.of as usize].counts.lock();
        counts.live -= 1;
        if let Some(site) = counts.sites.get_mut(self.site) {
            site.live -= 1;
        }
    }
}
