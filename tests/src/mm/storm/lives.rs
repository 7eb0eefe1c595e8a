//! Programs and objects of the storm that do not live long: programs that are killed in the middle of whatever they do, objects that come
//! and go, and memory that another program supplies.

use super::{FILE_PAGES, Stage, Thread};
use crate::mm::{PAGE, anonymous, pages, window, word};
use executor::sim::{Rng, Seed};
use executor::yield_now;
use mm::addr::VirtAddr;
use mm::fault::{FaultError, Holds};
use mm::file_store::FileId;
use mm::object::{ObjectId, Sharing};
use mm::platform::Rights;
use mm::sim::SimMachine;
use mm::space::{Contents, Cooling, Lock, Move, Placement, Populate, Question, SpaceId, UserPagerId, Wake};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Pages of what does not live long.
const FEW: u64 = 6;

/// What a killed program was at.
struct Doomed {
    machine: Arc<SimMachine>,
    space: SpaceId,
    child: SpaceId,
    object: ObjectId,
    rng: Rng,
}

impl Doomed {
    /// Errors do not matter: memory may be out, pages may be lost, and it ends badly anyway.
    async fn live(mut self) {
        let mut thread = crate::mm::Thread::new(&self.machine);
        let machine = self.machine.clone();
        let (mm, space) = (machine.mm(), self.space);
        let Ok(area) = mm.map(space, anonymous(Placement::Anywhere, FEW)).await else { return };
        let Ok(view) = mm.map(space, window(self.object, 0, FEW, Sharing::Private)).await else { return };
        let mut childless = true;
        for _ in 0..12 {
            let (page, at) = (self.rng.below(FEW), if self.rng.below(2) == 0 { area } else { view });
            match self.rng.below(14) {
                0..4 => drop(thread.store(space, word(at, page, page), page + 1).await),
                4 => drop(thread.load(space, word(at, page, page)).await),
                5 if core::mem::take(&mut childless) => drop(mm.fork_space(space, self.child).await),
                6 => drop(thread.store(self.child, word(at, page, page), page + 7).await),
                7 => drop(mm.discard(space, at, FEW * PAGE).await),
                8 => drop(mm.protect(space, at, page * PAGE + PAGE, Rights::READ).await),
                9 => drop(mm.remap(space, at, FEW * PAGE, 2 * FEW * PAGE, Move::Allowed).await),
                10 => drop(mm.lock(space, at, PAGE, Lock::Now).await),
                11 => drop(mm.populate(space, at, FEW * PAGE, Populate::AsAllowed).await),
                12 => drop(mm.cool(space, at, FEW * PAGE, Cooling::Out).await),
                _ => drop(mm.object_read(self.object, 0, space, area, FEW * PAGE).await),
            }
            mm.release_holds(&mut thread.holds);
        }
        let _gone = mm.unmap(space, area, FEW * PAGE).await;
    }
}

impl Thread {
    /// A program that is killed wherever it is, with a child that it may have by then.
    pub(super) async fn killed_program(&mut self) {
        let (stage, rng) = (self.stage.clone(), Rng::new(Seed(self.rng.next_u64())));
        let machine = stage.machine.clone();
        let Some(space) = machine.create_space() else { return };
        let Some(child) = machine.create_space() else { return machine.mm().destroy_space(space).await };
        let file = self.any_file();
        let doomed = Doomed { machine: machine.clone(), space, child, object: stage.files[file].object, rng };
        let polls = 1 + self.rng.below(20) as u32;
        let survived = stage.patiently(Some(polls), doomed.live()).await;
        stage.count(|counts| counts.killed += usize::from(survived.is_none()));
        machine.mm().destroy_space(space).await;
        machine.mm().destroy_space(child).await;
        stage.journal.note("killed", survived.is_none().into());
    }

    /// An object that is mapped, outlives its handle, and goes with its last area.
    pub(super) async fn short_lived_object(&mut self) {
        let (stage, space) = (self.stage.clone(), self.id());
        let mm = stage.machine.mm();
        let name = FileId::new(
            1000 + stage.count(|counts| {
                counts.files += 1;
                counts.files
            }),
        );
        let is_file = self.rng.below(2) == 0;
        let object = if is_file { mm.create_file_object(name, 0) } else { mm.create_object(0) };
        let Ok(object) = object else { return };
        let bytes: Vec<u8> = (1..=FEW).flat_map(|page| [page as u8; PAGE as usize]).collect();
        let written = mm.object_write_bytes(object, 0, space, &bytes).await;
        let area = mm.map(space, window(object, 0, FEW, Sharing::Shared)).await;
        if !is_file {
            mm.close_object(object);
        }
        if let Ok(area) = area {
            self.look_at(area, written == Ok(FEW * PAGE)).await;
            let unmapped = mm.unmap(space, area, FEW * PAGE).await;
            assert!(unmapped == Ok(()) || self.has_ended(), "{unmapped:?}");
        }
        if is_file {
            mm.empty_object(object).await;
            stage.machine.files().cut(name, 0);
            mm.close_object(object);
        }
        stage.journal.note("short-lived object", u64::from(is_file));
    }

