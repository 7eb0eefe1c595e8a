//! What threads of the storm do to objects with an end by system call: read, write, cut, extend, punch, write back, copy one to another.
//!
//! Owns the order in which a kernel does it: one thread at a time changes an object (the inode's lock), and who finds that a cut was given
//! up half-way completes it first. Any of these calls may be given up, as by a program that is killed.

use super::mappings::Lane;
use super::{FILE_PAGES, FILES, Thread};
use crate::mm::model::Model;
use crate::mm::model::file::{Moment, WORDS};
use crate::mm::{PAGE, anonymous};
use executor::yield_now;
use mm::fault::FaultError;
use mm::file_store::FileId;
use mm::object::{ObjectError, ObjectId, ObjectPage};
use mm::sim::SimMachine;
use mm::space::{CopyError, Placement};
use std::sync::Mutex;

/// All of an object.
pub(super) const ALL: core::ops::Range<ObjectPage> = ObjectPage::new(0)..ObjectPage::LAST;

/// An object with an end.
pub(super) struct File {
    pub object: ObjectId,
    /// What its store calls it; memory that is shared by name has none.
    pub name: Option<FileId>,
    /// Whether somebody changes it by a system call.
    busy: Mutex<bool>,
}

/// The right to change an object by system calls.
pub(super) struct Gate<'a>(&'a File);

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        if let Ok(mut busy) = self.0.busy.lock() {
            *busy = false;
        }
    }
}

impl File {
    /// Objects of all kinds, with nothing in them.
    pub fn all(machine: &SimMachine) -> Vec<Self> {
        let new = |number: usize| {
            let name = (number + 1 < FILES).then(|| FileId::new(number as u64 + 1));
            let mm = machine.mm();
            let object = name.map_or_else(|| mm.create_object(0), |name| mm.create_file_object(name, 0));
            Self { object: object.expect("there is room"), name, busy: Mutex::new(false) }
        };
        (0..FILES).map(new).collect()
    }

    fn enter(&self) -> Option<Gate<'_>> {
        (!core::mem::replace(&mut *self.busy.lock().expect("nobody panicked"), true)).then(|| Gate(self))
    }

    /// Words that the object has now.
    pub fn words(&self, machine: &SimMachine) -> u64 {
        let bytes = machine.mm().object_size(self.object).expect("it is open");
        assert_eq!(bytes % 8, 0, "only words were written");
        bytes / 8
    }
}

impl Thread {
    pub(super) fn any_file(&mut self) -> usize {
        self.below(FILES)
    }

    /// A word; half of the time in one of few pages.
    pub(super) fn any_file_word(&mut self) -> u64 {
        let pages = if self.rng.below(2) == 0 { FILE_PAGES / 4 } else { FILE_PAGES };
        self.rng.below(pages as u64) * WORDS + self.rng.below(WORDS)
    }

    /// A word nobody wrote before, for a page of an object.
    pub(super) fn fresh_file_word(&self, file: usize, at: u64) -> u64 {
        let key = self.stage.file_key(file, at);
        self.stage.model().fresh_word(key)
    }

    /// Whether an error may be due to a disk.
    pub(super) fn is_excused(&self, model: &Model) -> bool {
        self.stage.files_fail() || model.was_any_lost()
    }

    /// An object's call has failed: an error of the disk, of which there must be one, or no memory.
    async fn file_failed(&mut self, file: usize, error: ObjectError) {
        match error {
            ObjectError::OutOfMemory => self.failed(FaultError::OutOfMemory).await,
            ObjectError::Io | ObjectError::BadAddress => {
                let excused = self.stage.files_fail() || !self.stage.machine.disk().losses().is_empty();
                assert!(excused || self.has_ended(), "{error:?} on file {file}");
            }
            error => assert!(self.has_ended(), "{error:?} on file {file}"),
        }
    }

    pub(super) async fn read_file(&mut self) {
        let (file, at) = (self.any_file(), self.any_file_word());
        let (stage, space, mut bytes) = (self.stage.clone(), self.id(), [0; 8]);
        let read = stage.machine.mm().object_read_bytes(stage.files[file].object, at * 8, space, &mut bytes);
        let Some(read) = self.patiently(read).await else { return };
        match read {
            Ok(8) => {
                let mut model = stage.model();
                let excused = self.is_excused(&model);
                model.files[file].load(at, Ok(u64::from_le_bytes(bytes)), excused);
            }
            Ok(0) => assert!(at >= stage.model().files[file].len(), "word {at} of file {file} is not there"),
            Ok(bytes) => panic!("{bytes} bytes of a word"),
            Err(error) => self.file_failed(file, error).await,
        }
        stage.journal.note("read file", at);
    }

