//! What memory should be: a plain map from pages to rights and words, without frames, disks or time.
//!
//! Owns the expectation. Threads of the storm run at once, so while a change is under way a page may be as before or as after it: the
//! model keeps every value a word may have, and drops those that an observation rules out. When nothing is under way there is one.
//!
//! Objects with an end are in [`file`], private windows of them in [`private`].

pub mod file;
pub mod private;

use file::FileModel;
use private::Private;

use mm::fault::FaultError;
use mm::platform::{Access, Rights};
use mm::sim::Loss;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Name of a page in the model: space, arena, page in the arena.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Number of the space.
    pub space: usize,
    /// Number of the arena in the space.
    pub arena: usize,
    /// Number of the page in the arena.
    pub page: usize,
}

/// A change of a range that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is being unmapped.
    Unmap,
    /// It is being mapped afresh, over whatever is there.
    Replace(Rights),
    /// Its rights change.
    Protect(Rights),
    /// Its contents are given up.
    Discard,
    /// It goes elsewhere and comes back.
    Move,
}

/// A page.
#[derive(Clone)]
pub struct Page {
    rights: Option<Rights>,
    change: Option<Change>,
    /// What words hold that are not in `words`.
    base: Vec<u64>,
    /// Copied when one of a parent and its child changes it.
    words: Arc<BTreeMap<u16, Vec<u64>>>,
    /// Words whose value at the end of a discard under way is open, since they were written meanwhile.
    written_since: BTreeSet<u16>,
    /// The kernel's copies to this page that are under way.
    copies: u32,
    lost: bool,
    losses_seen: usize,
    /// Whose words may be in the page besides its own: those it was forked from.
    lineage: BTreeSet<u32>,
    /// Changes with whatever changes the page.
    version: u64,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            rights: None,
            change: None,
            base: vec![0],
            words: Arc::default(),
            written_since: BTreeSet::new(),
            copies: 0,
            lost: false,
            losses_seen: 0,
            lineage: BTreeSet::new(),
            version: 0,
        }
    }
}

/// All pages, and the losses the disk owned up to.
#[derive(Debug, Default)]
pub struct Model {
    pages: BTreeMap<Key, Page>,
    losses: BTreeMap<u32, usize>,
    losses_read: usize,
    variant: u32,
    /// Forks under way: parent and child.
    forks: Vec<(usize, usize)>,
    /// Objects with an end.
    pub files: Vec<FileModel>,
    /// Pages of private windows of them that are not the file's.
    private: BTreeMap<Key, Private>,
    /// Windows, by space and number, that change: what is there may not be mapped, or not so that it can be used.
    pub unsteady: BTreeSet<(usize, usize)>,
}

impl core::fmt::Debug for Page {
    /// Without the words, which are many.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { rights, change, copies, lost, losses_seen, version, .. } = self;
        write!(f, "rights {rights:?}, change {change:?}, copies {copies}, ")?;
        write!(f, "lost {lost}, losses {losses_seen}, version {version}")
    }
}

impl Key {
    /// 24 bits that say whose page it is.
    fn code(self) -> u32 {
        (self.space as u32) << 18 | (self.arena as u32) << 12 | self.page as u32
    }
}

impl Model {
    /// A page; pages never heard of are not mapped.
    pub fn page(&mut self, key: Key) -> &mut Page {
        self.pages.entry(key).or_default()
    }

    /// A word no one wrote before, that says in its upper half whose page it belongs to.
    pub fn fresh_word(&mut self, key: Key) -> u64 {
        self.variant += 1;
        u64::from(self.fresh_pattern(key)) << 32 | u64::from(self.variant)
    }

    /// A 32-bit word to fill a whole page with, which says whose it is.
    pub fn fresh_pattern(&mut self, key: Key) -> u32 {
        self.variant += 1;
        key.code() << 8 | (self.variant % 255 + 1)
    }

    /// Takes in what the disk lost since the last time.
    pub fn note_losses(&mut self, all: &[Loss]) {
        for loss in &all[self.losses_read..] {
            *self.losses.entry((loss.evidence >> 40) as u32).or_default() += 1;
        }
        self.losses_read = all.len();
    }

    /// How often the disk lost a page with words that may be this page's.
    fn losses_of(&mut self, key: Key) -> usize {
        let lineage = self.page(key).lineage.clone();
        let codes = core::iter::once(key.code()).chain(lineage);
        codes.map(|code| self.losses.get(&code).copied().unwrap_or(0)).sum()
    }

