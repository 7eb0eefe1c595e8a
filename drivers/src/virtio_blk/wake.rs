//! Who wants to know when the device has done something.
//!
//! Owns the wakers. The interrupt handler calls [`Wakers::interrupt`], which marks and wakes and does nothing else: it
//! never drops a waker (dropping the last one of a task frees memory) and never waits for a lock.
//!
//! The table's lock is held by tasks only for a few instructions. Should an interrupt arrive just then, it leaves its
//! mark and goes; the holder looks for the mark after unlocking and does the waking. So no wake-up is lost, with
//! interrupts on or off.

use super::SLOTS;
use super::slots::{SlotIndex, SlotSet};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

struct Table {
    stream: Option<Waker>,
    tasks: Box<[Option<Waker>]>,
    waiting: SlotSet,
}

impl Table {
    fn wake_task(&self, slot: SlotIndex) {
        if let Some(waker) = &self.tasks[slot.get()] {
            waker.wake_by_ref();
        }
    }

    fn wake_stream(&self) {
        if let Some(waker) = &self.stream {
            waker.wake_by_ref();
        }
    }
}

pub(super) struct Wakers {
    table: spin::Mutex<Table>,
    interrupted: AtomicBool,
}

impl Wakers {
    pub(super) fn new() -> Self {
        let tasks = (0..SLOTS).map(|_| None).collect();
        let table = Table { stream: None, tasks, waiting: SlotSet::default() };
        Self { table: spin::Mutex::new(table), interrupted: AtomicBool::new(false) }
    }

    /// From the interrupt handler: everybody who waits looks at the ring again.
    pub(super) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.deliver();
    }

    /// Does the waking that an interrupt asked for, unless somebody else holds the table: then that one does it after
    /// unlocking.
    fn deliver(&self) {
        while self.interrupted.load(Ordering::SeqCst) {
            let Some(table) = self.table.try_lock() else {
                return;
            };
            self.interrupted.store(false, Ordering::SeqCst);
            table.wake_stream();
            let mut waiting = table.waiting;
            while let Some(slot) = waiting.pop_first() {
                table.wake_task(slot);
            }
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let result = change(&mut self.table.lock());
        self.deliver();
        result
    }

    /// Whoever polls the completion stream is woken by the next interrupt.
    pub(super) fn register_stream(&self, waker: &Waker) {
        let old = self.with(|table| match &table.stream {
            Some(known) if known.will_wake(waker) => None,
            _ => table.stream.replace(waker.clone()),
        });
        drop(old);
    }

    /// The future waiting for `slot` is woken by the next interrupt.
    pub(super) fn register_task(&self, slot: SlotIndex, waker: &Waker) {
        let old = self.with(|table| {
            table.waiting.insert(slot);
            let entry = &mut table.tasks[slot.get()];
            match entry {
                Some(known) if known.will_wake(waker) => None,
                _ => entry.replace(waker.clone()),
            }
        });
        drop(old);
    }

    /// The future that waited for `slot` has its answer or is gone.
    pub(super) fn forget_task(&self, slot: SlotIndex) {
        let old = self.with(|table| {
            table.waiting.remove(slot);
            table.tasks[slot.get()].take()
        });
        drop(old);
    }

    /// A completion for the stream was found by somebody else.
    pub(super) fn wake_stream(&self) {
        self.with(|table| table.wake_stream());
    }

    /// Completions for these slots' futures were found by somebody else.
    pub(super) fn wake_tasks(&self, mut slots: SlotSet) {
        self.with(|table| {
            while let Some(slot) = slots.pop_first() {
                table.wake_task(slot);
            }
        });
    }
}