    /// Writes words, or zeroes (which is how holes are made), from the kernel or from memory of the program's.
    pub(super) async fn write_file(&mut self) {
        let (file, first, stage) = (self.any_file(), self.any_file_word(), self.stage.clone());
        let Some(_gate) = stage.files[file].enter() else { return };
        if !self.complete_cut(file).await {
            return;
        }
        let count = (1 + self.rng.below(6 * WORDS)).min(FILE_PAGES as u64 * WORDS - first);
        let punches = self.rng.below(6) == 0;
        let fresh = |i| if punches { 0 } else { self.fresh_file_word(file, first + i) };
        let values: Vec<u64> = (0..count).map(fresh).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = if self.rng.below(3) == 0 { self.buffer_with(&bytes).await } else { None };
        if self.has_ended() {
            return;
        }
        stage.model().files[file].begin_write(first, count, Some(&values));
        let (mm, object, space) = (stage.machine.mm(), stage.files[file].object, self.id());
        let written = match source {
            Some(addr) => self.patiently(mm.object_write(object, first * 8, space, addr, bytes.len() as u64)).await,
            None => self.patiently(mm.object_write_bytes(object, first * 8, space, &bytes)).await,
        };
        let values: Vec<_> = values.into_iter().map(|value| vec![value]).collect();
        self.finish_write(file, &values, written);
        if let Some(Err(error)) = written {
            self.file_failed(file, error).await;
        }
        if let Some(addr) = source {
            self.free_buffer(addr, bytes.len() as u64).await;
        }
        stage.journal.note("write file", count);
    }

    fn finish_write(&self, file: usize, values: &[Vec<u64>], written: Option<Result<u64, ObjectError>>) {
        let (mut model, len) = (self.stage.model(), self.stage.files[file].words(&self.stage.machine));
        let done = written.map(|written| written.unwrap_or(0) / 8);
        let first = model.files[file].len().div_ceil(WORDS);
        let cut = model.files[file].is_cut(FILE_PAGES as u64);
        if model.files[file].finish_write(values, done, len) && cut {
            model.lose_copies(self.stage.private_arena(file), first);
        }
    }

    /// `read` of an object into a window of another, or of the same one.
    pub(super) async fn copy_between_files(&mut self) {
        let (from, to, stage) = (self.any_file(), self.any_file(), self.stage.clone());
        let (first, target) = (self.any_file_word(), self.any_file_word());
        let Some(_gate) = stage.files[to].enter() else { return };
        let _other = if from == to { None } else { stage.files[from].enter() };
        if (from != to && _other.is_none()) || !self.complete_cut(to).await {
            return;
        }
        let room = stage.model().files[to].len().saturating_sub(target);
        let count = (1 + self.rng.below(3 * WORDS)).min(FILE_PAGES as u64 * WORDS - first).min(room);
        // What overlaps copies itself, piece by piece: nobody can say what comes of it.
        if count == 0 || (from == to && first < target + count && target < first + count) {
            return;
        }
        let since: Moment = {
            let mut model = stage.model();
            model.files[to].begin_write(target, count, None);
            model.files[from].watch()
        };
        let addr = stage.file_addr(Lane::Shared(to), target);
        let (object, space) = (stage.files[from].object, self.id());
        let read = self.patiently(stage.machine.mm().object_read(object, first * 8, space, addr, count * 8)).await;
        let values = {
            let mut model = stage.model();
            let held = model.files[from].held_since(first..first + count, since);
            model.files[from].end_watch();
            held
        };
        self.finish_write(to, &values, read);
        match read {
            Some(Err(ObjectError::BadAddress)) => {}
            Some(Err(error)) => self.file_failed(from, error).await,
            _ => {}
        }
        stage.journal.note("copy between files", count);
    }

    /// Moves the end.
    pub(super) async fn cut_file(&mut self) {
        let (file, len, stage) = (self.any_file(), self.any_file_word(), self.stage.clone());
        let Some(_gate) = stage.files[file].enter() else { return };
        if self.complete_cut(file).await {
            self.cut_to(file, len).await;
        }
        stage.journal.note("cut", len);
    }

