//! Who ends when memory has run out, and why.
//!
//! Owns the score ([`Holdings::badness`], pure), the choice among spaces, and the [`Verdict`] that says what was chosen and what for. Does
//! not own when memory has run out (that is [`crate::reclaim`] and [`crate::shortage`]) nor how a program ends: whoever runs programs takes
//! verdicts ([`Mm::next_verdict`]) and ends who they name. One at a time: while somebody's memory is on its way back, nobody is chosen
//! (docs/decisions/out-of-memory.md).
//!
//! ```text
//!   no frame, and reclaim has given up
//!        │
//!        ├─ somebody is leaving already ──────────────► wait for what it has
//!        ├─ the worst candidate ──────────────────────► verdict; its own faults fail, all others wait
//!        ├─ nobody but init ──────────────────────────► verdict on init
//!        └─ nobody at all: who asks ──────────────────► verdict on it; a space that is no program's yet is refused
//! ```

use crate::addr::PageRange;
use crate::group::GroupId;
use crate::manager::{Core, Mm};
use crate::object::Objects;
use crate::platform::{PageTable, Platform};
use crate::shortage::{Lot, Shortage};
use crate::space::{Space, SpaceId};
use crate::stats::{Counters, PageClass};

/// By how many thousandths of all memory a program counts as larger than it is (`oom_score_adj`, proc_pid_oom_score_adj(5)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Adjustment(i16);

impl Adjustment {
    /// Whoever has this is never chosen.
    pub const NEVER: Self = Self(-Self::MOST);
    const MOST: i16 = 1000;

    /// From −1000 to 1000.
    pub fn from_thousandths(thousandths: i64) -> Option<Self> {
        i16::try_from(thousandths).ok().filter(|number| (-Self::MOST..=Self::MOST).contains(number)).map(Self)
    }
    /// As a number.
    pub fn thousandths(self) -> i64 {
        self.0.into()
    }
}

/// What a space is to the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// A program's.
    #[default]
    Candidate,
    /// Init's: chosen when there is nobody else.
    Last,
    /// Nobody's yet, being filled for a program to come. It is refused where a program would end.
    Apart,
    /// Its program has been ended, and it will be torn down.
    Leaving,
}

/// What ending a program is about, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    /// In RAM: its own, those that it shares since a fork wherever they are, and of objects those that it has mapped.
    pub resident: u64,
    /// Away: its own, and of shared memory its part of what is away.
    pub away: u64,
    /// Page tables.
    pub tables: u64,
}

impl Holdings {
    /// How bad it is to leave this program be, where there are `total` pages of memory in all: Linux's `oom_badness` (mm/oom_kill.c),
    /// but for the order of the division, which makes a difference where memory is small. `None`: it is never chosen.
    pub fn badness(self, adjustment: Adjustment, total: u64) -> Option<i64> {
        let pages = (self.resident + self.away + self.tables) as i64;
        let bias = adjustment.thousandths() * total as i64 / 1000;
        (adjustment != Adjustment::NEVER).then_some(pages + bias)
    }

    /// What `/proc/PID/oom_score` says: Linux's `proc_oom_score` (fs/proc/base.c), 667 and up for who has memory and no adjustment.
    pub fn score(self, adjustment: Adjustment, total: u64) -> u64 {
        let points =
            self.badness(adjustment, total).map(|badness| (1000 + badness * 1000 / (total.max(1) as i64)) * 2 / 3);
        points.unwrap_or(0).max(0) as u64
    }

    fn of<T: PageTable>(space: &Space<T>, objects: &mut Objects) -> Self {
        let pages = &space.pages;
        Self {
            resident: pages.resident() + pages.get(PageClass::Filling) + pages.get(PageClass::Shared),
            away: pages.away() + shared_memory_away(space, objects),
            tables: space.table.tables() as u64 + 1,
        }
    }
}

/// A space's part of the shared memory that it has mapped and that is not in RAM. What is of files is on its disk, not in swap.
fn shared_memory_away<T>(space: &Space<T>, objects: &mut Objects) -> u64 {
    let PageRange { mut start, end } = space.layout.bounds;
    let mut sum = 0;
    while let Some(area) = space.vmas.first_with_object(PageRange { start, end }) {
        start = area.range.end;
        let object = area.object_page(area.range.start).and_then(|(id, ..)| objects.get_mut(id));
        sum += object.map_or(0, |object| object.away_for(area.range.len()));
    }
    sum
}

/// Where memory has run out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// In the machine.
    Machine,
    /// In a group, which is at its limit.
    Group(GroupId),
}

/// Why this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grounds {
    /// Of all who may be chosen it is the worst.
    Worst,
    /// It is init, and nobody else is left.
    OnlyInit,
    /// Nobody may be chosen, and it is the one who needs a page.
    NobodyElse,
}

/// What was tried since somebody first waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tried {
    /// Pages looked at.
    pub scanned: u64,
    /// Frames freed.
    pub reclaimed: u64,
    /// Pages written to swap.
    pub written: u64,
    /// Page tables dropped.
    pub tables: u64,
    /// Times that somebody waited for a frame.
    pub waits: u64,
}

