//! Private windows of files: pages show the file until somebody stores to them, and are the program's own from then on.
//!
//! Owns the expectation of such pages. Only who has claimed a window stores to it or changes it, so a page is either the file's or the
//! program's, or one store is under way; what the file held since that began may be what was copied.

use super::file::{Moment, OwnPage, WORDS};
use super::{Key, Model};
use mm::fault::FaultError;

/// A page of a private window.
#[derive(Clone, Default, Debug)]
pub struct Private {
    /// What was copied, and written since.
    own: Option<OwnPage>,
    /// A store is under way that may copy the page, or has already.
    opening: Option<Moment>,
    /// It may have been given up meanwhile: it is the program's, or the file's.
    vanishing: bool,
    /// Nobody knows: it was stored to while its file was cut there.
    murky: bool,
}

impl Model {
    /// A word of a private window of a file was read, or could not be; that the file knows nothing of a reason may be `excused`.
    pub fn load_private(&mut self, key: Key, (file, at): (usize, u64), loaded: Result<u64, FaultError>, excused: bool) {
        let lost = self.was_lost(key.arena, key.page);
        let page = self.private.entry(key).or_default();
        let (word, model) = (at % WORDS, &mut self.files[file]);
        let Ok(value) = loaded else {
            let own = page.own.is_some() || page.opening.is_some() || page.vanishing || page.murky;
            return model.load(at, loaded, excused || (own && lost));
        };
        assert!(!model.is_behind(at / WORDS), "{key:?} was loaded, behind the end of its file");
        let cut = model.is_cut(at / WORDS);
        match (&mut page.own, page.opening) {
            _ if page.murky => {}
            (Some(own), _) if own.may_hold(word, value) => {
                if !page.vanishing {
                    own.set(word, value);
                }
            }
            (Some(own), _) if !page.vanishing && !cut => {
                panic!("word {word} of {key:?} is {value:#x}, not what was stored there or copied: {own:x?}")
            }
            (None, Some(since)) if model.may_have_held(at, value, since) => {}
            _ => model.load(at, loaded, excused),
        }
    }

    /// A store to a page begins.
    pub fn begin_private_store(&mut self, key: Key, file: usize) {
        let page = self.private.entry(key).or_default();
        assert!(page.opening.is_none(), "only who has claimed the window stores to it");
        page.opening = Some(self.files[file].watch());
    }

    /// It is over. `true` if the page is to be given up: nobody knows what has become of it.
    pub fn finish_private_store(&mut self, key: Key, (file, at): (usize, u64), stored: Option<u64>) -> bool {
        let page = self.private.entry(key).or_default();
        let since = page.opening.take().expect("a store has begun");
        let model = &mut self.files[file];
        let fresh = model.copied_since(at / WORDS, since);
        model.end_watch();
        match stored {
            Some(value) if !model.is_cut(at / WORDS) => page.own.get_or_insert(fresh).set(at % WORDS, value),
            _ => page.murky = true,
        }
        page.murky
    }

    /// Pages are being given up: they show the file again when that is over.
    pub fn begin_giving_up(&mut self, keys: &[Key]) {
        keys.iter().for_each(|key| self.private.entry(*key).or_default().vanishing = true);
    }

    /// They are.
    pub fn finish_giving_up(&mut self, keys: &[Key]) {
        keys.iter().for_each(|key| drop(self.private.remove(key)));
    }

    /// A file was cut: copies of pages from `first` on are gone, in all windows with that number.
    pub fn lose_copies(&mut self, arena: Option<usize>, first: u64) {
        let hit = |key: &Key| Some(key.arena) == arena && key.page as u64 >= first;
        self.private.iter_mut().filter(|(key, _)| hit(key)).for_each(|(_, page)| page.own = None);
    }

    /// A child has what its parent has.
    pub(super) fn fork_private(&mut self, parent: usize, child: usize) {
        self.private.retain(|key, _| key.space != child);
        let pages: Vec<_> =
            self.private.iter().filter(|(key, _)| key.space == parent).map(|(k, p)| (*k, p.clone())).collect();
        for (key, page) in pages {
            debug_assert!(page.opening.is_none() && !page.vanishing, "a fork claims all windows");
            self.private.insert(Key { space: child, ..key }, page);
        }
    }
}
