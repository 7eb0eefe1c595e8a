//! Whether the compressed tier is worth it (`Compression::Auto`): what a read costs and how many are saved, against the compressor.
//!
//! Owns the evidence of a window of victims, and the decision. Pure: it is given totals and does not know where they come from, so that
//! machines can be tried on the host. All times are in the ticks of one clock and only compared.
//!
//! ```text
//!              the windows ahead promise enough             full once
//!   Resting ────────────────────────────────────► Warming ────────────► Working
//!      ▲                                                                   │ two windows that did not pay
//!      └───────── for twice as many windows as the last time ◄─────────────┘
//! ```
//! *Resting*, in some of the windows in which pages are read at all, one victim in [`SAMPLE`] is compressed to see what that takes and
//! gives. Trials take a small part of the time that reads take ([`TRIALS`]): the dearer those are, the sooner the next. How many reads the
//! tier would save is known from the pages that were read back ([`MissCurve`]): a tier of `s` frames that hold `r` pages each keeps what
//! `(r − 1) · s` more frames of RAM would keep. *Working*, it is counted: pages that came back after more victims than the tier has
//! frames would have been read.

use crate::platform::Spent;
use crate::reclaim::{CURVE_STEPS, MissCurve};

/// Victims in a window.
const WINDOW: u32 = 512;
/// In a window that is to be judged while resting, one victim in so many is tried.
const SAMPLE: u32 = 64;
/// The next such window comes when threads have waited for reads so many times as long as the last one's trials took.
const TRIALS: u64 = 1000;
/// Or after so many victims: those trials may have been interrupted, or reads have become few. So it costs a thousandth of what reads take,
/// or eight pages of so many, to know that the tier does not pay.
const LONGEST_UNTRIED: u32 = 64 * WINDOW;
/// A promise must be so many halves of its price: it is an estimate, and turning costs something.
const MARGIN_HALVES: u64 = 3;
/// Windows in a row that do not pay until the tier rests.
const PATIENCE: u32 = 2;
/// Most windows that are rested for.
const LONGEST_REST: u32 = 128;
/// Pages read in a window that say what one costs.
const ENOUGH_READS: u64 = 16;

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Totals {
    pub spent: Spent,
    /// Pages that were read. One wait may bring many, and a page from the tier would have been one of them.
    pub reads: u64,
    /// Pages that were read back, by how much more RAM would have kept them.
    pub curve: MissCurve,
    /// What it took to compress and decompress victims that were tried, which is in `spent`, too.
    pub trying: u64,
    /// Pages that were compressed; those of them that got smaller; and to how many bytes.
    pub tried: u64,
    pub shrunk: u64,
    pub bytes: u64,
    /// Pages that came back from the tier and would not have been in RAM without it.
    pub saved: u64,
}

/// How large the tier is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    /// Frames it may have.
    pub frames: usize,
    /// Pages it may have.
    pub pages: usize,
    /// Frames of RAM.
    pub ram: usize,
    /// Bytes in a frame.
    pub frame_bytes: usize,
}

/// What to do with a victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// It goes into the tier.
    Compress,
    /// It goes the usual way, but is compressed to see what comes of it.
    Try,
    /// It goes the usual way.
    Pass,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// For so many windows more, and then until one in which victims are tried promises enough.
    Resting(u32),
    /// Until so many victims more have come.
    Warming(u32),
    /// The last windows that did not pay.
    Working(u32),
}

/// See the module's head.
pub(crate) struct Worth {
    mode: Mode,
    /// Windows that the next rest takes.
    rest: u32,
    victims: u32,
    before: Totals,
    /// What a page that is read costs, as last seen.
    read: u64,
    /// What the trials of the last window that had any took.
    trials: u64,
    /// The victim with which that was over.
    tried_at: u32,
    /// How long threads have waited for reads since it began.
    waited: u64,
    /// Whether there were enough reads in the last window to save any.
    reads: bool,
}

impl Default for Worth {
    fn default() -> Self {
        Self {
            mode: Mode::Resting(1),
            rest: 1,
            victims: 0,
            before: Totals::default(),
            read: 0,
            trials: 0,
            tried_at: 0,
            waited: 0,
            reads: false,
        }
    }
}

impl Worth {
    /// Whether pages are put into the tier.
    pub fn is_on(&self) -> bool {
        !matches!(self.mode, Mode::Resting(_))
    }

    /// A victim comes. Whether this is the time to [judge](Self::judge).
    pub fn count_victim(&mut self) -> bool {
        self.victims = self.victims.wrapping_add(1);
        if let Mode::Warming(left) = &mut self.mode {
            *left = left.saturating_sub(1);
        }
        self.victims.is_multiple_of(WINDOW)
    }

    /// What to do with the victim that was counted last.
    pub fn advice(&self) -> Advice {
        match self.mode {
            Mode::Warming(_) | Mode::Working(_) => Advice::Compress,
            Mode::Resting(0) if self.victims.is_multiple_of(SAMPLE) && self.may_try() => Advice::Try,
            Mode::Resting(_) => Advice::Pass,
        }
    }