    /// Whether the disk has lost any page. Which object's page it was its words do not tell: they may have been copied from anywhere.
    pub fn was_any_lost(&self) -> bool {
        self.losses_read > 0
    }

    /// Whether the disk has lost a page with words that were written there, in any program.
    pub fn was_lost(&self, arena: usize, page: usize) -> bool {
        let place = Key { space: 0, arena, page }.code();
        self.losses.keys().any(|code| code & 0x3_ffff == place)
    }

    /// A word was written.
    pub fn write(&mut self, key: Key, at: u16, value: u64) {
        self.page(key).write(at, value);
        self.tell_children(key, &[(at, value)]);
    }

    /// The kernel begins to copy these words to a page: from now on each may hold its new value. Returns what the page counts.
    pub fn begin_copy(&mut self, key: Key, words: impl Iterator<Item = (u16, u64)>) -> u64 {
        let words: Vec<_> = words.collect();
        self.page(key).begin_copy(&words);
        self.tell_children(key, &words);
        self.page(key).version
    }

    /// A child that is being forked may get a page before or after it is written to.
    fn tell_children(&mut self, key: Key, words: &[(u16, u64)]) {
        let children: Vec<_> = self.forks.iter().filter(|fork| fork.0 == key.space).map(|fork| fork.1).collect();
        for space in children {
            let page = self.page(Key { space, ..key });
            page.version += 1;
            words.iter().for_each(|&(at, value)| page.candidates(at).push(value));
        }
    }

    /// `child` gets a copy of what `parent` has, each page at some moment from now on.
    pub fn begin_fork(&mut self, parent: usize, child: usize) {
        let old = |key: &Key| key.space == child;
        self.pages.iter_mut().filter(|(key, _)| old(key)).for_each(|(_, page)| page.reset(None));
        let mine = |(key, page): (&Key, &Page)| (key.space == parent).then(|| (*key, page.clone()));
        let pages: Vec<_> = self.pages.iter().filter_map(mine).collect();
        for (key, page) in pages {
            let unseen = self.losses_of(key) - page.losses_seen;
            let mut lineage = page.lineage.clone();
            lineage.insert(key.code());
            let twin = Key { space: child, ..key };
            let version = self.page(twin).version + 1;
            *self.page(twin) = Page { lineage, version, copies: 0, change: None, losses_seen: 0, ..page };
            self.page(twin).losses_seen = self.losses_of(twin) - unseen;
        }
        self.fork_private(parent, child);
        self.unsteady.retain(|(space, _)| *space != child);
        self.forks.push((parent, child));
    }

    /// The child has all it gets.
    pub fn finish_fork(&mut self, parent: usize, child: usize) {
        self.forks.retain(|fork| *fork != (parent, child));
    }

    /// Judges an error that an access ended in.
    pub fn judge_error(&mut self, key: Key, access: Access, error: FaultError) {
        let losses = self.losses_of(key);
        let page = self.page(key);
        let plausible = match error {
            FaultError::NotMapped => page.possible_rights().contains(&None),
            FaultError::Forbidden => page.possible_rights().iter().flatten().any(|r| !r.allow(access)),
            FaultError::BadPage => {
                let new = losses > page.losses_seen;
                page.losses_seen = losses;
                core::mem::replace(&mut page.lost, true) || new
            }
            FaultError::OutOfMemory | FaultError::SpaceGone => false,
        };
        assert!(plausible, "{access:?} of {key:?} ended in {error:?}, but it is {page:?}");
    }

    /// A kernel copy may fail if one of its pages is lost, or may be inaccessible.
    pub fn judge_bad_address(&mut self, keys: &[Key], access: Access) {
        let reason = keys.iter().any(|&key| {
            let losses = self.losses_of(key);
            let page = self.page(key);
            page.lost
                || losses > page.losses_seen
                || page.change.is_some()
                || page.possible_rights().iter().any(|r| !r.is_some_and(|r| r.allow(access)))
        });
        assert!(reason, "a copy ({access:?}) of {keys:?} ended in EFAULT for no reason");
    }

    /// Pages that were lost, as far as the program has noticed.
    pub fn lost_pages(&self) -> usize {
        self.pages.values().filter(|page| page.lost).count()
    }
}

impl Page {
    /// What an access may find, as things are under way.
    fn possible_rights(&self) -> Vec<Option<Rights>> {
        let after = match self.change {
            None | Some(Change::Discard) => vec![],
            Some(Change::Unmap | Change::Move) => vec![None],
            Some(Change::Replace(rights)) => vec![None, Some(rights)],
            Some(Change::Protect(rights)) => vec![Some(rights)],
        };
        core::iter::once(self.rights).chain(after).collect()
    }

