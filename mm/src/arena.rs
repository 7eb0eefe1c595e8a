//! Values with names that are not given twice: what an old name stands for is not found any more.
//!
//! A name has room for so many generations of a slot; then the slot stays vacant, until all slots there may be have come to that. So a
//! name comes back after all others have been given out, 2^28 in the case of spaces, whichever slots are vacant most of the time.
//!
//! Owns the places, each with its generation, and which are vacant. It grows by pieces of a page, so that adding a value moves nothing
//! and never needs several frames in a row: those may be missing when there is memory in plenty. How slot and generation make a name
//! is for the names to say ([`crate::space::SpaceId`], [`crate::object::ObjectId`]).

use alloc::{boxed::Box, vec::Vec};

/// Places in a piece: 4 KiB.
const PIECE: usize = 256;

struct Place<T> {
    generation: u32,
    /// What slot and generation make, so that finding a value takes one comparison.
    name: u32,
    value: Option<Box<T>>,
}

/// What a name has room for.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    /// Slots.
    pub slots: usize,
    /// Generations of each.
    pub generations: u32,
    /// How slot and generation make a name.
    pub name: fn(usize, u32) -> u32,
}

const _: () = assert!(PIECE * size_of::<Place<u64>>() == 4096);

/// See the module's head.
pub(crate) struct Arena<T> {
    pieces: Vec<Vec<Place<T>>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> Arena<T> {
    fn place(&self, slot: usize) -> Option<&Place<T>> {
        self.pieces.get(slot / PIECE)?.get(slot % PIECE)
    }

    fn places(&mut self) -> impl Iterator<Item = (usize, &mut Place<T>)> {
        self.pieces.iter_mut().flatten().enumerate()
    }

    /// Adds a value, in one of the slots that names have room for: its slot and generation. `None` if all are taken, or there is no memory.
    pub fn insert(&mut self, value: T, names: Names) -> Option<(usize, u32)> {
        let slot = self.slot_for(names)?;
        if slot == self.len() {
            if slot.is_multiple_of(PIECE) {
                let mut piece = Vec::new();
                piece.try_reserve_exact(PIECE).ok()?;
                self.pieces.try_reserve(1).ok()?;
                self.pieces.push(piece);
            }
            self.pieces[slot / PIECE].push(Place { generation: 0, name: 0, value: None });
        }
        let place = &mut self.pieces[slot / PIECE][slot % PIECE];
        place.generation += 1;
        place.name = (names.name)(slot, place.generation);
        place.value = Some(Box::new(value));
        Some((slot, place.generation))
    }

    /// The slot of the next value: one with names left, a new one, or at last that whose names come back first.
    fn slot_for(&mut self, names: Names) -> Option<usize> {
        let len = self.len();
        let mut vacant = self.places().filter(|(_, place)| place.value.is_none());
        if let Some((slot, _)) = vacant.find(|(_, place)| place.generation < names.generations) {
            return Some(slot);
        }
        if len < names.slots {
            return Some(len);
        }
        drop(vacant);
        let vacant = self.places().filter(|(_, place)| place.value.is_none());
        vacant.min_by_key(|(_, place)| place.generation).map(|(slot, _)| slot)
    }

    /// What has this name, of this slot.
    #[inline]
    pub fn named(&mut self, slot: usize, name: u32) -> Option<&mut T> {
        let place = self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)?;
        if place.name == name { place.value.as_deref_mut() } else { None }
    }

    /// What is in a slot, and of which generation.
    pub fn get_mut(&mut self, slot: usize) -> Option<(u32, &mut T)> {
        let place = self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)?;
        Some((place.generation, place.value.as_deref_mut()?))
    }

    /// Takes out what is in a slot.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)?.value.take()?;
        Some(*value)
    }

    /// How many slots there are by now.
    pub fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Slot, generation and value of all there are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, u32, &mut T)> {
        self.places().filter_map(|(slot, place)| Some((slot, place.generation, place.value.as_deref_mut()?)))
    }

    /// As [`Self::iter_mut`], from a slot on: for walks that stop in between.
    pub fn values_from(&self, first: usize) -> impl Iterator<Item = (usize, u32, &T)> {
        let place =
            move |slot| self.place(slot).and_then(|place| Some((slot, place.generation, place.value.as_deref()?)));
        (first..self.len()).filter_map(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names =
        Names { slots: 600, generations: 1000, name: |slot, generation| generation << 10 | slot as u32 };

    #[test]
    fn a_slot_used_again_has_another_generation() {
        let mut arena = Arena::default();
        let all: Vec<_> = (0..600).map(|value| arena.insert(value, NAMES).unwrap()).collect();
        assert_eq!(arena.insert(600, NAMES), None);
        assert_eq!((arena.remove(300), arena.remove(300), arena.len()), (Some(300), None, 600));
        assert_eq!(arena.get_mut(300), None);
        assert_eq!(arena.named(300, all[300].1 << 10 | 300), None, "it is gone");
        assert_eq!(arena.insert(700, NAMES), Some((300, all[300].1 + 1)));
        assert_eq!(arena.named(300, all[300].1 << 10 | 300), None, "an old name");
        assert_eq!(arena.named(300, (all[300].1 + 1) << 10 | 300), Some(&mut 700));
        assert_eq!(arena.values_from(299).map(|(_, _, value)| *value).take(3).collect::<Vec<_>>(), [299, 700, 301]);
        assert_eq!(arena.iter_mut().count(), 600);
    }

    #[test]
    fn no_name_comes_back_before_all_were_given() {
        let mut arena = Arena::default();
        let names = Names { slots: 3, generations: 4, ..NAMES };
        let mut given: Vec<_> = (0..12)
            .map(|value| {
                let name = arena.insert(value, names).unwrap();
                arena.remove(name.0);
                name
            })
            .collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 12);
        assert!(given.iter().all(|(slot, generation)| *slot < 3 && (1..=4).contains(generation)));
        assert_eq!(arena.insert(12, names), Some((0, 5)), "then they come back, one after the other");
        assert_eq!(arena.insert(13, names), Some((1, 5)));
    }
}
