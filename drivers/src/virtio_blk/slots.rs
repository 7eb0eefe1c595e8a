//! The request slots of one device: where a request and its buffers live from submission until they are taken back.
//!
//! Owns the requests, and decides who gets each one when the device is done. Does not know the ring. Everything is
//! allocated once.
//!
//! ```text
//!            1 occupy              2 finish                 3 take
//!   Free ───────────▶ InFlight(w) ─────────▶ Done(w, result) ──────▶ Free
//!                        │ 4 orphan             │ 4 orphan
//!                        ▼                      ▼
//!                 InFlight(Nobody) ──2──▶ Done(Nobody, …) ──3──▶ Free   (request dropped by whoever polls next)
//! ```
//! A slot is never freed while its request is in flight: dropping a waiter only changes who takes it.

use super::SLOTS;
use crate::block::{BlockError, Completion, Request};
use alloc::boxed::Box;

/// Which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotIndex(u8);

impl SlotIndex {
    pub(super) fn get(self) -> usize {
        usize::from(self.0)
    }

    /// All slots, in order.
    pub(super) fn all() -> impl Iterator<Item = SlotIndex> {
        (0..SLOTS as u8).map(SlotIndex)
    }
}

/// Who takes the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The device's completion stream (`pop_complete`, `poll_complete`).
    Stream,
    /// The future that submitted it.
    Task,
    /// That future is gone.
    Nobody,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Free { next: Option<SlotIndex> },
    InFlight(Waiter),
    Done(Waiter, Result<(), BlockError>),
}

struct Slot<B> {
    state: State,
    /// Rounds of the watch that found this request in flight.
    rounds: u8,
    request: Option<Request<B>>,
}

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet(u128);

const _: () = assert!(SLOTS == u128::BITS as usize);

impl SlotSet {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn insert(&mut self, slot: SlotIndex) {
        self.0 |= 1 << slot.0;
    }

    pub(super) fn remove(&mut self, slot: SlotIndex) {
        self.0 &= !(1 << slot.0);
    }

    pub(super) fn pop_first(&mut self) -> Option<SlotIndex> {
        if self.is_empty() {
            return None;
        }
        let first = SlotIndex(self.0.trailing_zeros() as u8);
        self.remove(first);
        Some(first)
    }
}

/// Slots in the order in which they became done. Holds each slot at most once, so it never overflows.
struct DoneQueue {
    order: [SlotIndex; SLOTS],
    first: usize,
    len: usize,
}

impl DoneQueue {
    fn push(&mut self, slot: SlotIndex) {
        debug_assert!(self.len < SLOTS, "slot {slot:?} is done twice");
        self.order[(self.first + self.len) % SLOTS] = slot;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<SlotIndex> {
        self.len = self.len.checked_sub(1)?;
        let slot = self.order[self.first];
        self.first = (self.first + 1) % SLOTS;
        Some(slot)
    }
}

/// All slots of a device.
pub(super) struct Slots<B> {
    slots: Box<[Slot<B>]>,
    free: Option<SlotIndex>,
    done: DoneQueue,
    orphans_done: SlotSet,
}

impl<B> Slots<B> {
    pub(super) fn new() -> Self {
        let slots = SlotIndex::all()
            .map(|SlotIndex(index)| {
                let next = (usize::from(index) + 1 < SLOTS).then_some(SlotIndex(index + 1));
                Slot { state: State::Free { next }, rounds: 0, request: None }
            })
            .collect();
        let done = DoneQueue { order: [SlotIndex(0); SLOTS], first: 0, len: 0 };
        Self { slots, free: Some(SlotIndex(0)), done, orphans_done: SlotSet::default() }
    }

    /// The slot that the next [`occupy`](Self::occupy) takes.
    pub(super) fn next_free(&self) -> Option<SlotIndex> {
        self.free
    }

    /// 1: the request moves into the free slot and belongs to the device.
    pub(super) fn occupy(&mut self, slot: SlotIndex, request: Request<B>, waiter: Waiter) {
        let entry = &mut self.slots[slot.get()];
        match entry.state {
            State::Free { next } if self.free == Some(slot) => self.free = next,
            state => panic!("slot {slot:?} is not the next free one but {state:?}"),
        }
        entry.state = State::InFlight(waiter);
        entry.rounds = 0;
        entry.request = Some(request);
    }

    /// One more round for everything in flight. The requests for which it is the `late`-th: each comes once.
    pub(super) fn next_round(&mut self, late: u8) -> impl Iterator<Item = &Request<B>> {
        self.slots.iter_mut().filter_map(move |entry| {
            let State::InFlight(_) = entry.state else { return None };
            entry.rounds = entry.rounds.saturating_add(1);
            entry.request.as_ref().filter(|_| entry.rounds == late)
        })
    }

    /// The request in flight in `slot`, if there is one.
    pub(super) fn in_flight(&self, slot: SlotIndex) -> Option<&Request<B>> {
        let entry = &self.slots[slot.get()];
        matches!(entry.state, State::InFlight(_)).then_some(entry.request.as_ref()).flatten()
    }

    /// 2: the device is done with it. Says who is to be told.
    #[must_use]
    pub(super) fn finish(&mut self, slot: SlotIndex, result: Result<(), BlockError>) -> Waiter {
        let entry = &mut self.slots[slot.get()];
        let State::InFlight(waiter) = entry.state else {
            panic!("slot {slot:?} finishes while {:?}", entry.state);
        };
        entry.state = State::Done(waiter, result);
        match waiter {
            Waiter::Stream => self.done.push(slot),
            Waiter::Nobody => self.orphans_done.insert(slot),
            Waiter::Task => {}
        }
        waiter
    }

    /// Whether the stream has completions to take.
    pub(super) fn any_done(&self) -> bool {
        self.done.len > 0
    }

    /// 3, for the stream: the oldest completion.
    pub(super) fn take_done(&mut self) -> Option<Completion<B>> {
        let slot = self.done.pop()?;
        self.take(slot)
    }

    /// 3, for requests nobody waits for any more. The caller drops it, outside the lock.
    pub(super) fn take_orphan(&mut self) -> Option<Completion<B>> {
        let slot = self.orphans_done.pop_first()?;
        self.take(slot)
    }

    /// Whether the device is done with what is in `slot`.
    pub(super) fn is_done(&self, slot: SlotIndex) -> bool {
        matches!(self.slots[slot.get()].state, State::Done(..))
    }

    /// 3: request and result leave the slot, if the device is done.
    pub(super) fn take(&mut self, slot: SlotIndex) -> Option<Completion<B>> {
        let entry = &mut self.slots[slot.get()];
        let State::Done(_, result) = entry.state else {
            return None;
        };
        let request = entry.request.take()?;
        entry.state = State::Free { next: self.free };
        self.free = Some(slot);
        Some(Completion { request, result })
    }

    /// 4: the future that waited for this slot is gone.
    pub(super) fn orphan(&mut self, slot: SlotIndex) {
        let state = &mut self.slots[slot.get()].state;
        *state = match *state {
            State::InFlight(Waiter::Task) => State::InFlight(Waiter::Nobody),
            State::Done(Waiter::Task, result) => {
                self.orphans_done.insert(slot);
                State::Done(Waiter::Nobody, result)
            }
            other => panic!("slot {slot:?} is orphaned while {other:?}"),
        };
    }
}