impl Tried {
    fn up_to_now(c: &Counters) -> Self {
        let Counters { pgscan, pgsteal, pswpout, ptdrop, allocstall, .. } = *c;
        Self { scanned: pgscan, reclaimed: pgsteal, written: pswpout, tables: ptdrop, waits: allocstall }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            scanned: self.scanned - before.scanned,
            reclaimed: self.reclaimed - before.reclaimed,
            written: self.written - before.written,
            tables: self.tables - before.tables,
            waits: self.waits - before.waits,
        }
    }
}

/// Who is to end, and what there is to say about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whose program is to end.
    pub victim: SpaceId,
    /// On whose behalf a frame was needed.
    pub asker: SpaceId,
    /// Where memory has run out.
    pub scope: Scope,
    /// Why this one.
    pub grounds: Grounds,
    /// What it has.
    pub holdings: Holdings,
    /// Its adjustment.
    pub adjustment: Adjustment,
    /// Frames that will be free for certain: those of its own, and its page tables.
    pub frees_frames: u64,
    /// Slots that will be free for certain.
    pub frees_slots: u64,
    /// What was tried before.
    pub tried: Tried,
}

/// What the choice comes to.
enum Choice {
    Ends(Verdict),
    /// What this one has will come back.
    Awaits(SpaceId),
    /// There is nobody to be ended, and who asks must be told.
    Refused,
}

impl<P: Platform> Mm<P> {
    /// Says what a space is when somebody must end.
    pub fn set_standing(&self, space: SpaceId, standing: Standing) {
        self.core.with_lock(|core| {
            if let Some(s) = core.spaces.get_mut(space) {
                s.standing = standing;
            }
        });
    }

    /// Says how much larger or smaller a space's program counts.
    pub fn set_adjustment(&self, space: SpaceId, adjustment: Adjustment) {
        self.core.with_lock(|core| {
            if let Some(s) = core.spaces.get_mut(space) {
                s.adjustment = adjustment;
            }
        });
    }

    /// Whether a verdict names this space.
    pub fn is_condemned(&self, space: SpaceId) -> bool {
        self.core.with_lock(|core| core.spaces.get_mut(space).is_some_and(|s| s.condemned))
    }

    /// What a space has, and how that would count in the machine ([`Holdings::score`]).
    pub fn oom_score(&self, space: SpaceId) -> u64 {
        self.core.with_lock(|core| {
            let total = core.memory_in(Scope::Machine);
            let Core { spaces, objects, .. } = core;
            spaces.get_mut(space).map_or(0, |s| Holdings::of(s, objects).score(s.adjustment, total))
        })
    }

    /// The next verdict that nobody has taken. For one task, which ends the programs that verdicts name.
    pub async fn next_verdict(&self) -> Verdict {
        loop {
            // Made before looking: it ends with every signal since.
            let news = self.verdicts.wait();
            if let Some(verdict) = self.core.with_lock(|core| core.take_verdict(|_| true)) {
                return verdict;
            }
            let _woken = news.await;
        }
    }

    /// The verdict on a space, if nobody has taken it: for who learns from a fault that its program is to end.
    pub fn take_verdict_on(&self, space: SpaceId) -> Option<Verdict> {
        self.core.with_lock(|core| core.take_verdict(|verdict| verdict.victim == space))
    }

    /// Decides about somebody who finds no frame in `scope`.
    pub(crate) fn lot(&self, core: &mut Core<P>, scope: Scope, asker: SpaceId) -> Lot {
        if core.spaces.get_mut(asker).is_some_and(|s| s.condemned) {
            return Lot::Fail;
        }
        if !core.shortage_in(scope).take_exhausted() {
            return Lot::Wait;
        }
        match core.choose(scope, asker) {
            Choice::Refused => Lot::Fail,
            Choice::Awaits(space) => {
                core.shortage_in(scope).await_end(space);
                Lot::Wait
            }
            Choice::Ends(verdict) => {
                core.condemn(verdict);
                self.verdicts.wake_all();
                if verdict.victim == asker {
                    return Lot::Fail;
                }
                // The victim may be among those who wait: its faults are over.
                self.wake_waiters(core);
                Lot::Wait
            }
        }
    }
}

impl<P: Platform> Core<P> {
    fn shortage_in(&mut self, scope: Scope) -> &mut Shortage {
        let Self { groups, shortage, .. } = self;
        match scope {
            Scope::Group(id) => groups.get_mut(id).map_or(shortage, |group| &mut group.shortage),
            Scope::Machine => shortage,
        }
    }

    /// All pages there can be: RAM and swap, or what a group may have of them (Linux's `mem_cgroup_get_max`).
    fn memory_in(&mut self, scope: Scope) -> u64 {
        let (ram, swap) = (self.total_frames, self.swap_pages());
        let Scope::Group(id) = scope else { return ram + swap };
        let limits = self.groups.get(id).map(|group| group.limits()).unwrap_or_default();
        limits.frames.map_or(ram, |most| most.min(ram)) + limits.slots.map_or(swap, |most| most.min(swap))
    }