    /// Each page holds its number.
    async fn look_at(&mut self, area: VirtAddr, whole: bool) {
        let (stage, space, mut holds) = (self.stage.clone(), self.id(), Holds::default());
        for page in 0..FEW {
            stage.machine.evict(space, pages(area, page));
            let at = self.rng.below(PAGE / 8);
            let loaded = stage.machine.load(space, word(area, page, at), &mut holds).await;
            let lost = stage.files_fail() || !stage.machine.disk().losses().is_empty();
            match loaded {
                Ok(value) => assert!(!whole || value == u64::from_le_bytes([page as u8 + 1; 8]), "{value:#x}"),
                Err(FaultError::BadPage) => assert!(lost || !whole, "page {page} is there"),
                Err(error) => {
                    stage.machine.mm().release_holds(&mut holds);
                    self.failed(error).await;
                    return assert!(self.has_ended(), "{error:?}");
                }
            }
        }
        stage.machine.mm().release_holds(&mut holds);
    }

    /// Memory whose missing pages the program supplies itself: zeroes, or copies of a page it has written before.
    pub(super) async fn supplied_memory(&mut self) {
        let (stage, space) = (self.stage.clone(), self.id());
        let mm = stage.machine.mm();
        let Ok(pager) = mm.create_user_pager(space) else { return };
        if let Ok(area) = mm.map(space, anonymous(Placement::Anywhere, FEW + 1)).await {
            let registered = mm.register_user_pager(pager, area, FEW * PAGE).await;
            assert!(registered.is_ok() || self.has_ended(), "{registered:?}");
            if registered.is_ok() {
                self.supply(pager, area).await;
            }
            mm.close_user_pager(pager);
            if self.has_ended() {
                return;
            }
            let unmapped = mm.unmap(space, area, (FEW + 1) * PAGE).await;
            assert!(unmapped == Ok(()) || self.has_ended(), "{unmapped:?}");
        } else {
            mm.close_user_pager(pager);
        }
        stage.journal.note("supplied memory", 0);
    }

    async fn supply(&mut self, pager: UserPagerId, area: VirtAddr) {
        let (stage, space) = (self.stage.clone(), self.id());
        let mut thread = crate::mm::Thread::new(&stage.machine);
        let source = word(area, FEW, 5);
        if thread.store(space, source, 0x5eed).await.is_err() {
            return;
        }
        for page in 0..FEW {
            let contents =
                if self.rng.below(2) == 0 { Contents::Zero } else { Contents::Memory(space, word(area, FEW, 0)) };
            let expected = if contents == Contents::Zero { 0 } else { 0x5eed };
            let loaded = supplied(&stage, &mut thread, (space, word(area, page, 5)), pager, contents).await;
            if self.has_ended() {
                return;
            }
            let lost = !stage.machine.disk().losses().is_empty() || self.is_tight();
            let Some(loaded) = loaded else { return assert!(lost, "page {page} could not be supplied") };
            assert!(loaded == Ok(expected) || (lost && loaded.is_err()), "page {page}: {loaded:?}");
            stage.machine.evict(space, pages(area, FEW));
            yield_now().await;
        }
    }

    /// Has the policy overruled: pages of the program's own leave at once.
    pub(super) fn evict_some(&mut self) {
        let keys = self.any_range(FILE_PAGES);
        self.stage.machine.evict(self.id(), pages(self.stage.addr(keys[0], 0), keys.len() as u64));
    }
}

/// A load whose questions are answered by who asks. `None` if there is no answer.
async fn supplied(
    stage: &Stage,
    thread: &mut crate::mm::Thread,
    (space, addr): (SpaceId, VirtAddr),
    pager: UserPagerId,
    contents: Contents,
) -> Option<Result<u64, FaultError>> {
    let mm = stage.machine.mm();
    let mut load = pin!(thread.load(space, addr));
    loop {
        let step: Result<_, Question> = poll_fn(|cx| match load.as_mut().poll(cx) {
            Poll::Ready(loaded) => Poll::Ready(Ok(loaded)),
            Poll::Pending => mm.next_question(pager).map_or(Poll::Pending, |question| Poll::Ready(Err(question))),
        })
        .await;
        match step {
            Ok(loaded) => return Some(loaded),
            Err(question) => mm.answer(pager, question.addr, contents, Wake::Now).await.ok()?,
        }
    }
}