    /// A window is over.
    pub fn judge(&mut self, now: Totals, size: Size) {
        let seen = now.since(&self.before);
        self.before = now;
        self.waited = self.waited.saturating_add(seen.spent.waiting);
        self.reads = seen.reads >= ENOUGH_READS;
        if self.reads {
            self.read = seen.spent.waiting / seen.reads;
        }
        self.mode = match self.mode {
            Mode::Warming(1..) => self.mode,
            Mode::Warming(0) => Mode::Working(0),
            Mode::Working(bad) if self.has_paid(&seen) => {
                self.rest = (self.rest / 2).max(1);
                Mode::Working(bad / 2)
            }
            Mode::Working(bad) if bad + 1 < PATIENCE => Mode::Working(bad + 1),
            Mode::Working(_) => {
                self.rest = (self.rest * 2).min(LONGEST_REST);
                Mode::Resting(self.rest)
            }
            Mode::Resting(left @ 1..) => Mode::Resting(left - 1),
            // Nothing was tried.
            Mode::Resting(0) if seen.tried == 0 => self.mode,
            Mode::Resting(0) => {
                (self.trials, self.tried_at, self.waited) = (seen.trying, self.victims, seen.spent.waiting);
                self.promised(&seen, size).map_or(Mode::Resting(0), Mode::Warming)
            }
        };
    }

    /// Whether pages are being read, and it is long enough that victims were last tried.
    fn may_try(&self) -> bool {
        let is_time = self.waited >= self.trials.saturating_mul(TRIALS);
        self.reads && (is_time || self.victims.wrapping_sub(self.tried_at) >= LONGEST_UNTRIED)
    }

    fn has_paid(&self, seen: &Totals) -> bool {
        seen.saved * self.read >= seen.spent.compressing + seen.spent.decompressing
    }

    /// How many victims a tier reaches back that promises to pay; `None` if it does not.
    fn promised(&self, seen: &Totals, size: Size) -> Option<u32> {
        if seen.shrunk == 0 || self.read == 0 {
            return None;
        }
        // What a frame holds, and how many victims go by until as many have come that get smaller, in frames of the tier.
        let held =
            (size.frames as u64 * size.frame_bytes as u64 / (seen.bytes / seen.shrunk).max(1)).min(size.pages as u64);
        let reach = held * seen.tried / seen.shrunk;
        let returns = |frames: u64| seen.curve.kept_by_more(frames as usize, size.ram);
        let saved = returns(reach.saturating_sub(size.frames as u64)) * seen.shrunk / seen.tried;
        // Pages that RAM has no room for any more are as many as those that it has almost room for, and come and go as others do.
        let victims = u64::from(WINDOW) + returns(size.frames as u64);
        let price = seen.trying * victims / seen.tried;
        (saved * self.read * 2 > price * MARGIN_HALVES).then_some(reach.min(u32::MAX.into()) as u32)
    }
}

