//! What threads of the storm do to words and bytes: loads, stores, and the kernel's copies.

use super::Thread;
use crate::mm::model::Key;
use mm::addr::WORDS_PER_PAGE;
use mm::fault::FaultError;
use mm::platform::Access;
use mm::space::CopyError;

impl Thread {
    pub(super) async fn load(&mut self) {
        let (key, at) = (self.any_page(), self.rng.below(WORDS_PER_PAGE as u64));
        let addr = self.stage.addr(key, at);
        let loaded = self.stage.machine.load(self.id(), addr, &mut self.holds).await;
        if let Err(error) = loaded {
            self.failed(error).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        match loaded {
            Ok(value) => model.page(key).read(at as u16, value),
            Err(error) => model.judge_error(key, Access::Read, error),
        }
        self.stage.journal.note("load", loaded.unwrap_or_else(|error| error as u64));
    }

    pub(super) async fn store(&mut self) {
        let (key, at) = (self.any_page(), self.rng.below(WORDS_PER_PAGE as u64));
        let word = self.stage.model().fresh_word(key);
        let addr = self.stage.addr(key, at);
        let stored = self.stage.machine.store(self.id(), addr, word, &mut self.holds).await;
        if let Err(error) = stored {
            self.failed(error).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        match stored {
            Ok(()) => model.write(key, at as u16, word),
            Err(error) => model.judge_error(key, Access::Write, error),
        }
        self.stage.journal.note("store", stored.map_or_else(|error| error as u64, |()| word));
    }

    /// One instruction that needs up to four pages at once.
    pub(super) async fn store_across(&mut self) {
        let count = 2 + self.below(3);
        let (mut keys, at) = (Vec::new(), self.rng.below(WORDS_PER_PAGE as u64));
        (0..count).for_each(|_| keys.push(self.any_page()));
        let fresh = |&key: &Key| (self.stage.addr(key, at), self.stage.model().fresh_word(key));
        let stores: Vec<_> = keys.iter().map(fresh).collect();
        let anchor = self.rng.next_u64();
        let machine = self.stage.machine.clone();
        let stored = machine.store_all(self.id(), &stores, anchor, &mut self.holds).await;
        if let Err(error) = stored {
            self.failed(error).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        match stored {
            Ok(()) => keys.iter().zip(stores).for_each(|(&key, (_, word))| model.write(key, at as u16, word)),
            Err(FaultError::OutOfMemory | FaultError::SpaceGone) => panic!("store_all: {stored:?}"),
            Err(_) => {}
        }
    }

    /// Writes the same 32-bit word all over a page.
    pub(super) async fn fill(&mut self) {
        let key = self.any_page();
        let pattern = if self.rng.below(3) == 0 { 0 } else { self.stage.model().fresh_pattern(key) };
        let word = u64::from(pattern) << 32 | u64::from(pattern);
        self.copy_words(&[key], 0, &[word; WORDS_PER_PAGE]).await;
    }

    pub(super) async fn copy_out(&mut self) {
        let keys = self.any_range(20);
        let first = self.rng.below(WORDS_PER_PAGE as u64) as usize;
        let count = 1 + self.below(keys.len() * WORDS_PER_PAGE - first);
        let words: Vec<u64> = {
            let mut model = self.stage.model();
            (0..count).map(|i| model.fresh_word(keys[(first + i) / WORDS_PER_PAGE])).collect()
        };
        self.copy_words(&keys, first, &words).await;
    }

    pub(super) async fn copy_words(&mut self, keys: &[Key], first: usize, words: &[u64]) {
        let per_page = |index: usize| {
            let placed = words.iter().enumerate().map(move |(i, word)| (first + i, *word));
            placed
                .filter(move |(at, _)| at / WORDS_PER_PAGE == index)
                .map(|(at, word)| ((at % WORDS_PER_PAGE) as u16, word))
        };
        let touched = &keys[..(first + words.len()).div_ceil(WORDS_PER_PAGE)];
        let mut versions = Vec::new();
        {
            let mut model = self.stage.model();
            for (index, &key) in touched.iter().enumerate() {
                versions.push(model.begin_copy(key, per_page(index)));
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let addr = self.stage.addr(keys[0], first as u64);
        let copied = self.stage.machine.mm().copy_out(self.id(), addr, &bytes).await;
        if copied == Err(CopyError::OutOfMemory) {
            self.failed(FaultError::OutOfMemory).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        for (index, &key) in touched.iter().enumerate() {
            model.page(key).finish_copy(per_page(index), versions[index], copied.is_ok());
        }
        if copied.is_err() {
            assert_eq!(copied, Err(CopyError::BadAddress));
            model.judge_bad_address(touched, Access::Write);
        }
        self.stage.journal.note("copy_out", bytes.len() as u64);
    }

    pub(super) async fn copy_in(&mut self) {
        let keys = self.any_range(20);
        let first = self.rng.below(WORDS_PER_PAGE as u64) as usize;
        let count = 1 + self.below(keys.len() * WORDS_PER_PAGE - first);
        let touched = &keys[..(first + count).div_ceil(WORDS_PER_PAGE)];
        let before: Vec<_> = touched.iter().map(|&key| self.stage.model().page(key).version()).collect();
        let mut bytes = vec![0; count * 8];
        let addr = self.stage.addr(keys[0], first as u64);
        let copied = self.stage.machine.mm().copy_in(self.id(), addr, &mut bytes).await;
        if copied == Err(CopyError::OutOfMemory) {
            self.failed(FaultError::OutOfMemory).await;
        }
        if self.has_ended() {
            return;
        }
        let mut model = self.stage.model();
        if copied.is_err() {
            assert_eq!(copied, Err(CopyError::BadAddress));
            return model.judge_bad_address(touched, Access::Read);
        }
        for (i, word) in bytes.chunks(8).enumerate() {
            let (index, at) = ((first + i) / WORDS_PER_PAGE, ((first + i) % WORDS_PER_PAGE) as u16);
            let page = model.page(touched[index]);
            // If somebody was at the page meanwhile, the word may be one that nobody remembers.
            if page.version() == before[index] {
                let word = u64::from_le_bytes(word.try_into().expect("8 bytes"));
                assert!(page.may_hold(at, word), "{:?} copied in {word:#x}: {page:?}", touched[index]);
            }
        }
        self.stage.journal.note("copy_in", bytes.len() as u64);
    }
}