    /// Who is to end. Looks at every space, and at every area that maps an object: it is done once for each program that is ended.
    fn choose(&mut self, scope: Scope, asker: SpaceId) -> Choice {
        let total = self.memory_in(scope);
        let tried = self.shortage.tried(Tried::up_to_now(&self.counters));
        let Self { spaces, objects, .. } = self;
        let mut best: Option<(Standing, i64, SpaceId)> = None;
        let mut asks = Standing::Leaving;
        for (id, s) in spaces.iter_mut() {
            asks = if id == asker { s.standing } else { asks };
            if matches!(scope, Scope::Group(group) if s.group != group) {
                continue;
            }
            if s.dying || s.condemned || s.standing == Standing::Leaving {
                return Choice::Awaits(id);
            }
            if s.standing == Standing::Apart {
                continue;
            }
            let Some(badness) = Holdings::of(s, objects).badness(s.adjustment, total) else { continue };
            let is_worse = best.is_none_or(|(standing, most, _)| {
                let rank = |standing| standing == Standing::Candidate;
                // Of equals the one who asks, so that nobody has to wait; or the one whose space was made later.
                (rank(s.standing), badness, id == asker) >= (rank(standing), most, best.is_some_and(|b| b.2 == asker))
            });
            if is_worse {
                best = Some((s.standing, badness, id));
            }
        }
        let (victim, grounds) = match best {
            Some((Standing::Candidate, _, id)) => (id, Grounds::Worst),
            // An errno for who fills a space is better than the end of init.
            _ if asks == Standing::Apart => return Choice::Refused,
            Some((_, _, id)) => (id, Grounds::OnlyInit),
            None => (asker, Grounds::NobodyElse),
        };
        let Some(s) = spaces.get_mut(victim) else { return Choice::Refused };
        Choice::Ends(Verdict {
            victim,
            asker,
            scope,
            grounds,
            holdings: Holdings::of(s, objects),
            adjustment: s.adjustment,
            frees_frames: s.pages.framed() + s.table.tables() as u64 + 1,
            frees_slots: s.pages.get(PageClass::AwaySlot),
            tried,
        })
    }

    fn condemn(&mut self, verdict: Verdict) {
        self.counters.oom_kill += 1;
        if let Some(s) = self.spaces.get_mut(verdict.victim) {
            s.condemned = true;
            // Whoever's memory it was that had run out, a group counts its own (cgroup-v2.rst, memory.events).
            if let Some(group) = self.groups.get_mut(s.group) {
                group.events.oom_kill += 1;
            }
        }
        self.shortage_in(verdict.scope).pass(verdict);
    }

    fn take_verdict(&mut self, is_wanted: impl Fn(&Verdict) -> bool) -> Option<Verdict> {
        let shortages =
            core::iter::once(&mut self.shortage).chain(self.groups.iter_mut().map(|group| &mut group.shortage));
        shortages.into_iter().find_map(|shortage| shortage.take_verdict(&is_wanted))
    }

    /// Somebody waits for a frame, and `tried` begins to count if it does not yet.
    pub fn note_wait(&mut self) {
        self.shortage.begin(Tried::up_to_now(&self.counters));
        self.counters.allocstall += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn badness(pages: u64, thousandths: i64, total: u64) -> Option<i64> {
        let adjustment = Adjustment::from_thousandths(thousandths).expect("it is in range");
        Holdings { resident: pages / 2, away: pages - pages / 2, tables: 0 }.badness(adjustment, total)
    }

    #[test]
    fn e3_badness_is_pages_and_a_part_of_all_memory() {
        assert_eq!(Holdings { resident: 300, away: 20, tables: 7 }.badness(Adjustment::default(), 1000), Some(327));
        assert_eq!((badness(300, 500, 2000), badness(300, -500, 2000)), (Some(1300), Some(-700)));
        assert!(
            badness(1, 1000, 10_000) > badness(9000, 0, 10_000),
            "the least of all with 1000 is worse than nearly all"
        );
        assert!(badness(5, -999, 10_000) < badness(5, 0, 10_000));
        assert_eq!(badness(5, 300, 96), Some(33), "a thousandth of a small machine is less than a page");
        assert_eq!(badness(9000, -1000, 10_000), None);
    }

    #[test]
    fn e3_adjustments_are_thousandths() {
        assert_eq!(Adjustment::from_thousandths(-1000), Some(Adjustment::NEVER));
        assert_eq!([1001, -1001, i64::MIN, 70_000].map(Adjustment::from_thousandths), [None; 4]);
    }

    #[test]
    fn e3_scores_are_those_that_linux_shows() {
        let score = |pages, thousandths| {
            let adjustment = Adjustment::from_thousandths(thousandths).expect("it is in range");
            Holdings { resident: pages, ..Holdings::default() }.score(adjustment, 10_000)
        };
        assert_eq!([score(0, 0), score(10_000, 0), score(10_000, 1000)], [666, 1333, 2000]);
        assert_eq!([score(0, 1000), score(0, -999), score(5000, -1000)], [1333, 0, 0]);
    }
}