    /// A hole of whole pages, within the object.
    pub(super) async fn punch_file(&mut self) {
        let (file, stage) = (self.any_file(), self.stage.clone());
        let File { object, name, .. } = stage.files[file];
        let Some(_gate) = stage.files[file].enter() else { return };
        if !self.complete_cut(file).await {
            return;
        }
        let end = stage.model().files[file].len().div_ceil(WORDS);
        let first = self.rng.below(end + 1);
        let hole = first..(first + 1 + self.rng.below(FILE_PAGES as u64 / 2)).min(end).max(first);
        stage.model().files[file].begin_hole(hole.start * WORDS..hole.end * WORDS);
        let vacant = stage.machine.mm().vacate(object, ObjectPage::new(hole.start)..ObjectPage::new(hole.end)).await;
        let vacant = vacant.expect("it is open");
        for _ in 0..self.rng.below(8) {
            yield_now().await;
        }
        // Panics if anything is under way for what is freed.
        name.into_iter().for_each(|name| stage.machine.files().punch(name, hole.clone()));
        drop(vacant);
        stage.model().files[file].finish_hole();
        stage.journal.note("punch", hole.end - hole.start);
    }

    /// If a cut was given up half-way, it comes to its end now. `false` if that fails.
    async fn complete_cut(&mut self, file: usize) -> bool {
        let stage = self.stage.clone();
        // Memory has no blocks that must go before it grows: the manager sees to itself.
        let unfinished =
            stage.files[file].name.is_some() && stage.machine.mm().object_is_cut_short(stage.files[file].object);
        !unfinished || self.cut_to(file, stage.files[file].words(&stage.machine)).await
    }

    async fn cut_to(&mut self, file: usize, len: u64) -> bool {
        let (stage, space) = (self.stage.clone(), self.id());
        let File { object, name, .. } = stage.files[file];
        stage.model().files[file].begin_cut(len);
        let done = self.patiently(stage.machine.mm().truncate_object(object, len * 8, space)).await;
        let gone = {
            let (mut model, now) = (stage.model(), stage.files[file].words(&stage.machine));
            let model = &mut model.files[file];
            if done == Some(Ok(())) { Some(model.finish_cut(len)) } else { model.leave_cut(now) }
        };
        if let Some(first) = gone {
            stage.model().lose_copies(stage.private_arena(file), first);
        }
        match done {
            Some(Ok(())) => {
                stage.machine.mm().forget_prepared(object).await;
                // Panics if anything is under way for what is cut off.
                name.into_iter().for_each(|name| stage.machine.files().cut(name, len.div_ceil(WORDS)));
                return true;
            }
            Some(Err(error)) => self.file_failed(file, error).await,
            None => {}
        }
        false
    }

    /// fsync, msync, or what the kernel does every few seconds.
    pub(super) async fn write_back(&mut self) {
        let (file, stage) = (self.any_file(), self.stage.clone());
        let first = self.rng.below(FILE_PAGES as u64);
        let range = if self.rng.below(2) == 0 { ALL } else { ObjectPage::new(first)..ObjectPage::new(first + 4) };
        let mm = stage.machine.mm();
        let synced = match self.rng.below(3) {
            0 => self.patiently(mm.write_back_old()).await.map(Ok),
            _ => self.patiently(mm.sync_object(stage.files[file].object, range)).await,
        };
        if let Some(Err(error)) = synced {
            self.file_failed(file, error).await;
        }
        stage.journal.note("write back", file as u64);
    }

    /// Memory of the program's with these bytes in it.
    async fn buffer_with(&mut self, bytes: &[u8]) -> Option<mm::addr::VirtAddr> {
        let (stage, space) = (self.stage.clone(), self.id());
        let pages = (bytes.len() as u64).div_ceil(PAGE);
        let addr = stage.machine.mm().map(space, anonymous(Placement::Anywhere, pages)).await.ok()?;
        match stage.machine.mm().copy_out(space, addr, bytes).await {
            Ok(()) => return Some(addr),
            Err(CopyError::OutOfMemory) => self.failed(FaultError::OutOfMemory).await,
            Err(_) => self.free_buffer(addr, bytes.len() as u64).await,
        }
        None
    }

    async fn free_buffer(&mut self, addr: mm::addr::VirtAddr, len: u64) {
        let unmapped = self.stage.machine.mm().unmap(self.id(), addr, len).await;
        assert!(unmapped == Ok(()) || self.has_ended(), "{unmapped:?}");
    }
}