    /// Whether the page is mapped, with nothing under way.
    pub fn settled_rights(&self) -> Option<Rights> {
        if self.change.is_none() { self.rights } else { None }
    }

    /// Whether it is certainly mapped, or certainly not; `None` while that changes.
    pub fn is_mapped(&self) -> bool {
        self.rights.is_some()
    }

    /// Counts changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether contents may vanish under a change that is under way.
    fn vanishing(&self) -> bool {
        matches!(self.change, Some(Change::Unmap | Change::Replace(_) | Change::Discard))
    }

    fn candidates(&mut self, at: u16) -> &mut Vec<u64> {
        let base = &self.base;
        Arc::make_mut(&mut self.words).entry(at).or_insert_with(|| base.clone())
    }

    fn assert_possible(&self, access: Access) {
        let possible = self.possible_rights().iter().flatten().any(|r| r.allow(access));
        assert!(possible, "{access:?} succeeded on {self:?}");
        assert!(!self.lost || self.vanishing(), "{access:?} succeeded on a lost page: {self:?}");
    }

    /// A word was read.
    pub fn read(&mut self, at: u16, value: u64) {
        self.assert_possible(Access::Read);
        let open = self.copies > 0 || self.vanishing();
        let found = self.words.get(&at).unwrap_or(&self.base).clone();
        if !open && found.len() > 1 && found.contains(&value) {
            *self.candidates(at) = vec![value];
        }
        assert!(found.contains(&value), "word {at} reads {value:#x}, not one of {found:x?}: {self:?}");
    }

    /// Whether a word may hold this value now.
    pub fn may_hold(&self, at: u16, value: u64) -> bool {
        self.words.get(&at).unwrap_or(&self.base).contains(&value)
    }

    fn write(&mut self, at: u16, value: u64) {
        self.assert_possible(Access::Write);
        self.version += 1;
        let (open, vanishing) = (self.copies > 0, self.vanishing());
        let candidates = self.candidates(at);
        if !open {
            candidates.clear();
        }
        candidates.push(value);
        if vanishing {
            candidates.push(0);
            self.written_since.insert(at);
        }
    }

    fn begin_copy(&mut self, words: &[(u16, u64)]) {
        self.version += 1;
        self.copies += 1;
        for &(at, value) in words {
            self.candidates(at).push(value);
            if self.vanishing() {
                self.written_since.insert(at);
            }
        }
    }

    /// The copy is over. If nobody else was at the page since `version`, its outcome is known.
    pub fn finish_copy(&mut self, words: impl Iterator<Item = (u16, u64)>, version: u64, done: bool) {
        self.copies -= 1;
        if done && self.version == version && self.copies == 0 && self.change.is_none() {
            for (at, value) in words {
                *self.candidates(at) = vec![value];
            }
        }
        self.version += 1;
    }

    /// A change begins.
    pub fn begin(&mut self, change: Change) {
        assert!(self.change.is_none());
        self.version += 1;
        self.change = Some(change);
        self.written_since.clear();
        if self.vanishing() {
            self.base.push(0);
            Arc::make_mut(&mut self.words).values_mut().for_each(|values| values.push(0));
        }
    }

    /// The change is over.
    pub fn finish(&mut self) {
        self.version += 1;
        let copies = self.copies;
        match self.change.take().expect("a change was begun") {
            Change::Protect(rights) => self.rights = Some(rights),
            Change::Move => {}
            Change::Unmap => self.reset(None),
            Change::Replace(rights) => self.reset(Some(rights)),
            Change::Discard => {
                // Words written after the change began may or may not have outlived it.
                let since = core::mem::take(&mut self.written_since);
                if copies == 0 {
                    Arc::make_mut(&mut self.words).retain(|at, _| since.contains(at));
                    self.base = vec![0];
                }
                self.lost = false;
            }
        }
    }

    fn reset(&mut self, rights: Option<Rights>) {
        let (losses_seen, version, copies) = (self.losses_seen, self.version, self.copies);
        let lineage = core::mem::take(&mut self.lineage);
        // A copy that is under way may still write to what is mapped there now.
        let words = if copies > 0 { core::mem::take(&mut self.words) } else { Arc::default() };
        *self = Self { rights, losses_seen, version, copies, words, lineage, ..Self::default() };
    }
}