impl Totals {
    fn since(&self, before: &Self) -> Self {
        let (a, b) = (self, before);
        let spent = Spent {
            compressing: a.spent.compressing - b.spent.compressing,
            decompressing: a.spent.decompressing - b.spent.decompressing,
            waiting: a.spent.waiting - b.spent.waiting,
        };
        let mut curve = a.curve;
        (0..CURVE_STEPS).for_each(|step| curve.kept_by[step] -= b.curve.kept_by[step]);
        Self {
            spent,
            reads: a.reads - b.reads,
            curve,
            trying: a.trying - b.trying,
            tried: a.tried - b.tried,
            shrunk: a.shrunk - b.shrunk,
            bytes: a.bytes - b.bytes,
            saved: a.saved - b.saved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 1600 frames with a tier of 320, whose victims are wanted back at random.
    struct Machine {
        worth: Worth,
        totals: Totals,
        /// Ticks of a read, and of compressing and decompressing a page.
        read: u64,
        pack: u64,
        /// Bytes that a page comes to.
        bytes: u64,
        /// Of so many victims, how many come back from the disk in each sixteenth of RAM, and from the tier.
        returns: u64,
        saved: u64,
    }

    const SIZE: Size = Size { frames: 320, pages: 1280, ram: 1600, frame_bytes: 4096 };

    impl Machine {
        fn new(read: u64, pack: u64, bytes: u64) -> Self {
            Self { worth: Worth::default(), totals: Totals::default(), read, pack, bytes, returns: 20, saved: 60 }
        }

        /// Runs for so many windows. Returns in how many of them the tier was on.
        fn run(&mut self, windows: u32) -> u32 {
            let mut on = 0;
            for _ in 0..windows {
                on += u32::from(self.worth.is_on());
                self.window();
            }
            on
        }

        fn window(&mut self) {
            for _ in 0..WINDOW {
                if self.worth.count_victim() {
                    let reads = 16 * self.returns;
                    self.totals.reads += reads;
                    self.totals.spent.waiting += reads * self.read;
                    self.totals.curve.kept_by.iter_mut().for_each(|step| *step += self.returns);
                    self.totals.saved += if self.worth.is_on() { self.saved } else { 0 };
                    self.worth.judge(self.totals, SIZE);
                }
                let advice = self.worth.advice();
                if advice == Advice::Pass {
                    continue;
                }
                self.totals.tried += 1;
                self.totals.shrunk += 1;
                self.totals.bytes += self.bytes;
                self.totals.spent.compressing += self.pack;
                self.totals.spent.decompressing += self.pack / 2;
                self.totals.trying += if advice == Advice::Try { self.pack + self.pack / 2 } else { 0 };
            }
        }
    }

    #[test]
    fn a_slow_disk_makes_it_worth_it_and_a_fast_one_does_not() {
        // 320 frames of pages of half a frame: another 320, a fifth of RAM, which is 3.2 steps of 20 returns.
        assert_eq!(Machine::new(100, 20, 2048).run(200), 0, "64 reads of 100 ticks for 576 pages of 30");
        let slow = Machine::new(1000, 20, 2048).run(200);
        assert!(slow > 190, "on in {slow} windows of 200");
    }

    #[test]
    fn pages_that_hardly_get_smaller_are_not_worth_it() {
        assert_eq!(Machine::new(1000, 20, 4000).run(200), 0);
    }

    #[test]
    fn no_more_is_promised_than_there_are_entries_for() {
        // 64 pages a frame, of which it can have 4: 960 frames more, 9.6 steps of 20 returns. And not 20 160.
        assert_eq!(Machine::new(100, 25, 64).run(200), 0, "192 reads of 100 ticks for 576 pages of 37");
        let mut slower = Machine { saved: 192, ..Machine::new(200, 25, 64) };
        assert!(slower.run(200) > 190, "192 reads of 200 ticks for 576 pages of 37");
    }

    #[test]
    fn where_nothing_comes_back_nothing_is_compressed() {
        let mut machine = Machine::new(1000, 20, 2048);
        (machine.returns, machine.saved) = (0, 0);
        assert_eq!((machine.run(200), machine.totals.tried), (0, 0));
    }

    #[test]
    fn where_it_does_not_pay_few_pages_are_compressed_to_see_that() {
        let mut machine = Machine::new(100, 20, 2048);
        assert_eq!(machine.run(200), 0);
        // Eight pages of 30 ticks, which is a thousandth of what the 320 reads of 100 ticks in each of eight windows take.
        assert_eq!(machine.totals.tried, 8 * 200 / 8);
    }

    #[test]
    fn when_reads_cost_more_pages_are_tried_sooner() {
        let mut machine = Machine::new(50, 50, 2048);
        assert_eq!(machine.run(200), 0);
        let before = machine.totals.tried;
        while machine.totals.tried < before + 8 {
            machine.window();
        }
        machine.window();
        // 600 ticks for eight pages, and reads take 16 000 in a window: 38 windows. But now it is one.
        machine.read = 2500;
        assert_eq!(machine.run(10), 8);
    }

    #[test]
    fn when_more_pages_come_back_pages_are_tried_sooner() {
        let mut machine = Machine::new(1000, 20, 2048);
        machine.returns = 2;
        assert_eq!(machine.run(200), 0, "6 reads of 1000 ticks for 518 pages of 30");
        machine.returns = 20;
        assert_eq!(machine.run(10), 8);
    }

    #[test]
    fn pages_that_begin_to_shrink_are_noticed() {
        let mut machine = Machine::new(1000, 20, 4000);
        assert_eq!(machine.run(200), 0);
        machine.bytes = 2048;
        let on = machine.run(100);
        assert!(on >= 97, "on in {on} windows of 100, where reads are dear enough for every window to be tried");
    }

    #[test]
    fn a_promise_that_is_not_kept_is_believed_more_and_more_rarely() {
        let mut machine = Machine::new(1000, 20, 2048);
        machine.saved = 1;
        let (early, late) = (machine.run(100), machine.run(1000));
        assert!(early > 5 && late < 60, "on in {early} windows of 100, then in {late} of 1000");
        machine.saved = 60;
        machine.run(2 * LONGEST_REST);
        assert_eq!(machine.run(100), 100, "it pays now");
    }

    #[test]
    fn pages_that_come_back_from_a_tier_that_rests_are_no_trials() {
        let mut machine = Machine::new(1000, 20, 2048);
        machine.run(1);
        assert!(!machine.worth.is_on() && machine.totals.tried > 0);
        machine.totals.spent.decompressing += 1_000_000;
        machine.run(1);
        assert!(machine.worth.is_on());
    }

    #[test]
    fn trials_that_took_long_by_accident_are_not_the_last() {
        let mut machine = Machine::new(1000, 1_000_000, 2048);
        machine.run(3);
        machine.pack = 20;
        let on = machine.run(200);
        assert!(on >= 200 - LONGEST_UNTRIED / WINDOW - 1, "on in {on} windows of 200");
    }

    #[test]
    fn when_the_disk_gets_faster_it_rests() {
        let mut machine = Machine::new(1000, 20, 2048);
        machine.run(50);
        assert!(machine.worth.is_on());
        machine.read = 10;
        machine.run(PATIENCE + 1);
        assert!(!machine.worth.is_on());
    }
}
