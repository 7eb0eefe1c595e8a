//! Pages that were to go and have nowhere to go to: dirty, with no slot free.
//!
//! Owns their list and when they are candidates again. No policy knows them meanwhile: whoever looks for the few pages that can go would
//! look at each of them again and again. Those of groups stay where they are. Does not own who is one ([`Mm::evict`]), nor how copies are
//! given up for the sake of slots ([`super::rewrite`]).

use super::policy::{Arrival, PageList};
use crate::addr::Pfn;
use crate::frame::{Links, Mark};
use crate::manager::{Core, Mm};
use crate::platform::Platform;
use crate::space::CHUNK;
use crate::swap::Swap;

/// What no policy notes of a page.
const MARK: Mark = Mark::new(15);

/// See the module's head.
#[derive(Default)]
pub(crate) struct Stranded {
    pages: PageList,
    /// While all are looked at once more, as one may hold a repeated word by now: how many are left.
    lap: Option<usize>,
}

impl Stranded {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// From now on one may be able to go that could not when it was looked at.
    pub fn end_lap(&mut self) {
        self.lap = None;
    }

    /// Whether a lap is over, or there is nobody to look at. To be asked when no candidate is left: then those that it let go were looked
    /// at, too.
    pub fn were_all_looked_at(&self) -> bool {
        self.lap == Some(0) || self.len() == 0
    }

    /// Takes one off their list.
    pub(super) fn remove(&mut self, links: &mut impl Links, frame: Pfn) {
        self.pages.remove(links, frame);
    }

    /// The next few of a lap.
    fn go_on(&mut self) -> usize {
        let left = self.lap.get_or_insert(self.pages.len());
        let few = CHUNK.min(*left);
        *left -= few;
        few
    }
}

impl<P: Platform> Core<P> {
    /// A page that was to go has nowhere to go to.
    pub(super) fn strand(&mut self, frame: Pfn) {
        self.note_listed(frame);
        self.stranded.pages.push_back(&mut self.table, frame, MARK);
    }

    pub(super) fn is_stranded(&self, frame: Pfn) -> bool {
        self.table.mark(frame) == MARK
    }

    /// Makes so many of them candidates again, those first that have been waiting longest.
    fn release_stranded(&mut self, most: usize) {
        for _ in 0..most {
            let Some(frame) = self.stranded.pages.first() else { return };
            self.forget(frame);
            self.admit_as(frame, Arrival::Stuck);
        }
    }

    /// For how many there may be a place now.
    fn places(&self) -> usize {
        let slots = self.swap.as_ref().map_or(0, Swap::room);
        let in_tier = self.tier.as_ref().is_some_and(|tier| tier.has_room());
        if in_tier { CHUNK } else { slots.min(CHUNK) }
    }
}

impl<P: Platform> Mm<P> {
    /// Makes as many candidates again as there may be places for. If there are none, asks for copies to be given up.
    pub(super) fn look_for_places(&self, core: &mut Core<P>) {
        if core.stranded.len() > 0 {
            match core.places() {
                0 => self.give_up_copies(core),
                places => core.release_stranded(places),
            }
        }
    }

    /// No candidate can go. Makes those candidates again for which there may be places, or, before anybody is told that memory has run out,
    /// the next few of all. Says whether there were any.
    pub(super) fn look_once_more(&self, core: &mut Core<P>) -> bool {
        if core.stranded.len() == 0 {
            return false;
        }
        let few = match core.places() {
            0 if self.somebody_waits(core) => core.stranded.go_on(),
            places => places,
        };
        core.release_stranded(few);
        few > 0
    }
}
